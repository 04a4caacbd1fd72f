"""What comes out is what went in: the pictures of a known file, not only their count."""

import numpy
import pytest

from aiortc_peers import Publisher, Viewer, number_of, read_file, write_file

PICTURES = 150
WATCHED = 90


def psnr(left, right):
    """Peak signal-to-noise ratio in decibels."""
    error = numpy.mean((left.astype(float) - right.astype(float)) ** 2)
    return 99 if error == 0 else 10 * numpy.log10(255 ** 2 / error)


@pytest.mark.asyncio
@pytest.mark.parametrize("codec,encoder", [("video/VP8", "libvpx"), ("video/H264", "libx264")])
async def test_viewer_decodes_the_pictures_of_the_file(server, tmp_path, codec, encoder):
    file = tmp_path / "known.mkv"
    write_file(file, encoder, PICTURES)
    frames = read_file(file)
    assert sorted(frames) == list(range(1, PICTURES + 1))
    stream = "pictures-" + encoder
    publisher, viewer = Publisher(server, stream, codec, frames=frames), Viewer(server, stream)
    try:
        await publisher.negotiate()
        await publisher.connected()
        await viewer.negotiate()
        await viewer.frames_reach(WATCHED, 20)
        numbers = [int(number_of(frame)) for frame in viewer.frames[:WATCHED]]
        quality = [psnr(frame, frames[number]) for frame, number in zip(viewer.frames, numbers)]
        print(f"{codec}: median {numpy.median(quality):.1f} dB, lowest {min(quality):.1f} dB")
        # Each picture is one of the file's, in its order: none comes twice, and none goes missing on a network without loss.
        assert numbers == [(numbers[0] - 1 + index) % PICTURES + 1 for index in range(WATCHED)]
        # The worst frames are the first ones, before the encoder's rate control has settled.
        assert numpy.median(quality) > 30
        assert min(quality) > 22
    finally:
        await viewer.close()
        await publisher.close()
