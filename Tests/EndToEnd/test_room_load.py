"""A room of 20 publishers and up to 500 viewers: what a join costs, and how much everybody is told of it.

Publishers send one picture and one audio packet a second: each viewer is forwarded all forty tracks, and the server's CPU is mostly
that of joining, which is WebSocket, JSON, SDP, ICE and DTLS together.
"""

import json
import pathlib
import subprocess

import pytest

from sluice import OPERATOR_TOKEN, Server

LOAD = pathlib.Path(__file__).resolve().parents[2] / ".build" / "release" / "sluice-load"
LIMITS = {"SLUICE_LIMITS_PEERS_PER_ADDRESS": "1000", "SLUICE_LIMITS_SESSIONS_PER_ADDRESS_PER_MINUTE": "10000"}
PUBLISHERS = 20
QUIET_MEDIA = ["--fps", 1, "--bitrate", 10_000, "--packet-size", 1400, "--audio-rate", 1]
JOINING = ["--join-rate", 40, "--parallel-joins", 4, "--measured-joins", 50]


def run(*arguments):
    command = [str(part) for part in [LOAD, "--quiet", *arguments]]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def fill_room(viewers):
    """What the load generator reports of one room, on a server of its own."""
    if not LOAD.exists():
        pytest.skip("sluice-load is not built: make test-e2e builds it")
    with Server(environment=LIMITS, log_level="info") as server:
        done = run("--websocket", f"ws://127.0.0.1:{server.http_port}/v1/ws", "--token", OPERATOR_TOKEN, "--json",
                   "--server-pid", server.process.pid, "--publishers", PUBLISHERS, "--viewers", viewers,
                   "--warm-up", 0, "--duration", 2, *QUIET_MEDIA, *JOINING)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["connected"] == result["withPicture"] == viewers
    assert result["leastStreams"] == PUBLISHERS and result["payloadsCorrupt"] == 0
    return result


def in_all(result, what):
    return sum(traffic[what] for traffic in result["messages"].values())


@pytest.mark.uninstrumented
def test_a_join_costs_the_same_whoever_is_there_already():
    half, full = fill_room(250), fill_room(500)

    first, last = full["joinCosts"]["first"], full["joinCosts"]["last"]
    print(json.dumps(full["joinCosts"], indent=1), json.dumps(full["messages"], indent=1))
    assert first["serverMillisecondsPerJoin"] < 20 and last["serverMillisecondsPerJoin"] < 20
    assert last["serverMillisecondsPerJoinAlone"] < 2 * first["serverMillisecondsPerJoinAlone"]

    # Twice the viewers, twice the messages. They would be four times as many if each were told of each.
    print(in_all(half, "messages"), in_all(full, "messages"))
    assert in_all(full, "messages") < 2.4 * in_all(half, "messages")
    assert in_all(full, "bytes") < 2.2 * in_all(half, "bytes")
    # Each viewer costs one of each, and what he is told of others is a few messages.
    assert full["messages"]["joined"]["messages"] == PUBLISHERS + 500
    assert full["messages"]["offer"]["messages"] == full["messages"]["ok"]["messages"] == 500
    assert full["messages"]["peer-joined"]["messages"] < 20 * 500


@pytest.mark.parametrize("options, complaint", [
    (["--websocket", "ws://127.0.0.1:1/v1/ws", "--janus", "http://127.0.0.1:1"], "--websocket goes without --janus"),
    (["--websocket", "http://127.0.0.1:1/v1/ws"], "is no address of a WebSocket"),
    (["--websocket", "ws://127.0.0.1:1/v1/ws"], "sluice-load:"),
    (["--measured-joins", 10], "--measured-joins needs --server-pid"),
], ids=lambda value: value if isinstance(value, str) else None)
def test_says_what_is_wrong(options, complaint):
    if not LOAD.exists():
        pytest.skip("sluice-load is not built: make test-e2e builds it")
    done = run(*options)
    assert done.returncode != 0 and complaint in done.stderr


def test_a_server_that_serves_no_websocket_there_is_told_apart(server):
    done = run("--websocket", f"ws://127.0.0.1:{server.http_port}/healthz", "--viewers", 1)
    assert done.returncode != 0 and "is not served as a WebSocket" in done.stderr
