"""Clients as people install them: Debian's GStreamer, and FFmpeg 8 as PyAV's wheel brings it, by the examples in Docs/Examples.

All of them publish and watch at the same time, for longer than anything in WebRTC waits for a sign of life; each test looks at what
came of one of them.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time

import pytest

from patience import figure, last_moment, wait_for
from sluice import OPERATOR_TOKEN, ROOT, Server, own_address

EXAMPLES = ROOT / "Docs/Examples"
# python3-gi is bound to Debian's own Python.
GSTREAMER = ["/usr/bin/python3", str(EXAMPLES / "gstreamer.py")]
FFMPEG = [sys.executable, str(EXAMPLES / "ffmpeg.py")]
TOKEN = ["--token", OPERATOR_TOKEN]
# What publishes, and with which codec; GStreamer watches all of them.
PUBLISHERS = {
    "gstreamer-VP8": (GSTREAMER + ["publish", "--codec", "VP8"], "VP8"),
    "gstreamer-H264": (GSTREAMER + ["publish", "--codec", "H264"], "H264"),
    "ffmpeg-dtls-client": (FFMPEG, "H264"),
    "ffmpeg-dtls-server": (FFMPEG + ["--dtls-server"], "H264"),
}
# How long it goes on, and in each stretch of how many seconds a picture has to come. As a DTLS server FFmpeg 8.1 writes a packet, of
# sound or picture, for each that it gets: see the README.
SECONDS = {name: 40 if name == "ffmpeg-dtls-server" else 90 for name in PUBLISHERS}
STRETCH = {name: 20 if name == "ffmpeg-dtls-server" else 5 for name in PUBLISHERS}


def reachable_address():
    """An address of this machine that is not loopback: libnice makes no pair of one that is and one that isn't."""
    if address := own_address():
        return address
    pytest.skip("no address but loopback")


class Client:
    """An example as a program of its own, and what it prints."""

    def __init__(self, *command):
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=self.output, stderr=subprocess.STDOUT, text=True)

    def lines(self):
        self.output.seek(0)
        return self.output.read().splitlines()

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def calls():
    """For each publisher the pictures that its viewer had shown, second by second."""
    address = reachable_address()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server("--media-listen", address, environment={"SLUICE_AUTH_MODE": "token"}))

        def run(*command):
            client = Client(*command, *TOKEN)
            stack.callback(client.end)
            return client
        publishers = {name: run(*command, f"{server.url}/{name}/whip") for name, (command, _) in PUBLISHERS.items()}

        def is_there(name):
            assert publishers[name].process.poll() is None, (name, publishers[name].lines())
            return (server.stream(name) or {}).get("publisher")
        for name in PUBLISHERS:
            wait_for(lambda: is_there(name), 10, f"{name} publishes")
        viewers = {name: run(*GSTREAMER, "watch", "--count", "--codec", codec, f"{server.url}/{name}/whep")
                   for name, (_, codec) in PUBLISHERS.items()}

        def shown(name):
            counts = [json.loads(line)["pictures"] for line in viewers[name].lines() if line.startswith("{")]
            return counts[next((place for place, count in enumerate(counts) if count), len(counts)):]
        # Whatever ends early is told below, by what it printed.
        deadline = time.monotonic() + last_moment(max(SECONDS.values()))
        while time.monotonic() < deadline and not all(
                len(shown(name)) > SECONDS[name] or viewers[name].process.poll() is not None for name in PUBLISHERS):
            time.sleep(0.5)
        yield {name: (shown(name), publishers[name].lines() + viewers[name].lines()[-5:]) for name in PUBLISHERS}


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_pictures_come_the_whole_time(calls, publisher):
    counts, printed = calls[publisher]
    seconds, stretch = SECONDS[publisher], STRETCH[publisher]
    assert len(counts) > seconds, (counts, printed)
    figure(f"{publisher}, what is shown", (counts[seconds] - counts[0]) / seconds, unit="pictures/s")
    for second in range(seconds - stretch + 1):
        assert counts[second + stretch] > counts[second], f"none from second {second} on: {counts}"
