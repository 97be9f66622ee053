"""What the data sets of single images share: flags, folders per class, writing."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets.catalog import DatasetSpec
from datasets.labels.classes import LabelNames
from preprocess.shared.labelled import (
    Clip,
    Found,
    check_found,
    find_images,
    label_names,
    write_parts,
)
from preprocess.shared.splits import add_split_flags, warn_about_validation

logger = logging.getLogger(__name__)


def image_parser(
    module: str, description: str, *, validation: bool = True
) -> argparse.ArgumentParser:
    """Parser of a command for an image data set with official parts.

    Args:
        module: name below preprocess, also that of the output folder.
        description: first line of the module's documentation.
        validation: the data set has no official validation part besides its test part.
    """
    parser = argparse.ArgumentParser(f"preprocess.{module}", description=description)
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output_dir", type=Path, default=Path("saved/data") / module)
    add_split_flags(parser, validation=validation)
    return parser


def read_class_folders(folder: Path, labels: Mapping[str, int], found: Found) -> list[Clip]:
    """Images of one part laid out as one folder per class.

    Args:
        folder: holds the class folders.
        labels: label by name of the class folder.
        found: gets problems (folders that are no class), missing folders and extra images.

    Returns:
        The images.
    """
    if not folder.is_dir():
        found.missing.append(f"folder {folder}")
        return []
    clips = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            found.extra.append(f"{entry} (beside the class folders)")
        elif entry.name not in labels:
            known = ", ".join(labels)
            found.problems.add(f"{entry}: class folder {entry.name!r} is none of {known}")
        else:
            label = str(labels[entry.name])
            clips += [Clip(path=path, label=label) for path in find_images(entry)]
    for name in labels:
        if not (folder / name).is_dir():
            found.missing.append(f"folder {folder / name}")
    return clips


def count_parts(parts: Mapping[str, Sequence[Clip]], spec: DatasetSpec) -> dict[str, int]:
    """Numbers of images by "train", "test", ... and "train class happy", ..."""
    counts = {part: len(clips) for part, clips in parts.items()}
    for part, clips in parts.items():
        for index, name in enumerate(spec.class_names):
            counts[f"{part} class {name}"] = sum(clip.label == str(index) for clip in clips)
    return counts


def published_parts(spec: DatasetSpec) -> dict[str, int]:
    """Published numbers of a data set with official parts, by the keys of `count_parts`."""
    counts = {part: spec.counts[part] for part in ("train", "val", "test") if part in spec.counts}
    for part, numbers in spec.class_counts.items():
        for name, number in zip(spec.class_names, numbers, strict=True):
            counts[f"{part} class {name}"] = number
    return counts


def prepare_parts(
    spec: DatasetSpec,
    found: Found,
    parts: Mapping[str, Sequence[Clip]],
    flags: argparse.Namespace,
    *,
    published: Mapping[str, int] | None = None,
    names: LabelNames | None = None,
) -> None:
    """Check everything, then write the CSVs of a data set with official parts.

    Args:
        spec: catalogue entry.
        found: problems, missing and extra things; its clips are set from `parts`.
        parts: clips of "train", "test" and, if there is an official one, "val".
        flags: of `image_parser`.
        published: counts, by default those of the catalogue.
        names: for classes.json, by default those of the catalogue.

    Raises:
        PreparationError: counts differ, or labels or files have problems.
    """
    found.clips = [clip for clips in parts.values() for clip in clips]
    if published is None:
        published = published_parts(spec)
    clips = check_found(found, count_parts(parts, spec), published, name=spec.name, flags=flags)
    usable = {clip.path for clip in clips}
    kept = {part: [clip for clip in clips if clip.path in usable] for part, clips in parts.items()}
    write_parts(flags.output_dir, **kept, names=names or label_names(spec), flags=flags)
    if "val" not in parts:
        warn_about_validation(flags)
