"""A server whose host has several addresses: it answers from the one that was asked."""

import contextlib
import subprocess

import pytest

from aiortc_peers import Publisher, Viewer
from chromium import chromium, figures, peers_page
from patience import until
from sluice import OPERATOR_TOKEN, Server

# The clients' own, and two of the server's. That the first of them is announced is nothing new: the system would choose it.
OURS = {"v4": "10.216.0.1", "v6": "fd00:216::1"}
SERVERS = {"v4": "10.216.0.2", "v6": "fd00:216::2"}


@contextlib.contextmanager
def addresses():
    """On loopback, for as long as they are needed."""
    all_of_them = [f"{ip}/32" for ip in (OURS["v4"], SERVERS["v4"])] + [f"{ip}/128" for ip in (OURS["v6"], SERVERS["v6"])]
    added = []
    try:
        for address in all_of_them:
            options = ["nodad"] if ":" in address else []
            if subprocess.run(["ip", "address", "add", address, "dev", "lo", *options], capture_output=True).returncode:
                pytest.skip("addresses can't be added here: it takes root")
            added.append(address)
        yield
    finally:
        for address in added:
            subprocess.run(["ip", "address", "delete", address, "dev", "lo"], capture_output=True)


def serve(listen, announced):
    return Server("--media-listen", listen, "--announce", announced, environment={"SLUICE_AUTH_MODE": "token"})


@pytest.mark.asyncio
@pytest.mark.parametrize("listen,announced", [
    ("0.0.0.0", SERVERS["v4"]), ("::", SERVERS["v4"]), ("::", SERVERS["v6"]),
])
async def test_peers_connect_to_whichever_address_is_announced(monkeypatch, listen, announced):
    # From the server's own address an answer would come back however it was sent.
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda **_: list(OURS.values()))
    with addresses(), serve(listen, announced) as server:
        publisher, viewer = Publisher(server, "several"), Viewer(server, "several")
        for peer in (publisher, viewer):
            peer.token = OPERATOR_TOKEN
        await publisher.negotiate()
        await publisher.connected()
        answer = await viewer.negotiate()
        assert f" {announced} " in answer
        await viewer.frames_reach(60, 10)
        await viewer.close()
        await publisher.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("listen", ["0.0.0.0", "::"])
async def test_chromium_connects_to_whichever_address_is_announced(listen):
    with addresses(), serve(listen, SERVERS["v4"]) as server:
        async with chromium() as browser:
            page = await peers_page(browser, server)
            await page.evaluate("o => publish('camera', o)",
                                {"url": f"{server.url}/several/whip", "codec": "VP8", "token": OPERATOR_TOKEN})

            async def connected():
                return (await figures(page, "camera"))["state"] == "connected"
            await until(connected, 10, "connected")
