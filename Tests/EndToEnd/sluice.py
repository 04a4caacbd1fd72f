"""Starts the real server and talks to it as an operator does."""

import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SLUICE_PROGRAM", str(ROOT / ".build/release/sluice"))
START_SECONDS = 60
OPERATOR_TOKEN = "end-to-end-operator-token"


def free_udp_ports(count):
    """The first of `count` UDP ports in a row that nobody uses now."""
    for first in range(41000 + os.getpid() % 1000 * 8, 60000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free UDP ports")


def own_address():
    """An IPv4 address of this machine that is not loopback; None when it has none. Nothing is sent to find it out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.254", 9))
            address = probe.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


class Server:
    """`sluice serve` as a child process. Use it in a `with` statement."""

    def __init__(self, *arguments, workers=2, environment=None, log_level="debug"):
        self.workers = workers
        self.arguments = list(arguments)
        # What is about the drain sets it.
        self.environment = {"SLUICE_AUTH_OPERATOR_TOKEN": OPERATOR_TOKEN, "SLUICE_LIMITS_DRAIN": "100ms"} | (environment or {})
        self.log_level = log_level
        self.media_port = free_udp_ports(workers)
        self.http_port = 0
        self.process = None
        self.log = tempfile.NamedTemporaryFile(prefix="sluice-", suffix=".log", mode="w+")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.log.close()

    def start(self):
        """Starts the program, and returns once it says that it is ready. A second start uses the same ports."""
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--http-listen", f"127.0.0.1:{self.http_port}", "--media-port", str(self.media_port),
             "--workers", str(self.workers), "--log-level", self.log_level, *self.arguments],
            stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")} | self.environment)
        deadline = time.monotonic() + START_SECONDS
        while True:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            line = self.process.stdout.readline() if readable else ""
            found = re.search(r"open (https?)://[^/]*:(\d+)/", line)
            if found:
                self.http_port = int(found[2])
                return
            if not line:
                self.process.kill()
                self.process.wait()
                self.process = None
                raise RuntimeError(f"the server did not start:\n{self.log_text()}")

    def stop(self, how=signal.SIGTERM, seconds=30):
        """Ends the program. Returns its exit status."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is not None:
            process.stdout.close()
            raise AssertionError(f"the server had ended by itself, status {process.returncode}:\n{self.log_text()[-8000:]}")
        process.send_signal(how)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()

    def log_text(self):
        with open(self.log.name) as file:
            return file.read()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def media_ports(self):
        return range(self.media_port, self.media_port + self.workers)

    def stats(self, operator=True):
        request = urllib.request.Request(f"{self.url}/v1/stats")
        if operator:
            request.add_header("Authorization", f"Bearer {OPERATOR_TOKEN}")
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def totals(self):
        return self.stats(operator=False)["totals"]

    def stream(self, name):
        """The operator's view of one stream; None while there is none."""
        return next((s for s in self.stats()["streams"] if s["stream"] == name), None)

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

