"""AffectNet: images with .npy annotations -> `{expression,valence_arousal,both}/*.csv`.

Layout below `--dataset_dir` (facts of the release with manual labels):
    train_set/images/N.jpg     train_set/annotations/N_exp.npy N_val.npy N_aro.npy (N_lnd.npy)
    val_set/images/N.jpg       val_set/annotations/...

Expressions are 0..7: neutral happy sad surprise fear disgust anger contempt; 8 (none), 9
(uncertain) and 10 (no face) occur in larger releases, have no valence and arousal, and are not
used. Valence and arousal lie in [-1, 1]. 287,651 training images; of the 4,000 validation images
of the paper 3,999 are released. The test part was never released: as everywhere in the field the
official validation part is test.csv. Three folders are written: expression/ (a class, 8 or, without
contempt, 7), valence_arousal/ (two numbers) and both/ (the class and the numbers, for one model).
"""

import argparse
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.files import read_array
from svfap.preprocess.shared.common import PreparationError, run_command, watched
from svfap.preprocess.shared.labelled import Clip, Found, clip_name, find_images
from svfap.preprocess.shared.runner import Command, published_counts
from svfap.preprocess.shared.writing import DIMENSIONS, affect_targets

SPEC = get_spec("AffectNet")
SETS = {"train": "train_set", "test": "val_set"}
SUFFIXES = ("_exp.npy", "_val.npy", "_aro.npy")  # expression, valence, arousal
NOT_AN_EXPRESSION = (8, 9, 10)
VALIDATION_SIZES, CLASS_IN_VALIDATION = (3_999, 4_000), 500


def read_number(path: Path) -> float:
    """The number in an annotation file, stored as a number or as text."""
    value = read_array(path)
    if value.size != 1:
        raise ValueError(f"{path}: {value.size} values, expected one")
    number = float(value.reshape(-1)[0])
    if not math.isfinite(number):
        raise ValueError(f"{path}: {number} is not a finite number")
    return number


def read_image(image: Path, folder: Path) -> Clip | None:
    """An image with `expression valence arousal`; None if it shows no expression."""
    expression, *affect = (read_number(folder / f"{clip_name(image)}{s}") for s in SUFFIXES)
    if expression in NOT_AN_EXPRESSION:
        return None
    if expression not in range(SPEC.num_classes):
        raise ValueError(
            f"{image}: expression {expression:g} is not one of 0..{NOT_AN_EXPRESSION[-1]}"
        )
    for name, value in zip(DIMENSIONS, affect):
        if not -1 <= value <= 1:
            raise ValueError(f"{image}: {name} {value:g} is not in [-1, 1]")
    label = " ".join([f"{expression:g}", *(f"{value:.6g}" for value in affect)])
    return Clip(path=image, label=label)


def read_set(folder: Path, found: Found) -> list[Clip]:
    """Images of one part with their annotations, in natural order."""
    annotations_dir = folder / "annotations"
    if not annotations_dir.is_dir():
        raise PreparationError(f"no such folder: {annotations_dir}")
    images, clips = find_images(folder / "images"), []
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        tasks = [pool.submit(read_image, image, annotations_dir) for image in images]
        for task in watched(tasks, len(tasks), folder.name):
            try:
                clips += filter(None, [task.result()])
            except FileNotFoundError as error:
                found.missing.append(str(error.filename))
            except (ValueError, OSError) as error:
                found.problems.add(str(error))
    names = {clip_name(image) for image in images}
    for path in sorted(annotations_dir.glob(f"*{SUFFIXES[0]}")):
        if (name := path.name.removesuffix(SUFFIXES[0])) not in names:
            found.missing.append(f"image {name} of {path}")
    return clips


def read(flags: argparse.Namespace) -> Found:
    """Read images and annotations of both parts."""
    found = Found()
    parts = {part: read_set(flags.dataset_dir / name, found) for part, name in SETS.items()}
    found.splits[""] = parts
    return found


def published(num_classes: int, num_test: int) -> dict[str, int]:
    """Published counts; either size of the validation part is right. Without contempt by class."""
    counts = published_counts(SPEC)
    if num_test in VALIDATION_SIZES:
        counts["test"] = num_test
    if num_classes == SPEC.num_classes:
        return counts
    used = SPEC.class_names[:num_classes]
    counts |= {f"test class {name}": CLASS_IN_VALIDATION for name in used}
    return {key: number for key, number in counts.items() if key.split(" class ")[-1] in used}


COMMAND = Command(
    spec=SPEC, name="affectnet", description=__doc__, read=read,
    published=lambda flags, found: published(flags.num_classes, len(found.splits[""]["test"])),
    targets=lambda flags: affect_targets(SPEC.class_names[: flags.num_classes], SPEC.name),
    add_flags=lambda parser: parser.add_argument(
        "--num_classes", type=int, choices=(SPEC.num_classes - 1, SPEC.num_classes),
        default=SPEC.num_classes, help="expressions; 7 leaves out contempt",
    ),
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
