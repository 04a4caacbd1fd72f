"""Every page in every state that somebody may look at: for screenshots and for the accessibility check."""

from room_page import add_stubs, enter, open_anew, open_page, preview_shown

DENY = """() => {
    navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("Permission denied", "NotAllowedError"); };
}"""
KEY = "Zm9yLXRlc3RzLW9ubHktMQ"


async def states(browser, server, viewport, **options):
    """Yields a name and a page, again and again. A page may be looked at, not used."""
    options = {"reduced_motion": "reduce", **options}
    prefix = f"s{viewport['width']}"

    def address(path):
        return f"{server.url}/{path}"

    page = await open_page(browser, server.url, viewport, **options)
    yield "start", page
    await page.check("input[value=e2ee]")
    yield "start-encrypted", page

    for name, path in [("publish", f"publish#{prefix}"), ("watch", "watch"), ("watch-waiting", f"watch#{prefix}-nobody")]:
        await open_anew(page, address(path))
        if name == "watch-waiting":
            await page.wait_for_selector("#state[data-state=waiting]")
        yield name, page
    await page.goto(address(f"publish#{prefix}"))
    await page.evaluate(DENY)
    await page.click("#start")
    await page.wait_for_selector("#error:not([hidden])")
    yield "publish-error", page

    await page.goto(address(f"room#{prefix}-room"))
    await preview_shown(page)
    yield "room-before", page
    await page.click("#remembered summary")
    await page.click("#forget")
    yield "room-before-settings", page
    await open_anew(page, address(f"room#{prefix}-room&key={KEY}&view"))
    yield "room-before-view-only", page
    await page.context.close()

    page = await enter(browser, server, f"{prefix}-room", "Ann", viewport, **options)
    yield "room-1", page
    refused = await open_page(browser, address(f"room#{prefix}-room&key={KEY}"), viewport, **options)
    await refused.click("#join")
    await refused.wait_for_selector("#error:not([hidden])")
    yield "room-error", refused
    await refused.context.close()
    await page.bring_to_front()

    await add_stubs(page, 3)
    await page.evaluate("sluiceRoom().dispatchEvent(new CustomEvent('speakers', { detail: [{ stream: 'stub-2', level: -20 }] }))")
    yield "room-4", page
    await page.click("#chat-toggle")
    await page.fill("#chat-text", "Shall we begin?")
    await page.press("#chat-text", "Enter")
    await page.wait_for_selector("#messages li")
    yield "room-chat", page
    await page.click("#chat .close")
    await page.click("#more-toggle")
    yield "room-more", page
    await page.click("#figures")
    await page.click("#record")
    await page.click("#more .close")
    await page.wait_for_selector(".tile-figures:not([hidden])")
    yield "room-statistics", page
    await page.click("#more-toggle")
    await page.click("#figures")
    async with page.expect_download():
        await page.click("#record")
    await page.click("#more .close")
    await page.locator(".tile-menu:visible").first.click()
    yield "room-dialog", page
    await page.keyboard.press("Escape")

    await page.evaluate("""() => {
        const room = sluiceRoom();
        Object.assign(room.streams.get("stub-1"), { undecryptable: true });
        Object.assign(room.streams.get("stub-2"), { muted: ["audio", "video"] });
        Object.assign(room.streams.get("stub-3"), { live: false });
        room.dispatchEvent(new CustomEvent("peers"));
        const levels = ["good", "fair", "poor"].map((level, index) => ({ stream: `stub-${index + 1}`, level }));
        room.dispatchEvent(new CustomEvent("quality", { detail: levels }));
        room.dispatchEvent(new CustomEvent("state", { detail: { state: "reconnecting" } }));
    }""")
    yield "room-trouble", page
    await page.evaluate("sluiceRoom().dispatchEvent(new CustomEvent('state', { detail: { state: 'joined' } }))")
    await add_stubs(page, 5)
    yield "room-9", page
    await page.click("#more-toggle")
    await page.click("#layout")
    await page.click("#more .close")
    yield "room-9-speaker", page
    await page.click("#more-toggle")
    await page.click("#layout")
    await page.click("#more .close")
    await add_stubs(page, 41)
    yield "room-50", page
    await page.context.close()

    page = await enter(browser, server, f"{prefix}-secret&key={KEY}", "Ann", viewport, **options)
    await add_stubs(page, 1)
    yield "room-encrypted", page
    await page.context.close()
