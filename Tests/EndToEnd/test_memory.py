"""Two hundred viewers come and go: memory stays."""

import asyncio

import pytest

from aiortc_peers import Publisher, Viewer

# Rings that packets go through are touched page by page as they fill for the first time: after this they have.
WARM_UP = 240
CYCLES = 200
TOGETHER = 4


async def come_and_go(server, count):
    async def once():
        viewer = Viewer(server, "revolving")
        await viewer.negotiate()
        await viewer.frames_reach(1, 20)
        await viewer.close()
    for _ in range(count // TOGETHER):
        await asyncio.gather(*[once() for _ in range(TOGETHER)])


@pytest.mark.uninstrumented
@pytest.mark.asyncio
async def test_memory_is_flat_over_two_hundred_viewers(own_server):
    server = own_server
    publisher = Publisher(server, "revolving")
    await publisher.negotiate()
    await publisher.connected()
    await come_and_go(server, WARM_UP)
    await asyncio.sleep(1)
    before = server.resident_bytes()
    await come_and_go(server, CYCLES)
    await asyncio.sleep(1)
    after = server.resident_bytes()
    print(f"{before / 1e6:.2f} MB before, {after / 1e6:.2f} MB after: {(after - before) / before:+.2%}")
    assert abs(after - before) <= 0.02 * before
    assert server.totals()["peers"] == {"publisher": 1, "viewer": 0}
    await publisher.close()
