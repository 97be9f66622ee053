"""Evaluation of every frame: windows slide over whole videos, metrics pool all frames."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from datasets.clips.loader import Batches
from datasets.labels.annotations import Annotations
from engine.evaluate import Evaluated, gathered, in_passes, one_behind, view_scores, watched
from engine.runtime.distributed import Workers
from engine.runtime.precision import Precision
from engine.tasks.task import Task


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
    batches: Batches,
    task: Task,
    *,
    annotations: Annotations,
    workers: Workers,
    precision: Precision,
    title: str = "evaluation",
    score: Callable | None = None,
    pass_size: int | None = None,
) -> Evaluated:
    """Run a model over all windows of all videos.

    Args:
        model: fine-tuning model with `keep_temporal_dim`, not wrapped.
        batches: of `datasets.clips.frame_views.FrameViews` of this process's videos.
        task: turns outputs into scores.
        annotations: all videos, with labels of every frame.
        workers: processes and device.
        precision: number format.
        title: what the progress shows.
        score: as `evaluate` takes it.
        pass_size: as `in_passes` takes it.

    Returns:
        A row per frame, video after video.

    Raises:
        UnreadableInEvaluationError: lists every video that could not be read.
    """
    model.eval()
    tracks: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # sums (T, L) and counts (T,)
    scored = partial(score or view_scores, model, task, precision)

    def run(batch: dict) -> tuple[dict, torch.Tensor]:
        clip = batch["clip"].to(workers.device, non_blocking=True)
        return batch, in_passes(scored, clip, pass_size, per_frame=True)

    shown = (batch for batch in watched(batches, workers, title) if len(batch["clip"]))
    for batch, scores in one_behind(map(run, shown)):
        _add_windows(tracks, batch, scores.cpu().double().numpy())
    return _pool(tracks, annotations, workers)


def _add_windows(tracks: dict, batch: dict, scores: np.ndarray) -> None:
    """Add each window's scores (v, T, L) to its video's frames."""
    frames, counts = batch["frames"].numpy(), batch["num_frames"].tolist()
    for row, (index, length) in enumerate(zip(batch["index"].tolist(), counts, strict=True)):
        if index not in tracks:
            tracks[index] = np.zeros((length, scores.shape[2])), np.zeros(length)
        sums, shown = tracks[index]
        np.add.at(sums, frames[row], scores[row])
        np.add.at(shown, frames[row], 1)


def _pool(tracks: dict, annotations: Annotations, workers: Workers) -> Evaluated:
    """Predictions of all videos' frames."""
    own = {index: interpolate_shown(*track) for index, track in tracks.items()}
    values = gathered(own, len(annotations), workers)
    lengths = [len(frames) for frames in values]
    return Evaluated(
        ids=[name for name, length in zip(annotations.ids, lengths) for _ in range(length)],
        labels=np.concatenate([annotations.labels[i][:n] for i, n in enumerate(lengths)]),
        scores=np.concatenate(values),
        features=None,
        frames=np.concatenate([np.arange(length) for length in lengths]),
    )
