"""A client in a network namespace of its own."""

import contextlib
import os
import subprocess

from chromium import PROGRAM, chromium
from sluice import Server

SERVER = "10.214.0.1"


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class TwoPaths:
    """A network namespace that reaches the server by one device, and later by another."""

    def __init__(self):
        self.name = f"sluice-path-{os.getpid()}"
        self.devices = [f"sl{os.getpid() % 100000}{side}" for side in "ab"]

    def __enter__(self):
        run("ip", "netns", "add", self.name)
        try:
            run("ip", "-n", self.name, "link", "set", "lo", "up")
            for number, device in enumerate(self.devices, start=1):
                run("ip", "link", "add", device, "type", "veth", "peer", "name", device + "p", "netns", self.name)
                run("ip", "address", "add", f"10.214.{number}.1/24", "dev", device)
                run("ip", "link", "set", device, "up")
            # On neither of the devices: it stays when one goes.
            run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
            self.take(1)
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def take(self, number):
        device = self.devices[number - 1] + "p"
        run("ip", "-n", self.name, "address", "add", f"10.214.{number}.2/24", "dev", device)
        run("ip", "-n", self.name, "link", "set", device, "up")
        run("ip", "-n", self.name, "route", "add", "default", "via", f"10.214.{number}.1", "metric", str(number))

    def lose(self, number):
        """The device is gone with its address, as when somebody leaves a Wi-Fi network."""
        run("ip", "-n", self.name, "link", "delete", self.devices[number - 1] + "p")

    def program(self, folder):
        """Runs Chromium inside."""
        script = folder / "chromium-inside"
        script.write_text(f'#!/bin/sh\nexec ip netns exec {self.name} {PROGRAM} "$@"\n')
        script.chmod(0o755)
        return str(script)

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True)
        subprocess.run(["ip", "address", "delete", f"{SERVER}/32", "dev", "lo"], capture_output=True)
        for device in self.devices:
            subprocess.run(["ip", "link", "delete", device], capture_output=True)


@contextlib.asynccontextmanager
async def inside_and_outside(folder, **options):
    """A server, a page of its origin in a browser inside and one outside; and the paths, for what happens to them."""
    async with contextlib.AsyncExitStack() as stack:
        paths = stack.enter_context(TwoPaths())
        server = stack.enter_context(Server("--http-listen", f"{SERVER}:0", "--media-listen", SERVER,
                                            environment={"SLUICE_AUTH_MODE": "token"}))
        origin = f"http://{SERVER}:{server.http_port}"
        secure = f"--unsafely-treat-insecure-origin-as-secure={origin}"
        pages = []
        for program in [{"program": paths.program(folder)}, {}]:
            browser = await stack.enter_async_context(chromium(secure, **program, **options))
            pages.append(await browser.new_page())
            await pages[-1].goto(origin)
        yield paths, *pages
