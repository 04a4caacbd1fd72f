"""The example pages of the documentation, from an origin of their own, as somebody would host them."""

import contextlib
import functools
import http.server
import json
import pathlib
import re
import threading

import pytest

from chromium import chromium
from patience import until
from sluice import ROOT

DECODED = "() => [...document.querySelectorAll('video')].map((video) => video.getVideoPlaybackQuality().totalVideoFrames)"


# What whoever hosts an example elsewhere edits in it.
CONSTANT = "const SERVER = location.origin;"


HOST = "https://media.example.org"
# What somebody pastes first: the code in the documents that joins a room, as it stands there.
SNIPPETS = [
    block
    for name in ["README.md", "Docs/SDK.md"]
    for block in re.findall(r"^```js\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
    if "import { join }" in block
]
SNIPPET = """<!doctype html><meta charset="utf-8"><title>Pasted</title><body><script type="module">{}</script>"""


class Examples(http.server.BaseHTTPRequestHandler):
    def __init__(self, server_url, *arguments):
        self.server_url = server_url
        super().__init__(*arguments)

    def do_GET(self):
        if self.path.startswith("/snippet/"):
            self.answer(SNIPPET.format(SNIPPETS[int(self.path.rpartition("/")[2])].replace(HOST, self.server_url)))
            return
        file = ROOT / "Docs/Examples" / pathlib.PurePath(self.path.partition("?")[0]).name
        if not file.is_file():
            self.send_error(404)
            return
        page = file.read_text()
        assert page.count(CONSTANT) == 1
        self.answer(page.replace(CONSTANT, f'const SERVER = "{self.server_url}";'))

    def answer(self, page):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page.encode())

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
            for name, fragment, count in [("room", "", 2), ("encrypted", "#a long passphrase", 1),
                                          ("encrypted", "#room=another&key=a%20long%20passphrase", 1)]:
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
                await page.goto(f"{pages}/{name}.html?server=https://evil.example#server=https://evil.example&key=a%20long%20passphrase")

                async def has_asked():
                    return asked
                assert await until(has_asked, 5, "the SDK is asked for") == [f"{server.url}/sdk/sluice.js"]
                await page.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
async def test_what_the_documents_say_first_works_when_it_is_pasted(server, number):
    """Two pages, one after the other: each shows the other by frames that it has received."""
    assert len(SNIPPETS) >= 2
    with origin(server) as pages:
        async with chromium() as browser:
            first, second = await browser.new_page(), await browser.new_page()
            errors = []
            for page in (first, second):
                page.on("pageerror", lambda error: errors.append(str(error)))
            await first.goto(f"{pages}/snippet/{number}")

            async def is_published():
                return any(stream.get("publisher") for stream in server.stats()["streams"] if stream["room"] in ("standup", "an-unguessable-id"))
            await until(is_published, 15, "the first publishes")
            await second.goto(f"{pages}/snippet/{number}")
            for page in (first, second):
                await moves(page, 1)
            assert errors == []
            for page in (first, second):
                await page.close()

            async def is_over():
                return not any(stream["room"] in ("standup", "an-unguessable-id") for stream in server.stats()["streams"])
            await until(is_over, 40, "they have gone")


@pytest.mark.asyncio
async def test_secrets_stay_behind_the_fragment(server):
    """What is in the query string stands in the logs of whoever hosts a page: it is not taken from there."""
    with origin(server) as pages:
        async with chromium() as browser:
            for name in ["room", "broadcast", "encrypted"]:
                page = await browser.new_page()
                joined = []
                page.on("websocket", lambda socket: socket.on("framesent", lambda text: joined.append(json.loads(text))))
                await page.goto(f"{pages}/{name}.html?room=in-the-query&token=query-token#room=in-the-fragment&token=fragment-token&key=k")

                async def has_joined():
                    return joined
                await until(has_joined, 15, "it joins")
                assert (joined[0]["room"], joined[0]["token"]) == ("in-the-fragment", "fragment-token")
                await page.close()
