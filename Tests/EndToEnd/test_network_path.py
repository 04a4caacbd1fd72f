"""A client's network changes in the middle of a call: the address that it had is gone, and it has another."""

import asyncio
import contextlib
import os
import pathlib
import subprocess

import pytest

from chromium import PATIENCE, PROGRAM, chromium, until
from sluice import OPERATOR_TOKEN, Server

PEERS = (pathlib.Path(__file__).parent / "encryption_peers.js").read_text()
PEERS += ";Object.assign(window, {enterRoom, publishCamera, received});"
SERVER = "10.214.0.1"
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


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class TwoPaths:
    """A network namespace that reaches the server by one device, and later by another."""

    def __init__(self):
        self.name = f"sluice-path-{os.getpid()}"
        self.devices = [f"sl{os.getpid() % 100000}{side}" for side in "ab"]

    def __enter__(self):
        run("ip", "netns", "add", self.name)
        try:
            run("ip", "-n", self.name, "link", "set", "lo", "up")
            for number, device in enumerate(self.devices, start=1):
                run("ip", "link", "add", device, "type", "veth", "peer", "name", device + "p", "netns", self.name)
                run("ip", "address", "add", f"10.214.{number}.1/24", "dev", device)
                run("ip", "link", "set", device, "up")
            # On neither of the devices: it stays when one goes.
            run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
            self.take(1)
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def take(self, number):
        device = self.devices[number - 1] + "p"
        run("ip", "-n", self.name, "address", "add", f"10.214.{number}.2/24", "dev", device)
        run("ip", "-n", self.name, "link", "set", device, "up")
        run("ip", "-n", self.name, "route", "add", "default", "via", f"10.214.{number}.1", "metric", str(number))

    def lose(self, number):
        """The device is gone with its address, as when somebody leaves a Wi-Fi network."""
        run("ip", "-n", self.name, "link", "delete", self.devices[number - 1] + "p")

    def program(self, folder):
        """Runs Chromium inside."""
        script = folder / "chromium-inside"
        script.write_text(f'#!/bin/sh\nexec ip netns exec {self.name} {PROGRAM} "$@"\n')
        script.chmod(0o755)
        return str(script)

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True)
        subprocess.run(["ip", "address", "delete", f"{SERVER}/32", "dev", "lo"], capture_output=True)
        for device in self.devices:
            subprocess.run(["ip", "link", "delete", device], capture_output=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("network", RESUMED_SECONDS)
async def test_media_resumes_on_another_network_by_ice_restart(tmp_path, network):
    async with contextlib.AsyncExitStack() as stack:
        paths = stack.enter_context(TwoPaths())
        server = stack.enter_context(Server("--http-listen", f"{SERVER}:0", "--media-listen", SERVER,
                                            environment={"SLUICE_AUTH_MODE": "token"}))
        origin = f"http://{SERVER}:{server.http_port}"
        secure = f"--unsafely-treat-insecure-origin-as-secure={origin}"
        inside = await stack.enter_async_context(chromium(secure, program=paths.program(tmp_path)))
        outside = await stack.enter_async_context(chromium(secure))
        ann, bob = await inside.new_page(), await outside.new_page()
        for page, name in [(ann, "ann"), (bob, "bob")]:
            await page.goto(origin)
            await page.evaluate(PEERS)
            await page.evaluate("([name, options]) => enterRoom(name, options)", [name, {"room": "trip", "token": OPERATOR_TOKEN}])
            await page.evaluate("([name, options]) => publishCamera(name, options)", [name, {}])

        async def both_see(more=20):
            before = [(await page.evaluate(STATE, name))["frames"] for page, name in [(ann, "ann"), (bob, "bob")]]

            async def moved():
                now = [(await page.evaluate(STATE, name))["frames"] for page, name in [(ann, "ann"), (bob, "bob")]]
                return all(new >= old + more for old, new in zip(before, now))
            await until(moved, 15 * PATIENCE, "both see each other")
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
        assert max(resumed) < RESUMED_SECONDS[network] * PATIENCE
        after = await ann.evaluate(STATE, "ann")
        assert all(old != new for old, new in zip(before["credentials"], after["credentials"])), "ICE was restarted on both connections"
        await both_see()
        for page, name, other in [(ann, "ann", "bob"), (bob, "bob", "ann")]:
            state = await page.evaluate(STATE, name)
            assert state["streams"] == 1 and state["peers"] == [other]


async def seconds_until_moving(page, name, since):
    frames = (await page.evaluate(STATE, name))["frames"]
    async with asyncio.timeout(20 * PATIENCE):
        while True:
            now = (await page.evaluate(STATE, name))["frames"]
            if now >= frames + 3:
                return asyncio.get_running_loop().time() - since
            await asyncio.sleep(0.05)
