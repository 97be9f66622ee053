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
import copy
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from svfap.datasets.catalog import get_spec
from svfap.datasets.files import read_array
from svfap.preprocess.shared.affect_targets import DIMENSIONS, affect_targets
from svfap.preprocess.shared.common import PreparationError, run_command, watched
from svfap.preprocess.shared.labelled import Clip, Found, clip_name, find_images
from svfap.preprocess.shared.runner import dataset_parser, prepare, published_counts

SPEC = get_spec("AffectNet")
SETS = {"train": "train_set", "test": "val_set"}
SUFFIXES = ("_exp.npy", "_val.npy", "_aro.npy")  # expression, valence, arousal
NOT_AN_EXPRESSION = (8, 9, 10)
VALIDATION_SIZES = (3_999, 4_000)
CONTEMPT_IN_VALIDATION = 500


class Annotation(NamedTuple):
    """What AffectNet says about one image."""

    image: Path
    expression: int
    valence: float
    arousal: float


def read_number(path: Path) -> float:
    """The number in an annotation file, stored as a number or as text."""
    value = read_array(path)
    if value.size != 1:
        raise ValueError(f"{path}: {value.size} values, expected one")
    number = float(value.reshape(-1)[0])
    if not math.isfinite(number):
        raise ValueError(f"{path}: {number} is not a finite number")
    return number


def read_annotation(image: Path, folder: Path) -> Annotation:
    """Annotation of one image; errors name the file."""
    expression, *affect = (read_number(folder / f"{clip_name(image)}{s}") for s in SUFFIXES)
    if expression not in (*range(SPEC.num_classes), *NOT_AN_EXPRESSION):
        raise ValueError(
            f"{image}: expression {expression:g} is not one of 0..{NOT_AN_EXPRESSION[-1]}"
        )
    for name, value in zip(DIMENSIONS, affect):
        if not -1 <= value <= 1 and expression < SPEC.num_classes:
            raise ValueError(f"{image}: {name} {value:g} is not in [-1, 1]")
    return Annotation(image, int(expression), *affect)


def read_set(folder: Path, found: Found) -> list[Annotation]:
    """Annotations of all images of one part, in natural order."""
    annotations_dir = folder / "annotations"
    if not annotations_dir.is_dir():
        raise PreparationError(f"no such folder: {annotations_dir}")
    images, annotations = find_images(folder / "images"), []
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        tasks = [pool.submit(read_annotation, image, annotations_dir) for image in images]
        for task in watched(tasks, len(tasks), folder.name):
            try:
                annotations.append(task.result())
            except FileNotFoundError as error:
                found.missing.append(str(error.filename))
            except (ValueError, OSError) as error:
                found.problems.add(str(error))
    names = {clip_name(image) for image in images}
    for path in sorted(annotations_dir.glob(f"*{SUFFIXES[0]}")):
        name = path.name.removesuffix(SUFFIXES[0])
        if name not in names:
            found.missing.append(f"image {name} of {path}")
    return [a for a in annotations if a.expression < SPEC.num_classes]


def published(num_classes: int, found: Mapping[str, int]) -> dict[str, int]:
    """Published counts; either size of the validation part is right."""
    counts = published_counts(SPEC)
    complete = found["test"] if found["test"] in VALIDATION_SIZES else counts["test"]
    counts["test"] = complete
    if num_classes == SPEC.num_classes:
        return counts
    contempt = SPEC.class_names[-1]
    counts["train"] -= counts.pop(f"train class {contempt}")
    counts["test"] = CONTEMPT_IN_VALIDATION * (SPEC.num_classes - 1)
    return counts


def write_targets(
    annotations: dict[str, list[Annotation]], found: Found, flags: argparse.Namespace
) -> None:
    """Check and write the targets."""
    targets = affect_targets(SPEC.class_names[: flags.num_classes], SPEC.name)
    for target, (names, line) in targets.items():
        parts = {
            part: [
                Clip(
                    path=a.image,
                    label=line.format(
                        expression=a.expression, affect=f"{a.valence:.6g} {a.arousal:.6g}"
                    ),
                )
                for a in some
                if a.expression < flags.num_classes or target == "valence_arousal"
            ]
            for part, some in annotations.items()
        }
        own = copy.copy(flags)
        own.output_dir = flags.output_dir / target
        found = replace(found, clips=[], splits={"": parts})
        counts = {}
        if target == "expression":
            counts = published(flags.num_classes, {part: len(c) for part, c in parts.items()})
        prepare(SPEC, found, own, published=counts, names=names)
        found = Found()  # what is missing has been said


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--num_classes`."""
    parser.add_argument(
        "--num_classes", type=int, choices=(SPEC.num_classes - 1, SPEC.num_classes),
        default=SPEC.num_classes, help="expressions; 7 leaves out contempt",
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.affectnet`."""
    return dataset_parser(SPEC, "affectnet", __doc__, add_flags=add_flags)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs of AffectNet."""
    flags = build_parser().parse_args(argv)
    found = Found()
    annotations = {part: read_set(flags.dataset_dir / name, found) for part, name in SETS.items()}
    write_targets(annotations, found, flags)


if __name__ == "__main__":
    run_command(main)
