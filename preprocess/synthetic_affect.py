"""Valence and arousal of the synthetic faces -> CSVs for regression, per video and per frame.

    python -m svfap.preprocess.synthetic_affect --dataset_dir saved/data/synthetic

reads what preprocess.synthetic has written and writes `videos/split0N/` (lines of `path valence
arousal`, the means over the frames) and `frames/split0N/` (lines of `path labels.npz`), each with
train.csv, val.csv, test.csv and classes.json, and subjects.csv beside the two folders. Values lie
in -1..1. The folds are those of the classes, nobody is in both parts.
"""

import argparse
from collections.abc import Sequence

from svfap.datasets.labels.classes import LabelNames
from svfap.preprocess.shared.common import run_command, without_spaces
from svfap.preprocess.shared.labelled import Clip
from svfap.preprocess.shared.writing import DIMENSIONS, Target, link_folder, write_splits
from svfap.preprocess.synthetic.lists import (
    lists_parser,
    parse_lists,
    read_clips,
    read_folds,
    text_of,
)

FOLDER = "affect"


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.synthetic_affect`."""
    return lists_parser("synthetic_affect", __doc__, folder=FOLDER)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs."""
    flags = parse_lists(build_parser(), argv, FOLDER)
    folds, links = read_folds(flags.dataset_dir), link_folder(flags)
    inside = flags.output_dir / "videos" / "split01"
    clips: dict[str, Clip] = {}
    for name, drawn in read_clips(flags.dataset_dir, flags.output_dir / "problems.txt").items():
        labels = without_spaces(drawn.annotation, links, inside)
        label = f"{text_of(drawn.values.mean(axis=0))} {labels}"
        clips[name] = Clip(path=drawn.folder, label=label, subject=drawn.subject)
    splits = {
        f"split{fold:02d}": {p: [clips[name] for name, _ in some] for p, some in parts.items()}
        for fold, parts in folds.items()
    }
    targets = {
        "videos": Target(LabelNames(task="regression", class_names=DIMENSIONS), slice(2)),
        "frames": Target(LabelNames(task="regression_frames", class_names=DIMENSIONS), slice(2, 3)),
    }
    write_splits({clip.path: clip for clip in clips.values()}, splits, targets, flags)


if __name__ == "__main__":
    run_command(main)
