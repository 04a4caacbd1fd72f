"""Debian's Chromium, headless, with a fake camera and microphone, driven by Playwright."""

import contextlib
import pathlib
import shutil

from playwright.async_api import async_playwright

from patience import GIVES_UP_SECONDS

PEERS = (pathlib.Path(__file__).parent / "browser_peers.js").read_text()
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")


def patiently(make):
    """Makes pages, or contexts of them, whose waits end when a test's others do."""
    async def made(**options):
        result = await make(**options)
        result.set_default_timeout(GIVES_UP_SECONDS * 1000)
        return result
    return made


@contextlib.asynccontextmanager
async def chromium(*arguments, fake_devices=True, program=PROGRAM, frame_rate=30):
    """A browser process of its own."""
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", *arguments]
    if fake_devices:
        flags += [f"--use-fake-device-for-media-stream=fps={frame_rate}", "--use-fake-ui-for-media-stream"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, headless=True, args=flags)
        browser.new_page, browser.new_context = patiently(browser.new_page), patiently(browser.new_context)
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

