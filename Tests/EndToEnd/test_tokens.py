"""Who may do what: signed tokens over WHIP, WHEP and the control WebSocket."""

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
import time
import urllib.error
import urllib.request

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sluice import OPERATOR_TOKEN, PROGRAM, Server
from test_rooms import client

SECRET = "a-secret-of-the-tests-that-is-long-enough-for-hs256"
OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n" \
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=rtcp-mux\r\na=setup:actpass\r\na=sendonly\r\n" \
        "a=rtpmap:111 opus/48000/2\r\na=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Private keys of each kind whose public halves the server has."""
    folder = tmp_path_factory.mktemp("keys")
    made = {
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }
    for name, key in made.items():
        (folder / name).write_bytes(key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return made, ",".join(str(folder / name) for name in made)


@pytest.fixture(scope="module")
def guarded(keys):
    environment = {"SLUICE_AUTH_MODE": "token", "SLUICE_AUTH_SECRET": SECRET, "SLUICE_AUTH_PUBLIC_KEYS": keys[1],
                   "SLUICE_LIMITS_WRONG_TOKENS_PER_ADDRESS_PER_MINUTE": "100000"}
    with Server(environment=environment) as server:
        yield server


def token(key=SECRET, algorithm="HS256", **claims):
    claims = {"role": "publish", "exp": int(time.time()) + 3600} | claims
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm)


def post(server, path, bearer=None, headers=None):
    """A WHIP or WHEP request's status and problem."""
    request = urllib.request.Request(f"{server.url}/{path}", OFFER.encode(), {"Content-Type": "application/sdp"} | (headers or {}))
    if bearer:
        request.add_header("Authorization", f"Bearer {bearer}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            response.read()
            assert session(server, response.headers["Location"], bearer) == 200
            return response.status, ""
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["detail"]


def begin(server, path, bearer, headers=None, offer=OFFER):
    """A session's address, relative to the server."""
    request = urllib.request.Request(f"{server.url}/{path}", offer.encode(),
                                     {"Content-Type": "application/sdp", "Authorization": f"Bearer {bearer}"} | (headers or {}))
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Location"]


def session(server, location, bearer=None, method="DELETE", body=b"", **headers):
    """What a request to a session is answered."""
    request = urllib.request.Request(server.url + location, body or None, headers, method=method)
    if bearer:
        request.add_header("Authorization", f"Bearer {bearer}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


GOOD = [
    ("for everything", {}, "r1/s1/whip"),
    ("for the room", {"room": "r2"}, "r2/s/whip"),
    ("for the room and the stream", {"room": "r3", "stream": "s3"}, "r3/s3/whip"),
    ("of a host", {"role": "host"}, "r4/s/whip"),
    ("of an operator", {"role": "operator"}, "r5/s/whip"),
    ("that has begun", {"nbf": int(time.time()) - 5}, "r6/s/whip"),
    ("for the mode", {"privacy": "transport"}, "r7/s/whip"),
]


@pytest.mark.parametrize("claims,path", [(claims, path) for _, claims, path in GOOD], ids=[name for name, _, _ in GOOD])
def test_a_token_lets_its_bearer_publish(guarded, claims, path):
    assert post(guarded, path, token(**claims)) == (201, "")


BAD = [
    ("missing", None, 401, "required"),
    ("no token", "nonsense", 401, "signature"),
    ("empty parts", "..", 401, "signature"),
    ("huge", "x" * 5000, 401, "signature"),
    ("signed with another secret", token(key="another-secret-that-is-long-enough-too"), 401, "signature"),
    ("not signed", token(key=None, algorithm="none"), 401, "signature"),
    ("expired", token(exp=int(time.time()) - 5), 401, "expired"),
    ("not begun", token(nbf=int(time.time()) + 3600, exp=int(time.time()) + 7200), 401, "not valid yet"),
    ("without expiry", token(exp=None), 401, "exp"),
    ("without role", token(role=None), 401, "role"),
    ("of an unknown role", token(role="king"), 401, "role"),
    ("for watching", token(role="view"), 403, "watching"),
    ("for another room", token(room="elsewhere"), 403, "another room"),
    ("for another stream", token(stream="elsewhere"), 403, "another stream"),
    ("for a room that is none", token(room="a/b"), 401, "make sense"),
    ("with a mode that is none", token(privacy="total"), 401, "make sense"),
]


@pytest.mark.parametrize("bearer,status,word", [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_token_is_refused_with_the_reason(guarded, bearer, status, word):
    found, detail = post(guarded, "some-room/stream/whip", bearer)
    assert found == status and word in detail, (found, detail)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_tokens_of_configured_public_keys_are_accepted(guarded, keys, algorithm):
    assert post(guarded, f"{algorithm}/s/whip", token(keys[0][algorithm], algorithm)) == (201, "")
    other = {"EdDSA": ed25519.Ed25519PrivateKey.generate(), "ES256": ec.generate_private_key(ec.SECP256R1()),
             "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048)}[algorithm]
    assert post(guarded, f"{algorithm}/s/whip", token(other, algorithm))[0] == 401


def test_a_public_key_is_no_secret(guarded, keys):
    """Whoever has the public key can't sign with it as if it were the secret."""
    import base64
    import hashlib
    import hmac
    pem = keys[0]["RS256"].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part({"role": "operator", "exp": int(time.time()) + 60})
    forged = signed + b"." + base64.urlsafe_b64encode(hmac.digest(pem, signed, hashlib.sha256)).rstrip(b"=")
    assert post(guarded, "forged/s/whip", forged.decode())[0] == 401


def test_a_token_restricts_the_mode_and_declares_nothing(guarded):
    """Whoever holds it may be a program that knows nothing of encryption: only the client says that its frames are encrypted."""
    strict = token(privacy="e2ee")
    status, detail = post(guarded, "mode0/s/whip", strict)
    assert status == 409 and "declare" in detail
    assert post(guarded, "mode1/s/whip", strict, {"Sluice-Privacy": "e2ee"}) == (201, "")
    status, detail = post(guarded, "mode2/s/whip", strict, {"Sluice-Privacy": "transport"})
    assert status == 403 and "privacy mode" in detail
    # For the other mode there is nothing to declare.
    assert post(guarded, "mode3/s/whip", token(privacy="transport")) == (201, "")
    status, detail = post(guarded, "mode4/s/whip", token(privacy="transport"), {"Sluice-Privacy": "e2ee"})
    assert status == 403 and "privacy mode" in detail


DECLARED = {"nothing": (None, None), "header": ("e2ee", None), "attribute": (None, "e2ee"), "both": ("e2ee", "e2ee"),
            "transport": ("transport", None), "transport in the attribute": (None, "transport"),
            "header and attribute differ": ("e2ee", "transport"), "attribute and header differ": ("transport", "e2ee"),
            "an unknown mode": (None, "E2EE"), "an unknown header": ("total", None)}
ACCEPTED = ("header", "attribute", "both")


@pytest.mark.parametrize("claim", [None, "e2ee"])
@pytest.mark.parametrize("way", ["publish first", "publish second", "watch", "take over"])
@pytest.mark.parametrize("declared", DECLARED)
def test_every_way_into_an_encrypted_room_asks_for_the_declaration(guarded, way, claim, declared):
    header, attribute = DECLARED[declared]
    room = f"e2ee-{way}-{claim}-{declared}".replace(" ", "-").replace("'", "")
    bearer = token(privacy=claim, sub="them")
    held = None
    if way != "publish first":
        held = begin(guarded, f"{room}/own/whip", bearer, {"Sluice-Privacy": "e2ee"})
        if way == "take over":
            # Its publisher never comes; after a while another may take its place.
            time.sleep(1.7)
    if way == "publish first" and declared in ("nothing", "transport", "transport in the attribute") and claim is None:
        return  # Then the room is none of this mode.
    path = {"publish first": "own/whip", "publish second": "other/whip", "watch": "own/whep", "take over": "own/whip"}[way]
    offer = OFFER if way != "watch" else OFFER.replace("a=sendonly", "a=recvonly")
    if attribute:
        offer = offer.replace("t=0 0\r\n", f"t=0 0\r\na=x-sluice-privacy:{attribute}\r\n")
    request = urllib.request.Request(f"{guarded.url}/{room}/{path}", offer.encode(), {
        "Content-Type": "application/sdp", "Authorization": f"Bearer {bearer}"} | ({"Sluice-Privacy": header} if header else {}))
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            status, problem, told = response.status, {}, response.headers["Sluice-Privacy"]
    except urllib.error.HTTPError as error:
        status, problem, told = error.code, json.load(error), None
    if way == "watch" and status == 404:
        pytest.fail("nobody publishes")
    if declared in ACCEPTED:
        assert (status, told) == (201, "e2ee"), problem
    elif declared in ("header and attribute differ", "attribute and header differ", "an unknown mode", "an unknown header"):
        assert status == 400, problem
    elif claim and declared.startswith("transport"):
        assert status == 403 and "privacy mode" in problem["detail"]
    else:
        assert status == 409 and problem["privacy"] == "e2ee" and "declare" in problem["detail"]
    if held:
        session(guarded, held, bearer)


# MARK: header games


def crafted(header, claims=None, key=SECRET, body=None, raw_header=None):
    """A token with a correct HS256 signature over whatever its header says."""
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")
    head = raw_header or json.dumps({"alg": "HS256", "typ": "JWT"} | header).encode()
    body = body or json.dumps({"role": "publish", "exp": int(time.time()) + 3600} | (claims or {})).encode()
    signed = part(head) + b"." + part(body)
    return (signed + b"." + part(hmac.digest(key.encode(), signed, hashlib.sha256))).decode()


LATER = int(time.time()) + 3600
CRAFTED = [
    ("as it should be", crafted({}), 201),
    ("typ in other letters", crafted({"typ": "jwt"}), 201),
    ("an access token's typ", crafted({"typ": "at+jwt"}), 201),
    ("without typ", crafted({}, raw_header=b'{"alg":"HS256"}'), 201),
    ("a key id that nobody knows", crafted({"kid": "another"}), 201),
    ("HS512 over HS256", crafted({"alg": "HS512"}), 401),
    ("HS384 over HS256", crafted({"alg": "HS384"}), 401),
    ("in small letters", crafted({"alg": "hs256"}), 401),
    ("ES256 over HS256", crafted({"alg": "ES256"}), 401),
    ("none over HS256", crafted({"alg": "none"}), 401),
    ("no alg", crafted({}, raw_header=b'{"typ":"JWT"}'), 401),
    ("alg that is no text", crafted({"alg": 256}), 401),
    ("alg twice", crafted({}, raw_header=b'{"alg":"HS256","alg":"none"}'), 401),
    ("alg twice, escaped", crafted({}, raw_header=b'{"alg":"HS256","al\\u0067":"none"}'), 401),
    ("crit", crafted({"crit": ["exp"], "exp": 1}), 401),
    ("crit of nothing", crafted({"crit": []}), 401),
    ("crit that is no list", crafted({"crit": "b64"}), 401),
    ("crit that is null", crafted({"crit": None}), 401),
    ("b64", crafted({"b64": False, "crit": ["b64"]}), 401),
    ("b64 without crit", crafted({"b64": False}), 401),
    ("another typ", crafted({"typ": "dpop+jwt"}), 401),
    ("typ that is no text", crafted({"typ": 1}), 401),
    ("nested", crafted({"cty": "JWT"}), 401),
    ("a header that is no object", crafted({}, raw_header=b'["HS256"]'), 401),
    ("a claim twice", crafted({}, body=b'{"role":"view","role":"publish","exp":%d}' % LATER), 401),
    ("an expiry twice", crafted({}, body=b'{"role":"publish","exp":1,"exp":%d}' % LATER), 401),
    ("an expiry that no number holds", crafted({}, body=b'{"role":"publish","exp":1e999}'), 401),
    ("an expiry that is huge", crafted({}, body=b'{"role":"publish","exp":1e300}'), 201),
    ("an expiry that is huge and ends calls", crafted({}, body=b'{"role":"publish","exp":1e300,"endsCalls":true}'), 201),
    ("an expiry in text", crafted({}, {"exp": str(LATER)}), 401),
    ("an expiry before time began", crafted({}, {"exp": -1e300}), 401),
    ("an expiry that is nothing", crafted({}, {"exp": None}), 401),
    ("with a fraction", crafted({}, {"exp": LATER + 0.5}), 201),
    ("a beginning that is never", crafted({}, {"nbf": 1e300}), 401),
    ("more behind it", crafted({}) + ".more", 401),
    ("padding", crafted({}) + "=", 401),
    ("for somebody", crafted({}, {"aud": "somebody"}), 401),
    ("for several", crafted({}, {"aud": ["somebody", "else"]}), 401),
]


@pytest.mark.parametrize("bearer,status", [case[1:] for case in CRAFTED], ids=[case[0] for case in CRAFTED])
def test_what_a_header_says_is_what_is_done(guarded, request, bearer, status):
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.callspec.id)
    found, detail = post(guarded, f"crafted/{name[:100]}/whip", bearer)
    assert found == status, detail


def test_tokens_are_for_an_audience():
    environment = {"SLUICE_AUTH_MODE": "token", "SLUICE_AUTH_SECRET": SECRET, "SLUICE_AUTH_AUDIENCE": "sluice, https://live.example"}
    with Server(environment=environment) as server:
        for number, (audience, expected) in enumerate([
                ("sluice", 201), ("https://live.example", 201), (["other", "sluice"], 201), ("other", 401), (["other"], 401), ([], 401),
                ("Sluice", 401), (None, 401), ("sluice, https://live.example", 401), (5, 401), ([["sluice"]], 401)]):
            made = crafted({}, {"aud": audience} if audience is not None else {})
            status, detail = post(server, f"audience/s{number}/whip", made)
            assert status == expected, (audience, detail)
        minted = subprocess.run([PROGRAM, "token", "--role", "publish"], capture_output=True, text=True, timeout=30,
                                env={k: v for k, v in environment.items() if k != "SLUICE_AUTH_MODE"}).stdout.strip()
        assert post(server, "audience/minted/whip", minted) == (201, "")


# MARK: sessions


def test_a_session_obeys_the_token_that_began_it(guarded):
    """RFC 9725 §4.7; its address alone, which proxies log, is not enough."""
    expiry = int(time.time()) + 3600
    own = token(room="sessions", exp=expiry)
    fragment = b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
    kind = {"Content_Type": "application/trickle-ice-sdpfrag"}
    refused = {
        "nobody": (None, 401), "a stranger": ("guess", 401), "a viewer": (token(role="view", room="sessions"), 403),
        "who is elsewhere": (token(room="elsewhere"), 403), "who may do more": (token(), 403),
        "a host": (token(role="host", room="sessions"), 403), "somebody by name": (token(room="sessions", sub="else"), 403),
        "an operator of one room": (token(role="operator", room="sessions"), 403),
        "expired": (token(room="sessions", exp=int(time.time()) - 5), 401),
    }
    accepted = {"itself": own, "another of the same": token(room="sessions", exp=expiry + 1), "the operator's": OPERATOR_TOKEN,
                "an operator's": token(role="operator")}
    for number, (name, bearer) in enumerate(accepted.items()):
        location = begin(guarded, f"sessions/s{number}/whip", own)
        for who, (other, expected) in refused.items():
            found = session(guarded, location, other)
            assert found == expected, (who, found)
            request = urllib.request.Request(guarded.url + location, fragment, {
                "Content-Type": kind["Content_Type"]} | ({"Authorization": f"Bearer {other}"} if other else {}), method="PATCH")
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            assert caught.value.code == expected, who
        request = urllib.request.Request(guarded.url + location, fragment, {
            "Content-Type": kind["Content_Type"], "Authorization": f"Bearer {bearer}"}, method="PATCH")
        assert urllib.request.urlopen(request, timeout=10).status == 204, name
        assert session(guarded, location, bearer) == 200, name
        assert session(guarded, location, bearer) == 404, "it is over"
        assert session(guarded, location) == 401, "and whether there was one is told to nobody without a token"


def test_a_token_that_expires_still_ends_what_it_began(guarded):
    short = token(exp=int(time.time()) + 2, room="short")
    location = begin(guarded, "short/s/whip", short)
    time.sleep(2.5)
    assert post(guarded, "short/other/whip", short)[0] == 401
    assert session(guarded, location, short) == 200


def test_by_name_sessions_are_somebodys(guarded):
    mine, other = token(sub="ann", room="names"), token(sub="ann", room="names", nbf=int(time.time()) - 5)
    location = begin(guarded, "names/s/whip", mine)
    assert session(guarded, location, token(room="names")) == 403
    assert session(guarded, location, other) == 200


def test_in_open_mode_nobody_needs_one(server):
    location = begin(server, "open-sessions/s/whip", OPERATOR_TOKEN)
    assert session(server, location) == 200


def test_only_an_operators_token_shows_streams(guarded):
    def streams(bearer):
        request = urllib.request.Request(f"{guarded.url}/v1/stats", headers={"Authorization": f"Bearer {bearer}"})
        return "streams" in json.load(urllib.request.urlopen(request, timeout=10))
    assert streams(token(role="operator")) and streams(OPERATOR_TOKEN)
    assert not streams(token(role="host")) and not streams("nonsense")
    # They are of all rooms: a token for one room, or one stream, is not enough.
    assert not streams(token(role="operator", room="standup")) and not streams(token(role="operator", stream="s"))


@pytest.mark.asyncio
async def test_rooms_go_by_the_token(guarded):
    async with client(guarded) as ann:
        assert (await ann.request("join", room="t"))["code"] == "unauthorized"
        assert (await ann.request("join", room="t", token=token(room="u")))["code"] == "forbidden"
        assert (await ann.request("join", room="t", token=token(exp=1)))["code"] == "unauthorized"
        joined = await ann.request("join", room="t", token=token(role="host", room="t"))
        assert joined["rights"] == ["view", "publish", "host"]
        async with client(guarded) as ben:
            assert (await ben.request("join", room="t", token=token(role="view")))["rights"] == ["view"]
            refused = await ben.request("publish", sdp=OFFER, streams=[{"stream": "x", "mids": ["0"]}])
            assert refused["code"] == "forbidden"
        async with client(guarded) as cy:
            await cy.request("join", room="t", token=token(stream="mine"))
            refused = await cy.request("publish", sdp=OFFER, streams=[{"stream": "other", "mids": ["0"]}])
            assert refused["code"] == "forbidden"
            accepted = await cy.request("publish", sdp=OFFER, streams=[{"stream": "mine", "mids": ["0"]}])
            assert accepted["type"] == "answer"


@pytest.mark.asyncio
async def test_a_token_for_one_stream_tells_of_no_other(guarded):
    async with client(guarded) as ann, client(guarded) as ben, client(guarded) as cy:
        ann_id = (await ann.request("join", room="one", name="Ann", token=token(role="host")))["peer"]
        ben_id = (await ben.request("join", room="one", name="Ben", token=token()))["peer"]
        for who, stream in [(ann, "a"), (ben, "b")]:
            assert (await who.request("publish", sdp=OFFER, streams=[{"stream": stream, "mids": ["0"]}]))["type"] == "answer"
        joined = await cy.request("join", room="one", name="Cy", token=token(role="host", stream="b"))
        assert [entry["stream"] for entry in joined["streams"]] == ["b"]
        assert joined["peers"] == [] and joined["viewers"] == 0 and "host" not in joined["rights"]

        # Nor does he afterwards.
        assert (await cy.request("subscribe", stream="a")) == await cy.request("subscribe", stream="nobody") | {"id": cy.number - 1}
        for stream in ["a", "nobody"]:
            refused = await cy.request("publish", sdp=OFFER, streams=[{"stream": stream, "mids": ["0"]}])
            assert refused["code"] == "forbidden"
        assert (await cy.request("update", action="lock"))["code"] == "forbidden"
        assert (await ann.request("update", stream="a", muted=["audio"]))["type"] == "ok"
        assert (await ben.request("update", stream="b", muted=["audio"]))["type"] == "ok"
        assert (await cy.next("stream-updated"))["stream"]["stream"] == "b"
        assert (await ann.request("unpublish", stream="a"))["type"] == "ok"
        async with client(guarded) as dan:
            await dan.request("join", room="one", name="Dan", token=token())
            await dan.request("leave")
        await ann.next("peer-left")
        # The others know of him.
        while "Cy" not in [peer["name"] for peer in (await ben.next("peer-joined"))["peers"]]:
            pass

        # Messages.
        assert (await ann.request("message", data="to all"))["type"] == "ok"
        assert (await ben.next("message"))["data"] == "to all"
        assert (await ann.request("message", data="to Cy", to=joined["peer"]))["type"] == "ok"
        assert (await cy.next("message"))["data"] == "to Cy", "what was said to all did not come before"
        assert (await cy.request("message", data="to all"))["code"] == "forbidden"
        refused = await cy.request("message", data="to Ann", to=ann_id)
        assert refused | {"id": 0} == (await cy.request("message", data="to nobody", to="nobody")) | {"id": 0}
        assert (await cy.request("message", data="to Ben", to=ben_id))["type"] == "ok"
        assert (await ben.next("message"))["data"] == "to Ben"

        assert (await ben.request("unpublish", stream="b"))["type"] == "ok"
        assert (await cy.next("stream-removed"))["stream"] == "b"
        assert {message["type"] for message in cy.others} <= {"offer", "quality"}, cy.others


@pytest.mark.asyncio
async def test_expiry_ends_calls_only_if_the_token_says_so(guarded):
    async with client(guarded) as ann, client(guarded) as ben:
        expiry = int(time.time()) + 2
        await ann.request("join", room="end", token=token(exp=expiry, endsCalls=True))
        await ben.request("join", room="end", token=token(exp=expiry))
        assert "expired" in (await ann.next("left", 6))["reason"]
        assert (await ben.request("ping"))["type"] == "pong"
        assert (await ben.request("message", data=1))["type"] == "ok", "he is still in the room"


@pytest.mark.asyncio
async def test_an_expired_token_resumes_a_stay_and_begins_none(guarded):
    expiry = int(time.time()) + 2
    expiring = token(exp=expiry)
    async with client(guarded) as first:
        joined = await first.request("join", room="resumed", token=expiring)
    await asyncio.sleep(max(0, expiry + 1.5 - time.time()))
    async with client(guarded) as second:
        assert (await second.request("join", room="resumed", token=expiring))["code"] == "unauthorized"
        for wrong in [token(room="other"), "nonsense"]:
            assert "code" in await second.request("join", room="resumed", token=wrong, resume=joined["resume"])
        again = await second.request("join", room="resumed", token=expiring, resume=joined["resume"])
        assert again["resumed"] and again["peer"] == joined["peer"]


@pytest.mark.asyncio
async def test_a_renewed_token_counts_from_then_on(guarded):
    expiry = int(time.time()) + 3
    async with client(guarded) as first:
        joined = await first.request("join", room="renewed", token=token(exp=expiry, endsCalls=True))
    async with client(guarded) as second:
        renewed = token(exp=expiry + 5, endsCalls=True)
        assert (await second.request("join", room="renewed", token=renewed, resume=joined["resume"]))["resumed"]
        await asyncio.sleep(max(0, expiry + 2 - time.time()))
        assert (await second.request("message", data=1))["type"] == "ok", "the first one's expiry does not end it"
        assert "expired" in (await second.next("left", 10))["reason"]


@pytest.mark.asyncio
async def test_a_lesser_token_prolongs_no_stay(guarded):
    expiry = int(time.time()) + 3
    async with client(guarded) as first:
        joined = await first.request("join", room="lesser", token=token(role="host", exp=expiry, endsCalls=True))
    async with client(guarded) as second:
        assert (await second.request("join", room="lesser", token=token(role="view"), resume=joined["resume"]))["resumed"]
        assert "expired" in (await second.next("left", 10))["reason"]


@pytest.mark.asyncio
async def test_coming_back_with_an_expired_token_is_no_guess():
    with Server(environment={"SLUICE_AUTH_MODE": "token", "SLUICE_AUTH_SECRET": SECRET}) as server:
        expiry = int(time.time()) + 2
        expiring = token(exp=expiry)
        async with client(server) as first:
            resume = (await first.request("join", room="back", token=expiring))["resume"]
        await asyncio.sleep(max(0, expiry + 1.5 - time.time()))
        for _ in range(35):
            async with client(server) as again:
                joined = await again.request("join", room="back", token=expiring, resume=resume)
                assert joined["type"] == "joined" and joined["resumed"], joined


@pytest.mark.asyncio
async def test_in_rooms_too_only_the_client_declares(guarded):
    async with client(guarded) as ann, client(guarded) as ben, client(guarded) as cy:
        strict = token(privacy="e2ee")
        refused = await ann.request("join", room="mode", token=strict)
        assert refused["code"] == "privacy" and refused["privacy"]["mode"] == "e2ee"
        joined = await ann.request("join", room="mode", token=strict, privacy="e2ee")
        assert joined["privacy"]["mode"] == "e2ee"
        for claims in ({}, {"privacy": "e2ee"}, {"role": "view"}, {"role": "operator"}):
            refused = await ben.request("join", room="mode", token=token(**claims))
            assert refused["code"] == "privacy" and "declare" in refused["message"], claims
        assert (await ben.request("join", room="mode", token=token(), privacy="transport"))["code"] == "privacy"
        assert (await ben.request("join", room="mode", token=token(privacy="transport"), privacy="e2ee"))["code"] == "forbidden"
        assert (await ben.request("join", room="mode", token=token(privacy="transport")))["code"] == "privacy"
        assert (await ben.request("join", room="mode", token=token(), privacy="e2ee"))["type"] == "joined"
        streams = [{"stream": "a", "mids": ["0"]}]
        declared = OFFER.replace("t=0 0\r\n", "t=0 0\r\na=x-sluice-privacy:e2ee\r\n")
        contrary = OFFER.replace("t=0 0\r\n", "t=0 0\r\na=x-sluice-privacy:transport\r\n")
        assert (await ann.request("publish", sdp=OFFER, streams=streams))["code"] == "privacy"
        assert (await ann.request("publish", sdp=OFFER, streams=streams, privacy="transport"))["code"] == "privacy"
        assert (await ann.request("publish", sdp=contrary, streams=streams))["code"] == "privacy"
        assert (await ann.request("publish", sdp=contrary, streams=streams, privacy="e2ee"))["code"] == "bad-request"
        assert (await ann.request("publish", sdp=declared, streams=streams))["type"] == "answer"
        # Whoever has the secret of a place doesn't declare by that.
        for wrong in ({}, {"privacy": "transport"}):
            refused = await cy.request("join", room="mode", token=strict if not wrong else token(), resume=joined["resume"], **wrong)
            assert refused["code"] == "privacy", wrong
        assert (await ann.request("ping"))["type"] == "pong", "nor takes it away"
        again = await cy.request("join", room="mode", token=strict, resume=joined["resume"], privacy="e2ee")
        assert again["resumed"]


def test_who_guesses_is_soon_not_listened_to():
    with Server(environment={"SLUICE_AUTH_MODE": "token", "SLUICE_AUTH_SECRET": SECRET}) as server:
        answers = [post(server, "a/b/whip", f"guess{number}")[0] for number in range(40)]
        assert answers[:30] == [401] * 30 and answers[30:] == [429] * 10
        assert post(server, "a/b/whip", token())[0] == 429, "nor to what he guessed right"


def command(*arguments, secret=SECRET):
    environment = {"SLUICE_AUTH_SECRET": secret} if secret else {}
    return subprocess.run([PROGRAM, "token", *arguments], capture_output=True, text=True, env=environment, timeout=30)


def test_the_command_mints_tokens(guarded):
    done = command("--role", "publish", "--room", "minted", "--stream", "s", "--ttl", "1h")
    assert done.returncode == 0
    claims = jwt.decode(done.stdout.strip(), SECRET, ["HS256"])
    assert claims["role"] == "publish" and claims["room"] == "minted" and 3500 < claims["exp"] - time.time() < 3700
    assert post(guarded, "minted/s/whip", done.stdout.strip()) == (201, "")
    assert command("--role", "king").returncode == 64
    assert command("--role", "view", "--ttl", "soon").returncode == 64
    assert command("--role", "view", "--room", "a/b").returncode == 64
    assert command("--role", "operator", "--room", "minted").returncode == 64
    done = command("--role", "view", secret=None)
    assert done.returncode == 1 and "auth.secret" in done.stderr
    done = command("--role", "view", secret="short")
    assert done.returncode == 1 and "auth.secret" in done.stderr and "short" not in done.stderr
