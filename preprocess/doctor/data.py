"""What preprocess.doctor is asked to examine: annotation files by fold, labels, subjects."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from svfap.datasets.catalog import DatasetSpec, get_spec
from svfap.datasets.files import read_arrays
from svfap.datasets.labels.annotations import AnnotationError, Annotations, read_annotations
from svfap.datasets.labels.classes import LabelNames, read_classes
from svfap.datasets.labels.kinds import PRETRAIN, Column
from svfap.datasets.labels.listing import find_videos, visible_files
from svfap.datasets.tables import read_table, read_text
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import PreparationError
from svfap.preprocess.shared.labelled import SUBJECTS_FILE, look_up, table_by_name
from svfap.preprocess.shared.layouts import PEOPLE_IN_NAMES

LISTS = ("train", "val", "test", "info_clean")
PAIR_TABLES = ("pairs.csv", "dev_pairs.csv")  # of preprocess.lfw
# Names of files and folders that say who is seen.
SUBJECT_PATTERNS = {
    **PEOPLE_IN_NAMES,
    "eNTERFACE05": re.compile(r"(?:^|/)subject[ _](\d+)/"),
    "AVCAffe": re.compile(r"(aiim\d{3})"),
    "voxceleb2": re.compile(r"(?:^|/)(id\d{5})/"),
}


@dataclass
class Split:
    """One annotation file."""

    name: str  # "train", "val", "test", or the file's name
    path: Path
    annotations: Annotations | None = None  # its rows; None when it could not be read
    errors: list[str] = field(default_factory=list)  # problems found on reading
    subjects: list[str] | None = None  # subject of each row, or None where unknown
    sampled: list[int] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """Paths of the opened videos."""
        return [self.annotations.paths[row] for row in self.sampled] if self.annotations else []

    def labels_of(self, index: int = 0) -> np.ndarray:
        """What stands in a column behind the path: of all rows, or of all frames of all rows."""
        labels = self.annotations.labels
        labels = getattr(labels, "values", labels)
        return labels if labels.ndim == 1 else labels[:, index]


@dataclass
class Fold:
    """Annotation files that belong together: those of one folder."""

    folder: Path
    splits: list[Split]  # train before val before test before others
    # what the labels mean; None in pre-training and where nothing says it
    names: LabelNames | None = None
    spec: DatasetSpec | None = None  # catalogue entry, if the data set is known

    @property
    def task(self) -> str:
        """The task of `names`; "pretrain" without."""
        return self.names.task if self.names else PRETRAIN

    @property
    def one_class(self) -> bool:
        """Whether labels are a class per video."""
        return self.names is not None and self.names.kind.one_class

    @property
    def columns(self) -> list[Column]:
        """What stands behind the path; nothing in pre-training."""
        return self.names.columns if self.names else []

    def get(self, name: str) -> Split | None:
        """A readable split by name."""
        found = [split for split in self.splits if split.name == name and split.annotations]
        return found[0] if found else None


def find_files(arguments: Sequence[Path]) -> list[Path]:
    """Annotation files: given ones, and those below given folders; a folder of videos is itself."""
    files = []
    for argument in arguments:
        if argument.is_file():
            files.append(argument)
            continue
        if not argument.is_dir():
            raise PreparationError(f"{argument}: no such annotation file or folder")
        own = [path for name in LISTS if (path := argument / f"{name}.csv").is_file()]
        files += own or _below(argument) or [argument]
    return list(dict.fromkeys(files))


def _below(folder: Path) -> list[Path]:
    """Annotation files in folders below: of folds, of targets, of several data sets."""
    found = [path for path in visible_files(folder, "*.csv") if path.stem in LISTS]
    return sorted(found, key=lambda path: (natural_key(str(path.parent)), _part_order(path)))


def load_folds(
    files: Sequence[Path],
    *,
    data_root: Path | None,
    data_set: str | None,
    sample: int | None,
) -> list[Fold]:
    """Read the annotation files, grouped by folder.

    Args:
        data_set: catalogue name; None: what classes.json says, if it is there.
        sample: open this many videos per file, evenly spread; None: all.
    """
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent if path.is_file() else path, []).append(path)
    return [
        _videos_below(folder, data_set, sample)
        if paths == [folder]
        else _load_fold(folder, paths, data_root, data_set, sample)
        for folder, paths in folders.items()
    ]


def _videos_below(folder: Path, data_set: str | None, sample: int | None) -> Fold:
    """Videos without labels: those of LFW's pairs, or all that lie below a folder."""
    paths: list[str] = []
    for table in (folder / name for name in PAIR_TABLES):
        if table.is_file():
            rows = read_table(table, ("image_a", "image_b"))
            paths += [row[name] for _, row in rows for name in ("image_a", "image_b")]
    paths = list(dict.fromkeys(paths)) or [str(path) for path in find_videos(folder)]
    if not paths:
        names = ", ".join(f"{name}.csv" for name in LISTS)
        raise PreparationError(
            f"{folder}: no annotation file ({names}) in it or below, and no videos"
        )
    rows = Annotations(str(folder), PRETRAIN, paths, paths, np.zeros(len(paths), np.int64))
    split = Split("videos", folder, rows, sampled=_sampled(len(paths), sample))
    return Fold(folder, [split], spec=get_spec(data_set) if data_set else None)


def _sampled(count: int, sample: int | None) -> list[int]:
    rows = np.linspace(0, count - 1, min(sample or count, count)).astype(int)
    return np.unique(rows).tolist()


def _load_fold(
    folder: Path,
    paths: Sequence[Path],
    data_root: Path | None,
    data_set: str | None,
    sample: int | None,
) -> Fold:
    names = read_classes(folder)
    spec = get_spec(data_set) if data_set else None
    if spec is None and names is not None and names.data_set != "custom":
        spec = get_spec(names.data_set)
    if names is None and spec is not None and spec.class_names:
        names = LabelNames(task=spec.task, class_names=spec.class_names, data_set=spec.name)
    if names is None and not (spec and spec.task == PRETRAIN):
        names = _names_from_labels(paths)
    fold = Fold(folder, [], names, spec)
    for path in sorted(paths, key=_part_order):
        split = Split(path.stem, path)
        fold.splits.append(split)
        try:
            split.annotations = _read(path, names, data_root)
        except AnnotationError as error:
            split.errors = [
                f"{path} line {line}: {text}" if line else f"{path}: {text}"
                for line, text in error.problems
            ]
            continue
        split.sampled = _sampled(len(split.annotations), sample)
    return fold


def _part_order(path: Path) -> tuple[int, str]:
    return (LISTS.index(path.stem) if path.stem in LISTS else len(LISTS), path.name)


def _names_from_labels(paths: Sequence[Path]) -> LabelNames | None:
    """Names 0, 1, ... where nothing else says them; None for one dummy label (pre-training)."""
    fields = [line.split() for path in paths for line in read_text(path).split("\n")]
    labels = [row[1:] for row in fields if len(row) > 1]
    numbers = {len(row) for row in labels}
    if numbers == {1} and all(row[0].isdecimal() for row in labels):
        classes = max(int(row[0]) for row in labels) + 1
        if classes == 1:
            return None
        return LabelNames.of_numbers(classes)
    if len(numbers) != 1:
        return None
    if all(row[0].endswith(".npz") for row in labels):
        return _names_of_arrays(paths[0], labels[0][0])
    return LabelNames(task="regression", class_names=tuple(map(str, range(numbers.pop()))))


def _names_of_arrays(path: Path, file: str) -> LabelNames | None:
    """Dimensions of labels of every frame: the arrays of one label file."""
    for place in (Path(file), path.parent / file):
        if place.is_file():
            arrays = read_arrays(place, None)
            return LabelNames(task="regression_frames", class_names=tuple(arrays))
    return None


def _read(path: Path, names: LabelNames | None, data_root: Path | None) -> Annotations:
    return read_annotations(
        path,
        task=names.task if names else PRETRAIN,
        names=names.class_names if names else (),
        heads=names.heads if names else {},
        data_root=data_root,
        check_paths=False,
    )


def find_subjects(folds: Sequence[Fold], given: Path | None) -> str:
    """Fill in who is seen in each row, as far as it is known.

    Args:
        given: CSV with columns path (or video_name) and subject; None: subjects.csv beside the
            annotation files or one folder up, else known patterns of file names.

    Returns:
        Where the subjects come from, for the report; "" if unknown.
    """
    sources = []
    for fold in folds:
        table = given or _beside(fold.folder)
        for split in fold.splits:
            if split.annotations is None:
                continue
            if table is not None:
                split.subjects = _from_table(split, table_by_name(table, "subject"))
                source = str(table)
            else:
                split.subjects, source = _from_names(split)
            if split.subjects is not None and source not in sources:
                sources.append(source)
    return ", ".join(sources)


def _beside(folder: Path) -> Path | None:
    places = [folder / SUBJECTS_FILE, folder.parent / SUBJECTS_FILE]
    return next((path for path in places if path.is_file()), None)


def _from_table(split: Split, table: Mapping[str, str]) -> list[str] | None:
    """Subjects of all rows; None where some are unknown."""
    found = [look_up(identifier, table) for identifier in split.annotations.ids]
    return None if None in found else found


def _from_names(split: Split) -> tuple[list[str] | None, str]:
    for name, pattern in SUBJECT_PATTERNS.items():
        matches = [pattern.search(identifier) for identifier in split.annotations.ids]
        if all(matches):
            return [match[1] for match in matches], f"file names as in {name}"
    return None, ""
