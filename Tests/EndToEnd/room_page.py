"""How tests use the room page: entering it, and filling it with streams that nobody sends."""

import urllib.parse

from patience import until

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}

# Streams of others, as the SDK tells of them, each with a picture of its own.
STUBS = """([count, kind]) => {
    const room = sluiceRoom();
    for (let index = 0; index < count; index += 1) {
        const number = room.streams.size + 1;
        const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
        const paint = canvas.getContext("2d");
        const media = canvas.captureStream(5);
        const draw = () => {
            paint.fillStyle = `hsl(${number * 47} 45% 35%)`;
            paint.fillRect(0, 0, 640, 360);
            paint.fillStyle = `hsl(${number * 47} 60% 75%)`;
            paint.beginPath();
            paint.arc(320, 150, 80, 0, 7);
            paint.arc(320, 420, 180, 0, 7);
            paint.fill();
        };
        draw();
        setInterval(draw, 200);
        const peer = `peer-${number}`;
        room.peers.set(peer, { peer, name: ["Ada", "Ben", "Chiara", "Dmitri", "Esra", "Farouk", "Grace"][number % 7] + " " + number });
        const stream = { id: `stub-${number}`, peer, kind, live: true, muted: number % 4 === 3 ? ["audio"] : [], media, tracks: [] };
        room.streams.set(stream.id, stream);
        room.dispatchEvent(new CustomEvent("stream-added", { detail: stream }));
    }
    room.dispatchEvent(new CustomEvent("peers"));
}"""
# A screen to share, and how often devices were asked for.
FAKE_SCREEN = """
    window.asked = 0;
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) => { window.asked += 1; return open(wanted); };
    navigator.mediaDevices.getDisplayMedia = async () => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 800, height: 450 });
        const paint = canvas.getContext("2d");
        setInterval(() => { paint.fillStyle = "#c33"; paint.fillRect(0, 0, 800, 450); }, 100);
        return canvas.captureStream(10);
    };
"""
# Keeps the tracks that a page opens, and holds them back while `holds` is set: as a question of the browser does.
KEEP_TRACKS = """{
    window.tracks = [];
    window.answers = [];
    window.holds = false;
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        if (holds) await new Promise((answer) => answers.push(answer));
        const media = await open(wanted);
        tracks.push(...media.getTracks());
        return media;
    };
    window.live = () => tracks.filter((track) => track.readyState === "live").map((track) => [track.kind, track.enabled]).sort();
}"""
# What the browser does when the last device of a kind is pulled out.
UNPLUG = """(kind) => {
    const track = tracks.findLast((track) => track.kind === kind);
    track.stop();
    track.dispatchEvent(new Event("ended"));
}"""


async def open_page(browser, address, viewport=DESKTOP, script="", **options):
    """A page in a context of its own. Errors in it fail the test: they are kept in `page.problems`."""
    context = await browser.new_context(viewport=viewport, accept_downloads=True, **options)
    page = await context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
    await page.add_init_script(FAKE_SCREEN + script)
    await page.goto(address)
    return page


async def open_anew(page, address):
    """Loads an address that may differ behind its # only."""
    await page.goto(urllib.parse.urljoin(address, "/"))
    await page.goto(address)


async def enter(browser, server, room, name="", viewport=DESKTOP, **options):
    """Joins with the fake camera."""
    page = await open_page(browser, f"{server.url}/room#{room}", viewport, **options)
    await page.fill("#name", name)
    await preview_shown(page)
    await page.click("#join")
    await page.wait_for_selector("#inside:not([hidden])")
    await page.wait_for_selector(".tile[data-own=true]")
    return page


async def preview_shown(page):
    """Waits until the camera is open, and says what the page shows and complains of when it isn't."""
    async def is_shown():
        return await page.is_hidden("#placeholder")
    try:
        await until(is_shown, 8, "the preview")
    except AssertionError as error:
        raise AssertionError(f"{error}: {await page.inner_text('#placeholder')!r}; {getattr(page, 'problems', [])}") from None


async def add_stubs(page, count, kind="camera"):
    await page.evaluate(STUBS, [count, kind])


async def says(page, selector, text, seconds=8):
    """Waits until an element's text has this in it."""
    async def shown():
        return text in await page.inner_text(selector)
    await until(shown, seconds, f"{selector} says {text!r}; it says {await page.inner_text(selector)!r}")


async def is_pressed(page, selector):
    return await page.get_attribute(selector, "aria-pressed") == "true"


async def boxes(page, selector=".tile"):
    return await page.eval_on_selector_all(selector, """(all) => all.map((one) => {
        const { x, y, width, height } = one.getBoundingClientRect();
        return { x, y, width, height, id: one.dataset.stream, placed: one.dataset.placed !== "false" };
    })""")
