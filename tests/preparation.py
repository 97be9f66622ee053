"""Preparation commands of labelled data sets: running them, and reading what they wrote."""

import csv
from pathlib import Path

import pytest

from svfap.preprocess.shared.common import PreparationError
from tests.lab_trees import write_image

OTHER = "--allow_other_counts"


def run(command, root: Path, out: Path, *more: str) -> None:
    command.main(["--dataset_dir", str(root), "--output_dir", str(out), *map(str, more)])


def message(command, root: Path, out: Path, *more: str) -> str:
    with pytest.raises(PreparationError) as caught:
        run(command, root, out, *more)
    return str(caught.value)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def rows(path: Path) -> list[list[str]]:
    return [line.split(" ") for line in lines_of(path)]


def subjects_of(path: Path, subject) -> set[str]:
    return {subject(Path(row[0])) for row in rows(path)}


def table(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_frames(folder: Path, suffix: str = ".jpg", num_frames: int = 2) -> None:
    for index in range(num_frames):
        write_image(folder / f"{index + 1:05d}{suffix}")
