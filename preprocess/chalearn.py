"""ChaLearn First Impressions: annotation pickles and videos -> `{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release; folders differ between downloads, so
files are found by name at any depth):
    annotation_training.pkl annotation_validation.pkl annotation_test.pkl
                            trait -> video name -> score in [0, 1]; traits openness,
                            conscientiousness, extraversion, agreeableness, neuroticism (and
                            interview, not used)
    NAME.mp4                6,000, 2,000 and 2,000 videos, or frame folders called NAME

The pickles are read by preprocess.shared.safe_pickle, which runs nothing from them. The official
parts are used as they are, although they share speakers: 1,222 of the 1,484 longer videos that
validation clips were cut from are in training too (1,674 of 2,000 clips). The name starts with the
identifier of the longer video, written to subjects.csv.
"""

import argparse
import math
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.listing import visible_files
from svfap.preprocess.shared.common import PreparationError, Problems, run_command
from svfap.preprocess.shared.labelled import Clip, Found, clip_name, named_videos
from svfap.preprocess.shared.runner import Command
from svfap.preprocess.shared.safe_pickle import load_plain_pickle

SPEC = get_spec("ChaLearn")
PARTS = {"train": "training", "val": "validation", "test": "test"}
FILES = {part: f"annotation_{name}.pkl" for part, name in PARTS.items()}
UNUSED = ("interview",)

Scores = dict[str, tuple[float, ...]]
"""Scores in the order of the catalogue, by video name without ending."""


def find_annotations(dataset_dir: Path, part: str) -> Path:
    """The annotation pickle of a part, wherever it lies."""
    paths = visible_files(dataset_dir, FILES[part])
    if len(paths) != 1:
        raise PreparationError(
            f"{len(paths)} files called {FILES[part]} in {dataset_dir}, expected one"
            + "".join(f"\n  {path}" for path in paths)
        )
    return paths[0]


def read_annotation(path: Path, problems: Problems) -> Scores:
    """Scores of all videos of one pickle.

    Args:
        problems: gets a line for every video that lacks a trait or has no score in [0, 1].
    """
    content = load_plain_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise PreparationError(f"{path}: expected trait -> video name -> score")
    absent = [trait for trait in SPEC.class_names if trait not in content]
    extra = [trait for trait in content if trait not in (*SPEC.class_names, *UNUSED)]
    if absent or extra:
        raise PreparationError(
            f"{path}: traits missing: {absent}, unknown: {extra}; expected "
            f"{', '.join(SPEC.class_names)} (and {', '.join(UNUSED)})"
        )
    scores: Scores = {}
    for name in dict.fromkeys(name for trait in SPEC.class_names for name in content[trait]):
        values = tuple(content[trait].get(name) for trait in SPEC.class_names)
        wrong = [f"{t} {value!r}" for t, value in zip(SPEC.class_names, values)
                 if not _is_score(value)]  # fmt: skip
        if wrong:
            problems.add(f"{path}: {name}: no score in [0, 1]: {', '.join(wrong)}")
        else:
            scores[clip_name(Path(str(name)))] = tuple(float(value) for value in values)
    return scores


def _is_score(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= 1


def speaker(name: str) -> str:
    """Identifier of the longer video that a clip was cut from: NAME.004 -> NAME."""
    stem, _, number = name.rpartition(".")
    return stem if stem and number.isdecimal() else name


def read(flags: argparse.Namespace) -> Found:
    """Join annotations and videos."""
    found, root = Found(), flags.dataset_dir
    scores = {part: read_annotation(find_annotations(root, part), found.problems) for part in FILES}
    videos = named_videos(root, found.problems)
    parts = found.splits[""] = {part: [] for part in FILES}
    known: dict[str, str] = {}
    for part, name in ((part, name) for part, of_part in scores.items() for name in of_part):
        if known.setdefault(name, part) != part:
            found.problems.add(f"{FILES[part]}: {name} is also in {FILES[known[name]]}")
        elif name not in videos:
            found.missing.append(f"video of {name} ({FILES[part]})")
        else:
            label = " ".join(f"{value:.9g}" for value in scores[part][name])
            parts[part].append(Clip(path=videos[name], label=label, subject=speaker(name)))
    found.extra = [f"{path} (in no annotation)" for name, path in videos.items()
                   if name not in known]  # fmt: skip
    return found


COMMAND = Command(spec=SPEC, name="chalearn", description=__doc__, read=read)
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
