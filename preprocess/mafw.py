"""MAFW: official lists and frame folders -> `split0N/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    Train & Test Set/single/no_caption/set_1 ... set_5/train.txt and test.txt
                                              lines `NAME.mp4 label-name`, no header
    data/frames/NAME/*.png                    frames (not the whole picture: cropped faces)
"""

import argparse

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import Problems, run_command
from svfap.preprocess.shared.labelled import Found
from svfap.preprocess.shared.lists import add_list_flags, choose_folds, found_in_lists, read_list
from svfap.preprocess.shared.runner import Command

LISTS, FRAMES = "Train & Test Set/single/no_caption", "data/frames"
SPEC = get_spec("MAFW")


def read(flags: argparse.Namespace) -> Found:
    """Read the official lists."""
    frames_dir, problems = flags.frames_dir or flags.dataset_dir / FRAMES, Problems()
    lists = flags.dataset_dir / LISTS
    names = (folder.name for folder in lists.glob("set_[0-9]*"))
    numbers, complete = choose_folds(lists, names, SPEC, flags)
    splits = {
        f"split{number:02d}": {
            part: read_list(
                lists / f"set_{number}" / f"{part}.txt", "NAME.mp4 label-name",
                frames_dir, SPEC.class_names, problems,
                lambda name: name.removesuffix(".mp4") if name.endswith(".mp4") else None,
            )
            for part in ("train", "test")
        }
        for number in numbers
    }  # fmt: skip
    return found_in_lists(splits, problems, frames_dir, complete=complete)


COMMAND = Command(
    spec=SPEC, name="mafw", description=__doc__, output_dir="saved/data/mafw/single", read=read,
    add_flags=lambda parser: add_list_flags(parser, FRAMES, folds=True),
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
