"""Your own videos: a folder per class, or a CSV -> train, validation and test CSVs.

    python -m svfap.preprocess.custom FOLDER --output_dir saved/data/mine
    python -m svfap.preprocess.custom TABLE.csv --output_dir saved/data/mine --num_folds 5

FOLDER holds one folder per class with videos, frame folders or images (or train/, val/, test/ with
these in them). TABLE.csv has a header and columns path, label and, if known, subject (who is seen)
and split (train, val or test). docs/custom_data.md goes from there to a trained model.
"""

import argparse
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.labels.kinds import KINDS
from svfap.preprocess.shared.common import PreparationError, Problems, add_link_flag, run_command
from svfap.preprocess.shared.custom_sources import (
    Source,
    class_order,
    decide_task,
    name_subjects,
    read_csv,
    read_folder,
)
from svfap.preprocess.shared.custom_sources import to_clips as labelled_clips
from svfap.preprocess.shared.labelled import Clip, Found, Parts
from svfap.preprocess.shared.layouts import LAYOUTS, guess_pattern, read_layout
from svfap.preprocess.shared.runner import check_found, check_subjects
from svfap.preprocess.shared.subject_folds import add_fold_flags, fold_splits, warn_about_absent
from svfap.preprocess.shared.writing import Target, carve, write_splits

logger = logging.getLogger(__name__)

AUTO = "auto"
SHOWN_PEOPLE = 12
TASKS = (AUTO, "classification", "regression")


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.custom`."""
    parser = argparse.ArgumentParser("preprocess.custom", description=__doc__.split("\n")[0])
    parser.add_argument("dataset_dir", type=Path, metavar="FOLDER_OR_CSV")
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR")
    add = parser.add_argument_group("labels").add_argument
    add("--task", choices=TASKS, default="auto",
        help="auto: classification, unless labels are several or have fractions")  # fmt: skip
    add("--class_names", nargs="+", metavar="NAME",
        help="classes in label order (default: sorted); names numbers 0, 1, ... in a CSV"
    )  # fmt: skip
    add("--label", nargs="+", default=["label"], metavar="COLUMN",
        help="label column; several for regression of several numbers")  # fmt: skip
    add("--layout", choices=LAYOUTS,
        help="a folder named as this data set is: paths say class and person")  # fmt: skip
    people = "who is seen; nobody is then on two sides of a split"
    add = parser.add_argument_group(people).add_argument
    add("--subject", metavar="COLUMN", help="(default: subject, if there)")
    add("--subject_pattern", type=_pattern, metavar="REGEX",
        help="instead: its first group, searched in each path, e.g. '/(person\\d+)_'; auto: where "
        "names look as if they began with a person, that")  # fmt: skip
    split = parser.add_argument_group("split; a CSV's column or folders train, val, test go first")
    add = split.add_argument
    add("--split", metavar="COLUMN", help="(default: split, if there)")
    add("--test_fraction", type=float, default=0.2, metavar="SHARE",
        help="share of the test part, 0..1, without --num_folds")  # fmt: skip
    add("--val_fraction", type=float, default=0.1, metavar="SHARE",
        help="share of the remaining clips for validation, 0..1; 0: val.csv repeats test.csv"
    )  # fmt: skip
    add("--val_seed", type=int, default=0, help="seed of that choice")
    add_fold_flags(split, num_folds=0)
    files = parser.add_argument_group("files")
    files.add_argument("--data_root", type=Path, metavar="DIR",
        help="folder of relative paths in a CSV (default: that of the CSV)")  # fmt: skip
    files.add_argument("--leave_out_missing", action="store_true",
        help="leave missing or empty files out, named, instead of stopping")  # fmt: skip
    add_link_flag(parser)
    parser.set_defaults(allow_other_counts=True)
    return parser


def _pattern(text: str) -> re.Pattern | str:
    if text == AUTO:
        return text
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    if pattern.groups < 1:
        raise argparse.ArgumentTypeError(f"{text!r} has no group; put ( ) around the subject")
    return pattern


def read_source(flags: argparse.Namespace) -> Source:
    """Read the folder or table."""
    if flags.dataset_dir.is_dir():
        folder = flags.dataset_dir.absolute()
        return read_layout(folder, flags.layout) if flags.layout else read_folder(folder)
    if flags.dataset_dir.is_file():
        return read_csv(
            flags.dataset_dir,
            label_columns=flags.label,
            subject_column=flags.subject,
            split_column=flags.split,
            data_root=flags.data_root,
        )
    raise PreparationError(f"no such folder or CSV: {flags.dataset_dir}")


def settle_subjects(source: Source, wanted: re.Pattern | str | None) -> None:
    """Who is seen, as `--subject_pattern` says; where nothing says it, what could."""
    unknown = [sample for sample in source.samples if sample.subject is None]
    guess = guess_pattern(unknown) if unknown and wanted in (None, AUTO) else None
    if wanted == AUTO and guess:
        logger.info("people by --subject_pattern '%s': see below whether they are", guess)
        wanted = re.compile(guess)
    if isinstance(wanted, re.Pattern):
        name_subjects(source, wanted)
    elif unknown:
        offer = f"; names look as if --subject_pattern '{guess}' found them" if guess else ""
        logger.warning(
            "no subjects are known: the same person may be in training and test part, and the "
            "results too good; name them with a column subject, --subject_pattern or --layout%s",
            offer,
        )


def tell_subjects(clips: Sequence[Clip]) -> None:
    """Say how many people there are and how many clips each has."""
    counts = Counter(clip.subject for clip in clips if clip.subject is not None)
    if not counts:
        return
    shown = ", ".join(f"{name} {n}" for name, n in counts.most_common(SHOWN_PEOPLE))
    more = ", ..." if len(counts) > SHOWN_PEOPLE else ""
    numbers = f"{min(counts.values())} to {max(counts.values())} clips each"
    logger.info("%d people, %s: %s%s", len(counts), numbers, shown, more)
    if len(counts) == len(clips):
        logger.warning(
            "every clip is a person of its own, such as %s: if people have several clips, they "
            "will be in training and test part, and the results too good; correct the column "
            "subject or --subject_pattern (it may take too much of the name)", min(counts),
        )  # fmt: skip


def settle_labels(source: Source, flags: argparse.Namespace) -> LabelNames:
    """Task and names, chosen by the flags or from the labels, and said."""
    task = decide_task(source) if flags.task == "auto" else flags.task
    if not KINDS[task].one_class:
        names = flags.class_names or source.label_columns
        if len(names) != len(source.label_columns):
            raise PreparationError(
                f"--class_names {' '.join(names)}: {len(source.label_columns)} label column(s)"
            )
        logger.info("regression of %s", ", ".join(names))
        return LabelNames(task=task, class_names=tuple(names))
    if len(source.label_columns) > 1:
        raise PreparationError("--task classification needs one label column")
    names = class_order(source, flags.class_names)
    if len(names) < 2:
        raise PreparationError(f"only one class ({', '.join(names)}): there is nothing to tell")
    logger.info("%d classes: %s", len(names), "  ".join(f"{i} {n}" for i, n in enumerate(names)))
    return LabelNames(task=task, class_names=names)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs."""
    flags = build_parser().parse_args(argv)
    source = read_source(flags)
    settle_subjects(source, flags.subject_pattern)
    names = settle_labels(source, flags)
    target, labelled = Target(names), labelled_clips(source, names)
    found = Found(clips=[clip for clip, _ in labelled], problems=source.problems)
    usable = check_found(found, {}, {}, name=str(flags.dataset_dir), flags=flags)
    parts = {clip: part for clip, part in labelled if clip.path in usable}
    clips = list(parts)
    tell_subjects(clips)
    if not any(parts.values()) and (flags.num_folds >= 2 or flags.folds_file):
        splits = fold_splits(usable, names, flags)
    else:
        if any(parts.values()):
            split = given_split(clips, parts, flags)
        else:
            flag = ("--test_fraction", flags.test_fraction)
            split = dict(zip(("train", "test"), carve(clips, target, flag, flags.fold_seed)))
        warn_about_absent(str(flags.output_dir), split, names)
        splits = {"": split}
    write_splits(usable, splits, {"": target}, flags)
    _tell_next(flags)


def given_split(
    clips: Sequence[Clip], parts: dict[Clip, str | None], flags: argparse.Namespace
) -> Parts:
    """The parts that the table or the folders give."""
    split = {p: [clip for clip in clips if parts[clip] == p] for p in ("train", "val", "test")}
    for part in ("train", "test"):
        if not split[part]:
            raise PreparationError(f"{flags.dataset_dir}: no clips for {part}")
    problems = Problems()
    check_subjects("the given split", split, problems)
    remedy = "move them, or remove the column or folders of the split and let it be drawn"
    problems.raise_if_any(
        "the given split", report=flags.output_dir / "problems.txt", remedy=remedy
    )
    return {part: some for part, some in split.items() if some}


def _tell_next(flags: argparse.Namespace) -> None:
    folder = flags.output_dir
    train = f"svfap finetune --data_set custom --data_path {folder}"
    if not (folder / "train.csv").exists():  # folds
        train = f"svfap.engine.crossval --data_path {folder} --output_dir RUNS -- --data_set custom"
    logger.info("check the data:  python -m svfap.preprocess.doctor %s", folder)
    logger.info("train on it:     python -m %s", train)


if __name__ == "__main__":
    run_command(main)
