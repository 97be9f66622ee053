"""MAFW: official lists and frame folders -> `split0N/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    Train & Test Set/single/no_caption/set_1 ... set_5/train.txt and test.txt
                                              lines `NAME.mp4 label-name`, no header
    data/frames/NAME/*.png                    frames (not the whole picture: cropped faces)
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

LISTS = "Train & Test Set/single/no_caption"
FRAMES = "data/frames"
SPEC = get_spec("MAFW")
FOLDS = tuple(range(1, SPEC.num_folds + 1))


def read_list(path: Path, problems: Problems) -> list[Video]:
    """Videos of one official list.

    Args:
        path: `train.txt` or `test.txt` of one set.
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
        if len(fields) != 2 or not fields[0].endswith(".mp4"):
            problems.add(f"{where}: expected `NAME.mp4 label-name`, got {text!r}")
            continue
        label = label_index(fields[1], SPEC.class_names, where, problems)
        if label >= 0:
            videos.append(Video(name=fields[0].removesuffix(".mp4"), label=label, where=where))
    return videos


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m preprocess.mafw`."""
    parser = argparse.ArgumentParser("preprocess.mafw", description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--frames_dir", type=Path, metavar="DIR", help=f"(default: {FRAMES} in --dataset_dir)"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("saved/data/mafw/single"))
    parser.add_argument(
        "--folds", type=int, nargs="+", default=list(FOLDS), choices=FOLDS, metavar="N",
        help="only these folds",
    )  # fmt: skip
    add_split_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs of MAFW.

    Raises:
        PreparationError: the official files are not as published.
    """
    flags = build_parser().parse_args(argv)
    problems = Problems()
    folds = {
        f"split{number:02d}": {
            part: read_list(flags.dataset_dir / LISTS / f"set_{number}" / f"{part}.txt", problems)
            for part in ("train", "test")
        }
        for number in sorted(set(flags.folds))
    }
    prepare_folds(
        dataset="MAFW",
        folds=folds,
        frames_dir=flags.frames_dir or flags.dataset_dir / FRAMES,
        published={f"{name} in all": SPEC.counts["all"] for name in folds},
        flags=flags,
        problems=problems,
        complete=set(flags.folds) == set(FOLDS),
    )


if __name__ == "__main__":
    run_command(main)
