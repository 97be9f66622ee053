"""Files of an evaluation: `pred.csv`, one line per video, and `metrics.json`.

`pred.csv` of a classification: `id,label,pred,prob_<class>,...`; `label` and `pred` are class
indices and the probability columns stand in label order. Files of other programs may leave the
probabilities out. Of a regression: `id,label_<dimension>,...,pred_<dimension>,...`; where every
frame has labels, a line is about one frame: `id,frame,label_<dimension>,...`. Of several heads:
`id,label_<head>,...,pred_<head>,...,prob_<head>_<class>,...`.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.files import write_text
from datasets.tables import table_rows
from engine.results.metrics import (
    classification_metrics,
    multihead_metrics,
    regression_metrics,
    require_finite,
)
from engine.results.prediction_rows import (
    PredictionFileError,
    read_header,
    read_ids,
    read_numbers,
    read_values,
    refuse,
)

# Beside the pred.csv of a class and values.
VALUES_FILE = "values.csv"
# Of the numbers that come with a class; "accuracy" (1 - MAE) would be taken for the class's.
VALUES_METRICS = ("pcc", "ccc", "mae", "rmse")

__all__ = [
    "VALUES_FILE",
    "VALUES_METRICS",
    "PredictionFileError",
    "Predictions",
    "PredictionsWithValues",
    "from_scores",
    "read_metrics",
    "read_predictions",
    "score_names",
    "write_metrics",
    "write_predictions",
]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said about every video of a test set, or about every frame.

    Args:
        ids: n distinct names of videos, as the annotation file writes them.
        labels: (n,) int64 classes, (n, L) float64 targets in regression, or (n, H) int64 classes
            of several heads.
        predicted: like `labels`.
        scores: (n, C) probabilities, those of several heads side by side, or None where unknown
            and in regression.
        names: C class names, L dimension names or H heads; in classification None where unknown.
        heads: class names of each head, by the names in `names`; only of several heads.
        frames: (n,) frame of the video that a row is about, from 0; None: rows are videos.

    Raises:
        ValueError: lengths that differ, or ids (and frames) that occur twice.
    """

    ids: Sequence[str]
    labels: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray | None = None
    names: Sequence[str] | None = None
    heads: Mapping[str, Sequence[str]] | None = None
    frames: np.ndarray | None = None

    def __post_init__(self):
        lengths = {"ids": len(self.ids), "labels": len(self.labels), "pred": len(self.predicted)}
        for name in ("scores", "frames"):
            if getattr(self, name) is not None:
                lengths[name] = len(getattr(self, name))
        if len(set(lengths.values())) != 1:
            raise ValueError(f"predictions need one entry per video in every column, not {lengths}")
        keys = self.keys
        if len(set(keys)) != len(keys):
            seen: set = set()
            twice = [key for key in keys if key in seen or seen.add(key)]
            raise ValueError(
                f"{len(twice)} videos occur more than once, such as {twice[:3]}; "
                "every video counts once."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> list:
        """What each row is about: the video, or (video, frame)."""
        if self.frames is None:
            return list(self.ids)
        return list(zip(self.ids, self.frames.tolist(), strict=True))

    @property
    def task(self) -> str:
        """`classification`, `regression` (of videos or frames) or `multihead`."""
        if self.heads:
            return "multihead"
        return "classification" if self.labels.ndim == 1 else "regression"

    def head(self, name: str) -> "Predictions":
        """The classification of one head."""
        column = list(self.heads).index(name)
        begin = sum(len(self.heads[other]) for other in list(self.heads)[:column])
        scores = self.scores
        return Predictions(
            ids=self.ids,
            labels=self.labels[:, column],
            predicted=self.predicted[:, column],
            scores=None if scores is None else scores[:, begin : begin + len(self.heads[name])],
            names=list(self.heads[name]),
        )

    def parts(self) -> dict[str, "Predictions"]:
        """Single heads or dimensions by name; empty where there is only one."""
        if self.heads:
            return {name: self.head(name) for name in self.heads}
        if self.task == "classification" or self.labels.shape[1] < 2:
            return {}
        names = self.names or [str(i) for i in range(self.labels.shape[1])]
        return {
            name: replace(
                self,
                labels=self.labels[:, [column]],
                predicted=self.predicted[:, [column]],
                names=[name],
            )
            for column, name in enumerate(names)
        }

    def metrics(self) -> dict:
        """The metrics of the task; of frames all are pooled, whichever video they are of."""
        if self.task == "multihead":
            return multihead_metrics(self.labels, self.predicted, self.heads)
        if self.task == "classification":
            return classification_metrics(self.labels, self.predicted, self.names)
        metrics = regression_metrics(self.labels, self.predicted, self.names)
        if self.frames is None:
            return metrics
        return {**metrics, "num_videos": len(set(self.ids)), "num_frames": len(self)}


@dataclass(frozen=True, kw_only=True)
class PredictionsWithValues(Predictions):
    """A class per video and, besides, numbers; pred.csv holds the former, values.csv the latter.

    Args:
        values: the numbers, of the same videos in the same order.
    """

    values: Predictions

    def parts(self) -> dict[str, Predictions]:
        """The numbers by dimension; empty where there is only one."""
        return self.values.parts()

    def metrics(self) -> dict:
        """Those of the classes; `VALUES_METRICS` (means) and `values` of the numbers."""
        own, values = super().metrics(), self.values.metrics()
        return own | {name: values[name] for name in VALUES_METRICS} | {"values": values}


def from_scores(
    ids: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str] | None = None,
    *,
    heads: Mapping[str, Sequence[str]] | None = None,
    frames: np.ndarray | None = None,
) -> Predictions:
    """Predictions of a model from its outputs.

    Args:
        ids: n names of videos.
        labels: (n,) classes, (n, L) targets of a regression, or (n, H) classes of several heads.
        scores: (n, C) probabilities, or (n, L) predicted values.
        names: class or dimension names; by default "0", "1", ...
        heads: class names of each head, for several heads.
        frames: see `Predictions`.

    Returns:
        Predictions, of a regression where the labels have two dimensions and there are no heads.

    Raises:
        ValueError: a NaN or infinite score, from which no class should be taken.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    require_finite(scores, "scores")
    if heads:
        ends = np.cumsum([len(classes) for classes in heads.values()])
        blocks = np.split(scores, ends[:-1], axis=1)
        return Predictions(
            ids=ids,
            labels=labels.astype(np.int64),
            predicted=np.stack([block.argmax(axis=1) for block in blocks], axis=1),
            scores=scores,
            names=list(heads),
            heads=heads,
        )
    names = list(names) if names is not None else [str(i) for i in range(scores.shape[1])]
    if labels.ndim == 2:
        targets = labels.astype(np.float64)
        return Predictions(ids=ids, labels=targets, predicted=scores, names=names, frames=frames)
    predicted = scores.argmax(axis=1)
    return Predictions(
        ids=ids, labels=labels.astype(np.int64), predicted=predicted, scores=scores, names=names
    )


def write_predictions(csv_path: str | Path, predictions: Predictions) -> None:
    """Write `pred.csv`, at once or not at all.

    Args:
        csv_path: file to write; its folder must exist.
        predictions: what to write; numbers keep nine significant digits, enough for float32.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns, blocks = ["id"], [[[name] for name in predictions.ids]]
    if predictions.frames is not None:
        columns.append("frame")
        blocks.append([[int(frame)] for frame in predictions.frames])
    form = _number if predictions.task == "regression" else int
    if predictions.task == "classification":
        columns += ["label", "pred"]
    else:
        names = predictions.names or [str(i) for i in range(predictions.labels.shape[1])]
        columns += [f"{kind}_{name}" for kind in ("label", "pred") for name in names]
    for values in (predictions.labels, predictions.predicted):
        blocks.append([[form(v) for v in row] for row in values.reshape(len(predictions), -1)])
    if predictions.scores is not None:
        columns += [f"prob_{name}" for name in score_names(predictions)]
        blocks.append([[_number(v) for v in row] for row in predictions.scores])
    writer.writerow(columns)
    writer.writerows([cell for part in parts for cell in part] for parts in zip(*blocks))
    write_text(csv_path, buffer.getvalue())


def score_names(predictions: Predictions) -> Sequence[str]:
    """Names of the columns of `scores`, or of the values in regression."""
    if predictions.heads:
        return [f"{head}_{name}" for head, names in predictions.heads.items() for name in names]
    values = predictions.predicted if predictions.scores is None else predictions.scores
    return predictions.names or [str(i) for i in range(values.shape[1])]


def read_predictions(csv_path: str | Path, class_names: Sequence[str] | None = None) -> Predictions:
    """Read and check a `pred.csv`, ours or another program's.

    Args:
        csv_path: file with a header; columns in any order, others than the known are refused.
        class_names: names in label order for files without probability columns; `label` and
            `pred` may be class names instead of indices where the names are known.

    Returns:
        The predictions, in the order of the file.

    Raises:
        FileNotFoundError: no such file.
        PredictionFileError: all problems of the file, with line numbers.
    """
    csv_path = Path(csv_path)
    if not csv_path.is_file():
        raise FileNotFoundError(f"no prediction file {csv_path}; evaluation writes pred.csv.")
    (_, header), *rows = [*table_rows(csv_path)] or [(1, [])]
    columns = read_header(header)
    problems = list(columns.problems)
    if not problems and not rows:
        problems.append("no videos below the header")
    if problems:
        refuse(csv_path, problems)
    ids, frames = read_ids(header, rows, problems, with_frames=columns.has_frames)
    names = [column.removeprefix("label_") for column in columns.labels]
    if "label" in header:
        names = [column.removeprefix("prob_") for column in columns.scores] or class_names
        if class_names and columns.scores and list(class_names) != list(names):
            problems.append(f"line 1: classes {list(names)}, expected {list(class_names)}")
    labels = read_values(header, rows, columns, "label", names, problems)
    predicted = read_values(header, rows, columns, "pred", names, problems)
    scores = read_numbers(header, rows, columns.scores, problems) if columns.scores else None
    if problems:
        refuse(csv_path, problems)
    return Predictions(
        ids=ids,
        labels=labels,
        predicted=predicted,
        scores=scores,
        names=names,
        heads=columns.heads or None,
        frames=frames,
    )


def write_metrics(json_path: str | Path, metrics: dict, *, weights: str, split: str) -> None:
    """Write `metrics.json`, at once or not at all.

    Args:
        json_path: file to write; its folder must exist.
        metrics: result of `classification_metrics` or `regression_metrics`.
        weights: which weights gave them: "last", "best" (and on which split), "ema", a path.
        split: which annotation file they were computed on, such as "test".
    """
    text = json.dumps({**metrics, "weights": weights, "split": split}, indent=2, allow_nan=False)
    write_text(json_path, text + "\n")


def read_metrics(json_path: str | Path) -> dict:
    """Read a `metrics.json`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a JSON object.
    """
    json_path = Path(json_path)
    if not json_path.is_file():
        raise FileNotFoundError(f"no metrics file {json_path}; evaluation writes metrics.json.")
    try:
        metrics = json.loads(json_path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{json_path} is not JSON ({error}); evaluate again.") from error
    if not isinstance(metrics, dict):
        raise ValueError(f"{json_path} holds a {type(metrics).__name__}, not a JSON object.")
    return metrics


def _number(value: float) -> str:
    return format(float(value), ".9g")
