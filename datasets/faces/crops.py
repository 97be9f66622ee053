"""From a track to steady square crops: where they lie, cutting them, and the way back.

The crop moves with the face ("smooth") or stands still for the whole track ("constant"); with
alignment the head is also turned upright, by the line through the eyes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from svfap.datasets.faces.geometry import (
    box_centres,
    eye_roll,
    nearest_angle,
    sideways,
    similarity,
    transform,
)
from svfap.datasets.faces.smoothing import fill_gaps, smooth
from svfap.datasets.faces.tracker import Track
from svfap.datasets.video.base import FrameReader

FACE_SIDE = 2.2  # brows to chin and a little more, in units: what a margin is measured by
ALIGNMENTS = ("none", "similarity")
BOXES = ("smooth", "constant")
# What shows where a crop leaves the frame; "inside" moves (and, if it must, shrinks) it instead.
BORDERS = ("inside", "black", "repeat")


@dataclass(frozen=True)
class CropStyle:
    """How much a crop shows."""

    side: float  # of the crop, in distances between the eyes
    eye_height: float  # of the eyes below the upper border of the crop, as a share of its side

    def __post_init__(self):
        if self.side <= 0 or not 0 < self.eye_height < 1:
            raise ValueError(
                f"{self}: side must be positive and eye_height between 0 and 1 (such as 3.2, 0.37)"
            )


# Read off published frames, not stated by their authors (docs/faces.md).
STYLES = {
    "voxceleb": CropStyle(side=5.0, eye_height=0.33),
    "dfew": CropStyle(side=3.2, eye_height=0.37),
    "openface": CropStyle(side=2.5, eye_height=0.35),
    "synthetic": CropStyle(side=3.8, eye_height=0.385),
}


def parse_style(text: str) -> CropStyle:
    """A style's name, or a margin: what is added to each side of the face, as a share of it."""
    if text in STYLES:
        return STYLES[text]
    try:
        margin = float(text)
        if not 0 <= margin <= 5:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"margin {text!r}: give one of {', '.join(STYLES)}, or a number from 0 to 5"
        ) from None
    side = FACE_SIDE * (1 + 2 * margin)
    return CropStyle(side=side, eye_height=0.5 - 0.5 / side)


@dataclass(frozen=True)
class CropPlan:
    """Where each crop of a track lies."""

    size: int  # side of the crops in pixels
    matrices: np.ndarray  # (T, 2, 3) maps from frame pixels to crop pixels
    border: str = "black"  # what shows where the crop leaves the frame: "black" or "repeat"

    def landmarks(self, track: Track) -> np.ndarray:
        """(T, 68, 2) landmarks in crop pixels, NaN where the face was not seen."""
        return transform(self.matrices, track.landmarks)

    def outside(self, height: int, width: int) -> float:
        """Mean share of the crops' area that lies outside frames of that size."""
        line = (np.arange(16) + 0.5) / 16 * self.size - 0.5
        grid = np.stack(np.meshgrid(line, line), -1).reshape(1, -1, 2)
        inverse = np.stack([cv2.invertAffineTransform(matrix) for matrix in self.matrices])
        x, y = np.moveaxis(transform(inverse, grid), -1, 0)
        return float(1 - ((x >= -0.5) & (x < width) & (y >= -0.5) & (y < height)).mean())


def plan_crops(
    track: Track,
    *,
    style: CropStyle,
    size: int,
    align: str = "none",
    box: str = "smooth",
    smooth_frames: float = 5.0,
    ticks: np.ndarray | None = None,
    border: str = "black",
    frame_size: tuple[int, int] | None = None,
) -> CropPlan:
    """Lay out the crops of a track.

    Args:
        track: where the face is; gaps are bridged by straight lines.
        size: side of the crops in pixels.
        align: "none" keeps the picture upright; "similarity" turns the eyes level.
        box: "smooth" follows the face, "constant" is one square that holds the whole movement.
        smooth_frames: standard deviation of the smoothing in time, in frames; 0: none.
        ticks: (T,) when the frames were taken, in frames of average length; None: evenly.
        border: what shows where a crop leaves the frame, "black" or "repeat" (the frame's last
            pixels); "inside" moves the crop into the frame instead, and shrinks it to the frame's
            shorter side if it is larger.
        frame_size: (height, width) of the frames; needed for "inside".

    Raises:
        ValueError: a value that is not allowed.
    """
    if size < 8:
        raise ValueError(f"size is {size}: crops need at least 8 px")
    for name, value, allowed in (
        ("align", align, ALIGNMENTS), ("box", box, BOXES), ("border", border, BORDERS),
    ):  # fmt: skip
        if value not in allowed:
            raise ValueError(f"{name} {value!r} is not one of {', '.join(allowed)}")
    if align != "none" and box == "constant":
        raise ValueError("a constant box cannot be aligned: use box smooth, or align none")
    if border == "inside" and (align != "none" or frame_size is None):
        raise ValueError("border inside needs align none and the size of the frames")
    path = _steady_places(track, smooth_frames, ticks, by_eyes=align == "similarity")
    drop = (0.5 - style.eye_height) * style.side
    centre, side = box_centres(path, drop), style.side * path[:, 2]
    if box == "constant":
        centre, side = _one_square(centre, side, path[:, 2])
    if border == "inside":
        centre, side = _inside(centre, side, *frame_size)
    roll = path[:, 3] if align == "similarity" else np.zeros(len(path))
    middle = ((size - 1) / 2, (size - 1) / 2)
    return CropPlan(size, similarity(centre, size / side, roll, middle), border)


def _steady_places(
    track: Track, sigma: float, ticks: np.ndarray | None, *, by_eyes: bool
) -> np.ndarray:
    """(T, 4) places without gaps and jitter."""
    path = track.places()
    if by_eyes:
        path[:, 3] = eye_roll(track.landmarks)
    shift = 0.5 * sideways(track.landmarks)  # half-way: the eyes stay where they are looked for
    path[:, 0] += shift * np.cos(path[:, 3])
    path[:, 1] += shift * np.sin(path[:, 3])
    path[:, 2] = np.log(path[:, 2])
    path = fill_gaps(path, ticks)
    path[:, 3] = np.unwrap(path[:, 3])
    path[:, 3] -= np.round(np.median(path[:, 3]) / (2 * np.pi)) * 2 * np.pi
    # Sizes are noisier than places and change more slowly.
    x, y, roll = smooth(path[:, [0, 1, 3]], sigma, ticks).T
    unit = smooth(path[:, [2]], 2 * sigma, ticks)[:, 0]
    return np.stack([x, y, np.exp(unit), nearest_angle(roll, 0.0)], 1)


def _one_square(
    centre: np.ndarray, side: np.ndarray, unit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The square that holds every face of the track, with the style's margin around it."""
    half = FACE_SIDE * unit[:, None] / 2
    low, high = (centre - half).min(0), (centre + half).max(0)
    extent = (high - low).max() * float(np.median(side / (FACE_SIDE * unit)))
    count = len(centre)
    return np.tile((low + high) / 2, (count, 1)), np.full(count, extent)


def _inside(
    centre: np.ndarray, side: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Crops moved into the frame."""
    side = np.minimum(side, min(height, width))
    half = side[:, None] / 2
    return np.clip(centre, half - 0.5, np.array([width, height]) - 0.5 - half), side


def cut_crop(frame: np.ndarray, matrix: np.ndarray, size: int, border: str) -> np.ndarray:
    """One crop, (size, size, 3) uint8; large faces are averaged down, not subsampled."""
    shrink = 1 / np.hypot(*matrix[0, :2])
    if shrink > 2:
        step = int(shrink)
        frame, matrix = _shrunk(frame, matrix, size, step)
    outside = cv2.BORDER_REPLICATE if border == "repeat" else cv2.BORDER_CONSTANT
    frame = np.ascontiguousarray(frame)
    return cv2.warpAffine(frame, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=outside)


def _shrunk(
    frame: np.ndarray, matrix: np.ndarray, size: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """The frame made smaller by `step` around the crop, and the map from there."""
    corners = np.array([(0.0, 0.0), (size, 0.0), (0.0, size), (size, size)])
    inside = transform(cv2.invertAffineTransform(matrix), corners)
    height, width = frame.shape[:2]
    left, top = np.clip(np.floor(inside.min(0)) - 2 * step, 0, (width - step, height - step))
    right, bottom = np.clip(np.ceil(inside.max(0)) + 2 * step, (left + step, top + step), np.inf)
    left, top, right, bottom = int(left), int(top), int(right), int(bottom)
    part = frame[top:bottom, left:right]
    part = part[: part.shape[0] // step * step, : part.shape[1] // step * step]
    small = cv2.resize(
        np.ascontiguousarray(part), (part.shape[1] // step, part.shape[0] // step),
        interpolation=cv2.INTER_AREA,
    )  # fmt: skip
    offset = (step - 1) / 2
    back = np.array([[step, 0.0, left + offset], [0.0, step, top + offset]])
    return small, matrix[:, :2] @ back + np.array([[0, 0, 1.0]]) * matrix[:, 2:]


def cut_crops(frames: np.ndarray, plan: CropPlan, numbers: range | None = None) -> np.ndarray:
    """Crops of consecutive frames.

    Args:
        frames: (n, H, W, 3) uint8 RGB.
        numbers: which of the plan's crops; None: all.

    Returns:
        (n, size, size, 3) uint8.
    """
    numbers = range(len(plan.matrices)) if numbers is None else numbers
    return np.stack(
        [
            cut_crop(frame, plan.matrices[number], plan.size, plan.border)
            for frame, number in zip(frames, numbers, strict=True)
        ]
    )


def crop_blocks(
    video: FrameReader, track: Track, plan: CropPlan, *, every: int = 1
) -> Iterator[np.ndarray]:
    """Crops of a track in order, in blocks (n, size, size, 3) of bounded memory."""
    done = 0
    for block in video.blocks(every=every, first=track.first * every):
        block = block[: len(track) - done]
        yield cut_crops(block, plan, range(done, done + len(block)))
        done += len(block)
        if done == len(track):
            return


def cut_track(video: FrameReader, track: Track, plan: CropPlan, *, every: int = 1) -> np.ndarray:
    """All crops of a track: (T, size, size, 3) uint8 RGB."""
    return np.concatenate(list(crop_blocks(video, track, plan, every=every)))
