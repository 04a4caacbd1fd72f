"""End-to-end encryption: who has the key sees and hears, whoever has not does not, the server least of all."""

import asyncio
import json
import pathlib
import urllib.error
import urllib.request

import av.logging
import pytest

from chromium import chromium
from firefox import firefox_page
from patience import PATIENCE, until
from room_page import preview_shown
from rtp_capture import Capture, chi_squared, decodable, more_codecs
from sluice import OPERATOR_TOKEN, ROOT, Server, own_address

HERE = pathlib.Path(__file__).parent
PEERS = (HERE / "encryption_peers.js").read_text() + ";Object.assign(window, {enterRoom, publishCamera, received});"
CODECS = ["VP8", "VP9", "H264", "AV1"]
KEY = {"encryption": {"passphrase": "correct horse battery staple"}}
WRONG_KEY = {"encryption": {"passphrase": "incorrect horse"}}
# Noise has 255 with a standard deviation of 22.6; nothing that an encoder makes comes near it.
NOISE = 400
# Behind them there is nothing in the clear, and no SFrame header. A frame of H.264 ends with a byte that is always the same.
VIDEO_HEAD, AUDIO_HEAD = 40, 14
VIDEO_TAIL = {"H264": 1}


async def rooms_page(browser, server, script=None):
    page = await browser.new_page()
    if script:
        await page.add_init_script(script)
    await page.goto(server.url)
    await page.evaluate(PEERS)
    return page


async def enter(page, name, room, options, **more):
    await page.evaluate("([name, options]) => enterRoom(name, options)", [name, {"room": room} | options | more])


async def publish(page, name, **options):
    await page.evaluate("([name, options]) => publishCamera(name, options)", [name, options])


async def figures(page, name):
    return await page.evaluate("(name) => received(name)", name)


async def sees(page, name, frames=20):
    """Waits until so many more frames are decoded, and sound is heard."""
    before = await figures(page, name)

    async def more():
        now = await figures(page, name)
        return now["frames"] >= before["frames"] + frames and now["energy"] > before["energy"] and now
    return await until(more, 15, f"{name} sees and hears; {before}")


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", CODECS)
async def test_the_key_decides_who_sees_and_hears(server, codec):
    room = f"sealed-{codec}"
    async with chromium() as browser:
        ann, bob, eve = [await rooms_page(browser, server) for _ in range(3)]
        await enter(ann, "ann", room, KEY)
        await enter(bob, "bob", room, KEY)
        await enter(eve, "eve", room, WRONG_KEY)
        await publish(ann, "ann", codec=codec)
        await publish(bob, "bob", codec=codec)
        for page, name in [(ann, "ann"), (bob, "bob")]:
            seen = await sees(page, name)
            assert f"video/{codec}" in seen["codecs"] and "audio/opus" in seen["codecs"]
            assert seen["undecryptable"] == [False]
            assert seen["encryption"]["received"]["failed"] == 0 and seen["encryption"]["sent"]["failed"] == 0
        seen = await figures(eve, "eve")
        # The same packets come to her, and nothing comes of them.
        assert seen["packets"] > 30 and seen["encryption"]["received"]["failed"] > 30
        assert seen["frames"] == 0 and seen["samples"] == 0 and seen["energy"] == 0
        assert seen["undecryptable"] == [True, True]


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", CODECS)
async def test_the_server_has_nothing_but_noise(server, codec):
    """What Sluice forwards, taken from its SRTP: in the mode transport it is decodable frames, in e2ee it is noise."""
    av.logging.set_level(av.logging.PANIC)
    async with chromium() as browser:
        page = await rooms_page(browser, server)
        seen = {}
        for mode, options in [("transport", {}), ("e2ee", KEY)]:
            room = f"capture-{mode}-{codec}"
            await enter(page, mode, room, options)
            await publish(page, mode, codec=codec, id="cam")
            seen[mode] = await capture(server, f"{room}/cam", codec, mode)
            await page.evaluate("(name) => rooms[name].room.leave()", mode)
    print(codec, seen)
    plain, encrypted = seen["transport"], seen["e2ee"]
    assert plain["decodable"] > 100 and encrypted["decodable"] == 0
    for kind in ["video", "audio"]:
        assert encrypted[kind] < NOISE < plain[kind], kind


async def capture(server, stream, codec, mode):
    with more_codecs():
        viewer = Capture(server, stream)
        try:
            # In e2ee it declares what it doesn't do: it keeps what comes.
            await viewer.negotiate(privacy=mode)
            await viewer.connected()
            await asyncio.sleep(6 * PATIENCE)
        finally:
            # aiortc was seen to wait for ever; nothing here hangs on how it ends.
            await asyncio.wait([asyncio.ensure_future(viewer.close())], timeout=5)
    frames = viewer.encoded("video", codec)
    audio = [packet.payload for packet in viewer.packets["audio"].values()]
    assert len(frames) > 100 and len(audio) > 100
    return {
        "video": round(chi_squared(b"".join(frame[VIDEO_HEAD:len(frame) - VIDEO_TAIL.get(codec, 0)] for frame in frames))),
        "audio": round(chi_squared(b"".join(payload[AUDIO_HEAD:] for payload in audio))),
        "decodable": decodable(codec, frames),
    }


@pytest.mark.asyncio
async def test_keys_change_in_the_middle_of_a_call(server):
    async with chromium() as browser:
        ann, bob, eve = [await rooms_page(browser, server) for _ in range(3)]
        key, next_key = list(range(32)), list(range(100, 132))
        made = "([name, room, key, more]) => enterRoom(name, {room, encryption: {key: Uint8Array.from(key), ...more}})"
        for page, name in [(ann, "ann"), (bob, "bob"), (eve, "eve")]:
            await page.evaluate(made, [name, "changing", key, {}])
        await publish(ann, "ann")
        await publish(bob, "bob")
        for page, name in [(ann, "ann"), (bob, "bob"), (eve, "eve")]:
            await sees(page, name)

        # Ann takes a step; Bob and Eve can follow, and Bob's own media does.
        await ann.evaluate("() => rooms.ann.room.ratchet()")
        for page, name in [(ann, "ann"), (bob, "bob"), (eve, "eve")]:
            seen = await sees(page, name, frames=40)
            assert not any(seen["undecryptable"]), name
            assert seen["encryption"]["received"]["failed"] == 0, "not a frame was lost to it"

        # Who is given the next step's key sees what is sent from now on.
        await ann.evaluate("() => rooms.ann.room.leave()")
        ratcheted = await bob.evaluate("""async (key) => {
            const material = await crypto.subtle.importKey("raw", Uint8Array.from(key), "HKDF", false, ["deriveBits"]);
            const info = new TextEncoder().encode("SFrame 1.0 Ratchet");
            const bits = await crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info }, material, 256);
            return [...new Uint8Array(bits)];
        }""", key)
        await ann.evaluate(made, ["late", "changing", ratcheted, {"step": 1}])
        await sees(ann, "late")

        # Bob takes another key, which Eve is not told.
        change = "([name, key]) => rooms[name].room.setKey({ key: Uint8Array.from(key), generation: 1 })"
        await ann.evaluate(change, ["late", next_key])
        await bob.evaluate(change, ["bob", next_key])
        await sees(ann, "late")

        async def eve_is_out():
            return (await figures(eve, "eve"))["undecryptable"] == [True]
        await until(eve_is_out, 5, "Eve is told that she can't read it")
        before = (await figures(eve, "eve"))["frames"]
        await asyncio.sleep(1)
        assert (await figures(eve, "eve"))["frames"] == before
        # Told the key, she sees again.
        await eve.evaluate(change, ["eve", next_key])
        seen = await sees(eve, "eve")
        assert seen["undecryptable"] == [False]


@pytest.mark.asyncio
async def test_messages_are_sealed_too(server):
    async with chromium() as browser:
        ann, bob, eve = [await rooms_page(browser, server) for _ in range(3)]
        frames = []
        ann.on("websocket", lambda socket: socket.on("framesent", lambda text: frames.append(text)))
        await ann.reload()
        await ann.evaluate(PEERS)
        for page, name, options in [(ann, "ann", KEY), (bob, "bob", KEY), (eve, "eve", WRONG_KEY)]:
            await enter(page, name, "whispers", options)
        await ann.evaluate("() => rooms.ann.room.send({ text: 'meet at the old oak' })")

        async def arrived():
            return (await figures(bob, "bob"))["messages"] == [{"text": "meet at the old oak"}]
        await until(arrived, 5, "Bob reads it")

        async def told():
            return (await figures(eve, "eve"))["errors"] == ["undecryptable"]
        await until(told, 5, "Eve is told that there was something")
        assert not any("oak" in text for text in frames)
        assert any("sframe" in text for text in frames)
        # Nor is what everything hangs on ever sent.
        assert not any("horse" in text for text in frames)


@pytest.mark.asyncio
async def test_the_sdk_believes_no_server_about_the_mode(server):
    """A server that calls an encrypted room an open one, or the other way about, is left, and nothing is sent to it."""
    async with chromium() as browser:
        for mode, options in [("transport", KEY), ("e2ee", {})]:
            page = await browser.new_page()
            sent = []

            async def lie(route):
                to_server = route.connect_to_server()
                route.on_message(lambda text: (sent.append(json.loads(text)["type"]), to_server.send(text)))

                def from_server(text):
                    message = json.loads(text)
                    if message["type"] == "joined":
                        message["privacy"]["mode"] = mode
                    route.send(json.dumps(message))
                to_server.on_message(from_server)
            await page.route_web_socket("**/v1/ws", lie)
            await page.goto(server.url)
            await page.evaluate(PEERS)
            refused = await page.evaluate(
                "(options) => enterRoom('ann', options).then(() => null, (error) => [error.code, error.message])",
                {"room": f"lies-{mode}"} | options)
            assert refused[0] == "privacy" and "end-to-end encrypted" in refused[1]
            assert sent == ["join", "leave"]


@pytest.mark.asyncio
async def test_keys_are_checked_before_anything_is_sent(server):
    async with chromium() as browser:
        page = await rooms_page(browser, server)
        attempt = "(options) => enterRoom('ann', options).then(() => null, (error) => [error.code, error.message])"
        for encryption in [{}, {"passphrase": ""}, {"passphrase": "x", "generation": 256}, {"passphrase": "x", "step": -1}]:
            refused = await page.evaluate(attempt, {"room": "unkeyed", "encryption": encryption})
            assert refused and refused[0] == "bad-request", encryption
        short = await page.evaluate(attempt.replace("options)", "options)", 1).replace(
            "enterRoom('ann', options)", "enterRoom('ann', { ...options, encryption: { key: new Uint8Array(15) } })"),
            {"room": "unkeyed"})
        assert short == ["bad-request", "A key has at least 16 bytes."]


@pytest.mark.asyncio
async def test_where_there_are_only_encoded_streams(server):
    async with chromium() as browser:
        old = await rooms_page(browser, server, "delete window.RTCRtpScriptTransform;")
        assert await old.evaluate("() => 'createEncodedStreams' in RTCRtpSender.prototype")
        new = await rooms_page(browser, server)
        eve = await rooms_page(browser, server, "delete window.RTCRtpScriptTransform;")
        await enter(old, "old", "generations", KEY)
        await enter(new, "new", "generations", KEY)
        await enter(eve, "eve", "generations", WRONG_KEY)
        await publish(old, "old")
        await publish(new, "new")
        await sees(old, "old")
        await sees(new, "new")
        seen = await figures(eve, "eve")
        assert seen["frames"] == 0 and seen["samples"] == 0 and seen["undecryptable"] == [True, True]


@pytest.mark.asyncio
async def test_a_browser_that_can_not_encrypt_sends_nothing(server):
    script = "delete window.RTCRtpScriptTransform; delete RTCRtpSender.prototype.createEncodedStreams;"
    async with chromium() as browser:
        page = await rooms_page(browser, server, script)
        refused = await page.evaluate(
            "(options) => enterRoom('ann', options).then(() => null, (error) => [error.code, error.message])", {"room": "old"} | KEY)
        assert refused == ["unsupported", "This browser can't encrypt media end to end: nothing was sent."]


@pytest.mark.asyncio
async def test_firefox_and_chromium_read_each_other():
    address = own_address()
    assert address, "this machine needs an IPv4 address besides loopback for Firefox"
    with Server("--media-listen", address, environment={"SLUICE_AUTH_MODE": "token"}) as server:
        async with firefox_page(server) as fox, chromium() as browser:
            chrome = await rooms_page(browser, server)
            await fox.evaluate(f"(() => {{ {PEERS} }})()")
            options = {"room": "species", "token": OPERATOR_TOKEN} | KEY
            await enter(chrome, "chrome", "species", options)
            await fox.evaluate(f"enterRoom('fox', {json.dumps(options)})")
            await publish(chrome, "chrome", codec="VP8")
            await fox.evaluate("publishCamera('fox', {codec: 'VP8'})")
            await sees(chrome, "chrome")

            async def fox_sees():
                seen = await fox.evaluate("received('fox')")
                return seen["frames"] > 30 and seen["energy"] > 0 and seen["undecryptable"] == [False]
            await until(fox_sees, 20, "Firefox sees and hears")


def post(server, path, headers):
    sdp = (HERE.parent / "Fuzz/Corpus/offer/chromium-VP8").read_bytes()
    request = urllib.request.Request(f"{server.url}/{path}", data=sdp, headers={"Content-Type": "application/sdp"} | headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, {}
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.asyncio
async def test_whip_into_an_encrypted_room_is_refused_with_the_reason(server):
    async with chromium() as browser:
        page = await rooms_page(browser, server)
        await enter(page, "ann", "no-whip", KEY)
        for headers in [{}, {"Sluice-Privacy": "transport"}]:
            status, problem = await asyncio.to_thread(post, server, "no-whip/obs/whip", headers)
            assert status == 409 and problem["privacy"] == "e2ee"
            assert "end-to-end encrypted" in problem["detail"], problem


@pytest.mark.asyncio
async def test_publishing_and_watching_by_the_pages(server):
    """The key is behind the # of the addresses: a viewer who has it sees, one with another is told why he doesn't."""
    async with chromium() as browser:
        publisher = await browser.new_page()
        await publisher.goto(f"{server.url}/publish#sealed-camera&key=open%20sesame")
        await publisher.click("#start")
        await publisher.wait_for_selector("#state[data-state=live]")
        assert await publisher.get_attribute("#privacy", "data-mode") == "e2ee"
        address = await publisher.input_value("#viewer-address")
        assert address.endswith("/watch#sealed-camera&key=open%20sesame")
        viewer, wrong, without = [await browser.new_page() for _ in range(3)]
        await viewer.goto(address)
        await wrong.goto(address.replace("sesame", "barley"))
        await without.goto(address.split("&")[0])
        decoded = "() => document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"

        async def moves():
            return await viewer.evaluate(decoded) > 30
        await until(moves, 15, "the viewer with the key sees")
        assert await viewer.is_hidden("#sealed")
        await wrong.wait_for_selector("#sealed:not([hidden])")
        assert "another key" in await wrong.inner_text("#sealed")
        assert await wrong.evaluate(decoded) == 0
        await without.wait_for_selector("#error:not([hidden])")
        assert "key is needed" in await without.inner_text("#error")
        assert await without.evaluate(decoded) == 0


@pytest.mark.asyncio
async def test_the_room_page_with_the_key_another_and_none(server):
    """Two see and hear each other; a third has another key, and sees black and a message; a fourth has none, and is told so."""
    async with chromium() as browser:
        pages = []
        for name, key in [("Ann", "open%20sesame"), ("Ben", "open%20sesame"), ("Eve", "open%20barley"), ("Dan", "")]:
            page = await browser.new_page(viewport={"width": 900, "height": 700})
            pages.append(page)
            await page.goto(f"{server.url}/room#cave" + (f"&key={key}" if key else ""))
            await preview_shown(page)
            await page.fill("#name", name)
            await page.click("#join")
            if key:
                await page.wait_for_selector("#inside:not([hidden])")
        ann, ben, eve, dan = pages
        for page in (ann, ben):
            assert await page.get_attribute("#privacy", "data-mode") == "e2ee"
            other = "Ben" if page is ann else "Ann"

            async def sees_and_hears():
                tile = await page.evaluate(TILE, other)
                return tile["frames"] > 30 and tile["energy"] > 0
            await until(sees_and_hears, 15, f"{other} is seen and heard")
            # Eve's media came from somebody without the key.
            assert (await page.evaluate(TILE, "Eve"))["frames"] == 0
        for name in ("Ann", "Ben"):
            async def says_why():
                return "another key" in (await eve.evaluate(TILE, name))["text"]
            await until(says_why, 10, "Eve is told why she sees nothing")
        await asyncio.sleep(1)
        tile = await eve.evaluate(TILE, "Ann")
        assert tile["frames"] == 0 and tile["energy"] == 0 and tile["black"]
        await eve.screenshot(path=HERE / "output/room-wrong-key.png")
        await ann.screenshot(path=HERE / "output/room-encrypted.png")
        await dan.wait_for_selector("#error:not([hidden])")
        assert "its key is needed" in await dan.inner_text("#error")
        assert await dan.is_hidden("#inside")


# A remote tile: what it says, how many frames were decoded, whether its picture is black, and what was heard of everybody.
TILE = """async (name) => {
    const tile = [...document.querySelectorAll(".tile[data-own=false]")].find((tile) => tile.textContent.includes(name));
    if (!tile) return { text: "", frames: 0, energy: 0, black: false };
    const video = tile.querySelector("video");
    const canvas = Object.assign(document.createElement("canvas"), { width: 16, height: 9 });
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0, 16, 9);
    const stats = await sluiceRoom().connections.receive.getStats();
    return {
        text: tile.textContent,
        frames: video.getVideoPlaybackQuality().totalVideoFrames,
        energy: [...stats.values()].reduce((sum, item) => sum + (item.kind === "audio" ? item.totalAudioEnergy ?? 0 : 0), 0),
        black: context.getImageData(0, 0, 16, 9).data.every((value, index) => index % 4 === 3 || value === 0),
    };
}"""


@pytest.mark.asyncio
async def test_sframe_is_the_standard_s(server):
    """The test vector of RFC 9605 for AES_128_GCM_SHA256_128."""
    vector = {
        "base": "000102030405060708090a0b0c0d0e0f", "kid": "0000000000000123", "counter": 0x4567,
        "metadata": "4945544620534672616d65205747", "plaintext": "64726166742d696574662d736672616d652d656e63",
        "sealed": "9901234567b7412c2513a1b66dbb48841bbaf17f598751176ad847681a69c6d0b091c07018ce4adb34eb",
    }
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(server.url)
        result = await page.evaluate("""async (vector) => {
            const { SFrameKey } = await import("/sdk/sluice.js");
            const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
            const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
            const derive = () => SFrameKey.derive(bytes(vector.base), bytes(vector.kid));
            const [sender, receiver] = [await derive(), await derive()];
            // The counter can't be set: it is counted up to.
            for (let count = 0; count < vector.counter; count += 1) await sender.seal(new Uint8Array(1));
            const sealed = await sender.seal(bytes(vector.plaintext), bytes(vector.metadata));
            const opened = await receiver.open(bytes(vector.sealed), bytes(vector.metadata));
            const again = await receiver.open(sealed, bytes(vector.metadata)).then(() => "opened", (error) => error.message);
            const changed = sealed.slice();
            changed[changed.length - 1] ^= 1;
            const broken = await (await derive()).open(changed, bytes(vector.metadata)).then(() => "opened", () => "refused");
            const next = await sender.seal(new Uint8Array(1));
            return { sealed: hex(sealed), opened: hex(opened), again, broken, next: hex(next.subarray(0, 5)) };
        }""", vector)
    assert result == {
        "sealed": vector["sealed"], "opened": vector["plaintext"], "again": "A frame that was seen before.", "broken": "refused",
        "next": "9901234568",
    }


@pytest.mark.asyncio
async def test_dressed_frames_come_back_as_they_were(server):
    """Thousands of sealed frames of every length, many zeros among them, through each codec's dressing and what a receiver makes of it."""
    source = (ROOT / "Sources/Control/Web/sdk/frames.js").read_text()
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(server.url)
        failures = await page.evaluate("""() => {""" + source + """
            let seed = 1;
            const random = (below) => ((seed = (seed * 1664525 + 1013904223) >>> 0) >>> 8) % below;
            const bytes = (length) => Uint8Array.from({ length }, () => (random(3) ? random(4) : random(256)));
            const frames = {
                "video/VP8": [[0x10, 2, 0, 0x9d, 1, 0x2a, 64, 1, 180, 0, 7, 7], [0x31, 2, 0, 9]],
                "video/VP9": [[0x82, 0x49]],
                "video/H264": [
                    [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0, 0, 1, 0x68, 0xce, 0x3c, 0, 0, 1, 0x65, 0xb8, 0, 4, 1, 2, 3],
                    [0, 0, 0, 1, 0x41, 0x9a, 0, 0], [0, 0, 1, 0x41, 0x9a]],
                "video/AV1": [[0x12, 0, 0x0a, 3, 1, 2, 3, 0x32, 2, 9, 9], [0x30, 9, 9]],
                "audio/opus": [[0x78, 1, 2]],
            };
            const failures = [];
            for (const [mimeType, samples] of Object.entries(frames)) {
                const { clear, wrap, unwrap } = dressing(mimeType);
                for (let length = 17; length < 1200; length += 1) {
                    const frame = Uint8Array.from(samples[length % samples.length]);
                    const sealed = bytes(length);
                    const wrapped = wrap(clear(frame), sealed);
                    if (unwrap(wrapped).join() !== sealed.join()) failures.push([mimeType, length]);
                    if (mimeType === "video/H264") {
                        const units = [...nalUnits(wrapped)].map((unit) => unit[0] & 0x1f).join();
                        if (units !== "7,8,5" && units !== "1") failures.push([mimeType, length, units]);
                    }
                }
            }
            // What is no frame of ours makes nothing but an error or something that can't be opened.
            for (const mimeType of Object.keys(frames)) {
                for (let length = 0; length < 300; length += 1) dressing(mimeType).unwrap(bytes(length));
            }
            if (dressing("video/H265") || dressing(undefined)) failures.push("a codec that isn't known");
            return failures;
        }""")
    assert failures == []


def processor_seconds(pid):
    """What a process and those that it started have used so far."""
    def children(parent):
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                yield int(path.parent.name)

    total = 0
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / 100
    except OSError:
        return 0
    return total + sum(processor_seconds(child) for child in children(pid))


@pytest.mark.asyncio
@pytest.mark.uninstrumented
async def test_what_encryption_costs(server):
    """Reports the processor time of a browser with a sender and a receiver, by turns without and with encryption."""
    spent = {"transport": [], "e2ee": []}
    async with chromium() as browser:
        pid = await browser_pid()
        ann, bob = [await rooms_page(browser, server) for _ in range(2)]
        for turn in range(3):
            for mode, options in [("transport", {}), ("e2ee", KEY)]:
                room = f"cost-{mode}-{turn}"
                await enter(ann, "ann", room, options)
                await enter(bob, "bob", room, options)
                await publish(ann, "ann")
                await sees(bob, "bob")
                before = processor_seconds(pid)
                await asyncio.sleep(4)
                spent[mode].append((processor_seconds(pid) - before) / 4)
                cost = (await figures(ann, "ann"))["encryption"], (await figures(bob, "bob"))["encryption"]
                for page, name in [(ann, "ann"), (bob, "bob")]:
                    await page.evaluate("(name) => rooms[name].room.leave()", name)
    plain, encrypted = [sorted(spent[mode])[1] for mode in ["transport", "e2ee"]]
    sent, received = cost[0]["sent"], cost[1]["received"]
    print(f"processor time of the browser: {plain:.2f} s a second without, {encrypted:.2f} s with encryption; sealing takes "
          f"{sent['milliseconds'] / sent['frames']:.2f} ms a frame, opening {received['milliseconds'] / received['frames']:.2f} ms")
    assert sent["frames"] > 100 and received["frames"] > 100
    assert encrypted < 2 * plain, "encryption costs less than the call itself"


async def browser_pid():
    """The process of the browser that this test has started: the youngest one."""
    own = [int(path.parent.name) for path in pathlib.Path("/proc").glob("[0-9]*/stat") if is_our_browser(path)]
    return max(own)


def is_our_browser(path):
    try:
        command = (path.parent / "cmdline").read_bytes()
    except OSError:
        return False
    return b"chromium" in command and b"--type=" not in command and b"--remote-debugging" in command
