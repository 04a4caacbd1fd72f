"""Cameras and screens that come, go and come again on one connection."""

import pathlib

import pytest

from chromium import chromium
from patience import until

PEERS = (pathlib.Path(__file__).parent / "encryption_peers.js").read_text() + ";Object.assign(window, {enterRoom});"
PUBLISH = """async ([name, as, options]) => {
    const media = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 720, frameRate: 15 }, audio: options.audio });
    window[as] = await rooms[name].room.publish(media, options);
}"""
UNPUBLISH = "async ([name, as]) => rooms[name].room.unpublish(window[as])"
RIDS = """async (name) => [...(await rooms[name].room.connections.send.getStats()).values()]
    .filter((item) => item.type === "outbound-rtp" && item.kind === "video" && item.framesSent > 0)
    .map(({ rid }) => rid ?? "").sort()"""
# How many pictures came of each m-line.
DECODED = """async (name) => Object.fromEntries([...((await rooms[name].room.connections.receive?.getStats())?.values() ?? [])]
    .filter((item) => item.type === "inbound-rtp" && item.kind === "video").map((item) => [item.mid, item.framesDecoded ?? 0]))"""


async def entered(browser, server, room, *names):
    pages = []
    for name in names:
        page = await browser.new_page()
        await page.goto(server.url)
        await page.evaluate(PEERS)
        await page.evaluate("([name, options]) => enterRoom(name, options)", [name, {"room": room}])
        pages.append(page)
    return pages


async def moving(page, name, count):
    """Waits until so many pictures move."""
    async def are_seen():
        before = await page.evaluate(DECODED, name)
        await page.wait_for_timeout(500)
        after = await page.evaluate(DECODED, name)
        return sum(after[mid] > before.get(mid, after[mid]) for mid in after) == count
    await until(are_seen, 40, f"{count} pictures move for {name}")


@pytest.mark.asyncio
@pytest.mark.parametrize("audio", [False, True])
async def test_a_simulcast_camera_after_a_video_of_one_encoding(server, audio):
    """What is answered to the first m-line decides what Chromium offers on later ones."""
    async with chromium(frame_rate=15) as browser:
        ann, bob = await entered(browser, server, f"single-then-simulcast-{audio}", "ann", "bob")
        await ann.evaluate(PUBLISH, ["ann", "screen", {"kind": "screen", "simulcast": False, "audio": audio}])
        await moving(bob, "bob", 1)
        await ann.evaluate(PUBLISH, ["ann", "camera", {"kind": "camera", "audio": audio}])
        await moving(bob, "bob", 2)
        async def all_are_sent():
            return await ann.evaluate(RIDS, "ann") == ["", "h", "l", "m"]
        await until(all_are_sent, 30, "the camera is sent as three encodings beside the screen")


@pytest.mark.asyncio
@pytest.mark.parametrize("audio", [False, True])
async def test_a_simulcast_camera_that_is_stopped_is_seen_when_it_comes_again(server, audio):
    """Chromium writes RIDs into the first packets of an encoding only: which SSRC has which RID outlives the stream."""
    async with chromium(frame_rate=15) as browser:
        ann, bob = await entered(browser, server, f"again-{audio}", "ann", "bob")
        for _ in range(3):
            await ann.evaluate(PUBLISH, ["ann", "camera", {"kind": "camera", "audio": audio}])
            await moving(bob, "bob", 1)
            await ann.evaluate(UNPUBLISH, ["ann", "camera"])
            await moving(bob, "bob", 0)


@pytest.mark.asyncio
async def test_two_videos_of_one_stream_are_two_tracks(server):
    """Each has a name of its own, and both are seen."""
    async with chromium(frame_rate=15) as browser:
        ann, bob = await entered(browser, server, "two-videos", "ann", "bob")
        await ann.evaluate("""async () => {
            const videos = { width: 320, height: 180, frameRate: 15 };
            const [one, other] = [await navigator.mediaDevices.getUserMedia({ video: videos }),
                await navigator.mediaDevices.getUserMedia({ video: videos })];
            const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
            for (const track of [...one.getTracks(), ...other.getTracks()]) connection.addTransceiver(track, { direction: "sendonly" });
            await connection.setLocalDescription();
            const answer = await fetch("/two-videos/cameras/whip", { method: "POST", body: connection.localDescription.sdp,
                headers: { "Content-Type": "application/sdp" } });
            if (answer.status !== 201) throw new Error(await answer.text());
            await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
            window.publisher = connection;
        }""")
        await moving(bob, "bob", 2)
        ids = await bob.evaluate("""() => rooms.bob.room.connections.receive.currentRemoteDescription.sdp
            .split("\\r\\n").filter((line) => line.startsWith("a=msid:"))""")
        assert len(ids) == len(set(ids)) == 2, ids
        assert len({line.split(" ")[0] for line in ids}) == 1, "one stream"
