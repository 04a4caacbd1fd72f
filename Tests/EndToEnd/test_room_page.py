"""What the start page and the room page offer to people."""

import re
import signal

import av
import numpy
import pytest

from chromium import chromium
from patience import figure, until
from room_page import (
    DESKTOP, KEEP_TRACKS, PHONE, UNPLUG, add_stubs, boxes, enter, is_pressed, open_anew, open_page, preview_shown, says)


async def more(page):
    if await page.is_hidden("#more"):
        await page.click("#more-toggle")


# The start page


@pytest.mark.asyncio
async def test_the_start_page_makes_a_room_and_shows_its_links(server):
    async with chromium(fake_devices=False) as browser:
        page = await open_page(browser, server.url, permissions=["clipboard-read", "clipboard-write"])
        invitation = await page.input_value("#link-join")
        room = re.fullmatch(re.escape(server.url) + r"/room#([a-z0-9]{12,})", invitation)[1]
        assert await page.input_value("#link-view") == f"{server.url}/room#{room}&view"
        assert await page.input_value("#link-whip") == f"{server.url}/{room}/obs/whip"
        assert await page.input_value("#link-whep") == f"{server.url}/{room}/obs/whep"
        assert await page.get_attribute("#enter", "href") == f"/room#{room}"
        for link in ("link-join", "link-view", "link-whip", "link-whep"):
            await page.click(f".copy-row:has(#{link}) button")
            assert await page.evaluate("navigator.clipboard.readText()") == await page.input_value(f"#{link}")
        await page.click("#another")
        assert await page.input_value("#link-join") != invitation
        assert page.problems == []


@pytest.mark.asyncio
async def test_an_encrypted_room_has_a_key_in_its_links_and_no_whip(server):
    async with chromium(fake_devices=False) as browser:
        page = await open_page(browser, server.url)
        await page.check("input[value=e2ee]")
        invitation = await page.input_value("#link-join")
        room, key = re.search(r"#([a-z0-9]+)&key=([A-Za-z0-9_-]{22,})$", invitation).groups()
        assert await page.input_value("#link-view") == f"{server.url}/room#{room}&key={key}&view"
        assert await page.locator("#link-whip, #link-whep").count() == 0
        assert "can't encrypt" in await page.inner_text("#links")
        # Nothing is claimed before a server has confirmed it.
        assert await page.get_attribute("#privacy", "data-mode") == "asked"
        assert "not confirmed" in await page.inner_text("#privacy")
        await page.click("#another")
        assert key not in await page.input_value("#link-join")
        await page.check("input[value=transport]")
        assert "key" not in await page.input_value("#link-join")
        assert "can see and record" in await page.inner_text("#privacy")
        await page.check("input[value=e2ee]")
        expected = re.search("key=(.*)$", await page.input_value("#link-join"))[1]
        await page.click("#enter")
        await page.wait_for_selector("#key")
        assert await page.input_value("#key") == expected
        assert "not confirmed" in await page.inner_text("#privacy")


# Joining


@pytest.mark.asyncio
async def test_a_view_only_link_asks_for_no_camera(server):
    async with chromium(frame_rate=10) as browser:
        host = await enter(browser, server, "view-only", "Ann")
        viewer = await open_page(browser, f"{server.url}/room#view-only&view")
        assert await viewer.is_hidden("#camera") and await viewer.is_hidden("#join")
        await viewer.click("#watch-only")
        await viewer.wait_for_selector(".tile[data-own=false]")

        async def moves():
            return await viewer.eval_on_selector(".tile video", "v => v.getVideoPlaybackQuality().totalVideoFrames") > 3
        await until(moves, 10, "the viewer sees the host")
        assert await viewer.evaluate("asked") == 0
        assert await viewer.evaluate("sluiceRoom().rights") == ["view"]
        assert await viewer.is_hidden("#mute") and await viewer.is_hidden("#share")
        await says(host, "#count", "1 watching")
        assert viewer.problems == []


@pytest.mark.asyncio
async def test_only_watching_lets_the_camera_go(server):
    async with chromium(frame_rate=10) as browser:
        page = await open_page(browser, f"{server.url}/room#let-go")
        await preview_shown(page)
        await page.evaluate("window.track = document.querySelector('#preview').srcObject.getVideoTracks()[0]")
        assert await page.evaluate("track.readyState") == "live"
        await page.click("#watch-only")
        await page.wait_for_selector("#inside:not([hidden])")
        assert await page.evaluate("track.readyState") == "ended"


HELD = KEEP_TRACKS + "holds = true;"


@pytest.mark.asyncio
async def test_a_camera_that_is_granted_after_only_watch_is_let_go(server):
    async with chromium(frame_rate=10) as browser:
        page = await open_page(browser, f"{server.url}/room#granted-late", script=HELD)
        await page.click("#watch-only")
        await page.wait_for_selector("#inside:not([hidden])")
        await page.evaluate("answers.forEach((answer) => answer())")

        async def is_opened():
            return await page.evaluate("tracks.length") == 2
        await until(is_opened, 5, "the browser opens the devices")
        assert await page.evaluate("live()") == []
        assert page.problems == []


@pytest.mark.asyncio
async def test_joining_again_while_the_browser_asks_publishes_once(server):
    async with chromium(frame_rate=10) as browser:
        page = await open_page(browser, f"{server.url}/room#joined-twice", script=HELD)
        for _ in range(2):
            await page.click("#join")
            await page.wait_for_selector("#inside:not([hidden])")
            await page.click("#leave")
            await page.wait_for_selector("#before:not([hidden])")
        await page.click("#join")
        await page.wait_for_selector("#inside:not([hidden])")
        await page.evaluate("answers.forEach((answer) => answer())")
        await page.wait_for_selector(".tile[data-own=true]")

        async def is_opened():
            return await page.evaluate("tracks.length") == 6
        await until(is_opened, 5, "the browser opens the devices")
        await page.wait_for_timeout(500)
        assert await page.evaluate("sluiceRoom().published.length") == 1
        assert await page.locator(".tile").count() == 1
        assert await page.evaluate("live()") == [["audio", True], ["video", True]]
        assert page.problems == []


@pytest.mark.asyncio
async def test_an_unplugged_device_gives_way_to_the_default_one(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "pulled-out", "Ann", script=KEEP_TRACKS)
        await page.click("#mute")
        await page.evaluate(UNPLUG, "audio")
        await says(page, "#announcements", "The microphone is gone. The default one is used now.")
        assert await page.evaluate("live()") == [["audio", False], ["video", True]]
        # Where there is no other, the others are told at least that there is no picture.
        await page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); }; }")
        await page.evaluate(UNPLUG, "video")
        await says(page, "#error", "The camera is gone.")
        assert await is_pressed(page, "#hide")
        assert await page.evaluate("sluiceRoom().published[0].muted.sort()") == ["audio", "video"]
        assert page.problems == []


@pytest.mark.asyncio
async def test_a_key_never_joins_a_room_that_is_not_encrypted(server):
    async with chromium(frame_rate=10) as browser:
        await enter(browser, server, "in-the-clear", "Ann")
        page = await open_page(browser, f"{server.url}/room#in-the-clear&key=0123456789abcdefghijkl")
        assert await page.input_value("#key") == "0123456789abcdefghijkl"
        await preview_shown(page)
        await page.click("#join")
        await page.wait_for_selector("#error:not([hidden])")
        assert await page.is_hidden("#inside") and await page.is_enabled("#join")
        assert await page.get_attribute("#privacy", "data-mode") == "asked"


@pytest.mark.asyncio
async def test_a_key_may_have_any_characters(server):
    async with chromium(fake_devices=False) as browser:
        page = await open_page(browser, f"{server.url}/room#any&key=a=b%26c%25=&view")
        assert await page.input_value("#key") == "a=b&c%="
        assert await page.evaluate("""async () => {
            const { makeFragment, readFragment } = await import("/assets/page.js");
            const key = "a=b&c%=#ü ";
            return readFragment(makeFragment({ identifier: "any", key })).key === key;
        }""")
        # Another address that is pasted into the same tab is another page.
        await page.evaluate("location.hash = '#other&key=another-key'")

        async def is_other():
            return await page.input_value("#room-id") == "other" and await page.input_value("#key") == "another-key"
        await until(is_other, 5, "the page shows the other room")


DAMAGED = ["damaged&key=50%off", "damaged&key=", "damaged&key", "damaged&amp;key=0123456789abcdefghijkl", "damaged&Key=0123456789abcdefghijkl",
           "damaged%26key=0123456789abcdefghijkl"]


@pytest.mark.asyncio
@pytest.mark.parametrize("fragment", DAMAGED)
async def test_a_damaged_address_never_means_without_encryption(server, fragment):
    async with chromium(frame_rate=10) as browser:
        page = await open_page(browser, f"{server.url}/room#{fragment}")
        for path, buttons in (("room", ["join", "watch-only"]), ("publish", ["start"]), ("watch", ["start"])):
            await open_anew(page, f"{server.url}/{path}#{fragment}")
            assert "This address is damaged" in await page.inner_text("#error"), path
            assert all([await page.is_disabled(f"#{button}") for button in buttons]), path
            # Nor does Enter in a field begin.
            await page.press("#name" if path == "room" else "#stream-id", "Enter")
            assert await page.get_attribute("#state", "data-state") == "idle", path
        assert await page.evaluate("asked") == 0, "the camera stays off"
        assert page.problems == []


@pytest.mark.asyncio
async def test_an_encrypted_room(server):
    async with chromium(frame_rate=10) as browser:
        ann = await enter(browser, server, "secret&key=0123456789abcdefghijkl", "Ann")
        ben = await enter(browser, server, "secret&key=0123456789abcdefghijkl", "Ben")
        for page in (ann, ben):
            assert await page.get_attribute("#privacy", "data-mode") == "e2ee"
            await page.bring_to_front()

            async def moves():
                return await page.eval_on_selector(".tile[data-own=false] video", "v => v.getVideoPlaybackQuality().totalVideoFrames") > 5
            await page.wait_for_selector(".tile[data-own=false]")
            await until(moves, 15, "the other is seen")
        await more(ann)
        assert await ann.input_value("#link-join") == f"{server.url}/room#secret&key=0123456789abcdefghijkl"
        assert await ann.locator("#link-whip").count() == 0
        await ann.click("#figures")

        async def measured():
            return re.search(r"Encrypting \d+\.\d\d ms a frame · Decrypting \d+\.\d\d ms a frame", await ann.inner_text("#statistics"))
        await until(measured, 10, "the overlay says what encryption costs")

        eve = await open_page(browser, f"{server.url}/room#secret&key=another-key-that-is-wrong&view")
        await eve.click("#watch-only")
        await eve.wait_for_selector(".tile[data-undecryptable=true]")
        assert await eve.inner_text(".tile[data-undecryptable=true] .tile-note") == "Encrypted with another key: nothing can be shown."
        none = await open_page(browser, f"{server.url}/room#secret")
        await preview_shown(none)
        await none.click("#join")
        await none.wait_for_selector("#error:not([hidden])")
        assert await none.is_hidden("#inside")


@pytest.mark.asyncio
async def test_a_denied_camera_is_explained_and_one_can_join_without(server):
    async with chromium("--use-fake-device-for-media-stream", "--deny-permission-prompts", fake_devices=False) as browser:
        page = await open_page(browser, f"{server.url}/room#denied")
        await says(page, "#placeholder", "not allowed")
        await page.click("#join")
        await page.wait_for_selector("#inside:not([hidden])")
        assert await page.locator(".tile").count() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("reason, asked", [("NotReadableError", 2), ("AbortError", 2), ("NotAllowedError", 1)])
async def test_a_camera_that_is_still_busy_is_asked_for_again(server, reason, asked):
    """The page before, or another tab, may let it go a moment later. A refusal is an answer."""
    async with chromium(frame_rate=10) as browser:
        script = """
            const asked = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = (wanted) => {
                const result = asked(wanted);
                return window.asked === 1 ? Promise.reject(new DOMException("", "%s")) : result;
            };
        """
        page = await open_page(browser, f"{server.url}/room#busy", script=script % reason)
        if asked == 1:
            await says(page, "#placeholder", "not allowed")
        else:
            await preview_shown(page)
        assert await page.evaluate("window.asked") == asked


@pytest.mark.asyncio
async def test_the_microphone_level_moves(server):
    async with chromium(frame_rate=10) as browser:
        page = await open_page(browser, f"{server.url}/room#level")

        async def loud():
            return float(await page.evaluate("document.querySelector('#level').value")) > 0.05
        await until(loud, 10, "the meter shows the fake microphone's beep")


@pytest.mark.asyncio
async def test_settings_are_remembered_and_forgotten(server):
    async with chromium(frame_rate=10) as browser:
        page = await open_page(browser, f"{server.url}/room#remember&key=kept-out-of-storage")
        await preview_shown(page)
        await page.fill("#name", "Ann")
        await page.check("#joins-muted")
        await page.select_option("#camera", index=1)
        camera = await page.input_value("#camera")
        assert camera
        await open_anew(page, f"{server.url}/room#elsewhere")
        await preview_shown(page)
        assert await page.input_value("#name") == "Ann" and await page.is_checked("#joins-muted")

        async def chosen():
            return await page.input_value("#camera") == camera
        await until(chosen, 5, "the camera is chosen again")
        stored = await page.evaluate("JSON.stringify(localStorage)")
        assert "kept-out-of-storage" not in stored and "remember\"" not in stored and "elsewhere" not in stored
        await page.click("#join")
        await page.wait_for_selector(".tile[data-own=true]")
        assert await is_pressed(page, "#mute"), "it joins muted"
        assert await page.evaluate("sluiceRoom().published[0].muted") == ["audio"]

        await more(page)
        await page.click("#remembered summary")
        await page.click("#forget")
        await says(page, "#forgotten", "Forgotten")
        assert await page.evaluate("localStorage.length") == 0
        await page.reload()
        assert await page.input_value("#name") == "" and not await page.is_checked("#joins-muted")


# Tiles


@pytest.mark.asyncio
async def test_the_grid_is_good_from_1_to_50(server):
    async with chromium(fake_devices=False) as browser:
        page = await open_page(browser, f"{server.url}/room#layout")
        for width, height, most in [(1400, 640, 50), (1050, 640, 25), (366, 560, 12)]:
            for count in range(1, 51):
                for name in ("gridOf", "speakerOf"):
                    places = await page.evaluate(
                        "async ([name, count, width, height]) => (await import('/assets/layout.js'))[name](count, width, height)",
                        [name, count, width, height])
                    assert len(places) == count
                    places = [place for place in places if place]
                    for place in places:
                        assert place["left"] >= -0.5 and place["left"] + place["width"] <= width + 0.5, (name, count, width)
                        assert place["width"] > 40 and 0.9 <= place["width"] / place["height"] <= 1.8
                        if count <= most or name == "speakerOf":
                            assert place["top"] >= -0.5 and place["top"] + place["height"] <= height + 0.5, (name, count, width)
                    for index, one in enumerate(places):
                        for other in places[index + 1:]:
                            apart = (one["left"] + one["width"] <= other["left"] + 0.5 or other["left"] + other["width"] <= one["left"] + 0.5
                                     or one["top"] + one["height"] <= other["top"] + 0.5 or other["top"] + other["height"] <= one["top"] + 0.5)
                            assert apart, (name, count, width, height)
                    if name == "gridOf" and count <= most:
                        # Beside what is lost to the tiles' shape.
                        used = sum(place["width"] * place["height"] for place in places) / (width * height)
                        assert used > 0.33, (count, width, used)


@pytest.mark.asyncio
@pytest.mark.parametrize("viewport,columns", [(DESKTOP, None), (PHONE, 2)], ids=["desktop", "phone"])
async def test_fifty_tiles_are_shown(server, viewport, columns):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, f"fifty-{viewport['width']}", "Ann", viewport, reduced_motion="reduce")
        await add_stubs(page, 49)
        tiles = await boxes(page)
        assert len(tiles) == 50 and all(tile["width"] >= 130 for tile in tiles)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        place = await page.locator("#tiles").bounding_box()
        if columns:
            assert len({tile["x"] for tile in tiles}) == columns
            assert await page.evaluate("document.querySelector('#tiles').scrollHeight > document.querySelector('#tiles').clientHeight")
        else:
            assert all(tile["y"] + tile["height"] <= place["y"] + place["height"] + 1 for tile in tiles)
        assert await page.is_visible("#mute") and await page.is_visible("#privacy")


@pytest.mark.asyncio
async def test_the_speaker_or_a_screen_is_large(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "large", "Ann", reduced_motion="reduce")
        await add_stubs(page, 3)

        async def largest():
            tiles = sorted(await boxes(page), key=lambda tile: -tile["width"] * tile["height"])
            return tiles[0]["id"], tiles[0]["width"] * tiles[0]["height"] / (tiles[1]["width"] * tiles[1]["height"])

        async def speaks(stream):
            await page.evaluate("id => sluiceRoom().dispatchEvent(new CustomEvent('speakers', { detail: [{ stream: id, level: -20 }] }))", stream)
        assert (await largest())[1] == pytest.approx(1)
        await more(page)
        await page.click("#layout")
        assert await is_pressed(page, "#layout")
        await speaks("stub-2")
        # The server tells of Ann herself meanwhile.
        is_marked = """() => {
            const event = new CustomEvent("speakers", { detail: [{ stream: "stub-2", level: -20 }] });
            sluiceRoom().dispatchEvent(event);
            return document.querySelector(".tile[data-stream=stub-2]").dataset.speaking;
        }"""
        assert await page.evaluate(is_marked) == "true"
        assert (await largest())[0] == "stub-2" and (await largest())[1] > 3
        await speaks("stub-3")
        assert (await largest())[0] == "stub-3"
        await page.click("#layout")
        assert (await largest())[1] == pytest.approx(1)
        # A screen takes the large place by itself, whoever speaks, and gives it back.
        await add_stubs(page, 1, "screen")
        await speaks("stub-1")
        assert (await largest())[0] == "stub-4" and await is_pressed(page, "#layout")
        await page.evaluate("""() => {
            const stream = sluiceRoom().streams.get("stub-4");
            sluiceRoom().streams.delete("stub-4");
            sluiceRoom().dispatchEvent(new CustomEvent("stream-removed", { detail: stream }));
        }""")
        assert not await is_pressed(page, "#layout")
        # Those that have no place beside a speaker are said to be there.
        await page.click("#layout")
        await add_stubs(page, 46)
        await page.click("#more .close")

        async def said():
            hidden = sum(not tile["placed"] for tile in await boxes(page))
            return hidden > 0 and await page.inner_text("#without-place") == f"{hidden} more in the grid"
        await until(said, 3, "it says how many have no place")
        await page.reload()
        await page.click("#join")
        await page.wait_for_selector(".tile")
        assert await is_pressed(page, "#layout"), "the layout is remembered"


# The colour in the middle of a video.
MIDDLE = """(video) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 3, height: 3 });
    const paint = canvas.getContext("2d");
    paint.drawImage(video, 0, 0, 3, 3);
    return [...paint.getImageData(1, 1, 1, 1).data];
}"""


@pytest.mark.asyncio
async def test_a_shared_screen_is_seen_by_others(server):
    async with chromium(frame_rate=10) as browser:
        ann = await enter(browser, server, "screen", "Ann")
        ben = await enter(browser, server, "screen", "Ben")
        await ann.bring_to_front()
        await ann.click("#share")
        await ann.wait_for_selector(".tile[data-own=true][data-kind=screen]")
        assert await is_pressed(ann, "#share")
        await ben.bring_to_front()
        await ben.wait_for_selector(".tile[data-own=false][data-kind=screen]")
        assert await ben.inner_text(".tile[data-kind=screen] .tile-name") == "Ann's screen"

        async def shown():
            red, green, blue, _ = await ben.eval_on_selector(".tile[data-kind=screen] video", MIDDLE)
            return red > 150 and green < 90 and blue < 90
        await until(shown, 15, "the screen's picture arrives")
        await ann.click("#share")
        await ben.wait_for_selector(".tile[data-kind=screen]", state="detached")


# Asks what to share until `choose` is called; `shared` is what it gave.
SLOW_SCREEN = """{
    const share = navigator.mediaDevices.getDisplayMedia;
    navigator.mediaDevices.getDisplayMedia = async () => {
        window.questions = (window.questions ?? 0) + 1;
        await new Promise((choose) => (window.choose = choose));
        return (window.shared = await share());
    };
}"""


@pytest.mark.asyncio
async def test_a_screen_that_is_not_published_is_let_go(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "screen-late", "Ann", script=SLOW_SCREEN)

        async def is_let_go():
            return await page.evaluate("window.shared?.getTracks().every((track) => track.readyState === 'ended')")
        # The room ends while the browser asks what to share.
        await page.click("#share")
        await page.click("#share")
        assert await page.evaluate("questions") == 1
        await page.click("#leave")
        await page.wait_for_selector("#before:not([hidden])")
        await page.evaluate("choose()")
        await until(is_let_go, 5, "nothing is captured")
        assert await page.is_hidden("#error")
        # The server refuses the stream.
        await page.click("#join")
        await page.wait_for_selector(".tile[data-own=true]")
        await page.evaluate("sluiceRoom().publish = async () => { throw new Error('refused by the test'); }; shared = null")
        await page.click("#share")
        await page.evaluate("choose()")
        await until(is_let_go, 5, "nothing is captured")
        await says(page, "#error", "refused by the test")
        assert not await is_pressed(page, "#share")
        assert page.problems == []


@pytest.mark.asyncio
async def test_a_stream_under_another_key_is_black_and_says_why(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "other-key", "Ann")
        await add_stubs(page, 1)
        change = """(value) => {
            const stream = sluiceRoom().streams.get("stub-1");
            stream.undecryptable = value;
            sluiceRoom().dispatchEvent(new CustomEvent("stream-updated", { detail: stream }));
        }"""
        await page.evaluate(change, True)
        note = page.locator(".tile[data-stream=stub-1] .tile-note")
        assert await note.inner_text() == "Encrypted with another key: nothing can be shown."
        assert not await page.is_visible(".tile[data-stream=stub-1] video")
        await page.evaluate(change, False)
        assert await note.is_hidden() and await page.is_visible(".tile[data-stream=stub-1] video")


# Quality and figures

GOOD = {"loss": 0, "jitter": 0.005, "frozen": 0, "isSilent": False}


@pytest.mark.asyncio
async def test_quality_is_made_of_loss_jitter_and_freezes(server):
    async with chromium(fake_devices=False) as browser:
        page = await open_page(browser, f"{server.url}/room#levels")
        for figures, level in [({}, "good"), ({"loss": 0.05}, "fair"), ({"loss": 0.2}, "poor"), ({"jitter": 0.08}, "fair"),
                               ({"jitter": 0.3}, "poor"), ({"frozen": 0.1}, "fair"), ({"frozen": 0.5}, "poor"), ({"isSilent": True}, "poor")]:
            assert await page.evaluate("async (f) => (await import('/assets/quality.js')).levelOf(f)", GOOD | figures) == level, figures
        assert await page.evaluate("async () => (await import('/assets/quality.js')).worse('good', 'poor')") == "poor"
        assert await page.evaluate("async () => (await import('/assets/quality.js')).worse(undefined, 'fair')") == "fair"


@pytest.mark.asyncio
async def test_tiles_show_quality_and_the_overlay_figures(server):
    async with chromium(frame_rate=10) as browser:
        ben = await enter(browser, server, "figures", "Ben")
        ann = await enter(browser, server, "figures", "Ann")
        other = ".tile[data-own=false]"
        await ann.wait_for_selector(f"{other} .bars[data-level]:not([hidden])")
        assert re.fullmatch("Connection: (good|fair|poor)", await ann.get_attribute(f"{other} .bars", "aria-label"))
        # The worse of what the browser and what the server says counts.
        stream = await ann.get_attribute(other, "data-stream")
        await ann.evaluate("id => sluiceRoom().dispatchEvent(new CustomEvent('quality', { detail: [{ stream: id, level: 'poor' }] }))", stream)
        assert await ann.get_attribute(f"{other} .bars", "aria-label") == "Connection: poor"

        assert await ann.is_hidden("#statistics") and await ann.is_hidden(f"{other} .tile-figures")
        await more(ann)
        await ann.click("#figures")

        async def measured():
            text = await ann.inner_text(f"{other} .tile-figures")
            found = re.search(r"(\d+) × (\d+) · (\d+) fps · (VP8|VP9|H264|AV1)\n([\d.]+) [kM]bit/s · lost [\d.]+ %\njitter \d+ ms · round trip \d+ ms", text)
            return found and int(found[3]) > 0 and float(found[5]) > 0
        await until(measured, 15, "the tile has its figures")
        own = await ann.inner_text(".tile[data-own=true] .tile-figures")
        assert re.search(r"\d+ × \d+ .*fps.*\n[\d.]+ [kM]bit/s", own)
        assert re.search(r"Upload [1-9][\d.]* [kM]bit/s · Download [1-9][\d.]* [kM]bit/s", await ann.inner_text("#statistics"))
        # Where frames are encrypted, it says what that costs.
        await ann.evaluate("""sluiceRoom().encryptionStatistics = async () => ({
            sent: { frames: 100, milliseconds: 25 }, received: { frames: 200, milliseconds: 20, failed: 3 } })""")
        await says(ann, "#statistics", "Encrypting 0.25 ms a frame · Decrypting 0.10 ms a frame · 3 frames not decrypted")
        await ann.click("#figures")
        assert await ann.is_hidden("#statistics") and await ann.is_hidden(f"{other} .tile-figures")
        assert ann.problems == [] and ben.problems == []


# Recording


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["all", "own"])
async def test_a_recording_is_a_file_and_others_are_told(server, tmp_path, what):
    async with chromium(frame_rate=10) as browser:
        ben = await enter(browser, server, f"record-{what}", "Ben")
        ann = await enter(browser, server, f"record-{what}", "Ann")
        await ann.wait_for_selector(".tile[data-own=false]")
        await ann.wait_for_timeout(1000)
        await more(ann)
        await ann.select_option("#record-what", what)
        await ann.click("#record")
        await says(ben, "#recording-notice", "Ann is recording.")
        assert await ann.inner_text("#recording-notice") == "You are recording."
        if what == "all":
            # Who comes later is told too.
            viewer = await open_page(browser, f"{server.url}/room#record-{what}&view")
            await viewer.click("#watch-only")
            await says(viewer, "#recording-notice", "Ann is recording.", 15)
            await ann.bring_to_front()
        await ann.wait_for_timeout(2500)
        async with ann.expect_download() as waiting:
            await ann.click("#record")
        download = await waiting.value
        assert re.fullmatch(r"sluice-\d{4}-\d\d-\d\d\.webm", download.suggested_filename)
        file = tmp_path / "recording.webm"
        await download.save_as(file)
        await until(lambda: is_empty(ben, "#recording-notice"), 5, "the notice is gone")
        check_recording(file)
        assert ann.problems == []


@pytest.mark.asyncio
async def test_leaving_saves_the_recording(server, tmp_path):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "record-leave", "Ann")
        await more(page)
        await page.click("#record")
        await page.wait_for_timeout(2500)
        async with page.expect_download() as waiting:
            await page.click("#leave")
        await (await waiting.value).save_as(tmp_path / "recording.webm")
        check_recording(tmp_path / "recording.webm")
        assert await page.inner_text("#recording-notice") == ""


@pytest.mark.asyncio
async def test_a_recording_that_ends_by_itself_is_saved(server, tmp_path):
    keep_recorder = """{
        const Native = MediaRecorder;
        window.MediaRecorder = class extends Native { constructor(...given) { super(...given); window.recorder = this; } };
    }"""
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "record-broken", "Ann", script=keep_recorder)
        await more(page)
        await page.click("#record")
        await page.wait_for_timeout(2500)
        async with page.expect_download() as waiting:
            await page.evaluate("recorder.stop()")
        await (await waiting.value).save_as(tmp_path / "recording.webm")
        # What the encoder had in hand is lost, the file isn't.
        with av.open(str(tmp_path / "recording.webm")) as container:
            assert sum(1 for _ in container.decode(video=0)) > 5
        assert not await is_pressed(page, "#record") and await page.inner_text("#recording-notice") == ""
        assert "ended by itself" in await page.inner_text("#error")
        assert page.problems == []


@pytest.mark.asyncio
async def test_pictures_are_large_enough_for_a_recording(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "record-large", "Ann", {"width": 640, "height": 480})
        await add_stubs(page, 3)
        await page.evaluate("""() => {
            window.heights = {};
            sluiceRoom().setSize = (id, height) => (heights[id] = height);
        }""")
        shown = (720 - 8) / 2

        async def tell(action):
            await more(page)
            await action()
            await page.click("#more .close")
            await page.wait_for_timeout(100)
            return await page.evaluate("heights['stub-1']")
        assert 0 < await tell(lambda: page.wait_for_timeout(0)) < 200
        assert await tell(lambda: page.click("#record")) == pytest.approx(shown)
        async with page.expect_download():
            assert await tell(lambda: page.click("#record")) < 200
        # One's own picture doesn't come over the network.
        assert await tell(lambda: page.select_option("#record-what", "own")) < 200
        assert await tell(lambda: page.click("#record")) < 200


async def is_empty(page, selector):
    return await page.inner_text(selector) == ""


def check_recording(file):
    with av.open(str(file)) as container:
        assert len(container.streams.video) == 1 and len(container.streams.audio) == 1
        times, loudest, brightest = {"video": [], "audio": []}, 0, 0
        for frame in container.decode(video=0, audio=0):
            kind = "video" if isinstance(frame, av.VideoFrame) else "audio"
            times[kind].append(frame.time)
            if kind == "audio":
                loudest = max(loudest, numpy.abs(frame.to_ndarray()).max())
            elif len(times["video"]) % 10 == 1:
                brightest = max(brightest, frame.to_ndarray(format="rgb24").std())
    print({kind: (len(all), all[0], all[-1]) for kind, all in times.items()}, "loudest", loudest, "contrast", brightest)
    lengths = {kind: values[-1] - values[0] for kind, values in times.items()}
    assert lengths["audio"] > 1.5
    figure("a recording's picture", lengths["video"], at_least=1.5)
    assert len(times["video"]) > 1 and loudest > 0.005 and brightest > 20
    figure("a recording", len(times["video"]) / lengths["video"], at_least=4, unit="pictures a second")


# The host


@pytest.mark.asyncio
async def test_a_host_mutes_and_removes_locks_and_ends(server):
    async with chromium(frame_rate=10) as browser:
        host = await enter(browser, server, "hosted", "Host")
        guest = await enter(browser, server, "hosted", "Guest")
        third = await enter(browser, server, "hosted", "Third")
        assert await guest.locator(".tile-menu:visible").count() == 0
        await more(guest)
        assert await guest.is_hidden("#host")
        menu = host.get_by_role("button", name="Actions for Guest")
        await host.bring_to_front()
        await menu.click()
        await host.click("#dialog [data-value=mute]")
        await guest.wait_for_selector("#mute[aria-pressed=true]")
        await says(guest, "#announcements", "Host has muted you")
        await says(host, ".tile:has(.tile-menu[aria-label='Actions for Guest']) figcaption", "(muted)")

        await menu.click()
        await host.click("#dialog [data-value=hide]")
        await guest.wait_for_selector("#hide[aria-pressed=true]")
        await says(guest, "#announcements", "switched your picture off")
        await guest.click("#share")
        await guest.wait_for_selector("#share[aria-pressed=true]")
        await host.locator(".tile[data-kind=screen] .tile-menu").click()
        await host.click("#dialog [data-value=hide]")
        await guest.wait_for_selector("#share[aria-pressed=false]")
        await host.wait_for_selector(".tile[data-kind=screen]", state="detached")

        await more(host)
        await host.click("#lock")
        await says(guest, "#count", "locked")
        late = await open_page(browser, f"{server.url}/room#hosted")
        await late.click("#join")
        await late.wait_for_selector("#error:not([hidden])")
        assert await late.is_hidden("#inside")
        await host.bring_to_front()
        await host.click("#lock")
        await host.wait_for_selector("#lock[aria-pressed=false]")

        await menu.click()
        await host.keyboard.press("Escape")
        assert await guest.is_visible("#inside"), "closing the dialog does nothing"
        await menu.click()
        await host.click("#dialog [data-value=remove]")
        await guest.wait_for_selector("#before:not([hidden])")
        assert "removed" in await guest.inner_text("#error")
        await host.click("#end")
        await host.click("#dialog [data-value=end]")
        for page in (third, host):
            await page.wait_for_selector("#before:not([hidden])")
            assert "ended" in await page.inner_text("#error")
        assert host.problems == []


# Keys, words and fingers


@pytest.mark.asyncio
async def test_keys(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "keys", "Ann")
        for key, button in (("m", "#mute"), ("v", "#hide")):
            await page.keyboard.press(key)
            assert await is_pressed(page, button)
            await page.keyboard.press(key)
            assert not await is_pressed(page, button)
        await page.keyboard.press("Control+m")
        assert not await is_pressed(page, "#mute")
        await page.keyboard.press("s")
        await page.wait_for_selector("#share[aria-pressed=true]")
        await page.keyboard.press("c")
        assert await page.evaluate("document.activeElement.id") == "chat-text"
        await page.keyboard.type("mvs")
        assert await page.input_value("#chat-text") == "mvs"
        assert not await is_pressed(page, "#mute") and await is_pressed(page, "#share")
        await page.keyboard.press("Escape")
        assert await page.is_hidden("#chat") and await page.evaluate("document.activeElement.id") == "chat-toggle"
        # Whoever speaks to the computer turns them off.
        await more(page)
        await page.click("#remembered summary")
        await page.uncheck("#shortcuts")
        await page.keyboard.press("m")
        assert not await is_pressed(page, "#mute")


@pytest.mark.asyncio
async def test_keys_press_no_button_that_is_not_shown(server):
    async with chromium(frame_rate=10) as browser:
        page = await open_page(browser, f"{server.url}/room#viewer-keys&view", script=SLOW_SCREEN)
        await page.click("#watch-only")
        await page.wait_for_selector("#inside:not([hidden])")
        await page.keyboard.press("s")
        assert await page.evaluate("window.questions ?? 0") == 0
        await page.keyboard.press("c")
        assert await page.is_visible("#chat")


@pytest.mark.asyncio
async def test_tab_reaches_every_control_and_shows_where_it_is(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "tab", "Ann")
        await add_stubs(page, 1)
        await more(page)
        await page.evaluate("document.querySelector('#inside-title').focus()")
        reached, without_outline = set(), set()
        for _ in range(50):
            await page.keyboard.press("Tab")
            name, outline = await page.evaluate("""() => {
                const one = document.activeElement;
                if (one === document.body) return ["", ""];
                return [one.id || one.className, getComputedStyle(one).outlineStyle];
            }""")
            reached.add(name)
            if outline == "none" and name:
                without_outline.add(name)
        wanted = {"tiles", "tile-menu", "close", "layout", "figures", "lock", "end", "record-what", "record", "link-join", "link-view",
                  "camera", "microphone", "mute", "hide", "share", "chat-toggle", "more-toggle", "leave"}
        assert wanted - reached == set()
        assert without_outline == set()


@pytest.mark.asyncio
async def test_joins_leaves_and_messages_are_announced(server):
    async with chromium(frame_rate=10) as browser:
        ann = await enter(browser, server, "announced", "Ann", PHONE)
        assert await ann.is_visible("#alone")
        assert await ann.get_attribute("#announcements", "aria-live") == "polite"
        ben = await enter(browser, server, "announced", "Ben")
        await says(ann, "#announcements", "Ben joined.")
        assert await ann.is_hidden("#alone")
        # On a telephone a message doesn't cover the pictures; it is counted.
        await ben.click("#chat-toggle")
        await ben.fill("#chat-text", "Hello")
        await ben.press("#chat-text", "Enter")
        await says(ann, "#announcements", "Ben: Hello")
        assert await ann.is_hidden("#chat") and await ann.get_attribute("#chat-toggle", "aria-label") == "Chat, 1 not read"
        await ann.click("#chat-toggle")
        assert await ann.get_attribute("#chat-toggle", "aria-label") == "Chat"
        assert "Ben: Hello" in await ann.inner_text("#messages")
        await ann.click("#chat .close")
        await ben.click("#leave")
        await says(ann, "#announcements", "Ben left.")
        assert ann.problems == [] and ben.problems == []


@pytest.mark.asyncio
async def test_announcements_don_t_take_each_other_s_place(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "many-announcements", "Ann")
        await page.evaluate("""async () => {
            const { announce } = await import("/assets/notices.js");
            for (const number of [1, 2, 3, 4, 5]) announce(`Number ${number}.`);
        }""")
        lines = (await page.inner_text("#announcements")).splitlines()
        assert lines == ["Number 2.", "Number 3.", "Number 4.", "Number 5."]
        # What was read out once isn't read out again with the next line.
        assert await page.get_attribute("#announcements", "aria-atomic") == "false"
        await until(lambda: is_empty(page, "#announcements"), 10, "they are gone after a while")


HEAR = "text => sluiceRoom().dispatchEvent(new CustomEvent('message', { detail: { from: 'somebody', data: { text } } }))"


@pytest.mark.asyncio
async def test_a_message_opens_the_chat_unless_it_was_closed(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "closed-chat", "Ann")
        label = page.locator("#chat-toggle")
        await page.evaluate(HEAR, "first")
        # It came into a list that was hidden: screen readers hear of it elsewhere.
        assert await page.is_visible("#chat") and "first" in await page.inner_text("#announcements")
        await page.evaluate(HEAR, "second")
        assert "second" not in await page.inner_text("#announcements")
        for number, close in enumerate((lambda: page.click("#chat .close"), lambda: page.press("#chat-text", "Escape"), label.click)):
            await close()
            await page.evaluate(HEAR, f"unwanted {number}")
            assert await page.is_hidden("#chat") and await label.get_attribute("aria-label") == "Chat, 1 not read"
            assert f"unwanted {number}" in await page.inner_text("#announcements")
            await label.click()
            assert await label.get_attribute("aria-label") == "Chat"
        # Another panel closes the chat too, but that doesn't say that it isn't wanted.
        await page.click("#more-toggle")
        await page.click("#more-toggle")
        await page.evaluate(HEAR, "last")
        assert await page.is_visible("#chat")


@pytest.mark.asyncio
async def test_the_chat_keeps_the_last_messages(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "long-chat", "Ann")
        await page.click("#chat-toggle")
        await page.evaluate("hear => { for (let number = 1; number <= 510; number += 1) eval(hear)(`message ${number}`); }", HEAR)
        assert await page.locator("#messages li").count() == 500
        assert (await page.locator("#messages li").first.inner_text()).endswith("message 11")
        assert (await page.locator("#messages li").last.inner_text()).endswith("message 510")


@pytest.mark.asyncio
async def test_a_lost_connection_is_seen(own_server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, own_server, "lost", "Ann", PHONE)
        assert await page.inner_text("#state") == "In the room"
        own_server.stop(signal.SIGKILL)
        await page.wait_for_selector("#state[data-state=reconnecting]")
        box = await page.locator("#state").bounding_box()
        assert "connecting again" in await page.inner_text("#state") and box["y"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
        assert await page.get_attribute("#state", "role") == "status"
        own_server.start()
        await page.wait_for_selector("#state[data-state=joined]")


# Parts of the page that are smaller than a finger.
SMALL = """() => [...document.querySelectorAll("button, a.button, nav a, select, summary, input:not([type=checkbox]):not([type=radio]), label.choice")]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }))
    .map((one) => [one.id || one.textContent.trim(), one.getBoundingClientRect()])
    .filter(([, box]) => box.width > 1 && (box.width < 43.5 || box.height < 43.5))
    .map(([name, box]) => `${name}: ${box.width} x ${box.height}`)"""


@pytest.mark.asyncio
async def test_controls_are_as_large_as_a_finger(server):
    async with chromium(frame_rate=10) as browser:
        for path in ("", "room", "publish", "watch"):
            page = await open_page(browser, f"{server.url}/{path}", PHONE, has_touch=True, is_mobile=True)
            assert await page.evaluate(SMALL) == [], path
        page = await enter(browser, server, "fingers", "Ann", PHONE, has_touch=True, is_mobile=True)
        await add_stubs(page, 6)
        assert await page.evaluate(SMALL) == []
        for panel in ("#more-toggle", "#chat-toggle"):
            await page.click(panel)
            assert await page.evaluate(SMALL) == []


@pytest.mark.asyncio
async def test_whoever_wants_less_motion_gets_none(server):
    async with chromium(frame_rate=10) as browser:
        for wish, expected in (("reduce", True), ("no-preference", False)):
            page = await enter(browser, server, f"motion-{wish}", "Ann", reduced_motion=wish)
            duration = await page.eval_on_selector(".tile", "tile => getComputedStyle(tile).transitionProperty")
            assert (duration == "none") == expected, duration
