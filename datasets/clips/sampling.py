"""Which frames of a video a clip consists of.

The training rules are those of the released code, because published numbers depend on them
(pinned by tests/golden/frame_indices.json). All indices are 0-based, int64, (T,) for a clip of T
`clip_frames`, and repeat frames where a video is too short. A clip spans
`clip_frames * sampling_rate` frames of the video.
"""

import numpy as np

from svfap.datasets.checks import at_least


def _check(num_frames: int, clip_frames: int, sampling_rate: int) -> int:
    """Return the clip's span in frames."""
    at_least(1, num_frames=num_frames, clip_frames=clip_frames, sampling_rate=sampling_rate)
    return clip_frames * sampling_rate


def bearable_rate(num_frames: int, sampling_rate: int) -> int:
    """The rate at which a video is sampled: 1 where it is shorter than one step.

    Deviation: the released rules take a single frame of such a video, another one in training than
    in the test.
    """
    return sampling_rate if num_frames >= sampling_rate else 1


def train_clip_indices(
    num_frames: int, clip_frames: int, sampling_rate: int, clip_end: int | None = None
) -> np.ndarray:
    """Frames of a fine-tuning clip: evenly spread over the span that ends at `clip_end`.

    A video no longer than the span is covered as a whole, then its last frame is repeated.

    Args:
        clip_end: end of the span (exclusive), span <= clip_end < num_frames; None only for
            videos no longer than the span.
    """
    span = _check(num_frames, clip_frames, sampling_rate)
    if num_frames <= span:
        num_spread = num_frames // sampling_rate
        spread = np.linspace(0, num_frames, num=num_spread)
        indices = np.append(spread, np.full(clip_frames - num_spread, num_frames))
        return np.clip(indices, 0, num_frames - 1).astype(np.int64)
    if clip_end is None or not span <= clip_end < num_frames:
        raise ValueError(
            f"clip_end is {clip_end}: for {num_frames} frames it must be {span} to {num_frames - 1}"
        )
    indices = np.linspace(clip_end - span, clip_end, num=clip_frames)
    return np.clip(indices, 0, clip_end - 1).astype(np.int64)


def draw_train_clip(
    rng: np.random.Generator, num_frames: int, clip_frames: int, sampling_rate: int
) -> np.ndarray:
    """`train_clip_indices` at a random place."""
    span = _check(num_frames, clip_frames, sampling_rate)
    clip_end = int(rng.integers(span, num_frames)) if num_frames > span else None
    return train_clip_indices(num_frames, clip_frames, sampling_rate, clip_end)


def middle_clip_indices(num_frames: int, clip_frames: int, sampling_rate: int) -> np.ndarray:
    """Frames of the validation clip: the fine-tuning rule, half-way between its extremes.

    Deviation: the released code draws this clip at random, which makes validation noisy.
    """
    span = _check(num_frames, clip_frames, sampling_rate)
    clip_end = span + (num_frames - span) // 2 if num_frames > span else None
    return train_clip_indices(num_frames, clip_frames, sampling_rate, clip_end)


def pretrain_clip_indices(
    num_frames: int, clip_frames: int, sampling_rate: int, first_frame: int = 0
) -> np.ndarray:
    """Frames of a pre-training clip: every `sampling_rate`-th from `first_frame` on.

    Stepping stops before the last frame of the video would be passed; the frame reached is
    repeated.

    Args:
        first_frame: 0-based start, 0 <= first_frame < num_frames.
    """
    _check(num_frames, clip_frames, sampling_rate)
    if not 0 <= first_frame < num_frames:
        raise ValueError(f"first_frame is {first_frame}: it must be 0 to {num_frames - 1}")
    max_steps = -(-(num_frames - 1 - first_frame) // sampling_rate) - 1
    steps = np.minimum(np.arange(clip_frames), max(max_steps, 0))
    return (first_frame + sampling_rate * steps).astype(np.int64)


def draw_pretrain_clip(
    rng: np.random.Generator, num_frames: int, clip_frames: int, sampling_rate: int
) -> np.ndarray:
    """`pretrain_clip_indices` at a random place."""
    span = _check(num_frames, clip_frames, sampling_rate)
    first_frame = int(rng.integers(0, max(num_frames - span, 0) + 1))
    return pretrain_clip_indices(num_frames, clip_frames, sampling_rate, first_frame)


def eval_view_indices(
    num_frames: int, clip_frames: int, sampling_rate: int, num_segments: int
) -> np.ndarray:
    """Frames of the test clips: the video is thinned out first, then cut into uniform segments.

    Args:
        sampling_rate: every how many-th frame is kept.
        num_segments: clips per video; they overlap or coincide in short videos. One segment is
            the middle one (the released code divides by zero).

    Returns:
        (num_segments, T) int64.
    """
    _check(num_frames, clip_frames, sampling_rate)
    at_least(1, num_segments=num_segments)
    kept = np.arange(0, num_frames, sampling_rate)
    kept = np.append(kept, np.full(max(clip_frames - len(kept), 0), kept[-1]))
    room = len(kept) - clip_frames
    if num_segments == 1:
        starts = np.array([room // 2])
    else:
        starts = (np.arange(num_segments) * (room / (num_segments - 1))).astype(np.int64)
    return kept[starts[:, None] + np.arange(clip_frames)].astype(np.int64)


def distinct_views(indices: np.ndarray, num_crops: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge views that show the same frames.

    Test views are whole frames resized to a square, so crops of one segment are identical, and
    so are the segments of short videos.

    Args:
        indices: (S, T) frames of the segments.

    Returns:
        (v, T) distinct rows in order of first appearance, and (v,) int64 how many of the
        S * num_crops views each stands for.
    """
    at_least(1, num_crops=num_crops)
    _, first, counts = np.unique(indices, axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    return indices[first[order]], counts[order] * num_crops
