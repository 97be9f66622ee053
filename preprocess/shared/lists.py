"""Official train and test lists of frame folders, as DFEW, FERV39k and MAFW have them."""

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from svfap.datasets.catalog import DatasetSpec
from svfap.datasets.labels.listing import Unused, visible_folders
from svfap.datasets.tables import as_on_disk, read_text
from svfap.preprocess.shared.common import PreparationError, Problems, read_table
from svfap.preprocess.shared.labelled import Clip, Found, Parts

logger = logging.getLogger(__name__)

NAME_COLUMNS = ("video_name", "id", "clip")


def read_lines(path: Path, form: str, problems: Problems) -> Iterator[tuple[str, str, str]]:
    """`name label` lines of a list without a header: where, name and label.

    Args:
        problems: gets a line for every line of another form.
    """
    if not path.is_file():
        raise PreparationError(f"no such file: {path}")
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        where, fields = f"{path} line {line}", text.split()
        if len(fields) == 2:
            yield where, *fields
        elif fields:
            problems.add(f"{where}: expected `{form}`, got {text!r}")


def read_list(
    path: Path,
    form: str,
    frames_dir: Path,
    class_names: Sequence[str],
    problems: Problems,
    folder_of: Callable[[str], str | None],
) -> list[Clip]:
    """Clips of a list of `name label-name` lines; an unknown label is a problem, never guessed.

    Args:
        form: what lines look like, for people.
        folder_of: frame folder, below `frames_dir`, by name; None for names of another form.
    """
    clips = []
    for where, name, label in read_lines(path, form, problems):
        folder = folder_of(name)
        if folder is None:
            problems.add(f"{where}: expected `{form}`, got '{name} {label}'")
        elif label not in class_names:
            problems.add(f"{where}: label {label!r} is none of {', '.join(class_names)}")
        else:
            number = str(class_names.index(label))
            clips.append(Clip(path=frames_dir / folder, label=number, where=where, name=folder))
    return clips


def choose_folds(
    lists: Path, names: Iterable[str], spec: DatasetSpec, flags: argparse.Namespace
) -> tuple[list[int], bool]:
    """Numbers of the folds to prepare: those asked for, else all; and whether these are all.

    Args:
        names: of the lists that are there, set_1, set_2, ...
    """
    numbers = (name.removeprefix("set_") for name in names)
    present = {int(number) for number in numbers if number.isdecimal()}
    every = present | set(range(1, spec.num_folds + 1))
    wanted = set(flags.folds or every)
    if absent := sorted(wanted - present):
        text = f"{lists}: no lists of fold(s) {absent}; there are {sorted(present)}"
        if flags.folds or not (flags.allow_other_counts and present):
            raise PreparationError(text)
        logger.warning("%s (--allow_other_counts)", text)
    chosen = wanted & present
    return sorted(chosen), chosen == every


def found_in_lists(
    splits: dict[str, Parts], problems: Problems, frames_dir: Path, *, complete: bool = False
) -> Found:
    """What the lists say, and which folders beside the listed ones no list mentions."""
    if not problems.lines and not frames_dir.is_dir():
        raise PreparationError(f"no such frames folder: {frames_dir} (see --frames_dir)")
    found = Found(problems=problems, splits=splits, complete=complete, frame_folders=True)
    if frames_dir.is_dir():
        _name_extra((clip.path for clip in found.every), Unused(frames_dir))
    return found


def _name_extra(paths: Iterable[Path], unused: Unused) -> None:
    listed: dict[Path, set[str]] = {}
    for path in paths:
        listed.setdefault(path.parent, set()).add(as_on_disk(path).name)
    for parent, names in sorted(listed.items()):
        for folder in visible_folders(parent) if parent.is_dir() else ():
            if folder.name not in names and folder not in listed:
                unused.add("folders that no list mentions", folder)
    unused.tell()


def read_subjects(path: Path | None, default: Path) -> dict[str, str]:
    """Subject of each video from a CSV with columns video_name (or id, or clip) and subject.

    Args:
        path: file given by the user, or None.
        default: used when `path` is None and this file exists.

    Returns:
        Subjects by video name; empty when there is no file.
    """
    if path is None and not default.is_file():
        return {}
    rows = [row for _, row in read_table(path or default, ("subject",))]
    column = next((name for name in NAME_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise PreparationError(f"{path or default}: no rows, or none of columns {NAME_COLUMNS}")
    return {row[column].strip(): row["subject"].strip() for row in rows}


def add_list_flags(parser: argparse.ArgumentParser, default: str, *, folds: bool = False) -> None:
    """`--frames_dir`, and `--folds` where there are some."""
    parser.add_argument(
        "--frames_dir", type=Path, metavar="DIR",
        help=f"folder of the frame folders (default: {default} in --dataset_dir)",
    )  # fmt: skip
    if folds:
        parser.add_argument("--folds", type=int, nargs="+", metavar="N", help="only these folds")
