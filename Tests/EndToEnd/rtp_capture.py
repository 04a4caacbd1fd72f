"""Records the RTP that Sluice forwards, as Sluice has it: a WHEP viewer opens SRTP, and what is inside is not touched on the way."""

import collections
import contextlib

import aiortc.codecs
import av
from aiortc.codecs import depayload
from aiortc.rtcrtpparameters import RTCRtcpFeedback, RTCRtpCodecParameters
from aiortc.rtcrtpreceiver import RTCRtpReceiver

from aiortc_peers import Viewer

DECODERS = {"VP8": "vp8", "VP9": "vp9", "H264": "h264", "AV1": "libdav1d"}
MORE_CODECS = {"video/VP9": {"profile-id": "0"}, "video/AV1": {}}


@contextlib.contextmanager
def more_codecs():
    """Lets aiortc receive what it can't decode."""
    before = list(aiortc.codecs.CODECS["video"])
    feedback = [RTCRtcpFeedback(type="nack"), RTCRtcpFeedback(type="nack", parameter="pli")]
    for number, (name, parameters) in enumerate(MORE_CODECS.items()):
        aiortc.codecs.CODECS["video"].append(RTCRtpCodecParameters(
            mimeType=name, clockRate=90000, payloadType=120 + number, rtcpFeedback=feedback, parameters=parameters))
    try:
        yield
    finally:
        aiortc.codecs.CODECS["video"][:] = before


class Capture(Viewer):
    """Packets by kind of media, each with its timestamp and sequence number."""

    def __init__(self, server, stream):
        super().__init__(server, stream, kinds=("video", "audio"))
        self.packets = {"video": {}, "audio": {}}
        for transceiver in self.connection.getTransceivers():
            self.record(transceiver.receiver, transceiver.kind)

    def record(self, receiver: RTCRtpReceiver, kind):
        async def note(packet, arrival_time_ms):
            self.packets[kind][packet.sequence_number] = packet

        # Nothing is decoded: only what comes is kept.
        receiver._handle_rtp_packet = note

    def encoded(self, kind, codec):
        """Encoded frames in their order, put together from their packets."""
        packets = [packet for _, packet in sorted(self.packets[kind].items())]
        by_time = collections.defaultdict(list)
        for packet in packets:
            by_time[packet.timestamp].append(packet.payload)
        return [whole for payloads in by_time.values() if (whole := frame(codec, payloads))]


def frame(codec, payloads):
    if codec == "AV1":
        return av1_frame(payloads)
    if codec == "VP9":
        return b"".join(vp9_payload(payload) for payload in payloads)
    parameters = RTCRtpCodecParameters(mimeType=f"video/{codec}", clockRate=90000)
    return b"".join(depayload(parameters, payload) for payload in payloads)


def vp9_payload(payload):
    """Behind the payload descriptor (RFC 9628 §4.2)."""
    first, at = payload[0], 1
    if first & 0x80:
        at += 2 if payload[at] & 0x80 else 1
    if first & 0x20:
        at += 1 if first & 0x10 else 2
    if first & 0x10 and first & 0x40:
        while payload[at] & 1:
            at += 1
        at += 1
    if first & 0x02:
        structure = payload[at]
        at += 1
        if structure & 0x10:
            at += 4 * ((structure >> 5) + 1)
        if structure & 0x08:
            groups = payload[at]
            at += 1
            for _ in range(groups):
                at += 1 + (payload[at] >> 2 & 3)
    return payload[at:]


def av1_frame(payloads):
    """OBUs with their sizes, from the elements of the packets (RTP payload format for AV1 §4)."""
    elements = []
    for payload in payloads:
        header, at = payload[0], 1
        count = header >> 4 & 3
        number = 0
        while at < len(payload):
            number += 1
            length = len(payload) - at
            if number != count:
                length, shift = 0, 0
                while True:
                    byte = payload[at]
                    length |= (byte & 0x7F) << shift
                    at, shift = at + 1, shift + 7
                    if not byte & 0x80:
                        break
            element = payload[at:at + length]
            at += length
            if number == 1 and header & 0x80 and elements:
                elements[-1] += element
            else:
                elements.append(element)
    return b"\x12\x00" + b"".join(sized(element) for element in elements if element)


def sized(element):
    head = 2 if element[0] & 0x04 else 1
    rest, size = len(element) - head, b""
    while True:
        size += bytes([rest & 0x7F | (0x80 if rest > 0x7F else 0)])
        rest >>= 7
        if not rest:
            return bytes([element[0] | 0x02]) + element[1:head] + size + element[head:]


def decodable(codec, frames):
    """How many pictures a decoder makes of them without finding fault."""
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    # Fed with noise, dav1d's threads wait for each other for ever.
    decoder.thread_count = 1
    if codec == "H264":
        decoder.options = {"err_detect": "explode", "ec": "0"}
    pictures = 0
    for data in frames:
        try:
            pictures += sum(not picture.is_corrupt for picture in decoder.decode(av.Packet(data)))
        except av.error.FFmpegError:
            pass
    return pictures


def chi_squared(data):
    """How far the bytes are from evenly spread: about 255 for noise, with a standard deviation of 22.6."""
    counts = collections.Counter(data)
    expected = len(data) / 256
    return sum((counts[value] - expected) ** 2 / expected for value in range(256))
