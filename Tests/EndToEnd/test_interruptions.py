"""Things that end: publishers, addresses, the server. And what goes on."""

import asyncio
import contextlib
import os
import signal

import pytest

from aiortc_peers import Publisher, Viewer, number_of
from chromium import chromium, figures, peers_page
from patience import figure, until, wait_for
from udp_relay import Relay


async def frames(page, name):
    return (await figures(page, name)).get("inbound-rtp-video", {}).get("framesDecoded", 0)


@pytest.mark.asyncio
async def test_a_publisher_killed_and_back_is_seen_without_reconnecting(server):
    async with chromium() as receiver:
        watching = await peers_page(receiver, server)
        async with chromium() as first:
            publishing = await peers_page(first, server)
            created = await publishing.evaluate("o => publish('camera', o)",
                                                {"url": f"{server.url}/killed/whip", "codec": "VP8"})
            await watching.evaluate("o => watch('viewer', o)", {"url": created["whep"]})

            async def plays():
                return await frames(watching, "viewer") > 30
            await until(plays, 15, "the viewer sees the first publisher")
            # The browser of the publisher dies with all its processes: no DELETE, no DTLS close_notify.
            session = await first.new_browser_cdp_session()
            info = await session.send("SystemInfo.getProcessInfo")
            for process in info["processInfo"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process["id"], signal.SIGKILL)
        async with chromium() as second:
            publishing = await peers_page(second, server)
            stopped_at = await frames(watching, "viewer")
            while True:
                try:
                    await publishing.evaluate("o => publish('camera', o)",
                                              {"url": f"{server.url}/killed/whip", "codec": "VP8"})
                    break
                except Exception as error:
                    # The id is the old publisher's until it has been silent for a while.
                    assert "409" in str(error)
                    await asyncio.sleep(0.2)
            back = asyncio.get_running_loop().time()

            async def plays_again():
                return await frames(watching, "viewer") > stopped_at + 5
            await until(plays_again, 3, "video again")
            print(f"video again {asyncio.get_running_loop().time() - back:.2f} s after the publisher's return")
            assert (await figures(watching, "viewer"))["state"] == "connected"
            assert server.totals()["dtlsHandshakes"]["completed"] == 3


@pytest.mark.asyncio
async def test_a_stream_id_is_not_taken_from_a_publisher_that_is_well(server):
    publisher, intruder = Publisher(server, "occupied"), Publisher(server, "occupied")
    try:
        await publisher.negotiate()
        await publisher.connected()
        await asyncio.sleep(2)
        with pytest.raises(AssertionError, match="409"):
            await intruder.negotiate()
    finally:
        await publisher.close()
        await intruder.close()


@pytest.mark.asyncio
async def test_media_follows_a_viewer_to_another_address(server):
    async with contextlib.AsyncExitStack() as stack:
        relays = {str(port): await stack.enter_async_context(Relay(port)) for port in server.media_ports}
        ports = {port: relay.port for port, relay in relays.items()}
        sender, receiver = await stack.enter_async_context(chromium()), await stack.enter_async_context(chromium())
        publishing, watching = await peers_page(sender, server), await peers_page(receiver, server)
        created = await publishing.evaluate("o => publish('camera', o)",
                                            {"url": f"{server.url}/moving/whip", "codec": "VP8"})
        await watching.evaluate("o => watch('viewer', o)", {"url": created["whep"], "ports": ports})

        async def plays():
            return await frames(watching, "viewer") > 30
        await until(plays, 15, "the viewer sees the publisher")
        for relay in relays.values():
            relay.change_addresses()
        moved_at = await frames(watching, "viewer")

        async def plays_on():
            return await frames(watching, "viewer") > moved_at + 60
        await until(plays_on, 12, "media at the new address")
        assert (await figures(watching, "viewer"))["state"] == "connected"


@pytest.mark.asyncio
async def test_a_viewer_that_comes_late_sees_a_picture_at_once(server):
    publisher, late = Publisher(server, "late"), Viewer(server, "late")
    try:
        await publisher.negotiate()
        await publisher.connected()
        await asyncio.sleep(30)
        start = asyncio.get_running_loop().time()
        await late.negotiate()
        try:
            await late.frames_reach(1, 2)
        except AssertionError as error:
            state = publisher.connection.connectionState
            raise AssertionError(f"{error}; the publisher is {state}; {server.stream('late')}; {server.totals()}") from None
        figure("a late viewer's first picture", asyncio.get_running_loop().time() - start, at_most=2)
    finally:
        await late.close()
        await publisher.close()


@pytest.mark.asyncio
async def test_a_stream_ends_with_its_publisher(own_server):
    """After the linger its viewers are let go, and the id is as if it had never been."""
    server = own_server
    server.stop()
    server.environment["SLUICE_LIMITS_STREAM_LINGER"] = "1s"
    server.start()
    publisher, viewer = Publisher(server, "ending"), Viewer(server, "ending")
    await publisher.negotiate()
    await publisher.connected()
    await viewer.negotiate()
    await viewer.frames_reach(10, 10)
    await publisher.close()
    await asyncio.to_thread(wait_for, lambda: server.totals()["peers"] == {"publisher": 0, "viewer": 0}, 10, "all gone")
    assert server.stream("ending") is None
    await viewer.close(hang_up=False)


@pytest.mark.asyncio
async def test_peers_that_vanish_are_forgotten(own_server):
    """Many clients never send DELETE: consent ends them."""
    server = own_server
    server.stop()
    server.environment["SLUICE_LIMITS_CONSENT"] = "5s"
    server.start()
    async with contextlib.AsyncExitStack() as stack:
        relays = {port: await stack.enter_async_context(Relay(port)) for port in server.media_ports}
        async with chromium() as browser:
            page = await peers_page(browser, server)
            await page.evaluate("o => publish('camera', o)", {
                "url": f"{server.url}/vanishing/whip", "ports": {str(port): r.port for port, r in relays.items()}})

            async def connected():
                return (await figures(page, "camera"))["state"] == "connected"
            await until(connected, 10, "connected")
            for relay in relays.values():
                relay.loss = 1.0
            await asyncio.to_thread(wait_for, lambda: server.totals()["peers"]["publisher"] == 0, 12, "consent expired")


@pytest.mark.asyncio
async def test_after_a_stop_of_the_process_nothing_old_is_shown(own_server):
    """What lay in the socket for three seconds is let go: the picture must not run behind from then on."""
    publisher, viewer = Publisher(own_server, "stopped"), Viewer(own_server, "stopped")
    await publisher.negotiate()
    await publisher.connected()
    await viewer.negotiate()
    await viewer.frames_reach(60, 15)

    own_server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(3)
    shown, sent = len(viewer.frames), publisher.video.number
    own_server.process.send_signal(signal.SIGCONT)

    async def is_back():
        return len(viewer.frames) > shown + 30
    await until(is_back, 10, "pictures again")
    numbers = [int(number_of(frame)) for frame in viewer.frames[shown:]]
    # aiortc holds a picture until it sees the next one begin: the first was sent before the stop. Of thirty a second those of the last
    # second before it went on may be among the others.
    assert min(numbers[1:]) > sent - 35, (sent, numbers)
    assert numbers == sorted(numbers)
    assert own_server.totals()["packetsDropped"]["rtp_too_late"] > 0
    await viewer.close()
    await publisher.close()
