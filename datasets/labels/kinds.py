"""Label kinds: what stands behind the path in a line of an annotation file, a class for each.

`KINDS` names them as `classes.json` does; a task of the same name learns them (docs/tasks.md).
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from svfap.datasets.labels.frame_labels import FrameLabels, read_frame_labels

Rows = Sequence[tuple[int, list[str]]]  # (line number, fields)
Problems = list[tuple[int, str]]
Heads = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Column:
    """What one field behind the path is: a class, or a number."""

    name: str
    # names of the classes, empty where they are unknown; None: a number
    classes: Sequence[str] | None = None

    def value(self, text: str) -> float:
        """The number in a field.

        Raises:
            ValueError: says what is wrong with it.
        """
        if self.classes is None:
            if not is_number(text) or not math.isfinite(float(text)):
                raise ValueError(f"label {text!r} is not a finite number")
            return float(text)
        if not (text.isascii() and text.removeprefix("-").isdigit()):
            plain = [name.casefold() for name in self.classes]
            meant = (
                f" ({text} is {plain.index(text.casefold())})" if text.casefold() in plain else ""
            )
            raise ValueError(
                f"label {text!r} is not a whole number; classes are numbered from 0{meant}"
            )
        if int(text) < 0 or 0 < len(self.classes) <= int(text):
            allowed = f"0 to {len(self.classes) - 1}" if self.classes else "0 or more"
            raise ValueError(f"label {text} is out of range; allowed are {allowed}")
        return int(text)

    def counts_from_one(self, texts: Sequence[str]) -> bool:
        """Whether all fields are classes, but numbered from 1."""
        if not (self.classes and all(text.isdecimal() for text in texts)):
            return False
        values = {int(text) for text in texts}
        return min(values) == 1 and max(values) == len(self.classes)

    @property
    def from_one(self) -> str:
        """What to say of such classes."""
        count = len(self.classes)
        return (
            f"the labels count from 1 (1 to {count}), classes count from 0 (0 to {count - 1}: "
            f"{', '.join(self.classes)}); take 1 off every label"
        )


class LabelKind:
    """What the kinds have in common: a column for each name, int64 if all of them hold classes.

    `names` and `heads` are those of `datasets.labels.classes.LabelNames`.
    """

    one_class = False  # labels are (n,) classes, whose shares the parts of a fold can keep
    headed = slice(0)  # the names that stand for a class of their own, with an entry in `heads`
    fewest_names = 1
    line = ""  # what is expected, where that is not a label for each name

    def columns(self, names: Sequence[str], heads: Heads) -> list[Column]:
        """What stands behind the path."""
        own = names[self.headed]
        return [Column(name, heads.get(name, ()) if name in own else None) for name in names]

    def suits(self, fields: Sequence[str], columns: Sequence[Column]) -> bool:
        """Whether the fields behind the path are as many as they should be."""
        return len(fields) == len(columns)

    def read(
        self, rows: Rows, columns: Sequence[Column], root: str
    ) -> tuple[np.ndarray | FrameLabels, Problems]:
        """Labels of well-formed rows (0 where wrong), and the problems found.

        Args:
            columns: of this kind.
        """
        whole = all(column.classes is not None for column in columns)
        labels = np.zeros((len(rows), len(columns)), np.int64 if whole else np.float32)
        problems = []
        for index, column in enumerate(columns):
            of_column = []
            for place, (number, fields) in enumerate(rows):
                try:
                    labels[place, index] = column.value(fields[1 + index])
                except ValueError as error:
                    of_column.append((number, str(error)))
            if of_column and column.counts_from_one([fields[1 + index] for _, fields in rows]):
                of_column = [(0, column.from_one)]
            problems += of_column
        return (labels[:, 0] if self.one_class else labels), sorted(problems, key=lambda p: p[0])


class Unlabelled(LabelKind):
    """Videos for pre-training: numbers may stand behind the path, and are not looked at."""

    line = "'path label'"

    def suits(self, fields, columns) -> bool:
        """Whatever numbers there are."""
        return all(map(is_number, fields))

    def read(self, rows, columns, root) -> tuple[np.ndarray, Problems]:
        """(n,) zeros."""
        return np.zeros(len(rows), np.int64), []


class OneClass(LabelKind):
    """A class per video: (n,) int64. `names` are those of the classes."""

    one_class = True
    line = "'path label'"

    def columns(self, names, heads) -> list[Column]:
        """The class."""
        return [Column("label", names)]


class ClassPerHead(LabelKind):
    """A class per video and head: (n, H) int64. `names` are the heads."""

    headed = slice(None)


class Numbers(LabelKind):
    """Numbers per video: (n, L) float32. `names` are the dimensions."""


class ClassAndNumbers(LabelKind):
    """A class and then numbers: (n, 1 + L) float32. `names` are the head and the dimensions."""

    headed = slice(1)
    fewest_names = 2


class NumbersPerFrame(LabelKind):
    """An npz file per video, with an array over frames for each dimension: `FrameLabels`."""

    line = "'path labels.npz'"

    def suits(self, fields, columns) -> bool:
        """The file."""
        return len(fields) == 1

    def read(self, rows, columns, root) -> tuple[FrameLabels, Problems]:
        """The arrays of all files."""
        if not rows:
            return FrameLabels(np.zeros((0, len(columns))), np.zeros(0)), []
        files = [os.path.join(root, fields[1]) for _, fields in rows]
        labels, unusable = read_frame_labels(files, [column.name for column in columns])
        return labels, [(rows[place][0], problem) for place, problem in unusable]


PRETRAIN = "pretrain"
UNNAMED = "classification"  # labels of which nothing is known but how many there are
KINDS: dict[str, LabelKind] = {
    "classification": OneClass(),
    "regression": Numbers(),
    "multihead": ClassPerHead(),
    "regression_frames": NumbersPerFrame(),
    "class_and_values": ClassAndNumbers(),
}


def kind_of(task: str) -> LabelKind:
    """The labels of a task; of "pretrain" none."""
    known = {PRETRAIN: Unlabelled(), **KINDS}
    if task not in known:
        raise ValueError(f"unknown task {task!r}: choose {', '.join(known)}")
    return known[task]


def malformed_lines(rows: Rows, kind: LabelKind, columns: Sequence[Column]) -> Problems:
    """Lines with the wrong number of columns; in pre-training files, with text for a label."""
    expected = kind.line or f"'path' and {len(columns)} label{'s' * (len(columns) > 1)}"
    return [
        (
            number,
            f"expected {expected}, found {len(fields)} "
            f"column{'s' * (len(fields) != 1)} in {' '.join(fields)!r}; columns are separated by "
            "one space, and paths may contain none (rename the file)",
        )
        for number, fields in rows
        if not fields[0] or not kind.suits(fields[1:], columns)
    ]


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
