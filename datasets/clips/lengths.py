"""Frames and frame rates of all videos of an annotation file, found before training."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from datasets.faces.landmarks import landmarks_for
from datasets.labels.annotations import Annotations
from datasets.video.frame_index import FrameIndex
from datasets.video.frame_rate import read_frame_rate
from datasets.video.open_video import UnreadableVideoError, open_video

logger = logging.getLogger(__name__)

UNREADABLE = -1
RATE_PROBES = 16  # videos that are asked for their frame rate, where all are of one kind
THREADS = 16  # waiting for files dominates


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What is known of the videos' time.

    Attributes:
        num_frames: (n,) int64; `UNREADABLE` where the video cannot be opened.
        rates: (n,) float64, frames per second; NaN where unreadable.
    """

    num_frames: np.ndarray
    rates: np.ndarray


def read_lengths(
    annotations: Annotations,
    *,
    backend: str = "auto",
    landmarks_root: str | None = None,
    frame_rate: float | None = None,
    rows: range | None = None,
) -> Lengths:
    """Open every video and note its number of frames and frame rate.

    The rate is the video file's; folders of frames have it in their landmark file, else they have
    `frame_rate`, else what `preprocess.voxceleb1` has recorded beside the annotation file.

    Args:
        annotations: the videos.
        backend: video reader, see `open_video`.
        landmarks_root: see `landmarks_for`.
        frame_rate: frames per second of folders that do not say.
        rows: which rows; None: all.

    Raises:
        ValueError: a folder of frames does not say its rate and `frame_rate` is None.
    """
    index = FrameIndex.beside(annotations.path)
    frame_rate = frame_rate or read_frame_rate(annotations.path)

    def length(row: int) -> tuple[int, float]:
        path, known = annotations.paths[row], index.get(annotations.ids[row])
        try:
            with open_video(path, backend=backend, known=known) as video:
                num_frames, rate = video.num_frames, video.fps
        except UnreadableVideoError:
            return UNREADABLE, float("nan")
        if rate is None:
            landmarks = landmarks_for(path, landmarks_root)
            rate = (landmarks.fps if landmarks else None) or frame_rate
        if not rate:
            raise ValueError(
                f"{path}: frames in a folder, and neither a landmark file nor frame_rate.json "
                "beside the CSV says how many there are per second; give --frame_rate, e.g. 4.1667 "
                "for VoxCeleb1"
            )
        return num_frames, float(rate)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(length, rows if rows is not None else range(len(annotations))))
    return Lengths(
        num_frames=np.array([frames for frames, _ in found], np.int64),
        rates=np.array([rate for _, rate in found], np.float64),
    )


def typical_rate(annotations: Annotations, *, backend: str = "auto") -> float | None:
    """Frame rate of a data set: the median of some videos, spread over its annotation file.

    None where none of them says it and nothing is recorded beside the file.
    """
    recorded = read_frame_rate(annotations.path)
    rates = []
    for row in np.unique(np.linspace(0, len(annotations) - 1, RATE_PROBES).astype(int)):
        try:
            with open_video(annotations.paths[row], backend=backend) as video:
                rates.append(video.fps or recorded)
        except UnreadableVideoError:
            continue  # the budget's business, later
    known = [rate for rate in rates if rate]
    return float(np.median(known)) if known else None
