"""Texts and tables that others wrote: encodings, separators, and spellings of one name."""

import codecs
import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TextIO

from svfap.datasets.files import write_text
from svfap.suggest import did_you_mean

ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEPARATORS = ",;\t|"
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # what spreadsheets put on top
LOOKED_AT_BYTES = 1024
# Columns that name files or videos: bytes that are no UTF-8 stay as the file system has them.
NAME_COLUMNS = ("path", "video_name", "clip", "name", "video", "id", "Filename", "VideoName")


class TableError(ValueError):
    """A text or table that cannot be read, or lacks something."""


def encoding_of(path: str | os.PathLike) -> str:
    """Encoding of a text file: UTF-16 or UTF-32 by its mark or its zero bytes, else UTF-8."""
    with open(path, "rb") as file:
        start = file.read(LOOKED_AT_BYTES)
    for mark, encoding in ENCODINGS:
        if start.startswith(mark):
            return encoding
    for encoding, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
        if len(zeros) > 1 and zeros.count(0) > len(zeros) / 2:
            return encoding
    return "utf-8-sig"


def open_text(path: str | os.PathLike) -> TextIO:
    """Open a text for reading, line ends as they are.

    Bytes that are not UTF-8 become surrogate escapes, as in names of files.
    """
    return open(path, newline="", encoding=encoding_of(path), errors="surrogateescape")


def read_text(path: str | os.PathLike) -> str:
    r"""Read a text of any encoding that `encoding_of` knows; lines end in "\n"."""
    try:
        with open_text(path) as file:
            text = file.read()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TableError(f"{path}: the text cannot be read ({reason})") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def readable(text: str) -> str:
    """A text whose bytes that are no UTF-8 are taken for Windows-1252."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return text


def same_name(text: str) -> str:
    """One spelling for all encodings and compositions of a name: readable, composed (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", readable(text))


def as_on_disk(path: Path) -> Path:
    """A path in the spelling that the disk has; as it is where there is nothing of that name."""
    if str(path).isascii() or os.path.lexists(path):
        return path
    parent = as_on_disk(path.parent)
    return parent / _spellings(str(parent)).get(same_name(path.name), path.name)


@lru_cache(maxsize=64)
def _spellings(folder: str) -> dict[str, str]:
    try:
        return {same_name(name): name for name in os.listdir(folder)}
    except OSError:
        return {}


def table_rows(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV with a header, the header first, each with the number of its line.

    Separated by commas, semicolons, tabs or bars; a line `sep=;` in front says which. Rows of
    empty cells are left out.
    """
    line = 0
    try:
        with open_text(path) as file:
            first, before = file.readline(), 0
            told = SEPARATOR_LINE.fullmatch(first)
            if told:
                first, before = file.readline(), 1
            separator = told[1] if told else _separator(first)
            reader = csv.reader(
                chain([first], file), delimiter=separator, skipinitialspace=True, strict=True
            )
            for fields in reader:
                line = reader.line_num + before
                if any(field.strip() for field in fields):
                    yield line, [field.strip() for field in fields]
    except FileNotFoundError:
        raise
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TableError(f"{path}: cannot be read behind line {line} ({reason})") from error


def _separator(header: str) -> str:
    """The separator that makes most columns of a header; a comma where none does."""

    def num_columns(separator: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=separator), ()))
        except csv.Error:
            return 0

    return max(SEPARATORS, key=num_columns)


def read_header(path: str | os.PathLike, columns: Sequence[str] = ()) -> list[str]:
    """Names of a table's columns.

    Raises:
        TableError: it is empty, lacks one of `columns`, or a name stands there twice.
    """
    _, names = next(table_rows(path), (0, []))
    header = [same_name(name) for name in names]
    while header and not header[-1]:  # spreadsheets end lines with empty cells
        header.pop()
    if not header:
        raise TableError(f"{path}: the table is empty; expected a line with names of columns")
    missing = [name for name in columns if name not in header]
    if missing:
        hint = did_you_mean(missing[0], header) or ";"
        raise TableError(f"{path}: no column {missing}{hint} its header is {header}")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise TableError(f"{path}: columns {twice} stand in its header twice")
    return header


def iterate_table(
    path: str | os.PathLike, columns: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV with a header, each with the number of its line.

    Cells are stripped and composed (NFC), those of `NAME_COLUMNS` are as the file system would
    have them. A row with too few cells lacks the last columns; what is too much is listed under
    None.

    Raises:
        FileNotFoundError, TableError: see `read_header`.
    """
    header = read_header(path, columns)
    rows = table_rows(path)
    next(rows)
    for line, fields in rows:
        cells = {
            name: field if name in NAME_COLUMNS else same_name(field)
            for name, field in zip(header, fields)
        }
        rest = fields[len(header) :]
        yield line, cells | ({None: rest} if any(rest) else {})


def read_table(
    path: str | os.PathLike, columns: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """All rows of `iterate_table`; absent cells are empty."""
    header = read_header(path, columns)
    empty = dict.fromkeys(header, "")
    return [(line, empty | row) for line, row in iterate_table(path, columns)]


def write_table(
    path: str | os.PathLike, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a CSV with a header, whole or not at all; any name of a file can stand in it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
