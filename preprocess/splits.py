"""Train, validation and test parts: carving a validation part, writing the CSVs of a fold."""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.annotations import write_annotations
from datasets.readers import natural_key
from datasets.rng import generator
from preprocess.common import PreparationError, add_link_flag

logger = logging.getLogger(__name__)

Row = tuple[str, str]
"""(path, label) as they stand in a CSV; several labels are one text, separated by spaces."""


def carve_validation(
    labels: Sequence[str],
    fraction: float,
    *,
    seed: int,
    subjects: Sequence[str] | None = None,
    flag: str = "--val_fraction",
) -> list[bool]:
    """Choose which training rows become validation rows.

    Without subjects each class gives the same share (rounded, at least one of classes with two or
    more rows). With subjects whole subjects are taken, in a random order, each when it brings the
    class counts closer to the wanted shares.

    Args:
        labels: label of each training row.
        fraction: wanted share of validation rows, 0..1 exclusive.
        seed: the same seed and rows give the same choice.
        subjects: subject of each row, if known.
        flag: where `fraction` comes from, for messages.

    Returns:
        For each row: is it for validation?

    Raises:
        PreparationError: `fraction` out of range, or nothing or everything would be chosen.
    """
    if not 0 < fraction < 1:
        raise PreparationError(f"{flag} {fraction}: must lie between 0 and 1")
    rng = generator(seed, 0, 0, 0, "validation")
    if subjects is None:
        chosen = _stratified_rows(labels, fraction, rng)
    else:
        taken = _balanced_subjects(labels, subjects, fraction, rng)
        chosen = [subject in taken for subject in subjects]
    if not any(chosen) or all(chosen):
        raise PreparationError(
            f"{flag} {fraction} takes {sum(chosen)} of {len(chosen)} rows; choose another share"
        )
    return chosen


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


def write_split(folder: Path, parts: dict[str, Sequence[Row]]) -> None:
    """Write `train.csv`, `val.csv` and `test.csv` of one fold and log their class counts.

    Args:
        folder: where to; made if absent.
        parts: rows by part name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        write_annotations(folder / f"{part}.csv", rows)
    shown = ", ".join(f"{part} {len(rows):,}" for part, rows in parts.items())
    logger.info("wrote %s: %s", folder, shown)
    for part in ("train", "test"):
        counts = Counter(label for _, label in parts.get(part, ()))
        if not all(label.isdecimal() for label in counts):
            continue
        by_label = sorted(counts.items(), key=lambda item: natural_key(item[0]))
        logger.info("  %s per class: %s", part, "  ".join(f"{k}: {v}" for k, v in by_label))


def add_split_flags(parser: argparse.ArgumentParser, *, validation: bool = True) -> None:
    """Flags that all commands for labelled data sets have.

    Args:
        parser: gets them.
        validation: off for data sets with an official validation part.
    """
    parser.add_argument(
        "--allow_other_counts",
        action="store_true",
        help="warn instead of stopping when the numbers of videos are not the published ones",
    )
    parser.add_argument(
        "--leave_out_missing",
        action="store_true",
        help="leave videos without frames out, named, instead of stopping",
    )
    add_link_flag(parser)
    if not validation:
        return
    parser.add_argument(
        "--val_fraction",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="carve this share of the training part off as validation part, 0..1; "
        "0: val.csv repeats test.csv, as in the released code",
    )
    parser.add_argument("--val_seed", type=int, default=0, help="seed of that choice")


def split_parts(
    train: Sequence[Row],
    test: Sequence[Row],
    flags: argparse.Namespace,
    subjects: Sequence[str] | None = None,
    *,
    balance: bool = True,
) -> dict[str, list[Row]]:
    """Add the validation part, as the flags of `add_split_flags` ask.

    Args:
        train: official training rows.
        test: official test rows.
        flags: with `val_fraction` and `val_seed`.
        subjects: subject of each training row, if known.
        balance: labels are classes, whose shares the validation part keeps; off for regression.

    Returns:
        Rows of "train", "val" and "test".
    """
    if flags.val_fraction == 0:
        return {"train": list(train), "val": list(test), "test": list(test)}
    labels = [label if balance else "any" for _, label in train]
    chosen = carve_validation(labels, flags.val_fraction, seed=flags.val_seed, subjects=subjects)
    return {
        "train": [row for row, taken in zip(train, chosen, strict=True) if not taken],
        "val": [row for row, taken in zip(train, chosen, strict=True) if taken],
        "test": list(test),
    }


def warn_about_validation(flags: argparse.Namespace) -> None:
    """Say loudly that val.csv is the test part, when it is."""
    if flags.val_fraction == 0:
        logger.warning(
            "THIS DATA SET HAS NO OFFICIAL VALIDATION PART: val.csv repeats test.csv, so 'best' "
            "weights would be chosen on the test videos. Report the last epoch, as the published "
            "numbers do (the default), or carve a validation part with --val_fraction 0.1."
        )
