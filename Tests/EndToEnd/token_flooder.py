"""Presents wrong tokens as fast as it is told, in a process of its own on the machine's last processor. Run as a program it floods
until its input ends, and prints what it sent and what came back.

`http` and `websocket` write them in batches, `connections` one by one; a connection that isn't answered for a moment, or is closed, is
opened again. `sink` does the work of `http` against a listener of its own that refuses everything at once: that is what the flooder
itself takes from the machine. What is sent is what was written into an open connection, whether the server read it or not."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time

from raw_websocket import HANDSHAKE, text

ADDRESS = "127.0.0.2"
CONNECTIONS = 24
BATCH = 50
PATIENCE = 0.25
REFUSAL = (b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\nContent-Length: 100\r\nServer: sink\r\n\r\n"
           + b" " * 100)


def wrong_token(number):
    """Of the right shape: its signature has to be looked at."""
    return "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyb2xlIjoicHVibGlzaCIsImV4cCI6NDEwMjQ0NDgwMH0." + f"{number:043d}"


def http_batch(count):
    return b"".join(
        b"POST /flooded/stream/whep HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer "
        + wrong_token(number).encode() + b"\r\n\r\n" for number in range(count))


def socket_batch(count):
    return b"".join(text({"type": "join", "room": "flooded", "token": wrong_token(number)}) for number in range(count))


class Flooder(asyncio.Protocol):
    """One connection: writes the next batch once the last is answered."""

    def __init__(self, flood):
        self.flood = flood
        self.waiting = 0
        self.due = None

    def connection_made(self, transport):
        self.transport = transport
        if self.flood.kind == "websocket":
            transport.write(HANDSHAKE)
        self.send()

    def send(self):
        if self.transport.is_closing():
            return
        self.flood.sent += self.flood.count
        self.waiting = self.flood.count
        self.transport.write(self.flood.batch)
        self.due = self.flood.loop.call_later(PATIENCE, self.transport.abort)

    def data_received(self, data):
        count = data.count(self.flood.mark)
        self.flood.answered += count
        self.waiting -= count
        if self.flood.kind == "connections":
            self.transport.abort()
        elif self.waiting <= 0 and self.due:
            self.due.cancel()
            self.due = self.flood.loop.call_later(self.flood.turn(), self.send)

    def connection_lost(self, _):
        if self.due:
            self.due.cancel()
        if not self.flood.is_over:
            self.flood.connections += 1
            asyncio.ensure_future(self.flood.connect())


class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(REFUSAL * data.count(b"\r\n\r\n"))


class Flood:
    def __init__(self, kind, port, rate):
        self.loop = asyncio.get_running_loop()
        self.kind, self.port, self.rate = kind, port, rate
        self.count = 1 if kind == "connections" else BATCH
        self.batch = (socket_batch if kind == "websocket" else http_batch)(self.count)
        self.mark = b'"code":' if kind == "websocket" else b"HTTP/1.1 4"
        self.sent = self.answered = self.connections = 0
        self.started = time.monotonic()
        self.due = 0
        self.is_over = False

    def turn(self):
        """Seconds until the next batch is due."""
        elapsed = time.monotonic() - self.started
        # What could not be sent in its time is not made up for.
        self.due = max(self.due + self.count / self.rate, elapsed - 0.1)
        return max(0, self.due - elapsed)

    async def connect(self):
        """Opens a connection when there is something to send: it may be closed at once."""
        while not self.is_over:
            await asyncio.sleep(self.turn())
            with contextlib.suppress(OSError):
                return await self.loop.create_connection(lambda: Flooder(self), "127.0.0.1", self.port, local_addr=(ADDRESS, 0))


async def main(kind, port, rate):
    loop = asyncio.get_running_loop()
    if kind == "sink":
        listener = await loop.create_server(Sink, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
    flood = Flood(kind, port, rate)
    await asyncio.gather(*[flood.connect() for _ in range(CONNECTIONS)])
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    flood.is_over = True
    seconds = time.monotonic() - flood.started
    print(json.dumps({"sent": round(flood.sent / seconds), "answered": round(flood.answered / seconds),
                      "connections": round(flood.connections / seconds)}))


class FlooderProcess:
    """`with FlooderProcess(...) as flooder:`, and after it `flooder.figures`: what was sent and answered in a second."""

    def __init__(self, kind, port, rate):
        self.arguments = [sys.executable, __file__, kind, str(port), str(rate)]

    def __enter__(self):
        self.process = subprocess.Popen(self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_):
        try:
            output, _ = self.process.communicate(timeout=30)
            self.figures = json.loads(output)
        finally:
            self.process.kill()


if __name__ == "__main__":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
