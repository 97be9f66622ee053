"""Opening a video file, a folder of frames or a single image, with one interface for all.

>>> with open_video("clip.mp4") as video:
...     frames = video.read(range(0, video.num_frames, 4))  # (n, H, W, 3) uint8 RGB
"""

import os
import re
from pathlib import Path

import cv2  # noqa: F401 - before decord, which otherwise makes OpenCV return None for every PNG
import numpy as np

from svfap.datasets.files import utf8_path
from svfap.datasets.video.base import (
    FrameCountChangedError,
    FrameReader,
    UnreadableVideoError,
    errors_of,
    stack_frames,
)
from svfap.datasets.video.frame_index import KnownFrames
from svfap.datasets.video.frame_rate import read_folder_rate
from svfap.datasets.video.images import IMAGE_SUFFIXES, decode_image, decode_into
from svfap.datasets.video.pyav import PyAVReader
from svfap.datasets.video.store import StoreReader, split_store_path

__all__ = [
    "BACKENDS",
    "IMAGE_SUFFIXES",
    "FrameCountChangedError",
    "FrameFolderReader",
    "FrameReader",
    "UnreadableVideoError",
    "open_video",
]

# First bytes of MPEG program streams, and of MPEG transport streams.
PROGRAM_STREAM, TRANSPORT_STREAM = b"\x00\x00\x01\xba", b"\x47"

# Other libraries' conversion to RGB rounds differently, by so many grey levels on average.
SAME_PICTURE = 2.0

# Where in decord's source an error was raised, "[12:34:56] /path/file.cc:270: ".
SOURCE_LINE = re.compile(r"\[[\d:]+\] \S+:\d+: ")


def open_video(
    path: str | os.PathLike, *, backend: str = "auto", known: KnownFrames | None = None
) -> FrameReader:
    """Open anything that holds the frames of one video.

    Args:
        path: a video file, a folder of jpg, jpeg, png or bmp frames (natural order: 2 before 10),
            a single image (a video of one frame), or an entry of a packed store
            ("DIR/manifest.json#KEY", see `datasets.video.store`).
        backend: what decodes video files: "pyav" (what "auto" takes), "decord" or "torchcodec".
            Folders and images are always read with simplejpeg and OpenCV.
        known: number of frames counted earlier (`FrameReader.counted`), which need not be counted
            again.

    Returns:
        A reader; use it as a context manager.

    Raises:
        UnreadableVideoError: nothing can be decoded; the reason is part of the message.
        ImportError: the backend's package is not installed.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown video reader {backend!r}: choose auto, {', '.join(BACKENDS)}")
    path = os.fspath(path)
    if split_store_path(path):
        return StoreReader(path)
    if os.path.isdir(path):
        return FrameFolderReader(path)
    if not os.path.isfile(path):
        raise UnreadableVideoError(path, "no such file or folder")
    if os.path.getsize(path) == 0:
        raise UnreadableVideoError(path, "the file is empty")
    if path.lower().endswith(IMAGE_SUFFIXES):
        return FrameFolderReader(os.path.dirname(path), [os.path.basename(path)], name=path)
    with errors_of(path):
        return BACKENDS["pyav" if backend == "auto" else backend](path, known)


def natural_key(name: str) -> tuple[list, str]:
    """Sorting key that compares runs of digits as numbers: frame2 before frame10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


class FrameFolderReader(FrameReader):
    """Frames stored as images of one size.

    Args:
        names: the images in order; None takes all of the folder in natural order.
        name: what errors call the video, by default the folder.
    """

    def __init__(self, folder: str, names: list[str] | None = None, name: str | None = None):
        self.path = name or folder
        self._folder = folder
        self._times: np.ndarray | None = None
        if names is None:
            with os.scandir(folder) as entries:
                names = [
                    entry.name
                    for entry in entries
                    if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.name[0] != "."
                ]
            names.sort(key=natural_key)
            with errors_of(folder):
                self.fps, self._times = read_folder_rate(folder)
        self._names = names
        self.num_frames = len(names)
        if not names:
            kinds = ", ".join(IMAGE_SUFFIXES)
            raise UnreadableVideoError(self.path, f"the folder holds no frames ({kinds})")

    def _read_sorted(self, wanted: list[int]) -> np.ndarray:
        first = self._read_image(wanted[0])
        frames = np.empty((len(wanted), *first.shape), np.uint8)
        frames[0] = first
        for frame, index in zip(frames[1:], wanted[1:]):
            if not decode_into(frame, self.read_file(index)):  # damaged, or of another size
                return stack_frames(self.path, [self._read_image(i) for i in wanted])
        return frames

    def times(self) -> np.ndarray | None:
        """Seconds of each frame from the first one, where the folder says."""
        if self._times is None or len(self._times) != self.num_frames:
            return super().times()
        return self._times - self._times[0]

    def read_file(self, index: int) -> bytes:
        """The image file of a frame, as it is."""
        name = self._names[index]
        try:
            return Path(self._folder, name).read_bytes()
        except OSError as error:
            raise UnreadableVideoError(
                self.path, f"image {name} cannot be read ({error.strerror})"
            ) from error

    def _read_image(self, index: int) -> np.ndarray:
        name, data = self._names[index], self.read_file(index)
        with errors_of(f"{self.path}: image {name}"):
            image = decode_image(data)
        if image is None:
            raise UnreadableVideoError(self.path, f"image {name} is damaged or not an image")
        return image


class _DelegatingReader(FrameReader):
    """A decoder library behind PyAV's survey of the file, so that all agree on the frames.

    Raises:
        UnreadableVideoError: the library fails, or sees another number of frames.
    """

    library: str

    def __init__(self, path: str, known: KnownFrames | None = None):
        with PyAVReader(path, known) as survey:
            self.path, self.num_frames = survey.path, survey.num_frames
            self.fps, self.remark, self.problem = survey.fps, survey.remark, survey.problem
            self.counted = survey.counted
            self._times = survey.times()
            first = survey.read([0])[0]
        try:
            self._decoder, count = self._make_decoder()
        except UnreadableVideoError:
            raise
        except Exception as error:  # the libraries' errors share no base class
            raise self._failed(error) from error
        if count != self.num_frames:
            raise self._failed(f"it sees {count} frames, {self.num_frames} decode")
        self._compare(first)

    def _compare(self, first: np.ndarray) -> None:
        """Refuse files that the library shows in other colours, turned, or from another stream."""
        seen = self._read_sorted([0])[0]
        if seen.shape != first.shape or np.abs(first.astype(int) - seen).mean() > SAME_PICTURE:
            raise self._failed("it shows another picture: other colours, not upright, or a cover")

    def times(self) -> np.ndarray | None:
        """Seconds of each frame from the first one."""
        return self._times

    def close(self) -> None:
        """Release the decoder."""
        self._decoder = None

    def _failed(self, reason: object) -> UnreadableVideoError:
        first_line = (str(reason).splitlines() or [type(reason).__name__])[0]
        first_line = SOURCE_LINE.sub("", first_line)
        return UnreadableVideoError(
            self.path, f"{self.library} cannot read it ({first_line}); use the pyav reader"
        )

    def _read_sorted(self, wanted: list[int]) -> np.ndarray:
        try:
            frames = self._decode(wanted)
        except Exception as error:  # as above
            raise self._failed(error) from error
        if len(frames) != len(wanted):
            raise self._failed(f"{len(frames)} of {len(wanted)} frames came back")
        return frames


class DecordReader(_DelegatingReader):
    """Frames of a video file decoded by decord, one after the other from the start.

    decord's seeking and its frame skipping return other frames than were asked for in files with
    B-frames or variable frame rates, so neither is used; the price is time. MPEG program and
    transport streams are refused, because decord leaves out their first group of pictures. In
    MPEG-4 Part 2 its older FFmpeg rounds a few values in a million one grey level differently.
    """

    library = "decord"

    def _make_decoder(self):
        import decord

        with open(self.path, "rb") as file:
            first = file.read(4)
        if first == PROGRAM_STREAM or first[:1] == TRANSPORT_STREAM:
            raise self._failed("it drops the first frames of MPEG streams")
        self._next = 0
        with utf8_path(self.path) as name:
            decoder = decord.VideoReader(name, num_threads=1)
        return decoder, len(decoder)

    def _decode(self, wanted: list[int]) -> np.ndarray:
        if wanted[0] < self._next:
            self._decoder, _ = self._make_decoder()
        frames = []
        for index in wanted:
            while self._next <= index:
                frame = self._decoder.next()
                self._next += 1
            frames.append(frame.asnumpy())
        return stack_frames(self.path, frames)


class TorchCodecReader(_DelegatingReader):
    """Frames of a video file decoded by torchcodec (needs FFmpeg's shared libraries)."""

    library = "torchcodec"

    def _make_decoder(self):
        from torchcodec.decoders import VideoDecoder

        with utf8_path(self.path) as name:
            decoder = VideoDecoder(
                name, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
        return decoder, len(decoder)

    def _decode(self, wanted: list[int]) -> np.ndarray:
        return self._decoder.get_frames_at(wanted).data.numpy()


def _optional(name: str, reader: type) -> type:
    """Reader class that says how to install its package where it is missing."""

    def open_with(path: str, known: KnownFrames | None = None) -> FrameReader:
        try:
            __import__(name)
        except (ImportError, RuntimeError, OSError) as error:
            raise ImportError(
                f"the {name} video reader cannot be loaded ({error}): "
                f"install it (pip install {name}) or use the pyav reader"
            ) from error
        return reader(path, known)

    return open_with


BACKENDS = {
    "pyav": PyAVReader,
    "decord": _optional("decord", DecordReader),
    "torchcodec": _optional("torchcodec", TorchCodecReader),
}
