"""Choosing a share of training rows: whole subjects, or the same share of each class."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from svfap.datasets.labels.annotations import Annotations, PathColumn
from svfap.datasets.rng import generator


def carve_validation(
    labels: Sequence[str],
    fraction: float,
    *,
    seed: int,
    subjects: Sequence[str] | None = None,
    flag: str = "--val_fraction",
) -> list[bool]:
    """Choose which training rows become validation rows; see `choose_share`."""
    return choose_share(
        labels, fraction, seed=seed, stream="validation", subjects=subjects, flag=flag
    )


def choose_share(
    labels: Sequence[str],
    fraction: float,
    *,
    seed: int,
    stream: str,
    subjects: Sequence[str] | None = None,
    flag: str,
) -> list[bool]:
    """Choose a share of the rows.

    Without subjects each class gives the same share (rounded, at least one of classes with two or
    more rows). With subjects whole subjects are taken, in a random order, each when it brings the
    class counts closer to the wanted shares.

    Args:
        fraction: wanted share of the rows, 0..1 exclusive.
        seed: the same seed, stream and rows give the same choice.
        stream: what the choice is for; another one chooses independently.
        subjects: subject of each row, if known.

    Raises:
        ValueError: `fraction` out of range, or nothing or everything would be chosen.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"{flag} {fraction}: must lie between 0 and 1")
    rng = generator(seed, 0, 0, 0, stream)
    if subjects is None:
        chosen = _stratified_rows(labels, fraction, rng)
    else:
        taken = _balanced_subjects(labels, subjects, fraction, rng)
        chosen = [subject in taken for subject in subjects]
    if not any(chosen) or all(chosen):
        raise ValueError(
            f"{flag} {fraction} takes {sum(chosen)} of {len(chosen)} rows; choose another share"
        )
    return chosen


def take_rows(annotations: Annotations, rows: Sequence[int]) -> Annotations:
    """Some rows of an annotation file (0-based), in the order given."""
    return replace(
        annotations,
        ids=PathColumn(annotations.ids[row] for row in rows),
        paths=PathColumn(annotations.paths[row] for row in rows),
        labels=annotations.labels[np.asarray(rows)],
    )


def _stratified_rows(
    labels: Sequence[str], fraction: float, rng: np.random.Generator
) -> list[bool]:
    chosen = [False] * len(labels)
    for label in sorted(set(labels)):
        rows = [row for row, value in enumerate(labels) if value == label]
        count = round(fraction * len(rows))
        if len(rows) > 1:
            count = min(max(count, 1), len(rows) - 1)
        for row in rng.permutation(rows)[:count]:
            chosen[row] = True
    return chosen


def _balanced_subjects(
    labels: Sequence[str], subjects: Sequence[str], fraction: float, rng: np.random.Generator
) -> set[str]:
    """Greedy choice of subjects whose class counts come close to `fraction` of each class."""
    classes = sorted(set(labels))
    counts = {subject: np.zeros(len(classes)) for subject in sorted(set(subjects))}
    for label, subject in zip(labels, subjects, strict=True):
        counts[subject][classes.index(label)] += 1
    missing = fraction * sum(counts.values())
    taken = set()
    order = list(counts)
    for position in rng.permutation(len(order)):
        subject = order[position]
        rest = missing - counts[subject]
        if np.abs(rest).sum() < np.abs(missing).sum():
            taken.add(subject)
            missing = rest
    if not taken and len(order) > 1:  # every subject is more than twice the share
        taken.add(min(order, key=lambda subject: np.abs(missing - counts[subject]).sum()))
    return taken
