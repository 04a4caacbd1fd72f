"""What the server says of itself is true, and says nothing to strangers."""

import asyncio
import collections
import contextlib
import re
import subprocess
import urllib.request

import pytest

from aiortc_peers import Publisher, Viewer
from chromium import chromium, figures, peers_page
from patience import until, wait_for
from sluice import OPERATOR_TOKEN
from udp_relay import Relay


def metrics(server):
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as response:
        return response.read().decode()


def metric(text, name):
    return float(re.search(rf"^sluice_{name} (\S+)$", text, re.MULTILINE)[1])


@pytest.mark.asyncio
async def test_counters_equal_what_the_clients_count(own_server):
    """A call with losses, then quiet, so that nothing is in flight: both sides' numbers are compared one by one."""
    server = own_server
    async with contextlib.AsyncExitStack() as stack:
        relays = {str(port): await stack.enter_async_context(Relay(port, seed=port)) for port in server.media_ports}
        ports = {port: relay.port for port, relay in relays.items()}
        sender, receiver = await stack.enter_async_context(chromium()), await stack.enter_async_context(chromium())
        publishing, watching = await peers_page(sender, server), await peers_page(receiver, server)
        created = await publishing.evaluate("o => publish('camera', o)",
                                            {"url": f"{server.url}/counted/whip", "codec": "VP8", "ports": ports})
        await watching.evaluate("o => watch('viewer', o)", {"url": created["whep"], "ports": ports})

        async def plays():
            return (await figures(watching, "viewer")).get("inbound-rtp-video", {}).get("framesDecoded", 0) > 60
        await until(plays, 20, "the viewer sees the publisher")
        for relay in relays.values():
            relay.loss = 0.05
        await asyncio.sleep(8)
        for relay in relays.values():
            relay.loss = 0
        await asyncio.sleep(2)
        # Stopping the tracks stops the packets; what is on the way arrives.
        await publishing.evaluate("peers.camera.connection.getSenders().forEach(s => s.replaceTrack(null))")
        await asyncio.sleep(3)

        publisher, viewer = await figures(publishing, "camera"), await figures(watching, "viewer")
        stream, totals, text = server.stream("counted"), server.totals(), metrics(server)

        video = next(t for t in stream["publisher"]["tracks"] if t["codec"] == "VP8")
        audio = next(t for t in stream["publisher"]["tracks"] if t["codec"] == "opus")
        sent_video, sent_audio = publisher["outbound-rtp-video"], publisher["outbound-rtp-audio"]
        seen_video, seen_audio = viewer["inbound-rtp-video"], viewer["inbound-rtp-audio"]
        subscription = max(stream["viewers"][0]["subscriptions"], key=lambda s: s["bytesSent"])
        print("publisher", {k: sent_video.get(k) for k in ("packetsSent", "retransmittedPacketsSent", "nackCount", "pliCount")})
        print("viewer", {k: seen_video.get(k) for k in ("packetsReceived", "packetsLost", "nackCount", "pliCount",
                                                        "retransmittedPacketsReceived")})
        print("server", video, subscription)

        # Every RTP packet, retransmissions and probes among them, was received or lost on the way.
        up, down = (sum(relay.lost_rtp[direction] for relay in relays.values()) for direction in ("up", "down"))
        assert min(up, down) > 5
        sent = sent_video["packetsSent"] + sent_audio["packetsSent"]
        assert abs(totals["packetsReceived"] + up - sent) <= 3
        forwarded = sum(s["packetsForwarded"] + s["packetsRetransmitted"] for s in stream["viewers"][0]["subscriptions"])
        received = seen_video["packetsReceived"] + seen_audio["packetsReceived"]
        assert abs(forwarded - down - received) <= 5
        # As RFC 3550 counts them, of each source by itself: what RTX carried, or probed with, is not among them.
        lost = sum((relay.lost_by_source for relay in relays.values()), collections.Counter())
        assert abs(video["packetsLost"] - lost[sent_video["ssrc"]]) <= 3
        assert abs(audio["packetsLost"] - lost[sent_audio["ssrc"]]) <= 3
        # A NACK or PLI of ours may be lost on its way: no more arrive than we sent.
        assert 0 <= video["nacksSent"] - sent_video["nackCount"] <= video["nacksSent"] * 0.15 + 2
        assert 0 <= video["keyframeRequestsSent"] - sent_video["pliCount"] <= 2
        assert 0 <= seen_video["nackCount"] - subscription["nacksReceived"] <= seen_video["nackCount"] * 0.15 + 2
        assert abs(seen_video["pliCount"] - subscription["keyframeRequestsReceived"]) <= 2
        # Metrics and statistics are one truth.
        assert metric(text, "packets_received_total") == totals["packetsReceived"]
        assert metric(text, "packets_forwarded_total") == totals["packetsForwarded"]
        assert metric(text, "nacks_sent_total") == totals["nacksSent"] == video["nacksSent"]
        assert metric(text, "nacks_received_total") == totals["nacksReceived"]
        assert metric(text, "keyframe_requests_sent_total") == totals["keyframeRequestsSent"]
        assert metric(text, "streams") == 1 and metric(text, "subscriptions") == 2
        assert 'sluice_peers{role="viewer"} 1' in text and 'sluice_rooms{privacy="transport"} 1' in text


@pytest.mark.asyncio
async def test_without_loss_nothing_is_missing(own_server):
    """On a clean path packets and bytes are equal, but for the first packets that a browser gets before it has made its
    receiver and does not count."""
    server = own_server
    async with chromium() as sender, chromium() as receiver:
        publishing, watching = await peers_page(sender, server), await peers_page(receiver, server)
        created = await publishing.evaluate("o => publish('camera', o)", {"url": f"{server.url}/exact/whip", "codec": "VP8"})
        await watching.evaluate("o => watch('viewer', o)", {"url": created["whep"]})

        async def plays():
            return (await figures(watching, "viewer")).get("inbound-rtp-video", {}).get("framesDecoded", 0) > 150
        await until(plays, 20, "the viewer sees the publisher")
        await publishing.evaluate("peers.camera.connection.getSenders().forEach(s => s.replaceTrack(null))")
        await asyncio.sleep(2)
        viewer, stream = await figures(watching, "viewer"), server.stream("exact")
        subscriptions = sorted(stream["viewers"][0]["subscriptions"], key=lambda s: s["packetsForwarded"])
        seen = sorted([viewer["inbound-rtp-video"], viewer["inbound-rtp-audio"]], key=lambda s: s["packetsReceived"])
        for subscription, received in zip(subscriptions, seen):
            print(subscription["packetsForwarded"], received["packetsReceived"], received["packetsLost"])
            assert received["packetsLost"] == 0
            # The packets that came before the viewer's browser had made its receiver are not in its count.
            missed = subscription["packetsForwarded"] - received["packetsReceived"]
            assert 0 <= missed <= 3
            # Ours are UDP payload: the browser's payload and headers, and SRTP's tag of 16 bytes on each packet.
            counted = (received["bytesReceived"] + received["headerBytesReceived"]
                       + 16 * (received["packetsReceived"] + received.get("retransmittedPacketsReceived", 0)))
            print(subscription["bytesSent"], counted)
            assert 0 <= subscription["bytesSent"] - counted <= missed * 1500
        assert all(track["packetsLost"] == 0 for track in stream["publisher"]["tracks"])


def test_promtool_is_content(server):
    checked = subprocess.run(["promtool", "check", "metrics"], input=metrics(server), text=True, capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stderr.strip() == ""


@pytest.mark.asyncio
async def test_strangers_and_logs_learn_no_ids_and_no_addresses(own_server):
    server = own_server
    room, stream = "SecretRoomName", "SecretStreamName"
    publisher, viewer = Publisher(server, f"{room}/{stream}"), Viewer(server, f"{room}/{stream}")
    await publisher.negotiate()
    await publisher.connected()
    await viewer.negotiate()
    await viewer.frames_reach(10, 10)
    public = metrics(server) + str(server.stats(operator=False))
    operator = str(server.stats())
    await viewer.close()
    await publisher.close()
    await asyncio.to_thread(wait_for, lambda: server.totals()["peers"] == {"publisher": 0, "viewer": 0}, 10, "all gone")
    server.stop()
    assert stream in operator and room in operator
    secrets = [room, stream, publisher.location.rsplit("/", 1)[1], OPERATOR_TOKEN, "127.0.0.1", "192.0.2."]
    secrets += re.findall(r"a=ice-(?:ufrag|pwd):(\S+)", publisher.connection.remoteDescription.sdp)
    for secret in secrets:
        assert secret not in public, secret
        assert secret not in server.log_text(), secret
    assert "publisher" in server.log_text(), "the log is not empty"
