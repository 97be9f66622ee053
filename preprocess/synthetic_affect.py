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
from svfap.preprocess.shared.affect_targets import DIMENSIONS
from svfap.preprocess.shared.common import run_command, without_spaces
from svfap.preprocess.shared.labelled import (
    Clip,
    csv_paths,
    link_folder,
    warn_about_validation,
    write_parts,
    write_subjects,
)
from svfap.preprocess.synthetic.lists import lists_parser, read_clips, read_folds, text_of


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.synthetic_affect`."""
    return lists_parser("synthetic_affect", __doc__.split("\n")[0], folder="affect")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs."""
    parser = build_parser()
    flags = parser.parse_args(argv)
    if not flags.output_dir:
        parser.set_defaults(output_dir=flags.dataset_dir / "affect")
        flags = parser.parse_args(argv)
    folds = read_folds(flags.dataset_dir)
    drawn = read_clips(flags.dataset_dir, flags.output_dir / "problems.txt")

    def listed(label) -> dict[str, Clip]:
        return {
            name: Clip(path=clip.folder, label=label(clip), subject=clip.subject)
            for name, clip in drawn.items()
        }

    links, inside = link_folder(flags), flags.output_dir / "videos" / "split01"
    videos = listed(lambda clip: text_of(clip.values.mean(axis=0)))
    frames = listed(lambda clip: str(without_spaces(clip.annotation, links, inside)))
    rename = csv_paths(videos.values(), inside, flags)
    for folder, task, clips in (
        ("videos", "regression", videos),
        ("frames", "regression_frames", frames),
    ):
        for fold, parts in folds.items():
            write_parts(
                flags.output_dir / folder / f"split{fold:02d}",
                **{part: [clips[name] for name, _ in some] for part, some in parts.items()},
                names=LabelNames(task=task, class_names=DIMENSIONS),
                flags=flags,
                rename=rename,
            )
    write_subjects(flags.output_dir, videos.values(), rename)
    warn_about_validation(flags)


if __name__ == "__main__":
    run_command(main)
