"""Small videos for tests, and what decoding everything from the start gives."""

from contextlib import suppress
from fractions import Fraction

import av
import cv2
import numpy as np

from svfap.datasets.video.pyav import TOLERANT


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
    rate=25,
    stamps_ms=None,
    frames=None,
):
    """Encode `moving_frames` (or `frames`) evenly, at changing distances, or at given times."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        if gop:
            stream.codec_context.gop_size = gop
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        stamp = 0
        if stamps_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        images = moving_frames(num_frames, size) if frames is None else frames
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base, frame.pts = 1 / Fraction(rate), stamp
            if stamps_ms is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), int(stamps_ms[number])
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


def decode_everything(path, keep=False):
    """(n, H, W, 3): every frame, decoded from the start; damaged packets are passed over.

    With `keep` no decoded frame is freed before the end: what damage left undecoded then holds
    other old pixels, which shows where plain decoding itself is arbitrary.
    """
    frames = []
    for frame in _decoded(path):
        if frame is not None:
            frames.append(frame if keep else frame.to_ndarray(format="rgb24"))
    return np.stack([f.to_ndarray(format="rgb24") for f in frames] if keep else frames)


def count_intact(path):
    """Number of frames before the first of which the decoder says that it is damaged."""
    for number, frame in enumerate(_decoded(path)):
        if frame is None or frame.is_corrupt:
            return number
    return number + 1


def _decoded(path):
    """Every frame; None for each packet that does not decode."""
    with av.open(str(path), **TOLERANT) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1  # threads notice damage later
        for packet in _packets(container, stream):
            try:
                yield from stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                yield None


def _packets(container, stream):
    """As many as can be read, then None, which makes the decoder give its last frames."""
    with suppress(av.error.FFmpegError):
        yield from (packet for packet in container.demux(stream) if packet.size)
    yield None
