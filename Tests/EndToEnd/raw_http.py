"""HTTP as bytes on a socket, for what libraries don't let a client do."""

import socket

UPGRADE = (b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sluice.v1\r\n\r\n")


class RawHTTP:
    """One connection, in a `with` statement."""

    def __init__(self, port, address="127.0.0.1", seconds=20):
        self.socket = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
        self.socket.settimeout(seconds)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def head(self):
        """The next response's status and headers."""
        while b"\r\n\r\n" not in self.rest:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError(f"closed after {self.rest!r}")
            self.rest += data
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        return int(lines[0].split()[1]), {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}

    def response(self):
        """The next response's status, headers and body."""
        status, headers = self.head()
        length = int(headers.get("content-length", 0)) if status >= 200 else 0
        while len(self.rest) < length:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed in a body")
            self.rest += data
        body, self.rest = self.rest[:length], self.rest[length:]
        return status, headers, body

    def get(self, path, **headers):
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        return self.response()

    def closed(self):
        """Waits until the server closes."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True
