"""Single frames of the synthetic faces -> CSVs for expression, valence and arousal, and identity.

    python -m preprocess.synthetic_images --dataset_dir saved/data/synthetic

reads what preprocess.synthetic has written and writes `expression/split0N/`,
`valence_arousal/split0N/`, `both/split0N/` (with the folds of the clips, nobody is in both parts)
and `identity/` (everybody is in both parts, with other clips; a class per person), each with
train.csv, val.csv, test.csv and classes.json. A line is one frame and what is drawn in it. The
frames of a clip are spread evenly over those whose expression is strong.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.catalog import get_spec
from datasets.classes import LabelNames
from datasets.readers import IMAGE_SUFFIXES, natural_key
from preprocess.common import PreparationError, Problems, read_table, run_command
from preprocess.folds import read_subjects
from preprocess.labelled import Clip, csv_paths, write_parts
from preprocess.splits import add_split_flags, warn_about_validation
from preprocess.synthetic_affect import DIMENSIONS, FRAMES, LABELS, LISTS, find_folds, read_values

STRONG = 0.75  # of the clip's strongest frame


class Frame(NamedTuple):
    """One frame of a labelled clip."""

    path: Path
    clip: str
    subject: str
    affect: str  # valence and arousal


def strong_frames(values: np.ndarray, count: int) -> np.ndarray:
    """Frames spread evenly over those with a strong expression.

    Args:
        values: (T, 2) valence and arousal.
        count: how many.

    Returns:
        At most `count` distinct frames, ascending.
    """
    strength = np.hypot(*values.T)
    strong = np.flatnonzero(strength >= STRONG * strength.max())
    chosen = np.linspace(0, len(strong) - 1, min(count, len(strong)))
    return strong[np.round(chosen).astype(int)]


def read_frames(dataset_dir: Path, count: int, report: Path) -> dict[str, list[Frame]]:
    """The chosen frames of all labelled clips, by clip.

    Args:
        dataset_dir: of preprocess.synthetic.
        count: frames per clip.
        report: gets the problems.

    Raises:
        PreparationError: frames or annotations are missing, or do not belong together.
    """
    subjects = read_subjects(None, dataset_dir / LABELS / "subjects.csv")
    frames, problems = {}, Problems()
    for name, subject in subjects.items():
        folder, labels = dataset_dir / FRAMES / name, dataset_dir / LABELS / f"{name}.npz"
        if not folder.is_dir() or not labels.is_file():
            problems.add(f"{name}: {folder} or {labels} is missing; draw the data set to its end")
            continue
        values = read_values(labels)
        paths = [path for path in folder.iterdir() if path.suffix in IMAGE_SUFFIXES]
        paths.sort(key=lambda path: natural_key(path.name))
        if len(paths) != len(values):
            problems.add(f"{folder}: {len(paths)} frames, {len(values)} in {labels}")
            continue
        frames[name] = [
            Frame(paths[t], name, subject, " ".join(f"{value:.6f}" for value in values[t]))
            for t in strong_frames(values, count)
        ]
    problems.raise_if_any(str(dataset_dir), report=report)
    return frames


def write_folds(frames: dict[str, list[Frame]], flags: argparse.Namespace, rename: dict) -> None:
    """Write the targets of every fold."""
    classes = get_spec("synthetic").class_names
    expression = LabelNames(task="classification", class_names=classes)
    affect = LabelNames(task="regression", class_names=DIMENSIONS)
    both = LabelNames(
        task="class_and_values",
        class_names=("expression", *DIMENSIONS),
        heads={"expression": classes},
    )
    for fold in find_folds(flags.dataset_dir):
        parts: dict[str, dict[str, list[Clip]]] = {"expression": {}, "valence_arousal": {}}
        parts["both"] = {}
        for part in ("train", "test"):
            path = flags.dataset_dir / LISTS.format(part=part, fold=fold)
            rows = [row for _, row in read_table(path, ("video_name", "label"))]
            chosen = [
                (frame, str(int(row["label"]) - 1))
                for row in rows
                for frame in frames[f"{int(row['video_name']):05d}"]
            ]
            parts["expression"][part] = [
                Clip(path=frame.path, label=label, subject=frame.subject) for frame, label in chosen
            ]
            parts["valence_arousal"][part] = [
                Clip(path=frame.path, label=frame.affect, subject=frame.subject)
                for frame, _ in chosen
            ]
            parts["both"][part] = [
                Clip(path=frame.path, label=f"{label} {frame.affect}", subject=frame.subject)
                for frame, label in chosen
            ]
        targets = {"expression": expression, "valence_arousal": affect, "both": both}
        for target, names in targets.items():
            folder = flags.output_dir / target / f"split{fold:02d}"
            write_parts(folder, **parts[target], names=names, flags=flags, rename=rename)


def write_identity(frames: dict[str, list[Frame]], flags: argparse.Namespace, rename: dict) -> None:
    """Write who is who: of each person, every other clip is for training.

    Raises:
        PreparationError: somebody has one clip only.
    """
    clips: dict[str, list[str]] = defaultdict(list)
    for name in sorted(frames):
        clips[frames[name][0].subject].append(name)
    single = [subject for subject, names in clips.items() if len(names) < 2]
    if single:
        raise PreparationError(
            f"{len(single)} people have one clip ({', '.join(single[:5])}): telling them again "
            "needs two; draw more with --num_labelled_videos"
        )
    people = sorted(clips, key=natural_key)
    parts: dict[str, list[Clip]] = {"train": [], "test": []}
    for number, subject in enumerate(people):
        for place, name in enumerate(clips[subject]):
            part = "test" if place % 2 else "train"
            parts[part] += [Clip(path=f.path, label=str(number)) for f in frames[name]]
    names = LabelNames(task="classification", class_names=tuple(people))
    write_parts(flags.output_dir / "identity", **parts, names=names, flags=flags, rename=rename)


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m preprocess.synthetic_images`."""
    parser = argparse.ArgumentParser(
        "preprocess.synthetic_images", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="default: images in --dataset_dir"
    )
    parser.add_argument("--frames_per_clip", type=int, default=4, metavar="N")
    add_split_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs.

    Raises:
        PreparationError: the data set is not complete, or not one of preprocess.synthetic.
    """
    flags = build_parser().parse_args(argv)
    if flags.frames_per_clip < 1:
        raise PreparationError(f"--frames_per_clip {flags.frames_per_clip}: give 1 or more")
    flags.output_dir = flags.output_dir or flags.dataset_dir / "images"
    find_folds(flags.dataset_dir)
    report = flags.output_dir / "problems.txt"
    frames = read_frames(flags.dataset_dir, flags.frames_per_clip, report)
    every = [Clip(path=frame.path, label="0") for some in frames.values() for frame in some]
    rename = csv_paths(every, flags)
    write_folds(frames, flags, rename)
    write_identity(frames, flags, rename)
    warn_about_validation(flags)


if __name__ == "__main__":
    run_command(main)
