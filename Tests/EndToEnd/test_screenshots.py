"""Pictures of every page for people to look at, in output/screenshots; and what can be checked of them without people."""

import pathlib

import pytest

from chromium import chromium
from page_states import states
from room_page import DESKTOP, PHONE

OUTPUT = pathlib.Path(__file__).parent / "output" / "screenshots"
SIZES = {"desktop": (DESKTOP, {}), "phone": (PHONE, {"is_mobile": True, "has_touch": True, "device_scale_factor": 2})}
OVERFLOW = """() => [document.documentElement, document.body, document.querySelector("main")]
    .filter((one) => one.scrollWidth > one.clientWidth).map((one) => `${one.tagName}: ${one.scrollWidth} > ${one.clientWidth}`)"""
BANNER = """(toEnd) => {
    for (const one of [document.scrollingElement, document.body]) one.scrollTop = toEnd ? one.scrollHeight : 0;
    const { top, bottom, left, right } = document.querySelector("#privacy").getBoundingClientRect();
    return top >= -1 && left >= -1 && bottom <= innerHeight && right <= innerWidth + 1 && bottom - top > 20;
}"""


@pytest.mark.asyncio
@pytest.mark.parametrize("size", SIZES)
async def test_pages_fit_and_the_banner_stays(server, size):
    viewport, options = SIZES[size]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    async with chromium(frame_rate=10) as browser:
        async for name, page in states(browser, server, viewport, **options):
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                assert await page.evaluate(OVERFLOW) == [], (name, "no horizontal scrolling")
                assert await page.evaluate(BANNER, True), (name, "the banner stays in view at the page's end")
                assert await page.evaluate(BANNER, False), (name, "the banner is in view")
                mode = await page.get_attribute("#privacy", "data-mode")
                expected = {"start-encrypted": "asked", "room-before-view-only": "asked", "room-error": "asked", "room-encrypted": "e2ee"}
                assert mode == expected.get(name, "transport"), name
                await page.screenshot(path=OUTPUT / f"{name}-{size}-{scheme}.png", full_page=not name.startswith("room-"))
    print(f"pictures in {OUTPUT}")
