"""What clients in the field really do, and must get served (INTERFACES: the WHIP and WHEP letter)."""

import asyncio
import json
import re
import time

import aiohttp
import pytest

from aiortc_peers import Publisher, Viewer
from sluice import OPERATOR_TOKEN, Server

FINGERPRINT = ":".join(["AB"] * 32)


def media(kind, mid, direction="sendonly", transport=True, codecs="VP8", setup="actpass"):
    """One m-line of an offer, of the shape that OBS and browsers send."""
    payload = {"VP8": "96 VP8/90000", "H264": "102 H264/90000", "opus": "111 opus/48000/2", "G722": "9 G722/8000",
               "H261": "31 H261/90000"}[codecs]
    number = payload.split()[0]
    lines = [f"m={kind} 9 UDP/TLS/RTP/SAVPF {number}", "c=IN IP4 0.0.0.0", f"a=mid:{mid}", f"a={direction}",
             "a=rtcp-mux", f"a=setup:{setup}", f"a=rtpmap:{payload}", f"a=rtcp-fb:{number} nack"]
    if codecs == "H264":
        lines.append("a=fmtp:102 packetization-mode=1;profile-level-id=42e01f")
    if transport:
        lines += ["a=ice-ufrag:abcd", "a=ice-pwd:" + "p" * 24, f"a=fingerprint:sha-256 {FINGERPRINT}"]
    return lines


def offer(*sections, session=("a=group:BUNDLE 0 1",)):
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", *session]
    for section in sections:
        lines += section
    return "\r\n".join(lines) + "\r\n"


PLAIN = offer(media("audio", 0, codecs="opus"), media("video", 1))


async def post(server, path, body=PLAIN, headers=None, method="POST"):
    async with aiohttp.ClientSession() as http:
        headers = {"Content-Type": "application/sdp"} | (headers or {})
        async with http.request(method, server.url + path, data=body, headers=headers) as response:
            return response.status, response.headers, await response.text()


@pytest.mark.asyncio
async def test_the_201_carries_everything(server):
    status, headers, answer = await post(server, "/r1/s1/whip", headers={"Origin": "https://vdo.ninja"})
    assert status == 201
    assert headers["Content-Type"] == "application/sdp"
    assert headers["Location"].startswith("/r1/s1/whip/")
    assert re.fullmatch(r'"\w+"', headers["ETag"])
    assert headers["WHEP"] == f"{server.url}/r1/s1/whep"
    assert headers["Sluice-Privacy"] == "transport"
    assert headers["Access-Control-Allow-Origin"] == "*"
    exposed = {name.strip() for name in headers["Access-Control-Expose-Headers"].split(",")}
    assert {"Location", "ETag", "Link", "WHEP", "Sluice-Privacy"} <= exposed
    assert "a=x-sluice-privacy:transport\r\n" in answer
    assert answer.count("\n") == answer.count("\r\n")
    # One codec a line, and all candidates at once.
    assert re.findall(r"^m=\w+ \d+ \S+ (.*)\r$", answer, re.MULTILINE) == ["111", "96"]
    assert "a=candidate:" in answer and "a=end-of-candidates" in answer
    status, _, _ = await post(server, headers["Location"], None, method="DELETE")
    assert status == 200
    status, _, _ = await post(server, headers["Location"], None, method="DELETE")
    assert status == 404


@pytest.mark.asyncio
async def test_preflight(server):
    for path, methods in (("/x/whip", "POST"), ("/x/y/whep", "POST"), ("/x/whip/id", "PATCH, DELETE")):
        status, headers, _ = await post(server, path, None, {
            "Origin": "https://example.org", "Access-Control-Request-Method": methods.split(",")[0],
            "Access-Control-Request-Headers": "authorization,content-type,if-match"}, method="OPTIONS")
        assert status == 204
        assert methods in headers["Access-Control-Allow-Methods"]
        allowed = headers["Access-Control-Allow-Headers"].lower()
        assert all(name in allowed for name in ("authorization", "content-type", "if-match", "sluice-privacy"))


@pytest.mark.asyncio
@pytest.mark.parametrize("name,body", [
    ("only active", offer(media("audio", 0, codecs="opus", setup="active"), media("video", 1, setup="active"))),
    ("audio first", offer(media("audio", 0, codecs="opus"), media("video", 1))),
    ("video first", offer(media("video", 0), media("audio", 1, codecs="opus"))),
    ("one line without BUNDLE", offer(media("video", 0), session=())),
    ("sendrecv", offer(media("audio", 0, "sendrecv", codecs="opus"), media("video", 1, "sendrecv"))),
    ("transport at session level", offer(
        media("audio", 0, codecs="opus", transport=False), media("video", 1, transport=False),
        session=("a=group:BUNDLE 0 1", "a=ice-ufrag:abcd", "a=ice-pwd:" + "p" * 24, f"a=fingerprint:sha-256 {FINGERPRINT}"))),
    ("simulcast", offer(media("audio", 0, codecs="opus"), media("video", 1) + [
        "a=rid:hi send", "a=rid:lo send", "a=simulcast:send hi;lo"])),
    ("mDNS candidates", offer(media("audio", 0, codecs="opus"), media("video", 1) + [
        "a=candidate:1 1 udp 1 f3c0.local 9 typ host", "a=candidate:2 1 udp 1 nonsense"])),
    ("bare line feeds", PLAIN.replace("\r\n", "\n")),
])
async def test_offers_of_all_shapes_are_served(server, name, body):
    path = "/shape-" + re.sub(r"\W", "-", name) + "/whip"
    status, headers, text = await post(server, path, body)
    assert status == 201, text
    assert "a=setup:passive" in text and "simulcast" not in text and "a=rid" not in text
    await post(server, headers["Location"], None, method="DELETE")


@pytest.mark.asyncio
@pytest.mark.parametrize("status,body,line", [
    (400, "hello", None),
    (400, "", None),
    (406, offer(media("audio", 0, codecs="opus"), media("video", 1, codecs="H261")), 2),
    (422, offer(media("audio", 0, codecs="opus"), media("video", 1), session=()), 2),
    (422, offer(media("audio", 0, "recvonly", codecs="opus")), 1),
    (422, PLAIN.replace("a=fingerprint", "a=x"), 1),
    (413, PLAIN + "a=x\r\n" * 20000, None),
])
async def test_refusals_are_problem_documents(server, status, body, line):
    found, headers, text = await post(server, "/refused/whip", body)
    assert found == status, text
    assert headers["Content-Type"] == "application/problem+json"
    problem = json.loads(text)
    assert problem["status"] == status and problem["detail"] and problem["title"]
    assert problem.get("mediaLine") == line
    if line:
        assert f"m-line {line}:" in problem["detail"]


@pytest.mark.asyncio
async def test_other_refusals(server):
    assert (await post(server, "/x/whip", headers={"Content-Type": "text/plain"}))[0] == 415
    assert (await post(server, "/no!good/whip"))[0] == 400
    assert (await post(server, "/metrics/whip"))[0] == 400
    assert (await post(server, "/a/b/c/whip"))[0] == 404
    status, headers, _ = await post(server, "/x/whip", None, method="GET")
    assert status == 405 and headers["Allow"] == "POST, OPTIONS"
    status, headers, text = await post(server, "/x/whip", headers={"Sluice-Privacy": "nonsense"})
    assert status == 400


@pytest.mark.asyncio
async def test_viewers_that_come_early_poll_cheaply(server):
    """404 with Retry-After, however often: it is not flooding, and costs next to nothing."""
    async with aiohttp.ClientSession() as http:
        start = time.process_time(), time.monotonic()
        for _ in range(1000):
            async with http.post(f"{server.url}/nobody/whep", data="", headers={"Content-Type": "application/sdp"}) as reply:
                assert reply.status == 404 and reply.headers["Retry-After"] == "1"
        print(f"{(time.monotonic() - start[1]):.2f} s for 1000 polls")


@pytest.mark.asyncio
async def test_patches_that_change_nothing(server):
    _, headers, answer = await post(server, "/patched/whip")
    kind = {"Content-Type": "application/trickle-ice-sdpfrag"}
    ours = re.search(r"a=ice-ufrag:(\S+)", answer)[1]
    for body in (f"a=ice-ufrag:{ours}\r\na=ice-pwd:{'q' * 24}\r\n",
                 "m=audio 9 RTP/AVP 0\r\na=mid:77\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n",
                 "a=end-of-candidates\r\n", "a=ice-ufrag:abcd\r\na=ice-pwd:" + "p" * 24 + "\r\n",
                 "a=candidate:1 1 udp 1 f3c0.local 9 typ host\r\n"):
        status, _, text = await post(server, headers["Location"], body, kind, "PATCH")
        assert (status, text) == (204, "")
    tagged = kind | {"If-Match": headers["ETag"]}
    assert (await post(server, headers["Location"], "a=end-of-candidates\r\n", tagged, "PATCH"))[0] == 204
    wrong = kind | {"If-Match": '"other"'}
    assert (await post(server, headers["Location"], "a=end-of-candidates\r\n", wrong, "PATCH"))[0] == 412
    restart = "a=ice-ufrag:wxyz\r\na=ice-pwd:" + "r" * 24 + "\r\n"
    assert (await post(server, headers["Location"], restart, kind, "PATCH"))[0] == 428
    status, restarted, text = await post(server, headers["Location"], restart, tagged, "PATCH")
    assert status == 200 and restarted["ETag"] != headers["ETag"]
    assert restarted["Content-Type"] == "application/trickle-ice-sdpfrag"
    assert "a=ice-ufrag:" in text and ours not in text
    assert (await post(server, headers["Location"], restart, tagged, "PATCH"))[0] == 412, "the old tag"
    assert (await post(server, headers["Location"], "x", {"Content-Type": "application/json"}, "PATCH"))[0] == 415
    assert (await post(server, "/patched/whip/none", "x=", kind, "PATCH"))[0] == 404


@pytest.mark.asyncio
async def test_an_absolute_location_glued_to_the_origin_works(server):
    """Some clients glue Location to the origin: it is root-relative, so both ways lead there."""
    publisher = Publisher(server, "room-a/stream-a")
    await publisher.negotiate()
    await publisher.connected()
    assert publisher.headers["Location"].startswith("/room-a/stream-a/whip/")
    await publisher.close()


@pytest.mark.asyncio
async def test_modes_are_never_changed_silently(server):
    status, headers, _ = await post(server, "/modes/whip", headers={"Sluice-Privacy": "transport"})
    assert status == 201
    status, other, text = await post(server, "/modes/whep", headers={"Sluice-Privacy": "e2ee"})
    assert status == 409 and json.loads(text)["privacy"] == "transport" and other["Sluice-Privacy"] == "transport"
    status, other, text = await post(server, "/modes/second/whip", headers={"Sluice-Privacy": "e2ee"})
    assert status == 409, "another stream of the same room"
    await post(server, headers["Location"], None, method="DELETE")
    status, headers, answer = await post(server, "/sealed/whip", headers={"Sluice-Privacy": "e2ee"})
    assert status == 201 and headers["Sluice-Privacy"] == "e2ee" and "a=x-sluice-privacy:e2ee" in answer
    # A publisher into an e2ee room that does not declare encrypted frames is refused.
    assert (await post(server, "/sealed/plain/whip"))[0] == 409


@pytest.mark.asyncio
async def test_tokens():
    with Server(environment={"SLUICE_AUTH_MODE": "token"}) as server:
        status, headers, _ = await post(server, "/guarded/whip")
        assert status == 401 and headers["WWW-Authenticate"] == "Bearer"
        assert (await post(server, "/guarded/whip", headers={"Authorization": "Bearer wrong"}))[0] == 403
        right = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        assert (await post(server, "/guarded/whip", headers=right))[0] == 201
        assert (await post(server, "/guarded/whep"))[0] == 401


@pytest.mark.asyncio
async def test_limits_answer_429_with_retry_after():
    with Server(environment={"SLUICE_LIMITS_PEERS_PER_ADDRESS": "2", "SLUICE_LIMITS_SESSIONS_PER_ADDRESS_PER_MINUTE": "4"}
                ) as server:
        statuses = []
        for index in range(6):
            status, headers, _ = await post(server, f"/limited{index}/whip")
            statuses.append(status)
            assert status == 201 or headers["Retry-After"]
        assert statuses == [201, 201, 429, 429, 429, 429]


@pytest.mark.asyncio
async def test_ice_servers_are_handed_to_clients():
    with Server(environment={"SLUICE_ICE_SERVERS": "stun:stun.example.org:3478"}) as server:
        for method, body in (("POST", PLAIN), ("OPTIONS", None)):
            _, headers, _ = await post(server, "/linked/whip", body, method=method)
            assert headers["Link"] == '<stun:stun.example.org:3478>; rel="ice-server"'


@pytest.mark.asyncio
async def test_ice_servers_are_told_to_nobody_else():
    environment = {"SLUICE_ICE_SERVERS": "stun:stun.example.org:3478", "SLUICE_AUTH_MODE": "token"}
    with Server(environment=environment) as server:
        status, headers, _ = await post(server, "/linked/whip", method="OPTIONS")
        assert status == 204 and "Link" not in headers
        token = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        status, headers, _ = await post(server, "/linked/whip", headers=token, method="OPTIONS")
        assert status == 204 and "Link" in headers


@pytest.mark.asyncio
async def test_media_over_ipv6():
    with Server("--media-listen", "::1") as server:
        publisher, viewer = Publisher(server, "six"), Viewer(server, "six")
        # aiortc gathers no loopback address; its own IPv6 address reaches ::1 all the same.
        await publisher.negotiate()
        try:
            await publisher.connected()
        except TimeoutError:
            pytest.skip("this machine has no IPv6 address besides loopback")
        await viewer.negotiate()
        await viewer.frames_reach(30, 15)
        await viewer.close()
        await publisher.close()


@pytest.mark.asyncio
async def test_an_ice_restart_keeps_the_call(server):
    """Chromium restarts ICE through PATCH; media goes on on the new credentials."""
    from chromium import chromium, figures, peers_page
    from patience import until
    async with chromium() as browser:
        page = await peers_page(browser, server)
        await page.evaluate("o => publish('camera', o)", {"url": f"{server.url}/restarted/whip", "codec": "VP8"})

        async def connected():
            return (await figures(page, "camera"))["state"] == "connected"
        await until(connected, 10, "connected")
        await page.evaluate("""async () => {
            const peer = peers.camera, connection = peer.connection;
            await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
            const sdp = connection.localDescription.sdp;
            const line = (name) => sdp.match(new RegExp(`a=${name}:.*`))[0].trim();
            const response = await fetch(peer.location, { method: "PATCH",
                headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*" },
                body: `${line("ice-ufrag")}\\r\\n${line("ice-pwd")}\\r\\n` });
            if (response.status !== 200) throw new Error(await response.text());
            const fragment = await response.text();
            const fresh = (name) => fragment.match(new RegExp(`a=${name}:.*`))[0].trim();
            const answer = peer.answer.replace(/a=ice-ufrag:.*/g, fresh("ice-ufrag")).replace(/a=ice-pwd:.*/g, fresh("ice-pwd"));
            await connection.setRemoteDescription({ type: "answer", sdp: answer });
        }""")
        before = server.stream("restarted")["publisher"]["tracks"]
        sent = sum(track["packetsReceived"] for track in before)

        async def flows():
            now = (await asyncio.to_thread(server.stream, "restarted"))["publisher"]["tracks"]
            return sum(track["packetsReceived"] for track in now) > sent + 100
        await until(flows, 10, "media after the restart")
        assert await connected()
