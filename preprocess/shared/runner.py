"""One way from what a layout gave to checked CSVs, and one parser, for every labelled data set.

A data set's own file reads its layout into a `Found`; everything after that is here.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svfap.datasets.catalog import DatasetSpec
from svfap.preprocess.shared.common import PreparationError, Problems, check_counts, say
from svfap.preprocess.shared.labelled import Clip, Found, Parts, usable_clips
from svfap.preprocess.shared.subject_folds import add_fold_flags, fold_splits
from svfap.preprocess.shared.writing import Targets, add_split_flags, target_of, write_splits


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command `python -m svfap.preprocess.NAME` of a labelled data set."""

    spec: DatasetSpec
    name: str
    description: str  # documentation of the module, of which the first line is shown
    read: Callable[[argparse.Namespace], Found]  # reads the layout as the flags say
    output_dir: str = "saved/data/{name}"  # default of that flag
    # adds the data set's own flags
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    # numbers to compare with, given the flags and what was found; else those of the catalogue
    published: Callable[[argparse.Namespace, Found], Mapping[str, int]] | None = None
    # what is learned; else what the catalogue says
    targets: Callable[[argparse.Namespace], Targets] | None = None

    def build_parser(self) -> argparse.ArgumentParser:
        """Parser of the command."""
        first = self.description.split("\n")[0]
        parser = argparse.ArgumentParser(f"preprocess.{self.name}", description=first)
        parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
        default = Path(self.output_dir.format(name=self.name))
        parser.add_argument("--output_dir", type=Path, default=default)
        self.add_flags(parser)
        counts = self.spec.counts
        if "subjects" in counts and "train_subjects" not in counts:
            known = bool(self.spec.subject_folds)
            add_fold_flags(parser, num_folds=self.spec.num_folds, published=known)
        add_split_flags(parser, validation="val" not in counts)
        return parser

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Read the layout, check it, and write the CSVs of every split and target."""
        flags = self.build_parser().parse_args(argv)
        if flags.dataset_dir.is_file():
            raise PreparationError(f"--dataset_dir {flags.dataset_dir} is a file, not a folder")
        spec, found = self.spec, self.read(flags)
        if self.published:
            published = self.published(flags, found)
        else:
            published = published_counts(spec, found.splits)
        counts = count_clips(found, spec.class_names)
        usable = check_found(found, counts, published, name=spec.name, flags=flags)
        targets, splits = self.targets(flags) if self.targets else target_of(spec), found.splits
        if not splits:
            splits = fold_splits(usable, next(iter(targets.values())).names, flags, spec)
        write_splits(usable, splits, targets, flags)


def published_counts(spec: DatasetSpec, folders: Iterable[str] = ()) -> dict[str, int]:
    """Published numbers of a data set, by the keys of `count_clips`.

    Args:
        folders: of the official splits; numbers of every fold are those of split01, split02, ...
    """
    folders = list(folders)
    prefix = f"{folders[0]} ".lstrip() if len(folders) == 1 else ""
    counts = {}
    for part, number in spec.counts.items():
        if isinstance(number, int):
            own = prefix if part in ("train", "val", "test") else ""
            counts[own + ("clips" if part == "all" else part.replace("_", " "))] = number
            continue
        for fold, of_fold in enumerate(number, start=1):
            if (name := f"split{fold:02d}") in folders:
                counts[f"{name} train"] = of_fold
                counts[f"{name} test"] = spec.counts["all"] - of_fold
    for part, numbers in spec.class_counts.items():
        own = "" if part == "all" else f"{prefix}{part} "
        for name, number in zip(spec.class_names, numbers, strict=True):
            counts[f"{own}class {name}"] = number
    return counts


def count_clips(found: Found, class_names: Sequence[str]) -> dict[str, int]:
    """Numbers of clips, subjects, and clips per class, of all and of every part."""
    counts, groups = {}, {"": found.every}
    for folder, parts in found.splits.items():
        groups |= {f"{folder} {part}".lstrip(): clips for part, clips in parts.items()}
    for group, clips in groups.items():
        counts[group or "clips"] = len(clips)
        counts[f"{group} subjects".lstrip()] = len({clip.subject for clip in clips} - {None})
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
) -> dict[Path, Clip]:
    """Stop at problems, wrong counts, wrong splits and broken files; say what is missing or extra.

    Args:
        counts: numbers in `found`, besides those of all clips and subjects.
        published: what the authors state, by the same keys.

    Returns:
        The clips to use, by their path in `found`.
    """
    say("not part of the layout, not used", found.extra)
    report = flags.output_dir / "problems.txt"
    found.problems.raise_if_any(f"{name} layout", report=report)
    if not found.every:
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
    usable = usable_clips(found, flags.dataset_dir, leave_out=flags.leave_out_missing)
    remedy = "correct the files; to go on without the broken ones: --leave_out_missing"
    found.problems.raise_if_any(f"{name} files", report=report, remedy=remedy)
    report.unlink(missing_ok=True)
    return usable


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
            check_subjects(folder, parts, problems)
    if found.complete and len(found.splits) > 1:
        for path, clip in sorted(first_of.items()):
            if path not in tested:
                problems.add(f"{clip.where}: {_name(clip)} is in no fold's test part")


def _name(clip: Clip) -> str:
    return clip.name or str(clip.path)


def check_subjects(split: str, parts: Parts, problems: Problems) -> None:
    """Look for people in training and in another part."""
    sides = {part: {clip.subject for clip in clips} - {None} for part, clips in parts.items()}
    for part in sorted(sides.keys() - {"train"}):
        for subject in sorted(sides["train"] & sides[part]):
            problems.add(f"{split}: subject {subject} is in train and in {part}")
