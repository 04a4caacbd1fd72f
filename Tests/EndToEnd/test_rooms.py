"""Rooms: the page with real browsers, and the control WebSocket as a client author would use it."""

import asyncio
import contextlib
import json
import pathlib
import signal

import aiohttp
import pytest
import websockets

from chromium import chromium
from patience import figure, last_moment, until
from room_page import preview_shown
from sluice import OPERATOR_TOKEN, Server

OUTPUT = pathlib.Path(__file__).parent / "output"
WINDOW = {"width": 640, "height": 480}

# How many frames each remote tile's video has decoded, by stream.
FRAMES = """() => Object.fromEntries([...document.querySelectorAll(".tile[data-own=false]")].map((tile) =>
    [tile.dataset.stream, tile.querySelector("video").getVideoPlaybackQuality().totalVideoFrames]))"""
# Audio energy received in all, and m-lines of both connections.
FIGURES = """async () => {
    const { send, receive } = sluiceRoom().connections;
    const stats = receive ? [...(await receive.getStats()).values()] : [];
    const audio = stats.filter((item) => item.type === "inbound-rtp" && item.kind === "audio");
    return {
        energy: audio.map((item) => item.totalAudioEnergy),
        sendLines: send?.getTransceivers().length ?? 0,
        receiveLines: receive?.getTransceivers().length ?? 0,
    };
}"""


# Cuts all WebSockets; while `cut` is set, new ones lead nowhere.
CUT_SOCKETS = """window.sockets = [];
window.WebSocket = class extends WebSocket {
    constructor(url, protocols) {
        super(window.cut ? "ws://127.0.0.1:9/" : url, protocols);
        window.sockets.push(this);
    }
};
window.cutSockets = () => { window.cut = true; for (const socket of window.sockets) socket.close(); };"""
# A screen for where there is none: getDisplayMedia gives a canvas that changes.
SCREEN = """() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
    const context = canvas.getContext("2d");
    setInterval(() => {
        context.fillStyle = `hsl(${Math.random() * 360} 80% 50%)`;
        context.fillRect(Math.random() * 600, Math.random() * 320, 80, 80);
    }, 50);
    navigator.mediaDevices.getDisplayMedia = async () => canvas.captureStream(20);
}"""


async def enter(browser, server, room, name, role="publish"):
    page = await browser.new_page(viewport=WINDOW)
    await page.add_init_script(CUT_SOCKETS)
    page.on("pageerror", lambda error: print(f"{name}: {error}"))
    await page.goto(f"{server.url}/room#{room}")
    await page.fill("#name", name)
    if role == "publish":
        await preview_shown(page)
        await page.click("#join")
    else:
        await page.click("#watch-only")
    await page.wait_for_selector("#inside:not([hidden])")
    return page


async def sees(page, count, seconds=10):
    """Waits until this many others' pictures move."""
    before = {}

    async def moving():
        nonlocal before
        frames = await page.evaluate(FRAMES)
        moved = [stream for stream, number in frames.items() if number > before.get(stream, number)]
        if len(frames) == count and len(moved) == count:
            return True
        before = {stream: min(number, before.get(stream, number)) for stream, number in frames.items()}
        return False

    await until(moving, seconds, f"{count} pictures move; {await page.evaluate(FRAMES)}")


@pytest.mark.asyncio
async def test_six_see_and_hear_each_other_whatever_they_do(server):
    """By the page: one leaves, one shares a screen, one reloads; everybody's pictures are right each time."""
    # Six encoders and thirty decoders have two cores here.
    async with chromium(frame_rate=5) as browser:
        pages = [await enter(browser, server, "meeting", f"Guest {number}") for number in range(6)]
        for page in pages:
            await sees(page, 5, 20)
        for page in pages:
            async def heard():
                return sum(energy > 0 for energy in (await page.evaluate(FIGURES))["energy"]) == 5
            await until(heard, 10, "five others are heard")
        assert await pages[0].get_attribute("#privacy", "data-mode") == "transport"
        OUTPUT.mkdir(exist_ok=True)
        await pages[0].screenshot(path=OUTPUT / "room.png")
        lines = [(await page.evaluate(FIGURES))["receiveLines"] for page in pages]

        left = pages.pop()
        await left.click("#leave")
        print(f"one left: right after {await seconds_until_right(pages, 4):.2f} s")
        await left.close()
        # What the test's browser shows of a screen is a canvas: headless there is no screen.
        await pages[1].evaluate(SCREEN)
        await pages[1].click("#share")
        await pages[1].wait_for_selector("#share[aria-pressed=true]")
        others = [page for page in pages if page != pages[1]]
        print(f"one shares a screen: right after {await seconds_until_right(others, 5):.2f} s")
        await pages[1].click("#share")
        print(f"and no more: right after {await seconds_until_right(pages, 4):.2f} s")
        await pages[2].reload()
        await preview_shown(pages[2])
        await pages[2].click("#join")
        print(f"one reloaded: right after {await seconds_until_right(pages, 4):.2f} s")
        # Nobody's description has grown: the m-lines of who left were used again.
        after = [(await page.evaluate(FIGURES))["receiveLines"] for page in pages]
        assert all(new <= old for old, new in zip(lines, after)), (lines, after)


async def seconds_until_right(pages, count, seconds=2):
    """How long it takes until all of them see so many others move."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.gather(*[sees(page, count, seconds) for page in pages])
    return loop.time() - start


@pytest.mark.uninstrumented
@pytest.mark.asyncio
async def test_a_hundred_joins_and_leaves_leave_nothing_behind(own_server):
    async with chromium() as browser:
        stays = await enter(browser, own_server, "station", "Stays")
        comes = await browser.new_page(viewport=WINDOW)
        await comes.goto(own_server.url)
        await comes.evaluate("""async () => {
            const { join } = await import("/sdk/sluice.js");
            window.come = async (count) => {
                const media = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 180 }, audio: true });
                for (let turn = 0; turn < count; turn += 1) {
                    const room = await join({ room: "station", name: `Passenger ${turn}` });
                    await room.publish(media.clone());
                    await new Promise((resolve) => setTimeout(resolve, 100));
                    room.leave();
                }
            };
        }""")
        await comes.evaluate("come(100)")
        before = own_server.resident_bytes()
        await comes.evaluate("come(100)")

        async def alone():
            return await stays.evaluate("sluiceRoom().peers.size === 0 && sluiceRoom().streams.size === 0")
        await until(alone, 5, "all have left")
        after = own_server.resident_bytes()
        # At most two others were there at a time: one that came, and one whose leaving was not told yet.
        lines = await stays.evaluate(FIGURES)
        print(f"{lines['receiveLines']} m-lines; the server has {before / 1e6:.2f} MB, then {after / 1e6:.2f} MB")
        assert lines["receiveLines"] <= 4
        assert after < 1.02 * before
        assert await stays.evaluate("document.querySelectorAll('.tile').length") == 1
        await enter(browser, own_server, "station", "Last")
        await sees(stays, 1)


@pytest.mark.asyncio
async def test_viewers_are_counted_and_see(server):
    async with chromium() as browser:
        host = await enter(browser, server, "stage", "Host")
        viewer = await enter(browser, server, "stage", "", role="view")
        await sees(viewer, 1)
        async def counted():
            return "1 watching" in await host.inner_text("#count")
        await until(counted, 3, "the host is told of one viewer")
        assert await host.evaluate("sluiceRoom().peers.size") == 0


@pytest.mark.asyncio
async def test_a_message_reaches_the_others(server):
    async with chromium() as browser:
        first = await enter(browser, server, "chat", "Ann")
        second = await enter(browser, server, "chat", "Ben")
        await first.click("#chat-toggle")
        await first.fill("#chat-text", "<b>hello</b>")
        await first.press("#chat-text", "Enter")
        await second.wait_for_selector("#messages li")
        assert await second.inner_text("#messages li") == "Ann: <b>hello</b>"


@pytest.mark.asyncio
async def test_media_goes_on_while_the_socket_is_gone(server):
    # The third has a browser of his own: a fake camera stands still while another page of its browser opens it.
    async with chromium() as browser, chromium() as another:
        first = await enter(browser, server, "cut", "Ann")
        second = await enter(browser, server, "cut", "Ben")
        await sees(second, 1)
        peer = await second.evaluate("sluiceRoom().peer")
        await second.evaluate("cutSockets()")
        await second.wait_for_selector("#state[data-state=reconnecting]")
        for page in (first, second):
            await page.evaluate("window.watched = document.querySelector('.tile[data-own=false] video')")
        # Somebody comes while it is cut.
        third = await enter(another, server, "cut", "Cid")
        loop = asyncio.get_running_loop()
        end, longest = loop.time() + 10, 0
        while loop.time() < end:
            frozen = [await longest_pause(page) for page in (first, second)]
            assert max(frozen) < 1, "media never stops"
            longest = max(longest, *frozen)
        figure("no frame while the socket is gone", longest, at_most=0.8)
        assert await second.get_attribute("#state", "data-state") == "reconnecting"
        await second.evaluate("cut = false")
        await second.wait_for_selector("#state[data-state=joined]")
        assert await second.evaluate("sluiceRoom().peer") == peer, "the same stay goes on"
        assert await second.evaluate("[...sluiceRoom().peers.values()].map((peer) => peer.name).sort().join()") == "Ann,Cid"
        for page in (first, second, third):
            await sees(page, 2)


async def longest_pause(page):
    """Seconds in which no frame of the picture that the page has in `watched` was decoded, the longest within a second."""
    return await page.evaluate("""async () => {
        const video = window.watched;
        const start = performance.now();
        let [frames, last, longest] = [-1, start, 0];
        while (performance.now() - start < 1000) {
            const decoded = video.getVideoPlaybackQuality().totalVideoFrames;
            if (decoded !== frames) last = performance.now();
            frames = decoded;
            longest = Math.max(longest, performance.now() - last);
            await new Promise((resolve) => setTimeout(resolve, 20));
        }
        return longest / 1000;
    }""")


@pytest.mark.asyncio
async def test_everybody_is_back_after_the_server_was(own_server):
    async with chromium() as browser:
        pages = [await enter(browser, own_server, "again", name) for name in ("Ann", "Ben")]
        for page in pages:
            await sees(page, 1)
        own_server.stop(signal.SIGKILL)
        for page in pages:
            await page.wait_for_selector("#state[data-state=reconnecting]")
        own_server.start()
        loop = asyncio.get_running_loop()
        start = loop.time()
        for page in pages:
            await page.wait_for_selector("#state[data-state=joined]")
        print(f"both are back {loop.time() - start:.2f} s after the server")
        for page in pages:
            await sees(page, 1)


@pytest.mark.asyncio
async def test_rooms_and_whip_and_whep_see_each_other(server):
    async with chromium() as browser:
        page = await enter(browser, server, "mixed", "Ann")
        # A room's stream is watched by WHEP.
        stream = await page.evaluate("sluiceRoom().published[0].id")
        viewer = await browser.new_page(viewport=WINDOW)
        await viewer.goto(f"{server.url}/watch#mixed/{stream}")
        await viewer.wait_for_selector("#state[data-state=live]")
        # A WHIP stream is seen in the room.
        publisher = await browser.new_page(viewport=WINDOW)
        await publisher.goto(f"{server.url}/publish#mixed/obs")
        await publisher.select_option("#size", "640x360")
        await publisher.click("#start")
        await sees(page, 1)
        await publisher.close()


@pytest.mark.asyncio
async def test_who_joins_while_the_publisher_is_away_sees_him_come_back(server):
    async with chromium() as browser:
        async def publish():
            page = await browser.new_page(viewport=WINDOW)
            await page.goto(f"{server.url}/publish#away/obs")
            await page.select_option("#size", "640x360")
            await page.select_option("#codec", "VP8")
            await page.click("#start")
            await page.wait_for_selector("#state[data-state=live]")
            return page
        publisher = await publish()
        await publisher.close()
        viewer = await enter(browser, server, "away", "", role="view")
        await viewer.wait_for_selector(".tile[data-live=false]")
        assert len(await viewer.query_selector_all(".tile")) == 1
        await publish()
        await sees(viewer, 1)


# The protocol itself


class Client:
    """A control WebSocket: sends requests and keeps what else comes."""

    def __init__(self, socket):
        self.socket = socket
        self.number = 0
        self.others = []

    async def request(self, kind, **fields):
        self.number += 1
        await self.socket.send(json.dumps({"type": kind, "id": self.number, **fields}))
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.recv(), 10))
            if message.get("id") == self.number:
                return message
            self.others.append(message)

    async def next(self, kind, seconds=5):
        async with asyncio.timeout(last_moment(seconds)):
            while True:
                for place, message in enumerate(self.others):
                    if message["type"] == kind:
                        return self.others.pop(place)
                self.others.append(json.loads(await self.socket.recv()))


@contextlib.asynccontextmanager
async def client(server, subprotocols=("sluice.v1",), **options):
    address = f"ws://127.0.0.1:{server.http_port}/v1/ws"
    async with websockets.connect(address, subprotocols=list(subprotocols), max_size=1 << 22, **options) as socket:
        yield Client(socket)


@pytest.mark.asyncio
async def test_joining_tells_who_is_there_and_how_private_it_is(server):
    async with client(server) as ann, client(server) as ben:
        assert (await ann.request("hello"))["protocol"] == "sluice.v1"
        joined = await ann.request("join", room="proto", name="Ann")
        assert joined["type"] == "joined" and joined["peers"] == [] and joined["streams"] == []
        assert joined["privacy"] == {
            "mode": "transport", "endToEndEncrypted": False, "serverCanAccessMedia": True,
            "notice": joined["privacy"]["notice"]}
        assert "can see and record" in joined["privacy"]["notice"]
        assert joined["rights"] == ["view", "publish", "host"]
        second = await ben.request("join", room="proto", name="Ben")
        assert [peer["name"] for peer in second["peers"]] == ["Ann"]
        assert second["rights"] == ["view", "publish"], "the host is who made the room"
        arrival = await ann.next("peer-joined")
        while "Ben" not in [peer["name"] for peer in arrival["peers"]]:
            arrival = await ann.next("peer-joined")
        await ben.socket.close()
    # A socket that is gone leaves the peer there for a while.


@pytest.mark.asyncio
async def test_a_stay_is_resumed_on_another_socket(server):
    async with client(server) as first:
        joined = await first.request("join", room="resume", name="Ann")
        async with client(server) as second:
            again = await second.request("join", room="resume", resume=joined["resume"])
            assert again["resumed"] and again["peer"] == joined["peer"]
            # It is for good: two that have one secret would throw each other out for ever.
            left = await first.next("left")
            assert left["code"] == "resumed-elsewhere" and "another tab" in left["reason"] and "id" not in left
            assert (await second.request("ping"))["type"] == "pong"
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await asyncio.wait_for(first.socket.recv(), 5)
            other = await second.request("join", room="resume")
            assert other["code"] == "conflict"


@pytest.mark.asyncio
async def test_hosts_lock_and_remove(server):
    async with client(server) as host, client(server) as guest, client(server) as late:
        await host.request("join", room="locked", name="Host")
        joined = await guest.request("join", room="locked", name="Guest")
        assert (await guest.request("update", action="lock"))["code"] == "forbidden"
        assert (await host.request("update", action="lock"))["type"] == "ok"
        assert (await late.request("join", room="locked"))["code"] == "forbidden"
        await guest.request("publish", sdp=OFFER, streams=[{"stream": "g", "mids": ["0"]}])
        about = {"action": "mute", "peer": joined["peer"]}
        assert (await host.request("update", **about))["type"] == "ok"
        assert (await guest.next("mute"))["muted"] == ["audio"]
        assert (await host.request("update", **about, stream="g", muted=["video"]))["type"] == "ok"
        told = await guest.next("mute")
        assert told["stream"] == "g" and told["muted"] == ["video"]
        assert (await host.request("update", **about, stream="other"))["code"] == "not-found"
        assert (await host.request("update", **about, muted=["smell"]))["code"] == "bad-request"
        assert (await host.request("update", action="remove", peer=joined["peer"]))["type"] == "ok"
        assert (await guest.next("left"))["reason"]
        assert (await host.request("update", action="unlock"))["type"] == "ok"
        assert (await late.request("join", room="locked"))["type"] == "joined"


OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n" \
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=rtcp-mux\r\na=setup:actpass\r\na=sendonly\r\n" \
        "a=rtpmap:111 opus/48000/2\r\na=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"


async def whip(server, path, method="POST"):
    """A WHIP or WHEP request's status and `Location`, or what the problem is."""
    body = (OFFER if path.endswith("whip") else OFFER.replace("sendonly", "recvonly")) if method == "POST" else None
    async with aiohttp.ClientSession() as http:
        headers = {"Content-Type": "application/sdp"} if body else {}
        async with http.request(method, f"{server.url}/{path.lstrip('/')}", data=body, headers=headers) as response:
            if response.status >= 400:
                return response.status, (await response.json(content_type=None))["detail"]
            return response.status, response.headers.get("Location")


@pytest.mark.asyncio
async def test_a_locked_room_refuses_whip_and_whep(server):
    async with client(server) as host:
        await host.request("join", room="shut")
        status, before = await whip(server, "shut/keeper/whip")
        assert status == 201
        await host.request("update", action="lock")
        assert await whip(server, "shut/latecomer/whip") == (403, "The room is locked.")
        assert await whip(server, "shut/keeper/whep") == (403, "The room is locked.")
        assert server.stream("latecomer") is None
        # Who is there stays.
        assert server.stream("keeper")["publisher"]
        await host.request("update", action="unlock")
        assert (await whip(server, "shut/keeper/whep"))[0] == 201
        assert (await whip(server, before, "DELETE"))[0] == 200


@pytest.mark.asyncio
async def test_a_host_ends_the_room_for_whip_and_whep_too(server):
    async with client(server) as host, client(server) as guest:
        await host.request("join", room="over")
        await guest.request("join", room="over")
        assert (await guest.request("publish", sdp=OFFER, streams=[{"stream": "guest-cam", "mids": ["0"]}]))["type"] == "answer"
        sessions = [(await whip(server, path))[1] for path in ["over/obs/whip", "over/obs/whep", "over/guest-cam/whep"]]
        elsewhere = (await whip(server, "elsewhere/obs/whip"))[1]
        await host.socket.send(json.dumps({"type": "update", "action": "end"}))
        for one in [host, guest]:
            assert "ended" in (await one.next("left"))["reason"]
        assert [(await whip(server, session, "DELETE"))[0] for session in sessions] == [404] * 3
        assert server.stream("guest-cam") is None
        assert (await whip(server, "over/obs/whep"))[0] == 404
        async with client(server) as next_one:
            joined = await next_one.request("join", room="over")
            assert joined["streams"] == [] and joined["peers"] == [] and "host" in joined["rights"], "another room"
        assert (await whip(server, elsewhere, "DELETE"))[0] == 200


@pytest.mark.asyncio
async def test_an_encrypted_room_refuses_who_does_not_encrypt(server):
    async with client(server) as ann, client(server) as ben:
        joined = await ann.request("join", room="secret", privacy="e2ee")
        assert joined["privacy"]["mode"] == "e2ee" and joined["privacy"]["endToEndEncrypted"]
        refused = await ben.request("join", room="secret", privacy="transport")
        assert refused["code"] == "privacy" and refused["privacy"]["mode"] == "e2ee"
        refused = await ann.request("publish", sdp=OFFER, streams=[{"stream": "cam", "mids": ["0"]}])
        assert refused["code"] == "privacy"
        accepted = await ann.request("publish", sdp=OFFER, privacy="e2ee", streams=[{"stream": "cam", "mids": ["0"]}])
        assert accepted["type"] == "answer" and "a=x-sluice-privacy:e2ee" in accepted["sdp"]


@pytest.mark.asyncio
async def test_leaving_is_answered_and_told_however_short_the_stay(server):
    async with client(server) as ann:
        await ann.request("join", room="short", name="Ann")
        await ann.next("peer-joined")
        async with client(server) as ben:
            peer = (await ben.request("join", room="short", name="Ben"))["peer"]
            assert (await ben.request("leave"))["type"] == "left"
        gone = await ann.next("peer-left")
        assert peer in gone["peers"]


@pytest.mark.asyncio
async def test_a_locked_room_is_open_again_without_its_host(server):
    async with client(server) as host, client(server) as guest, client(server) as late:
        assert (await host.request("join", room="unlock"))["connections"] == []
        await guest.request("join", room="unlock")
        await host.request("update", action="lock")
        assert (await late.request("join", room="unlock"))["code"] == "forbidden"
        assert (await guest.next("room-updated"))["locked"] is True
        await host.request("leave")
        assert (await guest.next("room-updated"))["locked"] is False
        assert (await late.request("join", room="unlock"))["type"] == "joined"


async def stay(server, room, action="return", **more):
    """Joins on a socket of its own, and leaves. What `joined` said, or the refusal."""
    async with client(server) as one:
        joined = await one.request("join", room=room, **more)
        if joined["type"] == "joined":
            assert (await one.request("leave", **({"action": action} if action else {})))["type"] == "left"
        return joined


@pytest.mark.asyncio
@pytest.mark.parametrize("locked", [True, False])
async def test_a_room_waits_for_the_host_who_was_alone_in_it(server, locked):
    room = f"alone-{locked}"
    async with client(server) as host, client(server) as again:
        resume = (await host.request("join", room=room, name="Host"))["resume"]
        if locked:
            await host.request("update", action="lock")
        assert (await host.request("leave", action="return"))["type"] == "left"
        # Nobody makes the room anew meanwhile, in another mode or as its host.
        refused = await stay(server, room, privacy="e2ee")
        assert refused["code"] == ("forbidden" if locked else "privacy")
        if locked:
            assert await whip(server, f"{room}/camera/whip") == (403, "The room is locked.")
        else:
            assert (await stay(server, room))["rights"] == ["view", "publish"]
        joined = await again.request("join", room=room, resume=resume)
        assert "host" in joined["rights"] and joined["locked"] is locked and not joined["resumed"]
        # Who leaves for good is not waited for.
        await again.request("leave")
        anew = await stay(server, room, None, privacy="e2ee")
        assert "host" in anew["rights"] and not anew["locked"], "another room"


@pytest.mark.asyncio
async def test_who_left_before_a_lock_or_a_removal_is_a_stranger_after_it(server):
    room = "collected"
    async with client(server) as host, client(server) as guest, client(server) as other:
        await host.request("join", room=room)
        collected = [(await stay(server, room))["resume"] for _ in range(3)]
        resume = (await guest.request("join", room=room))["resume"]
        peer = (await other.request("join", room=room))["peer"]
        await host.request("update", action="lock")
        for earlier in collected:
            assert (await stay(server, room, resume=earlier)).get("code") == "forbidden"
        # A page that is loaded again in a locked room is let in, once for each time.
        await guest.request("leave", action="return")
        second = await stay(server, room, resume=resume)
        assert second["type"] == "joined"
        assert (await stay(server, room, resume=resume))["code"] == "forbidden"
        # With another stay in reserve one can't come back either.
        await host.request("update", action="remove", peer=peer)
        assert (await stay(server, room, resume=second["resume"])).get("code") == "forbidden"


@pytest.mark.asyncio
async def test_who_wants_nothing_by_itself_any_more_is_sent_nothing(server):
    async with client(server) as ann, client(server) as ben:
        await ann.request("join", room="policy")
        await ann.request("publish", sdp=OFFER, streams=[{"stream": "a", "mids": ["0"]}])
        await ben.request("join", room="policy")
        assert [entry["stream"] for entry in (await ben.next("offer"))["streams"]] == ["a"]
        assert (await ben.request("subscribe", policy="none"))["type"] == "ok"
        # The next offer says so, once this one is answered or given up.
        assert (await ben.request("restart", action="renew"))["type"] == "ok"
        await ben.request("subscribe", stream="a")
        assert [entry["stream"] for entry in (await ben.next("offer"))["streams"]] == ["a"]


TWO_LINES = OFFER.replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0 1\r\n") \
    + OFFER[OFFER.index("m=audio"):].replace("m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=video 9 UDP/TLS/RTP/SAVPF 96") \
    .replace("a=mid:0", "a=mid:1").replace("111 opus/48000/2", "96 VP8/90000")


@pytest.mark.asyncio
async def test_tracks_are_subscribed_and_paused_one_by_one(server):
    async with client(server) as ann, client(server) as ben:
        await ann.request("join", room="tracks")
        await ann.request("publish", sdp=TWO_LINES, streams=[{"stream": "a", "mids": ["0", "1"]}])
        joined = await ben.request("join", room="tracks", policy="none")
        assert [track["kind"] for track in joined["streams"][0]["tracks"]] == ["audio", "video"]
        assert (await ben.request("subscribe", stream="a", tracks=[2]))["code"] == "bad-request"
        for wrong in [[-1], [1.5], ["0"], [0] * 65, [1 << 70], 0, {"0": 1}]:
            assert (await ben.request("subscribe", stream="a", tracks=wrong))["code"] == "bad-request", wrong
        # None of them is none, and one that is named twice is one.
        assert (await ben.request("subscribe", stream="a", tracks=[]))["type"] == "ok"
        for chosen, kinds in [({"tracks": [0, 0]}, ["audio"]), ({"tracks": [0]}, ["audio"]), ({"tracks": [1]}, ["video"]), ({}, ["audio", "video"])]:
            assert (await ben.request("subscribe", stream="a", **chosen))["type"] == "ok"
            ben.others.clear()
            await ben.request("restart", action="renew")
            offer = await ben.next("offer")
            assert len(offer["streams"][0]["mids"]) == len(kinds)
            assert [line[2:].split()[0] for line in offer["sdp"].splitlines() if line.startswith("m=")] == kinds
        assert (await ben.request("update", stream="a", tracks=[1], paused=True))["type"] == "ok"
        assert (await ben.request("update", stream="a", tracks=[5], paused=True))["code"] == "bad-request"


@pytest.mark.asyncio
async def test_a_listener_takes_the_sound_alone(server):
    """By the SDK: the video's m-line goes and comes again, and the sound is heard all the while."""
    tracks = """(room) => [...room.streams.values()][0].media.getTracks().filter((track) => !track.muted).map((track) => track.kind).sort()"""
    async with chromium() as browser:
        await enter(browser, server, "listener", "Ann")
        page = await enter(browser, server, "listener", "Ben", role="view")
        await sees(page, 1)
        for kinds in [["audio"], ["video"], ["audio", "video"]]:
            await page.evaluate("(kinds) => sluiceRoom().subscribe([...sluiceRoom().streams.keys()][0], kinds)", kinds)

            async def has():
                return await page.evaluate(f"() => ({tracks})(sluiceRoom())") == kinds
            await until(has, 10, f"Ben is sent {kinds}")
        await sees(page, 1)
        await page.evaluate("() => sluiceRoom().pause([...sluiceRoom().streams.keys()][0], true, ['video'])")
        await asyncio.sleep(1)
        before = await page.evaluate(FRAMES), (await page.evaluate(FIGURES))["energy"]
        await asyncio.sleep(1)
        after = await page.evaluate(FRAMES), (await page.evaluate(FIGURES))["energy"]
        assert after[0] == before[0] and sum(after[1]) > sum(before[1])
        await page.evaluate("() => sluiceRoom().pause([...sluiceRoom().streams.keys()][0], false, ['video'])")
        await sees(page, 1)


@pytest.mark.asyncio
async def test_wanted_encodings_are_checked(server):
    """What has ended meanwhile is left out; what makes no sense is refused."""
    async with client(server) as ann, client(server) as ben:
        await ann.request("join", room="encodings")
        streams = [{"stream": "a", "mids": ["0"]}]
        await ann.request("publish", sdp=OFFER, streams=streams)
        await ben.request("join", room="encodings")
        assert (await ben.request("update", encodings=[{"stream": "a", "encoding": 0}, {"stream": "gone", "encoding": 9}]))["type"] == "ok"
        for wrong in [[{"stream": "a"}], [{"encoding": 1}], [{"stream": "a", "encoding": -1}], {"a": 1}, [{"stream": "a/b", "encoding": 1}],
                      [{"stream": "a", "encoding": 1}] * 65]:
            assert (await ben.request("update", encodings=wrong))["code"] in ("bad-request", "bad-identifier"), wrong


@pytest.mark.asyncio
async def test_who_publishes_again_and_again_is_closed(server):
    """All of a room are told of each stream that begins and ends."""
    async with client(server) as ann:
        await ann.request("join", room="busy")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            for number in range(40):
                streams = [{"stream": f"s{number % 2}{place}", "mids": ["0"]} for place in range(8)]
                await ann.request("publish", sdp=OFFER, streams=streams)
        assert closed.value.rcvd.code == 1008 and number < 12


@pytest.mark.asyncio
async def test_a_connection_that_asks_for_nothing_is_closed():
    with Server(environment={"SLUICE_LIMITS_HTTP_IDLE": "5s"}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        writer.write(b"GET /healthz HT")
        assert await asyncio.wait_for(reader.read(), 10) == b""


BAD_MESSAGES = [
    ("no JSON", "{", "bad-request"),
    ("an array", "[]", "bad-request"),
    ("a number", "7", "bad-request"),
    ("no type", "{}", "bad-request"),
    ("a type that is no string", '{"type": 7}', "bad-request"),
    ("an unknown type", '{"type": "fly"}', "conflict"),
    ("an id that is an object", '{"type": "ping", "id": {}}', "bad-request"),
    ("a long id", json.dumps({"type": "ping", "id": "x" * 1000}), "bad-request"),
    ("a deep nest", '{"type": "message", "data": ' + "[" * 5000 + "]" * 5000 + "}", "bad-request"),
    ("a room that is an object", '{"type": "join", "room": {"a": 1}}', "bad-request"),
    ("a reserved room", '{"type": "join", "room": "whip"}', "bad-request"),
    ("a room with a slash", '{"type": "join", "room": "a/b"}', "bad-request"),
    ("an unknown role", '{"type": "join", "room": "bad", "role": "king"}', "bad-request"),
    ("an unknown policy", '{"type": "join", "room": "bad", "policy": "some"}', "bad-request"),
    ("an unknown privacy", '{"type": "join", "room": "bad", "privacy": "total"}', "bad-request"),
    ("publishing before joining", '{"type": "publish", "sdp": "", "streams": []}', "conflict"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("message,code", [(text, code) for _, text, code in BAD_MESSAGES], ids=[name for name, _, _ in BAD_MESSAGES])
async def test_a_bad_message_gets_an_error_and_nothing_else(server, message, code):
    async with client(server) as ann:
        await ann.socket.send(message)
        error = await ann.next("error")
        assert error["code"] == code and error["message"]
        assert (await ann.request("ping"))["type"] == "pong"


BAD_REQUESTS = [
    ("publish", {}), ("publish", {"sdp": "v=0"}), ("publish", {"sdp": "x" * 100_000}),
    ("answer", {"sdp": "v=0"}), ("answer", {}), ("subscribe", {"stream": "nobody"}), ("unsubscribe", {}),
    ("subscribe", {"policy": "some"}), ("update", {}), ("update", {"stream": "nobody", "paused": True}),
    ("update", {"action": "explode"}), ("restart", {}), ("restart", {"action": "x"}), ("unpublish", {"stream": "nobody"}),
    ("publish", {"sdp": "v=0", "streams": [{"stream": "s", "mids": [], "muted": ["x" * 1000]}]}),
    ("message", {}), ("message", {"data": "x" * 20_000}), ("message", {"data": 1, "to": "nobody"}), ("join", {"room": "other"}),
]


@pytest.mark.asyncio
async def test_bad_requests_in_a_room_are_refused_one_by_one(server):
    async with client(server) as ann:
        await ann.request("join", room="bad-requests")
        for kind, fields in BAD_REQUESTS:
            error = await ann.request(kind, **fields)
            assert error["type"] == "error" and error["code"] and error["message"], (kind, fields, error)
        assert (await ann.request("ping"))["type"] == "pong"


@pytest.mark.asyncio
async def test_floods_and_wrong_frames_are_closed(server):
    async with client(server) as ann:
        with pytest.raises(websockets.ConnectionClosed):
            for _ in range(1000):
                await ann.socket.send('{"type": "ping"}')
            while True:
                await asyncio.wait_for(ann.socket.recv(), 5)
        assert ann.socket.close_code == 1008
    async with client(server) as ann:
        await ann.socket.send(b"binary")
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(ann.socket.recv(), 5)
    async with client(server) as ann:
        with pytest.raises(websockets.ConnectionClosed):
            await ann.socket.send(json.dumps({"type": "message", "data": "x" * 400_000}))
            while True:
                await asyncio.wait_for(ann.socket.recv(), 5)
    with pytest.raises(websockets.InvalidStatus):
        async with client(server, subprotocols=["something-else"]):
            pass


HANDSHAKE = (b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sluice.v1\r\n\r\n")


@pytest.mark.asyncio
async def test_raw_bytes_around_the_handshake_hurt_nobody(server):
    text = b'{"type":"ping"}'
    frame = b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text
    for sent, expected in [
        (HANDSHAKE + frame, b"pong"),  # a frame in the same segment
        (HANDSHAKE + frame[:4], b"101 Switching"),  # half a frame, and then nothing
        (HANDSHAKE + b"\xff" * 200, b"101 Switching"),  # no frame at all
        (HANDSHAKE + HANDSHAKE, b"101 Switching"),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 8"), b"426 "),
        (HANDSHAKE.replace(b"Key: dGhl", b"Key: "), b"426 "),
        (HANDSHAKE.replace(b"GET", b"POST"), b"405 "),
        (HANDSHAKE.replace(b"/v1/ws", b"/healthz"), b"200 OK"),
        (HANDSHAKE.replace(b"/v1/ws", b"/nowhere"), b"404 "),
        (b"\x16\x03\x01" + bytes(300), b""),
    ]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        writer.write(sent)
        answer = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while expected not in answer or not expected:
                    part = await reader.read(4096)
                    if not part:
                        break
                    answer += part
        assert expected in answer, (sent, answer)
        writer.close()
    async with client(server) as ann:
        assert (await ann.request("ping"))["type"] == "pong"


@pytest.mark.asyncio
async def test_other_origins_and_missing_tokens_are_refused():
    with Server(environment={"SLUICE_AUTH_MODE": "token", "SLUICE_HTTP_ALLOWED_ORIGINS": "https://good.example"}) as server:
        with pytest.raises(websockets.InvalidStatus):
            async with client(server, origin="https://evil.example"):
                pass
        async with client(server, origin="https://good.example") as ann:
            assert (await ann.request("join", room="closed"))["code"] == "unauthorized"
            assert (await ann.request("join", room="closed", token="wrong"))["code"] == "forbidden"
            assert (await ann.request("join", room="closed", token=OPERATOR_TOKEN))["type"] == "joined"
        assert OPERATOR_TOKEN not in server.log_text() and "closed" not in server.log_text()
