#!/usr/bin/python3
"""Publishes a test picture and a tone to Sluice with GStreamer's webrtcbin, or watches what somebody publishes.

On Debian: apt install python3-gi gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice gstreamer1.0-plugins-{base,good,bad,ugly}
"""

import argparse
import json
import sys
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

ENCODERS = {
    "VP8": "vp8enc deadline=1 target-bitrate=1000000 keyframe-max-dist=300 ! rtpvp8pay pt=96 picture-id-mode=15-bit",
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=1000 key-int-max=300"
            " ! video/x-h264,profile=constrained-baseline ! rtph264pay pt=96 config-interval=-1 aggregate-mode=zero-latency",
}
PUBLISH = """
webrtcbin name=peer bundle-policy=max-bundle
videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=30/1 ! videoconvert ! {encoder}
  ! application/x-rtp,media=video,encoding-name={codec},payload=96 ! queue ! peer.
audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=97
  ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! queue ! peer.
"""
FORMATS = {
    "VP8": "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000",
    "H264": "application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000,packetization-mode=(string)1",
    "OPUS": "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2",
}


class Peer:
    """A webrtcbin that negotiates once, by WHIP or WHEP: both are a POST of an offer that brings the answer."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.loop = GLib.MainLoop()
        self.pictures = 0
        if arguments.what == "publish":
            self.pipeline = Gst.parse_launch(PUBLISH.format(encoder=ENCODERS[arguments.codec], codec=arguments.codec))
            self.peer = self.pipeline.get_by_name("peer")
        else:
            self.pipeline = Gst.Pipeline.new("watch")
            self.peer = Gst.ElementFactory.make("webrtcbin", "peer")
            self.peer.set_property("bundle-policy", "max-bundle")
            self.pipeline.add(self.peer)
            for name in (arguments.codec, "OPUS"):
                self.peer.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY,
                               Gst.Caps.from_string(FORMATS[name]))
            self.peer.connect("pad-added", self.show)
        self.peer.connect("on-negotiation-needed", self.make_offer)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.fail)

    def make_offer(self, peer):
        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.send_offer))

    def send_offer(self, promise):
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.peer.emit("set-local-description", offer, Gst.Promise.new())
        # Sluice needs none of our candidates: it answers wherever our checks come from.
        headers = {"Content-Type": "application/sdp"}
        if self.arguments.token:
            headers["Authorization"] = f"Bearer {self.arguments.token}"
        request = urllib.request.Request(self.arguments.url, offer.sdp.as_text().encode(), headers)
        try:
            with urllib.request.urlopen(request) as response:
                text = response.read().decode()
        except urllib.error.HTTPError as error:
            sys.exit(f"{error.code}: {error.read().decode()}")
        _, description = GstSdp.SDPMessage.new_from_text(text)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, description)
        self.peer.emit("set-remote-description", answer, Gst.Promise.new())

    def show(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        decoder = Gst.ElementFactory.make("decodebin")
        decoder.connect("pad-added", self.play)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def play(self, _, pad):
        is_video = pad.get_current_caps().to_string().startswith("video/")
        if self.arguments.count:
            convert, sink = Gst.ElementFactory.make("identity"), Gst.ElementFactory.make("fakesink")
        elif is_video:
            convert, sink = Gst.ElementFactory.make("videoconvert"), Gst.ElementFactory.make("autovideosink")
        else:
            convert, sink = Gst.ElementFactory.make("audioconvert"), Gst.ElementFactory.make("autoaudiosink")
        for element in (convert, sink):
            self.pipeline.add(element)
            element.sync_state_with_parent()
        convert.link(sink)
        if is_video:
            pad.add_probe(Gst.PadProbeType.BUFFER, self.count)
        pad.link(convert.get_static_pad("sink"))

    def count(self, *_):
        self.pictures += 1
        return Gst.PadProbeReturn.OK

    def tell(self):
        print(json.dumps({"pictures": self.pictures}), flush=True)
        return True

    def fail(self, _, message):
        print(message.parse_error()[0].message, file=sys.stderr)
        self.loop.quit()

    def run(self):
        if self.arguments.count:
            GLib.timeout_add(1000, self.tell)
        self.pipeline.set_state(Gst.State.PLAYING)
        try:
            self.loop.run()
        finally:
            self.pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["publish", "watch"])
    parser.add_argument("url", help="http://HOST:8080/my-stream/whip to publish, …/my-stream/whep to watch")
    parser.add_argument("--codec", choices=list(ENCODERS), default="VP8")
    parser.add_argument("--token", help="where the server asks for one")
    parser.add_argument("--count", action="store_true", help="show nothing, and say each second how many pictures came")
    Gst.init(None)
    Peer(parser.parse_args()).run()
