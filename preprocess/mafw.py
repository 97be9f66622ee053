"""MAFW: official lists and frame folders -> `split0N/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    Train & Test Set/single/no_caption/set_1 ... set_5/train.txt and test.txt
                                              lines `NAME.mp4 label-name`, no header
    data/frames/NAME/*.png                    frames (not the whole picture: cropped faces)
"""

import argparse
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import Problems, run_command
from svfap.preprocess.shared.labelled import Clip, Found
from svfap.preprocess.shared.lists import (
    add_frames_flag,
    clip_of,
    found_in_lists,
    label_of,
    read_lines,
)
from svfap.preprocess.shared.runner import Command

LISTS = "Train & Test Set/single/no_caption"
FRAMES = "data/frames"
SPEC = get_spec("MAFW")
FOLDS = tuple(range(1, SPEC.num_folds + 1))


def read_list(path: Path, frames_dir: Path, problems: Problems) -> list[Clip]:
    """Clips of one official list, `train.txt` or `test.txt`."""
    clips, expected = [], "NAME.mp4 label-name"
    for where, name, text in read_lines(path, expected, problems):
        if not name.endswith(".mp4"):
            problems.add(f"{where}: expected `{expected}`, got '{name} {text}'")
            continue
        label = label_of(text, SPEC.class_names, where, problems)
        if label is not None:
            clips.append(clip_of(frames_dir, name.removesuffix(".mp4"), label, where))
    return clips


def read(flags: argparse.Namespace) -> Found:
    """Read the official lists."""
    frames_dir, problems = flags.frames_dir or flags.dataset_dir / FRAMES, Problems()
    lists = flags.dataset_dir / LISTS
    splits = {
        f"split{number:02d}": {
            part: read_list(lists / f"set_{number}" / f"{part}.txt", frames_dir, problems)
            for part in ("train", "test")
        }
        for number in sorted(set(flags.folds))
    }
    return found_in_lists(splits, problems, frames_dir, complete=set(flags.folds) == set(FOLDS))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about frames and folds."""
    add_frames_flag(parser, FRAMES)
    parser.add_argument(
        "--folds", type=int, nargs="+", default=list(FOLDS), choices=FOLDS, metavar="N",
        help="only these folds",
    )  # fmt: skip


def published(flags: argparse.Namespace, found: Found) -> dict[str, int]:
    """Published numbers of the folds that are prepared."""
    train = dict(zip(FOLDS, SPEC.counts["train"]))
    counts = {f"split{n:02d} train": train[n] for n in flags.folds}
    return counts | {f"{name} in all": SPEC.counts["all"] for name in found.splits}


COMMAND = Command(
    spec=SPEC, name="mafw", description=__doc__, output_dir="saved/data/mafw/single",
    read=read, add_flags=add_flags, published=published,
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
