"""Datagrams that nobody should send."""

import hashlib
import hmac
import os
import select
import socket
import struct
import zlib

from patience import wait_for

MAGIC = 0x2112A442


def attribute(kind, value):
    return struct.pack(">HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def stun_request(username, password, nominate=True, fingerprint=True):
    """A connectivity check (RFC 8445 §7.2.2); right when the password is."""
    body = attribute(0x0006, username.encode()) + attribute(0x0024, struct.pack(">I", 1 << 24))
    body += attribute(0x802A, os.urandom(8)) + (attribute(0x0025, b"") if nominate else b"")

    def head(length):
        return struct.pack(">HHI", 0x0001, length, MAGIC) + transaction
    transaction = os.urandom(12)
    tag = hmac.new(password.encode(), head(len(body) + 24) + body, hashlib.sha1).digest()
    body += attribute(0x0008, tag)
    if fingerprint:
        checksum = zlib.crc32(head(len(body) + 8) + body) ^ 0x5354554E
        body += attribute(0x8028, struct.pack(">I", checksum))
    return head(len(body)) + body


class Stranger:
    """A socket that floods a port, and holds each reply against the request that may have caused it."""

    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.replies = []

    def flood(self, count, make, counted=None):
        """Sends `count` datagrams, waiting each few hundred until the server has `counted()` them, so that none is lost in a
        full buffer. Returns the shortest one's length."""
        shortest = 1 << 16
        for index in range(count):
            datagram = make(index)
            shortest = min(shortest, len(datagram))
            self.socket.send(datagram)
            if counted and index % 500 == 499:
                wait_for(lambda: counted() > index, 20, f"{index + 1} datagrams counted")
                self.collect(0)
        self.collect(0.2)
        return shortest

    def collect(self, seconds):
        while select.select([self.socket], [], [], seconds)[0]:
            self.replies.append(self.socket.recv(4096))
            seconds = 0

    def close(self):
        self.socket.close()


def random_bytes(generator, low, high):
    return generator.randbytes(generator.randint(low, high))


def dtls(generator):
    body = random_bytes(generator, 0, 200)
    return bytes([generator.choice([20, 21, 22, 23, 63])]) + b"\xfe\xfd" + generator.randbytes(8) + \
        struct.pack(">H", len(body)) + body


def rtp(generator):
    return bytes([0x80, generator.choice([96, 111, 127])]) + generator.randbytes(10) + random_bytes(generator, 0, 1200)


def rtcp(generator):
    return bytes([0x81, generator.choice([200, 201, 205, 206])]) + generator.randbytes(6) + random_bytes(generator, 0, 100)
