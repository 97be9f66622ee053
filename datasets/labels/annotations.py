"""Annotation files: lines of `path label ...`, separated by single spaces, without a header.

Everything is checked on reading, and all problems of a file are reported together.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svfap.datasets.files import write_text
from svfap.datasets.labels.frame_labels import FrameLabels
from svfap.datasets.labels.kinds import PRETRAIN, is_number, kind_of, malformed_lines
from svfap.datasets.tables import TableError, as_on_disk, read_text
from svfap.datasets.video.store import paths_exist

PATH_CHECKS = (True, False, "sample")
# How many paths `check_paths="sample"` looks at, evenly spread over the file.
SAMPLED_PATHS = 1000
# How many relative paths decide which folder they are relative to.
ROOT_PROBES = 100
# Threads asking the file system; waiting dominates on network disks.
PATH_THREADS = 32
# Problems an error message spells out; the exception's `problems` holds all.
SHOWN_PROBLEMS = 100


class AnnotationError(ValueError):
    """An annotation file with problems.

    Attributes:
        problems: (line number counted from 1, or 0 for the file as a whole; what is wrong).
    """

    def __init__(self, path: str, problems: list[tuple[int, str]]):
        super().__init__(path, problems)
        self.path = str(path)
        self.problems = sorted(problems)

    def __str__(self) -> str:
        lines = [
            f"  line {number}: {text}" if number else f"  {text}"
            for number, text in self.problems[:SHOWN_PROBLEMS]
        ]
        if len(self.problems) > SHOWN_PROBLEMS:
            lines.append(f"  ... and {len(self.problems) - SHOWN_PROBLEMS} more")
        count = len(self.problems)
        return f"{self.path}: {count} problem{'s' * (count != 1)}\n" + "\n".join(lines)


class PathColumn(Sequence):
    """A million strings in two arrays, so that loader workers share them instead of copying.

    Args:
        root: folder put in front of values that are not absolute paths; "" for none.
    """

    def __init__(self, strings: Iterable[str], root: str = ""):
        encoded = [os.fsencode(string) for string in strings]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        self._ends = np.cumsum(lengths)
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self._root = root

    def under(self, root: str) -> "PathColumn":
        """Return the same values below another root, without a copy."""
        column = object.__new__(PathColumn)
        column._ends, column._bytes, column._root = self._ends, self._bytes, root
        return column

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = self._ends[index - 1] if index else 0
        value = os.fsdecode(self._bytes[start : self._ends[index]].tobytes())
        return os.path.join(self._root, value) if self._root else value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None

    def __repr__(self) -> str:
        return f"PathColumn({len(self)} paths)"


@dataclass(frozen=True)
class Annotations:
    """The checked rows of an annotation file."""

    path: str
    task: str  # "pretrain", or one of `datasets.labels.kinds.KINDS`
    ids: Sequence[str]
    paths: Sequence[str]
    # as the label kind of the task makes them; zeros for pre-training
    labels: np.ndarray | FrameLabels

    def __len__(self) -> int:
        return len(self.ids)


def read_annotations(
    csv_path: str | os.PathLike,
    *,
    task: str,
    names: Sequence[str] = (),
    heads: Mapping[str, Sequence[str]] | None = None,
    data_root: str | os.PathLike | None = None,
    check_paths: bool | str = True,
) -> Annotations:
    """Read and check an annotation file.

    Relative paths are below `data_root` if given; else below the working directory or the file's
    own folder, whichever holds more of the first paths (one decision for the whole file).

    Args:
        task: "pretrain" (labels are ignored and may be absent) or one of
            `datasets.labels.kinds.KINDS`, which say what stands behind the path.
        names: as in `datasets.labels.classes.LabelNames`. Without those of classes, any class is
            allowed; without those of dimensions, the first line says how many there are.
        check_paths: True looks for every path, "sample" for a thousand of them, False for none.

    Raises:
        AnnotationError: everything that is wrong with its contents, by line.
    """
    kind = kind_of(task)
    if check_paths not in PATH_CHECKS:
        raise ValueError(f"check_paths is {check_paths!r}: choose True, False or 'sample'")
    csv_path = os.fspath(csv_path)
    if not os.path.isfile(csv_path):
        raise FileNotFoundError(
            f"{csv_path}: no such annotation file; preprocess/ has the commands that write one"
        )
    rows = _read_rows(csv_path)
    _refuse_tables(csv_path, rows, labelled=task != PRETRAIN)
    names = names or (() if kind.one_class else map(str, range(max(1, len(rows[0][1]) - 1))))
    columns = kind.columns(tuple(names), heads or {})
    problems = malformed_lines(rows, kind, columns)
    lines = {number for number, _ in problems}
    rows = [row for row in rows if row[0] not in lines]
    ids = PathColumn(fields[0] for _, fields in rows)
    root = os.fspath(data_root) if data_root is not None else _guess_root(ids, csv_path)
    paths = ids.under(root)
    labels, wrong_labels = kind.read(rows, columns, root)
    problems += wrong_labels + _duplicates(rows)
    if check_paths and (absent := _absent(paths, check_paths)):
        if any(not paths[place].isascii() for place in absent):  # NFC and NFD, UTF-8 and others
            paths = PathColumn(_spelt(paths))
            absent = _absent(paths, check_paths)
        problems += _name_absent(rows, absent, root)
    if problems:
        raise AnnotationError(csv_path, problems)
    return Annotations(csv_path, task, ids, paths, labels)


def _read_rows(csv_path: str) -> list[tuple[int, list[str]]]:
    """(line number, space-separated fields) of every line that is not blank."""
    try:
        text = read_text(csv_path)
    except TableError as error:
        raise AnnotationError(csv_path, [(0, str(error))]) from error
    rows = [
        (number, line.rstrip().split(" "))
        for number, line in enumerate(text.split("\n"), 1)
        if line and not line.isspace()
    ]
    if not rows:
        raise AnnotationError(csv_path, [(0, "the file is empty; expected lines of 'path label'")])
    return rows


def _refuse_tables(csv_path: str, rows: list, *, labelled: bool) -> None:
    """Refuse tables of other programs, by their separator or their header.

    Raises:
        AnnotationError: says what they are, and what makes annotation files of them.
    """
    first = " ".join(rows[0][1])
    found = ""
    for mark, name in ((",", "commas"), (";", "semicolons"), ("\t", "tabs")):
        apart = all(mark in fields[-1] for _, fields in rows)
        if apart and (labelled or is_number(rows[-1][1][-1].rpartition(mark)[2])):
            found = f"columns are separated by {name}"
    titles = first.lower().split(" ")[0] in ("path", "video", "file", "filename", "name")
    if not found and titles and not is_number(rows[0][1][-1]):  # a video may be called so
        found = f"the first line is a header, {first!r}"
    if found:
        raise AnnotationError(csv_path, [(0, f"{found}; lines here are 'path label' with one space "
            "and no header. `python -m svfap.preprocess.custom TABLE.csv --output_dir DIR` makes "
            "them of a table with a header")])  # fmt: skip


def _duplicates(rows: list) -> list[tuple[int, str]]:
    counts = Counter(fields[0] for _, fields in rows)
    if len(counts) == len(rows):
        return []
    first: dict[str, int] = {}
    problems = []
    for number, fields in rows:
        if counts[fields[0]] > 1:
            seen = first.setdefault(fields[0], number)
            if seen != number:
                problems.append((number, f"duplicate of line {seen}: {fields[0]}"))
    return problems


def _guess_root(ids: PathColumn, csv_path: str) -> str:
    """Folder of relative paths where none is given: "" (working directory) or the file's own."""
    own = os.path.dirname(os.path.abspath(csv_path))
    probes = [path for path in ids[:ROOT_PROBES] if not os.path.isabs(path)]
    here = sum(paths_exist(_spelt(probes)))
    beside = sum(paths_exist(_spelt(os.path.join(own, path) for path in probes)))
    return own if beside > here else ""


def _absent(paths: PathColumn, check: bool | str) -> list[int]:
    """Places of paths that do not exist, among all or a sample of evenly spread ones."""
    places = range(len(paths))
    if check == "sample" and len(paths) > SAMPLED_PATHS:
        places = np.linspace(0, len(paths) - 1, SAMPLED_PATHS).astype(int).tolist()
    chunks = [places[start : start + 1000] for start in range(0, len(places), 1000)]

    def missing(chunk: Sequence[int]) -> list[int]:
        found = paths_exist(paths[place] for place in chunk)
        return [place for place, exists in zip(chunk, found) if not exists]

    with ThreadPoolExecutor(PATH_THREADS) as pool:
        return [place for result in pool.map(missing, chunks) for place in result]


def _name_absent(rows: list, absent: Sequence[int], root: str) -> list[tuple[int, str]]:
    looked = f" (looked in {root or os.getcwd()}; --data_root sets the folder of relative paths)"
    problems = []
    for number, (path, *_) in (rows[place] for place in absent):
        where = "" if os.path.isabs(path) else looked
        where += "; paths stand without quotes" * path.startswith(('"', "'"))
        problems.append((number, f"path does not exist: {path}{where}"))
    return problems


def _spelt(paths: Iterable[str]) -> list[str]:
    """Paths as the disk spells them, see `datasets.tables.as_on_disk`."""
    return [path if path.isascii() else str(as_on_disk(Path(path))) for path in paths]


def write_annotations(csv_path: str | os.PathLike, rows: Iterable[Sequence]) -> int:
    """Write an annotation file completely or not at all.

    Args:
        rows: (path, label, ...) each.

    Raises:
        ValueError: a path contains white space, or there are no rows.
    """
    lines = []
    for path, *labels in rows:
        path = os.fspath(path)
        if not path or path.split() != [path]:
            raise ValueError(
                f"path {path!r} contains white space, which annotation files cannot hold: "
                "rename the file"
            )
        lines.append(" ".join([path, *map(str, labels)]))
    if not lines:
        raise ValueError(f"{csv_path}: there are no rows to write")
    write_text(csv_path, "\n".join(lines) + "\n")
    return len(lines)
