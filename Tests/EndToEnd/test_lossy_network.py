"""5 % of all datagrams are lost, each way, on the publisher's and on the viewer's leg."""

import asyncio
import contextlib

import pytest

from chromium import chromium, figures, peers_page
from patience import figure, until
from udp_relay import Relay

LOSS = 0.05
MEASURED_SECONDS = 20
# A viewer that sees no new picture for longer than this is frozen, by webrtc-stats' definition at 30 frames a second.
FREEZE_MS = 150 + 1000 / 30


@pytest.mark.asyncio
async def test_five_percent_loss_freezes_little(own_server):
    server = own_server
    async with contextlib.AsyncExitStack() as stack:
        relays = {str(port): await stack.enter_async_context(Relay(port, LOSS, seed=port)) for port in server.media_ports}
        ports = {port: relay.port for port, relay in relays.items()}
        sender, receiver = await stack.enter_async_context(chromium()), await stack.enter_async_context(chromium())
        publishing, watching = await peers_page(sender, server), await peers_page(receiver, server)
        created = await publishing.evaluate("o => publish('camera', o)",
                                            {"url": f"{server.url}/lossy/whip", "codec": "VP8", "ports": ports})
        await asyncio.sleep(3)
        await watching.evaluate("o => watch('viewer', o)", {"url": created["whep"], "ports": ports})

        async def sees():
            return (await figures(watching, "viewer"))["firstFrameMs"]
        await until(sees, 15, "a first frame")
        await asyncio.sleep(3)

        start = await watching.evaluate("performance.now()")
        await asyncio.sleep(MEASURED_SECONDS)
        times = await watching.evaluate("s => peers.viewer.frameTimes.filter(t => t >= s)", start)
        end = await watching.evaluate("performance.now()")
        gaps = [b - a for a, b in zip([start] + times, times + [end])]
        frozen = sum(gap for gap in gaps if gap > FREEZE_MS) / (end - start)

        totals = server.totals()
        viewer = await figures(watching, "viewer")
        publisher = await figures(publishing, "camera")
        lost = sum(relay.lost for relay in relays.values())
        passed = sum(relay.forwarded for relay in relays.values())
        print(f"loss {lost / (lost + passed):.3f}, frozen {frozen:.3%} of the time, {len(times)} frames; "
              f"NACKs to the publisher {totals['nacksSent']}, recovered {totals['packetsRecovered']}; "
              f"from the viewer {totals['nacksReceived']}, sent again {totals['packetsRetransmitted']}")
        assert 0.03 < lost / (lost + passed) < 0.07
        assert times
        figure("5 % loss", len(times) / MEASURED_SECONDS, at_least=20, unit="frames a second")
        figure("5 % loss: the picture is frozen", 100 * frozen, at_most=5, unit="% of the time")
        # The publisher's leg: we ask, it sends again, gaps close.
        assert totals["nacksSent"] > 10 and totals["packetsRecovered"] > 10
        assert publisher["outbound-rtp-video"]["retransmittedPacketsSent"] > 10
        # The viewer's leg: it asks, we send again over RTX.
        assert totals["nacksReceived"] > 10 and totals["packetsRetransmitted"] > 10
        assert viewer["inbound-rtp-video"]["retransmittedPacketsReceived"] > 10
