"""The protocol as Docs/Protocol.md and its schema have it is the one that is spoken."""

import json
import re

import jsonschema
import pytest

import protocol
from chromium import chromium
from patience import until
from test_rooms import client, enter, sees
from test_tokens import OFFER

SOURCES = protocol.ROOT / "Sources/Control"


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(protocol.SCHEMA)
    for direction in ("client", "server"):
        listed = {entry["$ref"].split(".")[1] for entry in protocol.SCHEMA["$defs"][f"{direction}Message"]["oneOf"]}
        assert listed == protocol.types(direction)


def test_every_message_has_an_example_that_is_valid():
    seen = {"client": set(), "server": set()}
    for direction, message in protocol.examples():
        protocol.check(direction, message)
        jsonschema.validate(message, protocol.SCHEMA)
        seen[direction].add(message["type"])
    for direction, kinds in seen.items():
        assert kinds == protocol.types(direction)


def test_the_schema_has_the_types_and_codes_that_the_sources_have():
    session = (SOURCES / "Rooms/ControlSession.swift").read_text()
    carrying_out = session[session.index("func carryOut("):session.index("private func join(")]
    handled = set(re.findall(r'^        case "([a-z-]+)":', carrying_out, re.MULTILINE))
    assert handled == protocol.types("client")
    sources = "".join(path.read_text() for path in sorted(SOURCES.rglob("*.swift")))
    sent = set(re.findall(r'"type": "([a-z-]+)"', sources))
    # What is told before its sender is written may stand in the schema already.
    assert sent <= protocol.types("server") and protocol.types("server") - sent <= {"quality"}
    problem = (SOURCES / "HTTP/Problem.swift").read_text()
    codes = set(re.findall(r'(?:return|\?) "([a-z-]+)"', problem[problem.index("var code: String"):]))
    assert codes == set(protocol.SCHEMA["$defs"]["server.error"]["properties"]["code"]["enum"])


REFUSED = [
    ("publish", {"sdp": "v=0"}), ("subscribe", {"stream": "nobody"}), ("update", {"action": "mute", "peer": "nobody"}),
    ("message", {"data": "x" * 20_000}), ("join", {"room": "other"}), ("restart", {}), ("unpublish", {"stream": "nobody"}),
    ("publish", {"sdp": OFFER.replace("opus", "none"), "streams": [{"stream": "x", "mids": ["0"]}]}),
]


@pytest.mark.asyncio
async def test_what_the_server_says_in_a_room_is_in_the_schema(server):
    kinds = set()

    def note(message):
        protocol.check("server", message)
        kinds.add(message["type"])
        return message

    async with client(server) as host, client(server) as guest, client(server) as viewer, client(server) as late:
        note(await host.request("hello"))
        note(await host.request("ping"))
        note(await host.request("join", room="schema", name="Host"))
        joined = note(await guest.request("join", room="schema", name="Guest", policy="none"))
        note(await viewer.request("join", room="schema", role="view"))
        note(await host.next("peer-joined"))
        streams = [{"stream": "cam", "kind": "camera", "mids": ["0"], "muted": []}]
        note(await guest.request("publish", sdp=OFFER, streams=streams))
        note(await viewer.next("offer"))
        note(await guest.request("update", stream="cam", muted=["audio"]))
        note(await viewer.request("update", stream="cam", paused=True))
        note(await viewer.request("update", encodings=[{"stream": "cam", "encoding": 0}]))
        note(await host.request("message", data={"text": "hello"}, to=joined["peer"]))
        note(await host.request("message", data=[1, None, "é"]))
        note(await host.request("update", action="lock"))
        note(await late.request("join", room="schema"))
        note(await late.request("join", room="schema", privacy="e2ee"))
        note(await host.request("update", action="unlock"))
        note(await host.request("update", action="mute", peer=joined["peer"]))
        for kind, fields in REFUSED:
            assert note(await guest.request(kind, **fields))["type"] == "error", kind
        again = note(await late.request("join", room="schema", resume=joined["resume"]))
        assert again["resumed"] and again["connections"] == ["send"] and again["streams"][0]["muted"] == ["audio"]
        note(await viewer.request("subscribe", policy="none"))
        note(await viewer.request("unsubscribe", stream="cam"))
        note(await late.request("unpublish", stream="cam"))
        note(await late.next("stream-removed"))
        await host.next("stream-removed")
        note(await viewer.request("leave"))
        note(await host.request("update", action="remove", peer=joined["peer"]))
        note(await late.next("left"))
        note(await host.next("peer-left"))
        for message in host.others + guest.others + viewer.others + late.others:
            note(message)
    # These need media.
    assert protocol.types("server") - kinds <= {"speakers", "quality", "connection-lost"}


SENT = {"join", "publish", "answer", "message", "update", "subscribe", "unsubscribe", "ping"}
RECEIVED = {"joined", "offer", "answer", "ok", "message", "speakers", "stream-added", "stream-updated", "stream-removed", "peer-joined",
            "peer-left", "room-updated", "mute", "error", "left"}


@pytest.mark.asyncio
async def test_what_the_sdk_and_the_server_say_is_in_the_schema(server):
    sent, received, wrong = set(), set(), []

    def listen(page):
        def check(direction, kinds, payload):
            message = json.loads(payload)
            kinds.add(message["type"])
            try:
                protocol.check(direction, message)
            except AssertionError as error:
                wrong.append(str(error))
        def opened(socket):
            socket.on("framesent", lambda payload: check("client", sent, payload))
            socket.on("framereceived", lambda payload: check("server", received, payload))
        page.on("websocket", opened)

    async with chromium() as browser:
        browser.on("context", lambda context: context.on("page", listen))
        first = await enter(browser, server, "sdk-schema", "Ann")
        second = await enter(browser, server, "sdk-schema", "Ben")
        await sees(first, 1)
        await sees(second, 1)
        await first.evaluate("""async () => {
            const room = sluiceRoom();
            await room.send({ text: "hello" });
            await room.send([1], [...room.peers.keys()][0]);
            await room.published[0].setMuted("audio", true);
            const other = [...room.streams.keys()][0];
            await room.pause(other, true);
            await room.pause(other, false);
            await room.unsubscribe(other);
            await room.subscribe(other);
            await room.act("lock");
            await room.act("unlock");
            await room.act("mute", [...room.peers.keys()][0]);
            await room.send("x".repeat(20000)).catch(() => {});
        }""")
        async def spoken():
            return "speakers" in received and "stream-updated" in received
        await until(spoken, 10, "somebody is told to speak")
        # Both connections are lost on the client's side, and made anew; the socket is cut, and comes back.
        await second.evaluate("dispatchEvent(new Event('online'))")
        await second.wait_for_selector("#state[data-state=joined]")
        await second.evaluate("sluiceRoom().unpublish(sluiceRoom().published[0])")
        await second.evaluate("sluiceRoom().leave()")
        async def all_is_said():
            return sent >= SENT and received >= RECEIVED - {"left"}
        await until(all_is_said, 10, f"{SENT - sent} are sent, and {RECEIVED - received} received")
        await first.evaluate("void sluiceRoom().act('end').catch(() => {})")
        async def ended():
            return "left" in received
        await until(ended, 5, "the room ends")
    assert not wrong, wrong
