"""Firefox publishes and watches.

Firefox pairs no loopback candidate with its own (nICEr), so the media port is on an address of this machine; packets to it
still don't leave the machine. Listening there takes a token.
"""

import json

import pytest

from chromium import chromium, figures, peers_page
from firefox import firefox_page
from patience import until
from sluice import OPERATOR_TOKEN, Server, own_address


@pytest.fixture(scope="module")
def server():
    address = own_address()
    assert address, "this machine needs an IPv4 address besides loopback for Firefox"
    with Server("--media-listen", address, environment={"SLUICE_AUTH_MODE": "token"}) as server:
        yield server


@pytest.mark.asyncio
async def test_firefox_publishes_and_both_browsers_watch(server):
    async with firefox_page(server) as fox, chromium() as browser:
        chrome = await peers_page(browser, server)
        options = {"url": f"{server.url}/fox/whip", "codec": "VP8", "token": OPERATOR_TOKEN}
        created = await fox.evaluate(f"publish('camera', {json.dumps(options)})")

        async def sends():
            return (await fox.figures("camera")).get("outbound-rtp-video", {}).get("framesEncoded", 0) > 10
        await until(sends, 20, "Firefox sends")
        watching = {"url": created["whep"], "token": OPERATOR_TOKEN}
        await fox.evaluate(f"watch('viewer', {json.dumps(watching)})")
        await chrome.evaluate("o => watch('viewer', o)", watching)

        async def firefox_sees():
            seen = await fox.figures("viewer")
            return (seen.get("inbound-rtp-video", {}).get("framesDecoded", 0) > 30
                    and seen.get("inbound-rtp-audio", {}).get("packetsReceived", 0) > 30)
        await until(firefox_sees, 20, "Firefox sees and hears it")

        async def chromium_sees():
            seen = await figures(chrome, "viewer")
            return (seen.get("inbound-rtp-video", {}).get("framesDecoded", 0) > 30
                    and seen.get("inbound-rtp-audio", {}).get("totalAudioEnergy", 0) > 0)
        await until(chromium_sees, 20, "Chromium sees and hears it")
        seen = (await fox.figures("viewer"))["inbound-rtp-video"]
        print(f"Firefox decoded {seen['framesDecoded']} frames of {seen.get('frameWidth')}x{seen.get('frameHeight')}")


@pytest.mark.asyncio
async def test_firefox_watches_chromium(server):
    async with firefox_page(server) as fox, chromium() as browser:
        chrome = await peers_page(browser, server)
        created = await chrome.evaluate("o => publish('camera', o)", {
            "url": f"{server.url}/crossed/whip", "codec": "VP9", "token": OPERATOR_TOKEN})
        watching = json.dumps({"url": created["whep"], "token": OPERATOR_TOKEN})
        await fox.evaluate(f"watch('viewer', {watching})")

        async def sees():
            return (await fox.figures("viewer")).get("inbound-rtp-video", {}).get("framesDecoded", 0) > 60
        await until(sees, 20, "Firefox sees Chromium's VP9")
