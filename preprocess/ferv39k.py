"""FERV39k: official lists and frame folders -> `all_scenes/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    4_setups/All_scenes/train_All.csv and test_All.csv    lines `path label-name`, no header
    2_ClipsforFaceCrop/<path>/*.jpg                       frames of the cropped faces
"""

import argparse

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import Problems, run_command
from svfap.preprocess.shared.labelled import Found, Parts
from svfap.preprocess.shared.lists import (
    add_frames_flag,
    clip_of,
    found_in_lists,
    label_of,
    read_lines,
)
from svfap.preprocess.shared.runner import Command

LISTS, FRAMES, FOLDER = "4_setups/All_scenes", "2_ClipsforFaceCrop", "all_scenes"
PARTS = ("train", "test")
SPEC = get_spec("FERV39k")


def read(flags: argparse.Namespace) -> Found:
    """Read the official lists."""
    frames_dir, problems = flags.frames_dir or flags.dataset_dir / FRAMES, Problems()
    parts: Parts = {part: [] for part in PARTS}
    for part, clips in parts.items():
        path = flags.dataset_dir / LISTS / f"{part}_All.csv"
        for where, name, text in read_lines(path, "path label-name", problems):
            label = label_of(text, SPEC.class_names, where, problems)
            if label is not None:
                clips.append(clip_of(frames_dir, _below_frames(name), label, where))
    return found_in_lists({FOLDER: parts}, problems, frames_dir)


def _below_frames(path: str) -> str:
    """Path relative to the frames folder; lists are known with and without its name in front."""
    return path.removeprefix("./").removeprefix(f"{FRAMES}/").strip("/")


COMMAND = Command(
    spec=SPEC, name="ferv39k", description=__doc__, read=read,
    add_flags=lambda parser: add_frames_flag(parser, FRAMES),
    published=lambda flags, found: {f"{FOLDER} {part}": SPEC.counts[part] for part in PARTS},
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
