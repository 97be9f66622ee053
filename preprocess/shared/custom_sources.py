"""Reading one's own data: a folder per class, or a table with a header."""

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.labels.listing import Folder, Unused, visible_folders, walk_folders
from svfap.datasets.tables import as_on_disk, iterate_table, read_header, same_name
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import PreparationError, Problems
from svfap.preprocess.shared.labelled import Clip

logger = logging.getLogger(__name__)

PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
PARTS = {name: part for part, names in PART_NAMES.items() for name in names}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a table, or one video of a class folder."""

    path: Path  # where it lies
    name: str  # path below the folder, or as the table has it
    labels: tuple[str, ...]  # as written: a class name, or numbers
    where: str  # file and line, or the path, for messages
    subject: str | None = None
    part: str | None = None  # "train", "val" or "test", if given


@dataclass
class Source:
    """What was read, before labels become numbers."""

    samples: list[Sample] = field(default_factory=list)
    # what the labels are called, one name per number in regression
    label_columns: tuple[str, ...] = ("label",)
    problems: Problems = field(default_factory=Problems)  # lines that are not as they should be


def read_folder(folder: Path) -> Source:
    """Read a folder per class, perhaps below folders train, val and test.

    A class folder holds videos or frame folders at any depth; images directly in it are samples
    of their own. What is not used is said (`walk_folders`).
    """
    source, unused = Source(), Unused(folder)
    parts = _given_parts(folder)
    for inside in walk_folders(folder, unused):
        names = inside.path.relative_to(folder).parts
        part, below = (parts[names[0]], names[1:]) if parts and names else (None, names)
        if not below:
            for path in inside.files(inside.videos + inside.pictures):
                unused.add("files beside the class folders", path)
            continue
        for path in _samples(inside, unused, is_class=len(below) == 1):
            name, label = path.relative_to(folder).as_posix(), (same_name(below[0]),)
            source.samples.append(
                Sample(path=path, name=name, labels=label, where=str(path), part=part)
            )
    classes = {sample.labels[0] for sample in source.samples}
    for parent in [folder / name for name in parts] or [folder]:
        for empty in visible_folders(parent):
            if same_name(empty.name) not in classes:
                unused.add("class folders without videos or pictures", empty)
    unused.tell()
    if len(classes) < 2:
        found = unused.in_words()
        raise PreparationError(
            f"{folder}: {len(classes)} class folder(s) {sorted(classes)} with videos or pictures; "
            "expected one folder per class (FOLDER/happy/*.mp4, FOLDER/sad/*.mp4), or give a CSV "
            "with path and label" + (f". There are {found}" if found else "")
        )
    _name_contradictions(source)
    return source


def _given_parts(folder: Path) -> dict[str, str]:
    """Part by the name of the folder directly below, where these folders are a split."""
    names = [entry.name for entry in visible_folders(folder)]
    given = {name: PARTS[name.lower()] for name in names if name.lower() in PARTS}
    others = [name for name in names if name not in given]
    if len(given) > 1 and others:
        raise PreparationError(
            f"{folder}: folders {', '.join(given)} look like a split, but there are others beside "
            f"them: {', '.join(others)}; remove or rename them"
        )
    return {} if others else given


def _samples(inside: Folder, unused: Unused, *, is_class: bool) -> list[Path]:
    """Videos, or the folder as one video; in a class folder each image is a sample of its own."""
    if inside.videos:
        for path in inside.files(inside.pictures):
            unused.add("pictures beside videos", path)
        return inside.files(inside.videos)
    if not is_class:
        return [inside.path]
    logger.info("%s: %d single images, each a sample of its own", inside.path, len(inside.pictures))
    return inside.files(inside.pictures)


def _name_contradictions(source: Source) -> None:
    """One file under two labels, by links, is a problem."""
    seen: dict[str, Sample] = {}
    for sample in source.samples:
        first = seen.setdefault(os.path.realpath(sample.path), sample)
        if first.labels != sample.labels:
            source.problems.add(
                f"{sample.where}: label {sample.labels[0]!r}, but the same file is {first.where} "
                f"with {first.labels[0]!r}"
            )


def name_subjects(source: Source, pattern: re.Pattern) -> None:
    """Let the first group of a pattern, searched in the paths, say who is seen where it is open."""
    for place, sample in enumerate(source.samples):
        if sample.subject is not None:
            continue
        match = pattern.search(sample.name)
        if match is None:
            source.problems.add(
                f"{sample.name}: --subject_pattern {pattern.pattern!r} finds nothing in it"
            )
        else:
            source.samples[place] = replace(sample, subject=match[1])


def read_csv(
    path: Path,
    *,
    label_columns: Sequence[str],
    subject_column: str | None = None,
    split_column: str | None = None,
    data_root: Path | None = None,
) -> Source:
    """Read a table with a header, see `datasets.tables`.

    Args:
        path: with a column `path` and those named here.
        label_columns: one class, or the numbers to predict.
        subject_column: None: column `subject` if there is one.
        split_column: train, val or test; None: column `split` if there is one.
        data_root: folder of relative paths, by default the table's own.
    """
    source = Source(label_columns=tuple(label_columns))
    wanted = [*label_columns, *filter(None, (subject_column, split_column))]
    header = _check_header(path, wanted)
    subject_column = subject_column or ("subject" if "subject" in header else None)
    split_column = split_column or ("split" if "split" in header else None)
    seen: dict[str, str] = {}
    for line, row in iterate_table(path):
        where = f"{path} line {line}"
        if None in row or len(row) < len(header):
            found = len(row) + (len(row[None]) - 1 if None in row else 0)
            source.problems.add(f"{where}: {found} columns, the header has {len(header)}")
            continue
        problem = _row_problem(row, label_columns, subject_column, split_column)
        first = seen.setdefault(same_name(row["path"]), where)
        if first != where:
            problem = f"{row['path']} is already in {first}"
        if problem:
            source.problems.add(f"{where}: {problem}")
            continue
        video = Path(os.path.abspath((data_root or path.parent) / row["path"]))
        source.samples.append(
            Sample(
                path=as_on_disk(video),
                name=row["path"],
                labels=tuple(row[name] for name in label_columns),
                where=where,
                subject=row[subject_column] if subject_column else None,
                part=PARTS[row[split_column].lower()] if split_column else None,
            )
        )
    if not seen and not source.problems.lines:
        raise PreparationError(f"{path}: expected a header (path,label,...) and at least one row")
    return source


def _check_header(path: Path, wanted: Sequence[str]) -> list[str]:
    header = read_header(path)
    absent = [name for name in ("path", *wanted) if name not in header]
    if absent:
        raise PreparationError(
            f"{path}: no column {', '.join(map(repr, absent))}; its header is {header} (columns: "
            "path,label[,subject][,split]; --label, --subject, --split name others)"
        )
    return header


def _row_problem(
    row: Mapping[str, str],
    label_columns: Sequence[str],
    subject_column: str | None,
    split_column: str | None,
) -> str | None:
    for name in ("path", *label_columns, subject_column, split_column):
        if name and not row[name]:
            return f"column {name!r} is empty"
    if split_column and row[split_column].lower() not in PARTS:
        return f"split {row[split_column]!r} is not train, val or test"
    return None


def decide_task(source: Source) -> str:
    """Task that the labels suggest: numbers with a fraction, or several, mean regression."""
    if len(source.label_columns) > 1:
        return "regression"
    values = [sample.labels[0] for sample in source.samples]
    if all(_number(value) is not None for value in values):
        fractions = any(not _number(value).is_integer() for value in values)
        return "regression" if fractions else "classification"
    return "classification"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def class_order(source: Source, given: Sequence[str] | None) -> tuple[str, ...]:
    """Class names in label order.

    Args:
        source: with class names, or with numbers 0, 1, ... where `given` names them.
        given: order wanted by the user; labels outside it become problems.
    """
    present = sorted({sample.labels[0] for sample in source.samples}, key=natural_key)
    if not given:
        return tuple(present)
    numbered = all(label.isdecimal() and int(label) < len(given) for label in present)
    if numbered and not set(present) & set(given):
        source.samples = [
            replace(sample, labels=(given[int(sample.labels[0])],)) for sample in source.samples
        ]
        return tuple(given)
    for sample in source.samples:
        if sample.labels[0] not in given:
            known = ", ".join(given)
            source.problems.add(f"{sample.where}: label {sample.labels[0]!r} is none of {known}")
    return tuple(given)


def to_clips(source: Source, names: LabelNames) -> list[tuple[Clip, str | None]]:
    """Clips with labels as CSVs have them, each with its given part.

    Labels that do not fit the task become problems.
    """
    clips = []
    for sample in source.samples:
        if not names.kind.one_class:
            wrong = [value for value in sample.labels if _number(value) is None]
            if wrong:
                source.problems.add(f"{sample.where}: {wrong[0]!r} is not a finite number")
                continue
            label = " ".join(sample.labels)
        elif sample.labels[0] in names.class_names:
            label = str(names.class_names.index(sample.labels[0]))
        else:
            continue
        clips.append((Clip(path=sample.path, label=label, subject=sample.subject), sample.part))
    return clips
