"""RAF-DB (basic, single-label): images -> `{train,val,test}.csv`.

Layout below `--dataset_dir`, the folder `basic` of the official release:
    EmoLabel/list_patition_label.txt     lines `train_00001.jpg 5`, labels 1..7
    Image/aligned/train_00001_aligned.jpg
or one folder per class (labels 1..7, or their names), as the images are also passed around:
    train/1 ... train/7   test/1 ... test/7

12,271 training and 3,068 test images; one-image videos for the readers. Labels are, from 1:
surprise fear disgust happiness sadness anger neutral.
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.tables import read_text
from svfap.preprocess.shared.common import PreparationError, run_command
from svfap.preprocess.shared.labelled import Clip, Found, Parts, find_images, read_class_folders
from svfap.preprocess.shared.runner import Command

SPEC = get_spec("RAF-DB")
LIST, IMAGES, ALIGNED = "EmoLabel/list_patition_label.txt", "Image/aligned", "_aligned"
NAME = re.compile(r"(train|test)_\d+\.jpg")


def read_official(list_path: Path, images_dir: Path) -> Found:
    """Images of the official list."""
    found = Found()
    parts: Parts = {"train": [], "test": []}
    images = {path.name: path for path in find_images(images_dir)}
    seen: dict[str, int] = {}
    for line, text in enumerate(read_text(list_path).split("\n"), start=1):
        where, fields = f"{list_path} line {line}", text.split()
        if not fields:
            continue
        match = NAME.fullmatch(fields[0])
        if len(fields) != 2 or match is None:
            found.problems.add(f"{where}: expected `train_NNNNN.jpg label`, got {text!r}")
        elif not fields[1].isdecimal() or not 1 <= int(fields[1]) <= SPEC.num_classes:
            found.problems.add(f"{where}: label {fields[1]!r} is not one of 1..{SPEC.num_classes}")
        elif fields[0] in seen:
            found.problems.add(f"{where}: {fields[0]} is already in line {seen[fields[0]]}")
        else:
            name = _image_name(fields[0], images)
            if name is None:
                found.missing.append(f"image of {fields[0]} in {images_dir}")
            else:
                label = str(int(fields[1]) - 1)
                parts[match[1]].append(Clip(path=images.pop(name), label=label))
        seen.setdefault(fields[0], line)
    found.extra = [f"{path} (not in {list_path.name})" for path in images.values()]
    return replace(found, splits={"": parts})


def _image_name(listed: str, images: dict[str, Path]) -> str | None:
    aligned = listed.replace(".jpg", f"{ALIGNED}.jpg")
    return next((name for name in (aligned, listed) if name in images), None)


def read_folders(dataset_dir: Path) -> Found:
    """Images laid out as one folder per class."""
    found = Found()
    numbers = {str(index + 1): index for index in range(SPEC.num_classes)}
    names = {name: index for index, name in enumerate(SPEC.class_names)}
    parts = {}
    for part in ("train", "test"):
        folder = dataset_dir / part
        by_name = folder.is_dir() and any((folder / name).is_dir() for name in names)
        parts[part] = read_class_folders(folder, names if by_name else numbers, found)
    return replace(found, splits={"": parts})


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--images_dir`."""
    parser.add_argument(
        "--images_dir", type=Path, metavar="DIR", help=f"(default: {IMAGES} in --dataset_dir)"
    )


def read(flags: argparse.Namespace) -> Found:
    """Read the official list, or the folders."""
    root = flags.dataset_dir
    if (root / LIST).is_file():
        return read_official(root / LIST, flags.images_dir or root / IMAGES)
    if (root / "train").is_dir():
        return read_folders(root)
    raise PreparationError(f"{root}: neither {LIST} nor a folder train (docs/datasets_lab.md)")


COMMAND = Command(spec=SPEC, name="rafdb", description=__doc__, read=read, add_flags=add_flags)
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
