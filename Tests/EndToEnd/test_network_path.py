"""A client's network changes in the middle of a call: the address that it had is gone, and it has another."""

import asyncio
import pathlib

import pytest

from patience import figure, last_moment, until
from sluice import OPERATOR_TOKEN
from two_paths import inside_and_outside

PEERS = (pathlib.Path(__file__).parent / "encryption_peers.js").read_text()
PEERS += ";Object.assign(window, {enterRoom, publishCamera, received});"
# Chromium on Linux waits for two seconds before it believes that there is a new network.
RESUMED_SECONDS = {"that was there": 3, "that is new": 6}
# Frames of every remote picture that were shown, and the ICE credentials of both connections.
STATE = """(name) => {
    const { room, videos } = rooms[name];
    const ufrag = (connection) => connection?.localDescription?.sdp.match(/a=ice-ufrag:(.*)/)[1];
    const { send, receive } = room.connections;
    return {
        frames: [...videos.values()].reduce((sum, video) => sum + video.getVideoPlaybackQuality().totalVideoFrames, 0),
        credentials: [ufrag(send), ufrag(receive)],
        streams: room.streams.size,
        peers: [...room.peers.values()].map((peer) => peer.name),
    };
}"""


@pytest.mark.asyncio
@pytest.mark.parametrize("network", RESUMED_SECONDS)
async def test_media_resumes_on_another_network_by_ice_restart(tmp_path, network):
    async with inside_and_outside(tmp_path) as (paths, ann, bob):
        for page, name in [(ann, "ann"), (bob, "bob")]:
            await page.evaluate(PEERS)
            await page.evaluate("([name, options]) => enterRoom(name, options)", [name, {"room": "trip", "token": OPERATOR_TOKEN}])
            await page.evaluate("([name, options]) => publishCamera(name, options)", [name, {}])

        async def both_see(more=20):
            before = [(await page.evaluate(STATE, name))["frames"] for page, name in [(ann, "ann"), (bob, "bob")]]

            async def moved():
                now = [(await page.evaluate(STATE, name))["frames"] for page, name in [(ann, "ann"), (bob, "bob")]]
                return all(new >= old + more for old, new in zip(before, now))
            await until(moved, 15, "both see each other")
        await both_see()
        # A phone has another network already when it leaves a Wi-Fi network.
        if network == "that was there":
            paths.take(2)
        await asyncio.sleep(4)
        before = await ann.evaluate(STATE, "ann")

        if network == "that is new":
            paths.take(2)
        paths.lose(1)
        lost = asyncio.get_running_loop().time()
        # What was on its way is shown within half a second; then nothing comes until the other path is found.
        await asyncio.sleep(0.5)
        resumed = await asyncio.gather(*[seconds_until_moving(page, name, lost) for page, name in [(ann, "ann"), (bob, "bob")]])
        print(f"a network {network}: media resumed after {resumed[0]:.2f} s for who moved, {resumed[1]:.2f} s for the other")
        figure(f"media on a network {network}", max(resumed), at_most=RESUMED_SECONDS[network])
        after = await ann.evaluate(STATE, "ann")
        assert all(old != new for old, new in zip(before["credentials"], after["credentials"])), "ICE was restarted on both connections"
        await both_see()
        for page, name, other in [(ann, "ann", "bob"), (bob, "bob", "ann")]:
            state = await page.evaluate(STATE, name)
            assert state["streams"] == 1 and state["peers"] == [other]


async def seconds_until_moving(page, name, since):
    frames = (await page.evaluate(STATE, name))["frames"]
    async with asyncio.timeout(last_moment(20)):
        while True:
            now = (await page.evaluate(STATE, name))["frames"]
            if now >= frames + 3:
                return asyncio.get_running_loop().time() - since
            await asyncio.sleep(0.05)
