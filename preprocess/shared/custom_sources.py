"""Reading one's own data: a folder per class, or a table with a header."""

import csv
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.labels.listing import VIDEO_SUFFIXES, find_videos
from datasets.video.open_video import IMAGE_SUFFIXES, natural_key
from preprocess.shared.common import PreparationError, Problems
from preprocess.shared.labelled import Clip

logger = logging.getLogger(__name__)

PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
PARTS = {name: part for part, names in PART_NAMES.items() for name in names}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a table, or one video of a class folder.

    Attributes:
        path: where it lies.
        labels: as written: a class name, or numbers.
        where: file and line, or the path, for messages.
        subject: who is seen, if known.
        part: "train", "val" or "test", if given.
    """

    path: Path
    labels: tuple[str, ...]
    where: str
    subject: str | None = None
    part: str | None = None


@dataclass
class Source:
    """What was read, before labels become numbers.

    Attributes:
        samples: in order.
        label_columns: what the labels are called, one name per number in regression.
        problems: lines that are not as they should be.
    """

    samples: list[Sample] = field(default_factory=list)
    label_columns: tuple[str, ...] = ("label",)
    problems: Problems = field(default_factory=Problems)


def read_folder(folder: Path, subject_pattern: re.Pattern | None = None) -> Source:
    """Read a folder per class, perhaps below folders train, val and test.

    A class folder holds videos or frame folders at any depth; images directly in it are samples
    of their own.

    Args:
        folder: holds the class folders.
        subject_pattern: its first group, searched in the path below `folder`, is the subject.

    Raises:
        PreparationError: there are fewer than two class folders.
    """
    source = Source()
    entries = _subfolders(folder)
    given = [entry for entry in entries if entry.name.lower() in PARTS]
    others = [entry.name for entry in entries if entry not in given]
    if len(given) > 1 and others:
        raise PreparationError(
            f"{folder}: folders {', '.join(entry.name for entry in given)} look like a split, but "
            f"there are others beside them: {', '.join(others)}; remove or rename them"
        )
    if given and not others:
        groups = [(PARTS[entry.name.lower()], entry) for entry in given]
    else:
        groups = [(None, folder)]
    names = set()
    for part, parent in groups:
        for class_folder in _subfolders(parent):
            names.add(class_folder.name)
            for path in _class_samples(class_folder):
                subject = _subject(path.relative_to(folder), subject_pattern, source.problems)
                source.samples.append(
                    Sample(path=path, labels=(class_folder.name,), where=str(path),
                           subject=subject, part=part)
                )  # fmt: skip
    if len(names) < 2:
        raise PreparationError(
            f"{folder}: {len(names)} class folder(s) {sorted(names)}; expected one folder per "
            "class (FOLDER/happy/*.mp4, FOLDER/sad/*.mp4), or give a CSV with path and label"
        )
    return source


def _subfolders(folder: Path) -> list[Path]:
    folders = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."]
    loose = [
        entry.name
        for entry in folder.iterdir()
        if entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES | set(IMAGE_SUFFIXES)
    ]
    if loose:
        logger.warning(
            "%s: %d files beside the class folders not used: %s",
            folder, len(loose), " ".join(sorted(loose)[:5]),
        )  # fmt: skip
    return sorted(folders, key=lambda path: natural_key(path.name))


def _class_samples(folder: Path) -> list[Path]:
    """Videos and frame folders of a class, or its images if it holds images itself."""
    found = list(find_videos(folder))
    if folder not in found:
        return found
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    images = sorted((p for p in images if p.name[0] != "."), key=lambda p: natural_key(p.name))
    logger.info("%s: %d single images, each a sample of its own", folder, len(images))
    return images + [path for path in found if path != folder]


def _subject(path: Path, pattern: re.Pattern | None, problems: Problems) -> str | None:
    if pattern is None:
        return None
    match = pattern.search(str(path))
    if match is None:
        problems.add(f"{path}: --subject_pattern {pattern.pattern!r} finds nothing in it")
        return None
    return match[1]


def read_csv(
    path: Path,
    *,
    label_columns: Sequence[str],
    subject_column: str | None = None,
    split_column: str | None = None,
    data_root: Path | None = None,
    subject_pattern: re.Pattern | None = None,
) -> Source:
    """Read a table with a header; separated by comma, semicolon or tab.

    Args:
        path: with a column `path` and those named here.
        label_columns: one class, or the numbers to predict.
        subject_column: None: column `subject` if there is one.
        split_column: train, val or test; None: column `split` if there is one.
        data_root: folder of relative paths, by default the table's own.
        subject_pattern: see `read_folder`; instead of a column.

    Raises:
        PreparationError: a column is absent, or the file is empty.
    """
    source = Source(label_columns=tuple(label_columns))
    header, rows = _read_rows(path)
    _check_header(path, header, [*label_columns, *filter(None, (subject_column, split_column))])
    subject_column = subject_column or ("subject" if "subject" in header else None)
    split_column = split_column or ("split" if "split" in header else None)
    seen: dict[str, str] = {}
    for line, fields in rows:
        where = f"{path} line {line}"
        if len(fields) != len(header):
            source.problems.add(f"{where}: {len(fields)} columns, the header has {len(header)}")
            continue
        row = dict(zip(header, fields, strict=True))
        problem = _row_problem(row, label_columns, subject_column, split_column)
        first = seen.setdefault(row["path"], where)
        if first != where:
            problem = f"{row['path']} is already in {first}"
        if problem:
            source.problems.add(f"{where}: {problem}")
            continue
        subject = row[subject_column] if subject_column else None
        if subject is None:
            subject = _subject(Path(row["path"]), subject_pattern, source.problems)
        source.samples.append(
            Sample(
                path=Path(os.path.abspath((data_root or path.parent) / row["path"])),
                labels=tuple(row[name] for name in label_columns),
                where=where,
                subject=subject,
                part=PARTS[row[split_column].lower()] if split_column else None,
            )
        )
    return source


def _check_header(path: Path, header: Sequence[str], wanted: Sequence[str]) -> None:
    absent = [name for name in ("path", *wanted) if name not in header]
    if absent:
        raise PreparationError(
            f"{path}: no column {', '.join(map(repr, absent))}; its header is {header} (columns: "
            "path,label[,subject][,split]; --label, --subject, --split name others)"
        )


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    text = path.read_text(encoding="utf-8-sig")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if any(row)]
    if len(rows) < 2:
        raise PreparationError(f"{path}: expected a header (path,label,...) and at least one row")
    return rows[0][1], rows[1:]


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
        source.samples = [_renamed(sample, given) for sample in source.samples]
        return tuple(given)
    for sample in source.samples:
        if sample.labels[0] not in given:
            known = ", ".join(given)
            source.problems.add(f"{sample.where}: label {sample.labels[0]!r} is none of {known}")
    return tuple(given)


def _renamed(sample: Sample, names: Sequence[str]) -> Sample:
    return Sample(
        path=sample.path,
        labels=(names[int(sample.labels[0])],),
        where=sample.where,
        subject=sample.subject,
        part=sample.part,
    )


def to_clips(source: Source, task: str, names: Sequence[str]) -> list[tuple[Clip, str | None]]:
    """Clips with labels as CSVs have them, each with its given part.

    Labels that do not fit the task become problems.
    """
    clips = []
    for sample in source.samples:
        if task == "regression":
            wrong = [value for value in sample.labels if _number(value) is None]
            if wrong:
                source.problems.add(f"{sample.where}: {wrong[0]!r} is not a finite number")
                continue
            label = " ".join(sample.labels)
        elif sample.labels[0] in names:
            label = str(names.index(sample.labels[0]))
        else:
            continue
        clips.append((Clip(path=sample.path, label=label, subject=sample.subject), sample.part))
    return clips
