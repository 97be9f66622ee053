"""Small tables as Markdown, CSV or LaTeX, and what commands that print them share."""

import argparse
import csv
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from svfap.datasets.files import CannotWriteError, write_text

FORMATS = ("md", "csv", "latex")

_LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: "\\" + character for character in "&%$#_{}"},
    }
)


def render(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    table_format: str,
    *,
    notes: Sequence[str] = (),
    num_text_columns: int = 1,
) -> str:
    """One table as text.

    Args:
        table_format: one of `FORMATS`. LaTeX needs the package booktabs.
        notes: sentences below the table; CSV has no place for them and leaves them out.
        num_text_columns: how many columns on the left hold text, the others are aligned right.
    """
    if table_format == "md":
        return _markdown(header, rows, notes, num_text_columns)
    if table_format == "csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
        return buffer.getvalue()
    if table_format == "latex":
        return _latex(header, rows, notes, num_text_columns)
    raise ValueError(f"table format {table_format!r}: must be one of {', '.join(FORMATS)}.")


def emit(text: str, output: str | Path | None) -> None:
    """Print a text, or write it to a file whose folder is made where needed."""
    if output is None:
        print(text, end="")  # noqa: T201 - for commands
        return
    try:
        write_text(output, text)
    except CannotWriteError as error:
        raise SystemExit(f"error: {error}") from error
    logging.getLogger(__name__).info("wrote %s", output)


def write_tables(
    stem: Path, text_of: Callable[[str], str], formats: Sequence[str] = FORMATS
) -> str:
    """Write STEM.md, .csv and .tex, and return the first as text."""
    for name in formats:
        emit(text_of(name), stem.with_name(f"{stem.name}.{'tex' if name == 'latex' else name}"))
    return text_of("md")


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--format` and `--output`, which is for `emit`."""
    parser.add_argument("--format", choices=FORMATS, default="md", help="default: md")
    parser.add_argument("--output", metavar="FILE", help="write there instead of the terminal")


def _markdown(header, rows, notes, num_text_columns) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells)]

    def line(row: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if index < num_text_columns else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ]
        return f"| {' | '.join(aligned)} |"

    rule = [
        "-" * width if index < num_text_columns else "-" * (width - 1) + ":"
        for index, width in enumerate(widths)
    ]
    lines = [line(cells[0]), line(rule), *map(line, cells[1:])]
    below = ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join([*lines, *below]) + "\n"


def _latex(header, rows, notes, num_text_columns) -> str:
    def line(row: Sequence[str]) -> str:
        cells = (cell.translate(_LATEX_ESCAPES) for cell in row)
        return " & ".join(cells).replace("±", r"$\pm$").replace("–", "--") + r" \\"

    columns = "l" * num_text_columns + "r" * (len(header) - num_text_columns)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(header), r"\midrule"]
    lines += [*map(line, rows), r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {note}" for note in notes]
    return "\n".join(lines) + "\n"
