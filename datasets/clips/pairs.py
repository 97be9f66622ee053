"""Which frames of a video become positives and hard negatives (SSL-FER Sec. 3.1-3.2).

A place is the first frame of a clip; for image encoders a clip is one frame. Times are in seconds,
so that they mean the same at any frame rate.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

TIME_AUG = ("none", "uniform", "rising", "falling")


@dataclass(frozen=True, kw_only=True)
class PairRule:
    """How the pairs of a video are drawn.

    TimeAug: the positive is another clip of the same video, an interval away whose probability is
    uniform, or rises or falls linearly over the whole numbers of frames from `interval_seconds[0]`
    to `[1]`, both rounded to frames; its direction is random. At the paper's 25/6 frames per second
    and 0.5 to 1.4 seconds these are 2 to 6 frames, falling as 5:4:3:2:1.

    HardNeg: a second pair from the same video.

    Deviation: every frame of the second pair is at least the gap away from every frame of the
    first; in the paper this holds for the two anchors only, so that a positive may come closer to
    the other anchor than positives are to each other.
    """

    time_aug: str = "none"  # of `TIME_AUG`; "none": both clips of a pair are the same frames
    interval_seconds: tuple[float, float] = (0.5, 1.4)  # shortest and longest interval of a pair
    hard_negatives: bool = False  # two pairs per video instead of one
    gap_seconds: float = 3.0  # between two pairs of a video; rounded up to frames
    span_frames: int = 1  # frames from the first to the last of a clip, 1 for single frames

    def __post_init__(self) -> None:
        """Check the values."""
        if self.time_aug not in TIME_AUG:
            raise ValueError(f"--time_aug {self.time_aug!r}: choose among {', '.join(TIME_AUG)}")
        low, high = self.interval_seconds
        if not 0 < low <= high < math.inf:
            raise ValueError(
                f"--time_interval {low:g} {high:g}: give seconds with 0 < MIN <= MAX, e.g. 0.5 1.4"
            )
        if not 0 < self.gap_seconds < math.inf:
            raise ValueError(
                f"--hard_negative_gap {self.gap_seconds:g}: give more than 0 seconds, e.g. 3"
            )
        if self.span_frames < 1:
            raise ValueError(f"a clip spans {self.span_frames} frames: it must be 1 or more")

    @property
    def num_pairs(self) -> int:
        """Pairs per video."""
        return 2 if self.hard_negatives else 1

    @property
    def needs_time(self) -> bool:
        """Whether frame rate and length of the videos matter."""
        return self.time_aug != "none" or self.hard_negatives

    def intervals(self, rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Possible intervals in frames, ascending, and their probabilities."""
        if self.time_aug == "none":
            return np.zeros(1, np.int64), np.ones(1)
        low, high = (max(1, round(seconds * rate)) for seconds in self.interval_seconds)
        offsets = np.arange(low, high + 1)
        weights = {
            "uniform": np.ones(len(offsets)),
            "rising": np.arange(1.0, len(offsets) + 1),
            "falling": np.arange(len(offsets), 0.0, -1),
        }[self.time_aug]
        return offsets, weights / weights.sum()

    def gap(self, rate: float) -> int:
        """Frames from one pair's last clip to the first of the other pair, between their starts."""
        frames = math.ceil(self.gap_seconds * rate - 1e-6)
        return frames + self.span_frames - 1

    def shortest(self, rate: float) -> int:
        """Frames a video must have for the shortest interval (and the gap)."""
        shift = int(self.intervals(rate)[0][0])
        needed = 2 * shift + self.gap(rate) if self.hard_negatives else shift
        return needed + self.span_frames if needed else 1

    def draw(self, rng: np.random.Generator, num_frames: int, rate: float) -> np.ndarray:
        """Draw the places of a video's pairs.

        Intervals that do not fit into the video are left out of their distribution.

        Args:
            rate: its frames per second; any number where `needs_time` is False.

        Returns:
            (num_pairs, 2) int64: places of anchor and positive. In a video shorter than a clip
            the place is 0.

        Raises:
            ValueError: the video is shorter than `shortest`.
        """
        if self.needs_time and num_frames < self.shortest(rate):
            raise ValueError(
                f"{num_frames} frames at {rate:.3g} per second: pairs need {self.shortest(rate)}"
            )
        last = max(num_frames - self.span_frames, 0)
        options, probabilities = _options(self, rate, last)
        shifts = options[rng.choice(len(options), p=probabilities)]  # (num_pairs,)
        gap = self.gap(rate) if self.hard_negatives else 0
        free = last - int(shifts.sum()) - gap
        starts = np.sort(rng.integers(0, free + 1, self.num_pairs))
        if self.hard_negatives:
            starts[1] += shifts[0] + gap
        places = np.stack([starts, starts + shifts], axis=1)
        backwards = rng.random(self.num_pairs) < 0.5
        places[backwards] = places[backwards, ::-1]
        return places[rng.permutation(self.num_pairs)]


@lru_cache(maxsize=4096)
def _options(rule: PairRule, rate: float, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of all pairs of a video that fit below place `last`, and their probabilities.

    Returns:
        (n, num_pairs) int64 and (n,).
    """
    offsets, weights = rule.intervals(rate)
    if not rule.hard_negatives:
        options, products = offsets[:, None], weights
        fits = offsets <= last
    else:
        first, second = np.meshgrid(offsets, offsets, indexing="ij")
        options = np.stack([first.ravel(), second.ravel()], axis=1)
        products = np.outer(weights, weights).ravel()
        fits = options.sum(1) + rule.gap(rate) <= last
    options, products = options[fits], products[fits]
    return options, products / products.sum()
