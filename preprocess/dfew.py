"""DFEW: official split files and frame folders -> `split0N/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    EmoLabel_DataSplit/train(single-labeled)/set_1.csv ... set_5.csv   columns video_name, label
    EmoLabel_DataSplit/test(single-labeled)/set_1.csv ... set_5.csv    labels 1..7
    Clip/jpg_256/00001/*.jpg                       released as Clip/clip_224x224, 256 px in fact
    annotation/subjects.csv     not part of DFEW, read if there: columns video_name, subject

Use the frames of original length: the folder with 16 frames per clip gives much worse results.
"""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import PreparationError, Problems, read_table, run_command
from svfap.preprocess.shared.labelled import Clip, Found, first_folder
from svfap.preprocess.shared.lists import (
    add_list_flags,
    choose_folds,
    found_in_lists,
    read_subjects,
)
from svfap.preprocess.shared.runner import Command

logger = logging.getLogger(__name__)

LISTS, TRAIN, TEST = "EmoLabel_DataSplit", "train(single-labeled)", "test(single-labeled)"
FRAME_FOLDERS = ("Clip/jpg_256", "Clip/clip_224x224")
SPEC = get_spec("DFEW")


def read_list(
    path: Path, frames_dir: Path, subjects: Mapping[str, str], problems: Problems
) -> list[Clip]:
    """Clips of one official list, with columns video_name (a number) and label (1-based)."""
    clips = []
    for line, row in read_table(path, ("video_name", "label")):
        where, label = f"{path} line {line}", row["label"]
        name = _folder_name(row["video_name"])
        if not name.isdecimal():
            problems.add(f"{where}: video_name {name!r} is not a number")
        elif not label.isdecimal() or not 1 <= int(label) <= SPEC.num_classes:
            problems.add(f"{where}: label {label!r} is not one of 1..{SPEC.num_classes}")
        elif None in row:
            problems.add(f"{where}: more columns than the header: {row[None]}")
        elif subjects and name not in subjects:
            problems.add(f"{where}: {name} has no line in the subjects file")
        else:
            label, subject = str(int(label) - 1), subjects.get(name)
            clips.append(
                Clip(path=frames_dir / name, label=label, subject=subject, where=where, name=name)
            )
    return clips


def _folder_name(name: str) -> str:
    return f"{int(name):05d}" if name.isdecimal() else name


def read(flags: argparse.Namespace) -> Found:
    """Read the official lists."""
    lists, problems = flags.dataset_dir / LISTS, Problems()
    train, test = (
        {path.stem for path in (lists / part).glob("set_[0-9]*.csv")} for part in (TRAIN, TEST)
    )
    if not train:
        raise PreparationError(
            f"no set_N.csv in {lists / TRAIN}; --dataset_dir must be the folder that holds {LISTS}"
        )
    if train != test:
        raise PreparationError(
            f"{lists}: {sorted(train)} have a training list, {sorted(test)} a test list"
        )
    frames_dir = first_folder(flags.dataset_dir, flags.frames_dir, FRAME_FOLDERS, "--frames_dir")
    if frames_dir.name.endswith("_16f"):
        logger.warning("%s: 16 frames per clip give much worse results", frames_dir)
    named = read_subjects(flags.subjects, flags.dataset_dir / "annotation" / "subjects.csv")
    subjects = {_folder_name(name): subject for name, subject in named.items()}
    numbers, complete = choose_folds(lists, train, SPEC, flags)
    splits = {
        f"split{number:02d}": {
            part: read_list(lists / folder / f"set_{number}.csv", frames_dir, subjects, problems)
            for part, folder in (("train", TRAIN), ("test", TEST))
        }
        for number in numbers
    }
    found = found_in_lists(splits, problems, frames_dir, complete=complete)
    found.subjects_apart = bool(subjects)
    return found


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about frames, folds and subjects."""
    add_list_flags(parser, " or ".join(FRAME_FOLDERS), folds=True)
    parser.add_argument(
        "--subjects", type=Path, metavar="CSV",
        help="columns video_name and subject (default: annotation/subjects.csv in "
        "--dataset_dir, if there); DFEW itself names no subjects",
    )  # fmt: skip


COMMAND = Command(
    spec=SPEC, name="dfew", description=__doc__, output_dir="saved/data/dfew/org",
    read=read, add_flags=add_flags,
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
