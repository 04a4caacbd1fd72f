"""sluice-load against the server: what it counts is what was sent, and what it checks arrives unharmed."""

import json
import pathlib
import subprocess

import pytest

from patience import figure
from sluice import OPERATOR_TOKEN, Server

# Never instrumented, whatever the server is: it is not what is tested.
LOAD = pathlib.Path(__file__).resolve().parents[2] / ".build" / "release" / "sluice-load"
LIMITS = {"SLUICE_LIMITS_PEERS_PER_ADDRESS": "1000", "SLUICE_LIMITS_SESSIONS_PER_ADDRESS_PER_MINUTE": "10000"}


def run(server, *arguments):
    command = [LOAD, "--whip", f"{server.url}/load%/whip", "--whep", f"{server.url}/load%/whep", "--json", "--quiet",
               "--warm-up", "1", "--duration", "3", "--token", OPERATOR_TOKEN, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def server():
    if not LOAD.exists():
        pytest.skip("sluice-load is not built: make test-e2e builds it")
    with Server(environment=LIMITS) as server:
        yield server


@pytest.mark.parametrize("options", [
    ["--codec", "VP8"],
    ["--codec", "H264"],
    ["--srtp", "cm"],
    # Packets that differ by a byte: padded on the way, and taken apart again.
    ["--bitrate", "2590800"],
    ["--no-audio", "--packet-size", "500", "--keyframe-factor", "6"],
], ids=" ".join)
def test_every_payload_arrives_as_it_was_sent(server, options):
    result = run(server, "--viewers", 20, "--verify", 20, *options)
    assert result["connected"] == result["withPicture"] == 20
    assert result["payloadsCorrupt"] == 0 and result["payloadsVerified"] == result["packetsReceived"] > 0
    assert result["lossPercent"] == 0 and result["brokenFrames"] == result["halfFrames"] == 0
    assert 0 < result["leastDeliveredPercent"] <= result["mostDeliveredPercent"]
    # Of what was sent in the measured time: what a busy machine delivers a moment later does not count.
    figure("the least delivered", result["leastDeliveredPercent"], at_least=99, unit="%")
    figure("the most delivered", result["mostDeliveredPercent"], at_most=103, unit="%")
    profile = "SRTP_AES128_CM_HMAC_SHA1_80" if "cm" in options else "SRTP_AEAD_AES_128_GCM"
    assert result["profile"] == profile


def test_a_conference_over_two_workers(server):
    result = run(server, "--publishers", 4, "--viewers", 4, "--streams", 3, "--verify", 4)
    assert result["viewers"] == result["connected"] == result["withPicture"] == 12
    assert result["payloadsCorrupt"] == 0 and result["payloadsVerified"] == result["packetsReceived"]
    assert result["lossPercent"] == 0


def test_what_viewers_lose_they_ask_for_again(server):
    result = run(server, "--viewers", 10, "--loss", 0.05)
    assert 3 < result["lossPercent"] < 7
    assert result["retransmissions"] > 0 and result["payloadsCorrupt"] == 0


@pytest.mark.uninstrumented
def test_joining_viewers_cost_the_others_nothing(server):
    result = run(server, "--viewers", 300, "--first-viewers", 50)
    assert result["withPicture"] == 300
    figure("300 join: all have a picture", result["timeToPicture"]["maximum"] / 1000, at_most=5)
    figure("300 join: lost by those there before", result["lostByFirstViewers"], at_most=0, unit="packets")
    figure("300 join: keyframe requests", result["keyframeRequests"], at_most=3, unit="")


@pytest.mark.parametrize("options, complaint", [
    (["--viewers", "0"], "--viewers is 1 to 100000"),
    (["--streams", "2"], "--streams is 1 to the number of publishers"),
    (["--whip", "http://127.0.0.1:1/x/whip"], "sluice-load:"),
    (["--server-pid", "99999999"], "there is no process 99999999"),
], ids=lambda value: value if isinstance(value, str) else None)
def test_says_what_is_wrong(options, complaint):
    done = subprocess.run([str(LOAD), "--quiet", *options], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and complaint in done.stderr
