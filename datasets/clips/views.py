"""The clips an evaluation looks at."""

import numpy as np

from svfap.datasets.augment.transforms import resize_square
from svfap.datasets.checks import at_least
from svfap.datasets.clips.sampling import (
    bearable_rate,
    distinct_views,
    eval_view_indices,
    middle_clip_indices,
)
from svfap.datasets.clips.source import ClipSource, VideoNote
from svfap.datasets.video.open_video import UnreadableVideoError


class EvalViews(ClipSource):
    """Each video's distinct views, not augmented; every video on exactly one process.

    Frames are resized to the square, so the crops of one segment are the same picture and short
    videos give the same segment twice: each distinct view is made once, with the number of views
    it stands for as its weight. Decoding a video once serves all its views.

    Item i is a dict of `clip` (v, T, size, size, 3) uint8, `label` (v, ...), `view_weight`
    (v,) float32 adding up to num_segments * num_crops, `index` (v,) the row, `notes`.

    Args:
        num_crops: crops per clip of the protocol that is reproduced.
        middle: the one middle clip instead (validation).
        rank: this process; it has the rows rank, rank + world_size, ...
        source: those of `ClipSource`.
    """

    def __init__(
        self,
        *,
        num_segments: int = 2,
        num_crops: int = 2,
        middle: bool = False,
        rank: int = 0,
        world_size: int = 1,
        **source,
    ):
        super().__init__(**source)
        at_least(1, num_segments=num_segments, num_crops=num_crops)
        self.num_segments = 1 if middle else num_segments
        self.num_crops = 1 if middle else num_crops
        self.middle = middle
        self.rows = range(rank, len(self.annotations), world_size)

    @property
    def clips_per_item(self) -> int:
        """See `ClipSource`; crops of the same frames are the same picture."""
        return self.num_segments

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict:
        index = self.rows[item]
        try:
            clips, indices, weights, notes = self._views(index)
        except UnreadableVideoError as error:
            notes = [VideoNote(error.path, "unreadable", error.reason)]
            clips = np.zeros((1, self.clip_frames, self.size, self.size, 3), np.uint8)
            indices = np.zeros((1, self.clip_frames), np.int64)
            weights = np.array([self.num_segments * self.num_crops])
        return {
            "clip": clips,
            "label": self.labels_of(index, indices),
            "view_weight": weights.astype(np.float32),
            "index": np.full(len(clips), index, np.int64),
            "notes": notes,
        }

    def _views(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[VideoNote]]:
        """Distinct views (v, T, size, size, 3), their frames (v, T), weights (v,), and notes."""
        views = None

        def choose(num_frames: int) -> np.ndarray:
            nonlocal views
            views = distinct_views(self._view_indices(num_frames), self.num_crops)
            return np.unique(views[0])

        needed, frames, notes = self.read_frames(index, choose)
        frames = resize_square(frames, self.size)
        return frames[np.searchsorted(needed, views[0])], *views, notes

    def _view_indices(self, num_frames: int) -> np.ndarray:
        """(num_segments, T) frames of the segments."""
        stride = bearable_rate(num_frames, self.stride)
        if self.middle:
            return middle_clip_indices(num_frames, self.clip_frames, stride)[None]
        return eval_view_indices(num_frames, self.clip_frames, stride, self.num_segments)
