"""Werewolf-XL: speaker clips and a table of scores -> `split0N/{train,val,test}.csv`.

Layout below `--dataset_dir` (the release states it loosely; what is assumed is marked *):
    any folder/VideoName.*    14,632 speaker clips of 30 game sessions, or frame folders called
                              VideoName or VideoName_aligned* (OpenFace's naming)
    *.csv                     one table with a header*: VideoName, Session, and one column each of
                              mean pleasure (valence), arousal and dominance

Column names differ between versions of the table, and which raters a mean includes is part of
their names (Mean_A_1_2, ...). `--columns` names them; without it the only column per dimension
whose name is known is taken, and several are an error: no score is guessed. Without a column
Session the session is the number that the video name starts with*.
The five folds keep sessions together and are those that HiCMAE's authors released (sessions 1-6,
7-12, ...); `--fold_seed` draws others. Scores are written as they are, in the order arousal valence
dominance.
"""

import argparse
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.listing import visible_files
from svfap.datasets.tables import TableError, read_header, same_name
from svfap.preprocess.shared.common import PreparationError, read_table, run_command
from svfap.preprocess.shared.labelled import Clip, Found, named_videos
from svfap.preprocess.shared.runner import Command

SPEC = get_spec("Werewolf-XL")
NAME, SESSION = "VideoName", "Session"
KNOWN_COLUMNS = {
    "arousal": re.compile(r"(mean_a(_\d+)*|arousal(_average|_mean)?)", re.IGNORECASE),
    "valence": re.compile(r"(mean_p(_\d+)*|(pleasure|valence)(_average|_mean)?)", re.IGNORECASE),
    "dominance": re.compile(r"(mean_d(_\d+)*|dominance(_average|_mean)?)", re.IGNORECASE),
}
ALIGNED = "_aligned"


def find_table(dataset_dir: Path, given: Path | None) -> Path:
    """The table of scores: `given`, or the only CSV below the folder that has VideoName."""
    if given is not None:
        return given
    tables = []
    for path in visible_files(dataset_dir, "*.csv"):
        with suppress(TableError):  # other tables are not ours
            if NAME in read_header(path):
                tables.append(path)
    if len(tables) != 1:
        raise PreparationError(
            f"{len(tables)} tables with a column {NAME} in {dataset_dir}"
            f"{': ' if tables else ''}{', '.join(map(str, tables))}; pass --labels FILE"
        )
    return tables[0]


def score_columns(header: Sequence[str], given: Sequence[str] | None, table: Path) -> list[str]:
    """Columns of arousal, valence and dominance."""
    if given:
        absent = [name for name in given if name not in header]
        if absent:
            raise PreparationError(f"{table}: no column {absent}; its header is {list(header)}")
        return list(given)
    columns = []
    for dimension, pattern in KNOWN_COLUMNS.items():
        matching = [name for name in header if pattern.fullmatch(name)]
        if len(matching) != 1:
            raise PreparationError(
                f"{table}: {len(matching)} columns for {dimension} {matching} in {list(header)}; "
                "say which with --columns AROUSAL VALENCE DOMINANCE"
            )
        columns.append(matching[0])
    return columns


def read(flags: argparse.Namespace) -> Found:
    """Join the table with the clips."""
    found, table = Found(), find_table(flags.dataset_dir, flags.labels)
    rows = read_table(table, (NAME,))
    header = [name for name in (rows[0][1] if rows else {}) if name is not None]
    columns = score_columns(header, flags.columns, table)
    videos = {
        same_name(name).removesuffix(ALIGNED): path
        for name, path in named_videos(flags.dataset_dir, found.problems).items()
    }
    seen: dict[str, int] = {}
    for line, row in rows:
        name, where = same_name(row[NAME]), f"{table} line {line}"
        if None in row:
            found.problems.add(f"{where}: more columns than the header: {row[None]}")
        elif name in seen:
            found.problems.add(f"{where}: {name} is already in line {seen[name]}")
        elif problem := _score_problem(row, columns):
            found.problems.add(f"{where}: {problem}")
        elif (session := _session(row, name)) is None:
            found.problems.add(f"{where}: {name!r} does not start with its session's number")
        elif name not in videos:
            found.missing.append(f"{name} ({where})")
        else:
            label = " ".join((row[column] or "").strip() for column in columns)
            found.clips.append(Clip(path=videos[name], label=label, subject=session))
        seen.setdefault(name, line)
    found.extra = [f"{path} (no line in {table})" for name, path in videos.items()
                   if name not in seen]  # fmt: skip
    return found


def _score_problem(row: dict[str, str], columns: Sequence[str]) -> str | None:
    for column in columns:
        text = (row[column] or "").strip()
        try:
            if not math.isfinite(float(text)):
                raise ValueError
        except ValueError:
            return f"{column} {text!r} is not a finite number"
    return None


def _session(row: dict[str, str], name: str) -> str | None:
    text = (row.get(SESSION) or "").strip() or (re.match(r"\d+", name) or [""])[0]
    return str(int(text)) if text.isdecimal() else None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about the table."""
    parser.add_argument("--labels", type=Path, metavar="CSV", help="table of scores")
    parser.add_argument(
        "--columns", nargs=3, metavar=("AROUSAL", "VALENCE", "DOMINANCE"),
        help="columns of the table that hold the scores",
    )  # fmt: skip


COMMAND = Command(
    spec=SPEC, name="werewolf_xl", description=__doc__, read=read, add_flags=add_flags
)
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
