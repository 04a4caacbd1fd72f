"""Ten thousand wrong tokens a second from one address: who joins from another hardly notices.

The flooder, the server and who joins share the machine's processors, so that the flooder slows others by its own work. What is compared
is therefore a flood of the server with a flood of a listener in the flooder's own process, which takes the same work of it; without any
flood is measured as well, and printed. Rounds of all kinds take turns, and each is compared with its neighbours: what else goes on on
the machine meets all alike, but not evenly, so that a comparison that fails is made again, three times in all."""

import asyncio
import os
import statistics
import time

import pytest

from patience import figure
from raw_websocket import RawWebSocket
from sluice import Server
from test_tokens import SECRET, token
from token_flooder import FlooderProcess

RATE = 10_000
JOINER = "127.0.0.3"
ROUNDS = 5
JOINS = 40
ATTEMPTS = 3
MOST = 1.10
FLOODS = ["http", "websocket"]
# A connection for each token is a flood of connections, which takes most of its time in the kernel, whatever it carries: it is measured
# and printed, and nothing is promised of it.
PRINTED = ["calm", "sink", *FLOODS, "connections"]
LIMITS = {"SESSIONS_PER_ADDRESS_PER_MINUTE": "1000000", "PEERS_PER_ADDRESS": "1000"}


@pytest.fixture(scope="module")
def guarded():
    environment = {f"SLUICE_LIMITS_{name}": value for name, value in LIMITS.items()}
    environment |= {"SLUICE_AUTH_MODE": "token", "SLUICE_AUTH_SECRET": SECRET}
    with Server(environment=environment, log_level="info") as server:
        yield server


async def join(server, bearer):
    """Seconds from nothing to being in a room."""
    started = time.perf_counter()
    ws = await RawWebSocket.open(server.http_port, JOINER)
    reply = await ws.request("join", room="flooded", token=bearer)
    seconds = time.perf_counter() - started
    assert reply["type"] == "joined", reply
    assert (await ws.request("leave"))["type"] == "left"
    ws.abort()
    return seconds


async def joins(server, bearer):
    times = []
    for _ in range(JOINS):
        times.append(await join(server, bearer))
        await asyncio.sleep(0.005)
    return statistics.median(times)


def processor_seconds(server):
    with open(f"/proc/{server.process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def one_round(server, bearer, kind):
    """Median seconds of a join, the flooder's figures, and the share of a processor that the server takes."""
    if kind == "calm":
        return await joins(server, bearer), None, 0
    with FlooderProcess(kind, server.http_port, RATE) as flooder:
        busy, started = processor_seconds(server), time.monotonic()
        median = await joins(server, bearer)
        share = (processor_seconds(server) - busy) / (time.monotonic() - started)
    return median, flooder.figures, share


async def compare(server, bearer):
    """How many times as long a join takes in each flood as beside the flooder alone."""
    results = {kind: [] for kind in PRINTED}
    for _ in range(ROUNDS):
        for kind in results:
            results[kind].append(await one_round(server, bearer, kind))
    alone = [median for median, _, _ in results["sink"]]
    ratios = {}
    for kind, rounds in results.items():
        medians = [median for median, _, _ in rounds]
        ratios[kind] = statistics.median(median / other for median, other in zip(medians, alone))
        told = f"{kind}: a join takes {statistics.median(medians) * 1000:.2f} ms, {ratios[kind]:.3f} times as long as beside a sink"
        if rounds[0][1]:
            for name in rounds[0][1]:
                told += f", {statistics.median(figures[name] for _, figures, _ in rounds):.0f} {name} a second"
            told += f", the server takes {statistics.median(share for _, _, share in rounds):.2f} processors"
        print(told)
    return ratios, results


@pytest.mark.uninstrumented
@pytest.mark.asyncio
async def test_wrong_tokens_slow_nobody_elses_joins(guarded):
    bearer = token()
    await joins(guarded, bearer)
    for attempt in range(ATTEMPTS):
        ratios, results = await compare(guarded, bearer)
        sent = {kind: max(figures["sent"] for _, figures, _ in results[kind]) for kind in FLOODS}
        if all(ratios[kind] <= MOST for kind in FLOODS):
            break
    for kind in FLOODS:
        figure(f"a join beside a flood of wrong tokens by {kind}", ratios[kind], at_most=MOST, unit="times as long")
        figure(f"wrong tokens by {kind}", sent[kind], at_least=RATE / 4, unit="a second")
        assert sent[kind] > 0


@pytest.mark.asyncio
async def test_an_address_that_guesses_is_cut_short(guarded):
    """Requests with a token are refused one a connection, and those connections are few; who has no token is served."""
    with FlooderProcess("connections", guarded.http_port, RATE) as flooder:
        await asyncio.sleep(1.5)
        figure("a join while another address guesses tokens", await join(guarded, token()), at_most=1)
    print(flooder.figures)
    assert flooder.figures["answered"] < 80 < flooder.figures["connections"]
    await asyncio.sleep(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.http_port, local_addr=("127.0.0.2", 0))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"ok\n"), 10)
    writer.write(b"POST /a/b/whep HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer wrong\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert b"429" in answer and b"Connection: close" in answer, "and then the connection is closed"
    writer.close()
    ws = await RawWebSocket.open(guarded.http_port, "127.0.0.2")
    assert (await ws.request("join", room="flooded", token="wrong"))["code"] == "rate-limited"
    assert await ws.end() == 1008
    ws.abort()
