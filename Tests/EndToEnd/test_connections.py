"""What HTTP connections may be: kept alive, upgraded late, refused and gone on with, many at a time, and of which clients."""

import asyncio
import contextlib
import os
import re
import resource
import shutil
import socket
import ssl
import struct
import subprocess
import time
import urllib.request

import pytest

import raw_websocket
from patience import figure, wait_for
from raw_http import UPGRADE, RawHTTP
from raw_websocket import RawWebSocket
from sluice import ROOT, Server
from test_command_line import make_certificate
from test_tokens import OFFER, SECRET, token

# MARK: upgrades


async def speaks(raw):
    """Whether the connection is a control WebSocket now."""
    raw.socket.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=raw.socket)
    reader.feed_data(raw.rest)
    one = RawWebSocket(reader, writer)
    welcome = await asyncio.wait_for(one.request("hello"), 20)
    one.abort()
    return welcome["type"] == "welcome"


@pytest.mark.asyncio
@pytest.mark.parametrize("before", [0, 1, 5])
async def test_any_request_of_a_connection_may_become_a_websocket(server, before):
    with RawHTTP(server.http_port) as raw:
        for _ in range(before):
            assert raw.get("/healthz")[0] == 200
        raw.send(UPGRADE)
        status, headers = raw.head()
        assert status == 101 and headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert headers["sec-websocket-protocol"] == "sluice.v1"
        assert await speaks(raw)


@pytest.mark.asyncio
async def test_what_a_client_sends_behind_its_upgrade_is_read(server):
    """A client needn't wait, nor does a request before it have to be answered yet, nor do bytes come as they were sent."""
    hello = raw_websocket.text({"type": "hello", "id": 7})
    for parts in ([b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + UPGRADE + hello],
                  [UPGRADE[:40], UPGRADE[40:] + hello[:3], hello[3:]], [UPGRADE + hello + hello]):
        with RawHTTP(server.http_port) as raw:
            for part in parts:
                raw.send(part)
                await asyncio.sleep(0.05)
            status, _, _ = raw.response()
            if status == 200:
                status, _, _ = raw.response()
            assert status == 101
            wanted = max(1, b"".join(parts).count(hello))
            while raw.rest.count(b"welcome") < wanted:
                data = raw.socket.recv(4096)
                assert data, "closed"
                raw.rest += data


REFUSED = {
    "another protocol": (b"Connection: Upgrade\r\nUpgrade: h2c\r\n", "/v1/ws", 426),
    "another path": (UPGRADE.split(b"\r\n", 2)[2].rstrip() + b"\r\n", "/healthz", 200),
    "no such path": (UPGRADE.split(b"\r\n", 2)[2].rstrip() + b"\r\n", "/nothing/at/all", 404),
    "no subprotocol": (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "/v1/ws", 426),
    "another version": (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
                        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sluice.v1\r\n", "/v1/ws", 426),
    "curl's wish for HTTP/2": (b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
                               "/healthz", 200),
    "upgrade without Connection": (b"Upgrade: websocket\r\n", "/v1/ws", 426),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("wish", REFUSED)
@pytest.mark.parametrize("before", [0, 1])
async def test_a_connection_goes_on_after_a_refused_upgrade(server, wish, before):
    lines, path, expected = REFUSED[wish]
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode() + lines + b"\r\n"
    with RawHTTP(server.http_port) as raw:
        for _ in range(before):
            assert raw.get("/healthz")[0] == 200
        for _ in range(3):
            raw.send(request)
            assert raw.response()[0] == expected
        # Also what came together with it.
        raw.send(request + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea")
        assert [raw.response()[0], raw.response()[0]] == [expected, 200]
        raw.send(b"lthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.response()[0] == 200
        raw.send(UPGRADE)
        assert raw.head()[0] == 101 and await speaks(raw)


def test_foreign_pages_are_refused_and_their_connections_go_on():
    with Server(environment={"SLUICE_HTTP_ALLOWED_ORIGINS": "https://own.example"}) as server, RawHTTP(server.http_port) as raw:
        for _ in range(2):
            raw.send(UPGRADE.replace(b"Host: x", b"Host: x\r\nOrigin: https://foreign.example"))
            assert raw.response()[0] == 403
            assert raw.get("/healthz")[0] == 200
        raw.send(UPGRADE.replace(b"Host: x", b"Host: x\r\nOrigin: https://own.example"))
        assert raw.head()[0] == 101


def test_connect_and_bodies_with_upgrades_hold_nothing_up(server):
    with RawHTTP(server.http_port) as raw:
        raw.send(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
        assert raw.response()[0] >= 400
    with RawHTTP(server.http_port) as raw:
        raw.send(b"POST /s/whep HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nv=0")
        assert raw.response()[0] == 404
        assert raw.get("/healthz")[0] == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "behind another request"])
async def test_a_websocket_that_closes_half_is_still_told_something(server, before):
    # More than once: who waits for requests sees the end at the same time.
    for _ in range(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        writer.write(before + UPGRADE)
        while not (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).startswith(b"HTTP/1.1 101"):
            await reader.readexactly(3)
        one = RawWebSocket(reader, writer)
        for number in range(20):
            one.send(raw_websocket.text({"type": "hello", "id": number}))
        one.writer.write_eof()
        assert [(await one.message())["id"] for _ in range(20)] == list(range(20))
        assert await one.end() == 1000
        # It closes its half as well.
        assert await asyncio.wait_for(one.reader.read(), 20) == b""
        one.abort()


@pytest.mark.asyncio
@pytest.mark.parametrize("fragments", [1, 5])
async def test_strangers_have_no_long_messages(server, fragments):
    """Neither in one frame nor in pieces; a client that has joined may send descriptions."""
    async def send(one, size):
        piece = size // fragments
        for number in range(fragments):
            opcode = raw_websocket.TEXT if number == 0 else raw_websocket.CONTINUATION
            one.send(raw_websocket.frame(opcode, b" " * piece, fin=number == fragments - 1))
            await one.writer.drain()

    stranger = await RawWebSocket.open(server.http_port)
    await send(stranger, 30_000)
    assert (await stranger.message())["code"] == "bad-request", "no JSON, but not too long"
    with contextlib.suppress(ConnectionError):
        await send(stranger, 40_000)
    assert await stranger.end() == 1009
    stranger.abort()
    # Told from the frame's head, before its content has come.
    stranger = await RawWebSocket.open(server.http_port)
    stranger.send(raw_websocket.frame(raw_websocket.TEXT, b"", length=32 * 1024 + 1))
    assert await stranger.end() == 1009
    stranger.abort()
    # As soon as they are told, more than once: what follows `joined` at once is theirs.
    for attempt in range(20):
        guest = await RawWebSocket.open(server.http_port)
        assert (await guest.request("join", room="long"))["type"] == "joined"
        await send(guest, 200_000)
        # Events of the room come in between.
        while (answer := await guest.message())["type"] != "error":
            pass
        assert answer["code"] == "bad-request"
        if attempt < 19:
            guest.abort()
    assert (await guest.request("ping"))["type"] == "pong"
    with contextlib.suppress(ConnectionError):
        await send(guest, 300_000)
    assert await guest.end() == 1009
    guest.abort()


# MARK: 100-continue


def test_a_body_that_is_waited_for_is_asked_for(server):
    """RFC 9110 §10.1.1, as libcurl does with long bodies."""
    head = (f"POST /expects/whip HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: {len(OFFER)}\r\n"
            "Expect: 100-continue\r\n\r\n").encode()
    with RawHTTP(server.http_port) as raw:
        raw.send(head)
        assert raw.head()[0] == 100
        raw.send(OFFER.encode())
        status, headers, _ = raw.response()
        assert status == 201
        raw.send(f"DELETE {headers['location']} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n".encode())
        assert raw.response()[0] == 200, "no body, nothing to ask for"
        # Who doesn't wait isn't told, or is: both are fine with RFC 9110. The answer comes.
        raw.send(head + OFFER.encode())
        statuses = [raw.response()[0]]
        if statuses == [100]:
            statuses = [raw.response()[0]]
        assert statuses == [201]
    # What is refused anyway is not asked for.
    with RawHTTP(server.http_port) as raw:
        raw.send(head.replace(b"application/sdp", b"text/plain"))
        assert raw.response()[0] == 415
    # HTTP/1.0 knows no such word.
    with RawHTTP(server.http_port) as raw:
        raw.send(head.replace(b"HTTP/1.1", b"HTTP/1.0") + OFFER.encode())
        assert raw.response()[0] in (201, 409)


# MARK: descriptors


def limited(hard, **environment):
    """A server whose hard limit of open files is low, and its soft limit lower."""
    class Limited(Server):
        def start(self):
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            popen = subprocess.Popen

            def low(arguments, **options):
                return popen(["prlimit", f"--nofile={hard // 2}:{hard}", *arguments], **options)
            subprocess.Popen = low
            try:
                super().start()
            finally:
                subprocess.Popen = popen
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    return Limited(environment=environment)


def cpu_seconds(server):
    with open(f"/proc/{server.process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


@pytest.mark.parametrize("hard", [200, 400])
def test_connections_leave_descriptors_for_calls(hard):
    with limited(hard, SLUICE_LIMITS_PEERS_PER_ADDRESS="10000") as server:
        limits = open(f"/proc/{server.process.pid}/limits").read()
        assert re.search(rf"Max open files +{hard} +{hard} ", limits), limits
        assert f"from {hard // 2} to {hard}" in server.log_text() and "has room for" in server.log_text()
        before = cpu_seconds(server)
        with contextlib.ExitStack() as stack:
            kept = stack.enter_context(RawHTTP(server.http_port))
            assert kept.get("/healthz")[0] == 200
            held = []
            for _ in range(hard * 2):
                one = socket.socket()
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect(("127.0.0.1", server.http_port))
                held.append(stack.enter_context(one))
            wait_for(lambda: descriptors(server) > hard // 3, 20, "connections are accepted")
            time.sleep(2)
            assert descriptors(server) <= hard - 24, "some are left"
            # Those who were there are served, with all that opens files.
            assert kept.get("/metrics")[0] == 200
            assert re.search(rf"process_max_fds {hard}", kept.get("/metrics")[2].decode())
            # A core that spins would have taken 2 s.
            spent = cpu_seconds(server) - before
            print(f"{descriptors(server)} of {hard} descriptors")
            figure("processor time of a server with all connections taken", spent, at_most=0.5)
        # When they are gone others are let in.
        def answers():
            with RawHTTP(server.http_port, seconds=5) as raw:
                return raw.get("/healthz")[0] == 200
        wait_for(answers, 20, "others are served again")


def test_a_limit_that_is_too_low_is_explained():
    with pytest.raises(RuntimeError, match="limit of open files is 64"):
        limited(64).start()


def test_the_listener_waits_when_descriptors_run_out_all_the_same():
    """Somebody else has taken them: here the limit is lowered while it runs."""
    with Server(environment={"SLUICE_LIMITS_PEERS_PER_ADDRESS": "10000"}) as server, contextlib.ExitStack() as stack:
        kept = stack.enter_context(RawHTTP(server.http_port))
        assert kept.get("/healthz")[0] == 200
        # Everything that is opened once is open.
        assert kept.get("/metrics")[0] == 200
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (descriptors(server) + 4, hard))
        before = cpu_seconds(server)
        for _ in range(50):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", server.http_port))
        wait_for(lambda: "No connection can be accepted" in server.log_text(), 20, "it is said")
        time.sleep(2)
        spent = cpu_seconds(server) - before
        figure("processor time of a listener without descriptors", spent, at_most=0.1)
        assert kept.get("/healthz")[0] == 200
        assert server.log_text().count("No connection can be accepted") == 1
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (hard, hard))

        def answers():
            with RawHTTP(server.http_port, seconds=5) as raw:
                return raw.get("/healthz")[0] == 200
        wait_for(answers, 20, "it goes on")


# MARK: proxies


PROXY = {"SLUICE_AUTH_MODE": "token", "SLUICE_AUTH_SECRET": SECRET, "SLUICE_HTTP_TRUSTED_PROXIES": "127.0.0.1, 127.0.1.0/24"}


def guess(server, address="127.0.0.1", first=b"", **headers):
    """A guess' status: 401, or 429 when whoever it counts for is not listened to any more."""
    with RawHTTP(server.http_port, address) as raw:
        raw.send(first)
        return guess_on(raw, **headers)


def guess_on(raw, **headers):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    raw.send(f"POST /s/whip HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer guess\r\nContent-Length: 0\r\n{lines}\r\n".encode())
    return raw.response()[0]


def exhaust(server, **how):
    statuses = [guess(server, **how) for _ in range(31)]
    assert statuses == [401] * 30 + [429], statuses


@pytest.mark.parametrize("header", [
    lambda address: {"X_Forwarded_For": address},
    lambda address: {"X_Forwarded_For": f"203.0.113.99, {address}"},
    lambda address: {"X_Forwarded_For": f"{address}:4711, 127.0.1.7"},
    lambda address: {"Forwarded": f"for={address};proto=https"},
    lambda address: {"Forwarded": f'for=203.0.113.99, For="{address}:4711";by=127.0.0.1'},
    lambda address: {"Forwarded": f"for={address}", "X_Forwarded_For": address},
], ids=["X-Forwarded-For", "behind what the client wrote", "two proxies", "Forwarded", "Forwarded, quoted", "both"])
def test_clients_behind_a_trusted_proxy_have_limits_of_their_own(header):
    with Server(environment=PROXY) as server:
        exhaust(server, **header("203.0.113.7"))
        assert guess(server, **header("203.0.113.8")) == 401
        # The proxy itself, and a client that comes without it.
        assert guess(server) == 401 and guess(server, "127.0.0.9") == 401


@pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded"])
def test_nobody_else_is_believed(header):
    """Neither who isn't a trusted proxy, nor what a client wrote itself."""
    def lie(number):
        return f"203.0.113.{number}" if header == "X_Forwarded_For" else f"for=203.0.113.{number}"
    with Server(environment=PROXY) as server:
        statuses = [guess(server, "127.0.0.9", **{header: lie(number)}) for number in range(31)]
        assert statuses == [401] * 30 + [429]
        honest = "198.51.100.5" if header == "X_Forwarded_For" else "for=198.51.100.5"
        statuses = [guess(server, **{header: f"{lie(number)}, {honest}"}) for number in range(31)]
        assert statuses == [401] * 30 + [429]
        # What can't be read counts for no address that is named further left, and neither for the host of the proxy that wrote it.
        statuses = [guess(server, **{header: f"{lie(number)}, nonsense\"{number}"}) for number in range(31)]
        assert statuses == [401] * 30 + [429]
        assert guess(server) == 401


def test_two_headers_that_disagree_lock_nobody_else_out():
    with Server(environment=PROXY) as server:
        lies = [f"for=198.51.100.{number}" for number in range(28)] + ["for=127.0.0.1", "for=nonsense", "for=_hidden"]
        assert [guess(server, X_Forwarded_For="203.0.113.7", Forwarded=lie) for lie in lies] == [401] * 30 + [429]
        # Neither whom the headers name, nor who asks at the proxy's host itself, nor such clients of another proxy.
        assert guess(server, X_Forwarded_For="203.0.113.7") == 401 and guess(server, Forwarded="for=198.51.100.1") == 401
        assert guess(server) == 401
        assert guess(server, "127.0.1.7", X_Forwarded_For="203.0.113.7", Forwarded="for=198.51.100.1") == 401


def version_1(address, port=4711):
    family = "TCP6" if ":" in address else "TCP4"
    return f"PROXY {family} {address} {'::1' if ':' in address else '127.0.0.1'} {port} 80\r\n".encode()


def version_2(address, extra=b""):
    v6 = ":" in address
    packed = socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, address)
    body = packed + bytes(len(packed)) + struct.pack(">HH", 4711, 80) + extra
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x21 if v6 else 0x11]) + struct.pack(">H", len(body)) + body


@pytest.mark.parametrize("header", [version_1, version_2, lambda address: version_2(address, b"\x04\0\x08\0\0\0\0\0\0\0\0")],
                         ids=["version 1", "version 2", "version 2 with more"])
def test_the_proxy_protocol_names_the_client(header):
    with Server(environment=PROXY) as server:
        exhaust(server, first=header("203.0.113.7"))
        assert guess(server, first=header("203.0.113.8")) == 401
        assert guess(server, first=header("2001:db8:7::1")) == 401
        assert guess(server) == 401, "without a header"
        # From others it is nothing that HTTP knows.
        with RawHTTP(server.http_port, "127.0.0.9") as raw:
            raw.send(header("203.0.113.9") + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert raw.response()[0] == 400
        # The client's own header behind it is not believed: the client is no proxy.
        statuses = [guess(server, first=header("203.0.113.70"), X_Forwarded_For=f"198.51.100.{n}") for n in range(31)]
        assert statuses == [401] * 30 + [429]


@pytest.mark.asyncio
async def test_over_tls_the_proxy_header_comes_first(tmp_path):
    certificate, key = make_certificate(tmp_path)
    files = {"SLUICE_HTTP_TLS_CERTIFICATE": certificate, "SLUICE_HTTP_TLS_PRIVATE_KEY": key}
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with Server(environment=PROXY | files) as server:
        def connect(header):
            raw = RawHTTP(server.http_port)
            raw.send(header)
            raw.socket = unverified.wrap_socket(raw.socket)
            return raw
        statuses = []
        for _ in range(31):
            with connect(version_2("203.0.113.7")) as raw:
                statuses.append(guess_on(raw))
        assert statuses == [401] * 30 + [429]
        for header in (version_1("203.0.113.8"), b""):
            with connect(header) as raw:
                assert guess_on(raw) == 401
        # And a WebSocket, behind other requests of its connection.
        with connect(version_1("203.0.113.9")) as raw:
            assert raw.get("/healthz")[0] == 200
            raw.send(UPGRADE + raw_websocket.text({"type": "hello"}))
            assert raw.head()[0] == 101
            while b"welcome" not in raw.rest:
                data = raw.socket.recv(4096)
                assert data
                raw.rest += data
            assert server.stop() == 0


def test_headers_that_come_byte_by_byte_or_are_none():
    with Server(environment=PROXY) as server:
        for header in (version_1("203.0.113.7"), version_2("203.0.113.7")):
            with RawHTTP(server.http_port) as raw:
                raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in header + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n":
                    raw.send(bytes([byte]))
                assert raw.response()[0] == 200
        for local in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
                      b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"):
            with RawHTTP(server.http_port) as raw:
                raw.send(local)
                assert raw.get("/healthz")[0] == 200
        for wrong in (b"PROXY TCP4 nonsense 127.0.0.1 1 2\r\n", b"PROXY TCP4 ::1 ::1 1 2\r\n", b"PROXY " + b"x" * 200,
                      b"PROXY TCP4 1.2.3.4 127.0.0.1 1 99999\r\n", b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c" + bytes(12),
                      b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04" + bytes(4), b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"):
            with RawHTTP(server.http_port) as raw:
                raw.send(wrong + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert raw.closed() and raw.rest == b"", wrong


@pytest.mark.asyncio
async def test_rooms_behind_a_proxy_count_clients_too():
    """The address of a WebSocket is that of its upgrade's request, also behind one that the proxy keeps for all."""
    with Server(environment=PROXY) as server:
        async def join(address, bearer):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" if address[-1] in "02468" else b"")
            writer.write(UPGRADE.replace(b"Host: x", f"Host: x\r\nX-Forwarded-For: {address}".encode()))
            while not (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).startswith(b"HTTP/1.1 101"):
                await reader.readexactly(3)
            one = RawWebSocket(reader, writer)
            try:
                return (await one.request("join", room="behind", token=bearer)).get("code", "joined")
            finally:
                one.abort()
        assert [await join("203.0.113.7", "guess") for _ in range(31)] == ["unauthorized"] * 30 + ["rate-limited"]
        assert await join("203.0.113.7", token()) == "rate-limited"
        assert await join("203.0.113.8", token()) == "joined"


@pytest.mark.asyncio
async def test_strangers_joins_lock_nobody_out():
    """They count as wrong tokens of their address, and not as joins: here all share one, as behind a proxy that isn't trusted."""
    environment = {"SLUICE_AUTH_MODE": "token", "SLUICE_AUTH_SECRET": SECRET, "SLUICE_LIMITS_SESSIONS_PER_ADDRESS_PER_MINUTE": "5",
                   "SLUICE_LIMITS_WRONG_TOKENS_PER_ADDRESS_PER_MINUTE": "1000"}
    with Server(environment=environment) as server:
        for bearer in [None] * 10 + ["guess"] * 10 + [token(room="other")] * 10:
            one = await RawWebSocket.open(server.http_port)
            answer = await one.request("join", room="calm", **({"token": bearer} if bearer else {}))
            assert answer["code"] in ("unauthorized", "forbidden"), answer
            one.abort()
        codes = []
        for _ in range(6):
            one = await RawWebSocket.open(server.http_port)
            codes.append((await one.request("join", room="calm", token=token())).get("code", "joined"))
            one.abort()
        assert codes == ["joined"] * 5 + ["rate-limited"]


# Debian has them where not everybody's path leads.
PROXY_PATH = f"{os.environ['PATH']}:/usr/sbin"
NGINX = """
worker_processes 1; pid {folder}/nginx.pid; daemon off; error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream sluice {{ server 127.0.0.1:{port}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{listen};
    {shipped}
  }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  bind 127.0.0.1:{listen}
  default_backend sluice
backend sluice
{shipped}
"""


def shipped(first, last):
    """What `Configs/public.yaml` tells operators of a proxy to write: from the line with `first` in it to the next that is `last`."""
    lines = [line.removeprefix("#") for line in (ROOT / "Configs/public.yaml").read_text().splitlines() if line.startswith("#")]
    start = next(number for number, line in enumerate(lines) if first in line)
    end = next(number for number, line in enumerate(lines) if number > start and line.strip().startswith(last))
    return "\n".join(lines[start:end + 1])


def nginx(folder, **values):
    location = shipped("location / {", "}")
    assert "proxy_pass http://127.0.0.1:8080;" in location
    location = location.replace("proxy_pass http://127.0.0.1:8080;", "proxy_pass http://sluice;")
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, shipped=location, **values))
    return ["nginx", "-c", str(file), "-p", str(folder)]


def haproxy(folder, port, **values):
    backend = shipped("option forwardfor", "server ")
    assert "server sluice 127.0.0.1:8080" in backend
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(shipped=backend.replace(":8080", f":{port}"), **values))
    return ["haproxy", "-f", str(file)]


@pytest.mark.asyncio
@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_proxies_that_keep_their_connections(tmp_path, proxy):
    """As `Configs/public.yaml` says: nginx with `keepalive`, HAProxy with `http-reuse always`."""
    with Server(environment=PROXY | {"SLUICE_HTTP_TRUSTED_PROXIES": "127.0.0.1"}) as server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            listen = probe.getsockname()[1]
        program, *arguments = proxy(tmp_path, port=server.http_port, listen=listen)
        running = subprocess.Popen([shutil.which(program, path=PROXY_PATH), *arguments])
        try:
            def answers():
                with contextlib.suppress(OSError):
                    return urllib.request.urlopen(f"http://127.0.0.1:{listen}/healthz").status == 200
            wait_for(answers, 20, "the proxy answers")
            for number in range(12):
                # Each upgrade goes over a connection that has carried requests.
                assert answers()
                one = await RawWebSocket.open(listen, f"127.0.0.{100 + number}")
                joined = await one.request("join", room="proxied", token=token())
                assert joined["type"] == "joined", joined
                one.abort()
            # Limits are those of clients, not the proxy's, whatever they say of themselves.
            for client, words in ((50, lambda number: {}), (52, lambda number: {"Forwarded": f"for=192.0.2.{number}"})):
                for number in range(31):
                    with RawHTTP(listen, f"127.0.0.{client}") as raw:
                        status = guess_on(raw, **words(number))
                assert status == 429
            with RawHTTP(listen, "127.0.0.51") as raw:
                assert guess_on(raw, Forwarded="for=192.0.2.1") == 401
            assert guess(server) == 401, "at the host itself"
        finally:
            running.terminate()
            running.wait()
