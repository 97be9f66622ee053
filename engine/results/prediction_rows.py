"""Reading the lines of a `pred.csv`: what its columns are, and every problem with its line."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_LISTED_PROBLEMS = 20


class PredictionFileError(ValueError):
    """A prediction file that cannot be used; the message lists its problems by line."""


@dataclass(frozen=True)
class Columns:
    """What the header of a prediction file says.

    Attributes:
        labels: columns of true values.
        predicted: columns of predictions, in the same order.
        scores: columns of probabilities.
        heads: class names of each head, where there are several.
        has_frames: whether each line is about one frame.
        problems: what is wrong.
    """

    labels: list[str]
    predicted: list[str]
    scores: list[str]
    heads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    has_frames: bool = False
    problems: list[str] = field(default_factory=list)


def read_header(header: Sequence[str]) -> Columns:
    """Find labels, predictions and probabilities among the columns."""
    header = list(header)
    problems = [f"line 1: column {c!r} twice" for c in sorted(set(header)) if header.count(c) > 1]
    if "id" not in header:
        problems.append("line 1: no column 'id'; a header id,label,pred,... is needed")
    probabilities = [c for c in header if c.startswith("prob_")]
    labels = [c for c in header if c == "label" or c.startswith("label_")]
    predicted = [c for c in header if c == "pred" or c.startswith("pred_")]
    heads: dict[str, tuple[str, ...]] = {}
    if "label" in header or "pred" in header:
        if labels != ["label"] or predicted != ["pred"]:
            problems.append(f"line 1: columns {labels + predicted}, expected 'label' and 'pred'")
    else:
        names = [c.removeprefix("label_") for c in labels]
        predicted = [f"pred_{name}" for name in names]
        heads = _heads(names, probabilities)
        if not labels or not set(predicted) <= set(header) or (probabilities and not heads):
            problems.append(
                f"line 1: columns {header}; expected id,label,pred[,prob_<class>...], "
                "id,label_<dimension>...,pred_<dimension>... or id,label_<head>...,"
                "pred_<head>...,prob_<head>_<class>..."
            )
    if heads:
        probabilities = [f"prob_{head}_{name}" for head in heads for name in heads[head]]
    has_frames = "frame" in header and not probabilities and "label" not in header
    known = {"id", *(["frame"] if has_frames else []), *labels, *predicted, *probabilities}
    unknown = [c for c in header if c not in known]
    if unknown and not problems:
        problems.append(f"line 1: unknown columns {unknown}")
    return Columns(labels, predicted, probabilities, heads, has_frames, problems)


def _heads(names: Sequence[str], probabilities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Classes of each head; empty where a probability belongs to none or a head has none."""
    heads: dict[str, list[str]] = {name: [] for name in names}
    for column in probabilities:
        text = column.removeprefix("prob_")
        owners = [name for name in names if text.startswith(f"{name}_")]
        if not owners:
            return {}
        owner = max(owners, key=len)
        heads[owner].append(text[len(owner) + 1 :])
    return {name: tuple(c) for name, c in heads.items()} if all(heads.values()) else {}


def read_ids(
    header: Sequence[str], rows: list, problems: list[str], *, with_frames: bool = False
) -> tuple[list[str], np.ndarray | None]:
    """Names of the videos and, if wanted, numbers of the frames; each may occur once."""
    ids, frames, first_line = [], [], {}
    for line, row in rows:
        if len(row) != len(header):
            problems.append(f"line {line}: {len(row)} columns, expected {len(header)}")
            continue
        name = key = row[header.index("id")]
        if with_frames:
            text = row[header.index("frame")].strip()
            if not text.isdecimal():
                problems.append(f"line {line}: frame {text!r} is not a whole number from 0")
            frames.append(int(text) if text.isdecimal() else 0)
            key = f"{name} frame {frames[-1]}"
        if key in first_line:
            problems.append(f"line {line}: {key!r} is already on line {first_line[key]}")
        first_line.setdefault(key, line)
        ids.append(name)
    return ids, np.array(frames, dtype=np.int64) if with_frames else None


def read_values(
    header: list[str],
    rows: list,
    columns: Columns,
    kind: str,
    names: Sequence[str] | None,
    problems: list[str],
) -> np.ndarray:
    """Classes (n,), classes of each head (n, H) or numbers (n, L).

    Args:
        header: all columns.
        rows: (line number, cells).
        columns: what the header says.
        kind: "label" or "pred".
        names: of the classes, where they are known.
        problems: gets a line for each wrong cell.
    """
    if columns.heads:
        heads = [
            _read_classes(header, rows, f"{kind}_{head}", classes, problems)
            for head, classes in columns.heads.items()
        ]
        return np.stack(heads, axis=1)
    if kind in header:
        return _read_classes(header, rows, kind, names, problems)
    some = columns.labels if kind == "label" else columns.predicted
    return read_numbers(header, rows, some, problems)


def _read_classes(
    header: list[str],
    rows: list,
    column: str,
    names: Sequence[str] | None,
    problems: list[str],
) -> np.ndarray:
    """Class numbers (n,) in a column of numbers or names."""
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


def read_numbers(
    header: list[str], rows: list, columns: list[str], problems: list[str]
) -> np.ndarray:
    """Finite numbers (n, columns)."""
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


def refuse(csv_path: object, problems: list[str]) -> None:
    """Raise PredictionFileError with the first problems."""
    shown = "\n  ".join(problems[:MAX_LISTED_PROBLEMS])
    more = len(problems) - MAX_LISTED_PROBLEMS
    rest = f"\n  and {more} more" if more > 0 else ""
    raise PredictionFileError(f"{csv_path}: {len(problems)} problem(s)\n  {shown}{rest}")
