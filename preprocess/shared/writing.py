"""From clips to the CSVs of every fold, and all that stands beside them."""

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from svfap.datasets.catalog import DatasetSpec
from svfap.datasets.labels.annotations import write_annotations
from svfap.datasets.labels.classes import LabelNames, write_classes
from svfap.datasets.labels.splits import carve_validation
from svfap.datasets.tables import write_table
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import add_link_flag, without_spaces
from svfap.preprocess.shared.labelled import GROUPS_FILE, SUBJECTS_FILE, Clip, Parts

logger = logging.getLogger(__name__)

DIMENSIONS = ("valence", "arousal")


class Target(NamedTuple):
    """What the CSVs of a folder are for: names, and which fields of the clips' labels."""

    names: LabelNames
    fields: slice = slice(None)

    def line(self, clip: Clip) -> tuple[str, ...] | None:
        """The fields of a clip; None if it shows a class that is not among the names."""
        fields = tuple(clip.label.split(" "))[self.fields]
        for field, column in zip(fields, self.names.columns):
            if column.classes and int(field) >= len(column.classes):
                return None
        return fields

    def classes(self, clip: Clip) -> str:
        """Those of the fields that are classes; "" for numbers only."""
        fields = clip.label.split(" ")[self.fields]
        return " ".join(f for f, c in zip(fields, self.names.columns) if c.classes is not None)


Targets = Mapping[str, Target]
"""What is learned from the same clips, by folder of its CSVs ("": that of all)."""


def target_of(spec: DatasetSpec) -> Targets:
    """The target of a catalogued data set."""
    names = LabelNames(task=spec.task, class_names=spec.class_names, data_set=spec.name)
    return {"": Target(names)}


def affect_targets(class_names: Sequence[str], data_set: str = "custom") -> Targets:
    """Expression, valence and arousal: labels of these three fields, for each and for both."""
    classes, expression = tuple(class_names), "expression"
    both = LabelNames(
        task="class_and_values", class_names=(expression, *DIMENSIONS),
        heads={expression: classes}, data_set=data_set,
    )  # fmt: skip
    one = LabelNames(task="classification", class_names=classes, data_set=data_set)
    values = LabelNames(task="regression", class_names=DIMENSIONS, data_set=data_set)
    return {
        "expression": Target(one, slice(1)),
        "valence_arousal": Target(values, slice(1, None)),
        "both": Target(both),
    }


def write_splits(
    usable: Mapping[Path, Clip],
    splits: Mapping[str, Parts],
    targets: Targets,
    flags: argparse.Namespace,
) -> None:
    """Write the CSVs of every split, for every target, and who is seen.

    Args:
        usable: clips to write, by their path in the splits.
        splits: parts by folder, below that of the target.
    """
    clips = list(usable.values())
    first = flags.output_dir / next(iter(targets)) / next(iter(splits))
    rename = csv_paths(clips, first, flags)
    for name, parts in splits.items():
        kept = {p: [usable[c.path] for c in some if c.path in usable] for p, some in parts.items()}
        write_parts(name, kept, targets, flags, rename)
    rows = [(rename[clip.path], clip.subject) for clip in clips if clip.subject is not None]
    if rows:
        write_table(flags.output_dir / SUBJECTS_FILE, ("path", "subject"), rows)
    if not any("val" in parts for parts in splits.values()):
        warn_about_validation(flags)


def write_parts(
    name: str,
    parts: Parts,
    targets: Targets,
    flags: argparse.Namespace,
    rename: Mapping[Path, str] | None = None,
) -> None:
    """Write train.csv, val.csv, test.csv and classes.json of one split, for every target.

    Of named targets also who is seen, which is looked for in the split and one level up.

    Without an official validation part it is carved from the training part as the flags ask.

    Args:
        rename: paths as they stand in the CSVs, where already known.
    """
    every = [clip for some in parts.values() for clip in some]
    rename = rename or csv_paths(every, flags.output_dir / next(iter(targets)) / name, flags)
    if "val" not in parts and flags.val_fraction:
        target, flag = next(iter(targets.values())), ("--val_fraction", flags.val_fraction)
        train, val = carve(parts["train"], target, flag, flags.val_seed)
        parts = {**parts, "train": train, "val": val}
    parts = {p: parts.get(p, parts["test"]) for p in ("train", "val", "test")}
    groups = {rename[clip.path]: clip.group for clip in every if clip.group}
    subjects = {rename[clip.path]: clip.subject for clip in every if clip.subject is not None}
    for folder, target in targets.items():
        split = flags.output_dir / folder / name
        _write(split, parts, target, rename)
        if groups:
            write_table(split / GROUPS_FILE, ("path", "group"), groups.items())
        if folder and subjects:  # else one level up, where `write_splits` writes them once
            write_table(split / SUBJECTS_FILE, ("path", "subject"), subjects.items())


def _write(folder: Path, parts: Parts, target: Target, rename: Mapping[Path, str]) -> None:
    counts = {}
    for part, clips in parts.items():
        lines = [(rename[c.path], line) for c in clips if (line := target.line(c)) is not None]
        write_annotations(folder / f"{part}.csv", [(path, *line) for path, line in lines])
        counts[part] = Counter(line for _, line in lines)
    shown = ", ".join(f"{part} {count.total():,}" for part, count in counts.items())
    logger.info("wrote %s: %s", folder, shown)
    for part in ("train", "test"):
        if target.names.kind.one_class:
            by_label = sorted(counts[part].items(), key=lambda item: natural_key(item[0][0]))
            shown = "  ".join(f"{label}: {count}" for (label,), count in by_label)
            logger.info("  %s per class: %s", part, shown)
    write_classes(folder, target.names)


def carve(
    clips: Sequence[Clip], target: Target, flag: tuple[str, float], seed: int
) -> tuple[list[Clip], list[Clip]]:
    """The rest, and a share: whole people if they are known, with the same share of every class.

    Args:
        flag: that asks for it, and its value: the share, 0..1.
    """
    known = all(clip.subject is not None for clip in clips)
    subjects = [clip.subject for clip in clips] if known else None
    labels = [target.classes(clip) for clip in clips]
    chosen = carve_validation(labels, flag[1], seed=seed, subjects=subjects, flag=flag[0])
    taken = list(zip(clips, chosen, strict=True))
    return [clip for clip, other in taken if not other], [clip for clip, other in taken if other]


def link_folder(flags: argparse.Namespace) -> Path:
    """Where links for paths with white space go: `--link_dir`, else beside the CSVs."""
    return flags.link_dir or flags.output_dir / "links"


def csv_paths(clips: Iterable[Clip], folder: Path, flags: argparse.Namespace) -> dict[Path, str]:
    """Path of each clip as it stands in the CSVs of a folder, see `common.without_spaces`."""
    links = link_folder(flags)
    paths = {clip.path: str(without_spaces(clip.path, links, folder)) for clip in clips}
    linked = sum(links.name in Path(path).parts for path in paths.values())
    if linked:
        logger.info("%d paths have white space: the CSVs name links in %s", linked, links)
    return paths


def add_split_flags(parser: argparse.ArgumentParser, *, validation: bool = True) -> None:
    """Flags that all commands for labelled data sets have.

    Args:
        validation: off for data sets with an official validation part.
    """
    parser.add_argument(
        "--allow_other_counts", action="store_true",
        help="warn instead of stopping when the numbers of videos are not the published ones",
    )  # fmt: skip
    parser.add_argument(
        "--leave_out_missing", action="store_true",
        help="leave videos without frames out, named, instead of stopping",
    )  # fmt: skip
    add_link_flag(parser)
    if validation:
        add_validation_flags(parser)


def add_validation_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the validation part, for data sets without an official one."""
    parser.add_argument(
        "--val_fraction", type=float, default=0.0, metavar="SHARE",
        help="carve this share of the training part off as validation part, 0..1; "
        "0: val.csv repeats test.csv, as in the released code",
    )  # fmt: skip
    parser.add_argument("--val_seed", type=int, default=0, help="seed of that choice")


def warn_about_validation(flags: argparse.Namespace) -> None:
    """Say loudly that val.csv is the test part, when it is."""
    if flags.val_fraction == 0:
        logger.warning(
            "THIS DATA SET HAS NO OFFICIAL VALIDATION PART: val.csv repeats test.csv, so 'best' "
            "weights would be chosen on the test videos. Report the last epoch, as the published "
            "numbers do (the default), or carve a validation part with --val_fraction 0.1."
        )
