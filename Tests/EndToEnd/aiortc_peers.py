"""WHIP and WHEP peers on aiortc: an independent implementation of ICE, DTLS, SRTP and the codecs."""

import asyncio

import aiohttp
import av
import numpy
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack
from av import VideoFrame

from patience import last_moment


def picture(number, width=640, height=360):
    """A frame that tells its number: smooth moving gradients, which codecs keep well, and 16 bars that are the number."""
    y, x = numpy.mgrid[0:height, 0:width]
    frame = numpy.empty((height, width, 3), numpy.uint8)
    frame[..., 0] = (x * 255 // width + number * 3) % 256 // 2 + 64
    frame[..., 1] = (y * 255 // height) // 2 + 64
    frame[..., 2] = 128
    bar = width // 16
    for bit in range(16):
        frame[0:32, bit * bar:(bit + 1) * bar] = 235 if number >> bit & 1 else 16
    return frame


def number_of(frame):
    """What `picture` was called with."""
    bar = frame.shape[1] // 16
    return sum((frame[8:24, bit * bar + 8:(bit + 1) * bar - 8].mean() > 128) << bit for bit in range(16))


def write_file(path, codec, count):
    """A video file of `count` pictures, nearly without loss: `libx264` or `libvpx`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"crf": "8", "b": "8M", "deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(1, count + 1):
            for packet in stream.encode(VideoFrame.from_ndarray(picture(number), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def read_file(path):
    """The file's pictures by their numbers, as any player shows them."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return {int(number_of(frame)): frame for frame in frames}


class NumberedVideo(VideoStreamTrack):
    """Frames made by `picture`, or those of a file, 30 a second."""

    def __init__(self, frames=None):
        super().__init__()
        self.number = 0
        self.frames = frames

    async def recv(self):
        timestamp, base = await self.next_timestamp()
        self.number += 1
        pixels = self.frames[(self.number - 1) % len(self.frames) + 1] if self.frames else picture(self.number)
        frame = VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = timestamp, base
        return frame


class Peer:
    """A peer connection and the HTTP session that it came from."""

    def __init__(self, url):
        self.url = url
        # By itself it would ask a server on the internet.
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        # Where the server asks for one.
        self.token = None
        self.location = None
        self.tag = None
        self.headers = None

    async def negotiate(self, privacy=None):
        """`privacy` is what it declares."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        headers = {"Content-Type": "application/sdp"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        headers |= {"Sluice-Privacy": privacy} if privacy else {}
        async with aiohttp.ClientSession() as http:
            async with http.post(self.url, data=self.connection.localDescription.sdp, headers=headers) as response:
                text = await response.text()
                assert response.status == 201, (response.status, text)
                self.headers = response.headers
                self.location = str(response.url.origin()) + response.headers["Location"]
                self.tag = response.headers["ETag"]
        await self.connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
        return text

    async def connected(self, seconds=10):
        async with asyncio.timeout(last_moment(seconds)):
            while self.connection.connectionState != "connected":
                await asyncio.sleep(0.02)

    async def close(self, hang_up=True):
        if hang_up and self.location:
            async with aiohttp.ClientSession() as http:
                await http.delete(self.location, headers={"Authorization": f"Bearer {self.token}"} if self.token else {})
        await self.connection.close()


class Publisher(Peer):
    def __init__(self, server, stream, video="video/VP8", audio=None, frames=None):
        super().__init__(f"{server.url}/{stream}/whip")
        self.video = NumberedVideo(frames)
        transceiver = self.connection.addTransceiver(self.video, direction="sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in codecs if c.mimeType in (video, "video/rtx")])
        if audio:
            self.connection.addTransceiver(audio, direction="sendonly")


class Viewer(Peer):
    """Collects the frames it decodes as arrays."""

    def __init__(self, server, stream, kinds=("video",)):
        super().__init__(f"{server.url}/{stream}/whep")
        self.frames = []
        self.audio_frames = 0
        self.tasks = []
        for kind in kinds:
            self.connection.addTransceiver(kind, direction="recvonly")
        self.connection.on("track", self.on_track)

    def on_track(self, track):
        self.tasks.append(asyncio.ensure_future(self.collect(track)))

    async def collect(self, track):
        try:
            while True:
                frame = await track.recv()
                if track.kind == "video":
                    self.frames.append(frame.to_ndarray(format="rgb24"))
                else:
                    self.audio_frames += 1
        except Exception:
            return

    async def frames_reach(self, count, seconds):
        try:
            async with asyncio.timeout(last_moment(seconds)):
                while len(self.frames) < count:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{len(self.frames)} frames of {count}; {await self.received()}") from None

    async def received(self):
        """What came, for people: the state, and packets and losses of each source."""
        stats = (await self.connection.getStats()).values()
        sources = [(s.kind, s.ssrc, s.packetsReceived, s.packetsLost) for s in stats if s.type == "inbound-rtp"]
        return self.connection.connectionState, sources

    async def close(self, hang_up=True):
        await super().close(hang_up)
        for task in self.tasks:
            task.cancel()
