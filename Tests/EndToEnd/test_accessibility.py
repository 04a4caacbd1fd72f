"""axe-core on every page in every state, light and dark: it finds nothing."""

import pytest
from axe_playwright_python.async_playwright import Axe

from chromium import chromium
from page_states import states
from room_page import DESKTOP, PHONE

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


async def problems(page):
    found = (await Axe().run(page, options=RULES)).response["violations"]
    return [f"{one['impact']}: {one['id']}: {one['help']}: " + "; ".join(node["html"][:160] for node in one["nodes"][:4]) for one in found]


@pytest.mark.asyncio
@pytest.mark.parametrize("viewport,schemes", [(DESKTOP, ("light", "dark")), (PHONE, ("light",))], ids=["desktop", "phone"])
async def test_axe_finds_nothing(server, viewport, schemes):
    found, checked = {}, 0
    async with chromium(frame_rate=10) as browser:
        async for name, page in states(browser, server, viewport):
            for scheme in schemes:
                await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                checked += 1
                if here := await problems(page):
                    found[f"{name}, {scheme}"] = here
    assert checked >= 15 * len(schemes)
    assert found == {}, "\n".join(f"{state}\n  " + "\n  ".join(lines) for state, lines in found.items())


@pytest.mark.asyncio
async def test_axe_would_find_something(server):
    async with chromium(frame_rate=10) as browser:
        async for _, page in states(browser, server, DESKTOP):
            await page.evaluate("document.querySelector('label, h1').style.color = '#ddd'; document.body.append(document.createElement('button'))")
            assert any("serious" in line or "critical" in line for line in await problems(page))
            break
