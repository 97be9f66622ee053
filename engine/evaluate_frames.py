"""Evaluation of every frame: windows slide over whole videos, metrics pool all frames."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from datasets import transforms
from datasets.annotations import Annotations
from engine.distributed import Workers
from engine.evaluate import Evaluated, note_problems, raise_unreadable
from engine.log import Progress
from engine.precision import Precision
from engine.tasks import Task


@dataclass
class _Track:
    """Sums of a video's predictions at the frames that windows have shown."""

    sums: np.ndarray  # (T, L)
    counts: np.ndarray  # (T,)

    def values(self) -> np.ndarray:
        """(T, L): the mean where a frame was shown, linear in between, constant outside."""
        return interpolate_shown(self.sums, self.counts)


def interpolate_shown(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Predictions of all frames from those of the frames that windows have shown.

    Args:
        sums: (T, L) sums of predictions.
        counts: (T,) how many predictions each frame has; at least one frame has some.

    Returns:
        (T, L) means of the shown frames, interpolated linearly to the frames between them;
        frames before the first and after the last take its value.
    """
    shown = np.flatnonzero(counts)
    means = sums[shown] / counts[shown, None]
    frames = np.arange(len(counts))
    return np.stack([np.interp(frames, shown, column) for column in means.T], axis=1)


@torch.inference_mode()
def evaluate_frames(
    model: nn.Module,
    loader: torch.utils.data.DataLoader,
    task: Task,
    *,
    annotations: Annotations,
    workers: Workers,
    precision: Precision,
    title: str = "evaluation",
) -> Evaluated:
    """Run a model over all windows of all videos.

    Args:
        model: fine-tuning model with `keep_temporal_dim`, not wrapped.
        loader: batches of `datasets.frame_views.FrameViews` of this process's videos.
        task: turns outputs into scores.
        annotations: all videos, with labels of every frame.
        workers: processes and device.
        precision: number format.
        title: what the progress shows.

    Returns:
        A row per frame, video after video.

    Raises:
        UnreadableInEvaluationError: lists every video that could not be read.
    """
    model.eval()
    tracks: dict[int, _Track] = {}
    unreadable: list[tuple[str, str]] = []
    progress = Progress(
        title,
        total=len(loader),
        done=0,
        clips_per_step=(loader.batch_size or 1) * workers.world_size,
        enabled=workers.is_main,
    )
    begun = time.monotonic()
    for batch in loader:
        progress.step(time.monotonic() - begun)
        note_problems(batch["notes"], unreadable)
        if len(batch["clip"]):
            clip = batch["clip"].to(workers.device, non_blocking=True)
            with precision.autocast():
                pixels = transforms.normalize(transforms.to_float(clip))
                scores = task.scores(model(pixels, per_frame=True))
            _add_windows(tracks, batch, scores.cpu().double().numpy())
        begun = time.monotonic()
        if progress.bar:
            progress.report(workers.device)
    progress.close()
    raise_unreadable(unreadable, workers)
    return _pool(tracks, annotations, workers)


def _add_windows(tracks: dict[int, _Track], batch: dict, scores: np.ndarray) -> None:
    """Add each window's scores (v, T, L) to its video's frames."""
    frames, counts = batch["frames"].numpy(), batch["num_frames"].tolist()
    for row, (index, length) in enumerate(zip(batch["index"].tolist(), counts, strict=True)):
        if index not in tracks:
            tracks[index] = _Track(np.zeros((length, scores.shape[2])), np.zeros(length))
        np.add.at(tracks[index].sums, frames[row], scores[row])
        np.add.at(tracks[index].counts, frames[row], 1)


def _pool(tracks: dict[int, _Track], annotations: Annotations, workers: Workers) -> Evaluated:
    """Put all processes' videos into the order of the annotation file."""
    values: dict[int, np.ndarray] = {}
    own = {index: track.values() for index, track in tracks.items()}
    for part in workers.gather(own):
        assert not values.keys() & part.keys(), "a video was evaluated by two processes"
        values |= part
    order = range(len(annotations))
    assert sorted(values) == list(order), "a video was not evaluated exactly once"
    lengths = [len(values[index]) for index in order]
    ids = list(annotations.ids)
    return Evaluated(
        ids=[ids[index] for index in order for _ in range(lengths[index])],
        labels=np.concatenate([annotations.labels[i][: lengths[i]] for i in order]),
        scores=np.concatenate([values[index] for index in order]),
        features=None,
        frames=np.concatenate([np.arange(length) for length in lengths]),
    )
