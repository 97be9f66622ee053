"""Files of an evaluation: `pred.csv`, one line per video, and `metrics.json`.

`pred.csv` of a classification: `id,label,pred,prob_<class>,...`; `label` and `pred` are class
indices and the probability columns stand in label order. Files of other programs may leave the
probabilities out. Of a regression: `id,label_<dimension>,...,pred_<dimension>,...`.
"""

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.metrics import classification_metrics, regression_metrics

MAX_LISTED_PROBLEMS = 20


class PredictionFileError(ValueError):
    """A prediction file that cannot be used; the message lists its problems by line."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said about every video of a test set.

    Args:
        ids: n distinct names of videos, as the annotation file writes them.
        labels: (n,) int64 classes, or (n, L) float64 targets in regression.
        predicted: like `labels`.
        scores: (n, C) probabilities, or None where unknown and in regression.
        names: C class names, or L dimension names; in classification None where unknown.

    Raises:
        ValueError: lengths that differ, or ids that occur twice.
    """

    ids: Sequence[str]
    labels: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray | None = None
    names: Sequence[str] | None = None

    def __post_init__(self):
        lengths = {"ids": len(self.ids), "labels": len(self.labels), "pred": len(self.predicted)}
        if self.scores is not None:
            lengths["scores"] = len(self.scores)
        if len(set(lengths.values())) != 1:
            raise ValueError(f"predictions need one entry per video in every column, not {lengths}")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = [name for name in self.ids if name in seen or seen.add(name)]
            raise ValueError(
                f"{len(twice)} videos occur more than once, such as {twice[:3]}; "
                "every video counts once."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def task(self) -> str:
        """`classification` or `regression`."""
        return "classification" if self.labels.ndim == 1 else "regression"

    def metrics(self) -> dict:
        """`classification_metrics` or `regression_metrics` of these predictions."""
        if self.task == "regression":
            return regression_metrics(self.labels, self.predicted, self.names)
        return classification_metrics(self.labels, self.predicted, self.names)


def from_scores(
    ids: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str] | None = None,
) -> Predictions:
    """Predictions of a model from its outputs.

    Args:
        ids: n names of videos.
        labels: (n,) classes, or (n, L) targets of a regression.
        scores: (n, C) probabilities, or (n, L) predicted values.
        names: class or dimension names; by default "0", "1", ...

    Returns:
        Predictions, of a regression where the labels have two dimensions.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    names = list(names) if names is not None else [str(i) for i in range(scores.shape[1])]
    if labels.ndim == 2:
        return Predictions(ids=ids, labels=labels.astype(np.float64), predicted=scores, names=names)
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
    if predictions.task == "regression":
        names = predictions.names or [str(i) for i in range(predictions.labels.shape[1])]
        writer.writerow(["id", *(f"label_{n}" for n in names), *(f"pred_{n}" for n in names)])
        values = np.concatenate([predictions.labels, predictions.predicted], axis=1)
        writer.writerows([i, *map(_number, row)] for i, row in zip(predictions.ids, values))
    else:
        scores = predictions.scores
        if scores is None:
            scores = np.zeros((len(predictions), 0))
        names = predictions.names or [str(i) for i in range(scores.shape[1])]
        columns = [f"prob_{name}" for name in names] if scores.shape[1] else []
        writer.writerow(["id", "label", "pred", *columns])
        rows = zip(predictions.ids, predictions.labels, predictions.predicted, scores)
        writer.writerows([i, int(y), int(p), *map(_number, s)] for i, y, p, s in rows)
    write_text_atomically(csv_path, buffer.getvalue())


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
    with csv_path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = [(reader.line_num, row) for row in reader if row]
    labels, predicted, scores, problems = _columns(header)
    if not problems and not rows:
        problems.append("no videos below the header")
    if problems:
        _refuse(csv_path, problems)
    ids = _ids(header, rows, problems)
    if "label" in header:
        names = [column.removeprefix("prob_") for column in scores] or class_names
        if class_names and scores and list(class_names) != list(names):
            problems.append(f"line 1: classes {list(names)}, expected {list(class_names)}")
        label_values = _classes(header, rows, "label", names, problems)
        pred_values = _classes(header, rows, "pred", names, problems)
        score_values = _numbers(header, rows, scores, problems) if scores else None
    else:
        names = [column.removeprefix("label_") for column in labels]
        label_values = _numbers(header, rows, labels, problems)
        pred_values = _numbers(header, rows, predicted, problems)
        score_values = None
    if problems:
        _refuse(csv_path, problems)
    return Predictions(
        ids=ids, labels=label_values, predicted=pred_values, scores=score_values, names=names
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
    write_text_atomically(json_path, text + "\n")


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


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never a part.

    Args:
        path: file to write; its folder must exist.
        text: whole content, written as UTF-8.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _columns(header: list[str]) -> tuple[list[str], list[str], list[str], list[str]]:
    """Columns of labels, predictions and probabilities, and what is wrong with the header."""
    problems = [f"line 1: column {c!r} twice" for c in sorted(set(header)) if header.count(c) > 1]
    if "id" not in header:
        problems.append("line 1: no column 'id'; a header id,label,pred,... is needed")
    probabilities = [c for c in header if c.startswith("prob_")]
    labels = [c for c in header if c == "label" or c.startswith("label_")]
    predicted = [c for c in header if c == "pred" or c.startswith("pred_")]
    if "label" in header or "pred" in header:
        if labels != ["label"] or predicted != ["pred"]:
            problems.append(f"line 1: columns {labels + predicted}, expected 'label' and 'pred'")
    else:
        predicted = [f"pred_{c.removeprefix('label_')}" for c in labels]
        missing = [c for c in predicted if c not in header]
        if not labels or missing or probabilities:
            problems.append(
                f"line 1: columns {header}; expected id,label,pred[,prob_<class>...] or "
                "id,label_<dimension>...,pred_<dimension>..."
            )
    known = {"id", *labels, *predicted, *probabilities}
    unknown = [c for c in header if c not in known]
    if unknown and not problems:
        problems.append(f"line 1: unknown columns {unknown}")
    return labels, predicted, probabilities, problems


def _ids(header: list[str], rows: list, problems: list[str]) -> list[str]:
    ids, first_line = [], {}
    for line, row in rows:
        if len(row) != len(header):
            problems.append(f"line {line}: {len(row)} columns, expected {len(header)}")
            continue
        name = row[header.index("id")]
        if name in first_line:
            problems.append(f"line {line}: {name!r} is already on line {first_line[name]}")
        first_line.setdefault(name, line)
        ids.append(name)
    return ids


def _classes(
    header: list[str],
    rows: list,
    column: str,
    names: Sequence[str] | None,
    problems: list[str],
) -> np.ndarray:
    index_of = {name: index for index, name in enumerate(names or ())}
    position, values = header.index(column), []
    for line, row in rows:
        if len(row) != len(header):
            continue
        text = row[position].strip()
        value = int(text) if text.isdecimal() else index_of.get(text, -1)
        if value < 0 or (names and value >= len(names)):
            allowed = f"0..{len(names) - 1} or one of {list(names)}" if names else "0, 1, 2, ..."
            problems.append(f"line {line}: {column} {text!r}, allowed: {allowed}")
        values.append(value)
    return np.array(values, dtype=np.int64)


def _numbers(header: list[str], rows: list, columns: list[str], problems: list[str]) -> np.ndarray:
    positions, values = [header.index(column) for column in columns], []
    for line, row in rows:
        if len(row) != len(header):
            continue
        values.append([])
        for column, position in zip(columns, positions):
            try:
                value = float(row[position])
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                problems.append(f"line {line}: {column} {row[position]!r} is not a finite number")
            values[-1].append(value)
    return np.array(values, dtype=np.float64).reshape(len(values), len(columns))


def _number(value: float) -> str:
    return format(float(value), ".9g")


def _refuse(csv_path: Path, problems: list[str]) -> None:
    shown = "\n  ".join(problems[:MAX_LISTED_PROBLEMS])
    more = len(problems) - MAX_LISTED_PROBLEMS
    rest = f"\n  and {more} more" if more > 0 else ""
    raise PredictionFileError(f"{csv_path}: {len(problems)} problem(s)\n  {shown}{rest}")
