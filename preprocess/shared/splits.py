"""Train, validation and test parts of a fold: flags about them, writing their CSVs."""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.labels.annotations import write_annotations
from svfap.datasets.labels.splits import carve_validation
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import add_link_flag

logger = logging.getLogger(__name__)

Row = tuple[str, str]
"""(path, label) as they stand in a CSV; several labels are one text, separated by spaces."""


def write_split(folder: Path, parts: dict[str, Sequence[Row]]) -> None:
    """Write `train.csv`, `val.csv` and `test.csv` of one fold and log their class counts."""
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
    if validation:
        add_validation_flags(parser)


def add_validation_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the validation part, for data sets without an official one."""
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
