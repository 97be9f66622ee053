"""FERV39k: official lists and frame folders -> `all_scenes/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    4_setups/All_scenes/train_All.csv and test_All.csv    lines `path label-name`, no header
    2_ClipsforFaceCrop/<path>/*.jpg                       frames of the cropped faces
"""

import argparse

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import Problems, run_command
from svfap.preprocess.shared.labelled import Found
from svfap.preprocess.shared.lists import add_list_flags, found_in_lists, read_list
from svfap.preprocess.shared.runner import Command

LISTS, FRAMES, FOLDER = "4_setups/All_scenes", "2_ClipsforFaceCrop", "all_scenes"
SPEC = get_spec("FERV39k")


def read(flags: argparse.Namespace) -> Found:
    """Read the official lists."""
    frames_dir, problems = flags.frames_dir or flags.dataset_dir / FRAMES, Problems()
    parts = {
        part: read_list(
            flags.dataset_dir / LISTS / f"{part}_All.csv", "path label-name",
            frames_dir, SPEC.class_names, problems, _below_frames,
        )
        for part in ("train", "test")
    }  # fmt: skip
    return found_in_lists({FOLDER: parts}, problems, frames_dir)


def _below_frames(path: str) -> str:
    """Path relative to the frames folder; lists are known with and without its name in front."""
    return path.removeprefix("./").removeprefix(f"{FRAMES}/").strip("/")


COMMAND = Command(
    spec=SPEC, name="ferv39k", description=__doc__, read=read,
    add_flags=lambda parser: add_list_flags(parser, FRAMES),
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
