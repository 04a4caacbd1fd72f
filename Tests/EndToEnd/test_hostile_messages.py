"""Clients that break the control WebSocket's rules: each gets an error or a close that says why, memory stays bounded, and another
room notices nothing of it."""

import asyncio
import collections
import contextlib
import os
import random
import socket
import struct

import pytest
import pytest_asyncio

import hostile_messages
import protocol
from bystanders import bystanders
from patience import PATIENCE, figure, last_moment
from raw_websocket import (BINARY, CLOSE, CONTINUATION, DOCUMENTED, HANDSHAKE, PING, PONG, TEXT, Closed, RawWebSocket, frame, text)
from sluice import Server
from test_rooms import client

SEED = int(os.environ.get("SLUICE_SEED", "20251125"))
# They come from another address than everybody else.
HOSTILE = "127.0.0.2"
SILENCE = round(3 * PATIENCE)
# A round trip of others in the worst of a hundred cases, in seconds: the machine has two cores for the server and all clients.
SLOWEST = 0.25
MB = 1 << 20


@pytest.fixture(scope="module")
def besieged():
    limits = {"PEERS_PER_ADDRESS": "100", "SESSIONS_PER_ADDRESS_PER_MINUTE": "1000000", "CONTROL_SILENCE": f"{SILENCE}s",
              "HTTP_IDLE": "5s"}
    environment = {f"SLUICE_LIMITS_{name}": value for name, value in limits.items()}
    # What malloc keeps in an arena of each thread comes and goes by tens of megabytes, and would hide what grows.
    with Server(environment=environment | {"MALLOC_ARENA_MAX": "1"}) as server:
        yield server
        assert server.stop() == 0


@pytest_asyncio.fixture
async def others(besieged):
    """Two who talk all the while, and what has to be true in the end."""
    files = open_files(besieged)
    async with bystanders(besieged) as talk:
        yield talk
    figure("others' round trip, the slowest of a hundred", talk.slowest_of_hundred, at_most=SLOWEST)
    reader, writer = await asyncio.open_connection("127.0.0.1", besieged.http_port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    async with client(besieged) as ann:
        assert (await ann.request("join", room="after"))["type"] == "joined"
        assert (await ann.request("leave"))["type"] == "left"
    await until_files(besieged, files)


def open_files(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


async def until_files(server, count):
    """Waits until every connection of the hostile ones is gone."""
    async with asyncio.timeout(last_moment(15)):
        while open_files(server) > count + 5:
            await asyncio.sleep(0.1)


def hostile(server, **options):
    return RawWebSocket.open(server.http_port, HOSTILE, **options)


class Growth:
    """The server's memory in rounds: what it takes at most, and whether it goes on growing."""

    def __init__(self, server):
        self.server = server
        self.sizes = [server.resident_bytes()]

    def note(self):
        self.sizes.append(self.server.resident_bytes())

    def check(self, most, later):
        """- most: bytes that may be added in all. - later: and after half of the rounds."""
        grown = [size - self.sizes[0] for size in self.sizes]
        print("resident MB:", ", ".join(f"{size / MB:.1f}" for size in self.sizes))
        if PATIENCE > 1:  # A sanitizer keeps what was freed.
            return
        assert max(grown) < most
        assert grown[-1] - grown[len(grown) // 2] < later


# Long messages


def long_messages():
    """Messages of the largest size, each made to be dear in its own way."""
    session = hostile_messages.OFFER.split("m=")[0] + "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n" \
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"
    video = "m=video 9 UDP/TLS/RTP/SAVPF {types}\r\na=mid:{mid}\r\na=rtcp-mux\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n"
    many = "".join(video.format(types=96, mid=mid) for mid in range(199))
    room = 200_000 - len(many)
    group = "a=group:BUNDLE " + " ".join(map(str, range(199))) + "\r\n"
    for sdp in [
        session + group + "a=extmap:1 u\r\n" * (room // 14) + many,
        session + "a=group:BUNDLE" + "".join(f" {number}" for number in range(1000, 1000 + room // 6)) + "\r\n" + many,
        session + group + "".join(video.format(types=" ".join(["97"] * 128), mid=mid) + "a=rtpmap:97 rtx/90000\r\na=fmtp:97 "
                                  + "a;" * 300 + "\r\n" for mid in range(170)),
        session + group + many + "".join(f"a=rid:{number} send\r\n" for number in range(1000)) + "a=simulcast:send 0"
        + "".join(f";{number}" for number in range(1, room // 8)) + "\r\n",
        session + "a=e" + "\u0301" * (room // 8) + "\r\n" + group + many,
    ]:
        for fields in [{"type": "publish", "streams": [{"stream": "x", "mids": ["0"]}]}, {"type": "answer"}]:
            yield fields | {"sdp": sdp}
    yield {"type": "publish", "x": [1e9] * 17_000}


@pytest.mark.asyncio
async def test_long_messages_are_answered_and_others_do_not_wait(besieged, others):
    async def say(number):
        ws = await hostile(besieged)
        try:
            await ws.request("join", room=f"long-{number}")
            for place, message in enumerate(long_messages()):
                ws.send(text(message | {"id": place}))
                async with asyncio.timeout(last_moment(10)):
                    while (reply := await ws.message()).get("id") != place:
                        pass
                assert reply["type"] in ("answer", "error"), reply
        finally:
            ws.abort()
    await asyncio.gather(*[say(number) for number in range(8)])


# Fuzzed messages

SOCKETS = 16
ROUNDS = 24
MESSAGES = 60


async def say_nonsense(server, seed):
    """Sends messages over one socket until it is closed or all are answered. Returns what came back."""
    generator = random.Random(seed)
    counts = {"sent": 0, "error": 0, "ok": 0, "other": 0, "closed": 0}
    ws = await hostile(server)
    try:
        if generator.random() < 0.8:
            await ws.request("join", room=f"nonsense-{seed}")
        expected, last = set(), None
        for number in range(1, MESSAGES):
            data, identifier = hostile_messages.message(generator, number)
            ws.send(frame(TEXT, data))
            counts["sent"] += 1
            last = data
            if identifier is not None:
                expected.add(identifier)
        ws.send(text({"type": "ping", "id": "the last"}))
        async with asyncio.timeout(last_moment(30)):
            while (message := await ws.message()).get("id") != "the last":
                protocol.check("server", message)
                expected.discard(message.get("id"))
                counts[message["type"] if message["type"] in counts else "other"] += 1
        assert not expected, f"seed {seed}: no reply to {expected}, the last was {last[:200]}"
    except Closed as closed:
        assert closed.code in DOCUMENTED and (closed.reason or closed.code == 1000), (seed, closed)
        counts["closed"] += 1
    finally:
        ws.abort()
    return counts


@pytest.mark.asyncio
async def test_fuzzed_messages_are_refused_one_by_one(besieged, others):
    print(f"seed {SEED}")
    growth = Growth(besieged)
    total = {}
    for number in range(ROUNDS):
        seeds = range(SEED + number * SOCKETS, SEED + (number + 1) * SOCKETS)
        for counts in await asyncio.gather(*[say_nonsense(besieged, seed) for seed in seeds]):
            total = {kind: total.get(kind, 0) + count for kind, count in counts.items()}
        growth.note()
    print(total)
    assert total["error"] > total["sent"] / 3 and total["ok"] > 100 and total["closed"] < SOCKETS * ROUNDS
    growth.check(most=40 * MB, later=10 * MB)


# Frames

HELLO = text({"type": "hello", "id": 1})
LONG = b"x" * 300_000
WRONG_FRAMES = [
    ("unmasked", frame(TEXT, b"{}", masked=False), 1002),
    ("unmasked close", frame(CLOSE, b"\x03\xe8", masked=False), 1002),
    ("compressed bit", frame(TEXT, b"{}", reserved=4), 1002),
    ("reserved bits", frame(TEXT, b"{}", reserved=3), 1002),
    ("unknown opcode", frame(3, b"{}"), 1002),
    ("unknown control opcode", frame(11), 1002),
    ("long ping", frame(PING, b"x" * 126), 1002),
    ("fragmented ping", frame(PING, b"x", fin=False), 1002),
    ("long close", frame(CLOSE, b"\x03\xe8" + b"x" * 200), 1002),
    ("continuation of nothing", frame(CONTINUATION, b"{}"), 1002),
    ("text within fragments", frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    ("many fragments", frame(TEXT, b" ", fin=False) + frame(CONTINUATION, b" ", fin=False) * 70, 1008),
    ("empty fragments", frame(TEXT, b"", fin=False), 1008),
    ("long fragments", frame(TEXT, LONG[:150_000], fin=False) + frame(CONTINUATION, LONG[:150_000]), 1009),
    ("long frame", frame(TEXT, LONG), 1009),
    ("a length of 2^62", frame(TEXT, b"{}", length=1 << 62), 1009),
    ("a length of 2^64 - 1", frame(TEXT, b"{}", length=(1 << 64) - 1), 1009),
    ("binary", frame(BINARY, b"{}"), 1003),
    ("not UTF-8", text(b'{"type":"\xff"}'), 1007),
    ("half a character", text(b'{"type":"\xe2\x82'), 1007),
    ("many messages", HELLO * 300, 1008),
    ("many pings", frame(PING, b"x" * 125) * 300, 1008),
    ("many pongs", frame(PONG) * 300, 1008),
    ("close", frame(CLOSE, b"\x03\xe8"), 1000),
    ("close of one byte", frame(CLOSE, b"\x03"), 1000),
    ("close with a code that is none", frame(CLOSE, b"\x00\x00"), 1000),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("sent,code", [case[1:] for case in WRONG_FRAMES], ids=[case[0] for case in WRONG_FRAMES])
async def test_wrong_frames_are_closed_with_the_reason(besieged, sent, code):
    ws = await hostile(besieged)
    ws.send(HELLO + sent)
    assert await ws.end() == code
    ws.abort()


@pytest.mark.asyncio
async def test_fragments_are_put_together(besieged):
    ws = await hostile(besieged)
    message = '{"type":"hello","id":"é"}'.encode()
    place = message.index(b"\xc3") + 1
    ws.send(frame(TEXT, message[:place], fin=False) + frame(PING, b"between") + frame(CONTINUATION, message[place:]))
    assert await ws.frame() == (PONG, b"between")
    assert (await ws.message())["id"] == "é"
    ws.abort()


@pytest.mark.asyncio
async def test_bytes_at_random_are_closed_with_the_reason(besieged, others):
    generator = random.Random(SEED)

    async def babble():
        ws = await hostile(besieged)
        ws.send(b"".join(random_frame(generator) for _ in range(generator.randint(1, 12))))
        # What is no whole frame waits for its rest; a close is waited for where it has to come.
        ws.send(frame(CLOSE))
        with contextlib.suppress(TimeoutError):
            codes.append(await ws.end(SILENCE * 3))
        ws.abort()
    codes = []
    for _ in range(8):
        await asyncio.gather(*[babble() for _ in range(40)])
    assert len(codes) == 320 and set(codes) <= DOCUMENTED, collections.Counter(codes)


def random_frame(generator):
    # What comes after a close is nobody's to answer: there is none among them.
    if generator.random() < 0.2:
        return bytes([generator.choice([0, 1, 0x81, 0xC1, 0xFF])]) + generator.randbytes(generator.randint(0, 400))
    opcode = generator.choice([TEXT, TEXT, CONTINUATION, PING, PONG, 3, 7, 11, 15])
    return frame(opcode,
                 generator.randbytes(generator.choice([0, 1, 125, 126, 5000])), fin=generator.random() < 0.7,
                 reserved=generator.choice([0, 0, 0, 1, 4]), masked=generator.random() < 0.9)


# Half-open ones

async def raw(server, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port, local_addr=(HOSTILE, 0))
    writer.write(data)
    return reader, writer


async def is_ended(reader, seconds):
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(seconds):
            while await reader.read(65_536):
                pass


@pytest.mark.asyncio
async def test_half_open_sockets_are_let_go(besieged, others):
    growth = Growth(besieged)
    silent = [await raw(besieged, data) for data in [b"", b"GET /v1/ws HT", HANDSHAKE[:-2], b"POST /a/b/whip HTTP/1.1\r\n"] * 15]
    strangers = [await hostile(besieged) for _ in range(60)]
    deaf = [await hostile(besieged) for _ in range(40)]
    for ws in deaf:
        await ws.request("join", room="half-open")
    vanished = [await hostile(besieged) for _ in range(60)]
    for number, ws in enumerate(vanished):
        await ws.request("join", room="vanished")
        ws.send(HELLO[:number % len(HELLO)])
        # The connection ends without a FIN: a reset, and no word more.
        ws.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ws.abort()
    # Who never joins, and who answers no ping, is told so. Those who never got as far as a WebSocket are closed.
    assert set(await asyncio.gather(*[ws.end(last_moment(SILENCE * 4)) for ws in strangers])) == {1008}
    assert set(await asyncio.gather(*[ws.end(last_moment(SILENCE * 4)) for ws in deaf])) == {1008}
    await asyncio.gather(*[is_ended(reader, last_moment(15)) for reader, _ in silent])
    for _, writer in silent:
        writer.transport.abort()
    growth.note()
    growth.check(most=40 * MB, later=40 * MB)


@pytest.mark.asyncio
async def test_one_address_has_so_many_connections(besieged, others):
    allowed, more = 400, 40
    before = open_files(besieged)
    connections = [await raw(besieged, b"") for _ in range(allowed + more)]
    async with asyncio.timeout(last_moment(4)):
        # Before they are idle for too long.
        while sum(reader.at_eof() for reader, _ in connections) < more:
            await asyncio.sleep(0.05)
    assert sum(reader.at_eof() for reader, _ in connections) == more and open_files(besieged) <= before + allowed
    async with client(besieged) as ann:
        assert (await ann.request("hello"))["type"] == "welcome", "others may connect"
    for _, writer in connections:
        writer.transport.abort()
    await until_files(besieged, before)
    ws = await hostile(besieged)
    assert (await ws.request("hello"))["type"] == "welcome"
    ws.abort()


# Slow readers

SLOW = 40
FLOODERS = 10


async def flood(server, room, ready, stop):
    """Sends at the rate that is allowed, and reads what comes back. Where the machine is slow and it falls behind itself, it is let go too,
    and comes back."""
    message = text({"type": "message", "data": "x" * 16_000})
    while not stop.is_set():
        ws = await hostile(server)
        await ws.request("join", room=room)
        ready.release()
        reading = asyncio.ensure_future(ws.end(1000))
        # 16 KB count as four messages, of which there may be 100 at once and 20 in a second.
        for _ in range(23):
            ws.send(message)
        while not stop.is_set() and not reading.done():
            ws.send(message)
            with contextlib.suppress(ConnectionError):
                await ws.writer.drain()
            await asyncio.sleep(0.22)
        reading.cancel()
        ws.abort()


@pytest.mark.asyncio
async def test_slow_readers_are_let_go_and_cost_little(besieged, others):
    """Nobody of them reads, and each is told more than the kernel keeps: they are closed, and memory doesn't grow with each round."""
    growth = Growth(besieged)
    for number in range(3):
        slow = []
        for _ in range(SLOW):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.bind((HOSTILE, 0))
            connection.connect(("127.0.0.1", besieged.http_port))
            reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            ws = RawWebSocket(reader, writer)
            await ws.request("join", room=f"slow-{number}", role="view")
            slow.append(ws)
            # From now on it doesn't read, but gives signs of life.
            writer.transport.pause_reading()
        stop, ready = asyncio.Event(), asyncio.Semaphore(0)
        # They hear each other too, and read.
        tasks = [asyncio.ensure_future(flood(besieged, f"slow-{number}", ready, stop)) for _ in range(FLOODERS)]
        for _ in tasks:
            await ready.acquire()
        most = besieged.resident_bytes()
        files = open_files(besieged)
        async with asyncio.timeout(last_moment(40)):
            while open_files(besieged) > files - SLOW:
                for ws in slow:
                    ws.send(frame(PONG))
                most = max(most, besieged.resident_bytes())
                await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(*tasks)
        for ws in slow:
            ws.abort()
        await until_files(besieged, files - SLOW - FLOODERS)
        growth.sizes.append(most)
    # Each has 4 MB that wait at most; what the allocator keeps comes on top.
    growth.check(most=(SLOW * 4 + 60) * MB, later=30 * MB)
