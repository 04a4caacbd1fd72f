"""What happens when a step of encrypting throws: nothing leaves in the clear, the connection is closed, and the application is told.

Each state of Docs/Encryption.md is tried with each step of it that can throw."""

import pytest

from chromium import chromium
from patience import until
from test_sdk import KEY, sdk_page, state_is

# Keeps every connection that is made, and breaks steps by name: `fault(name)` makes one throw until `mend()`.
FAULTS = """
window.made = [];
const Original = RTCPeerConnection;
window.RTCPeerConnection = class extends Original {
    constructor(...given) {
        super(...given);
        made.push(this);
    }
};
const steps = {
    transform: [window, "RTCRtpScriptTransform"],
    createEncodedStreams: [RTCRtpSender.prototype, "createEncodedStreams"],
    receive: [RTCRtpReceiver.prototype, "createEncodedStreams"],
    hand: [Worker.prototype, "postMessage", (message) => message.type === "streams"],
    addTransceiver: [Original.prototype, "addTransceiver"],
    capabilities: [RTCRtpReceiver, "getCapabilities"],
    setCodecPreferences: [RTCRtpTransceiver.prototype, "setCodecPreferences"],
    replaceTrack: [RTCRtpSender.prototype, "replaceTrack"],
    setLocalDescription: [Original.prototype, "setLocalDescription"],
    setRemoteDescription: [Original.prototype, "setRemoteDescription"],
    deriveBits: [SubtleCrypto.prototype, "deriveBits"],
    importKey: [SubtleCrypto.prototype, "importKey"],
    worker: [window, "Worker"],
};
let undo = () => {};
window.fault = (name) => {
    const [place, member, isMeant = () => true] = steps[name];
    const old = place[member];
    undo = () => { place[member] = old; };
    place[member] = function (...given) {
        if (!isMeant(...given)) return old.apply(this, given);
        throw new DOMException("injected", "OperationError");
    };
};
const setter = Object.getOwnPropertyDescriptor(RTCRtpSender.prototype, "transform");
if (setter) steps.assign = [Object.defineProperty({}, "member", {
    get: () => setter,
    set: (value) => Object.defineProperty(RTCRtpSender.prototype, "transform",
        value === setter ? setter : { ...setter, set: () => { throw new DOMException("injected", "OperationError"); } }),
}), "member"];
window.mend = () => { undo(); undo = () => {}; };
/** Packets of media that left by any connection. Those of closed ones were counted while they lived. */
window.left = 0;
const count = async () => {
    let sum = 0;
    for (const connection of made) {
        if (connection.signalingState === "closed") continue;
        for (const item of (await connection.getStats()).values()) if (item.type === "outbound-rtp") sum += item.packetsSent;
    }
    window.left = Math.max(left, sum);
};
const close = Original.prototype.close;
Original.prototype.close = function () {
    // What was sent until now: asked for before it is closed.
    if (this.signalingState !== "closed") {
        this.getStats().then((stats) => {
            for (const item of stats.values()) if (item.type === "outbound-rtp") window.left = Math.max(left, item.packetsSent);
        });
    }
    return close.call(this);
};
setInterval(count, 50);
window.open = () => made.filter((connection) => connection.signalingState !== "closed").length;
"""
OLD = "delete window.RTCRtpScriptTransform; delete RTCRtpSender.prototype.transform; delete RTCRtpReceiver.prototype.transform;"
SENDING = ["transform", "assign", "addTransceiver", "capabilities", "setCodecPreferences", "replaceTrack", "setLocalDescription",
           "setRemoteDescription"]
SENDING_OLD = ["createEncodedStreams", "hand"]


async def faulty_page(browser, server, script=""):
    page, wire = await sdk_page(browser, server, script + FAULTS)
    return page, wire


def received(server):
    return server.totals()["packetsReceived"]


async def publish(page, name):
    return await page.evaluate("(id) => camera().then((media) => codeOf(room.publish(media, { id })))", name)


async def seen_by(page, stream):
    """Waits until frames of a stream are decoded, each of which was sealed: one in the clear would have been refused, and counted."""
    before = await frames(page)

    async def more():
        return await frames(page) > before + 10
    await until(more, 20, f"{stream} is seen")
    assert (await page.evaluate("room.encryptionStatistics()"))["received"]["failed"] == 0


async def frames(page):
    return await page.evaluate("""async () => {
        const stats = await room.connections.receive?.getStats();
        return [...stats?.values() ?? []].reduce((sum, item) => sum + (item.type === "inbound-rtp" ? item.framesDecoded ?? 0 : 0), 0);
    }""")


@pytest.mark.asyncio
@pytest.mark.parametrize("script, faults", [("", SENDING), (OLD, SENDING_OLD)], ids=["transforms", "streams"])
async def test_what_can_not_be_protected_is_not_published(server, script, faults):
    async with chromium() as browser:
        page, wire = await faulty_page(browser, server, script)
        for fault in faults:
            room = f"faulty-{fault}"
            await page.evaluate("enter", {"room": room} | KEY)
            before = received(server)
            await page.evaluate("(name) => fault(name)", fault)
            assert await publish(page, "cam") == "OperationError", fault
            assert await page.evaluate("open()") == 0, fault
            assert await page.evaluate("room.published.length") == 0, fault
            # Nothing of it is in what is offered next.
            await page.evaluate("mend()")
            assert await page.evaluate("left") == 0 and received(server) == before, fault
            offers = [message for message in wire.sent if message["type"] == "publish"]
            if fault == "setRemoteDescription":
                assert len(offers) == 1
            else:
                assert not offers, fault
            assert await publish(page, "again") == "done", fault
            last = [message for message in wire.sent if message["type"] == "publish"][-1]
            assert len(last["streams"][0]["mids"]) == last["sdp"].count("\nm=") == 2, fault
            await page.evaluate("room.leave()")
            await page.evaluate("() => { made.length = 0; window.left = 0; }")
            wire.sent.clear()


@pytest.mark.asyncio
@pytest.mark.parametrize("script, faults", [("", SENDING), (OLD, SENDING_OLD)], ids=["transforms", "streams"])
async def test_whatever_throws_later_stops_everything_until_it_is_sealed_again(server, script, faults):
    """Another stream, and a connection made anew: what went on before goes on sealed, and nothing else leaves."""
    async with chromium() as browser:
        for fault in faults:
            room = f"later-{script[:1]}-{fault}"
            page, wire = await faulty_page(browser, server, script)
            bob, _ = await sdk_page(browser, server)
            await page.evaluate("enter", {"room": room} | KEY)
            await bob.evaluate("enter", {"room": room} | KEY)
            assert await publish(page, "first") == "done"
            await seen_by(bob, "first")

            await page.evaluate("(name) => fault(name)", fault)
            assert await publish(page, "second") == "OperationError", fault
            assert await page.evaluate("made[0].signalingState") == "closed", fault

            async def told():
                # The first one can't be sent either while it goes on, and is tried again and again.
                return "OperationError" in await page.evaluate("errors")
            await until(told, 10, f"{fault}: the application is told")
            await page.evaluate("mend()")
            await seen_by(bob, "first")
            await page.evaluate("(name) => fault(name)", fault)
            wire.say({"type": "connection-lost", "connection": "send"})

            async def again():
                return (await page.evaluate("errors")).count("OperationError") >= 2
            await until(again, 10, f"{fault}: the application is told again")
            await page.evaluate("mend()")
            await seen_by(bob, "first")
            assert await bob.evaluate("[...room.streams.keys()]") == ["first"]
            assert await bob.evaluate("[...room.streams.values()].map((stream) => stream.undecryptable)") == [False]
            await page.close()
            await bob.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("script, fault", [("", "transform"), (OLD, "receive")], ids=["transforms", "streams"])
async def test_what_can_not_be_opened_is_not_played(server, script, fault):
    async with chromium() as browser:
        ann, _ = await sdk_page(browser, server)
        await ann.evaluate("enter", {"room": f"reveal-{fault}"} | KEY)
        await ann.evaluate("camera().then((media) => room.publish(media, { id: 'cam' }))")
        bob, wire = await faulty_page(browser, server, script)
        await bob.evaluate("(name) => fault(name)", fault)
        await bob.evaluate("enter", {"room": f"reveal-{fault}"} | KEY)

        async def told():
            return await bob.evaluate("errors.length >= 2 && new Set(errors).size === 1 && errors[0]") == "OperationError"
        await until(told, 20, "the application is told, again and again")
        assert await frames(bob) == 0 and wire.count("answer") == 0
        await bob.evaluate("mend()")
        await seen_by(bob, "cam")


@pytest.mark.asyncio
async def test_without_a_key_nothing_is_said(server):
    async with chromium() as browser:
        for fault in ["deriveBits", "importKey", "worker"]:
            page, wire = await faulty_page(browser, server)
            await page.evaluate("(name) => fault(name)", fault)
            assert await page.evaluate("(options) => codeOf(enter(options))", {"room": "keyless"} | KEY) == "OperationError", fault
            assert wire.sent == [] and await page.evaluate("made.length") == 0
            await page.close()


@pytest.mark.asyncio
async def test_a_worker_that_can_not_derive_keys_lets_nothing_through(server):
    async with chromium() as browser:
        page, _ = await faulty_page(browser, server)

        async def break_worker(route):
            response = await route.fetch()
            await route.fulfill(response=response, body="""
                if (globalThis.DedicatedWorkerGlobalScope) {
                    SubtleCrypto.prototype.deriveBits = async () => { throw new Error("no key"); };
                }
            """ + await response.text())
        await page.route("**/sdk/sluice.js", break_worker)
        key = {"encryption": {"key": None}}
        await page.evaluate("""(options) => enter({ ...options, encryption: { key: new Uint8Array(16) } })""", {"room": "underived"} | key)
        assert await publish(page, "cam") == "done"

        async def told():
            return "unencryptable" in await page.evaluate("errors")
        await until(told, 10, "the application is told")

        async def connected():
            return await page.evaluate("room.connections.send.connectionState") == "connected"
        await until(connected, 10, "there is a connection")
        assert (await page.evaluate("room.encryptionStatistics()"))["sent"]["frames"] == 0
        assert await page.evaluate("left") == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["transform", "assign", "addTransceiver", "setCodecPreferences", "replaceTrack", "setLocalDescription"])
async def test_the_publishing_page_sends_nothing_that_is_not_protected(server, fault):
    async with chromium() as browser:
        page = await browser.new_page()
        await page.add_init_script(FAULTS)
        await page.goto(f"{server.url}/publish#page-{fault}&key=open%20sesame")
        posted = []
        page.on("request", lambda request: posted.append(request.url) if request.method == "POST" else None)
        before = received(server)
        await page.evaluate("(name) => fault(name)", fault)
        await page.click("#start")
        await page.wait_for_selector("#state[data-state=failed]")
        assert "nothing was sent" in await page.inner_text("#error") and "injected" not in await page.inner_text("#error")
        assert posted == [] and await page.evaluate("open()") == 0 and await page.evaluate("left") == 0 and received(server) == before
        assert server.stream(f"page-{fault}") is None
        # Begun again without it, it is sealed and live.
        await page.evaluate("mend()")
        await page.click("#start")
        await page.wait_for_selector("#state[data-state=live]")


@pytest.mark.asyncio
async def test_a_page_whose_encryption_fails_at_a_reconnect_ends(server):
    async with chromium() as browser:
        page = await browser.new_page()
        await page.add_init_script(FAULTS)
        await page.goto(f"{server.url}/publish#page-reconnects&key=open%20sesame")
        await page.click("#start")
        await page.wait_for_selector("#state[data-state=live]")
        await page.evaluate("fault('transform')")
        await page.evaluate("made[0].close(), made[0].dispatchEvent(new Event('connectionstatechange'))")
        await page.wait_for_selector("#state[data-state=failed]")
        assert await page.evaluate("open()") == 0 and await page.evaluate("made.length") == 2


@pytest.mark.asyncio
async def test_the_watching_page_plays_nothing_that_was_not_opened(server):
    async with chromium() as browser:
        publisher = await browser.new_page()
        await publisher.goto(f"{server.url}/publish#unopened&key=open%20sesame")
        await publisher.click("#start")
        await publisher.wait_for_selector("#state[data-state=live]")
        viewer = await browser.new_page()
        await viewer.add_init_script(FAULTS + ";fault('transform');")
        await viewer.goto(f"{server.url}/watch#unopened&key=open%20sesame")
        await viewer.wait_for_selector("#state[data-state=failed]")
        assert await viewer.evaluate("open()") == 0
        assert await viewer.evaluate("document.querySelector('video').srcObject") is None


@pytest.mark.asyncio
async def test_before_a_room_was_looked_at_nothing_of_it_is_heard_or_said(server):
    """A server may send anything before `joined`: it is neither answered nor told, and nothing goes before it but the join."""
    async with chromium() as browser:
        page, wire = await faulty_page(browser, server)
        await page.evaluate("enter", {"room": "before-joined"} | KEY)
        await page.evaluate("""() => {
            window.heard = [];
            for (const type of ["message", "peers", "stream-added", "stream-updated", "stream-removed", "speakers", "quality",
                                "muted-by-host", "room-updated"]) {
                room.addEventListener(type, () => heard.push(type));
            }
        }""")
        sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
        early = [
            {"type": "offer", "offer": 1, "connection": "receive", "sdp": sdp, "streams": []},
            {"type": "message", "from": "x", "data": {"text": "in the clear"}},
            {"type": "peer-joined", "peers": [{"peer": "x", "name": "X"}], "viewers": 1},
            {"type": "peer-left", "peers": ["x"], "viewers": 0},
            {"type": "stream-added", "stream": {"stream": "s", "peer": "x", "live": True, "muted": [], "tracks": []}},
            {"type": "stream-updated", "stream": {"stream": "s", "peer": "x", "live": True, "muted": [], "tracks": []}},
            {"type": "stream-removed", "stream": "s"},
            {"type": "speakers", "streams": []},
            {"type": "quality", "streams": []},
            {"type": "mute", "by": "x", "muted": ["audio"]},
            {"type": "room-updated", "locked": True},
            {"type": "connection-lost", "connection": "receive"},
            {"type": "connection-lost", "connection": "send"},
        ]

        def before_joined(message):
            if message["type"] != "joined":
                return message
            for one in early:
                wire.say(one)
            return dict(message, privacy=message["privacy"] | {"mode": "transport"})
        wire.from_server = before_joined
        wire.sent.clear()
        await wire.cut()
        await state_is(page, "reconnecting")
        # Neither does an application say anything meanwhile.
        assert await page.evaluate("codeOf(room.send('hello'))") == "closed"
        wire.is_cut = False
        await state_is(page, "left")
        assert await page.evaluate("heard") == [] and await page.evaluate("made.length") == 0
        assert [message["type"] for message in wire.sent if message["type"] != "ping"] == ["join", "leave"]
