"""People in the room page who send nothing, who come back, and who are about to leave without meaning it."""

import signal

import pytest

from chromium import chromium
from patience import until
from room_page import enter, is_pressed, open_page, preview_shown, says

DENIED = """
    window.deny = true;
    const granted = navigator.mediaDevices.getUserMedia;
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        if (deny) throw new DOMException("Permission denied by system", "NotAllowedError");
        return granted(wanted);
    };
"""


async def enter_without_devices(browser, server, room, name):
    page = await open_page(browser, f"{server.url}/room#{room}", script=DENIED)
    await page.fill("#name", name)
    await page.click("#join")
    await page.wait_for_selector("#inside:not([hidden])")
    return page


async def more(page):
    if await page.is_hidden("#more"):
        await page.click("#more-toggle")


@pytest.mark.asyncio
async def test_somebody_without_devices_has_a_tile_and_can_be_removed(server):
    async with chromium(frame_rate=10) as browser:
        ann = await enter(browser, server, "quiet", "Ann")
        bob = await enter_without_devices(browser, server, "quiet", "Bob")
        tile = ".tile[data-kind=person]"
        await ann.wait_for_selector(tile)
        assert await ann.inner_text(f"{tile} .tile-name") == "Bob"
        # With something to show it gives way to that, and comes back after it.
        await bob.click("#share")
        await ann.wait_for_selector(".tile[data-kind=screen]")
        assert await ann.locator(tile).count() == 0
        await bob.click("#share")
        await ann.wait_for_selector(tile)
        await ann.click(f"{tile} .tile-menu")
        await ann.click("#dialog button[data-value=remove]")
        await says(bob, "#error", "The host removed you.")
        await ann.wait_for_selector(tile, state="detached")
        assert ann.problems == [] and bob.problems == []


@pytest.mark.asyncio
async def test_a_screen_first_and_then_a_camera(server):
    """Devices that are denied, a screen that is shared, and then a camera that is chosen after all."""
    async with chromium(frame_rate=10) as browser:
        ann = await enter(browser, server, "screen-first", "Ann")
        bob = await enter_without_devices(browser, server, "screen-first", "Bob")
        await bob.click("#share")
        await ann.wait_for_selector(".tile[data-kind=screen]")
        await bob.evaluate("() => { deny = false; }")
        await more(bob)
        await bob.evaluate("document.getElementById('camera').dispatchEvent(new Event('change'))")
        await bob.wait_for_selector(".tile[data-own=true][data-kind=camera]")
        await ann.wait_for_selector(".tile[data-own=false][data-kind=camera]")

        async def both_move():
            return await ann.evaluate("""() => [...document.querySelectorAll(".tile[data-own=false] video")]
                .every((video) => video.getVideoPlaybackQuality().totalVideoFrames > 5)""")
        await until(both_move, 15, "Ann sees the screen and the camera")
        assert await bob.is_hidden("#error") and bob.problems == []


@pytest.mark.asyncio
async def test_links_ask_before_they_end_a_call(server):
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "clicked", "Ann")
        for link in ["header .brand", "header nav a[href='/watch']"]:
            await page.click(link)
            await page.wait_for_selector("#dialog[open]")
            assert await page.inner_text("#dialog-title") == "Leave the room?"
            await page.click("#dialog button[data-value='']")
            assert await page.is_visible("#inside") and await page.evaluate("sluiceRoom().state") == "joined"
        await page.click("header nav a[href='/watch']")
        await page.click("#dialog button[data-value=leave]")
        await page.wait_for_url("**/watch")

        # Outside of a room they are links.
        before = await open_page(browser, f"{server.url}/room#clicked")
        await before.click("header nav a[href='/watch']")
        await before.wait_for_url("**/watch")


@pytest.mark.asyncio
async def test_browsers_errors_are_put_into_words(server):
    raw = "Could not start video source (0x80070005)"
    fails = f"async () => {{ throw new DOMException({raw!r}, 'UnknownError'); }}"
    async with chromium(frame_rate=10) as browser:
        page = await enter(browser, server, "worded", "Ann")
        breaks = {
            "#share": f"() => {{ navigator.mediaDevices.getDisplayMedia = {fails}; }}",
            "device": f"() => {{ navigator.mediaDevices.getUserMedia = {fails}; }}",
            "room": f"() => sluiceRoom().dispatchEvent(new CustomEvent('error', {{ detail: new DOMException({raw!r}, 'OperationError') }}))",
        }
        for what, script in breaks.items():
            await page.evaluate("document.getElementById('error').hidden = true")
            await page.evaluate(script)
            if what == "#share":
                await page.click(what)
            if what == "device":
                await page.evaluate("document.getElementById('camera').dispatchEvent(new Event('change'))")
            await page.wait_for_selector("#error:not([hidden])")
            text = await page.inner_text("#error")
            assert "0x8007" not in text and "Could not start" not in text and text.endswith("."), what
        publisher = await open_page(browser, f"{server.url}/publish#worded")
        await publisher.evaluate(breaks["device"])
        await publisher.click("#start")
        await publisher.wait_for_selector("#error:not([hidden])")
        assert "0x8007" not in await publisher.inner_text("#error")


@pytest.mark.asyncio
async def test_after_a_restart_the_page_shows_who_the_host_is(own_server):
    async with chromium(frame_rate=10) as browser:
        ann = await enter(browser, own_server, "rehosted", "Ann")
        bob = await enter(browser, own_server, "rehosted", "Bob")
        assert await ann.is_visible("#host") or not await ann.evaluate("document.getElementById('host').hidden")
        own_server.stop(signal.SIGKILL)
        for page in (ann, bob):
            await page.wait_for_selector("#state[data-state=reconnecting]")
        own_server.start()
        for page in (ann, bob):
            await page.wait_for_selector("#state[data-state=joined]")
        hosts = [await page.evaluate("sluiceRoom().rights.includes('host')") for page in (ann, bob)]
        assert sorted(hosts) == [False, True]
        for page, is_host in zip((ann, bob), hosts):
            assert await page.evaluate("document.getElementById('host').hidden") != is_host
            other = ".tile[data-own=false] .tile-menu"
            await page.wait_for_selector(other, state="visible" if is_host else "hidden")
        host, guest = (ann, bob) if hosts[0] else (bob, ann)
        await more(host)
        await host.click("#lock")

        async def locked():
            return await is_pressed(host, "#lock") and await guest.evaluate("sluiceRoom().locked")
        await until(locked, 5, "the one who is the host locks the room")


@pytest.mark.asyncio
async def test_a_page_that_is_loaded_again_is_what_it_was(server):
    async def reload(page):
        await page.reload()
        await preview_shown(page)
        await page.click("#join")
        await page.wait_for_selector("#inside:not([hidden]), #error:not([hidden])")

    async with chromium(frame_rate=10) as browser:
        ann = await enter(browser, server, "reloaded", "Ann")
        bob = await enter(browser, server, "reloaded", "Bob")
        await more(ann)
        await ann.click("#lock")

        async def locked():
            return await bob.evaluate("sluiceRoom().locked")
        await until(locked, 5, "the room is locked")
        # A guest comes back into the locked room; the host comes back as the host, and finds it locked.
        await reload(bob)
        assert await bob.is_visible("#inside") and not await bob.evaluate("sluiceRoom().rights.includes('host')")
        await reload(ann)
        assert await ann.evaluate("sluiceRoom().rights.includes('host')") and await ann.evaluate("sluiceRoom().locked")
        assert await bob.evaluate("sluiceRoom().locked")
        # Nobody else is let in, nor who was removed or has left.
        stranger = await open_page(browser, f"{server.url}/room#reloaded")
        await stranger.click("#join")
        await says(stranger, "#error", "locked")
        bobs = await bob.evaluate("sluiceRoom().peer")
        await ann.evaluate("(peer) => sluiceRoom().act('remove', peer)", bobs)
        await says(bob, "#error", "removed")
        await bob.click("#join")
        await says(bob, "#error", "locked")


@pytest.mark.asyncio
async def test_a_copy_of_the_tab_takes_the_call_over_for_good(server):
    async with chromium(frame_rate=10) as browser:
        first = await enter(browser, server, "copied", "Ann")
        peer = await first.evaluate("sluiceRoom().peer")
        # The browser copies what the tab has stored.
        async with first.expect_popup() as opened:
            await first.evaluate("() => { window.open(location.href); }")
        copy = await opened.value
        await preview_shown(copy)
        await copy.click("#join")
        await says(first, "#error", "another tab")
        assert await first.is_hidden("#inside") and await first.is_visible("#join")
        await copy.wait_for_selector("#inside:not([hidden])")
        assert await copy.evaluate("sluiceRoom().peer") == peer
        # Who joins again in the first tab is somebody else, and the copy stays where it is.
        await first.click("#join")
        await first.wait_for_selector("#inside:not([hidden])")
        assert await first.evaluate("sluiceRoom().peer") != peer
        await copy.wait_for_selector(".tile[data-own=false]")
        assert await copy.evaluate("[sluiceRoom().state, sluiceRoom().peer]") == ["joined", peer]
        assert first.problems == []
