"""Official train and test lists of frame folders, as DFEW, FERV39k and MAFW have them."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from svfap.datasets.labels.listing import Unused, visible_folders
from svfap.datasets.tables import as_on_disk, read_text
from svfap.preprocess.shared.common import PreparationError, Problems, read_table
from svfap.preprocess.shared.labelled import Clip, Found, Parts

NAME_COLUMNS = ("video_name", "id", "clip")


def read_lines(path: Path, expected: str, problems: Problems) -> Iterator[tuple[str, str, str]]:
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
            problems.add(f"{where}: expected `{expected}`, got {text!r}")


def label_of(name: str, class_names: Sequence[str], where: str, problems: Problems) -> str | None:
    """Number of a label name; an unknown name is a problem, never guessed."""
    if name in class_names:
        return str(class_names.index(name))
    problems.add(f"{where}: label {name!r} is none of {', '.join(class_names)}")
    return None


def found_in_lists(
    splits: dict[str, Parts], problems: Problems, frames_dir: Path, *, complete: bool = False
) -> Found:
    """What the lists say, and which folders beside the listed ones no list mentions."""
    if not problems.lines and not frames_dir.is_dir():
        raise PreparationError(f"no such frames folder: {frames_dir} (see --frames_dir)")
    found = Found(problems=problems, splits=splits, complete=complete, frame_folders=True)
    if frames_dir.is_dir():
        _name_extra((clip.path for clip in found.clips), Unused(frames_dir))
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


def add_frames_flag(parser: argparse.ArgumentParser, default: str) -> None:
    """`--frames_dir`."""
    parser.add_argument(
        "--frames_dir",
        type=Path,
        metavar="DIR",
        help=f"folder of the frame folders (default: {default} in --dataset_dir)",
    )


def clip_of(frames_dir: Path, name: str, label: str, where: str) -> Clip:
    """A frame folder of a list."""
    return Clip(path=frames_dir / name, label=label, where=where, name=name)
