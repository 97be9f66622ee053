"""Annotation files of a store, and what stands beside them: who is who, groups, rates, labels."""

import logging
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from svfap.datasets.labels.annotations import Annotations, read_annotations, write_annotations
from svfap.datasets.labels.classes import FILE_NAME as CLASSES_FILE
from svfap.datasets.labels.classes import read_classes
from svfap.datasets.tables import read_table, read_text, write_table
from svfap.datasets.video.frame_rate import FILE_NAME as RATE_FILE
from svfap.datasets.video.store import MANIFEST
from svfap.preprocess.shared.common import PreparationError
from svfap.preprocess.shared.labelled import GROUPS_FILE, SUBJECTS_FILE, look_up, table_by_name
from svfap.preprocess.shared.subject_folds import FOLDS_CSV, FOLDS_JSON

logger = logging.getLogger(__name__)

FRAME_LABELS = "regression_frames"  # the task whose labels are files
LABELS = "labels"  # folder of these files in a store


@dataclass(frozen=True)
class SourceList:
    """An annotation file that is packed."""

    path: Path
    target: Path  # where it goes below the store's folder
    rows: Annotations
    label_files: bool  # its labels are npz files, one per video

    @property
    def root(self) -> str:
        """Folder of its relative paths, with a slash; "" for none."""
        return self.rows.paths[0].removesuffix(self.rows.ids[0])


def read_source(path: Path, target: Path, data_root: str | None) -> SourceList:
    """Read an annotation file of any task; labels are taken over as they are."""
    names = None
    with suppress(ValueError):  # whoever reads the labels says what is wrong with their names
        names = read_classes(path.parent)
    label_files = names is not None and names.task == FRAME_LABELS
    of_files = {"task": FRAME_LABELS, "names": names.class_names} if label_files else {}
    rows = read_annotations(path, **{"task": "pretrain"} | of_files, data_root=data_root)
    return SourceList(path, target, rows, label_files)


def write_list(source: SourceList, folder: Path, keys: dict[str, str], lost: set[str]) -> None:
    """Write an annotation file of a store and all that stands beside the original.

    Args:
        keys: name in the store by path.
        lost: names of unreadable videos, which are left out.
    """
    target = folder / source.target
    manifest = os.path.relpath(folder / MANIFEST, target.parent)
    lines = [line.split(" ") for line in read_text(source.path).split("\n") if line.strip()]
    kept, rows = {}, []
    for path, (name, *labels) in zip(source.rows.paths, lines, strict=True):
        key = keys[path]
        if key in lost:
            continue
        if source.label_files:
            labels = [_copy_labels(source.root + labels[0].rstrip(), folder, key, target.parent)]
        kept[name] = f"{manifest}#{key}"
        rows.append((kept[name], *(label.rstrip() for label in labels)))
    write_annotations(target, rows)
    for name in (CLASSES_FILE, RATE_FILE):
        _copy(source.path.parent / name, target.parent / name)
    for name, column, places in (
        (SUBJECTS_FILE, "subject", (source.path.parent, source.path.parent.parent)),
        (GROUPS_FILE, "group", (source.path.parent,)),
    ):
        table = next((place / name for place in places if (place / name).is_file()), None)
        if table is not None:
            _write_renamed(table, target.parent / name, column, kept)
    logger.info("wrote %s: %d videos", target, len(rows))


def copy_folds(inputs: Iterable[Path], folder: Path) -> None:
    """Copy the lists of who is tested in which fold, which name no paths."""
    for root in inputs:
        for name in (FOLDS_JSON, FOLDS_CSV):
            _copy(root / name, folder / name)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copyfile(source, target)


def _copy_labels(file: str, folder: Path, key: str, beside: Path) -> str:
    """Take the labels of a video's frames into the store; the way to them from the CSV."""
    target = folder / LABELS / f"{key}.npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    return os.path.relpath(target, beside)


def _write_renamed(source: Path, target: Path, column: str, names: dict[str, str]) -> None:
    """Write a table of paths with the names of the store; other annotation files may share it."""
    try:
        table = table_by_name(source, column)
    except PreparationError as error:
        logger.warning("not taken over: %s", error)
        return
    found = {new: look_up(old, table) for old, new in names.items()}
    before = read_table(target, ("path", column)) if target.is_file() else []
    known = {row["path"]: row[column] for _, row in before}
    known |= {new: value for new, value in found.items() if value is not None}
    if known:
        write_table(target, ("path", column), known.items())
