"""One Chromium publishes by WHIP, five viewers watch by WHEP: every codec, picture, sound and frame rate."""

import asyncio

import pytest

from chromium import chromium, figures, peers_page
from patience import figure, steadily, until

VIEWERS = 5
MEASURED_SECONDS = 6


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", ["VP8", "VP9", "H264", "AV1"])
async def test_five_viewers_see_and_hear_one_publisher(server, codec):
    async with chromium() as sender, chromium() as receiver:
        publishing = await peers_page(sender, server)
        watching = await peers_page(receiver, server)
        created = await publishing.evaluate("o => publish('camera', o)",
                                            {"url": f"{server.url}/fan-{codec}/whip", "codec": codec})
        assert created["whep"] == f"{server.url}/fan-{codec}/whep"

        async def sends():
            video = (await figures(publishing, "camera")).get("outbound-rtp-video", {})
            return video.get("framesSent", 0) > 30 and video
        video = await until(sends, 15, "the publisher sends")
        assert video["codec"] == f"video/{codec}"

        names = [f"viewer{index}" for index in range(VIEWERS)]
        for name in names:
            await watching.evaluate("([n, o]) => watch(n, o)", [name, {"url": created["whep"]}])

        async def all_see():
            return all([(await figures(watching, name))["firstFrameMs"] is not None for name in names])
        await until(all_see, 10, "every viewer has a first frame")

        # A viewer's frame rate rises to the publisher's once its jitter buffer has settled.
        await asyncio.sleep(2)
        async def all_figures():
            return [await figures(publishing, "camera")] + [await figures(watching, name) for name in names]

        async def frame_rates():
            before = await all_figures()
            await asyncio.sleep(MEASURED_SECONDS)
            after = await all_figures()

            def rate(index, kind, field):
                frames = after[index][kind].get(field, 0) - before[index][kind].get(field, 0)
                return frames * 1000 / (after[index]["at"] - before[index]["at"])
            sent = rate(0, "outbound-rtp-video", "framesSent")
            decoded = [rate(index, "inbound-rtp-video", "framesDecoded") for index in range(1, VIEWERS + 1)]
            print(f"{codec}: publisher {sent:.1f} fps, viewers", *(f"{one:.1f}" for one in decoded))
            assert sent > 0 and min(decoded) > 0
            return 100 * min(decoded) / sent
        await steadily(frame_rates, f"{codec}: frames of the publisher's that every viewer decodes", at_least=90, unit="%")

        source, *seen_by_viewers = await all_figures()
        size = [source["outbound-rtp-video"][side] for side in ("frameWidth", "frameHeight")]
        for name, seen in zip(names, seen_by_viewers):
            video, first = seen["inbound-rtp-video"], seen["firstFrameMs"]
            energy = seen["inbound-rtp-audio"]["totalAudioEnergy"]
            print(f"  {name}: {size}, first frame after {first:.0f} ms, audio energy {energy:.4f}")
            assert [video["frameWidth"], video["frameHeight"]] == size
            figure(f"{codec}: first frame", first / 1000, at_most=2)
            assert energy > 0
        for name in names:
            await watching.evaluate("hangUp", name)
        await publishing.evaluate("hangUp", "camera")


@pytest.mark.asyncio
async def test_publisher_leaves_its_start_bitrate(server):
    """Transport-wide feedback lets Chromium's bandwidth estimate grow: without it, it stays near 300 kbit/s."""
    async with chromium() as sender:
        page = await peers_page(sender, server)
        await page.evaluate("o => publish('camera', o)", {
            "url": f"{server.url}/climb/whip", "codec": "VP8", "width": 1280, "height": 720, "useNoise": True})
        last = await figures(page, "camera")

        async def climbs():
            nonlocal last
            await asyncio.sleep(1)
            now = await figures(page, "camera")
            video, earlier = now.get("outbound-rtp-video", {}), last.get("outbound-rtp-video", {})
            bits = (video.get("bytesSent", 0) - earlier.get("bytesSent", 0)) * 8000 / (now["at"] - last["at"])
            print(f"{bits / 1e6:.2f} Mbit/s")
            last = now
            return bits > 1_000_000
        await until(climbs, 30, "the publisher sends more than 1 Mbit/s")
        await page.evaluate("hangUp", "camera")
