"""The pages themselves, as a person uses them."""

import asyncio
import os
import pathlib
import signal
import time

import pytest

from chromium import chromium
from patience import figure, steadily, until
from room_page import KEEP_TRACKS, UNPLUG

OUTPUT = pathlib.Path(__file__).parent / "output"


async def state(page):
    return await page.get_attribute("#state", "data-state")


async def is_state(page, wanted, seconds=15):
    async def reached():
        return await state(page) == wanted
    await until(reached, seconds, f"the page says {wanted}")


async def moves(page, selector="#video"):
    """Whether the video's picture advances."""
    before = await page.eval_on_selector(selector, "v => v.getVideoPlaybackQuality().totalVideoFrames")
    await asyncio.sleep(0.7)
    after = await page.eval_on_selector(selector, "v => v.getVideoPlaybackQuality().totalVideoFrames")
    return after > before + 3


# Lets a test ask the page's connection for its frame counter, as of now.
KEEP_CONNECTION = """
    window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...given) { super(...given); window.connection = this; }
    };
    window.frames = async (type, counter) => {
        const report = [...(await connection.getStats()).values()].find((r) => r.type === type && r.kind === "video");
        return [report[counter], report.timestamp];
    };
"""


async def publish(browser, server, stream, codec=""):
    page = await browser.new_page()
    await page.add_init_script(KEEP_CONNECTION)
    await page.goto(f"{server.url}/publish#{stream}")
    if codec:
        await page.select_option("#codec", codec)
    await page.select_option("#size", "640x360")
    await page.click("#start")
    await is_state(page, "live")
    return page


# Notes when the video shows its first picture, counted from when the page asked the server for the stream: how long five
# tabs take to load on two cores is the browser's matter.
NOTE_FIRST_FRAME = """
    addEventListener("DOMContentLoaded", () => document.querySelector("#video")?.requestVideoFrameCallback(() => {
        const shown = performance.now();
        const asked = performance.getEntriesByType("resource").find((entry) => entry.name.endsWith("/whep")).startTime;
        window.firstFrameMs = shown - asked;
    }));
"""
# The loudest sample within some seconds, or the first loud one: the fake microphone beeps once a second.
LOUDNESS = """async (seconds) => {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(document.querySelector("#video").srcObject).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let loudest = 0;
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end && loudest < 0.1) {
        analyser.getFloatTimeDomainData(samples);
        loudest = Math.max(loudest, ...samples.map(Math.abs));
        await new Promise((done) => setTimeout(done, 20));
    }
    await context.close();
    return loudest;
}"""
MEASURED_SECONDS = 6
# Small windows: what five tabs cost here is mostly the painting.
WINDOW = {"width": 480, "height": 400}


async def watch(browser, server, stream):
    page = await browser.new_page(viewport=WINDOW)
    await page.add_init_script(NOTE_FIRST_FRAME + KEEP_CONNECTION)
    await page.goto(f"{server.url}/watch#{stream}")
    await is_state(page, "live")

    async def plays():
        return await moves(page)
    await until(plays, 10, "the picture moves")
    return page


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", ["VP8", "VP9", "H264", "AV1"])
async def test_publish_and_watch_by_the_pages(server, codec):
    async with chromium() as sender, chromium() as receiver:
        publisher = await publish(sender, server, f"page-{codec}", codec)
        assert await publisher.input_value("#viewer-address") == f"{server.url}/watch#page-{codec}"

        # Chromium begins with a smaller picture, until the feedback has told it what the path takes.
        async def is_full_size():
            return "640" in await publisher.inner_text("#resolution")
        await until(is_full_size, 30, "the publisher sends the camera's resolution")
        viewers = [await watch(receiver, server, f"page-{codec}") for _ in range(5)]
        await asyncio.sleep(2)

        async def frames():
            return [await publisher.evaluate("frames('outbound-rtp', 'framesSent')")] + [
                await viewer.evaluate("frames('inbound-rtp', 'framesDecoded')") for viewer in viewers]

        async def frame_rates():
            before = await frames()
            await asyncio.sleep(MEASURED_SECONDS)
            rates = [(end[0] - start[0]) * 1000 / (end[1] - start[1]) for start, end in zip(before, await frames())]
            print(f"{codec}: sent {rates[0]:.1f} fps, decoded", *(f"{rate:.1f}" for rate in rates[1:]))
            assert min(rates) > 0
            return 100 * min(rates[1:]) / rates[0]
        await steadily(frame_rates, f"{codec} by the pages: frames of the publisher's that every tab decodes", at_least=90, unit="%")

        for viewer in viewers:
            first = await viewer.evaluate("firstFrameMs")
            loudness = await viewer.evaluate(LOUDNESS, 5)
            print(f"  first frame {first:.0f} ms after it was asked for, loudest sample {loudness:.3f}")
            figure(f"{codec} by the pages: first frame", first / 1000, at_most=2)
            assert loudness > 0.01
            assert await viewer.eval_on_selector("#video", "v => [v.videoWidth, v.videoHeight]") == [640, 360]
            assert "can see and record" in await viewer.inner_text("#privacy")
        assert "bit/s" in await publisher.inner_text("#bitrate")
        if codec == "VP8":
            OUTPUT.mkdir(exist_ok=True)
            await publisher.screenshot(path=OUTPUT / "publish.png", full_page=True)
            await viewers[0].set_viewport_size({"width": 1280, "height": 720})
            await viewers[0].screenshot(path=OUTPUT / "watch.png", full_page=True)
        await publisher.click("#stop")
        await is_state(publisher, "idle")


@pytest.mark.asyncio
async def test_viewers_wait_for_the_publisher_and_come_back_to_it(server):
    async with chromium() as sender, chromium() as receiver:
        page = await receiver.new_page()
        await page.goto(f"{server.url}/watch#early")
        await is_state(page, "waiting")
        publisher = await publish(sender, server, "early")
        await is_state(page, "live", 5)
        # A reload publishes again, before anybody has missed the old session.
        await publisher.reload()
        await publisher.click("#start")
        await is_state(publisher, "live")

        async def plays():
            return await moves(page)
        await until(plays, 5, "the picture moves again")
        assert await state(page) == "live"


@pytest.mark.asyncio
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_pages_recover_when_the_server_is_started_again(own_server, how):
    server = own_server
    async with chromium() as sender, chromium() as receiver:
        publisher = await publish(sender, server, "restart")
        viewer = await watch(receiver, server, "restart")
        server.stop(how)
        await asyncio.sleep(1)
        server.start()

        async def recovered():
            return await state(publisher) == "live" and await state(viewer) == "live" and await moves(viewer)
        await until(recovered, 40, "both pages are live again and the picture moves")


# In which state connections were when the page gave them up.
GIVEN_UP = """
    window.givenUp = [];
    const close = RTCPeerConnection.prototype.close;
    RTCPeerConnection.prototype.close = function () {
        givenUp.push(this.connectionState);
        return close.call(this);
    };
"""


@pytest.mark.asyncio
async def test_pages_notice_a_restarted_server_before_the_browser_does(own_server):
    """As rooms do: by the silence, and by asking whether the server knows the session."""
    server = own_server
    async with chromium() as sender, chromium() as receiver:
        publisher = await publish(sender, server, "noticed")
        viewer = await watch(receiver, server, "noticed")
        for page in (publisher, viewer):
            await page.evaluate("() => {" + GIVEN_UP + "}")

        async def flows():
            return await moves(viewer)
        await until(flows, 10, "the picture moves")
        await asyncio.sleep(1.5)
        server.stop(signal.SIGKILL)
        server.start()
        started = time.monotonic()

        async def noticed():
            return [await page.evaluate("givenUp[0]") for page in (publisher, viewer)] == ["connected", "connected"]
        await until(noticed, 10, "both have noticed while their browsers called the connection good")

        async def recovered():
            return await state(publisher) == "live" and await state(viewer) == "live" and await moves(viewer)
        await until(recovered, 10, "both pages are live again and the picture moves")
        figure("the pages' picture moves after the server's restart", time.monotonic() - started, at_most=5)


@pytest.mark.asyncio
async def test_a_publisher_who_is_silent_is_waited_for(server):
    async with chromium() as sender, chromium() as receiver:
        publisher = await publish(sender, server, "silent")
        viewer = await watch(receiver, server, "silent")
        asked = []
        viewer.on("response", lambda response: asked.append((response.request.method, response.status)))

        async def flows():
            return await moves(viewer)
        await until(flows, 10, "the picture moves")
        await asyncio.sleep(1.5)
        # Nothing is sent any more, and nothing is said: also not by the server, which reports in between otherwise.
        await publisher.evaluate("() => { for (const sender of connection.getSenders()) sender.replaceTrack(null); }")
        os.kill(server.process.pid, signal.SIGSTOP)
        await asyncio.sleep(1.2)
        os.kill(server.process.pid, signal.SIGCONT)

        async def has_asked():
            return asked
        await until(has_asked, 20, "the server is asked whether it knows the session")
        await asyncio.sleep(2)
        assert set(asked) == {("PATCH", 204)} and await state(viewer) == "live"


@pytest.mark.asyncio
async def test_a_denied_camera_is_explained(server):
    async with chromium("--deny-permission-prompts", fake_devices=False) as browser:
        page = await browser.new_page()
        await page.goto(f"{server.url}/publish#denied")
        await page.click("#start")
        await is_state(page, "failed")
        assert await page.is_visible("#error")
        text = await page.inner_text("#error")
        assert "camera" in text and "press Start" in text
        assert await page.is_enabled("#start")


@pytest.mark.asyncio
async def test_mute_and_camera_off(server):
    async with chromium() as sender:
        page = await publish(sender, server, "toggles")
        await page.focus("#mute")
        await page.keyboard.press("Space")
        assert await page.get_attribute("#mute", "aria-pressed") == "true"
        await page.click("#hide")
        assert await page.get_attribute("#hide", "aria-pressed") == "true"


ON, OFF = [["audio", True], ["video", True]], [["audio", False], ["video", False]]
KEY = "0123456789abcdefghijkl"


async def open_publish(browser, server, fragment, path="publish"):
    """The publisher's page, or another. The requests that it makes of sessions are kept in `page.requests`."""
    page = await browser.new_page()
    page.requests = []
    page.on("request", lambda request: request.method in ("POST", "DELETE") and page.requests.append(request.method))
    await page.add_init_script(KEEP_TRACKS)
    await page.goto(f"{server.url}/{path}#{fragment}")
    return page


@pytest.mark.asyncio
async def test_who_is_muted_stays_muted_when_it_starts_again(server):
    async with chromium() as sender:
        page = await open_publish(sender, server, "stays-muted")
        await page.click("#start")
        await is_state(page, "live")
        assert await page.evaluate("live()") == ON
        await page.click("#mute")
        await page.click("#hide")
        await page.click("#stop")
        assert await page.evaluate("live()") == []
        await page.click("#start")
        await is_state(page, "live")
        pressed = [await page.get_attribute(button, "aria-pressed") for button in ("#mute", "#hide")]
        assert pressed == ["true", "true"] and await page.evaluate("live()") == OFF
        await page.click("#mute")
        await page.click("#hide")
        assert await page.evaluate("live()") == ON


@pytest.mark.asyncio
async def test_stop_while_the_browser_asks_for_the_camera(server):
    async with chromium() as sender:
        page = await open_publish(sender, server, "stopped-early")
        await page.evaluate("holds = true")
        await page.click("#start")
        await page.click("#stop")
        assert await state(page) == "idle"
        await page.click("#start")

        async def is_asked():
            return await page.evaluate("answers.length") == 2
        await until(is_asked, 5, "it asks again")
        await page.evaluate("answers.forEach((answer) => answer())")
        await is_state(page, "live")
        assert await page.evaluate("live()") == ON, "what was asked for first is given back"
        assert page.requests == ["POST"]

        # The same where a device is changed.
        await page.select_option("#camera", index=1)
        await page.click("#stop")
        await page.evaluate("answers.forEach((answer) => answer())")

        async def is_opened():
            return await page.evaluate("tracks.length") == 6
        await until(is_opened, 5, "the device is opened")
        assert await page.evaluate("live()") == []
        assert await page.is_hidden("#error") and await page.is_enabled("#start")


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["publish", "watch"])
async def test_stop_while_the_key_is_made(server, path):
    async with chromium() as browser:
        page = await open_publish(browser, server, "")
        await page.goto(f"{server.url}/{path}")
        await page.fill("#stream-id", f"key-made-{path}")
        await page.evaluate("key => (document.querySelector('#key').value = key)", KEY)
        await page.evaluate("document.querySelector('#start').click(); document.querySelector('#stop').click()")
        await page.wait_for_timeout(2000)
        assert await state(page) == "idle" and page.requests == []
        assert await page.evaluate("live()") == []
        assert await page.is_enabled("#start") and await page.is_hidden("#error")


@pytest.mark.asyncio
async def test_an_unplugged_device_gives_way_to_the_default_one(server):
    async with chromium() as sender:
        page = await open_publish(sender, server, "unplugged")
        await page.click("#start")
        await is_state(page, "live")
        await page.select_option("#camera", index=1)

        async def is_changed():
            return await page.evaluate("live().length === 2 && tracks.length === 4")
        await until(is_changed, 5, "the other camera is used")
        await page.click("#mute")
        await page.evaluate(UNPLUG, "video")

        async def is_default():
            return "camera is gone" in await page.inner_text("#error") and await page.evaluate("live().length") == 2
        await until(is_default, 5, "the default camera is used")
        assert await page.input_value("#camera") == ""
        assert await page.evaluate("live()") == [["audio", False], ["video", True]]
        assert await state(page) == "live"


@pytest.mark.asyncio
async def test_another_privacy_mode_is_said_and_ends_the_session(server):
    async with chromium() as sender, chromium() as receiver:
        clear = await open_publish(sender, server, "mode-clear")
        await clear.click("#start")
        await is_state(clear, "live")
        sealed = await open_publish(sender, server, f"mode-sealed&key={KEY}")
        await sealed.click("#start")
        await is_state(sealed, "live")

        for path, fragment, said, requests in [
            ("watch", f"mode-clear&key={KEY}", "not end-to-end encrypted", ["POST"]),
            ("publish", "mode-sealed/second", "is end-to-end encrypted", ["POST"]),
            ("watch", "mode-sealed", "is end-to-end encrypted", ["POST"]),
        ]:
            # Opened at once: a page whose fragment changes loads itself again, and forgets a click that comes before.
            page = await open_publish(receiver, server, fragment, path)
            if path == "publish":
                await page.click("#start")
            await is_state(page, "failed")
            assert said in await page.inner_text("#error")
            await page.wait_for_timeout(1500)
            assert page.requests == requests, (path, fragment)
            assert await page.is_enabled("#start")


@pytest.mark.asyncio
async def test_a_stopped_session_leaves_no_listener_behind(server):
    async with chromium(fake_devices=False) as browser:
        page = await browser.new_page()
        await page.add_init_script("""
            window.listening = 0;
            const listen = window.addEventListener;
            window.addEventListener = function (type, action, options) {
                if (type === "pagehide") {
                    listening += 1;
                    options?.signal?.addEventListener("abort", () => (listening -= 1));
                }
                return listen.call(this, type, action, options);
            };
        """)
        await page.goto(f"{server.url}/watch#nobody-is-here")
        for _ in range(3):
            await is_state(page, "waiting")
            assert await page.evaluate("listening") == 1
            await page.click("#stop")
            assert await page.evaluate("listening") == 0
            await page.click("#start")


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["", "publish", "watch"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_pages_fit_and_say_what_the_server_can_see(server, path, scheme, width):
    async with chromium(fake_devices=False) as browser:
        page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        problems = []
        page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"{server.url}/{path}")
        banner = page.locator("#privacy")
        assert await banner.is_visible()
        box = await banner.bounding_box()
        assert box["y"] + box["height"] <= 800, "the banner is on the first screen"
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        OUTPUT.mkdir(exist_ok=True)
        await page.screenshot(path=OUTPUT / f"{path or 'index'}-{scheme}-{width}.png", full_page=True)
        assert problems == []
