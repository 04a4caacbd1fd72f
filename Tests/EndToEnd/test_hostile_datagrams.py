"""Ten thousand garbage datagrams of each kind during a call: nothing breaks, nobody is answered more than he asked."""

import asyncio
import random
import re

import pytest

import hostile
from aiortc_peers import Publisher, Viewer
from patience import figure, wait_for
from sluice import Server

COUNT = 10_000
SEED = 20_260_101


@pytest.mark.asyncio
async def test_garbage_disturbs_nobody_and_is_counted(own_server):
    server = own_server
    print(f"seed {SEED}")
    generator = random.Random(SEED)
    publisher, viewer = Publisher(server, "besieged"), Viewer(server, "besieged")
    answer = await publisher.negotiate()
    await publisher.connected()
    await viewer.negotiate()
    await viewer.frames_reach(30, 15)
    ufrag = re.search(r"a=ice-ufrag:(\S+)", answer)[1]
    port = int(re.search(r"candidate:\S+ 1 udp \d+ \S+ (\d+)", answer)[1])

    good = hostile.stun_request(f"{ufrag}:stranger", "x" * 24)
    kinds = {
        "STUN with a bad integrity": (lambda _: hostile.stun_request(f"{ufrag}:stranger", "wrong" * 5), "stun_integrity"),
        "STUN for nobody": (lambda _: hostile.stun_request("nobodyHere12:x", "wrong" * 5), "stun_unknown_user"),
        "random STUN": (lambda _: b"\0\1" + hostile.random_bytes(generator, 0, 300), "stun_malformed"),
        "truncated STUN": (lambda _: good[:generator.randrange(1, len(good))], "stun_malformed"),
        "STUN responses to nothing": (lambda _: b"\x01\x01" + good[2:20][:0] + b"\0\0" + good[4:20], "stun_unexpected"),
        "random DTLS": (lambda _: hostile.dtls(generator), "dtls_unknown_source"),
        "truncated DTLS": (lambda _: hostile.dtls(generator)[:generator.randrange(1, 13)], "dtls_unknown_source"),
        "RTP from strangers": (lambda _: hostile.rtp(generator), "srtp_unknown_source"),
        "RTCP from strangers": (lambda _: hostile.rtcp(generator), "srtp_unknown_source"),
        "truncated RTP": (lambda _: hostile.rtp(generator)[:generator.randrange(1, 12)], "srtp_unknown_source"),
        "unknown protocols": (lambda _: bytes([generator.choice([4, 19, 64, 127, 192, 255])])
                              + hostile.random_bytes(generator, 0, 100), "unknown_protocol"),
        "nothing at all": (lambda _: b"", "unknown_protocol"),
    }
    frames_before = len(viewer.frames)
    started = asyncio.get_running_loop().time()
    for name, (make, reason) in kinds.items():
        before = server.totals()["packetsDropped"]
        stranger = hostile.Stranger(port)
        shortest = await asyncio.to_thread(
            stranger.flood, COUNT, make, lambda: server.totals()["packetsDropped"][reason] - before[reason])
        stranger.close()
        after = server.totals()["packetsDropped"]
        counted = after[reason] - before[reason]
        print(f"{name}: {counted} counted as {reason}, {len(stranger.replies)} replies")
        assert counted == COUNT
        assert all(len(reply) <= shortest for reply in stranger.replies)
        assert stranger.replies == []

    # Somebody who has a session's keys may be answered, never with more than he sent.
    password = re.search(r"a=ice-pwd:(\S+)", answer)[1]
    stranger = hostile.Stranger(port)
    request = hostile.stun_request(f"{ufrag}:stranger", password, nominate=False)
    await asyncio.to_thread(stranger.flood, 1, lambda _: request)
    stranger.close()
    assert len(stranger.replies) == 1 and len(stranger.replies[0]) <= len(request)

    seconds = asyncio.get_running_loop().time() - started
    seen = len(viewer.frames) - frames_before
    assert seen > 0
    figure("a viewer under siege", seen / seconds, at_least=20, unit="frames a second")
    assert viewer.connection.connectionState == "connected"
    assert server.process.poll() is None
    await viewer.close()
    await publisher.close()


@pytest.mark.asyncio
async def test_a_peer_cannot_take_anothers_address():
    """An authentic check of one session that comes from the address of another, which is well, moves nothing: neither is it
    answered, nor does the address change hands. One worker, so that both sessions are at one port."""
    with Server(workers=1) as server:
        publisher, viewer, other = Publisher(server, "owned"), Viewer(server, "owned"), Viewer(server, "owned")
        await publisher.negotiate()
        await publisher.connected()
        await viewer.negotiate()
        await viewer.frames_reach(20, 15)
        answer = await other.negotiate()
        await other.frames_reach(5, 15)
        ufrag, password = re.search(r"a=ice-ufrag:(\S+)", answer)[1], re.search(r"a=ice-pwd:(\S+)", answer)[1]
        # The viewer's own socket sends a check with the other's credentials.
        transport = viewer.connection.getTransceivers()[0].receiver.transport.transport
        component = transport._connection._nominated[1]
        before = server.totals()["packetsDropped"]["stun_unexpected"]
        component.protocol.transport.sendto(hostile.stun_request(f"{ufrag}:x", password), ("127.0.0.1", server.media_port))
        await asyncio.to_thread(
            wait_for, lambda: server.totals()["packetsDropped"]["stun_unexpected"] == before + 1, 5, "the check is refused")
        for peer in (viewer, other):
            await peer.frames_reach(len(peer.frames) + 30, 10)
        for peer in (viewer, other, publisher):
            await peer.close()
