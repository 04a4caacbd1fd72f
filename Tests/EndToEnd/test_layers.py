"""Scalable encodings of a real encoder. Plain WHEP viewers ask for no extension: each gets a picture, on a slow network too."""

import asyncio
import contextlib

import pytest

from chromium import chromium, figures, peers_page
from patience import figure, until
from udp_relay import Network, Relay

# Chromium sends these without simulcast. The AV1 ones could not be shown at all: a receiver without the dependency descriptor can't
# tell the spatial layers of a picture apart.
SCALABLE = [("VP8", "L1T3"), ("VP9", "L3T3_KEY"), ("VP9", "L2T2"), ("AV1", "L1T3"), ("AV1", "L2T1"), ("AV1", "L3T3_KEY")]


async def video(page, name):
    return (await figures(page, name)).get("inbound-rtp-video", {})


async def publish(page, server, stream, codec, mode, bitrate=1_600_000):
    created = await page.evaluate("o => publish('camera', o)", {
        "url": f"{server.url}/{stream}/whip", "codec": codec, "width": 1280, "height": 720, "frameRate": 20,
        "encodings": [{"scalabilityMode": mode, "maxBitrate": bitrate}]})

    async def sends():
        sent = (await figures(page, "camera")).get("outbound-rtp-video", {})
        return sent.get("framesSent", 0) > 20 and sent
    sent = await until(sends, 30, f"{codec} {mode} is sent")
    assert sent["codec"] == f"video/{codec}" and sent.get("scalabilityMode", mode) == mode, sent
    return created["whep"]


@pytest.mark.asyncio
@pytest.mark.parametrize("codec, mode", SCALABLE)
async def test_a_plain_viewer_sees_a_scalable_publisher(server, codec, mode):
    async with chromium(frame_rate=20) as sender, chromium() as receiver:
        publishing, watching = await peers_page(sender, server), await peers_page(receiver, server)
        whep = await publish(publishing, server, f"scalable-{codec}-{mode}", codec, mode)
        await watching.evaluate("o => watch('viewer', o)", {"url": whep})

        async def sees():
            return (await video(watching, "viewer")).get("framesDecoded", 0) > 40
        await until(sees, 10, "the viewer sees it")
        seen = await figures(watching, "viewer")
        figure(f"{codec} {mode}: first frame", seen["firstFrameMs"] / 1000, at_most=1)
        # The picture stays one, and the decoder has nothing to ask for.
        asked = seen["inbound-rtp-video"]["pliCount"]
        await asyncio.sleep(3)
        later = await video(watching, "viewer")
        assert later["framesDecoded"] > seen["inbound-rtp-video"]["framesDecoded"]
        figure(f"{codec} {mode}: keyframes asked for in 3 s", later["pliCount"] - asked, at_most=1, unit="PLI")


@pytest.mark.asyncio
async def test_a_slow_network_gets_fewer_layers_and_not_a_frozen_picture(own_server):
    """1.6 Mbit/s of three spatial layers, and then a way that carries 500 kbit/s with a queue of 200 ms."""
    server = own_server
    async with contextlib.AsyncExitStack() as stack:
        network = Network()
        relays = {str(port): await stack.enter_async_context(Relay(port, network=network)) for port in server.media_ports}
        sender = await stack.enter_async_context(chromium(frame_rate=20))
        receiver = await stack.enter_async_context(chromium())
        publishing, watching = await peers_page(sender, server), await peers_page(receiver, server)
        whep = await publish(publishing, server, "narrow", "VP9", "L3T3_KEY")
        ports = {port: relay.port for port, relay in relays.items()}
        await watching.evaluate("o => watch('viewer', o)", {"url": whep, "ports": ports})

        async def is_large():
            return (await video(watching, "viewer")).get("frameHeight") == 720
        await until(is_large, 30, "the viewer sees 720 lines")
        # The encoder takes its time to send what it may.
        await asyncio.sleep(5)
        network.rate, network.queue = 500_000, 0.2
        narrowed = asyncio.get_running_loop().time()

        async def is_smaller():
            return (await video(watching, "viewer")).get("frameHeight", 720) < 720
        await until(is_smaller, 5, "the picture is smaller")
        figure("VP9 L3T3_KEY at 500 kbit/s: smaller after", asyncio.get_running_loop().time() - narrowed, at_most=5)
        await asyncio.sleep(5)
        before = await figures(watching, "viewer")
        await asyncio.sleep(10)
        after = await figures(watching, "viewer")
        seconds = (after["at"] - before["at"]) / 1000
        frames = after["inbound-rtp-video"]["framesDecoded"] - before["inbound-rtp-video"]["framesDecoded"]
        frozen = after["inbound-rtp-video"]["totalFreezesDuration"] - before["inbound-rtp-video"]["totalFreezesDuration"]
        audio = [one["inbound-rtp-audio"] for one in (before, after)]
        concealed = audio[1]["concealedSamples"] - audio[0]["concealedSamples"]
        heard = audio[1]["totalSamplesReceived"] - audio[0]["totalSamplesReceived"]
        assert frames > 0 and heard > 0
        figure("VP9 L3T3_KEY at 500 kbit/s", frames / seconds, at_least=8, unit="frames a second")
        figure("VP9 L3T3_KEY at 500 kbit/s, frozen", 100 * frozen / seconds, at_most=10, unit="% of the time")
        figure("VP9 L3T3_KEY at 500 kbit/s, audio concealed", 100 * concealed / heard, at_most=5, unit="%")

        network.rate = None

        async def is_large_again():
            return (await video(watching, "viewer")).get("frameHeight") == 720
        await until(is_large_again, 60, "720 lines again")
