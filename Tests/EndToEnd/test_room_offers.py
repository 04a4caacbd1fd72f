"""What is offered and answered in rooms, by clients that write their descriptions themselves."""

import json
import urllib.error
import urllib.request

import pytest

from patience import until
from sluice import OPERATOR_TOKEN
from test_rooms import client

TRANSPORT = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:{setup}\r\na=rtcp-mux\r\n" \
            "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"


def offer(lines, first="0"):
    """- lines: what is sent, each `(mid, codec, a=fmtp)`."""
    mids = " ".join([first] + [mid for mid, _, _ in lines if mid != first])
    text = f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mids}\r\n"
    for mid, codec, parameters in lines:
        kind = "audio" if codec.startswith("opus") else "video"
        text += f"m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{mid}\r\n{TRANSPORT.format(setup='actpass')}a=sendonly\r\n" \
                f"a=rtpmap:96 {codec}\r\n" + (f"a=fmtp:96 {parameters}\r\n" if parameters else "")
    return text


def answer(offered):
    """Takes all of an offer of the server's."""
    keep = ("v=", "o=", "s=", "t=", "m=", "c=", "a=group", "a=mid", "a=rtpmap", "a=fmtp", "a=rtcp-fb", "a=extmap")
    text = ""
    for line in offered.split("\r\n"):
        if line.startswith(keep):
            text += line + "\r\n"
        elif line in ("a=sendonly", "a=inactive"):
            text += ("a=recvonly" if line == "a=sendonly" else line) + "\r\n" + TRANSPORT.format(setup="active")
    return text


async def entered(socket, room, **fields):
    joined = await socket.request("join", room=room, **fields)
    assert joined["type"] == "joined", joined
    return joined


async def publish(socket, streams, sdp):
    return await socket.request("publish", sdp=sdp, streams=[{"stream": name, "mids": mids} for name, mids in streams.items()])


def statistics(server):
    request = urllib.request.Request(f"{server.url}/v1/stats", headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return {stream["stream"]: stream for stream in json.load(response)["streams"]}


@pytest.mark.asyncio
async def test_rights_are_looked_at_before_a_description_is(server):
    """Who may not publish, or answers what was not asked, hears that, and nothing of what is wrong with the description."""
    async with client(server) as ann, client(server) as ben:
        await entered(ann, "rights-first")
        await entered(ben, "rights-first", role="view")
        refused = await publish(ben, {"x": ["0"]}, "no description")
        assert (refused["type"], refused["code"]) == ("error", "forbidden"), refused
        refused = await publish(ann, {"x": ["0"]}, "no description")
        assert refused["code"] == "bad-request", refused
        refused = await ann.request("answer", sdp="no description")
        assert refused["code"] == "conflict", refused


@pytest.mark.asyncio
async def test_a_description_that_is_too_long_is_refused_with_what_there_may_be(server):
    async with client(server) as ann:
        await entered(ann, "too-long")
        many = offer([("0", "opus/48000/2", "")]).replace("a=group", "a=extmap:1 u\r\n" * 17_000 + "a=group", 1)
        refused = await publish(ann, {"x": ["0"]}, many[:200_000])
        assert refused["code"] == "bad-request" and "1024 attributes" in refused["message"], refused


@pytest.mark.asyncio
async def test_a_stream_has_so_many_tracks_and_each_m_line_is_one_stream_s(server):
    lines = [(str(number), "opus/48000/2", "") for number in range(5)] + [(str(number), "VP8/90000", "") for number in range(5, 8)]
    mids = [mid for mid, _, _ in lines]
    async with client(server) as ann:
        await entered(ann, "so-many")
        refused = await publish(ann, {"x": mids}, offer(lines))
        assert (refused["code"], refused["mediaLine"]) == ("unservable", 5), refused
        assert "4 tracks of audio" in refused["message"], refused
        refused = await publish(ann, {"x": ["0"], "y": ["0"]}, offer(lines))
        assert refused["code"] == "bad-request", refused
        assert (await publish(ann, {"x": mids[1:]}, offer(lines)))["type"] == "answer"
    request = urllib.request.Request(f"{server.url}/so-many-more/x/whip", offer(lines).encode(), {"Content-Type": "application/sdp"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=5)
    assert error.value.code == 422 and json.load(error.value)["mediaLine"] == 5


@pytest.mark.asyncio
async def test_one_publisher_leaves_the_others_their_m_lines_and_payload_types(server):
    """As many tracks as one may publish, no two of them alike, come first; then ten others."""
    async with client(server) as viewer, client(server) as greedy:
        await entered(viewer, "greedy", role="view")
        await entered(greedy, "greedy")
        codecs = ["H264/90000", "VP9/90000", "AV1/90000", "VP8/90000"]
        lines, streams = [], {}
        for stream in range(8):
            streams[f"greedy{stream}"] = []
            for track in range(4):
                mid = str(len(lines))
                name = codecs[track]
                parameters = f"profile-level-id=64{stream:02x}{track:02x};packetization-mode=1;x={mid}" if name[0] == "H" else f"x={mid}"
                lines.append((mid, name, parameters))
                streams[f"greedy{stream}"].append(mid)
        assert (await publish(greedy, streams, offer(lines)))["type"] == "answer"

        others = []
        seen = set()
        try:
            for number in range(10):
                context = client(server)
                other = await context.__aenter__()
                others.append(context)
                await entered(other, "greedy")
                own = [("0", "opus/48000/2", f"x={number}"), ("1", codecs[number % 4], f"y={number}")]
                assert (await publish(other, {f"honest{number}": ["0", "1"]}, offer(own)))["type"] == "answer"
            while len(seen) < 10:
                offered = await viewer.next("offer", 10)
                assert (await viewer.request("answer", offer=offered["offer"], sdp=answer(offered["sdp"])))["type"] == "ok"
                for stream in offered["streams"]:
                    if stream["stream"].startswith("honest"):
                        assert len(stream["mids"]) == 2, stream
                        seen.add(stream["stream"])
            mids = {stream["stream"]: len(stream["mids"]) for stream in offered["streams"]}
            assert sum(count for name, count in mids.items() if name.startswith("greedy")) == 16, mids
        finally:
            for context in others:
                await context.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_statistics_show_who_watches_in_a_room(server):
    async with client(server) as ann, client(server) as ben, client(server) as cleo:
        await entered(ann, "watched")
        await publish(ann, {"in-the-room": ["0", "1"]}, offer([("0", "opus/48000/2", ""), ("1", "VP8/90000", "")]))
        for viewer in (ben, cleo):
            await entered(viewer, "watched", role="view")
        assert statistics(server)["in-the-room"]["viewers"] == [], "nobody has answered yet"
        for viewer in (ben, cleo):
            offered = await viewer.next("offer")
            assert (await viewer.request("answer", offer=offered["offer"], sdp=answer(offered["sdp"])))["type"] == "ok"
        viewers = statistics(server)["in-the-room"]["viewers"]
        assert len(viewers) == 2 and len({viewer["id"] for viewer in viewers}) == 2
        assert all(len(viewer["subscriptions"]) == 2 for viewer in viewers), viewers
        assert (await ben.request("unsubscribe", stream="in-the-room"))["type"] == "ok"

        async def one_is_left():
            return len(statistics(server)["in-the-room"]["viewers"]) == 1
        await until(one_is_left, 5, "one viewer is left")


@pytest.mark.asyncio
async def test_stereo_is_told_in_a_room(server):
    async with client(server) as ann, client(server) as ben:
        await entered(ann, "stereo")
        reply = await publish(ann, {"music": ["0"]}, offer([("0", "opus/48000/2", "minptime=10;sprop-stereo=1")]))
        assert "stereo=1" in reply["sdp"].split("sprop-stereo=1")[1], reply["sdp"]
        await entered(ben, "stereo")
        offered = (await ben.next("offer"))["sdp"]
        assert "sprop-stereo=1" in offered and ";stereo=1" in offered, offered
