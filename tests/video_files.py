"""Small videos for tests, and what decoding everything from the start gives."""

from fractions import Fraction

import av
import cv2
import numpy as np


def moving_frames(num_frames, size=(64, 96)):
    """(n, H, W, 3) uint8: a smooth pattern that wanders, different in every frame."""
    rng = np.random.default_rng(0)
    height, width = size
    small = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    pattern = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.roll(pattern, (2 * i, 3 * i), (0, 1)) for i in range(num_frames)])


def write_video(
    path,
    codec="libx264",
    num_frames=40,
    *,
    size=(64, 96),
    gop=None,
    b_frames=None,
    options=None,
    variable_rate=False,
    rotation=None,
    pix_fmt="yuv420p",
):
    """Encode `moving_frames` at 25 frames per second, or at changing distances."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        if gop:
            stream.codec_context.gop_size = gop
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        stamp = 0
        for image in moving_frames(num_frames, size):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 25), stamp
            stamp += int(rng.integers(1, 5)) if variable_rate else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def remux(source, target, *, shift_frames=0, silence_seconds=0, options=None):
    """Copy a video's packets into another container, moved in time or with an audio track."""
    with av.open(source) as reader, av.open(str(target), "w", options=options or {}) as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        audio = writer.add_stream("aac", rate=8000) if silence_seconds else None
        shift = int(shift_frames / 25 / stream.time_base)
        for packet in reader.demux(stream):
            if packet.size:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copy
                writer.mux(packet)
        if audio:
            for start in range(0, 8000 * silence_seconds, 1024):
                silence = np.zeros((1, 1024), np.float32)
                frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                frame.rate, frame.pts = 8000, start
                writer.mux(audio.encode(frame))
            writer.mux(audio.encode())
    return str(target)


def decode_everything(path):
    """(n, H, W, 3): every frame, decoded from the start; damaged packets are passed over."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            try:
                frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.error.FFmpegError:
                continue
    return np.stack(frames)
