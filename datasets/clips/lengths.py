"""Frames and frame rates of all videos of an annotation file, found before training."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from svfap.datasets.clips.timeline import even_frames
from svfap.datasets.faces.landmarks import landmarks_for
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.video.frame_index import FrameIndex
from svfap.datasets.video.frame_rate import read_frame_rate
from svfap.datasets.video.open_video import FrameReader, UnreadableVideoError, open_video

logger = logging.getLogger(__name__)

UNREADABLE = -1
RATE_VIDEOS = 16  # looked at for the rate of a whole list
ALIKE = 1.05  # ratio up to which rates count as one
THREADS = 16  # waiting for files dominates


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What is known of the videos' time."""

    num_frames: np.ndarray  # (n,) int64; `UNREADABLE` where the video cannot be opened
    rates: np.ndarray  # (n,) float64, frames per second; NaN where unreadable
    # (n,) objects: where frames are not evenly spaced, those to show to play the video at its rate,
    # (m,) int64, else None
    even: np.ndarray

    def take(self, rows: np.ndarray) -> "Lengths":
        """Those of some videos."""
        return Lengths(
            num_frames=self.num_frames[rows], rates=self.rates[rows], even=self.even[rows]
        )


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
        frame_rate: frames per second of folders that do not say.
        rows: which rows; None: all.

    Raises:
        ValueError: a folder of frames does not say its rate and `frame_rate` is None.
    """
    index = FrameIndex.beside(annotations.path)
    frame_rate = frame_rate or read_frame_rate(annotations.path)

    def length(row: int) -> tuple[int, float, np.ndarray | None]:
        path, known = annotations.paths[row], index.get(annotations.ids[row])
        try:
            with open_video(path, backend=backend, known=known) as video:
                num_frames, even = video.num_frames, _even_frames(video)
                rate = rate_of(video, landmarks_root, frame_rate)
        except UnreadableVideoError:
            return UNREADABLE, float("nan"), None
        if not rate:
            raise ValueError(
                f"{path}: neither the frames themselves, nor a landmark file, nor frame_rate.json "
                "beside the CSV says how many there are per second; give --frame_rate, e.g. 4.1667 "
                "for VoxCeleb1"
            )
        return num_frames, float(rate), even

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(length, rows if rows is not None else range(len(annotations))))
    even = np.empty(len(found), object)
    even[:] = [frames for _, _, frames in found]
    return Lengths(
        num_frames=np.array([frames for frames, _, _ in found], np.int64),
        rates=np.array([rate for _, rate, _ in found], np.float64),
        even=even,
    )


def rate_of(
    video: FrameReader, landmarks_root: str | None = None, frame_rate: float | None = None
) -> float | None:
    """Frames per second: the video's, its landmark file's, else `frame_rate`."""
    if video.fps:
        return video.fps
    landmarks = landmarks_for(video.path, landmarks_root)
    return (landmarks.fps if landmarks else None) or frame_rate


def _even_frames(video: FrameReader) -> np.ndarray | None:
    times = video.times()
    if times is None or not video.fps:
        return None
    even = even_frames(times, video.fps)
    return None if np.array_equal(even, np.arange(video.num_frames)) else even


def typical_rate(
    annotations: Annotations, *, sampling_rate: int = 1, backend: str = "auto"
) -> float | None:
    """Frames per second of the videos of a list, which clips made of them are played at.

    The median over some of them, evenly spread; None where no video says. Says so if some are
    shorter than a step from frame to frame, `sampling_rate`.
    """
    beside, rates, short = read_frame_rate(annotations.path), [], []
    for row in range(0, len(annotations), max(len(annotations) // RATE_VIDEOS, 1)):
        with (
            suppress(UnreadableVideoError),
            open_video(annotations.paths[row], backend=backend) as video,
        ):
            rates.append(rate_of(video, frame_rate=beside))
            if 1 < video.num_frames < sampling_rate:
                short.append(video)
    if short:
        logger.warning(
            "%s: %d of %d videos looked at are shorter than --sampling_rate %d, such as %s (%d "
            "frames): clips take every frame of those", annotations.path, len(short), len(rates),
            sampling_rate, short[0].path, short[0].num_frames,
        )  # fmt: skip
    known = [rate for rate in rates if rate]
    if not known:
        return None
    if max(known) > ALIKE * min(known):
        logger.warning(
            "%s: its videos have %.4g to %.4g frames per second; clips are made of frames, so that "
            "they last differently long", annotations.path, min(known), max(known),
        )  # fmt: skip
    return float(np.median(known))
