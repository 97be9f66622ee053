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
from collections.abc import Sequence
from pathlib import Path

from datasets.catalog import get_spec
from preprocess.shared.common import PreparationError, Problems, read_table, run_command
from preprocess.shared.folds import Fold, Video, prepare_folds, read_subjects
from preprocess.shared.splits import add_split_flags

logger = logging.getLogger(__name__)

FRAME_FOLDERS = ("Clip/jpg_256", "Clip/clip_224x224")
SPEC = get_spec("DFEW")
TRAIN_CLIPS = dict(enumerate(SPEC.counts["train"], start=1))


def published_counts(folds: Sequence[int]) -> dict[str, int]:
    """Published numbers of videos of these folds, by the keys of `folds.count_videos`."""
    counts = {}
    for fold in folds:
        if fold in TRAIN_CLIPS:
            counts[f"split{fold:02d} train"] = TRAIN_CLIPS[fold]
            counts[f"split{fold:02d} test"] = SPEC.counts["all"] - TRAIN_CLIPS[fold]
    return counts


def read_list(path: Path, problems: Problems) -> list[Video]:
    """Videos of one official list.

    Args:
        path: `set_N.csv` with columns video_name (a number) and label (1-based).
        problems: gets a line for every line that is not as it should be.

    Returns:
        The good lines; names are five-digit frame folders, labels 0-based.
    """
    videos = []
    for line, row in read_table(path, ("video_name", "label")):
        where = f"{path} line {line}"
        name, label = (row["video_name"] or "").strip(), (row["label"] or "").strip()
        if not name.isdecimal():
            problems.add(f"{where}: video_name {name!r} is not a number")
        elif not label.isdecimal() or not 1 <= int(label) <= SPEC.num_classes:
            problems.add(f"{where}: label {label!r} is not one of 1..{SPEC.num_classes}")
        elif None in row:
            problems.add(f"{where}: more columns than the header: {row[None]}")
        else:
            videos.append(Video(name=f"{int(name):05d}", label=int(label) - 1, where=where))
    return videos


def find_folds(split_dir: Path) -> list[int]:
    """Numbers of the folds that have a training list.

    Raises:
        PreparationError: there is none, or a training list has no test list.
    """
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


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m preprocess.dfew`."""
    parser = argparse.ArgumentParser("preprocess.dfew", description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--frames_dir",
        type=Path,
        metavar="DIR",
        help=f"folder of the frame folders (default: {' or '.join(FRAME_FOLDERS)})",
    )
    parser.add_argument("--output_dir", type=Path, default=Path("saved/data/dfew/org"))
    parser.add_argument("--folds", type=int, nargs="+", metavar="N", help="only these folds")
    parser.add_argument(
        "--subjects",
        type=Path,
        metavar="CSV",
        help="columns video_name and subject (default: annotation/subjects.csv in "
        "--dataset_dir, if there); "
        "DFEW itself names no subjects",
    )
    add_split_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs of DFEW.

    Raises:
        PreparationError: the official files are not as published.
    """
    flags = build_parser().parse_args(argv)
    split_dir = flags.dataset_dir / "EmoLabel_DataSplit"
    present = find_folds(split_dir)
    numbers = flags.folds or sorted({*present, *TRAIN_CLIPS})
    absent = [number for number in numbers if number not in present]
    if absent and (flags.folds or not flags.allow_other_counts):
        raise PreparationError(f"{split_dir}: no lists of fold(s) {absent}; there are {present}")
    numbers = [number for number in numbers if number in present]
    problems = Problems()
    folds: dict[str, Fold] = {
        f"split{number:02d}": {
            part: read_list(split_dir / f"{part}(single-labeled)" / f"set_{number}.csv", problems)
            for part in ("train", "test")
        }
        for number in numbers
    }
    subjects = read_subjects(flags.subjects, flags.dataset_dir / "annotation" / "subjects.csv")
    prepare_folds(
        dataset="DFEW",
        folds=folds,
        frames_dir=frames_folder(flags.dataset_dir, flags.frames_dir),
        published=published_counts(numbers),
        flags=flags,
        problems=problems,
        subjects={_folder_name(name): subject for name, subject in subjects.items()},
        complete=numbers == sorted({*present, *TRAIN_CLIPS}),
    )


def _folder_name(name: str) -> str:
    return f"{int(name):05d}" if name.isdecimal() else name


if __name__ == "__main__":
    run_command(main)
