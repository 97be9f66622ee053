"""Videos that are in memory: arrays of frames, frames that come one after the other, files' bytes.

>>> with ArrayReader(frames, "camera", fps=30) as video:  # frames (T, H, W, 3) uint8 RGB
...     last = video.read([video.num_frames - 1])
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np

from svfap.datasets.video.base import FrameReader
from svfap.datasets.video.upright import JPEG_SIGNATURE, PNG_SIGNATURE

Video: TypeAlias = str | os.PathLike | bytes | np.ndarray | Iterable[np.ndarray]
WANTED = "(T, H, W, 3) uint8 RGB, T frames of 1 or more"
PICTURES = {JPEG_SIGNATURE: ".jpg", PNG_SIGNATURE: ".png", b"BM": ".bmp"}


class ArrayReader(FrameReader):
    """Frames in memory.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        fps: frames per second; None: without time.

    Raises:
        ValueError: other shapes or types.
    """

    def __init__(self, frames: np.ndarray, name: str, fps: float | None = None):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
            shape = " x ".join(map(str, frames.shape)) or "no"
            raise ValueError(f"{name}: an array of {shape} {frames.dtype}; it must be {WANTED}")
        if fps is not None and not 0 < fps <= 1000:
            raise ValueError(f"{name}: {fps} frames per second; give a number up to 1000")
        self.path, self.fps, self.num_frames = name, fps, len(frames)
        self._frames = frames

    def _read_sorted(self, wanted: list[int]) -> np.ndarray:
        return self._frames[wanted]


@contextmanager
def as_sources(
    videos: Iterable[Video], fps: float | None = None
) -> Iterator[list[tuple[str, str | ArrayReader]]]:
    """Names of videos of any kind, and paths or readers of them.

    Bytes become files for as long as this lasts.

    Args:
        videos: paths; contents of video or image files; arrays (T, H, W, 3) uint8 RGB; frames
            (H, W, 3) uint8 RGB of one size that come one after the other, and are all kept.
        fps: frames per second of arrays and frames; None: without time.

    Raises:
        ValueError: something else.
    """
    if isinstance(videos, (str, os.PathLike, bytes)):
        raise ValueError(f"{type(videos).__name__} is one video; give a list of videos")
    with TemporaryDirectory(prefix="svfap-") as folder:
        yield [
            _source(video, f"video {number}", folder, fps)
            for number, video in enumerate(videos, start=1)
        ]


def _source(
    video: Video, name: str, folder: str, fps: float | None
) -> tuple[str, str | ArrayReader]:
    if isinstance(video, (str, os.PathLike)):
        return os.fspath(video), os.fspath(video)
    if isinstance(video, (bytes, bytearray, memoryview)):
        endings = [end for start, end in PICTURES.items() if bytes(video[: len(start)]) == start]
        path = os.path.join(folder, name + "".join(endings))
        with open(path, "wb") as file:
            file.write(video)
        return name, path
    if not isinstance(video, np.ndarray):
        if not isinstance(video, Iterable):
            raise ValueError(f"{name} is {type(video).__name__}; give {_kinds()}")
        frames = list(video)
        shapes = {getattr(frame, "shape", type(frame).__name__) for frame in frames}
        if len(shapes) != 1 or not isinstance(frames[0], np.ndarray):
            found = ", ".join(map(str, sorted(shapes, key=str))) or "nothing"
            raise ValueError(
                f"{name} gives {found}; frames must be arrays (H, W, 3) uint8 RGB of one size. "
                f"Possible are {_kinds()}"
            )
        video = np.stack(frames)
    return name, ArrayReader(video, name, fps)


def _kinds() -> str:
    return f"a path, bytes of a file, an array {WANTED}, or an iterable of such frames"
