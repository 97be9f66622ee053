"""What preprocess.synthetic has written, read again: labelled clips, annotations and folds."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from svfap.datasets.files import read_arrays
from svfap.datasets.video.open_video import IMAGE_SUFFIXES, natural_key
from svfap.preprocess.shared.common import PreparationError, Problems, add_link_flag, read_table
from svfap.preprocess.shared.lists import read_subjects
from svfap.preprocess.shared.writing import DIMENSIONS, add_validation_flags

FRAMES, LABELS = "dfew/Clip/jpg_256", "dfew/annotation"
LISTS = "dfew/EmoLabel_DataSplit/{part}(single-labeled)/set_{fold}.csv"


class DrawnClip(NamedTuple):
    """A labelled clip."""

    folder: Path  # of its frames
    frames: list[Path]  # T images in order
    annotation: Path  # the npz file
    values: np.ndarray  # (T, 2) valence and arousal
    subject: str  # who is drawn


def lists_parser(command: str, description: str, *, folder: str) -> argparse.ArgumentParser:
    """Parser of a command that lists the drawn faces.

    Args:
        description: documentation of the module, of which the first line is shown.
        folder: of the CSVs, below `--dataset_dir` unless `--output_dir` is given.
    """
    parser = argparse.ArgumentParser(
        f"preprocess.{command}", description=description.split("\n")[0]
    )
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR", help=f"default: {folder} in --dataset_dir"
    )
    add_link_flag(parser)
    add_validation_flags(parser)
    return parser


def parse_lists(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, folder: str
) -> argparse.Namespace:
    """Flags of such a command; by default the CSVs go to a folder in `--dataset_dir`."""
    flags = parser.parse_args(argv)
    output_dir = flags.output_dir or flags.dataset_dir / folder
    return argparse.Namespace(**{**vars(flags), "output_dir": output_dir})


def read_folds(dataset_dir: Path) -> dict[int, dict[str, list[tuple[str, int]]]]:
    """Name and class, from 0, of the clips of both parts ("train", "test") of every fold."""
    pattern = LISTS.format(part="train", fold="[0-9]*")
    numbers = sorted(int(path.stem.removeprefix("set_")) for path in dataset_dir.glob(pattern))
    if not numbers or not (dataset_dir / "synthetic.json").is_file():
        raise PreparationError(
            f"{dataset_dir} is not a folder of `python -m svfap.preprocess.synthetic ...`"
        )
    return {
        fold: {
            part: [
                (f"{int(row['video_name']):05d}", int(row["label"]) - 1)
                for _, row in read_table(
                    dataset_dir / LISTS.format(part=part, fold=fold), ("video_name", "label")
                )
            ]
            for part in ("train", "test")
        }
        for fold in numbers
    }


def read_clips(dataset_dir: Path, report: Path) -> dict[str, DrawnClip]:
    """All labelled clips by name.

    Args:
        report: gets the problems.
    """
    subjects = read_subjects(None, dataset_dir / LABELS / "subjects.csv")
    clips, problems = {}, Problems()
    for name, subject in subjects.items():
        folder, annotation = dataset_dir / FRAMES / name, dataset_dir / LABELS / f"{name}.npz"
        if not folder.is_dir() or not annotation.is_file():
            problems.add(
                f"{name}: {folder} or {annotation} is missing; draw the data set to its end"
            )
            continue
        try:
            values = np.stack(list(read_arrays(annotation, DIMENSIONS).values()), axis=1)
        except ValueError as error:
            problems.add(str(error))
            continue
        frames = [path for path in folder.iterdir() if path.suffix in IMAGE_SUFFIXES]
        frames.sort(key=lambda path: natural_key(path.name))
        if len(frames) != len(values):
            problems.add(f"{folder}: {len(frames)} frames, {len(values)} in {annotation}")
            continue
        clips[name] = DrawnClip(folder, frames, annotation, values, subject)
    problems.raise_if_any(str(dataset_dir), report=report)
    return clips


def text_of(values: np.ndarray) -> str:
    """Valence and arousal (2,) as in a CSV."""
    return " ".join(f"{value:.6f}" for value in values)
