"""Who is told how well which stream of a room gets through, on networks that lose packets."""

import asyncio
import contextlib

import pytest

from chromium import chromium, peers_page
from patience import last_moment, until
from test_rooms import client
from udp_relay import Relay

LOSS = 0.25
# Of audio clients report every 5 s: worse is told an interval of 2 s later, better after one report more.
WORSE_SECONDS, BETTER_SECONDS = 10, 20

# A peer of a room that speaks the protocol itself: sends its camera as a stream, if it is to have one, and receives all others.
ENTER = r"""async ({ url, room, stream, ports }) => {
    const throughRelays = (sdp) => sdp.replace(/(a=candidate:\S+ 1 udp \d+ \S+ )(\d+)( typ)/g,
        (_, head, port, tail) => head + (ports?.[port] ?? port) + tail);
    const peer = (window.peer = { told: [], level: {}, frames: 0 });
    const socket = new WebSocket(url, "sluice.v1");
    await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
    const waiting = new Map();
    const request = (message) => new Promise((resolve) => {
        waiting.set(waiting.size + 1, resolve);
        socket.send(JSON.stringify({ ...message, id: waiting.size }));
    });
    const receive = async (message) => {
        if (message.type === "quality") {
            peer.told.push(message);
            for (const { stream, level } of message.streams) peer.level[stream] = level;
        }
        if (message.type !== "offer") return;
        if (!peer.receiver) {
            peer.receiver = new RTCPeerConnection();
            peer.receiver.ontrack = ({ track }) => {
                const video = Object.assign(document.createElement("video"), { muted: true, autoplay: true });
                if (track.kind !== "video") return;
                video.srcObject = new MediaStream([track]);
                document.body.append(video);
                const count = () => { peer.frames += 1; video.requestVideoFrameCallback(count); };
                video.requestVideoFrameCallback(count);
            };
        }
        await peer.receiver.setRemoteDescription({ type: "offer", sdp: throughRelays(message.sdp) });
        await peer.receiver.setLocalDescription();
        socket.send(JSON.stringify({ type: "answer", offer: message.offer, sdp: peer.receiver.localDescription.sdp }));
    };
    socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        (waiting.get(message.id) ?? receive)(message);
    };
    const joined = await request({ type: "join", room });
    if (joined.type !== "joined") throw new Error(joined.message);
    if (!stream) return;
    peer.sender = new RTCPeerConnection();
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
    for (const track of media.getTracks()) peer.sender.addTransceiver(track, { direction: "sendonly" });
    await peer.sender.setLocalDescription();
    const mids = peer.sender.getTransceivers().map((transceiver) => transceiver.mid);
    const answer = await request({ type: "publish", sdp: peer.sender.localDescription.sdp, streams: [{ stream, mids }] });
    await peer.sender.setRemoteDescription({ type: "answer", sdp: throughRelays(answer.sdp) });
}"""


@contextlib.asynccontextmanager
async def network(server):
    """A network of one's own to the server, that loses nothing at first: its relays, and the ports to reach them at."""
    async with contextlib.AsyncExitStack() as stack:
        relays = {str(port): await stack.enter_async_context(Relay(port, seed=port)) for port in server.media_ports}
        yield relays.values(), {port: relay.port for port, relay in relays.items()}


async def enter(browser, server, room, ports, stream=None):
    page = await peers_page(browser, server)
    await page.evaluate(ENTER, {"url": f"ws://127.0.0.1:{server.http_port}/v1/ws", "room": room, "stream": stream, "ports": ports})
    return page


async def plays(page):
    async def moving():
        return await page.evaluate("peer.frames") > 30
    await until(moving, 15, "pictures come")


async def is_told(page, stream, levels, seconds):
    async def told():
        return await page.evaluate("stream => peer.level[stream]", stream) in levels
    await until(told, seconds, f"{stream} is told as {' or '.join(levels)}")


async def quality(observer, stream, levels, seconds):
    """Waits until an observer's socket tells it."""
    async with asyncio.timeout(last_moment(seconds)):
        while True:
            message = await observer.next("quality", seconds)
            if any(entry["stream"] == stream and entry["level"] in levels for entry in message["streams"]):
                return


async def tells_changes_only(page):
    levels = [one["level"] for told in await page.evaluate("peer.told") for one in told["streams"]]
    assert all(level != before for before, level in zip(levels, levels[1:])), levels


@pytest.mark.asyncio
async def test_all_are_told_of_a_publisher_whose_packets_get_lost(own_server):
    server = own_server
    async with chromium() as browser, network(server) as (relays, ports), client(server) as observer:
        publisher = await enter(browser, server, "uplink", ports, stream="cam")
        viewer = await enter(browser, server, "uplink", None)
        await observer.request("join", room="uplink", role="view", policy="none")
        await plays(viewer)
        for relay in relays:
            relay.loss = LOSS
        await asyncio.gather(
            is_told(publisher, "cam", ["fair", "poor"], WORSE_SECONDS), is_told(viewer, "cam", ["fair", "poor"], WORSE_SECONDS),
            quality(observer, "cam", ["fair", "poor"], WORSE_SECONDS))
        # Who comes now is told too.
        async with client(server) as late:
            await late.request("join", room="uplink", role="view", policy="none")
            await quality(late, "cam", ["fair", "poor"], WORSE_SECONDS)
        for relay in relays:
            relay.loss = 0
        await asyncio.gather(
            is_told(publisher, "cam", ["good"], BETTER_SECONDS), is_told(viewer, "cam", ["good"], BETTER_SECONDS),
            quality(observer, "cam", ["good"], BETTER_SECONDS))
        await tells_changes_only(publisher)


@pytest.mark.asyncio
async def test_a_viewer_alone_is_told_of_what_he_loses(own_server):
    server = own_server
    async with chromium() as browser, network(server) as (relays, ports), client(server) as observer:
        publisher = await enter(browser, server, "downlink", None, stream="cam")
        viewer = await enter(browser, server, "downlink", ports)
        await observer.request("join", room="downlink", role="view", policy="none")
        await plays(viewer)
        for relay in relays:
            relay.loss = LOSS
        await is_told(viewer, "cam", ["fair", "poor"], WORSE_SECONDS)
        for relay in relays:
            relay.loss = 0
        await is_told(viewer, "cam", ["good"], BETTER_SECONDS)
        await tells_changes_only(viewer)
        assert await publisher.evaluate("peer.told") == []
        assert (await observer.request("ping"))["type"] == "pong"
        assert not [message for message in observer.others if message["type"] == "quality"]
