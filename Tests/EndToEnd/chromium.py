"""Debian's Chromium, headless, with a fake camera and microphone, driven by Playwright."""

import asyncio
import contextlib
import os
import pathlib
import shutil

from playwright.async_api import async_playwright

PEERS = (pathlib.Path(__file__).parent / "browser_peers.js").read_text()
# How many times longer than promised something may take: the Makefile sets it where a sanitizer slows the server.
PATIENCE = float(os.environ.get("SLUICE_PATIENCE", 1))
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.asynccontextmanager
async def chromium(*arguments, fake_devices=True, program=PROGRAM, frame_rate=30):
    """A browser process of its own."""
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", *arguments]
    if fake_devices:
        flags += [f"--use-fake-device-for-media-stream=fps={frame_rate}", "--use-fake-ui-for-media-stream"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, headless=True, args=flags)
        try:
            yield browser
        finally:
            await browser.close()


async def peers_page(browser, server):
    """A page of the server's origin with the peers' functions in it."""
    page = await browser.new_page()
    await page.goto(server.url)
    await page.evaluate(PEERS + ";Object.assign(window, {publish, watch, figures, hangUp});")
    return page


async def figures(page, name):
    return await page.evaluate("figures", name)


async def until(check, seconds, what):
    """Waits until the coroutine function `check` returns something true."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                result = await check()
                if result:
                    return result
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"after {seconds} s still not: {what}") from None


async def steadily(measure, what, windows=3):
    """Asserts that one of some measured windows in a row is good: two cores can be busy with something else in one."""
    for _ in range(windows):
        if await measure():
            return
    assert PATIENCE > 1, f"in none of {windows} windows: {what}"
