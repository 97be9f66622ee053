"""Pairs of clips (or single frames) of one video for contrastive learning (SSL-FER)."""

from collections.abc import Callable

import numpy as np

from svfap.datasets.augment.pair_views import ViewAugmentation
from svfap.datasets.clips.lengths import Lengths
from svfap.datasets.clips.pairs import PairRule
from svfap.datasets.clips.training import TrainingClips
from svfap.datasets.faces.landmarks import PART_SIZE, Landmarks, eye_and_mouth, landmarks_for
from svfap.datasets.faces.swap import swapped_points
from svfap.datasets.loading.order import SampleKey
from svfap.datasets.video.open_video import UnreadableVideoError
from svfap.datasets.video.store import open_store, split_store_path

DONOR_TRIES = 8
NOT_SWAPPED, SWAPPED, SWAP_FAILED = 0, 1, -1

# (image, its landmarks, donor image, donor's landmarks) -> image, None if it cannot be done
FaceSwap = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray | None]


class ContrastiveClips(TrainingClips):
    """Views of one or two pairs of clips of each video, drawn anew in every epoch.

    An item of key (epoch, index, copy) is a dict of S = 2 * `rule.num_pairs` views, those of a
    pair side by side, anchor first: `clip` (S, T, size, size, 3) uint8, `index` (S,) the row used,
    `notes`; with `describe` also `eyes` and `mouth` (S, 64, 64, 3) uint8 of the clip's middle frame
    as it was stored, and `described` (S,) bool; with `face_swap` `swap` (S,) int8, one of
    `NOT_SWAPPED`, `SWAPPED`, `SWAP_FAILED`.

    Args:
        lengths: of the videos; None where the rule does not need time.
        face_swap: probability that a positive gets another head.
        persons: (n,) who is in which video; needed with `face_swap`.
        landmarks_root: see `landmarks_for`.
        options: those of `TrainingClips` and `ClipSource`, except `size` and `clips_per_video`; no
            video shorter than `rule` needs, clips of one frame for image encoders.
    """

    def __init__(
        self,
        *,
        rule: PairRule,
        lengths: Lengths | None,
        augmentation: ViewAugmentation,
        describe: bool = False,
        face_swap: float = 0.0,
        swap: FaceSwap | None = None,
        persons: np.ndarray | None = None,
        landmarks_root: str | None = None,
        **options,
    ):
        super().__init__(size=augmentation.size, clips_per_video=2 * rule.num_pairs, **options)
        self.rule, self.lengths, self.augmentation = rule, lengths, augmentation
        self.describe, self.face_swap, self.swap, self.persons = describe, face_swap, swap, persons
        self.landmarks_root = landmarks_root
        self.needs_landmarks = describe or face_swap > 0 or augmentation.part_mask > 0

    def places(self, key: SampleKey, index: int, num_frames: int) -> np.ndarray:
        """Frames where the clips of a sample start: (num_pairs, 2), anchor first.

        Raises:
            UnreadableVideoError: the video is shorter than was found before training, or could not
                be opened then.
        """
        rate = self.lengths.rates[index] if self.lengths is not None else 1.0
        if np.isnan(rate):
            raise UnreadableVideoError(
                self.annotations.paths[index], "could not be opened before training"
            )
        if self.rule.needs_time and num_frames < self.rule.shortest(rate):
            raise UnreadableVideoError(
                self.annotations.paths[index], f"too short for pairs: {num_frames} frames"
            )
        even = self.lengths.even[index] if self.rule.needs_time else None
        if even is None:
            return self.rule.draw(self._generator(key, 0, "frames"), num_frames, rate)
        places = self.rule.draw(self._generator(key, 0, "frames"), len(even), rate)
        return np.minimum(even[places], num_frames - 1)

    def _sample(self, key: SampleKey, index: int) -> dict:
        length = 0

        def choose(num_frames: int) -> np.ndarray:
            nonlocal length
            length = num_frames
            starts = self.places(key, index, num_frames).reshape(-1, 1)
            steps = np.arange(self.clip_frames) * self.stride
            return np.minimum(starts + steps, num_frames - 1)  # (S, T)

        indices, frames, notes = self.read_frames(index, choose)
        points = self._points(index, indices, length if not notes else None)
        views = frames.reshape(*indices.shape, *frames.shape[1:])
        sample = {"index": np.full(len(views), index, np.int64), "notes": notes}
        if self.describe:
            sample |= self._descriptions(views, points)
        looks = [(view, points if points is None else points[i]) for i, view in enumerate(views)]
        if self.face_swap:
            sample["swap"] = self._swap_positives(key, index, looks)
        sample["clip"] = np.stack(
            [
                self.augmentation(
                    view, where, self._generator(key, i, "view"), always_jitter=i % 2 == 0
                )
                for i, (view, where) in enumerate(looks)
            ]
        )
        return sample

    def _points(
        self, index: int, indices: np.ndarray, num_frames: int | None = None
    ) -> np.ndarray | None:
        """Landmarks of frames (...,) of a video in pixels of its window, (..., 68, 2); or None."""
        if not self.needs_landmarks:
            return None
        path = self.annotations.paths[index]
        known = landmarks_for(path, self.landmarks_root)
        if known is None:
            return None
        if num_frames is not None:
            known.check_length(num_frames, path)
        return self._in_window(known, indices, path)

    def _in_window(self, known: Landmarks, indices: np.ndarray, path: str) -> np.ndarray:
        """Landmarks of frames (...,) in pixels of what is cut out of them, (..., 68, 2)."""
        last = len(known) - 1
        points = known.points[np.minimum(indices, last)].astype(np.float64)
        points[indices > last] = np.nan
        packed = split_store_path(path)
        window = (open_store(packed[0]).window if packed else None) or self.face_window
        if window is not None:
            points -= np.array([window[1], window[0]])
        return points

    def _descriptions(self, views: np.ndarray, points: np.ndarray | None) -> dict:
        """Eyes and mouth of the middle frames of views (S, T, H, W, 3)."""
        middle = views.shape[1] // 2
        blank = np.zeros((PART_SIZE, PART_SIZE, 3), np.uint8)
        patches, described = [], []
        for i, view in enumerate(views):
            seen = points is not None and np.isfinite(points[i, middle]).all()
            described.append(seen)
            patches.append(
                eye_and_mouth(view[middle], points[i, middle]) if seen else (blank, blank)
            )
        eyes, mouth = zip(*patches)
        return {
            "eyes": np.stack(eyes),
            "mouth": np.stack(mouth),
            "described": np.array(described, bool),
        }

    def _swap_positives(self, key: SampleKey, index: int, looks: list) -> np.ndarray:
        """Put the inner faces of positives on another person's head, in place; what became of it.

        All positives of a sample get the same donor (SSL-FER Sec. 3.1).
        """
        swapped = np.full(len(looks), NOT_SWAPPED, np.int8)
        chances = self._generator(key, 0, "swap").random(len(looks))
        wanted = [i for i in range(1, len(looks), 2) if chances[i] < self.face_swap]
        donor = self._donor(key, index) if wanted else None
        for i in wanted:
            found = self._swapped(*looks[i], donor) if donor else None
            swapped[i] = SWAPPED if found else SWAP_FAILED
            looks[i] = found or looks[i]
        return swapped

    def _swapped(self, view: np.ndarray, points: np.ndarray | None, donor: tuple):
        """A clip (T, H, W, 3) with a donor's head, and its landmarks; None if it fails."""
        if points is None or not np.isfinite(points).all():
            return None
        frames = [self.swap(frame, place, *donor) for frame, place in zip(view, points)]
        if any(frame is None for frame in frames):
            return None
        return np.stack(frames), np.stack([swapped_points(place, donor[1]) for place in points])

    def _donor(self, key: SampleKey, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """A random frame (H, W, 3) of another person, and its landmarks; None if none is found."""
        rng = self._generator(key, 0, "donor")
        rows = np.flatnonzero(self.persons != self.persons[index])
        for _ in range(DONOR_TRIES if len(rows) else 0):
            row = int(rows[rng.integers(len(rows))])
            path = self.annotations.paths[row]
            known = landmarks_for(path, self.landmarks_root)
            seen = [] if known is None else np.flatnonzero(known.has_face)
            if not len(seen):
                continue
            frame = np.array([seen[rng.integers(len(seen))]])
            try:
                shown, image, _ = self.read_frames(row, lambda count, frame=frame: frame % count)
            except UnreadableVideoError:
                continue
            return image[0], self._in_window(known, shown, path)[0]
        return None
