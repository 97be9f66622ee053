"""Labels of every frame: one npz file per video, with an array over frames for each dimension."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from svfap.datasets.files import MissingArraysError, read_arrays

THREADS = 16


class FrameLabels(Sequence):
    """The labels of all frames of all videos, in one array that loader workers share.

    Args:
        values: (sum of lengths, L) float32, video after video.
        lengths: (n,) labelled frames of each video.
    """

    def __init__(self, values: np.ndarray, lengths: np.ndarray):
        self.lengths = np.asarray(lengths, np.int64)
        self._ends = np.cumsum(self.lengths)
        self.values = np.asarray(values, np.float32)
        if self.values.ndim != 2 or len(self.values) != self.lengths.sum():
            raise ValueError(
                f"values of shape {self.values.shape} for {self.lengths.sum()} frames; they must "
                "be (frames, dimensions)"
            )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index):
        """(T, L) of a video; the labels of some videos for an array or list of rows."""
        if isinstance(index, (int, np.integer)):
            index = range(len(self))[index]
            return self.values[self._ends[index] - self.lengths[index] : self._ends[index]]
        rows = np.arange(len(self))[index]
        values = [self[int(row)] for row in rows]
        return FrameLabels(np.concatenate(values), self.lengths[rows])

    def __repr__(self) -> str:
        frames, dimensions = self.values.shape
        return f"FrameLabels({len(self)} videos, {frames} frames, {dimensions} dimensions)"


def read_frame_labels(
    files: Sequence[str], names: Sequence[str]
) -> tuple[FrameLabels, list[tuple[int, str]]]:
    """Read the label files of all videos.

    Args:
        files: n npz files.
        names: the L dimensions: names of arrays (T,) in each file, one number per frame.

    Returns:
        The labels (one frame of zeros where a file cannot be used), and the problems as (place in
        `files`, what is wrong).
    """
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda path: _read(path, names), files))
    problems = [(place, found) for place, found in enumerate(read) if isinstance(found, str)]
    nothing = np.zeros((1, len(names)), np.float32)
    values = [nothing if isinstance(found, str) else found for found in read]
    return FrameLabels(np.concatenate(values), np.array(list(map(len, values)))), problems


def _read(path: str, names: Sequence[str]) -> np.ndarray | str:
    """(T, L) labels, or why there are none."""
    try:
        columns = list(read_arrays(path, names).values())
    except FileNotFoundError:
        return f"label file does not exist: {path}"
    except MissingArraysError as error:
        return f"label file {error}; classes.json names the arrays"
    except ValueError as error:
        return f"label file {error}"
    shapes = {name: column.shape for name, column in zip(names, columns)}
    if len(set(shapes.values())) > 1 or columns[0].ndim != 1 or not len(columns[0]):
        return f"label file {path}: arrays must be of shape (frames,), equally long; got {shapes}"
    if not all(np.issubdtype(c.dtype, np.number) and np.isfinite(c).all() for c in columns):
        return f"label file {path}: labels must be finite numbers"
    return np.stack(columns, axis=1).astype(np.float32)
