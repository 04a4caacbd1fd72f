"""Debian's Firefox ESR, headless, with fake devices, driven over the WebDriver BiDi socket that it opens itself."""

import asyncio
import contextlib
import itertools
import json
import pathlib
import shutil
import socket
import tempfile

import websockets

PEERS = (pathlib.Path(__file__).parent / "browser_peers.js").read_text()
START_SECONDS = 60
PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class Page:
    """One tab."""

    def __init__(self, socket_, context):
        self.socket, self.context, self.ids = socket_, context, itertools.count(100)

    async def command(self, method, **parameters):
        number = next(self.ids)
        await self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self.socket.recv())
            if message.get("id") == number:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
                return message["result"]

    async def goto(self, url):
        await self.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    async def evaluate(self, expression):
        """The value of a JavaScript expression, awaited, through JSON."""
        result = await self.command(
            "script.evaluate", target={"context": self.context}, awaitPromise=True,
            expression=f"(async () => JSON.stringify(await ({expression}) ?? null))()")
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    async def figures(self, name):
        return await self.evaluate(f"figures({name!r})")


@contextlib.asynccontextmanager
async def firefox_page(server):
    """A page of the server's origin, in a Firefox of its own, with the peers' functions in it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="sluice-firefox-", ignore_cleanup_errors=True) as profile:
        lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in PREFERENCES.items()]
        (pathlib.Path(profile) / "user.js").write_text("\n".join(lines))
        process = await asyncio.create_subprocess_exec(
            shutil.which("firefox-esr"), "--headless", "--no-remote", "--profile", profile,
            "--remote-debugging-port", str(port), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    try:
                        connection = await websockets.connect(f"ws://127.0.0.1:{port}/session", max_size=None)
                        break
                    except OSError:
                        await asyncio.sleep(0.2)
            async with connection:
                page = Page(connection, None)
                await page.command("session.new", capabilities={})
                tree = await page.command("browsingContext.getTree")
                page.context = tree["contexts"][0]["context"]
                await page.goto(server.url)
                await page.evaluate(f"(() => {{ {PEERS}; Object.assign(window, {{publish, watch, figures, hangUp}}); }})()")
                yield page
        finally:
            process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 10)
            if process.returncode is None:
                process.kill()
                await process.wait()
