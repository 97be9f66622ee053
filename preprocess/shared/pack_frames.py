"""From one video or frame folder to the encoded frames of a packed store."""

from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
import torch

from svfap.datasets.augment.transforms import resize_square
from svfap.datasets.clips.source import cut_window
from svfap.datasets.video.images import JPEG_SIGNATURE, decode_image
from svfap.datasets.video.open_video import (
    FrameFolderReader,
    FrameReader,
    UnreadableVideoError,
    open_video,
)
from svfap.datasets.video.store_writer import PackedVideo

UNEVEN = 0.5  # frames by which times may differ from even ones
# Chroma of videos has half the resolution already.
SUBSAMPLING = "420"
PNG_LEVEL = 6


@dataclass(frozen=True)
class FrameSettings:
    """What decides how frames are stored."""

    encoding: str = "jpeg"  # "jpeg", "png" or "raw" (both lossless)
    quality: int | None = 90  # of jpeg, 1 to 100; None for the others
    # (top, left, height, width) in pixels that is kept; None: everything
    face_window: tuple[int, int, int, int] | None = None
    # side in pixels to which frames are made square, after cutting; None: not
    resize: int | None = None

    @property
    def keeps_pixels(self) -> bool:
        """Whether frames are neither cut nor resized."""
        return self.face_window is None and self.resize is None


def use_one_thread() -> None:
    """For worker processes: as many of them run as there are cores."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def pack_video(path: str, key: str, settings: FrameSettings) -> PackedVideo:
    """Decode and encode one video.

    Frames of folders that are JPEG files are copied where jpeg is wanted and no pixel changes.

    Args:
        path: video file, frame folder or image.

    Returns:
        Its frames; none, and the reason, if it is unreadable.
    """
    try:
        with open_video(path) as reader:
            if reader.window is not None:
                raise ValueError(f"{path} is in a packed store already; pack the original videos")
            copied = _copied(reader, key, settings)
            return copied if copied is not None else _encoded(reader, key, settings)
    except UnreadableVideoError as error:
        return PackedVideo(key, b"", np.empty(0, np.uint32), note=error.reason)


def _copied(reader: FrameReader, key: str, settings: FrameSettings) -> PackedVideo | None:
    """The JPEG files of a frame folder as they are; None where that is not what is wanted."""
    folder = isinstance(reader, FrameFolderReader)
    if not (folder and settings.keeps_pixels and settings.encoding == "jpeg"):
        return None
    files = [reader.read_file(index) for index in range(reader.num_frames)]
    if not all(data[:2] == JPEG_SIGNATURE for data in files):
        return None
    shapes = {None if image is None else image.shape for image in map(decode_image, files)}
    if len(shapes) > 1 or None in shapes:
        return None  # the reader names what is wrong
    height, width, _ = shapes.pop()
    ends = np.cumsum([len(data) for data in files])
    data = b"".join(files)
    return PackedVideo(key, data, ends, height, width, copied=True, **_time(reader))


def _encoded(reader: FrameReader, key: str, settings: FrameSettings) -> PackedVideo:
    parts, shape = _encode_all(reader, settings)
    return PackedVideo(
        key,
        b"".join(parts),
        np.cumsum([len(part) for part in parts]),
        *shape,
        note=reader.problem,
        **_time(reader),
    )


def _time(reader: FrameReader) -> dict:
    """Rate of a video, and the time of its frames where the rate does not say it all."""
    times, fps = reader.times(), reader.fps or 0.0
    even = times is None or np.abs(times * fps - np.arange(len(times))).max() < UNEVEN
    return {"fps": fps, "seconds": None if even else times}


def _encode_all(reader: FrameReader, settings: FrameSettings) -> tuple[list[bytes], tuple]:
    """All frames encoded, and their (height, width)."""
    parts, shapes = [], set()
    for frames in reader.blocks():
        frames = cut_window(frames, settings.face_window, reader.path)
        if settings.resize is not None:
            frames = resize_square(frames, settings.resize)
        shapes.add(frames.shape[1:3])
        parts += [encode(frame, settings) for frame in frames]
    if len(shapes) > 1:
        raise UnreadableVideoError(reader.path, f"frames differ in size ({sorted(shapes)})")
    return parts, shapes.pop()


def encode(frame: np.ndarray, settings: FrameSettings) -> bytes:
    """Encode one (H, W, 3) uint8 RGB frame."""
    frame = np.ascontiguousarray(frame)
    if settings.encoding == "raw":
        return frame.tobytes()
    if settings.encoding == "png":
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])[1].tobytes()
    return simplejpeg.encode_jpeg(
        frame, quality=settings.quality, colorspace="RGB", colorsubsampling=SUBSAMPLING
    )
