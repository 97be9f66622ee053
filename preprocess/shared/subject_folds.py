"""Subject-independent folds: the authors', drawn from a seed or read from a file; checked."""

import argparse
import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from svfap.datasets.catalog import DatasetSpec
from svfap.datasets.files import read_json, write_text
from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.rng import generator
from svfap.datasets.tables import write_table
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import PreparationError, Problems, read_table
from svfap.preprocess.shared.labelled import Clip, Parts

logger = logging.getLogger(__name__)

FOLDS_JSON, FOLDS_CSV = "folds.json", "folds.csv"


def add_fold_flags(
    parser: argparse.ArgumentParser, *, num_folds: int, published: bool = False
) -> None:
    """Flags that choose folds.

    Args:
        published: the authors' folds are known, and the default.
    """
    add = parser.add_argument
    add("--num_folds", type=int, default=num_folds, metavar="N")
    instead = " instead of taking the authors'" if published else ""
    add("--fold_seed", type=int, default=None if published else 0, metavar="SEED",
        help=f"draw the folds{instead}; the same seed and clips give the same folds")  # fmt: skip
    add("--folds_file", type=Path, metavar="FILE",
        help="take the folds from here: a folds.json of an earlier run, or a CSV with columns "
        "subject and fold (1, 2, ...)")  # fmt: skip


def assign_folds(clips: Sequence[Clip], num_folds: int, *, seed: int) -> dict[str, int]:
    """Distribute subjects over folds so that each fold has its share of every class.

    Large subjects first, in random order among equals; each goes where the class counts of the
    folds stay closest to equal shares.

    Returns:
        0-based test fold of each subject.
    """
    counts = _class_counts(clips)
    if not 2 <= num_folds <= len(counts):
        raise PreparationError(
            f"--num_folds {num_folds}: choose 2 to {len(counts)}, the number of subjects"
        )
    rng = generator(seed, 0, 0, 0, "folds")
    subjects = sorted(counts, key=natural_key)
    order = [subjects[place] for place in rng.permutation(len(subjects))]
    order.sort(key=lambda subject: -counts[subject].sum())
    target = sum(counts.values()) / num_folds
    loads = np.zeros((num_folds, len(target)))
    members = np.zeros(num_folds, int)
    folds = {}
    for subject in order:
        excess = np.maximum(loads + counts[subject] - target, 0).sum(axis=1)
        fold = min(range(num_folds), key=lambda f: (excess[f], loads[f].sum(), members[f], f))
        loads[fold] += counts[subject]
        members[fold] += 1
        folds[subject] = fold
    return {subject: folds[subject] for subject in subjects}


def _class_counts(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    labels = [clip.label if clip.label.isdecimal() else "any" for clip in clips]
    columns = {label: column for column, label in enumerate(sorted(set(labels)))}
    counts: dict[str, np.ndarray] = {}
    for clip, label in zip(clips, labels, strict=True):
        row = counts.setdefault(clip.subject, np.zeros(len(columns)))
        row[columns[label]] += 1
    return counts


def read_folds(path: Path, subjects: set[str], problems: Problems) -> dict[str, int]:
    """Folds from a file: 0-based test fold of each subject.

    Args:
        path: folds.json of an earlier run, or a CSV with columns subject and fold.
        subjects: of the clips; each must be in exactly one fold.
        problems: gets a line for subjects in two folds, in none, or without clips.
    """
    if not path.is_file():
        raise PreparationError(f"no such file: {path}")
    entries = _json_folds(path) if path.suffix == ".json" else _csv_folds(path)
    names = sorted({fold for _, _, fold in entries}, key=natural_key)
    folds: dict[str, int] = {}
    for where, subject, fold in entries:
        known = folds.setdefault(subject, names.index(fold))
        if names[known] != fold:
            problems.add(f"{where}: subject {subject} is in fold {fold} and in fold {names[known]}")
        if subject not in subjects:
            problems.add(f"{where}: subject {subject} has no clips")
    for subject in sorted(subjects - set(folds), key=natural_key):
        problems.add(f"{path}: subject {subject} is in no fold")
    if len(names) < 2:
        problems.add(f"{path}: {len(names)} fold(s); there must be at least 2")
    return folds


def _json_folds(path: Path) -> list[tuple[str, str, str]]:
    content = read_json(path)
    try:
        return [
            (f"{path} {fold['name']}", str(subject), fold["name"])
            for fold in content["folds"]
            for subject in fold["test_subjects"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise PreparationError(
            f'{path}: expected {{"folds": [{{"name": ..., "test_subjects": [...]}}]}} ({error})'
        ) from error


def _csv_folds(path: Path) -> list[tuple[str, str, str]]:
    rows = read_table(path, ("subject", "fold"))
    return [
        (f"{path} line {line}", (row["subject"] or "").strip(), (row["fold"] or "").strip())
        for line, row in rows
    ]


def published_folds(
    spec: DatasetSpec, subjects: Iterable[str], problems: Problems
) -> dict[str, int]:
    """The authors' folds: 0-based test fold of each subject."""
    folds: dict[str, int] = {}
    for subject in sorted(set(subjects), key=natural_key):
        number = int(subject) if subject.isdecimal() else -1
        of = [n for n, (first, last) in enumerate(spec.subject_folds) if first <= number <= last]
        if of:
            folds[subject] = of[0]
        else:
            problems.add(f"subject {subject} is in none of the authors' folds")
    for fold, (first, last) in enumerate(spec.subject_folds):
        if fold not in folds.values():
            problems.add(f"the authors' fold {fold + 1}, subjects {first} to {last}, has no clips")
    return folds


def fold_splits(
    usable: Mapping[Path, Clip],
    names: LabelNames,
    flags: argparse.Namespace,
    spec: DatasetSpec | None = None,
) -> dict[str, Parts]:
    """Make or read the folds `split01`, `split02`, ..., and write down who is tested in which.

    Clips without subjects are distributed one by one.
    """
    known = all(clip.subject is not None for clip in usable.values())
    units = {path: clip.subject if known else str(path) for path, clip in usable.items()}
    folds, source = _make_folds(list(usable.values()), list(units.values()), flags, spec)
    splits: dict[str, Parts] = {}
    for fold in range(max(folds.values()) + 1):
        parts: Parts = {"train": [], "test": []}
        for path, clip in usable.items():
            part = "test" if folds[units[path]] == fold else "train"
            parts[part].append(dataclasses.replace(clip, path=path))
        splits[f"split{fold + 1:02d}"] = parts
    for name, parts in splits.items():
        warn_about_absent(name, parts, names)
    if known:
        source = {"data_set": names.data_set, **source}
        _write_list(flags.output_dir, list(splits), folds, list(units.values()), source)
    stale = {path.name for path in flags.output_dir.glob("split[0-9]*") if path.is_dir()}
    if left := sorted(stale - set(splits)):
        logger.warning("%s: left from an earlier run, remove: %s", flags.output_dir, " ".join(left))
    return splits


def _make_folds(
    clips: Sequence[Clip],
    units: Sequence[str],
    flags: argparse.Namespace,
    spec: DatasetSpec | None,
) -> tuple[dict[str, int], dict]:
    """Fold of each subject (or clip), and where the folds come from."""
    problems, report = Problems(), flags.output_dir / "problems.txt"
    of_authors = spec.subject_folds if spec else ()
    authors = flags.fold_seed is None and flags.num_folds == len(of_authors)
    if flags.folds_file is not None:
        folds = read_folds(flags.folds_file, set(units), problems)
        problems.raise_if_any("folds file", report=report)
        return folds, {"file": str(flags.folds_file)}
    if authors and (kept := _kept_folds(flags.output_dir / FOLDS_JSON, set(units))):
        return kept
    if authors:
        folds = published_folds(spec, units, problems)
        if problems.lines and flags.allow_other_counts:
            logger.warning(
                "%s; so the folds are not the authors', they are drawn as by --fold_seed 0",
                "; ".join(problems.lines),
            )
        else:
            remedy = "get all of the data set, or draw folds of those who are there: --fold_seed 0"
            problems.raise_if_any(f"{spec.name} folds", report=report, remedy=remedy)
            return folds, {"authors": True}
    seed = flags.fold_seed or 0
    clips = [dataclasses.replace(clip, subject=unit) for clip, unit in zip(clips, units)]
    return assign_folds(clips, flags.num_folds, seed=seed), {"seed": seed}


def _kept_folds(path: Path, subjects: set[str]) -> tuple[dict[str, int], dict] | None:
    """Folds that an earlier command drew here, so that runs with them go on; None without."""
    if not path.is_file():
        return None
    problems = Problems()
    folds, content = read_folds(path, subjects, problems), read_json(path)
    source = {name: content[name] for name in ("seed", "file") if name in content}
    if problems.lines or not source:
        return None
    logger.warning(
        "the folds of %s are kept, they are not the authors'; for those take another --output_dir",
        path,
    )
    return folds, source


def warn_about_absent(fold: str, parts: Parts, names: LabelNames) -> None:
    """Say which classes a part of a fold lacks."""
    for part, what in (("train", "training"), ("test", "test")) if names.kind.one_class else ():
        present = {clip.label for clip in parts[part]}
        absent = [n for i, n in enumerate(names.class_names) if str(i) not in present]
        if absent:
            logger.warning("%s: no %s clips of %s", fold, what, ", ".join(absent))


def _write_list(
    output_dir: Path,
    written: Sequence[str],
    folds: Mapping[str, int],
    subjects: Sequence[str],
    source: dict,
) -> None:
    numbers = Counter(subjects)
    content = source | {
        "folds": [
            {
                "name": name,
                "test_subjects": [s for s in folds if folds[s] == index and s in numbers],
                "test_clips": sum(numbers[s] for s in folds if folds[s] == index),
            }
            for index, name in enumerate(written)
        ]
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    write_text(output_dir / FOLDS_JSON, text + "\n")
    rows = [(s, folds[s] + 1, numbers[s]) for s in sorted(numbers, key=natural_key)]
    write_table(output_dir / FOLDS_CSV, ("subject", "fold", "clips"), rows)
    logger.info("wrote %s: who is tested in which fold", output_dir / FOLDS_JSON)
