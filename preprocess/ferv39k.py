"""FERV39k: official lists and frame folders -> `all_scenes/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    4_setups/All_scenes/train_All.csv and test_All.csv    lines `path label-name`, no header
    2_ClipsforFaceCrop/<path>/*.jpg                       frames of the cropped faces
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from datasets.catalog import get_spec
from datasets.tables import read_text
from preprocess.shared.common import PreparationError, Problems, run_command
from preprocess.shared.folds import Video, label_index, prepare_folds
from preprocess.shared.splits import add_split_flags

logger = logging.getLogger(__name__)

FRAMES = "2_ClipsforFaceCrop"
SPEC = get_spec("FERV39k")


def read_list(path: Path, problems: Problems) -> list[Video]:
    """Videos of one official list.

    Args:
        path: `train_All.csv` or `test_All.csv`.
        problems: gets a line for every line that is not as it should be.

    Raises:
        PreparationError: the file is absent.
    """
    if not path.is_file():
        raise PreparationError(f"no such file: {path}")
    videos = []
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        where = f"{path} line {line}"
        fields = text.split()
        if not fields:
            continue
        if len(fields) != 2:
            problems.add(f"{where}: expected `path label-name`, got {text!r}")
            continue
        label = label_index(fields[1], SPEC.class_names, where, problems)
        if label >= 0:
            videos.append(Video(name=_below_frames(fields[0]), label=label, where=where))
    return videos


def _below_frames(path: str) -> str:
    """Path relative to the frames folder; lists are known with and without its name in front."""
    return path.removeprefix("./").removeprefix(f"{FRAMES}/").strip("/")


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m preprocess.ferv39k`."""
    parser = argparse.ArgumentParser("preprocess.ferv39k", description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--frames_dir", type=Path, metavar="DIR", help=f"(default: {FRAMES} in --dataset_dir)"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("saved/data/ferv39k"))
    add_split_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs of FERV39k.

    Raises:
        PreparationError: the official files are not as published.
    """
    flags = build_parser().parse_args(argv)
    lists = flags.dataset_dir / "4_setups" / "All_scenes"
    problems = Problems()
    parts = {part: read_list(lists / f"{part}_All.csv", problems) for part in ("train", "test")}
    prepare_folds(
        dataset="FERV39k",
        folds={"all_scenes": parts},
        frames_dir=flags.frames_dir or flags.dataset_dir / FRAMES,
        published={f"all_scenes {part}": SPEC.counts[part] for part in ("train", "test")},
        flags=flags,
        problems=problems,
    )


if __name__ == "__main__":
    run_command(main)
