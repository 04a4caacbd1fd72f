"""The example pages of the documentation, from an origin of their own, as somebody would host them."""

import contextlib
import functools
import http.server
import pathlib
import threading

import pytest

from chromium import chromium
from patience import until
from sluice import ROOT

DECODED = "() => [...document.querySelectorAll('video')].map((video) => video.getVideoPlaybackQuality().totalVideoFrames)"


# What whoever hosts an example elsewhere edits in it.
CONSTANT = "const SERVER = location.origin;"


class Examples(http.server.BaseHTTPRequestHandler):
    def __init__(self, server_url, *arguments):
        self.server_url = server_url
        super().__init__(*arguments)

    def do_GET(self):
        file = ROOT / "Docs/Examples" / pathlib.PurePath(self.path.partition("?")[0]).name
        if not file.is_file():
            self.send_error(404)
            return
        page = file.read_text()
        assert page.count(CONSTANT) == 1
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page.replace(CONSTANT, f'const SERVER = "{self.server_url}";').encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def origin(server):
    handler = functools.partial(Examples, server.url)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{files.server_address[1]}"
        files.shutdown()


async def moves(page, count):
    async def check():
        frames = await page.evaluate(DECODED)
        return len(frames) == count and all(number > 10 for number in frames)
    await until(check, 20, f"{count} pictures move; {await page.evaluate(DECODED)}")


@pytest.mark.asyncio
async def test_room_and_encrypted_room(server):
    with origin(server) as pages:
        async with chromium() as browser:
            for name, fragment, count in [("room", "", 2), ("encrypted", "#a long passphrase", 1)]:
                first, second = await browser.new_page(), await browser.new_page()
                for page in (first, second):
                    await page.goto(f"{pages}/{name}.html{fragment}")
                for page in (first, second):
                    await moves(page, count)
                notice = await first.inner_text("#notice")
                assert ("server can see and record" in notice) == (name == "room"), notice
                if name == "encrypted":
                    async def cost_is_shown():
                        return "ms" in await first.inner_text("#cost")
                    await until(cost_is_shown, 5, "the cost of encryption is shown")
                await first.close()
                await second.close()


@pytest.mark.asyncio
async def test_broadcast(server):
    with origin(server) as pages:
        async with chromium() as browser:
            live, viewer = await browser.new_page(), await browser.new_page()
            for page in (live, viewer):
                await page.goto(f"{pages}/broadcast.html")
                await page.wait_for_selector("#notice:not(:empty)")
            await live.click("#start")
            await moves(viewer, 1)

            async def counted():
                return await live.inner_text("#viewers") == "1"
            await until(counted, 5, "the viewer is counted")


@pytest.mark.asyncio
async def test_no_address_names_whose_code_is_run(server):
    with origin(server) as pages:
        async with chromium() as browser:
            for name in ["room", "broadcast", "encrypted"]:
                page = await browser.new_page()
                asked = []
                await page.route("**/sdk/sluice.js", lambda route: (asked.append(route.request.url), route.abort())[1])
                await page.goto(f"{pages}/{name}.html?server=https://evil.example#a long passphrase")

                async def has_asked():
                    return asked
                assert await until(has_asked, 5, "the SDK is asked for") == [f"{server.url}/sdk/sluice.js"]
                await page.close()
