"""Where a dataset's frames come from: opening, reading, cutting the face window, notes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.labels.frame_labels import FrameLabels
from svfap.datasets.video.frame_index import FrameIndex
from svfap.datasets.video.open_video import FrameReader, open_video

SHORT = "short"


class VideoNote(NamedTuple):
    """Something to report about a video."""

    path: str
    # "skipped" (training: the next readable row took its place), "unreadable" (evaluation: its view
    # is a black clip that must not count), "truncated" (used as far as it goes; also for other
    # damage), or `SHORT` (all its frames are shown, see `sampling.bearable_rate`)
    status: str
    reason: str


def cut_window(
    frames: np.ndarray, window: tuple[int, int, int, int] | None, path: str
) -> np.ndarray:
    """Cut the face window out of frames.

    Args:
        frames: (T, H, W, 3).
        window: (top, left, height, width) in pixels; None keeps all.

    Raises:
        ValueError: the window is not inside the frame.
    """
    if window is None:
        return frames
    top, left, height, width = window
    frame_height, frame_width = frames.shape[1:3]
    fits = top >= 0 and left >= 0 and top + height <= frame_height and left + width <= frame_width
    if not fits or height < 1 or width < 1:
        raise ValueError(
            f"{path}: the face window (top {top}, left {left}, {height} x {width} px) does not fit "
            f"its frames of {frame_height} x {frame_width} px (height x width); choose another "
            "with --face_window TOP LEFT HEIGHT WIDTH, or bring the videos to one size"
        )
    return frames[:, top : top + height, left : left + width]


def window_to_cut(
    wanted: tuple[int, int, int, int] | None, video: FrameReader
) -> tuple[int, int, int, int] | None:
    """What is still to be cut from a video's frames: nothing if a packed store has done it.

    Args:
        wanted: the run's face window; None: the whole frame, or what the store has of it.
    """
    if video.window is None or wanted is None:
        return wanted
    if tuple(wanted) != video.window:
        raise ValueError(
            f"{video.path}: its store holds the window (top, left, height, width) = "
            f"{video.window} of the frames, this run wants {tuple(wanted)}; leave --face_window "
            "out, or pack the videos again with that window or --whole_frames"
        )
    return None


class ClipSource(Dataset):
    """What all datasets share: where the frames come from.

    Args:
        clip_frames: T, frames of a clip.
        stride: distance in frames of neighbouring frames of a clip.
        size: side of the square clips in pixels.
        face_window: (top, left, height, width) in pixels of the used part of a frame; None: all.
    """

    def __init__(
        self,
        *,
        annotations: Annotations,
        clip_frames: int,
        stride: int,
        size: int,
        face_window: tuple[int, int, int, int] | None = None,
        backend: str = "auto",
    ):
        self.annotations = annotations
        self.clip_frames = clip_frames
        self.stride = stride
        self.size = size
        self.face_window = face_window
        self.backend = backend
        self.frame_index = FrameIndex.beside(annotations.path)

    @property
    def clips_per_item(self) -> int:
        """Clips of an item, at most."""
        raise NotImplementedError

    @property
    def item_bytes(self) -> int:
        """Size of an item's clips, at most."""
        return self.clips_per_item * self.clip_frames * self.size**2 * 3

    def read_frames(
        self, index: int, choose: Callable[[int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, list[VideoNote]]:
        """Indices that `choose` picks (any shape), their frames within the window, and notes.

        Where frames have labels of their own, only those with a label are offered to `choose`.
        """
        path, name = self.annotations.paths[index], self.annotations.ids[index]
        labels = self.annotations.labels
        limit = int(labels.lengths[index]) if isinstance(labels, FrameLabels) else None
        known = self.frame_index.get(name)
        with open_video(path, backend=self.backend, known=known) as video:
            indices, frames = video.read_chosen(
                lambda count: choose(count if limit is None else min(count, limit))
            )
            if video.counted:
                self.frame_index.add(name, video.counted)
            window = window_to_cut(self.face_window, video)
            notes = _notes(video, limit)
            if not notes and self.clip_frames > 1 and 1 < video.num_frames < self.stride:
                reason = f"{video.num_frames} frames, fewer than the sampling rate {self.stride}"
                notes = [VideoNote(path, SHORT, reason)]
        return indices, cut_window(frames, window, path), notes

    def labels_of(self, index: int, indices: np.ndarray) -> np.ndarray:
        """Labels of the clips of a video.

        Args:
            indices: (S, T) frames of the clips.

        Returns:
            The video's label once per clip, (S,) or (S, H) int64 or (S, L) float32; where frames
            have labels, theirs, (S, T, L) float32.
        """
        labels = self.annotations.labels
        if isinstance(labels, FrameLabels):
            return labels[index][indices]
        return np.repeat(labels[index : index + 1], len(indices), axis=0)


def _notes(video: FrameReader, num_labels: int | None = None) -> list[VideoNote]:
    """What is wrong with a video, or with the number of its labels."""
    reason = video.problem
    if not reason and num_labels not in (None, video.num_frames):
        used = min(num_labels, video.num_frames)
        reason = f"{num_labels} labels for {video.num_frames} frames: the first {used} are used"
    return [VideoNote(video.path, "truncated", reason)] if reason else []
