"""Videos of every kind that the bundled FFmpeg writes, and whether they are read as it reads them.

python -m tests.video_matrix      prints the table of docs/video.md
"""

import itertools
import os
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from tests.video_files import decode_everything, moving_frames, write_video

NUM_FRAMES = 26
CONTAINERS = (
    *("mp4", "mov", "mkv", "webm", "avi", "wmv", "flv", "mpg", "vob", "ts", "3gp", "m4v", "ogv"),
    *("nut", "mxf", "gif", "apng", "ivf", "rm", "wtv", "f4v", "swf"),
)
# Frame sizes and colours that a codec insists on.
CODECS = {
    "libx264": {},
    "libx265": {},
    "mpeg4": {},
    "mpeg1video": {},
    "mpeg2video": {},
    "msmpeg4": {},
    "msmpeg4v2": {},
    "wmv1": {},
    "wmv2": {},
    "flv": {},
    "h263": {"size": (144, 176)},
    "h261": {"size": (144, 176)},
    "mjpeg": {"pix_fmt": "yuvj420p"},
    "gif": {"pix_fmt": "rgb8"},
    "apng": {"pix_fmt": "rgb24"},
    "png": {"pix_fmt": "rgb24"},
    "ffv1": {},
    "huffyuv": {"pix_fmt": "yuv422p"},
    "utvideo": {},
    "rawvideo": {},
    "libvpx": {"options": {"deadline": "realtime", "cpu-used": "8"}},
    "libvpx-vp9": {"options": {"deadline": "realtime", "cpu-used": "8"}},
    "libsvtav1": {"options": {"preset": "13"}},
    "prores": {"pix_fmt": "yuv422p10le"},
    "qtrle": {"pix_fmt": "rgb24"},
    "svq1": {"pix_fmt": "yuv410p"},
    "rv10": {"size": (144, 176)},
    "snow": {},
    "jpeg2000": {},
    "cinepak": {"pix_fmt": "rgb24"},
}
# Ways to order frames, for codecs that reorder.
ORDERS = {
    "p": {"b_frames": 0, "gop": 10},
    "b": {"b_frames": 3, "gop": 10},
    "one_gop": {"b_frames": 2, "gop": 250},
}
OPEN_GOPS = {
    "libx264": {"options": {"x264-params": "open-gop=1:keyint=10:bframes=3:b-pyramid=2"}},
    "libx265": {"options": {"x265-params": "open-gop=1:keyint=10:bframes=3:log-level=none"}},
    "mpeg2video": {"b_frames": 2, "gop": 10},
    "mpeg1video": {"b_frames": 2, "gop": 10},
}
REORDERING = ("libx264", "libx265", "mpeg4", "mpeg1video", "mpeg2video")
PIXELS = {
    "libx264": ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "gray", "nv12"),
    "libx265": ("yuv420p10le", "yuv444p", "gray"),
    "ffv1": ("yuv420p", "yuv422p10le", "gray", "gray16le", "bgr0", "yuva420p"),
    "mjpeg": ("yuvj420p", "yuvj444p"),
    "rawvideo": ("rgb24", "gray", "yuyv422"),
    "libvpx-vp9": ("yuv420p", "yuv444p", "yuv420p10le", "gbrp"),
}
RATES = {
    "uneven": {"variable_rate": True},
    "ntsc": {"rate": Fraction(30000, 1001)},
    "slow": {"rate": 5},
}


@dataclass
class Kind:
    """One kind of video file.

    Attributes:
        name: file name, unique.
        options: of `write_video`.
    """

    name: str
    options: dict = field(default_factory=dict)


def kinds() -> list[Kind]:
    """All kinds; FFmpeg does not write every one of them."""
    found = [
        Kind(f"{codec}.{container}", {"codec": codec} | options)
        for (codec, options), container in itertools.product(CODECS.items(), CONTAINERS)
    ]
    for codec, container in itertools.product(REORDERING, CONTAINERS):
        ways = ORDERS | ({"open_gop": OPEN_GOPS[codec]} if codec in OPEN_GOPS else {})
        found += [
            Kind(f"{codec}_{way}.{container}", {"codec": codec} | options)
            for way, options in ways.items()
        ]
    for codec, formats in PIXELS.items():
        found += [
            Kind(f"{codec}_{pix_fmt}.{container}", {"codec": codec, "pix_fmt": pix_fmt})
            for pix_fmt, container in itertools.product(formats, ("mkv", "avi", "mp4", "mov"))
        ]
    for rate, options in RATES.items():
        found += [
            Kind(f"{codec}_{rate}.{container}", {"codec": codec} | CODECS[codec] | options)
            for codec, container in itertools.product(
                ("libx264", "mpeg4", "libvpx", "flv"), ("mp4", "mkv", "webm", "avi", "flv", "wmv")
            )
        ]
    return found


def write_kind(folder: Path, kind: Kind) -> str | None:
    """Path of the file; None where FFmpeg does not write this kind."""
    path = folder / kind.name
    try:
        write_video(path, num_frames=NUM_FRAMES, **kind.options)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:  # no decoder
                return None
            next(container.decode(stream))
    except (av.error.FFmpegError, ValueError, IndexError, AttributeError, StopIteration):
        return None
    finally:
        if hasattr(os, "sched_setscheduler"):  # SVT-AV1 takes real-time priority where it may
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return str(path)


def write_packed(path: Path, num_frames: int = NUM_FRAMES) -> str:
    """MPEG-4 in AVI as DivX 5 wrote it: a packet holds P and B frame, the next one nothing."""
    source = write_video(path.with_suffix(".mp4"), "mpeg4", num_frames, b_frames=1, gop=12)
    with av.open(source) as reader, av.open(str(path), "w") as writer:
        stream = reader.streams.video[0]
        header = bytes(stream.codec_context.extradata)
        header = header[: header.index(b"\0\0\1\xb2")] + b"\0\0\1\xb2DivX503b1393p"
        coded = [(bytes(p), p.is_keyframe) for p in reader.demux(stream) if p.size]
        copy = writer.add_stream_from_template(stream)
        packets, number = [], 0
        while number < len(coded):
            data, key = coded[number]
            pair = number + 1 < len(coded) and is_b_frame(coded[number + 1][0])
            packets.append((data + coded[number + 1][0] if pair else data, key))
            if pair:
                packets.append((b"\0\0\1\xb6\x50\x4f", False))  # "not coded"
            number += 1 + pair
        for number, (data, key) in enumerate(packets):
            packet = av.Packet(header + data if number == 0 else data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), copy, key
            writer.mux(packet)
    return str(path)


def is_b_frame(data: bytes) -> bool:
    """Whether an MPEG-4 packet holds a B frame."""
    return data[data.index(b"\0\0\1\xb6") + 4] >> 6 == 2


def shown_numbers(frames: np.ndarray, size: tuple[int, int]) -> list[int]:
    """Which of the drawn frames each decoded one is."""
    drawn = moving_frames(NUM_FRAMES, size).astype(np.float32)[:, ::4, ::4].mean(-1)
    seen = frames.astype(np.float32)[:, ::4, ::4].mean(-1)
    return [int(np.abs(drawn - frame).mean((1, 2)).argmin()) for frame in seen]


def differences(path: str, trials: int = 3) -> list[str]:
    """How what the reader gives differs from decoding everything; empty if it does not."""
    expected = decode_everything(path)
    wrong = []
    with open_video(path) as video:
        _, frames = video.read_chosen(np.arange)
        if frames.shape != expected.shape or not np.array_equal(frames, expected):
            return [f"frames {frames.shape}, decoding gives {expected.shape}"]
    with open_video(path) as video:
        frames = np.concatenate(list(video.blocks()))
        if not np.array_equal(frames, expected) or video.num_frames != len(expected):
            wrong.append("in order")
        times = video.times()
        if times is not None and (len(times) != len(expected) or (np.diff(times) <= 0).any()):
            wrong.append("times")
    rng = np.random.default_rng(0)
    for _ in range(trials):
        some = rng.integers(0, len(expected), 5)
        with open_video(path) as video:
            if not np.array_equal(video.read(some), expected[some]):
                wrong.append(f"frames {some}")
    return wrong


def damaged(path: str, folder: Path) -> list[str]:
    """The file cut off, with bits flipped, with a stretch of zeros; several of each."""
    data, copies = Path(path).read_bytes(), []
    rng = np.random.default_rng(len(data))
    for share in (0.3, 0.6, 0.9):
        copies.append(data[: int(len(data) * share)])
    for count in (1, 8, 8, 40):
        flipped = bytearray(data)
        for place in rng.integers(0, len(data), count):
            flipped[place] ^= 1 << rng.integers(8)
        copies.append(flipped)
    for _ in range(2):
        start = int(rng.integers(0, len(data)))
        copies.append(data[:start] + bytes(200) + data[start + 200 :])
    stem, _, suffix = Path(path).name.rpartition(".")
    paths = [folder / f"{stem}_{number}.{suffix}" for number in range(len(copies))]
    for target, copy in zip(paths, copies):
        target.write_bytes(copy)
    return [str(target) for target in paths]


def table() -> str:
    """Markdown: codec by container, how the frames are found."""
    lines = ["| codec | " + " | ".join(CONTAINERS) + " |", "|---" * (len(CONTAINERS) + 1) + "|"]
    with tempfile.TemporaryDirectory() as folder:
        for codec, options in CODECS.items():
            cells = []
            for container in CONTAINERS:
                kind = Kind(f"{codec}_b.{container}", {"codec": codec} | options)
                if codec in REORDERING:
                    kind.options |= ORDERS["b"]
                path = write_kind(Path(folder), kind)
                cells.append("" if path is None else _how(path))
            lines.append(f"| {codec} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _how(path: str) -> str:
    try:
        with open_video(path) as video:
            way = "p" if video._order is not None else "d"
        return way if not differences(path) else "WRONG"
    except UnreadableVideoError:
        return "refused"


if __name__ == "__main__":
    av.logging.set_level(av.logging.PANIC)
    print(table())
