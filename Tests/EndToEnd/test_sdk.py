"""The SDK when something goes wrong: sockets that are lost, tracks that can't be sent, servers that refuse or lie."""

import asyncio
import contextlib
import json
import signal

import pytest

from chromium import chromium
from patience import until
from sluice import ROOT

JOIN = """window.SHORT = 1500;
window.LONG = 120000;
window.enter = async (options) => {
    const { join } = await import("/sdk/sluice.js");
    window.room = await join(options);
    Object.assign(window, { errors: [], messages: [] });
    room.addEventListener("error", ({ detail }) => errors.push(detail.code || detail.name));
    room.addEventListener("message", ({ detail }) => messages.push(detail));
    return room.peer;
};
window.camera = () => navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 180 }, audio: true });
window.codeOf = (promise) => promise.then(() => "done", (error) => error.code || error.name);
window.within = (promise, milliseconds) => Promise.race([promise, new Promise((resolve) => setTimeout(resolve, milliseconds, "late"))]);
/** A screen for where there is none. */
window.screens = [];
navigator.mediaDevices.getDisplayMedia = async () => {
    const media = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
    media.getContext("2d");
    const stream = media.captureStream(5);
    screens.push(stream.getTracks()[0]);
    return stream;
};"""


class Wire:
    """The control WebSocket of a page: keeps what is sent, and lets a test answer in the server's place, change what comes, or cut it."""

    def __init__(self):
        self.sent = []
        self.from_page = lambda message: message
        self.from_server = lambda message: message
        self.route = None
        self.is_cut = False

    async def take(self, route):
        if self.is_cut:
            await route.close()
            return
        self.route = route
        server = route.connect_to_server()

        def from_page(text):
            message = json.loads(text)
            self.sent.append(message)
            message = self.from_page(message)
            if message:
                server.send(json.dumps(message))

        def from_server(text):
            message = self.from_server(json.loads(text))
            if message:
                route.send(json.dumps(message))
        route.on_message(from_page)
        server.on_message(from_server)

    def say(self, message):
        self.route.send(json.dumps(message))

    async def cut(self):
        self.is_cut = True
        await self.route.close()

    def count(self, kind):
        return sum(message["type"] == kind for message in self.sent)


async def sdk_page(browser, server, script=""):
    page, wire = await browser.new_page(), Wire()
    if script:
        await page.add_init_script(script)
    page.on("pageerror", lambda error: print(f"page: {error}"))
    await page.route_web_socket("**/v1/ws", wire.take)
    await page.goto(server.url)
    await page.evaluate("() => {" + JOIN + "}")
    return page, wire


@contextlib.asynccontextmanager
async def entered(server, room, **options):
    async with chromium() as browser:
        page, wire = await sdk_page(browser, server)
        await page.evaluate("enter", {"room": room} | options)
        yield page, wire


async def state_is(page, state):
    async def check():
        return await page.evaluate("room.state") == state
    await until(check, 10, state)


# Publishing


@pytest.mark.asyncio
async def test_publishing_goes_on_after_a_lost_socket(server):
    async with entered(server, "lost-socket") as (page, wire):
        await wire.cut()
        await state_is(page, "reconnecting")
        await page.evaluate("camera().then((media) => { window.publishing = room.publish(media, { id: 'lost-cam' }); })")
        assert await page.evaluate("within(publishing, SHORT)") == "late"
        assert await page.evaluate("room.published.length") == 1 and server.stream("lost-cam") is None
        wire.is_cut = False
        assert await page.evaluate("within(publishing.then((stream) => stream.id), LONG)") == "lost-cam"
        assert server.stream("lost-cam")

        # The socket is lost while the server thinks about it.
        wire.from_page = lambda message: message if message["type"] != "publish" else None
        await page.evaluate("camera().then((media) => { window.publishing = room.publish(media, { id: 'second-cam' }); })")

        async def asked():
            return wire.count("publish") == 2
        await until(asked, 5, "asked")
        await wire.cut()
        await state_is(page, "reconnecting")
        wire.from_page = lambda message: message
        wire.is_cut = False
        assert await page.evaluate("within(publishing.then((stream) => stream.id), LONG)") == "second-cam"
        assert server.stream("lost-cam") and server.stream("second-cam")
        assert await page.evaluate("errors") == []


@pytest.mark.asyncio
async def test_what_is_refused_after_a_reconnect_is_tried_again_and_does_not_end_the_stay(server):
    async with entered(server, "refused") as (page, wire):
        await page.evaluate("camera().then((media) => room.publish(media, { id: 'refused-cam' }))")

        def refuse(message):
            if message["type"] != "publish":
                return message
            wire.say({"type": "error", "id": message["id"], "code": "conflict", "message": "The stream id is taken."})
        wire.from_page = refuse
        await wire.cut()
        await state_is(page, "reconnecting")
        before = wire.count("publish")
        wire.is_cut = False

        async def again():
            return wire.count("publish") >= before + 3
        await until(again, 10, "it is tried again")
        assert await page.evaluate("room.state") == "joined" and wire.count("join") == 2
        assert await page.evaluate("errors") == ["conflict"]
        assert await page.evaluate("room.published.length") == 1
        # What is new is refused to who asks for it.
        assert await page.evaluate("camera().then((media) => codeOf(room.publish(media)))") == "conflict"
        assert await page.evaluate("room.published.length") == 1
        wire.from_page = lambda message: message
        count = wire.count("publish")

        async def accepted():
            return wire.count("publish") > count
        await until(accepted, 10, "it is tried once more")
        await asyncio.sleep(5)
        assert wire.count("publish") == count + 1 and server.stream("refused-cam")


@pytest.mark.asyncio
async def test_after_leaving_nothing_is_published(server):
    async with entered(server, "left") as (page, wire):
        await wire.cut()
        await state_is(page, "reconnecting")
        await page.evaluate("camera().then((media) => { window.publishing = codeOf(room.publish(media)); })")
        await page.evaluate("room.leave()")
        assert await page.evaluate("within(publishing, SHORT)") == "left"
        assert await page.evaluate("camera().then((media) => within(codeOf(room.publish(media)), LONG))") == "left"
        assert await page.evaluate("room.published.length") == 0


@pytest.mark.asyncio
async def test_a_screen_ends_with_the_room_or_with_its_publishing(server):
    async with entered(server, "screens") as (page, wire):
        await page.evaluate("room.shareScreen()")
        assert await page.evaluate("screens[0].readyState") == "live"

        def refuse(message):
            if message["type"] != "publish":
                return message
            wire.say({"type": "error", "id": message["id"], "code": "unavailable", "message": "The room is full."})
        wire.from_page = refuse
        assert await page.evaluate("codeOf(room.shareScreen())") == "unavailable"
        assert await page.evaluate("screens.map((track) => track.readyState)") == ["live", "ended"]
        await page.evaluate("room.leave()")
        assert await page.evaluate("screens.map((track) => track.readyState)") == ["ended", "ended"]


@pytest.mark.asyncio
async def test_another_track_is_muted_before_it_is_sent(server):
    async with entered(server, "replacing") as (page, _):
        result = await page.evaluate("""async () => {
            const own = await room.publish(await camera());
            await own.setMuted("audio", true);
            const replace = RTCRtpSender.prototype.replaceTrack;
            const sent = [];
            RTCRtpSender.prototype.replaceTrack = function (track) {
                sent.push(track.enabled);
                return replace.call(this, track);
            };
            const audio = async () => (await camera()).getAudioTracks()[0];
            await own.replaceTrack(await audio());
            const [good] = own.media.getAudioTracks();
            RTCRtpSender.prototype.replaceTrack = async () => { throw new DOMException("no", "InvalidModificationError"); };
            const refused = await audio();
            const code = await own.replaceTrack(refused).catch((error) => error.name);
            const kept = own.media.getAudioTracks();
            RTCRtpSender.prototype.replaceTrack = replace;
            const [before, late] = [good.readyState, await audio()];
            await own.stop();
            const stopped = [await codeOf(own.replaceTrack(late)), late.readyState];
            return { sent, code, refused: refused.readyState, good: before, kept: kept.length === 1 && kept[0] === good, stopped };
        }""")
    assert result == {
        "sent": [False], "code": "InvalidModificationError", "refused": "ended", "good": "live", "kept": True, "stopped": ["closed", "ended"],
    }


@pytest.mark.asyncio
async def test_without_a_connection_a_track_is_replaced_in_the_stream(server):
    async with entered(server, "no-connection") as (page, wire):
        await page.evaluate("camera().then((media) => room.publish(media)).then((stream) => { window.own = stream; })")
        wire.from_page = lambda message: message if message["type"] != "publish" else None
        await page.evaluate("camera().then((media) => { window.publishing = codeOf(room.publish(media)); })")

        async def asked():
            return wire.count("publish") == 2
        await until(asked, 5, "a second stream is offered, and nothing is heard of it")
        wire.say({"type": "connection-lost", "connection": "send"})

        async def dropped():
            return await page.evaluate("room.connections.send === null")
        await until(dropped, 5, "the connection is dropped")
        replaced = await page.evaluate("""async () => {
            window.fresh = (await camera()).getVideoTracks()[0];
            return codeOf(own.replaceTrack(fresh));
        }""")
        assert replaced == "done"
        wire.from_page = lambda message: message
        asked_for = [message for message in wire.sent if message["type"] == "publish"][-1]
        wire.say({"type": "error", "id": asked_for["id"], "code": "closed", "message": "It went with the connection."})

        async def sent():
            return await page.evaluate("room.connections.send?.connectionState === 'connected' && "
                                       "room.connections.send.getSenders().some((sender) => sender.track === fresh)")
        await until(sent, 10, "the track is sent on the next connection")
        assert await page.evaluate("within(publishing, LONG)") == "done"


# Receiving


@pytest.mark.asyncio
async def test_leaving_in_the_middle_of_an_answer_leaves_nothing_behind(server):
    async with chromium() as browser:
        ann, _ = await sdk_page(browser, server)
        await ann.evaluate("enter", {"room": "hasty"})
        await ann.evaluate("camera().then((media) => room.publish(media))")
        bob, wire = await sdk_page(browser, server)
        offers = []
        wire.from_server = lambda message: offers.append(message) or message if message["type"] == "offer" else message
        await bob.evaluate("""() => {
            const [Original, set] = [RTCPeerConnection, RTCPeerConnection.prototype.setRemoteDescription];
            window.made = [];
            window.RTCPeerConnection = class extends Original {
                constructor(...given) {
                    super(...given);
                    made.push(this);
                }
            };
            RTCPeerConnection.prototype.setRemoteDescription = async function (description) {
                await set.call(this, description);
                // One more comes before it is over.
                await new Promise((resolve) => setTimeout(resolve, 500));
                room.leave();
            };
        }""")
        await bob.evaluate("enter", {"room": "hasty"})

        async def offered():
            return offers
        await until(offered, 10, "the stream is offered")
        wire.say(offers[0])
        await state_is(bob, "left")
        await asyncio.sleep(1)
        assert await bob.evaluate("made.map((connection) => connection.signalingState)") == ["closed"]
        assert await bob.evaluate("errors") == []


@pytest.mark.asyncio
async def test_a_connection_that_can_not_be_made_is_renewed_ever_more_slowly(server):
    async with chromium() as browser:
        ann, _ = await sdk_page(browser, server)
        await ann.evaluate("enter", {"room": "renewing"})
        await ann.evaluate("camera().then((media) => room.publish(media))")
        bob, wire = await sdk_page(browser, server)
        await bob.evaluate("""() => {
            window.set = RTCPeerConnection.prototype.setRemoteDescription;
            RTCPeerConnection.prototype.setRemoteDescription = async () => { throw new DOMException("no", "OperationError"); };
        }""")
        await bob.evaluate("enter", {"room": "renewing"})
        await asyncio.sleep(4)
        count = wire.count("restart")
        assert 2 <= count <= 5
        await bob.evaluate("() => { RTCPeerConnection.prototype.setRemoteDescription = set; }")

        async def received():
            return await bob.evaluate("room.connections.receive?.connectionState") == "connected"
        await until(received, 10, "once it can be made, it is")
        assert await bob.evaluate("room.state") == "joined"


@pytest.mark.asyncio
async def test_a_renewal_that_is_refused_for_now_is_asked_for_again(server):
    async with chromium() as browser:
        ann, _ = await sdk_page(browser, server)
        await ann.evaluate("enter", {"room": "limited"})
        await ann.evaluate("camera().then((media) => room.publish(media))")
        bob, wire = await sdk_page(browser, server)
        await bob.evaluate("enter", {"room": "limited"})

        async def receives():
            return await bob.evaluate("room.connections.receive?.connectionState") == "connected"
        await until(receives, 10, "Bob receives")
        refused = []

        def refuse(message):
            if message["type"] != "restart" or len(refused) == 2:
                return message
            refused.append(message)
            wire.say({"type": "error", "id": message["id"], "code": "rate-limited", "message": "Too many requests.", "retryAfter": 1})
        wire.from_page = refuse
        wire.say({"type": "connection-lost", "connection": "receive"})

        async def refused_twice():
            return len(refused) == 2
        await until(refused_twice, 10, "it is asked for twice in vain")
        await until(receives, 10, "Bob receives again")
        assert await bob.evaluate("errors") == ["rate-limited", "rate-limited"] and await bob.evaluate("room.state") == "joined"


@pytest.mark.asyncio
async def test_own_streams_are_never_remote_ones(server):
    async with entered(server, "mirror") as (page, wire):
        own = await page.evaluate("room.peer")
        for peer, stream in [(own, "mine-that-has-ended"), ("somebody-else", "another")]:
            wire.say({"type": "stream-updated", "stream": {"stream": stream, "peer": peer, "live": False, "muted": [], "tracks": []}})

        async def told():
            return await page.evaluate("[...room.streams.keys()]")
        assert await until(told, 5, "the other is told") == ["another"]


@pytest.mark.asyncio
async def test_a_stream_that_is_held_back_is_not_missed(server):
    async with chromium() as browser:
        ann, _ = await sdk_page(browser, server)
        await ann.evaluate("enter", {"room": "held-back"})
        await ann.evaluate("camera().then((media) => room.publish(media, { id: 'cam' }))")
        bob, wire = await sdk_page(browser, server)
        await bob.evaluate("enter", {"room": "held-back"})

        async def received():
            return await bob.evaluate("room.connections.receive?.connectionState") == "connected"
        await until(received, 10, "Bob receives")
        await asyncio.sleep(3)
        await bob.evaluate("room.pause('cam', true)")
        before = wire.count("ping")
        await asyncio.sleep(4)
        # One is due every five seconds.
        assert wire.count("restart") == 0 and wire.count("ping") <= before + 1


@pytest.mark.asyncio
async def test_only_what_came_steadily_is_missed(server):
    source = (ROOT / "Sources/Control/Web/sdk/path.js").read_text().replace("export class", "class")
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(server.url)
        broken = await page.evaluate("""async () => {""" + source + """
            const watch = (grows) => {
                let [samples, bytes, broken] = [0, 0, 0];
                const connection = Object.assign(new EventTarget(), {
                    connectionState: "connected",
                    getStats: async () => {
                        if (grows(samples++)) bytes += 100;
                        return new Map([["pair", { type: "candidate-pair", bytesReceived: bytes }]]);
                    },
                });
                const path = new PathWatch(connection, () => true, () => {}, () => (broken += 1));
                return () => (path.close(), broken);
            };
            const [now_and_then, steady] = [watch((sample) => sample % 3 === 0 && sample < 16), watch((sample) => sample < 8)];
            await new Promise((resolve) => setTimeout(resolve, 6000));
            return [now_and_then(), steady()];
        }""")
    assert broken[0] == 0 and broken[1] >= 1


# Encrypted rooms

KEY = {"encryption": {"passphrase": "correct horse battery staple"}}


@pytest.mark.asyncio
async def test_a_room_that_has_become_another_is_left(server):
    async with entered(server, "changed-mode", **KEY) as (page, wire):
        await page.evaluate("room.addEventListener('left', ({ detail }) => { window.reason = detail.error?.code; })")

        def lie(message):
            return dict(message, privacy=message["privacy"] | {"mode": "transport"}) if message["type"] == "joined" else message
        wire.from_server = lie
        await wire.cut()
        await state_is(page, "reconnecting")
        wire.is_cut = False
        await state_is(page, "left")
        assert await page.evaluate("reason") == "privacy"
        assert [message["type"] for message in wire.sent if message["type"] != "ping"] == ["join", "join", "leave"]


@pytest.mark.asyncio
async def test_a_server_that_twists_messages_is_not_believed(server):
    """From whom a message is, to whom, and which way it goes: the server can read none of it, and change none of it."""
    async with chromium() as browser:
        pages = {}
        for name in ["ann", "bob", "cid"]:
            page, wire = await sdk_page(browser, server)
            pages[name] = page, wire, await page.evaluate("enter", {"room": "twisted"} | KEY)
        (ann, ann_wire, ann_peer), (bob, bob_wire, bob_peer), (_, _, cid_peer) = pages.values()

        async def heard(page, texts):
            async def check():
                return [message["data"] for message in await page.evaluate("messages")] == texts
            await until(check, 5, f"{texts} is heard")

        async def refused(page, count):
            async def check():
                return await page.evaluate("errors") == ["undecryptable"] * count
            await until(check, 5, f"{count} refused")
        await ann.evaluate("room.send('hello')")
        await heard(bob, ["hello"])
        await ann.evaluate("(peer) => room.send('to Bob', peer)", bob_peer)
        await heard(bob, ["hello", "to Bob"])
        assert (await bob.evaluate("messages"))[0]["from"] == ann_peer
        # Said to be another's.
        bob_wire.from_server = lambda message: dict(message, **{"from": cid_peer}) if message["type"] == "message" else message
        await ann.evaluate("room.send('I am Ann')")
        await refused(bob, 1)
        bob_wire.from_server = lambda message: message
        # Said to Cid, and given to Bob.
        await ann.evaluate("(peer) => room.send('to Cid', peer)", cid_peer)
        private = [message for message in ann_wire.sent if message["type"] == "message"][-1]
        bob_wire.say({"type": "message", "from": ann_peer, "data": private["data"]})
        await refused(bob, 2)
        # Sent back to who has said it.
        for peer in [bob_peer, ann_peer]:
            ann_wire.say({"type": "message", "from": peer, "data": private["data"]})
        await refused(ann, 2)
        await heard(bob, ["hello", "to Bob"])
        await heard(ann, [])


@pytest.mark.asyncio
async def test_an_m_line_that_is_another_stream_s_is_judged_anew(server):
    async with chromium() as browser:
        pages = {}
        wrong = {"encryption": {"passphrase": "another"}}
        for name, key in [("ann", KEY), ("bob", wrong), ("eve", wrong)]:
            pages[name], _ = await sdk_page(browser, server)
            await pages[name].evaluate("enter", {"room": "judged"} | key)
        ann, bob, eve = pages.values()

        async def judged(expected):
            async def check():
                return await eve.evaluate("[...room.streams.values()].map((stream) => [stream.id, stream.undecryptable])") == expected
            await until(check, 10, f"{expected}")
        for publisher, turn, expected in [(ann, 1, True), (bob, 2, False), (ann, 3, True), (ann, 4, True)]:
            await publisher.evaluate("(id) => camera().then((media) => room.publish(media, { id })).then((own) => { window.own = own; })",
                                     f"turn-{turn}")
            await judged([[f"turn-{turn}", expected]])
            await asyncio.sleep(1)
            await judged([[f"turn-{turn}", expected]])
            await publisher.evaluate("own.stop()")
            await judged([])
        assert await eve.evaluate("room.connections.receive.getTransceivers().length") == 2
        assert await eve.evaluate("errors") == []


# Calls that did nothing, or spoiled the next


@pytest.mark.asyncio
async def test_what_means_nothing_is_refused_and_spoils_nothing(server):
    async with entered(server, "refusals") as (page, wire):
        refused = await page.evaluate("""async () => {
            const { join, Encryption } = await import("/sdk/sluice.js");
            const media = await camera();
            const two = new MediaStream([...media.getTracks(), ...(await camera()).getVideoTracks()]);
            const ended = await camera();
            ended.getVideoTracks()[0].stop();
            const good = await room.publish(media, { id: "good" });
            const other = (await camera()).getVideoTracks()[0];
            const calls = {
                twoVideos: () => room.publish(two),
                nothing: () => room.publish(new MediaStream()),
                aTrack: () => room.publish(other),
                ended: () => room.publish(ended),
                wrongKind: () => room.publish(media, { kind: "x".repeat(33) }),
                sameId: () => room.publish(media, { id: "good" }),
                mutedKind: () => good.setMuted("camera", true),
                mutedValue: () => good.setMuted("audio", "yes"),
                replacedByNothing: () => good.replaceTrack(null),
                replacedByEnded: () => good.replaceTrack(ended.getVideoTracks()[0]),
                device: () => good.useDevice("screen", "x"),
                kinds: () => room.subscribe("good", ["picture"]),
                noSuchStream: () => room.subscribe("nobody", ["video"]),
                pausedKind: () => room.pause("good", true, ["sound"]),
                pausedValue: () => room.pause("good", "yes"),
                size: async () => room.setSize("good", NaN),
                sizeText: async () => room.setSize("good", "720"),
                role: () => join({ room: "r", role: "viewer" }),
                policy: () => join({ room: "r", policy: "some" }),
                mode: () => join({ room: "r", privacy: "E2EE" }),
                contradiction: () => join({ room: "r", privacy: "transport", encryption: { passphrase: "x" } }),
                noRoom: () => join({}),
                token: () => join({ room: "r", token: 7 }),
                keyAndPassphrase: () => Encryption.create({ room: "r", passphrase: "x", key: new Uint8Array(16) }),
                unsalted: () => Encryption.create({ passphrase: "x" }),
                noEncryption: () => room.setKey({ passphrase: "x" }),
            };
            const codes = {};
            for (const [name, call] of Object.entries(calls)) codes[name] = await codeOf(call());
            return { codes, muted: good.muted, published: room.published.map(({ id }) => id), live: other.readyState };
        }""")
    expected = dict.fromkeys(refused["codes"], "bad-request") | {"sameId": "conflict", "noSuchStream": "not-found", "noEncryption": "conflict"}
    assert refused == {"codes": expected, "muted": [], "published": ["good"], "live": "live"}
    async with entered(server, "refusals-later") as (page, _):
        # One that the server refuses takes no other with it.
        codes = await page.evaluate("""async () => {
            const [bad, good] = await Promise.all([
                camera().then((media) => codeOf(room.publish(media, { kind: "x".repeat(33) }))),
                camera().then((media) => codeOf(room.publish(media, { id: "beside" }))),
            ]);
            return [bad, good, await codeOf(room.publish(await camera(), { id: "after" }))];
        }""")
        assert codes == ["bad-request", "done", "done"]
        assert server.stream("beside") and server.stream("after")


@pytest.mark.asyncio
@pytest.mark.parametrize("options", [{}, KEY], ids=["transport", "e2ee"])
async def test_a_stream_gets_another_kind_of_track(server, options):
    room = f"added-{len(options)}"
    async with chromium() as browser:
        ann, wire = await sdk_page(browser, server)
        bob, _ = await sdk_page(browser, server)
        await ann.evaluate("enter", {"room": room} | options)
        await bob.evaluate("enter", {"room": room} | options)
        await ann.evaluate("""async () => {
            window.own = await room.publish(await navigator.mediaDevices.getUserMedia({ audio: true }), { id: "grows" });
            await own.setMuted("video", true);
            window.picture = (await camera()).getVideoTracks()[0];
        }""")

        def refuse(message):
            if message["type"] != "publish":
                return message
            wire.say({"type": "error", "id": message["id"], "code": "unservable", "message": "Not now."})
        wire.from_page = refuse
        # What is refused leaves nothing behind.
        assert await ann.evaluate("camera().then((media) => codeOf(own.replaceTrack(media.getVideoTracks()[0])))") == "unservable"
        wire.from_page = lambda message: message
        assert await ann.evaluate("own.media.getVideoTracks().length") == 0
        assert await ann.evaluate("codeOf(own.replaceTrack(picture))") == "done"
        assert await ann.evaluate("picture.enabled") is False, "muted before it came"
        await ann.evaluate("own.setMuted('video', false)")

        async def decoded():
            return await bob.evaluate("""async () => {
                const stats = [...(await room.connections.receive.getStats()).values()];
                return stats.some((item) => item.type === "inbound-rtp" && item.kind === "video" && item.framesDecoded > 10);
            }""")
        await until(decoded, 15, "Bob sees it")
        assert await bob.evaluate("[...room.streams.values()].map(({ id, tracks }) => [id, tracks.length])") == [["grows", 2]]
        assert await ann.evaluate("errors") == [] and await bob.evaluate("errors") == []
        # M-lines that are free, and of which an offer was refused, are good for the next ones.
        await ann.evaluate("camera().then((media) => room.publish(media, { id: 'passing' })).then((stream) => stream.stop())")
        wire.from_page = refuse
        assert await ann.evaluate("camera().then((media) => codeOf(room.publish(media)))") == "unservable"
        wire.from_page = lambda message: message
        assert await ann.evaluate("camera().then((media) => codeOf(room.publish(media, { id: 'next' })))") == "done"

        async def both_come():
            return await bob.evaluate("""async () => {
                const stats = [...(await room.connections.receive.getStats()).values()];
                const moving = stats.filter((item) => item.type === "inbound-rtp" && item.kind === "video" && item.framesDecoded > 10);
                return room.streams.size === 2 && moving.length === 2;
            }""")
        await until(both_come, 15, "Bob sees both")


@pytest.mark.asyncio
async def test_a_token_is_asked_for_each_time(server):
    async with chromium() as browser:
        page, wire = await sdk_page(browser, server)
        await page.evaluate("""() => {
            window.asked = 0;
            return enter({ room: "asked", token: async () => { asked += 1; if (asked === 2) throw new TypeError("no network"); return `t${asked}`; } });
        }""")
        await wire.cut()
        await state_is(page, "reconnecting")
        wire.is_cut = False
        await state_is(page, "joined")
        assert [message["token"] for message in wire.sent if message["type"] == "join"] == ["t1", "t3"]
        assert await page.evaluate("errors") == ["TypeError"]


@pytest.mark.asyncio
async def test_a_bundled_application_does_not_start_itself(server):
    """The SDK and an application in one file, as bundlers make it."""
    application = "globalThis.runs = (globalThis.runs ?? 0) + 1; globalThis.document?.body.append('started'); if (!globalThis.document) fetch('/started-again');"
    async with chromium() as browser:
        page = await browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))

        async def bundle(route):
            sdk = await route.fetch(url=f"{server.url}/sdk/sluice.js")
            await route.fulfill(body=(await sdk.text()) + application, headers={"Content-Type": "text/javascript"})
        await page.route("**/bundle.js", bundle)

        async def own_page(route):
            await route.fulfill(body="<!doctype html><body>", headers={"Content-Type": "text/html"})
        await page.route("**/application", own_page)
        await page.goto(f"{server.url}/application")
        sealed = await page.evaluate("""async () => {
            const { Encryption } = await import("/bundle.js");
            const [one, other] = await Promise.all([1, 2].map(() => Encryption.create({ room: "r", key: new Uint8Array(16) })));
            return [...await other.open(await one.seal(Uint8Array.of(1, 2, 3)))];
        }""")
        assert sealed == [1, 2, 3] and await page.evaluate("runs") == 1
        assert not any("started-again" in url for url in asked) and sum("bundle.js" in url for url in asked) == 1


@pytest.mark.asyncio
async def test_closing_a_connection_holds_up_nothing(server):
    """What a closed connection was asked for never settles: it must not be waited for."""
    async with entered(server, "held-up") as (page, wire):
        await page.evaluate("""() => {
            for (const step of ["setLocalDescription", "setRemoteDescription"]) {
                const set = RTCPeerConnection.prototype[step];
                RTCPeerConnection.prototype[step] = function (...given) {
                    if (step !== window.held) return set.apply(this, given);
                    window.held = null;
                    return new Promise(() => {});
                };
            }
            const replace = RTCRtpSender.prototype.replaceTrack;
            RTCRtpSender.prototype.replaceTrack = function (track) {
                if (window.held !== "replaceTrack") return replace.call(this, track);
                window.held = null;
                return new Promise(() => {});
            };
        }""")
        for step in ["replaceTrack", "setLocalDescription", "setRemoteDescription"]:
            await page.evaluate("""(step) => {
                window.held = step;
                return camera().then((media) => { window.publishing = codeOf(room.publish(media, { id: step })); });
            }""", step)

            async def is_held():
                return await page.evaluate("held") is None
            await until(is_held, 5, f"{step} is waited for")
            wire.say({"type": "connection-lost", "connection": "send"})
            assert await page.evaluate("within(publishing, 10000)") == "done", step
            assert server.stream(step), step


@pytest.mark.asyncio
async def test_what_was_asked_of_streams_outlives_the_server(own_server):
    """Subscriptions, pauses and sizes are told a server that was restarted, and of a stream that comes again."""
    async with chromium() as browser:
        ann, _ = await sdk_page(browser, own_server)
        bob, wire = await sdk_page(browser, own_server)
        await ann.evaluate("enter", {"room": "restarted"})
        await ann.evaluate("""async () => {
            for (const id of ["paused", "half", "refused", "small"]) {
                const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 }, audio: true });
                await room.publish(media, { id });
            }
        }""")
        await bob.evaluate("enter", {"room": "restarted"})

        async def offered():
            return await bob.evaluate("[...room.streams.values()].every(({ media }) => media.getTracks().length === 2)")
        await until(offered, 10, "all are offered")
        await bob.evaluate("""async () => {
            await room.pause("paused", true);
            await room.pause("half", true, ["video"]);
            await room.unsubscribe("refused");
            room.setSize("small", 90);
        }""")

        async def sized():
            return wire.count("update") >= 3
        await until(sized, 5, "the size is told")

        def told(since):
            wanted = {}
            for message in wire.sent[since:]:
                if message["type"] == "unsubscribe":
                    wanted[message["stream"]] = "refused"
                elif message["type"] == "update" and "encodings" in message:
                    wanted |= {one["stream"]: one["encoding"] for one in message["encodings"]}
                elif message["type"] == "update":
                    wanted[message["stream"]] = message["tracks"]
            return wanted
        expected = {"paused": [0, 1], "half": [1], "refused": "refused", "small": 0}
        for what in ["the server", "the streams"]:
            since = len(wire.sent)
            if what == "the server":
                own_server.stop(signal.SIGKILL)
                own_server.start()
            else:
                await ann.evaluate("Promise.all(room.published.map((stream) => room.unpublish(stream).then(() => window.gone = stream)))")
                await ann.evaluate("""async () => {
                    for (const id of ["paused", "half", "refused", "small"]) {
                        const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 }, audio: true });
                        await room.publish(media, { id });
                    }
                }""")

            async def told_again():
                return told(since) == expected
            await until(told_again, 20, f"after {what} it is told again: {expected}")
        assert await bob.evaluate("errors") == []


@pytest.mark.asyncio
async def test_a_room_is_held_only_for_a_page_that_can_come_back(server):
    """Who has not asked for the secret of the stay is somebody new after the page is loaded again, and would wait for itself."""
    async with chromium() as browser:
        for room, asks, left in [("not-held", False, {"type": "leave"}), ("held", True, {"type": "leave", "action": "return"})]:
            page, wire = await sdk_page(browser, server)
            await page.evaluate("enter", {"room": room})
            if asks:
                assert await page.evaluate("room.resumption.length") == 32
            await page.evaluate("() => { dispatchEvent(new Event('pagehide')); }")
            assert await page.evaluate("room.state") == "left"

            async def said():
                return wire.sent[-1]
            await until(said, 5, "the page says that it goes")
            assert wire.sent[-1] == left
            await page.reload()
            await page.evaluate("() => {" + JOIN + "}")
            await page.evaluate("enter", {"room": room})
            assert await page.evaluate("room.rights.includes('host')") is not asks
