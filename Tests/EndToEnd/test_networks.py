"""What a viewer sees on networks of all kinds: a relay with a rate, a queue, delay and loss stands between the server and Chromium.

The table of `Docs/WhatViewersGet.md` is measured by this (`make networks`); `make test` tries a part of it."""

import asyncio
import contextlib
import os

import pytest

from chromium import chromium, figures, peers_page
from patience import figure, until
from udp_relay import Network, Relay

# Tells twice a second what the server thinks of it.
TRACE = os.environ.get("SLUICE_TRACE") == "1"
MBIT = 1_000_000
# As the lowest, the middle and the best encoding's heights of a camera of 720 lines.
SIMULCAST = [{"rid": rid, "maxBitrate": rate, "scaleResolutionDownBy": scale}
             for rid, rate, scale in [("l", 150_000, 4), ("m", 500_000, 2), ("h", 1_700_000, 1)]]
LOW, MIDDLE, HIGH = 180, 360, 720


class Call:
    """A camera, and a viewer behind a network."""

    def __init__(self, server, name, network, publishing, watching):
        self.server, self.name = server, name
        self.network, self.publishing, self.watching = network, publishing, watching
        # When, how many lines the picture had, frames decoded.
        self.seen = []

    async def figures(self):
        return await figures(self.watching, "viewer")

    async def watch(self, seconds):
        """Looks ten times a second. Returns what it was like."""
        loop = asyncio.get_running_loop()
        before, begin = await self.figures(), loop.time()
        waits = len(self.network.waits)
        seen = []
        while loop.time() < begin + seconds:
            if TRACE and len(seen) % 5 == 0:
                self.trace(loop.time() - begin)
            video = (await self.figures()).get("inbound-rtp-video", {})
            seen.append((loop.time() - begin, video.get("frameHeight", 0), video.get("framesDecoded", 0)))
            await asyncio.sleep(0.1)
        return Seen(seen, before, await self.figures(), [wait for _, wait in self.network.waits[waits:]])

    def trace(self, time):
        viewer = self.server.stream(self.name)["viewers"][0]
        told = viewer["bandwidth"] or {}
        ways = [f"{s['why']} {s.get('encoding')} {s.get('spatialLayer')} {s.get('temporalLayer')}" for s in viewer["subscriptions"]]
        print(f"  {time:5.1f}", {name: round(value, 3) for name, value in told.items()}, ways)

    async def until_lines(self, lines, promised=30):
        async def has_them():
            return (await self.figures()).get("inbound-rtp-video", {}).get("frameHeight", 0) == lines
        await until(has_them, promised, f"the viewer sees {lines} lines")


class Seen:
    def __init__(self, seen, before, after, waits):
        self.seen, self.waits = seen, sorted(waits)
        self.seconds = (after["at"] - before["at"]) / 1000
        video, audio = [[one.get(f"inbound-rtp-{kind}", {}) for one in (before, after)] for kind in ("video", "audio")]

        def grown(pair, name):
            return pair[1].get(name, 0) - pair[0].get(name, 0)
        self.frames = grown(video, "framesDecoded") / self.seconds
        self.concealed = 100 * grown(audio, "concealedSamples") / max(1, grown(audio, "totalSamplesReceived"))
        self.retransmitted = grown(video, "retransmittedPacketsReceived")
        # Time without a new frame beyond half a second: what a pause in the middle of it would not tell.
        stands, last = 0.0, None
        for time, _, frames in seen:
            if last is None or frames != last[1]:
                last = (time, frames)
            elif time - last[0] > 0.3:
                stands += 0.1
        self.frozen = 100 * max(stands, grown(video, "totalFreezesDuration")) / self.seconds
        heights = [height for _, height, _ in seen]
        changes = [seen[place][0] for place in range(1, len(seen)) if heights[place] != heights[place - 1]]
        self.settled = changes[-1] if changes else 0.0
        self.last_height = heights[-1]
        self.heights = heights
        self.path = " ".join(f"{seen[p][0]:.1f}:{heights[p]}" for p in range(len(seen)) if p == 0 or heights[p] != heights[p - 1])

    def at_least(self, lines):
        """The part of the time with so many lines, in per cent."""
        return 100 * sum(height >= lines for height in self.heights) / len(self.heights)

    def queue(self, part=0.95):
        return self.waits[int(len(self.waits) * part)] if self.waits else 0.0


@contextlib.asynccontextmanager
async def call(server, name, network, codec="VP8", encodings=None):
    async with contextlib.AsyncExitStack() as stack:
        relays = {str(port): await stack.enter_async_context(Relay(port, network=network)) for port in server.media_ports}
        sender = await stack.enter_async_context(chromium(frame_rate=20))
        receiver = await stack.enter_async_context(chromium())
        publishing, watching = await peers_page(sender, server), await peers_page(receiver, server)
        created = await publishing.evaluate("o => publish('camera', o)", {
            "url": f"{server.url}/{name}/whip", "codec": codec, "width": 1280, "height": 720, "frameRate": 20,
            "encodings": encodings})
        # The encoder takes its time to send what it may.
        await asyncio.sleep(8)
        await watching.evaluate("o => watch('viewer', o)", {
            "url": created["whep"], "ports": {port: relay.port for port, relay in relays.items()}})
        yield Call(server, name, network, publishing, watching)


@pytest.mark.asyncio
async def test_a_network_that_gets_narrow_and_wide(own_server):
    async with call(own_server, "narrow", Network(rate=4 * MBIT), encodings=SIMULCAST) as it:
        await it.until_lines(HIGH)
        first = (await it.figures())["firstFrameMs"] / 1000
        await asyncio.sleep(5)
        it.network.rate = 0.4 * MBIT
        narrow = await it.watch(20)
        print("4 -> 0.4:", narrow.path, f"{narrow.frames:.1f} frames/s; first frame {first:.2f} s")
        figure("4 to 0.4 Mbit/s: settled after", narrow.settled, at_most=3)
        figure("4 to 0.4 Mbit/s: frozen", narrow.frozen, at_most=2, unit="%")
        figure("4 to 0.4 Mbit/s: audio concealed", narrow.concealed, at_most=2, unit="%")
        figure("4 to 0.4 Mbit/s: queue, 95th percentile", narrow.queue() * 1000, unit="ms")
        assert narrow.last_height == LOW and narrow.frames > 0
        it.network.rate = 1.2 * MBIT
        wider = await it.watch(15)
        print("0.4 -> 1.2:", wider.path)
        it.network.rate = 4 * MBIT
        wide = await it.watch(15)
        print("1.2 -> 4:", wide.path)
        figure("0.4 to 1.2 Mbit/s: settled after", wider.settled, at_most=5)
        figure("1.2 to 4 Mbit/s: settled after", wide.settled, at_most=5)
        figure("0.4 to 4 Mbit/s: frozen", max(wider.frozen, wide.frozen), at_most=0, unit="%")
        assert wide.last_height == HIGH


@pytest.mark.networks
@pytest.mark.asyncio
async def test_losses_without_a_narrow_place_cost_no_picture(own_server):
    network = Network(delay=0.05, jitter=0.02, loss=0.1)
    async with call(own_server, "lossy", network, encodings=SIMULCAST) as it:
        await it.until_lines(HIGH, 60)
        seen = await it.watch(30)
        print("10 % loss:", seen.path, f"{seen.frames:.1f} frames/s")
        figure("10 % loss: middle or better", seen.at_least(MIDDLE), at_least=95, unit="% of the time")
        figure("10 % loss: frozen", seen.frozen, at_most=3, unit="%")
        figure("10 % loss: audio concealed", seen.concealed, at_most=3, unit="%")
        assert seen.frames > 0


@pytest.mark.networks
@pytest.mark.asyncio
async def test_bursts_of_losses_cost_no_picture(own_server):
    network = Network(delay=0.05, bursts=(0.004, 0.05))
    async with call(own_server, "bursts", network, encodings=SIMULCAST) as it:
        await it.until_lines(HIGH, 60)
        seen = await it.watch(30)
        print("bursts:", seen.path, f"{seen.frames:.1f} frames/s")
        figure("bursts: best encoding", seen.at_least(HIGH), at_least=95, unit="% of the time")
        figure("bursts: frozen", seen.frozen, unit="%")
        figure("bursts: audio concealed", seen.concealed, unit="%")
        assert seen.frames > 0


@pytest.mark.networks
@pytest.mark.asyncio
async def test_a_long_queue_stays_short(own_server):
    async with call(own_server, "bloated", Network(rate=4 * MBIT), encodings=SIMULCAST) as it:
        await it.until_lines(HIGH)
        await asyncio.sleep(5)
        it.network.rate, it.network.queue = 0.7 * MBIT, 1.5
        settling = await it.watch(10)
        settled = await it.watch(15)
        print("700 kbit/s, queue of 1.5 s:", settling.path, "/", settled.path)
        figure("700 kbit/s, queue of 1.5 s: settled after", settling.settled, at_most=4)
        figure("700 kbit/s, queue of 1.5 s: queue, 95th percentile", settled.queue() * 1000, at_most=200, unit="ms")
        figure("700 kbit/s, queue of 1.5 s: frozen", settled.frozen, at_most=0, unit="%")
        assert settled.frames > 0


@pytest.mark.networks
@pytest.mark.asyncio
async def test_one_encoding_that_does_not_fit(own_server):
    async with call(own_server, "single", Network(), encodings=[{"maxBitrate": 1_500_000}]) as it:
        await it.until_lines(HIGH)
        await asyncio.sleep(5)
        it.network.rate = 0.6 * MBIT
        await asyncio.sleep(5)
        seen = await it.watch(20)
        print("1.5 Mbit/s on 0.6:", seen.path, f"{seen.frames:.1f} frames/s")
        figure("1.5 Mbit/s on 0.6: audio concealed", seen.concealed, at_most=2, unit="%")
        figure("1.5 Mbit/s on 0.6: frozen", seen.frozen, unit="%")


@pytest.mark.networks
@pytest.mark.asyncio
async def test_layers_on_a_narrow_network(own_server):
    layered = [{"scalabilityMode": "L3T3_KEY", "maxBitrate": 1_600_000}]
    async with call(own_server, "layers", Network(), "VP9", layered) as it:
        await it.until_lines(HIGH)
        await asyncio.sleep(5)
        it.network.rate = 0.5 * MBIT
        seen = await it.watch(20)
        print("VP9 L3T3_KEY on 0.5:", seen.path, f"{seen.frames:.1f} frames/s")
        smaller = next((time for time, height, _ in seen.seen if height < HIGH), 99.0)
        figure("VP9 L3T3_KEY on 0.5: smaller after", smaller, at_most=3)
        figure("VP9 L3T3_KEY on 0.5: frozen", seen.frozen, at_most=2, unit="%")
        figure("VP9 L3T3_KEY on 0.5: audio concealed", seen.concealed, at_most=2, unit="%")
        assert seen.frames > 0
