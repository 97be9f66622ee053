"""FER2013: a table of pixels, or folders of images -> images and `{train,val,test}.csv`.

Layout below `--dataset_dir`, as released for the Kaggle challenge:
    fer2013.csv or icml_face_data.csv    columns emotion (0..6), pixels (48 x 48 grey values 0..255
                                         in one field), Usage (Training, PublicTest, PrivateTest)
or as also passed around, one folder per class:
    train/angry ... train/neutral   test/angry ... test/neutral

28,709 Training, 3,589 PublicTest (val.csv) and 3,589 PrivateTest (test.csv) images. Pixels are
written as png below `--images_dir`, one file per row of the table. In folders, names that begin
with PublicTest_ and PrivateTest_ tell the test parts apart; where they do not, all 7,178 are both
val.csv and test.csv.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from svfap.datasets.catalog import get_spec
from svfap.datasets.files import replacing
from svfap.datasets.tables import iterate_table
from svfap.preprocess.shared.common import PreparationError, run_command, watched
from svfap.preprocess.shared.labelled import Clip, Found, read_class_folders
from svfap.preprocess.shared.runner import Command, published_counts
from svfap.preprocess.shared.writing import add_validation_flags

SPEC = get_spec("FER2013")
TABLES = ("fer2013.csv", "icml_face_data.csv")
COLUMNS = ("emotion", "pixels", "Usage")
PARTS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
SIDE_PX = 48


def decode_pixels(text: str) -> np.ndarray | str:
    """(48, 48) uint8 from a field of the table, or what is wrong with it."""
    values = text.split()
    if len(values) != SIDE_PX * SIDE_PX:
        return f"{len(values)} pixels, expected {SIDE_PX} x {SIDE_PX}"
    try:
        pixels = np.array(values, dtype=np.int64)
    except ValueError:
        return "pixels are not all whole numbers"
    if pixels.min() < 0 or pixels.max() > 255:
        return f"pixels from {pixels.min()} to {pixels.max()}, expected 0 to 255"
    return pixels.astype(np.uint8).reshape(SIDE_PX, SIDE_PX)


def read_table(path: Path, images_dir: Path) -> Found:
    """Write the images of the table and list them; images already there are kept.

    Args:
        images_dir: gets `train/00000.png`, ..., named after the row in the table.
    """
    found = Found()
    problems, parts = found.problems, {part: [] for part in PARTS.values()}
    rows = watched(iterate_table(path, COLUMNS), sum(SPEC.counts.values()), "images")
    for number, (line, row) in enumerate(rows):
        where = f"{path} line {line}"
        label, usage = row.get("emotion", ""), row.get("Usage", "")
        pixels = decode_pixels(row.get("pixels", ""))
        if None in row:
            problems.add(f"{where}: more columns than the header")
        elif not label.isdecimal() or int(label) >= SPEC.num_classes:
            problems.add(f"{where}: emotion {label!r} is not one of 0..{SPEC.num_classes - 1}")
        elif usage not in PARTS:
            problems.add(f"{where}: Usage {usage!r} is none of {', '.join(PARTS)}")
        elif isinstance(pixels, str):
            problems.add(f"{where}: {pixels}")
        else:
            image = images_dir / PARTS[usage] / f"{number:05d}.png"
            _write_image(image, pixels)
            parts[PARTS[usage]].append(Clip(path=image, label=str(int(label))))
    found.splits[""] = parts
    return found


def _write_image(path: Path, pixels: np.ndarray) -> None:
    data = cv2.imencode(".png", pixels)[1].tobytes()
    if path.is_file() and path.read_bytes() == data:
        return
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_folders(dataset_dir: Path) -> Found:
    """Images laid out as one folder per class; the names in `test` say which test part."""
    found = Found()
    labels = {name: index for index, name in enumerate(SPEC.class_names)}
    parts = {
        part: read_class_folders(dataset_dir / part, labels, found) for part in ("train", "test")
    }
    usages = [clip.path.name.split("_")[0] for clip in parts["test"]]
    if set(usages) & set(PARTS):
        for clip, usage in zip(parts["test"], usages, strict=True):
            if usage not in ("PublicTest", "PrivateTest"):
                found.problems.add(f"{clip.path}: neither PublicTest_... nor PrivateTest_...")
        tests = parts["test"]
        for part, wanted in (("val", "PublicTest"), ("test", "PrivateTest")):
            parts[part] = [clip for clip, usage in zip(tests, usages) if usage == wanted]
    found.splits[""] = parts
    return found


def published(flags: argparse.Namespace, found: Found) -> dict[str, int]:
    """Published numbers; in folders whose names do not tell them apart, both test parts are one."""
    counts = published_counts(SPEC)
    if "val" not in found.splits[""]:
        counts["test"] += counts.pop("val")
    return counts


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Where images go; the validation part of folders that do not tell their test parts apart."""
    parser.add_argument(
        "--images_dir", type=Path, metavar="DIR",
        help="where the images of the table go (default: images in --output_dir)",
    )  # fmt: skip
    add_validation_flags(parser)


def read(flags: argparse.Namespace) -> Found:
    """Read the table, writing its images, or the folders."""
    tables = [flags.dataset_dir / name for name in TABLES if (flags.dataset_dir / name).is_file()]
    if tables:
        return read_table(tables[0], flags.images_dir or flags.output_dir / "images")
    if (flags.dataset_dir / "train").is_dir():
        return read_folders(flags.dataset_dir)
    raise PreparationError(
        f"{flags.dataset_dir}: neither {' nor '.join(TABLES)} nor a folder train"
    )


COMMAND = Command(
    spec=SPEC, name="fer2013", description=__doc__, read=read, add_flags=add_flags,
    published=published,
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
