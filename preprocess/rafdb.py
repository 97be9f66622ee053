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
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import PreparationError, run_command
from svfap.preprocess.shared.labelled import Clip, Found, find_images, read_class_folders
from svfap.preprocess.shared.lists import read_lines
from svfap.preprocess.shared.runner import Command

SPEC = get_spec("RAF-DB")
LIST, IMAGES, ALIGNED = "EmoLabel/list_patition_label.txt", "Image/aligned", "_aligned"
NAME = re.compile(r"(train|test)_\d+\.jpg")


def read_official(listed: Path, images_dir: Path) -> Found:
    """Images of the official list."""
    found = Found()
    parts = found.splits[""] = {"train": [], "test": []}
    images = {path.name: path for path in find_images(images_dir)}
    seen: dict[str, str] = {}
    for where, name, label in read_lines(listed, "train_NNNNN.jpg label", found.problems):
        line, match = where.split()[-1], NAME.fullmatch(name)
        present = [n for n in (name.replace(".jpg", f"{ALIGNED}.jpg"), name) if n in images]
        if match is None:
            found.problems.add(f"{where}: expected `train_NNNNN.jpg label`, got {name!r}")
        elif not label.isdecimal() or not 1 <= int(label) <= SPEC.num_classes:
            found.problems.add(f"{where}: label {label!r} is not one of 1..{SPEC.num_classes}")
        elif seen.setdefault(name, line) != line:
            found.problems.add(f"{where}: {name} is already in line {seen[name]}")
        elif not present:
            found.missing.append(f"image of {name} in {images_dir}")
        else:
            path = images.pop(present[0])
            parts[match[1]].append(Clip(path=path, label=str(int(label) - 1)))
    found.extra = [f"{path} (not in {listed.name})" for path in images.values()]
    return found


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
    found.splits[""] = parts
    return found


def read(flags: argparse.Namespace) -> Found:
    """Read the official list, or the folders."""
    root = flags.dataset_dir
    if (root / LIST).is_file():
        return read_official(root / LIST, flags.images_dir or root / IMAGES)
    if (root / "train").is_dir():
        return read_folders(root)
    raise PreparationError(f"{root}: neither {LIST} nor a folder train (docs/datasets_lab.md)")


COMMAND = Command(
    spec=SPEC, name="rafdb", description=__doc__, read=read,
    add_flags=lambda parser: parser.add_argument(
        "--images_dir", type=Path, metavar="DIR", help=f"(default: {IMAGES} in --dataset_dir)"
    ),
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
