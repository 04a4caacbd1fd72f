#!/usr/bin/env python3
"""Publishes a test picture and a tone, or a file, to Sluice with FFmpeg's WHIP muxer.

`pip install av` brings an FFmpeg that has it; Debian 12's has not. The muxer's options are those of the command line, where this is
`ffmpeg -re -i FILE … -f whip -whip_flags dtls_active URL`.
"""

import argparse
import time

import av

# Without B-frames, which WebRTC's receivers don't take.
VIDEO = {"profile": "baseline", "tune": "zerolatency", "preset": "veryfast", "g": "60", "bf": "0"}


def publish(arguments):
    # The muxer is a DTLS server by itself, and then, in FFmpeg 8.1, writes a packet only when one came from us.
    options = {} if arguments.dtls_server else {"whip_flags": "dtls_active"}
    if arguments.token:
        options["authorization"] = arguments.token
    if arguments.file:
        picture = sound = av.open(arguments.file)
    else:
        picture = av.open("testsrc2=size=640x360:rate=30", format="lavfi")
        sound = av.open("sine=frequency=440:sample_rate=48000", format="lavfi")
    with av.open(arguments.url, "w", format="whip", options=options) as output:
        source = picture.streams.video[0]
        video = output.add_stream("libx264", rate=source.average_rate, options=VIDEO)
        video.width, video.height, video.pix_fmt = source.width, source.height, "yuv420p"
        streams = {"video": (source, video)}
        if sound.streams.audio:
            audio = output.add_stream("libopus", rate=48000)
            audio.layout = "stereo"
            streams["audio"] = (sound.streams.audio[0], audio)
        send(streams, {picture, sound}, output)


def send(streams, containers, output):
    start = time.monotonic()
    for time_of, encoder, frame in in_order(streams, containers):
        time.sleep(max(0, start + time_of - time.monotonic()))
        frame.pts = None if encoder.type == "audio" else frame.pts
        for packet in encoder.encode(frame):
            output.mux(packet)


def in_order(streams, containers):
    """The frames of all streams with their times, the earliest first."""
    resampler = av.AudioResampler(format="flt", layout="stereo", rate=48000, frame_size=960)
    queues = {}
    for container in containers:
        mine = [source for source, _ in streams.values() if source.container is container]
        queues[container] = frames(container, mine, resampler)
    waiting = {container: next(queue, None) for container, queue in queues.items()}
    while any(waiting.values()):
        container = min((c for c, entry in waiting.items() if entry), key=lambda c: waiting[c][0])
        time_of, kind, frame = waiting[container]
        yield time_of, streams[kind][1], frame
        waiting[container] = next(queues[container], None)


def frames(container, sources, resampler):
    for frame in container.decode(sources):
        if isinstance(frame, av.VideoFrame):
            picture = frame.reformat(format="yuv420p")
            # The encoder would make a keyframe of each that was one in the source.
            picture.pict_type = av.video.frame.PictureType.NONE
            yield frame.time or 0, "video", picture
        else:
            for piece in resampler.resample(frame):
                yield piece.time or 0, "audio", piece


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="http://HOST:8080/my-stream/whip")
    parser.add_argument("--file", help="what to publish, instead of a test picture")
    parser.add_argument("--token", help="where the server asks for one")
    parser.add_argument("--dtls-server", action="store_true", help="leave out whip_flags=dtls_active")
    publish(parser.parse_args())
