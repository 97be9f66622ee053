"""The lines of a `pred.csv` while it is read: every problem is noted with its line."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from svfap.datasets.tables import table_rows

PREDICTIONS_FILE = "pred.csv"
# Of classes, besides their numbers: for people, and not read.
NAMED_COLUMNS = ("truth", "answer")
MAX_LISTED_PROBLEMS = 20


class PredictionFileError(ValueError):
    """A prediction file that cannot be used; the message lists its problems by line."""


class PredictionTable:
    """A prediction file.

    Attributes:
        problems: what is wrong so far; `check` raises it.

    Raises:
        PredictionFileError: a header that is of no use, or nothing below it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no prediction file {path}; evaluation writes pred.csv.")
        (_, self.header), *rows = [*table_rows(self.path)] or [(1, [])]
        twice = sorted({name for name in self.header if self.header.count(name) > 1})
        self.problems = [f"line 1: column {name!r} twice" for name in twice]
        if "id" not in self.header:
            self.problems.append("line 1: no column 'id'; a header id,label,pred,... is needed")
        if not rows and not self.problems:
            self.problems.append("no videos below the header")
        self.check()
        width = len(self.header)
        for line, row in rows:
            if len(row) != width:
                self.problems.append(f"line {line}: {len(row)} columns, expected {width}")
        self._rows = [(line, row) for line, row in rows if len(row) == width]
        self._read: set[str] = set()

    def check(self, *, complete: bool = False) -> None:
        """Raise PredictionFileError with the first problems; with `complete` of unread columns."""
        unknown = [name for name in self.header if name not in self._read] if complete else []
        unknown = [name for name in unknown if name.split("_")[0] not in NAMED_COLUMNS]
        if unknown:
            self.problems.append(f"line 1: unknown columns {unknown}")
        if self.problems:
            shown = "\n  ".join(self.problems[:MAX_LISTED_PROBLEMS])
            more = len(self.problems) - MAX_LISTED_PROBLEMS
            rest = f"\n  and {more} more" if more > 0 else ""
            raise PredictionFileError(
                f"{self.path}: {len(self.problems)} problem(s)\n  {shown}{rest}"
            )

    def beside(self, name: str) -> Path | None:
        """Another file of the same evaluation, if it is there."""
        path = self.path.with_name(name)
        return path if self.path.name == PREDICTIONS_FILE and path.is_file() else None

    def after(self, prefix: str) -> list[str]:
        """What the columns that begin like this go on with."""
        return [name.removeprefix(prefix) for name in self.header if name.startswith(prefix)]

    def _cells(self, column: str) -> list[tuple[int, str]]:
        if column not in self.header:
            self.problems.append(f"line 1: no column {column!r} among {self.header}")
            return []
        self._read.add(column)
        place = self.header.index(column)
        return [(line, row[place].strip()) for line, row in self._rows]

    def ids(self) -> list[str]:
        """Names of the videos; each may occur once, or with each frame once if these were read."""
        ids = [row[self.header.index("id")] for _, row in self._rows]
        keys = ids
        if "frame" in self._read:
            keys = [f"{name} frame {text}" for name, (_, text) in zip(ids, self._cells("frame"))]
        first: dict[str, int] = {}
        for (line, _), key in zip(self._rows, keys):
            if first.setdefault(key, line) != line:
                self.problems.append(f"line {line}: {key!r} is already on line {first[key]}")
        self._read.add("id")
        return ids

    def frames(self) -> np.ndarray | None:
        """(n,) numbers of the frames that the lines are about; None where they are about videos."""
        if "frame" not in self.header:
            return None
        cells = self._cells("frame")
        for line, text in cells:
            if not text.isdecimal():
                self.problems.append(f"line {line}: frame {text!r} is not a whole number from 0")
        return np.array([int(text) if text.isdecimal() else 0 for _, text in cells], np.int64)

    def classes(self, column: str, names: Sequence[str] | None) -> np.ndarray:
        """(n,) class numbers in a column of numbers or, where `names` are known, of names."""
        index_of = {name: index for index, name in enumerate(names or ())}
        values = []
        for line, text in self._cells(column):
            value = int(text) if text.isdecimal() else index_of.get(text, -1)
            if value < 0 or (names and value >= len(names)):
                some = f"0..{len(names) - 1} or one of {list(names)}" if names else "0, 1, 2, ..."
                self.problems.append(f"line {line}: {column} {text!r}, allowed: {some}")
            values.append(value)
        return np.array(values, dtype=np.int64)

    def numbers(self, columns: Sequence[str]) -> np.ndarray:
        """(n, columns) finite numbers."""
        return np.stack([self._numbers(column) for column in columns], axis=1)

    def _numbers(self, column: str) -> np.ndarray:
        values = []
        for line, text in self._cells(column):
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                self.problems.append(f"line {line}: {column} {text!r} is not a finite number")
            values.append(value)
        return np.array(values, dtype=np.float64)
