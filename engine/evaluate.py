"""Evaluation: every video once, the mean of its views, metrics from the pooled predictions."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from svfap.datasets.augment import transforms
from svfap.datasets.clips.source import SHORT
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.loading.loader import Batches
from svfap.engine.compute.precision import Precision
from svfap.engine.results.features import StageRecorder, write_features
from svfap.engine.results.predictions import Predictions, write_metrics, write_predictions
from svfap.engine.results.tokens import TokenCache
from svfap.engine.runtime.distributed import Workers
from svfap.engine.runtime.errors import UnreadableInEvaluationError
from svfap.engine.runtime.log import Progress
from svfap.engine.tasks.task import Task

logger = logging.getLogger(__name__)

T = TypeVar("T")

REPORT_SECONDS = 30  # between two lines on how far an evaluation is


@dataclass(frozen=True)
class Evaluated:
    """Scores of a whole annotation file, in its order."""

    ids: Sequence[str]  # what the rows are about: videos, or groups of them
    labels: np.ndarray  # theirs
    scores: np.ndarray  # (n, num_outputs) mean over each video's views
    # name -> (n, D), mean over each video's views (`engine.results.features`), or None
    features: dict[str, np.ndarray] | None
    frames: np.ndarray | None = None  # (n,) where a row is one frame of a video; else None

    def predictions(self, task: Task) -> Predictions:
        """With the task's names and, by `.metrics()`, its metrics."""
        return task.predictions(self.ids, self.labels, self.scores, self.frames)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Batches,
    task: Task,
    *,
    annotations: Annotations,
    workers: Workers,
    precision: Precision,
    title: str = "evaluation",
    with_features: bool = False,
    score: Callable | None = None,
    pass_size: int | None = None,
    cache: TokenCache | None = None,
) -> Evaluated:
    """Run a model over the views of all videos (SVFAP Sec. 4.2: two clips, mean of softmax).

    For a task about frames, whose model has `keep_temporal_dim`, windows slide over whole videos
    (`datasets.clips.frame_views.FrameViews`), and there is a row per frame, video after video.

    Args:
        model: fine-tuning model, not wrapped; each process runs its own videos.
        batches: views or windows of this process's videos.
        annotations: the videos of all processes together.
        with_features: also keep the features, pooled and of every stage; `score` is then unused.
        score: in place of `view_scores`: the same, compiled.
        pass_size: as `in_passes` takes it.
        cache: gets the tokens of every view, where there are features.

    Raises:
        UnreadableInEvaluationError: lists every video that could not be read.
    """
    model.eval()
    sums: dict[int, Sequence] = {}
    add, options = (_add_windows, {"per_frame": True}) if task.frame_level else (_add_views, {})
    recorder = StageRecorder(model)
    scored = partial(score or view_scores, model, task, precision)

    def run(batch: dict) -> tuple[dict, torch.Tensor, torch.Tensor | None]:
        clip = batch["clip"].to(workers.device, non_blocking=True)
        if with_features:
            computed = _with_features(model, task, precision, clip, recorder)
            if cache is not None:
                cache.add(batch, recorder.tokens)
            return batch, *computed
        return batch, in_passes(scored, clip, pass_size, **options), None

    shown = (batch for batch in watched(batches, workers, title) if len(batch["clip"]))
    for batch, scores, kept in one_behind(map(run, shown)):
        kept = None if kept is None else kept.cpu().numpy()
        add(sums, batch, scores.cpu().double().numpy(), kept)
    if task.frame_level:
        return _pool_frames(sums, annotations, workers)
    return _pool(sums, annotations, workers, recorder if with_features else None)


def view_scores(
    model: nn.Module, task: Task, precision: Precision, clips: torch.Tensor, **options
) -> torch.Tensor:
    """Scores of clips (B, T, H, W, 3) uint8: pixels, model and what the task makes of its outputs.

    A function of its own so that it can be compiled, once for all models of a kind.
    """
    with precision.autocast():
        return task.scores(model(transforms.normalize_(transforms.to_float(clips)), **options))


def _with_features(model, task: Task, precision: Precision, clips, recorder: StageRecorder):
    """As `view_scores`, and the features on the way."""
    with precision.autocast(), recorder:
        features = model.forward_features(transforms.normalize_(transforms.to_float(clips)))
        outputs = model.head_activation(model.head(features))
        return task.scores(outputs), recorder.take(features)


def in_passes(scored: Callable, clips: torch.Tensor, size: int | None, **options) -> torch.Tensor:
    """Scores of clips, in passes of equally many where a compiled function gives them.

    Batches hold differently many views, and each shape would be compiled anew.

    Args:
        clips: (B, ...).
        size: clips per pass, the last one filled up by repeating a clip; None: one pass of all.

    Returns:
        (B, ...).
    """
    if size is None:
        return scored(clips, **options)
    missing = -len(clips) % size
    filled = torch.cat([clips, clips[-1:].expand(missing, *clips.shape[1:])])
    # with CUDA graphs the next pass overwrites the outputs of this one
    outputs = [scored(part, **options).clone() for part in filled.split(size)]
    return torch.cat(outputs)[: len(clips)]


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """The same items, each when the next one has been made.

    Reading a result back waits for the device, which by then has the next batch to work on.
    """
    items = iter(items)
    held = list(islice(items, 1))
    for item in items:
        yield held.pop()
        held.append(item)
    yield from held


def watched(batches: Batches, workers: Workers, title: str) -> Iterator[dict]:
    """The batches of an evaluation, also those with unreadable videos; shows how far it is.

    Raises:
        UnreadableInEvaluationError: at the end, on every process; lists every video that could not
            be read.
    """
    unreadable: list[tuple[str, str]] = []
    progress = Progress(
        title,
        total=len(batches),
        done=0,
        clips_per_step=batches.batch_size * workers.world_size,
        enabled=workers.is_main,
    )
    last_report = begun = time.monotonic()
    for batch in batches:
        progress.step(time.monotonic() - begun)
        for note in batch["notes"]:
            if note.status == "unreadable":
                unreadable.append((note.path, note.reason))
            elif note.status != SHORT:  # which training and the doctor tell of
                logger.warning("%s video %s: %s", note.status, note.path, note.reason)
        yield batch
        begun = time.monotonic()
        if begun - last_report > REPORT_SECONDS or progress.bar:
            progress.report(workers.device)
            last_report = begun
    progress.close()
    _refuse_unreadable(unreadable, workers)


def _add_views(sums: dict, batch: dict, scores: np.ndarray, features: np.ndarray | None) -> None:
    """Add each view's scores to its video's weighted sum."""
    weights = batch["view_weight"].double().tolist()
    for row, (index, weight) in enumerate(zip(batch["index"].tolist(), weights, strict=True)):
        total = sums.setdefault(index, [0.0, 0.0, 0.0])
        total[0] = total[0] + weight * scores[row]
        total[1] += weight
        if features is not None:
            total[2] = total[2] + weight * features[row]


def _add_windows(tracks: dict, batch: dict, scores: np.ndarray, features: None = None) -> None:
    """Add each window's scores (v, T, L) to those of its video's frames (T, L), counted (T,)."""
    frames, counts = batch["frames"].numpy(), batch["num_frames"].tolist()
    for row, (index, length) in enumerate(zip(batch["index"].tolist(), counts, strict=True)):
        if index not in tracks:
            tracks[index] = np.zeros((length, scores.shape[2])), np.zeros(length)
        sums, shown = tracks[index]
        np.add.at(sums, frames[row], scores[row])
        np.add.at(shown, frames[row], 1)


def _refuse_unreadable(unreadable: list[tuple[str, str]], workers: Workers) -> None:
    """Raise UnreadableInEvaluationError on every process if any had unreadable videos."""
    bad = sorted({item for part in workers.gather(unreadable) for item in part})
    if bad:
        listed = "\n".join(f"  {path}: {reason}" for path, reason in bad)
        raise UnreadableInEvaluationError(
            f"{len(bad)} videos of the evaluation set cannot be read, so there is no result; "
            f"repair them or take them out of the CSV:\n{listed}"
        )


def gathered(own: dict[int, object], num_videos: int, workers: Workers) -> list:
    """What every process found out about its videos, in the order of the annotation file."""
    pooled: dict[int, object] = {}
    for part in workers.gather(own):
        twice = pooled.keys() & part.keys()
        assert not twice, f"videos evaluated by two processes: {sorted(twice)[:5]}"
        pooled |= part
    assert sorted(pooled) == list(range(num_videos)), "a video was not evaluated exactly once"
    return [pooled[index] for index in range(num_videos)]


def _pool(
    sums: dict, annotations: Annotations, workers: Workers, recorder: StageRecorder | None
) -> Evaluated:
    """Weighted means of all videos' views."""
    pooled = gathered(sums, len(annotations), workers)
    scores = np.stack([total / weight for total, weight, _ in pooled])
    features = None
    if recorder:
        features = np.stack([total / weight for _, weight, total in pooled])
        # A process without videos has seen no features and does not know their widths.
        recorder.widths = next(filter(None, workers.gather(recorder.widths)))
        features = recorder.split(features)
    return Evaluated(
        ids=list(annotations.ids), labels=annotations.labels, scores=scores, features=features
    )


def _pool_frames(tracks: dict, annotations: Annotations, workers: Workers) -> Evaluated:
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


def write_results(
    evaluated: Evaluated,
    predictions: Predictions,
    metrics: dict,
    *,
    output_dir: Path,
    weights: str,
    split: str,
    label_names: Sequence[str],
    feature_formats: Sequence[str],
) -> None:
    """Write `metrics.json`, `pred.csv` and, if there, values and features.

    `weights` are "last", "best", "ema" or a file, `split` the part of the data ("test").
    """
    for name, part in predictions.files().items():
        write_predictions(output_dir / name, part)
    if evaluated.features is not None:
        write_features(
            output_dir,
            ids=evaluated.ids,
            labels=evaluated.labels,
            scores=evaluated.scores,
            names=predictions.score_names,
            label_names=label_names,
            features=evaluated.features,
            formats=feature_formats,
        )
    write_metrics(output_dir / "metrics.json", metrics, weights=weights, split=split)
