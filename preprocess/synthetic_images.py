"""Single frames of the synthetic faces -> CSVs for expression, valence and arousal, and identity.

    python -m svfap.preprocess.synthetic_images --dataset_dir saved/data/synthetic

reads what preprocess.synthetic has written and writes `expression/split0N/`,
`valence_arousal/split0N/`, `both/split0N/` (with the folds of the clips, nobody is in both parts)
and `identity/` (everybody is in both parts, with other clips; a class per person), each with
train.csv, val.csv, test.csv and classes.json. A line is one frame and what is drawn in it. The
frames of a clip are spread evenly over those whose expression is strong.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import PreparationError, run_command
from svfap.preprocess.shared.labelled import Clip
from svfap.preprocess.shared.writing import (
    Target,
    affect_targets,
    warn_about_validation,
    write_parts,
)
from svfap.preprocess.synthetic.lists import (
    DrawnClip,
    lists_parser,
    parse_lists,
    read_clips,
    read_folds,
    text_of,
)

FOLDER = "images"
STRONG = 0.75  # of the clip's strongest frame


def strong_frames(values: np.ndarray, count: int) -> np.ndarray:
    """Frames spread evenly over those with a strong expression.

    Args:
        values: (T, 2) valence and arousal.

    Returns:
        At most `count` distinct frames, ascending.
    """
    strength = np.hypot(*values.T)
    strong = np.flatnonzero(strength >= STRONG * strength.max())
    chosen = np.linspace(0, len(strong) - 1, min(count, len(strong)))
    return strong[np.round(chosen).astype(int)]


def frames_of(clip: DrawnClip, count: int) -> list[tuple[Path, str]]:
    """The chosen frames of a clip, each with its valence and arousal."""
    chosen = strong_frames(clip.values, count)
    return [(clip.frames[t], text_of(clip.values[t])) for t in chosen]


def write_folds(clips: Mapping[str, DrawnClip], flags: argparse.Namespace) -> None:
    """Write expression, values and both, of every fold."""
    targets = affect_targets(get_spec("synthetic").class_names)
    for fold, parts in read_folds(flags.dataset_dir).items():
        frames = {
            part: [
                Clip(path=path, label=f"{label} {affect}", subject=clips[name].subject)
                for name, label in some
                for path, affect in frames_of(clips[name], flags.frames_per_clip)
            ]
            for part, some in parts.items()
        }
        write_parts(f"split{fold:02d}", frames, targets, flags)


def write_identity(clips: Mapping[str, DrawnClip], flags: argparse.Namespace) -> None:
    """Write who is who: of each person, every other clip is for training."""
    own: dict[str, list[DrawnClip]] = defaultdict(list)
    for name in sorted(clips):
        own[clips[name].subject].append(clips[name])
    single = [subject for subject, some in own.items() if len(some) < 2]
    if single:
        raise PreparationError(
            f"{len(single)} people have one clip ({', '.join(single[:5])}): telling them again "
            "needs two; draw more with --num_labelled_videos"
        )
    people = sorted(own, key=natural_key)
    # Clips without a subject: whoever is in the validation part has to be in training, too.
    parts = {
        part: [
            Clip(path=path, label=str(number))
            for number, subject in enumerate(people)
            for clip in own[subject][first::2]
            for path, _ in frames_of(clip, flags.frames_per_clip)
        ]
        for part, first in (("train", 0), ("test", 1))
    }
    names = LabelNames(task="classification", class_names=tuple(people))
    write_parts("", parts, {"identity": Target(names)}, flags)


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.synthetic_images`."""
    parser = lists_parser("synthetic_images", __doc__, folder=FOLDER)
    parser.add_argument("--frames_per_clip", type=int, default=4, metavar="N")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs."""
    flags = parse_lists(build_parser(), argv, FOLDER)
    if flags.frames_per_clip < 1:
        raise PreparationError(f"--frames_per_clip {flags.frames_per_clip}: give 1 or more")
    clips = read_clips(flags.dataset_dir, flags.output_dir / "problems.txt")
    write_folds(clips, flags)
    write_identity(clips, flags)
    warn_about_validation(flags)


if __name__ == "__main__":
    run_command(main)
