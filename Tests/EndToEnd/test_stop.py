"""How the server ends: on signals, with whatever is open, and with whatever its output is."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from aiortc_peers import Publisher
from patience import figure, wait_for
from raw_websocket import RawWebSocket
from sluice import PROGRAM, Server, free_udp_ports
from test_command_line import make_certificate

DRAIN = 1
# What waits for an idle connection's end waits for 60 s.
ENDS_WITHIN = 20


def drains(**environment):
    return Server(environment={"SLUICE_LIMITS_DRAIN": f"{DRAIN}s"} | environment)


def connect(server):
    connection = socket.create_connection(("127.0.0.1", server.http_port))
    connection.settimeout(20)
    return connection


def ends(server, how=signal.SIGTERM):
    start = time.monotonic()
    assert server.stop(how, seconds=60) == 0
    seconds = time.monotonic() - start
    assert seconds < ENDS_WITHIN
    figure("a stop with connections open", seconds, at_most=DRAIN + 2)


@pytest.mark.asyncio
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_websockets_are_told_that_the_server_goes(how):
    """More than once: what hung did so in four of six."""
    for _ in range(4):
        with drains() as server:
            sockets = [await RawWebSocket.open(server.http_port) for _ in range(4)]
            # Two are in a room, two have said nothing.
            for number, one in enumerate(sockets[:2]):
                assert (await one.request("join", room="goes", name=str(number)))["type"] == "joined"
            stopping = asyncio.create_task(asyncio.to_thread(ends, server, how))
            assert [await one.end(20) for one in sockets] == [1001] * 4
            for one in sockets:
                one.abort()
            await stopping


def idle_websocket(server, stack):
    connection = stack.enter_context(connect(server))
    connection.sendall(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sluice.v1\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 101")


def silent_connection(server, stack):
    stack.enter_context(connect(server))


def kept_alive(server, stack):
    connection = stack.enter_context(connect(server))
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def half_a_request(server, stack):
    connection = stack.enter_context(connect(server))
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHos")


def half_an_upload(server, stack):
    connection = stack.enter_context(connect(server))
    connection.sendall(b"POST /up/whip HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 60000\r\n\r\nv=0\r\n")


def slow_reader(server, stack):
    """Asks for pages again and again, and reads none."""
    connection = stack.enter_context(connect(server))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(20_000):
            connection.send(b"GET /sdk/sluice.js HTTP/1.1\r\nHost: x\r\n\r\n")


def half_closed(server, stack):
    connection = stack.enter_context(connect(server))
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.shutdown(socket.SHUT_WR)


def half_an_upgrade(server, stack):
    connection = stack.enter_context(connect(server))
    connection.sendall(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")


OPEN = [idle_websocket, silent_connection, kept_alive, half_a_request, half_an_upload, slow_reader, half_closed, half_an_upgrade]


@pytest.mark.parametrize("opened", [[one] for one in OPEN] + [OPEN], ids=[one.__name__ for one in OPEN] + ["all"])
def test_it_ends_whatever_is_open(opened):
    with drains() as server, contextlib.ExitStack() as stack:
        for one in opened:
            for _ in range(3):
                one(server, stack)
        time.sleep(0.2)
        ends(server)


@pytest.mark.parametrize("opened", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"], ids=["silent", "half a hello", "plain"])
def test_it_ends_while_tls_handshakes_are_under_way(tmp_path, opened):
    certificate, key = make_certificate(tmp_path)
    with drains(SLUICE_HTTP_TLS_CERTIFICATE=certificate, SLUICE_HTTP_TLS_PRIVATE_KEY=key) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(server)).sendall(opened)
        ends(server)


def test_readiness_is_told_during_the_drain():
    """What a load balancer asks, and what a new client gets; a session keeps the server until the drain is over."""
    with Server(environment={"SLUICE_LIMITS_DRAIN": "20s"}) as server:
        assert urllib.request.urlopen(f"{server.url}/readyz").status == 200
        with contextlib.ExitStack() as stack:
            # A request in flight.
            half_an_upload(server, stack)
            server.process.send_signal(signal.SIGTERM)

            def refused():
                try:
                    urllib.request.urlopen(f"{server.url}/readyz", timeout=5)
                except urllib.error.HTTPError as error:
                    return error.code == 503 and error.headers["Retry-After"]
            wait_for(refused, 10, "/readyz says 503")
            assert urllib.request.urlopen(f"{server.url}/healthz").status == 200
            offer = urllib.request.Request(f"{server.url}/new/whip", b"v=0\r\n", {"Content-Type": "application/sdp"})
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(offer)
            assert caught.value.code in (400, 503)
            # SIGHUP means nothing, also now.
            server.process.send_signal(signal.SIGHUP)
            refused()
        # With the request the last reason to stay is gone.
        assert server.process.wait(15) == 0
        server.process.stdout.close()
        server.process = None


@pytest.mark.asyncio
async def test_new_sessions_are_refused_during_the_drain_and_calls_go_on():
    with Server(environment={"SLUICE_LIMITS_DRAIN": "3s"}) as server:
        publisher = Publisher(server, "stays")
        await publisher.negotiate()
        await publisher.connected()
        inside = await RawWebSocket.open(server.http_port)
        assert (await inside.request("join", room="stays"))["type"] == "joined"
        server.process.send_signal(signal.SIGTERM)

        def is_draining():
            try:
                urllib.request.urlopen(f"{server.url}/readyz", timeout=5)
            except urllib.error.HTTPError as error:
                return error.code == 503
        await asyncio.to_thread(wait_for, is_draining, 10, "/readyz says 503")
        outside = await RawWebSocket.open(server.http_port)
        assert (await outside.request("join", room="stays"))["code"] == "unavailable"
        assert (await inside.request("ping"))["type"] == "pong"
        assert publisher.connection.connectionState == "connected"
        assert await inside.end(20) == 1001
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        for one in (inside, outside):
            one.abort()
        await publisher.close(hang_up=False)
        server.process.stdout.close()
        server.process = None


def test_a_second_signal_ends_at_once():
    with Server(environment={"SLUICE_LIMITS_DRAIN": "600s"}) as server, contextlib.ExitStack() as stack:
        half_an_upload(server, stack)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Draining" in server.log_text(), 10, "the drain begins")
        assert server.process.poll() is None
        assert server.stop(signal.SIGTERM, seconds=10) == 0


def test_sighup_and_broken_pipes_end_nothing():
    with Server() as server:
        for how in (signal.SIGHUP, signal.SIGPIPE, signal.SIGHUP):
            server.process.send_signal(how)
        for _ in range(5):
            assert urllib.request.urlopen(f"{server.url}/healthz").status == 200
        assert server.stop() == 0


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("broken", ["full", "closed pipe", "closed", "reader stands still"])
def test_no_output_error_ends_a_call(format, broken, tmp_path):
    """Standard output and standard error both, at a level that logs each session."""
    port = free_udp_ports(1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        http = probe.getsockname()[1]
    reading, writing = os.pipe()
    with open("/dev/full", "w") as full:
        out = {"full": full, "closed pipe": writing, "closed": full, "reader stands still": writing}[broken]
        if broken == "reader stands still":
            os.set_blocking(writing, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writing, b"x" * 4096)
            os.set_blocking(writing, True)
        command = [PROGRAM, "serve", "--http-listen", f"127.0.0.1:{http}", "--media-port", str(port), "--workers", "1",
                   "--log-level", "trace"]
        environment = {"SLUICE_LOG_FORMAT": format, "SLUICE_LIMITS_DRAIN": "0s"}
        if broken == "closed":
            command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        try:
            os.close(writing)
            if broken == "closed pipe":
                os.close(reading)

            def answers():
                assert process.poll() is None, process.returncode
                try:
                    return urllib.request.urlopen(f"http://127.0.0.1:{http}/healthz", timeout=5).status == 200
                except urllib.error.URLError:
                    return False
            wait_for(answers, 60, "the server answers")
            for _ in range(20):
                with contextlib.suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(f"http://127.0.0.1:{http}/s/whep", b"v=0", timeout=10)
            assert answers()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            if broken != "closed pipe":
                os.close(reading)


@pytest.mark.parametrize("delay", [0, 0.02, 0.05, 0.1, 0.2, 0.5])
def test_a_stop_while_it_starts(delay):
    """Before it has looked at signals it ends by them; then it stops as later, and doesn't hang or fail in between."""
    process = subprocess.Popen([PROGRAM, "serve", "--http-listen", "127.0.0.1:0", "--media-port", "0", "--workers", "2"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={"SLUICE_LIMITS_DRAIN": "100ms"})
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM), said
