"""A room of 20 publishers and up to 500 viewers: what a join costs, and how much everybody is told of it.

Publishers send one picture and one audio packet a second: each viewer is forwarded all forty tracks, and the server's CPU is mostly
that of joining, which is WebSocket, JSON, SDP, ICE and DTLS together.
"""

import asyncio
import json
import os
import pathlib
import subprocess
import time

import aiohttp
import pytest

from patience import figure, until
from sluice import OPERATOR_TOKEN, Server
from test_rooms import OFFER, client

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
    for which in (first, last):
        figure("the server's processor for a join", which["serverMillisecondsPerJoin"], at_most=20, unit="ms")
    growth = last["serverMillisecondsPerJoinAlone"] / first["serverMillisecondsPerJoinAlone"]
    figure("the 451st to 500th join", growth, at_most=2, unit="times the first fifty")

    # Twice the viewers, twice the messages. They would be four times as many if each were told of each.
    print(in_all(half, "messages"), in_all(full, "messages"))
    assert in_all(full, "messages") < 2.4 * in_all(half, "messages")
    assert in_all(full, "bytes") < 2.2 * in_all(half, "bytes")
    # Each viewer costs one of each, and what he is told of others is a few messages.
    assert full["messages"]["joined"]["messages"] == PUBLISHERS + 500
    assert full["messages"]["offer"]["messages"] == full["messages"]["ok"]["messages"] == 500
    assert full["messages"]["peer-joined"]["messages"] < 20 * 500


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.uninstrumented
@pytest.mark.asyncio
async def test_a_publisher_who_comes_late_costs_each_viewer_one_offer():
    """His own join costs what all do; each viewer gets an offer of another m-line, and answers it."""
    viewers = 200
    with Server(environment=LIMITS, log_level="info") as server:
        load = await asyncio.create_subprocess_exec(
            *[str(part) for part in [LOAD, "--quiet", "--websocket", f"ws://127.0.0.1:{server.http_port}/v1/ws", "--token", OPERATOR_TOKEN,
              "--json", "--server-pid", server.process.pid, "--publishers", PUBLISHERS, "--viewers", viewers, "--warm-up", 0,
              "--duration", 12, *QUIET_MEDIA, *JOINING[:4]]], stdout=asyncio.subprocess.PIPE)

        async def statistics():
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"}) as http:
                async with http.get(f"{server.url}/v1/stats") as response:
                    return await response.json()

        async def all_are_there():
            return (await statistics())["totals"]["subscriptions"] == viewers * PUBLISHERS * 2
        await until(all_are_there, 30, "all viewers receive everything")
        before = cpu_seconds(server.process)
        await asyncio.sleep(2)
        quiet = (cpu_seconds(server.process) - before) / 2
        async with client(server) as late:
            room = (await statistics())["streams"][0]["room"]
            await late.request("join", room=room, token=OPERATOR_TOKEN, policy="none")
            before, started = cpu_seconds(server.process), time.monotonic()
            assert (await late.request("publish", sdp=OFFER, streams=[{"stream": "late", "mids": ["0"]}]))["type"] == "answer"

            async def all_receive_it():
                return (await statistics())["totals"]["subscriptions"] == viewers * (PUBLISHERS * 2 + 1)
            await until(all_receive_it, 10, "all viewers receive the late one")
            used = cpu_seconds(server.process) - before - quiet * (time.monotonic() - started)
        output, _ = await load.communicate()
    result = json.loads(output)
    assert result["messages"]["offer"]["messages"] == 2 * viewers
    figure(f"a late publisher, for each of {viewers} viewers", used * 1000 / viewers, at_most=5, unit="ms")


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
