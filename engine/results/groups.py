"""Averaging the predictions of clips that belong together, such as AVCAffe's task videos."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from svfap.engine.results.find import MAX_LISTED, read_table

GROUPS_FILE = "groups.csv"
Evaluated = TypeVar("Evaluated")


def read_groups(csv_path: str | Path, ids: Sequence[str]) -> list[str]:
    """The group of each clip, from a file with a header and columns `path` and `group`.

    ValueError: missing columns, a clip with two groups, or clips that are not listed.
    """
    path = Path(csv_path)
    if not path.is_file():
        raise FileNotFoundError(
            f"--average_by groups needs {path} with columns path and group; preprocess writes it "
            "for data sets whose videos are cut into clips"
        )
    table = read_table(path, ("path",), "group")
    unknown = [clip for clip in ids if clip not in table]
    if unknown:
        raise ValueError(
            f"{path} names no group for {len(unknown)} of {len(ids)} clips, such as "
            f"{', '.join(unknown[:MAX_LISTED])}; prepare the data set again"
        )
    return [table[clip] for clip in ids]


def average_by_group(evaluated: Evaluated, groups: Sequence[str]) -> Evaluated:
    """One row per group: the mean of its clips' scores and features, each clip counting alike.

    Of an `engine.evaluate.Evaluated`, whose ids become the groups, in the order of their first
    clips. ValueError where clips of a group have different labels.
    """
    names = list(dict.fromkeys(groups))
    place = {name: number for number, name in enumerate(names)}
    rows = np.array([place[group] for group in groups])
    _, first = np.unique(rows, return_index=True)
    labels = evaluated.labels[first]
    differ = (evaluated.labels != labels[rows]).reshape(len(rows), -1).any(axis=1)
    if differ.any():
        mixed = list(dict.fromkeys(groups[row] for row in np.flatnonzero(differ)))
        raise ValueError(
            f"clips of {len(mixed)} groups have different labels, such as "
            f"{', '.join(mixed[:MAX_LISTED])}: averaging is for clips that share one label"
        )
    features = evaluated.features
    if features is not None:
        features = {name: _means(values, rows) for name, values in features.items()}
    return replace(
        evaluated, ids=names, labels=labels, scores=_means(evaluated.scores, rows),
        features=features,
    )  # fmt: skip


def _means(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of the entries of each group: (n, ...) and (n,) numbers of groups to (groups, ...)."""
    sums = np.zeros((rows.max() + 1, *values.shape[1:]))
    np.add.at(sums, rows, values)
    counts = np.bincount(rows).reshape(-1, *[1] * (values.ndim - 1))
    return (sums / counts).astype(values.dtype)
