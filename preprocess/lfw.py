"""Labeled Faces in the Wild: images and lists of pairs -> `pairs.csv` for face verification.

Layout below `--dataset_dir` (the official archive, the funneled one, or scikit-learn's lfw_home):
    <name>/<name>_0001.jpg      or lfw/<name>/..., lfw_funneled/<name>/..., lfw-deepfunneled/...
    pairs.txt                   10 folds x (300 pairs of one person + 300 of two)
A line of pairs.csv: fold, image_a, image_b, same (0 or 1). `engine.verify_faces` scores them.
pairsDevTrain.txt and pairsDevTest.txt, where present, become dev_pairs.csv (folds train and test).
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.tables import read_text, write_table
from svfap.preprocess.shared.common import PreparationError, Problems, run_command, say

logger = logging.getLogger(__name__)

IMAGE_FOLDERS = ("", "lfw", "lfw_funneled", "lfw-funneled", "lfw-deepfunneled", "lfw_deepfunneled")
HEADER = ("fold", "image_a", "image_b", "same")
PUBLISHED = {"pairs.txt": (10, 300), "pairsDevTrain.txt": (1, 1100), "pairsDevTest.txt": (1, 500)}
DEVELOPMENT = {"train": "pairsDevTrain.txt", "test": "pairsDevTest.txt"}
Pair = tuple[str, str, str, int]


def find_images_dir(dataset_dir: Path) -> Path:
    """The folder with a folder of images per person."""
    for name in IMAGE_FOLDERS:
        folder = dataset_dir / name
        if next(folder.glob("*/*_0001.jpg"), None):
            return folder
    raise PreparationError(
        f"{dataset_dir}: no <name>/<name>_0001.jpg in it or in {', '.join(IMAGE_FOLDERS[1:])}"
    )


def read_pairs(
    path: Path, images_dir: Path, problems: Problems, missing: Problems, fold: str | None = None
) -> list[Pair]:
    """Pairs of one official list: (fold, image, image, same) each.

    A list begins with the number of folds (left out where it is one) and of pairs of each kind;
    "name 1 2" is a pair of one person, "name 1 other 2" of two.

    Args:
        problems: gets malformed lines and wrong counts.
        missing: gets pairs whose images are not there.
        fold: name of the only fold; None: folds are numbered from 1.
    """
    lines = read_text(path).split("\n")
    header = lines[0].split() if lines else []
    if not 1 <= len(header) <= 2 or not all(text.isdecimal() for text in header):
        problems.add(f"{path} line 1: expected '<folds> <pairs>' or '<pairs>', found {header}")
        return []
    per_kind, num_folds = int(header[-1]), int(header[0]) if len(header) == 2 else 1
    body = [(number, line.split()) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if len(body) != 2 * per_kind * num_folds:
        problems.add(f"{path}: {len(body)} pairs, its first line says {num_folds} x 2 x {per_kind}")
        return []
    pairs: list[Pair] = []
    for place, (number, fields) in enumerate(body):
        same, where = place % (2 * per_kind) < per_kind, f"{path} line {number}"
        if len(fields) != (3 if same else 4):
            expected = "name 1 2" if same else "name 1 other 2"
            problems.add(f"{where}: expected '{expected}', found {' '.join(fields)!r}")
            continue
        two = fields[:2], [fields[0], fields[2]] if same else fields[2:]
        images = [_image(images_dir, *who, where, problems, missing) for who in two]
        if None not in images:
            pairs.append((fold or str(place // (2 * per_kind) + 1), *images, int(same)))
    if (num_folds, per_kind) != PUBLISHED.get(path.name, (num_folds, per_kind)):
        logger.warning(
            "%s: %d fold(s) of 2 x %d pairs, not the published", path, num_folds, per_kind
        )
    return pairs


def _image(
    images_dir: Path, name: str, number: str, where: str, problems: Problems, missing: Problems
) -> str | None:
    if not number.isdecimal():
        problems.add(f"{where}: {number!r} is not the number of an image")
        return None
    image = images_dir / name / f"{name}_{int(number):04d}.jpg"
    if not image.is_file():
        missing.add(f"{where}: no image {image}")
        return None
    return str(image.absolute())


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.lfw`."""
    parser = argparse.ArgumentParser("preprocess.lfw", description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output_dir", type=Path, default=Path("saved/data/lfw"))
    parser.add_argument(
        "--leave_out_missing", action="store_true",
        help="leave pairs without both images out, named, instead of stopping",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write pairs.csv, and dev_pairs.csv where there are such lists."""
    flags = build_parser().parse_args(argv)
    images_dir, problems = find_images_dir(flags.dataset_dir), Problems()
    missing = Problems() if flags.leave_out_missing else problems
    places = (flags.dataset_dir, images_dir)

    def find(name: str) -> Path | None:
        return next((p / name for p in places if (p / name).is_file()), None)

    tables: dict[str, list[Pair]] = {}
    if main_list := find("pairs.txt"):
        tables["pairs.csv"] = read_pairs(main_list, images_dir, problems, missing)
    development = {fold: find(name) for fold, name in DEVELOPMENT.items()}
    if all(development.values()):
        tables["dev_pairs.csv"] = [
            pair
            for fold, path in development.items()
            for pair in read_pairs(path, images_dir, problems, missing, fold)
        ]
    if not tables:
        raise PreparationError(
            f"{flags.dataset_dir}: no pairs.txt (nor {' and '.join(DEVELOPMENT.values())}); "
            "they come with the images at the data set's site, and with scikit-learn's copy"
        )
    remedy = "get the complete images; to go on without these pairs: --leave_out_missing"
    problems.raise_if_any(
        str(flags.dataset_dir), report=flags.output_dir / "problems.txt", remedy=remedy
    )
    if flags.leave_out_missing:
        say("left out (--leave_out_missing)", missing.lines)
    for name, pairs in tables.items():
        write_table(flags.output_dir / name, HEADER, pairs)
        logger.info("wrote %s: %d pairs", flags.output_dir / name, len(pairs))


if __name__ == "__main__":
    run_command(main)
