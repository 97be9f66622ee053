"""The clips that an evaluation of every frame looks at: windows sliding over whole videos."""

import numpy as np

from svfap.datasets.augment.transforms import resize_square
from svfap.datasets.checks import at_least
from svfap.datasets.clips.source import ClipSource, VideoNote
from svfap.datasets.clips.timeline import window_indices
from svfap.datasets.labels.frame_labels import FrameLabels
from svfap.datasets.video.open_video import UnreadableVideoError

WINDOWS_PER_ITEM = 8


class FrameViews(ClipSource):
    """Windows that cover the labelled frames of each video; a video on exactly one process.

    A long video is divided into items of a few windows each. Item i is a dict of `clip`
    (v, T, size, size, 3) uint8, not augmented; `frames` (v, T) int64, the video's frames in it;
    `num_frames` (v,), labelled frames of the video; `index` (v,) the row; `notes`. A video that
    turns out to be shorter than its labels may leave v = 0 to its last items.

    Args:
        window_stride: frames between the starts of neighbouring windows.
        rank: this process; it has the rows rank, rank + world_size, ...
    """

    def __init__(
        self,
        *,
        window_stride: int,
        rank: int = 0,
        world_size: int = 1,
        **source,
    ):
        super().__init__(**source)
        labels = self.annotations.labels
        if not isinstance(labels, FrameLabels):
            raise ValueError(
                f"{self.annotations.path} has labels per video, not per frame: take EvalViews"
            )
        at_least(1, window_stride=window_stride)
        self.window_stride = window_stride
        self.items = [
            (row, start)
            for row in range(rank, len(labels), world_size)
            for start in range(0, len(self._windows(int(labels.lengths[row]))), WINDOWS_PER_ITEM)
        ]

    @property
    def clips_per_item(self) -> int:
        """See `ClipSource`."""
        return WINDOWS_PER_ITEM

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: int) -> dict:
        index, start = self.items[item]
        chosen, num_frames = np.zeros((0, self.clip_frames), np.int64), 0

        def choose(count: int) -> np.ndarray:
            nonlocal chosen, num_frames
            num_frames = count
            chosen = self._windows(count)[start : start + WINDOWS_PER_ITEM]
            return np.unique(chosen) if len(chosen) else np.zeros(1, np.int64)

        try:
            needed, frames, notes = self.read_frames(index, choose)
            clips = resize_square(frames, self.size)[np.searchsorted(needed, chosen)]
            notes = notes if start == 0 else []
        except UnreadableVideoError as error:
            notes = [VideoNote(error.path, "unreadable", error.reason)]
            chosen = chosen[:0]
            clips = np.zeros((0, self.clip_frames, self.size, self.size, 3), np.uint8)
        return {
            "clip": clips,
            "frames": chosen,
            "num_frames": np.full(len(clips), num_frames, np.int64),
            "index": np.full(len(clips), index, np.int64),
            "notes": notes,
        }

    def _windows(self, num_frames: int) -> np.ndarray:
        return window_indices(num_frames, self.clip_frames, self.stride, self.window_stride)
