"""A control WebSocket that does what it is told, right or wrong: frames as bytes, no pings answered unless asked for."""

import asyncio
import json
import os
import struct

from patience import last_moment

HANDSHAKE = (b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sluice.v1\r\n\r\n")
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
# What Docs/Protocol.md gives as the reasons for which Sluice closes.
DOCUMENTED = {1000, 1001, 1002, 1003, 1007, 1008, 1009}


def frame(opcode, payload=b"", fin=True, reserved=0, masked=True, length=None):
    """A frame of RFC 6455 §5.2; `length` may say something else than the payload's."""
    length = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask = 0x80 if masked else 0
    if length < 126:
        head += bytes([mask | length])
    elif length < 1 << 16:
        head += bytes([mask | 126]) + struct.pack(">H", length)
    else:
        head += bytes([mask | 127]) + struct.pack(">Q", length)
    if not masked:
        return head + payload
    key = os.urandom(4)
    whole = int.from_bytes(payload, "little") ^ int.from_bytes((key * (len(payload) // 4 + 1))[:len(payload)], "little")
    return head + key + whole.to_bytes(len(payload), "little")


def text(message):
    """A text frame of what JSON is made of, or of bytes."""
    return frame(TEXT, message if isinstance(message, bytes) else json.dumps(message).encode())


class Closed(Exception):
    """The server has closed: with a code and a reason, or without a word (code 0)."""

    def __init__(self, code=0, reason=""):
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class RawWebSocket:
    """Use `await RawWebSocket.open(...)`, and `abort()` in the end."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port, address="127.0.0.1", **options):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0), **options)
        writer.write(HANDSHAKE)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert b"101" in answer.split(b"\r\n")[0], answer
        return cls(reader, writer)

    def send(self, data):
        self.writer.write(data)

    async def frame(self):
        """The next frame's opcode and payload. Raises `Closed` in place of the last."""
        try:
            head = await self.reader.readexactly(2)
            length = head[1] & 0x7F
            if length > 125:
                size = 2 if length == 126 else 8
                length = int.from_bytes(await self.reader.readexactly(size), "big")
            payload = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed from None
        if head[0] & 15 == CLOSE:
            raise Closed(struct.unpack(">H", payload[:2])[0] if payload else 1005, payload[2:].decode())
        return head[0] & 15, payload

    async def message(self):
        """The next text frame's message; pings are answered meanwhile."""
        while True:
            opcode, payload = await self.frame()
            if opcode == TEXT:
                return json.loads(payload)
            if opcode == PING:
                self.send(frame(PONG, payload))

    async def request(self, kind, **fields):
        """The reply to a request; what else comes before it is forgotten."""
        number = int.from_bytes(os.urandom(6), "big")
        self.send(text({"type": kind, "id": number, **fields}))
        while (message := await self.message()).get("id") != number:
            pass
        return message

    async def end(self, seconds=10):
        """Waits until the server closes; returns the code, 0 without one."""
        try:
            async with asyncio.timeout(last_moment(seconds)):
                while True:
                    await self.frame()
        except Closed as closed:
            return closed.code

    def abort(self):
        self.writer.transport.abort()
