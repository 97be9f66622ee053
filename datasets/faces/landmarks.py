"""Landmarks as data beside the frames: finding their files, checking them, eyes and mouth.

A file is an npz with `landmarks` (T, 68, 2), pixels (x, y) of the stored frames in the order of the
frames, the centre of the first pixel being (0, 0), NaN where a frame shows no face; and possibly
`fps`. `preprocess.faces --landmarks` writes such files, and `preprocess.synthetic` exact ones.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from svfap.datasets.faces.geometry import EYES, MOUTH
from svfap.datasets.files import read_arrays, replacing
from svfap.datasets.labels.listing import VIDEO_SUFFIXES
from svfap.datasets.video.store import split_store_path

NUM_POINTS = 68
FILE_NAME = "landmarks.npz"  # in a frame folder, or in the folder of face.mp4
SUFFIX = ".landmarks.npz"  # of a video or image: clip.mp4 -> clip.landmarks.npz
ANNOTATION = "annotation"  # the folder of drawn data sets with a file per clip
DEPTH = 6  # folders above a video in which ANNOTATION is looked for

BORDER_PX = 10  # more of the eyes' box, above and below
PART_SIZE = 64  # side of what is described, in pixels


class LandmarkError(ValueError):
    """A landmark file that cannot be used, or does not belong to its video."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of all frames of one video."""

    points: np.ndarray  # (T, 68, 2) float32, pixels (x, y) of the frames; NaN rows: no face
    fps: float | None = None  # frames per second, None if unknown
    path: str = ""  # the file they come from, for messages

    def __post_init__(self) -> None:
        points = np.asarray(self.points, np.float32)
        object.__setattr__(self, "points", points)
        where = f"{self.path}: " if self.path else ""
        if points.ndim != 3 or points.shape[1:] != (NUM_POINTS, 2) or not len(points):
            raise LandmarkError(
                f"{where}landmarks of shape {points.shape}; expected (frames, {NUM_POINTS}, 2)"
            )
        partial = ~np.isfinite(points).all((1, 2)) & ~np.isnan(points).all((1, 2))
        if partial.any():
            raise LandmarkError(
                f"{where}frame {int(np.flatnonzero(partial)[0])} has some landmarks that are not "
                "finite; a frame has all of them, or only NaN (no face)"
            )
        if self.fps is not None and not (np.isfinite(self.fps) and self.fps > 0):
            raise LandmarkError(f"{where}fps is {self.fps}; it must be positive")

    def __len__(self) -> int:
        return len(self.points)

    @property
    def has_face(self) -> np.ndarray:
        """(T,) bool, frames with landmarks."""
        return ~np.isnan(self.points[:, 0, 0])

    def check_length(self, num_frames: int, video: str) -> "Landmarks":
        """These landmarks, if there are as many as frames."""
        if len(self) != num_frames:
            raise LandmarkError(
                f"{self.path or 'landmarks'}: {len(self)} rows for the {num_frames} frames of "
                f"{video}; they are of other frames: write them again (preprocess.faces "
                "--landmarks), or remove the file to go without"
            )
        return self


def read_landmarks(path: str | os.PathLike) -> Landmarks:
    """Read and check a file.

    Raises:
        LandmarkError: not an npz file with landmarks as described in the module.
    """
    path = os.fspath(path)
    try:
        arrays = read_arrays(path, ["landmarks"], optional=["fps"])
    except (OSError, ValueError) as error:
        raise LandmarkError(str(error)) from error
    points, fps = arrays["landmarks"], arrays.get("fps", np.array(np.nan))
    if not np.issubdtype(points.dtype, np.floating):
        raise LandmarkError(f"{path}: landmarks are {points.dtype}; expected floats")
    if fps.size != 1 or not np.issubdtype(fps.dtype, np.number):
        raise LandmarkError(f"{path}: fps is {fps}; expected one number, NaN if unknown")
    return Landmarks(points, None if np.isnan(fps).all() else float(fps.item()), path)


def write_landmarks(path: str | os.PathLike, points: np.ndarray, fps: float | None = None) -> None:
    """Write a file, completely or not at all.

    Args:
        points: (T, 68, 2) pixels.
        fps: frames per second, None if unknown.
    """
    checked = Landmarks(points, fps)
    known = np.array(np.nan if fps is None else fps)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, landmarks=checked.points, fps=known)


def landmarks_for(
    path: str | os.PathLike, root: str | os.PathLike | None = None
) -> Landmarks | None:
    """Landmarks of a video, frame folder, image or packed video; None where there are none.

    Looked for, in this order: below `root`, if given; beside the frames (`landmarks.npz` in a frame
    folder or beside `face.mp4`, `clip.landmarks.npz` beside `clip.mp4`); in the folder
    `annotation` of a drawn data set.

    Args:
        root: a folder with the same tree as the videos; how much of the path leads there is tried
            out, the longest part first.

    Raises:
        LandmarkError: the file that was found cannot be used.
    """
    file = find_landmarks(path, root)
    return None if file is None else read_landmarks(file)


def find_landmarks(path: str | os.PathLike, root: str | os.PathLike | None = None) -> Path | None:
    """The file that `landmarks_for` reads; None where there is none."""
    return next((file for file in _candidates(os.fspath(path), root) if file.is_file()), None)


def _candidates(path: str, root: str | os.PathLike | None) -> Iterator[Path]:
    packed = split_store_path(path)
    is_folder = os.path.isdir(path)
    video = Path(packed[1] if packed else path)
    if not is_folder and (not packed or video.suffix.lower() in VIDEO_SUFFIXES):
        video = video.with_suffix("")
    if root is not None:
        yield from _below(Path(root), video.parts[1:] if video.is_absolute() else video.parts)
    if packed:
        return
    if is_folder:
        yield video / FILE_NAME
    else:
        yield video.with_name(video.name + SUFFIX)
        if video.name == "face":
            yield video.with_name(FILE_NAME)
    for number, above in enumerate(video.absolute().parents):
        if number == DEPTH:
            return
        folder = above / ANNOTATION
        if folder.is_dir():
            yield from _below(folder, video.absolute().parts[len(above.parts) :])


def _below(root: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """Places below a folder, the longest part of the video's path first."""
    for start in range(len(parts)):
        place = root.joinpath(*parts[start:])
        yield place.with_name(place.name + SUFFIX)
        yield place.with_name(f"{place.name}.npz")
        yield place / FILE_NAME


def eye_and_mouth(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of both eyes and of the mouth, what false negatives are told by (SSL-FER Sec. 3.3).

    Args:
        image: (H, W, 3) uint8.
        points: (68, 2) pixels.

    Returns:
        Eyes and mouth, (PART_SIZE, PART_SIZE, 3) uint8 each, stretched to squares; what lies
        outside the image repeats its border.

    Raises:
        LandmarkError: NaN landmarks.
    """
    if not np.isfinite(points).all():
        raise LandmarkError("landmarks are NaN: this frame shows no face")
    return _stretched(image, points[EYES], BORDER_PX), _stretched(image, points[MOUTH], 0)


def _stretched(image: np.ndarray, points: np.ndarray, border_px: int) -> np.ndarray:
    """The upright box around some points, borders above and below added, as a square."""
    left, top = points.min(0) - (0.5, 0.5 + border_px)
    right, bottom = points.max(0) + (0.5, 0.5 + border_px)
    across, down = PART_SIZE / max(right - left, 1.0), PART_SIZE / max(bottom - top, 1.0)
    matrix = np.array([[across, 0, -across * left - 0.5], [0, down, -down * top - 0.5]])
    return cv2.warpAffine(
        np.ascontiguousarray(image), matrix, (PART_SIZE, PART_SIZE),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
