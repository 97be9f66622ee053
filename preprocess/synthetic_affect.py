"""Valence and arousal of the synthetic faces -> CSVs for regression, per video and per frame.

    python -m preprocess.synthetic_affect --dataset_dir saved/data/synthetic

reads what preprocess.synthetic has written (frame folders, `dfew/annotation/*.npz`, subject-
independent folds) and writes `videos/split0N/` (lines of `path valence arousal`, the means over the
frames) and `frames/split0N/` (lines of `path labels.npz`), each with train.csv, val.csv, test.csv
and classes.json. Values lie in -1..1. The folds are those of the classes.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.classes import LabelNames
from preprocess.common import PreparationError, Problems, read_table, run_command, without_spaces
from preprocess.folds import read_subjects
from preprocess.labelled import Clip, csv_paths, link_folder, write_parts, write_subjects
from preprocess.splits import add_split_flags, warn_about_validation

DIMENSIONS = ("valence", "arousal")
FRAMES, LABELS = "dfew/Clip/jpg_256", "dfew/annotation"
LISTS = "dfew/EmoLabel_DataSplit/{part}(single-labeled)/set_{fold}.csv"


def read_values(path: Path) -> np.ndarray:
    """Valence and arousal of every frame, (T, 2), from an annotation of preprocess.synthetic."""
    with np.load(path, allow_pickle=False) as content:
        return np.stack([content[name] for name in DIMENSIONS], axis=1)


def find_folds(dataset_dir: Path) -> list[int]:
    """Numbers of the folds.

    Raises:
        PreparationError: the folder is not one of preprocess.synthetic.
    """
    pattern = LISTS.format(part="train", fold="[0-9]*")
    found = sorted(int(path.stem[4:]) for path in dataset_dir.glob(pattern))
    if not found or not (dataset_dir / "synthetic.json").is_file():
        raise PreparationError(
            f"{dataset_dir} is not a folder of `python -m preprocess.synthetic --output_dir ...`"
        )
    return found


def read_clips(dataset_dir: Path, output_dir: Path) -> dict[str, Clip]:
    """All labelled clips by name; the label is the mean valence and arousal.

    Args:
        dataset_dir: of preprocess.synthetic.
        output_dir: gets problems.txt if there are problems.

    Raises:
        PreparationError: frames or annotations are missing.
    """
    subjects = read_subjects(None, dataset_dir / LABELS / "subjects.csv")
    clips, problems = {}, Problems()
    for name, subject in subjects.items():
        frames, labels = dataset_dir / FRAMES / name, dataset_dir / LABELS / f"{name}.npz"
        if not frames.is_dir() or not labels.is_file():
            problems.add(f"{name}: {frames} or {labels} is missing; draw the data set to its end")
            continue
        means = " ".join(f"{value:.6f}" for value in read_values(labels).mean(axis=0))
        clips[name] = Clip(path=frames, label=means, subject=subject)
    problems.raise_if_any(str(dataset_dir), report=output_dir / "problems.txt")
    return clips


def write_fold(
    clips: dict[str, Clip], fold: int, flags: argparse.Namespace, rename: dict[Path, str]
) -> None:
    """Write both folders of one fold."""
    parts = {}
    for part in ("train", "test"):
        rows = read_table(flags.dataset_dir / LISTS.format(part=part, fold=fold), ("video_name",))
        parts[part] = [clips[f"{int(row['video_name']):05d}"] for _, row in rows]
    of_frames = {
        part: [dataclasses.replace(clip, label=_label_file(clip, flags)) for clip in some]
        for part, some in parts.items()
    }
    for folder, task, some in (
        ("videos", "regression", parts),
        ("frames", "regression_frames", of_frames),
    ):
        write_parts(
            flags.output_dir / folder / f"split{fold:02d}",
            train=some["train"],
            test=some["test"],
            names=LabelNames(task=task, class_names=DIMENSIONS),
            flags=flags,
            rename=rename,
        )


def _label_file(clip: Clip, flags: argparse.Namespace) -> str:
    path = flags.dataset_dir / LABELS / f"{clip.path.name}.npz"
    return str(without_spaces(path, link_folder(flags)))


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m preprocess.synthetic_affect`."""
    parser = argparse.ArgumentParser(
        "preprocess.synthetic_affect", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="default: affect in --dataset_dir"
    )
    add_split_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs.

    Raises:
        PreparationError: the data set is not complete.
    """
    flags = build_parser().parse_args(argv)
    flags.output_dir = flags.output_dir or flags.dataset_dir / "affect"
    folds = find_folds(flags.dataset_dir)
    clips = read_clips(flags.dataset_dir, flags.output_dir)
    rename = csv_paths(clips.values(), flags)
    for fold in folds:
        write_fold(clips, fold, flags, rename)
    write_subjects(flags.output_dir, clips.values(), rename)
    warn_about_validation(flags)


if __name__ == "__main__":
    run_command(main)
