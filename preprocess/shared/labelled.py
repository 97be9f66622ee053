"""Videos or images found with label and subject: checking them and writing the CSVs of a fold.

Used by the data sets whose labels stand in file names or tables (CREMA-D, RAVDESS, ...), by the
image data sets, and by preprocess.custom.
"""

import argparse
import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from svfap.datasets.catalog import DatasetSpec
from svfap.datasets.labels.annotations import write_annotations
from svfap.datasets.labels.classes import LabelNames, write_classes
from svfap.datasets.labels.listing import (
    VIDEO_SUFFIXES,
    Unused,
    find_pictures,
    find_videos,
    is_of_system,
)
from svfap.datasets.labels.splits import carve_validation
from svfap.datasets.tables import as_on_disk, same_name, write_table
from svfap.datasets.video.open_video import IMAGE_SUFFIXES, natural_key
from svfap.preprocess.shared.common import (
    PreparationError,
    Problems,
    add_link_flag,
    frame_folder_problem,
    read_table,
    say,
    watched,
    without_spaces,
)

logger = logging.getLogger(__name__)

LFS_START = b"version https://git-lfs"
LFS_SIZE_BYTES = 1024
SUBJECTS_FILE, GROUPS_FILE = "subjects.csv", "groups.csv"
PATH_COLUMNS = ("path", "video_name", "clip", "name", "video")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video file, frame folder or image with what the data set says about it."""

    path: Path
    label: str  # as it stands in a CSV: a class number, or several numbers separated by spaces
    subject: str | None = None  # who is seen (or the session); None where the data set does not say
    # longer video that this is a part of, where scores are averaged over its parts
    group: str | None = None
    where: str = ""  # file and line that say so, for messages
    name: str = ""


Parts = dict[str, list[Clip]]
"""Clips of "train", "test" and, where there is an official one, "val"."""


@dataclass
class Found:
    """What reading an official layout gave.

    Attributes:
        problems: what stops the preparation: wrong labels, repeated clips, ...
        missing: what the layout leads one to expect and is not there.
        extra: videos or images that do not belong to the layout; they are not used.
        splits: official parts by folder of their CSVs ("": that of all); none where folds are made
            from the subjects. `clips` then follow from them.
    """

    clips: list[Clip] = field(default_factory=list)  # the good ones, in natural order
    problems: Problems = field(default_factory=Problems)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    splits: dict[str, Parts] = field(default_factory=dict)
    complete: bool = False  # `splits` are all folds of the data set, each clip tested in one
    subjects_apart: bool = False  # nobody may be on both sides of an official split
    frame_folders: bool = False  # clips are folders of frames, never files

    def __post_init__(self) -> None:
        every = (c for parts in self.splits.values() for some in parts.values() for c in some)
        self.clips = self.clips or list({clip.path: clip for clip in every}.values())


def clip_name(path: Path) -> str:
    """Name without the ending of a video or image; frame folders keep theirs whole."""
    if path.suffix.lower() in VIDEO_SUFFIXES or path.suffix.lower() in IMAGE_SUFFIXES:
        return path.name[: -len(path.suffix)]
    return path.name


def find_images(folder: Path) -> list[Path]:
    """Image files at any depth, in natural order (`datasets.labels.listing.find_pictures`)."""
    if not folder.is_dir():
        raise PreparationError(f"no such folder: {folder}")
    return find_pictures(folder)


def named_videos(folder: Path, problems: Problems) -> dict[str, Path]:
    """Videos and frame folders below `folder` by name; a name found twice is a problem."""
    videos: dict[str, Path] = {}
    for path in find_videos(folder):
        first = videos.setdefault(same_name(clip_name(path)), path)
        if first is not path:
            problems.add(f"{path}: the same video is also at {first}; remove one")
    if not videos:
        raise PreparationError(f"no videos or frame folders in {folder}")
    return videos


def file_problem(path: Path, unused: Unused, *, is_folder: bool = False) -> str | None:
    """Why a file or frame folder cannot be what it should be, without decoding it."""
    if is_folder or path.is_dir():
        return frame_folder_problem(path, unused)
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"{path}: {error.strerror or 'cannot be opened'}"
    if size == 0:
        return f"{path}: the file is empty"
    if not os.access(path, os.R_OK):
        return f"{path}: permission denied"
    if size < LFS_SIZE_BYTES:
        with path.open("rb") as file:
            if file.read(len(LFS_START)) == LFS_START:
                return f"{path}: only a pointer of git-lfs; fetch the files with `git lfs pull`"
    return None


def on_disk(clip: Clip) -> Clip:
    """A clip whose path is spelt as the disk has it (`datasets.tables.as_on_disk`)."""
    return dataclasses.replace(clip, path=as_on_disk(clip.path))


def usable_clips(found: Found, root: Path, *, leave_out: bool) -> list[Clip]:
    """Clips whose file or frame folder is what it should be; the others are problems, or named.

    Paths are those of `on_disk`.
    """
    unused, usable, broken = Unused(root), [], []
    for clip in watched(found.clips, len(found.clips), "files checked"):
        clip = on_disk(clip)
        reason = file_problem(clip.path, unused, is_folder=found.frame_folders)
        if reason is None:
            usable.append(clip)
        else:
            broken.append(reason)
    unused.tell()
    if leave_out:
        say("left out (--leave_out_missing)", broken)
    else:
        found.problems.lines.extend(broken)
    return usable


def label_names(spec: DatasetSpec) -> LabelNames:
    """`classes.json` of a catalogued data set."""
    return LabelNames(task=spec.task, class_names=spec.class_names, data_set=spec.name)


def link_folder(flags: argparse.Namespace) -> Path:
    """Where links for paths with white space go: `--link_dir`, else beside the CSVs."""
    return flags.link_dir or flags.output_dir / "links"


def carve(
    train: Sequence[Clip], flags: argparse.Namespace, *, balance: bool = True
) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips, as `--val_fraction` and `--val_seed` ask; by subject if known.

    Args:
        balance: labels are classes, whose shares the validation part keeps; off for regression.
    """
    known = all(clip.subject is not None for clip in train)
    chosen = carve_validation(
        [clip.label if balance else "any" for clip in train],
        flags.val_fraction,
        seed=flags.val_seed,
        subjects=[clip.subject for clip in train] if known else None,
    )
    taken = list(zip(train, chosen, strict=True))
    return [clip for clip, val in taken if not val], [clip for clip, val in taken if val]


def write_parts(
    folder: Path,
    *,
    train: Sequence[Clip],
    test: Sequence[Clip],
    names: LabelNames,
    flags: argparse.Namespace,
    val: Sequence[Clip] | None = None,
    rename: Mapping[Path, str] | None = None,
) -> None:
    """Write train.csv, val.csv, test.csv and classes.json of one fold.

    Args:
        train: training clips; the validation part is carved from them as the flags ask.
        val: official validation clips, if there are any.
        rename: paths as they stand in the CSVs, where already known.
    """
    rename = rename or csv_paths([*train, *(val or ()), *test], folder, flags)
    if val is None and flags.val_fraction:
        train, val = carve(train, flags, balance=names.kind.one_class)
    parts = {"train": train, "val": test if val is None else val, "test": test}
    for part, clips in parts.items():
        write_annotations(folder / f"{part}.csv", [(rename[c.path], c.label) for c in clips])
    counts = ", ".join(f"{part} {len(clips):,}" for part, clips in parts.items())
    logger.info("wrote %s: %s", folder, counts)
    for part in ("train", "test"):
        counts = Counter(clip.label for clip in parts[part])
        if all(label.isdecimal() for label in counts):
            by_label = sorted(counts.items(), key=lambda item: natural_key(item[0]))
            logger.info("  %s per class: %s", part, "  ".join(f"{k}: {v}" for k, v in by_label))
    write_classes(folder, names)
    groups = {rename[c.path]: c.group for clips in parts.values() for c in clips if c.group}
    if groups:
        write_table(folder / GROUPS_FILE, ("path", "group"), groups.items())


def csv_paths(clips: Iterable[Clip], folder: Path, flags: argparse.Namespace) -> dict[Path, str]:
    """Path of each clip as it stands in the CSVs of a folder, see `common.without_spaces`."""
    links = link_folder(flags)
    paths = {clip.path: str(without_spaces(clip.path, links, folder)) for clip in clips}
    linked = sum(links.name in Path(path).parts for path in paths.values())
    if linked:
        logger.info("%d paths have white space: the CSVs name links in %s", linked, links)
    return paths


def write_subjects(output_dir: Path, clips: Sequence[Clip], rename: Mapping[Path, str]) -> None:
    """Write `subjects.csv` (path, subject), which preprocess.doctor reads."""
    rows = [(rename[clip.path], clip.subject) for clip in clips if clip.subject is not None]
    if rows:
        write_table(output_dir / SUBJECTS_FILE, ("path", "subject"), rows)


def table_by_name(path: Path, column: str) -> dict[str, str]:
    """One column of a table of videos, by what names them."""
    rows = read_table(path, (column,))
    names = [name for name in PATH_COLUMNS if rows and name in rows[0][1]]
    if not names:
        raise PreparationError(f"{path}: needs a column {' or '.join(PATH_COLUMNS)}, and rows")
    table = {row[names[0]].strip(): row[column].strip() for _, row in rows}
    return table | {same_name(name): value for name, value in table.items()}


def look_up(video: str, table: Mapping[str, str]) -> str | None:
    """Entry of a video: by its path, else its name without ending, else that without zeros."""
    name = clip_name(Path(video))
    for key in (video, same_name(video), name, same_name(name), name.lstrip("0") or "0"):
        if key in table:
            return table[key]
    return None


def read_class_folders(folder: Path, labels: Mapping[str, int], found: Found) -> list[Clip]:
    """Images of one part laid out as one folder per class.

    Args:
        labels: label by name of the class folder.
        found: gets problems (folders that are no class), missing folders and extra images.
    """
    if not folder.is_dir():
        found.missing.append(f"folder {folder}")
        return []
    clips, unused = [], Unused(folder)
    for entry in sorted(folder.iterdir()):
        if is_of_system(entry.name):
            unused.add("hidden files or files of the system", entry)
        elif not entry.is_dir():
            found.extra.append(f"{entry} (beside the class folders)")
        elif entry.name not in labels:
            known = ", ".join(labels)
            found.problems.add(f"{entry}: class folder {entry.name!r} is none of {known}")
        else:
            label = str(labels[entry.name])
            clips += [Clip(path=path, label=label) for path in find_images(entry)]
    unused.tell()
    for name in labels:
        if not (folder / name).is_dir():
            found.missing.append(f"folder {folder / name}")
    return clips


def add_split_flags(parser: argparse.ArgumentParser, *, validation: bool = True) -> None:
    """Flags that all commands for labelled data sets have.

    Args:
        validation: off for data sets with an official validation part.
    """
    parser.add_argument(
        "--allow_other_counts",
        action="store_true",
        help="warn instead of stopping when the numbers of videos are not the published ones",
    )
    parser.add_argument(
        "--leave_out_missing",
        action="store_true",
        help="leave videos without frames out, named, instead of stopping",
    )
    add_link_flag(parser)
    if validation:
        add_validation_flags(parser)


def add_validation_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the validation part, for data sets without an official one."""
    parser.add_argument(
        "--val_fraction",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="carve this share of the training part off as validation part, 0..1; "
        "0: val.csv repeats test.csv, as in the released code",
    )
    parser.add_argument("--val_seed", type=int, default=0, help="seed of that choice")


def warn_about_validation(flags: argparse.Namespace) -> None:
    """Say loudly that val.csv is the test part, when it is."""
    if flags.val_fraction == 0:
        logger.warning(
            "THIS DATA SET HAS NO OFFICIAL VALIDATION PART: val.csv repeats test.csv, so 'best' "
            "weights would be chosen on the test videos. Report the last epoch, as the published "
            "numbers do (the default), or carve a validation part with --val_fraction 0.1."
        )
