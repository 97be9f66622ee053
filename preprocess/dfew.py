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
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import PreparationError, Problems, read_table, run_command
from svfap.preprocess.shared.labelled import Clip, Found
from svfap.preprocess.shared.lists import add_frames_flag, clip_of, found_in_lists, read_subjects
from svfap.preprocess.shared.runner import Command

logger = logging.getLogger(__name__)

LISTS = "EmoLabel_DataSplit"
FRAME_FOLDERS = ("Clip/jpg_256", "Clip/clip_224x224")
SPEC = get_spec("DFEW")
TRAIN_CLIPS = dict(enumerate(SPEC.counts["train"], start=1))


def published_counts(folds: Iterable[int]) -> dict[str, int]:
    """Published numbers of videos of these folds, by the keys of `runner.count_clips`."""
    counts = {}
    for fold in folds:
        if fold in TRAIN_CLIPS:
            counts[f"split{fold:02d} train"] = TRAIN_CLIPS[fold]
            counts[f"split{fold:02d} test"] = SPEC.counts["all"] - TRAIN_CLIPS[fold]
    return counts


def read_list(
    path: Path, frames_dir: Path, subjects: Mapping[str, str], problems: Problems
) -> list[Clip]:
    """Clips of one official list.

    Args:
        path: `set_N.csv` with columns video_name (a number) and label (1-based).
        subjects: by name of the frame folder, or none.

    Returns:
        The good lines; names are five-digit frame folders, labels 0-based.
    """
    clips = []
    for line, row in read_table(path, ("video_name", "label")):
        where = f"{path} line {line}"
        name, label = row["video_name"], row["label"]
        if not name.isdecimal():
            problems.add(f"{where}: video_name {name!r} is not a number")
        elif not label.isdecimal() or not 1 <= int(label) <= SPEC.num_classes:
            problems.add(f"{where}: label {label!r} is not one of 1..{SPEC.num_classes}")
        elif None in row:
            problems.add(f"{where}: more columns than the header: {row[None]}")
        elif subjects and _folder_name(name) not in subjects:
            problems.add(f"{where}: {_folder_name(name)} has no line in the subjects file")
        else:
            clip = clip_of(frames_dir, _folder_name(name), str(int(label) - 1), where)
            clips.append(replace(clip, subject=subjects.get(clip.name)))
    return clips


def find_folds(split_dir: Path) -> list[int]:
    """Numbers of the folds that have a training list."""
    train = {int(p.stem[4:]) for p in (split_dir / "train(single-labeled)").glob("set_[0-9]*.csv")}
    test = {int(p.stem[4:]) for p in (split_dir / "test(single-labeled)").glob("set_[0-9]*.csv")}
    if not train:
        raise PreparationError(
            f"no set_N.csv in {split_dir / 'train(single-labeled)'}; --dataset_dir must be the "
            "folder that holds EmoLabel_DataSplit"
        )
    if train != test:
        raise PreparationError(
            f"{split_dir}: folds {sorted(train)} have a training list, {sorted(test)} a test list"
        )
    return sorted(train)


def frames_folder(dataset_dir: Path, given: Path | None) -> Path:
    """Folder of the frame folders: `given`, or the first usual one that exists."""
    candidates = [given] if given else [dataset_dir / name for name in FRAME_FOLDERS]
    for folder in candidates:
        if folder.is_dir():
            if folder.name.endswith("_16f"):
                logger.warning("%s: 16 frames per clip give much worse results", folder)
            return folder
    raise PreparationError(
        f"no frames folder: looked for {', '.join(map(str, candidates))}; pass --frames_dir"
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about frames, folds and subjects."""
    add_frames_flag(parser, " or ".join(FRAME_FOLDERS))
    parser.add_argument("--folds", type=int, nargs="+", metavar="N", help="only these folds")
    parser.add_argument(
        "--subjects",
        type=Path,
        metavar="CSV",
        help="columns video_name and subject (default: annotation/subjects.csv in "
        "--dataset_dir, if there); DFEW itself names no subjects",
    )


def fold_numbers(flags: argparse.Namespace) -> list[int]:
    """Folds to prepare: those asked for, else all that are there and all that are published."""
    split_dir = flags.dataset_dir / LISTS
    present = find_folds(split_dir)
    numbers = flags.folds or sorted({*present, *TRAIN_CLIPS})
    absent = [number for number in numbers if number not in present]
    if absent and (flags.folds or not flags.allow_other_counts):
        raise PreparationError(f"{split_dir}: no lists of fold(s) {absent}; there are {present}")
    return [number for number in numbers if number in present]


def read(flags: argparse.Namespace) -> Found:
    """Read the official lists."""
    numbers, problems = fold_numbers(flags), Problems()
    frames_dir = frames_folder(flags.dataset_dir, flags.frames_dir)
    named = read_subjects(flags.subjects, flags.dataset_dir / "annotation" / "subjects.csv")
    subjects = {_folder_name(name): subject for name, subject in named.items()}
    splits = {
        f"split{number:02d}": {
            part: read_list(
                flags.dataset_dir / LISTS / f"{part}(single-labeled)" / f"set_{number}.csv",
                frames_dir, subjects, problems,
            )
            for part in ("train", "test")
        }
        for number in numbers
    }  # fmt: skip
    complete = set(numbers) >= {*find_folds(flags.dataset_dir / LISTS), *TRAIN_CLIPS}
    found = found_in_lists(splits, problems, frames_dir, complete=complete)
    found.subjects_apart = bool(subjects)
    return found


def _folder_name(name: str) -> str:
    return f"{int(name):05d}" if name.isdecimal() else name


COMMAND = Command(
    spec=SPEC, name="dfew", description=__doc__, output_dir="saved/data/dfew/org",
    read=read, add_flags=add_flags,
    published=lambda flags, found: published_counts(int(name[5:]) for name in found.splits),
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
