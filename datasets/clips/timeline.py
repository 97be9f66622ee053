"""Time in a video, and the windows that slide over it.

A window is sampled as in testing: the video is thinned out to every `sampling_rate`-th frame, and
a run of T of those is a clip. Videos whose frames are not evenly spaced, or not at the rate of the
training data, are first brought to that rate by taking the frame nearest in time.
"""

import numpy as np

from svfap.datasets.clips.sampling import bearable_rate, distinct_views, eval_view_indices
from svfap.datasets.video.open_video import FrameReader

DEFAULT_FPS = 25.0  # of frames that have no time


def frame_times(video: FrameReader, fps: float | None = None) -> np.ndarray:
    """Seconds of each frame from the first one: (num_frames,), increasing.

    Args:
        fps: of frames without time, 25 if None.
    """
    times = video.times()
    return np.arange(video.num_frames) / (fps or DEFAULT_FPS) if times is None else times


def even_frames(times: np.ndarray, fps: float | None) -> np.ndarray:
    """Which frames to show to play a video at an even rate.

    Args:
        times: (n,) seconds, increasing.
        fps: the rate; None keeps every frame once.

    Returns:
        (m,) int64 indices, nearest in time; simply 0 .. n - 1 where the video has that rate.
    """
    count = len(times)
    if fps is None or count < 2:
        return np.arange(count)
    ticks = (times - times[0]) * fps
    if np.abs(ticks - np.arange(count)).max() < 0.5:
        return np.arange(count)
    wanted = np.arange(int(round(ticks[-1])) + 1)
    after = np.clip(np.searchsorted(ticks, wanted), 1, count - 1)
    nearer_before = wanted - ticks[after - 1] <= ticks[after] - wanted
    return (after - nearer_before).astype(np.int64)


def window_indices(
    num_frames: int, clip_frames: int, sampling_rate: int, window_stride: int
) -> np.ndarray:
    """Frames of the sliding windows; the last window ends where the video does.

    Args:
        clip_frames: T.
        sampling_rate: distance of neighbouring frames of a clip.
        window_stride: frames between the starts of windows; 0: the two of the test protocol.

    Returns:
        (n, T) int64, distinct rows in order; short videos repeat their last frame.
    """
    sampling_rate = bearable_rate(num_frames, sampling_rate)
    if window_stride == 0:
        views = eval_view_indices(num_frames, clip_frames, sampling_rate, 2)
        return distinct_views(views, 1)[0]
    kept = np.arange(0, num_frames, sampling_rate)
    kept = np.append(kept, np.full(max(clip_frames - len(kept), 0), kept[-1]))
    room, step = len(kept) - clip_frames, max(1, round(window_stride / sampling_rate))
    starts = np.append(np.arange(0, room, step), room)
    return kept[starts[:, None] + np.arange(clip_frames)].astype(np.int64)
