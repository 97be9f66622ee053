"""One way from what a layout gave to checked CSVs, and one parser, for every labelled data set.

A data set's own file reads its layout into a `Found`; everything after that is here.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svfap.datasets.catalog import DatasetSpec
from svfap.datasets.labels.classes import LabelNames
from svfap.preprocess.shared.common import PreparationError, Problems, check_counts, say
from svfap.preprocess.shared.labelled import (
    Clip,
    Found,
    Parts,
    add_split_flags,
    csv_paths,
    label_names,
    on_disk,
    usable_clips,
    warn_about_validation,
    write_parts,
    write_subjects,
)
from svfap.preprocess.shared.subject_folds import add_fold_flags, write_folds


def no_flags(parser: argparse.ArgumentParser) -> None:
    """A data set without flags of its own."""


def dataset_parser(
    spec: DatasetSpec,
    name: str,
    description: str,
    *,
    output_dir: str | None = None,
    add_flags: Callable[[argparse.ArgumentParser], None] = no_flags,
) -> argparse.ArgumentParser:
    """Parser of the command of a data set; the arguments are those of `Command`."""
    first = description.split("\n")[0]
    parser = argparse.ArgumentParser(f"preprocess.{name}", description=first)
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    default = Path(output_dir or f"saved/data/{name}")
    parser.add_argument("--output_dir", type=Path, default=default)
    add_flags(parser)
    if "subjects" in spec.counts and "train_subjects" not in spec.counts:
        known = bool(spec.subject_folds)
        add_fold_flags(parser, num_folds=spec.num_folds, published=known)
    add_split_flags(parser, validation="val" not in spec.counts)
    return parser


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command `python -m svfap.preprocess.NAME` of a labelled data set."""

    spec: DatasetSpec
    name: str
    description: str  # documentation of the module, of which the first line is shown
    read: Callable[[argparse.Namespace], Found]  # reads the layout as the flags say
    output_dir: str | None = None  # default of that flag; else a folder of the module's name
    add_flags: Callable[[argparse.ArgumentParser], None] = no_flags  # adds the data set's own flags
    # numbers to compare with, given the flags and what was found; else those of the catalogue
    published: Callable[[argparse.Namespace, Found], Mapping[str, int]] | None = None

    def build_parser(self) -> argparse.ArgumentParser:
        """Parser of the command."""
        return dataset_parser(
            self.spec, self.name, self.description,
            output_dir=self.output_dir, add_flags=self.add_flags,
        )  # fmt: skip

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Write the CSVs."""
        flags = self.build_parser().parse_args(argv)
        if flags.dataset_dir.is_file():
            raise PreparationError(f"--dataset_dir {flags.dataset_dir} is a file, not a folder")
        found = self.read(flags)
        published = self.published(flags, found) if self.published else None
        prepare(self.spec, found, flags, published=published)


def prepare(
    spec: DatasetSpec,
    found: Found,
    flags: argparse.Namespace,
    *,
    published: Mapping[str, int] | None = None,
    names: LabelNames | None = None,
) -> None:
    """Check what was found, then write the CSVs of every split and all that belongs to them.

    Args:
        found: of reading the layout; without `splits` folds are made, by subject.
        published: counts, by default those of the catalogue.
        names: for classes.json, by default those of the catalogue.
    """
    published = published_counts(spec) if published is None else published
    counts = count_clips(found, spec.class_names)
    clips = check_found(found, counts, published, name=spec.name, flags=flags)
    names = names or label_names(spec)
    if found.splits:
        write_splits(clips, found.splits, names, flags)
    else:
        write_folds(clips, names, flags, spec)


def write_splits(
    clips: Sequence[Clip],
    splits: Mapping[str, Parts],
    names: LabelNames,
    flags: argparse.Namespace,
) -> None:
    """Write given splits, as far as their clips are usable."""
    usable = {clip.path for clip in clips}
    for folder, parts in splits.items():
        kept = {part: [on_disk(clip) for clip in some] for part, some in parts.items()}
        kept = {part: [c for c in some if c.path in usable] for part, some in kept.items()}
        write_parts(flags.output_dir / folder, **kept, names=names, flags=flags)
    first = flags.output_dir / next(iter(splits))
    write_subjects(flags.output_dir, clips, csv_paths(clips, first, flags))
    if not any("val" in parts for parts in splits.values()):
        warn_about_validation(flags)


def published_counts(spec: DatasetSpec) -> dict[str, int]:
    """Published numbers of a data set, by the keys of `count_clips`."""
    names = {"all": "clips", "subjects": "subjects", "train": "train", "val": "val", "test": "test"}
    counts = {
        names[part]: number
        for part, number in spec.counts.items()
        if part in names and isinstance(number, int)
    }
    for part, numbers in spec.class_counts.items():
        prefix = "" if part == "all" else f"{part} "
        for name, number in zip(spec.class_names, numbers, strict=True):
            counts[f"{prefix}class {name}"] = number
    return counts


def count_clips(found: Found, class_names: Sequence[str]) -> dict[str, int]:
    """Numbers of clips, subjects, and clips per class, of all and of every part."""
    counts = {"subjects": len({clip.subject for clip in found.clips} - {None})}
    groups = {"": found.clips}
    for folder, parts in found.splits.items():
        prefix = f"{folder} " if folder else ""
        groups |= {f"{prefix}{part}": clips for part, clips in parts.items()}
        counts[f"{prefix}in all"] = sum(len(clips) for clips in parts.values())
    for group, clips in groups.items():
        counts[group or "clips"] = len(clips)
        by_label = Counter(clip.label.split(" ")[0] for clip in clips)
        for index, name in enumerate(class_names):
            counts[f"{group} class {name}".strip()] = by_label[str(index)]
    return counts


def check_found(
    found: Found,
    counts: Mapping[str, int],
    published: Mapping[str, int],
    *,
    name: str,
    flags: argparse.Namespace,
) -> list[Clip]:
    """Stop at problems, wrong counts, wrong splits and broken files; say what is missing or extra.

    Args:
        counts: numbers in `found`, besides those of all clips and subjects.
        published: what the authors state, by the same keys.

    Returns:
        The clips to use.
    """
    say("not part of the layout, not used", found.extra)
    report = flags.output_dir / "problems.txt"
    found.problems.raise_if_any(f"{name} layout", report=report)
    if not found.clips:
        raise PreparationError(f"{name}: no clip found in {flags.dataset_dir}")
    check_counts(
        count_clips(found, ()) | dict(counts),
        dict(published),
        allow_other=flags.allow_other_counts,
        name=name,
        details=[f"missing: {line}" for line in found.missing],
    )
    say("missing", found.missing)
    check_splits(found)
    clips = usable_clips(found, flags.dataset_dir, leave_out=flags.leave_out_missing)
    remedy = "correct the files; to go on without the broken ones: --leave_out_missing"
    found.problems.raise_if_any(f"{name} files", report=report, remedy=remedy)
    report.unlink(missing_ok=True)
    return clips


def check_splits(found: Found) -> None:
    """Look for clips on both sides of a split, tested twice or never, and labels that disagree."""
    problems, first_of, tested = found.problems, {}, {}
    for folder, parts in found.splits.items():
        seen: dict[Path, Clip] = {}
        for clip in (clip for clips in parts.values() for clip in clips):
            first = seen.setdefault(clip.path, clip)
            if first is not clip:
                problems.add(f"{clip.where}: {_name(clip)} is already in {first.where}")
            known = first_of.setdefault(clip.path, clip)
            if known.label != clip.label:
                problems.add(
                    f"{clip.where}: {_name(clip)} has label {clip.label}, but {known.label} in "
                    f"{known.where}"
                )
        for clip in parts["test"]:
            other, where = tested.setdefault(clip.path, (folder, clip.where))
            if other != folder:
                problems.add(f"{clip.where}: {_name(clip)} is also tested in {where}")
        if found.subjects_apart:
            _check_subjects(folder, parts, problems)
    if found.complete and len(found.splits) > 1:
        for path, clip in sorted(first_of.items()):
            if path not in tested:
                problems.add(f"{clip.where}: {_name(clip)} is in no fold's test part")


def _name(clip: Clip) -> str:
    return clip.name or str(clip.path)


def _check_subjects(folder: str, parts: Parts, problems: Problems) -> None:
    sides = {part: {clip.subject for clip in clips} - {None} for part, clips in parts.items()}
    for subject in sorted(sides["train"] & sides["test"]):
        problems.add(f"{folder}: subject {subject} is in train and in test")
