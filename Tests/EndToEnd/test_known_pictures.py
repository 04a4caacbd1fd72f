"""What comes out is what went in: the pictures, not only their count."""

import numpy
import pytest

from aiortc_peers import Publisher, Viewer, number_of, picture


def psnr(left, right):
    """Peak signal-to-noise ratio in decibels."""
    error = numpy.mean((left.astype(float) - right.astype(float)) ** 2)
    return 99 if error == 0 else 10 * numpy.log10(255 ** 2 / error)


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", ["video/VP8", "video/H264"])
async def test_viewer_decodes_the_publishers_pictures(server, codec):
    stream = "pictures-" + codec[-4:].strip("/")
    publisher, viewer = Publisher(server, stream, codec), Viewer(server, stream)
    try:
        await publisher.negotiate()
        await publisher.connected()
        await viewer.negotiate()
        await viewer.frames_reach(90, 20)
        numbers = [int(number_of(frame)) for frame in viewer.frames[:90]]
        quality = [psnr(frame, picture(number)) for frame, number in zip(viewer.frames, numbers)]
        print(f"{codec}: median {numpy.median(quality):.1f} dB, lowest {min(quality):.1f} dB")
        # Each picture is one that was sent, none comes twice, and none goes missing on a network without loss.
        assert numbers == list(range(numbers[0], numbers[0] + 90))
        # The worst frames are the first ones, before the encoder's rate control has settled.
        assert numpy.median(quality) > 30
        assert min(quality) > 22
    finally:
        await viewer.close()
        await publisher.close()
