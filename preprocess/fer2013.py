"""FER2013: a table of pixels, or folders of images -> images and `{train,val,test}.csv`.

Layout below `--dataset_dir`, as released for the Kaggle challenge:
    fer2013.csv or icml_face_data.csv    columns emotion (0..6), pixels (48 x 48 grey values 0..255
                                         in one field), Usage (Training, PublicTest, PrivateTest)
or as also passed around, one folder per class:
    train/angry ... train/neutral   test/angry ... test/neutral

28,709 Training, 3,589 PublicTest (val.csv) and 3,589 PrivateTest (test.csv) images. Pixels are
written as png below `--images_dir`, one file per row of the table. The folder version has no
separate validation part: its 7,178 test images are both.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.catalog import get_spec
from datasets.files import replacing
from datasets.tables import iterate_table
from preprocess.shared.common import PreparationError, Progress, run_command
from preprocess.shared.images import (
    image_parser,
    prepare_parts,
    published_parts,
    read_class_folders,
)
from preprocess.shared.labelled import Clip, Found

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


def read_table(path: Path, images_dir: Path) -> tuple[Found, dict[str, list[Clip]]]:
    """Write the images of the table and list them; images already there are kept.

    Args:
        path: the table.
        images_dir: gets `train/00000.png`, ..., named after the row in the table.
    """
    found = Found()
    parts: dict[str, list[Clip]] = {part: [] for part in PARTS.values()}
    progress = Progress(total=sum(SPEC.counts.values()), what="images")
    for number, (line, row) in enumerate(iterate_table(path, COLUMNS)):
        where = f"{path} line {line}"
        label, usage = row.get("emotion", ""), row.get("Usage", "")
        pixels = decode_pixels(row.get("pixels", ""))
        if None in row:
            found.problems.add(f"{where}: more columns than the header")
        elif not label.isdecimal() or int(label) >= SPEC.num_classes:
            found.problems.add(
                f"{where}: emotion {label!r} is not one of 0..{SPEC.num_classes - 1}"
            )
        elif usage not in PARTS:
            found.problems.add(f"{where}: Usage {usage!r} is none of {', '.join(PARTS)}")
        elif isinstance(pixels, str):
            found.problems.add(f"{where}: {pixels}")
        else:
            image = images_dir / PARTS[usage] / f"{number:05d}.png"
            _write_image(image, pixels)
            parts[PARTS[usage]].append(Clip(path=image, label=str(int(label))))
        progress.advance()
    progress.close()
    return found, parts


def _write_image(path: Path, pixels: np.ndarray) -> None:
    data = cv2.imencode(".png", pixels)[1].tobytes()
    if path.is_file() and path.read_bytes() == data:
        return
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_folders(dataset_dir: Path) -> tuple[Found, dict[str, list[Clip]]]:
    """Images laid out as one folder per class."""
    found = Found()
    labels = {name: index for index, name in enumerate(SPEC.class_names)}
    parts = {
        part: read_class_folders(dataset_dir / part, labels, found) for part in ("train", "test")
    }
    return found, parts


def folder_counts() -> dict[str, int]:
    """Published numbers of the folder version, whose test folder holds both test parts."""
    counts = published_parts(SPEC)
    return counts | {"test": counts.pop("val") + counts["test"]}


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m preprocess.fer2013`."""
    result = image_parser("fer2013", __doc__.split("\n")[0])
    result.add_argument(
        "--images_dir", type=Path, metavar="DIR",
        help="where the images of the table go (default: images in --output_dir)",
    )  # fmt: skip
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Write the images and CSVs of FER2013.

    Raises:
        PreparationError: the official files are not as published.
    """
    flags = build_parser().parse_args(argv)
    tables = [flags.dataset_dir / name for name in TABLES if (flags.dataset_dir / name).is_file()]
    if tables:
        images_dir = flags.images_dir or flags.output_dir / "images"
        found, parts = read_table(tables[0], images_dir)
        prepare_parts(SPEC, found, parts, flags)
    elif (flags.dataset_dir / "train").is_dir():
        found, parts = read_folders(flags.dataset_dir)
        prepare_parts(SPEC, found, parts, flags, published=folder_counts())
    else:
        raise PreparationError(
            f"{flags.dataset_dir}: neither {' nor '.join(TABLES)} nor a folder train"
        )


if __name__ == "__main__":
    run_command(main)
