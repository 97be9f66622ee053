"""Videos or images found with label and subject: checking them and writing the CSVs of a fold.

Used by the data sets whose labels stand in file names or tables (CREMA-D, RAVDESS, ...), by the
image data sets, and by preprocess.custom.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.catalog import DatasetSpec
from datasets.labels.classes import LabelNames, write_classes
from datasets.labels.listing import VIDEO_SUFFIXES, find_pictures, find_videos
from datasets.tables import write_table
from datasets.video.open_video import IMAGE_SUFFIXES
from preprocess.shared.common import (
    SHOWN_PROBLEMS,
    PreparationError,
    Problems,
    Progress,
    check_counts,
    frame_folder_problem,
    without_spaces,
)
from preprocess.shared.splits import Row, split_parts, write_split

logger = logging.getLogger(__name__)

LFS_START = b"version https://git-lfs"
LFS_SIZE_BYTES = 1024
SUBJECTS_FILE, GROUPS_FILE = "subjects.csv", "groups.csv"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video file, frame folder or image with what the data set says about it.

    Attributes:
        path: where it lies.
        label: as it stands in a CSV: a class number, or several numbers separated by spaces.
        subject: who is seen (or the session); None where the data set does not say.
        group: longer video that this is a part of, where scores are averaged over its parts.
    """

    path: Path
    label: str
    subject: str | None = None
    group: str | None = None


@dataclass
class Found:
    """What reading an official layout gave.

    Attributes:
        clips: the good ones, in natural order.
        problems: what stops the preparation: wrong labels, repeated clips, ...
        missing: what the layout leads one to expect and is not there.
        extra: videos or images that do not belong to the layout; they are not used.
    """

    clips: list[Clip] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


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
        first = videos.setdefault(clip_name(path), path)
        if first is not path:
            problems.add(f"{path}: the same video is also at {first}; remove one")
    if not videos:
        raise PreparationError(f"no videos or frame folders in {folder}")
    return videos


def published_counts(spec: DatasetSpec) -> dict[str, int]:
    """Published numbers of a data set without official parts, by the keys of `count_clips`."""
    counts = {"clips": spec.counts["all"]}
    if "subjects" in spec.counts:
        counts["subjects"] = spec.counts["subjects"]
    for name, number in zip(spec.class_names, spec.class_counts.get("all", ())):
        counts[f"class {name}"] = number
    return counts


def count_clips(clips: Sequence[Clip], class_names: Sequence[str] = ()) -> dict[str, int]:
    """Numbers of clips, subjects and clips per class."""
    counts = {"clips": len(clips), "subjects": len({clip.subject for clip in clips} - {None})}
    by_label = Counter(clip.label for clip in clips)
    for index, name in enumerate(class_names):
        counts[f"class {name}"] = by_label[str(index)]
    return counts


def check_found(
    found: Found,
    counts: Mapping[str, int],
    published: Mapping[str, int],
    *,
    name: str,
    flags: argparse.Namespace,
) -> list[Clip]:
    """Stop at problems, wrong counts and broken files; say what is missing or extra.

    Args:
        found: of reading the layout.
        counts: numbers in `found`, by the keys of `published`.
        published: what the authors state.
        name: data set name for messages.
        flags: of `splits.add_split_flags`, with `output_dir`.

    Returns:
        The clips to use.

    Raises:
        PreparationError: any of that.
    """
    _say("not part of the layout, not used", found.extra)
    report = flags.output_dir / "problems.txt"
    if not found.clips:
        found.problems.raise_if_any(f"{name} layout", report=report)
        raise PreparationError(f"{name}: no clip found in {flags.dataset_dir}")
    missing = [f"missing: {line}" for line in found.missing]
    found.problems.raise_if_any(f"{name} layout", report=report)
    check_counts(
        dict(counts),
        dict(published),
        allow_other=flags.allow_other_counts,
        name=name,
        details=missing,
    )
    _say("missing", found.missing)
    clips = _usable(found.clips, found.problems, leave_out=flags.leave_out_missing)
    remedy = "correct the files; to go on without the broken ones: --leave_out_missing"
    found.problems.raise_if_any(f"{name} files", report=report, remedy=remedy)
    report.unlink(missing_ok=True)
    return clips


def _say(what: str, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN_PROBLEMS]:
        logger.warning("%s: %s", what, line)
    if len(lines) > SHOWN_PROBLEMS:
        logger.warning("%s: ... and %d more", what, len(lines) - SHOWN_PROBLEMS)


def file_problem(path: Path) -> str | None:
    """Why a file or frame folder cannot be what it should be, without decoding it."""
    if path.is_dir():
        return frame_folder_problem(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"{path}: {error.strerror or 'cannot be opened'}"
    if size == 0:
        return f"{path}: the file is empty"
    if size < LFS_SIZE_BYTES:
        with path.open("rb") as file:
            if file.read(len(LFS_START)) == LFS_START:
                return f"{path}: only a pointer of git-lfs; fetch the files with `git lfs pull`"
    return None


def _usable(clips: Sequence[Clip], problems: Problems, *, leave_out: bool) -> list[Clip]:
    progress = Progress(total=len(clips), what="files checked")
    usable, broken = [], []
    for clip in clips:
        reason = file_problem(clip.path)
        progress.advance()
        if reason is None:
            usable.append(clip)
        else:
            broken.append(reason)
    progress.close()
    if leave_out:
        _say("left out (--leave_out_missing)", broken)
    else:
        problems.lines.extend(broken)
    return usable


def label_names(spec: DatasetSpec, class_names: Sequence[str] | None = None) -> LabelNames:
    """`classes.json` of a catalogued data set."""
    names = tuple(class_names or spec.class_names)
    return LabelNames(task=spec.task, class_names=names, data_set=spec.name)


def link_folder(flags: argparse.Namespace) -> Path:
    """Where links for paths with white space go: `--link_dir`, else beside the CSVs."""
    return flags.link_dir or flags.output_dir / "links"


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
        folder: of the fold.
        train: training clips; the validation part is carved from them as the flags ask.
        test: test clips.
        names: for classes.json.
        flags: with val_fraction, val_seed, link_dir, output_dir.
        val: official validation clips, if there are any.
        rename: paths as they stand in the CSVs, where already known.
    """
    rename = rename or csv_paths([*train, *(val or ()), *test], flags)
    rows = {part: _rows(clips, rename) for part, clips in (("train", train), ("test", test))}
    if val is not None:
        parts = {"train": rows["train"], "val": _rows(val, rename), "test": rows["test"]}
    else:
        known = all(clip.subject is not None for clip in train)
        subjects = [clip.subject for clip in train] if known else None
        balance = names.task == "classification"
        parts = split_parts(rows["train"], rows["test"], flags, subjects, balance=balance)
    write_split(folder, parts)
    write_classes(folder, names)
    groups = {rename[c.path]: c.group for c in [*train, *(val or ()), *test] if c.group}
    if groups:
        write_table(folder / GROUPS_FILE, ("path", "group"), groups.items())


def csv_paths(clips: Iterable[Clip], flags: argparse.Namespace) -> dict[Path, str]:
    """Path of each clip as it stands in the CSVs: absolute, links where it has white space."""
    links = link_folder(flags)
    paths = {clip.path: str(without_spaces(clip.path, links)) for clip in clips}
    linked = sum(path.startswith(f"{links.absolute()}/") for path in paths.values())
    if linked:
        logger.info("%d paths have white space: the CSVs name links in %s", linked, links)
    return paths


def _rows(clips: Sequence[Clip], rename: Mapping[Path, str]) -> list[Row]:
    return [(rename[clip.path], clip.label) for clip in clips]


def write_subjects(output_dir: Path, clips: Sequence[Clip], rename: Mapping[Path, str]) -> None:
    """Write `subjects.csv` (path, subject), which preprocess.doctor reads."""
    rows = [(rename[clip.path], clip.subject) for clip in clips if clip.subject is not None]
    if rows:
        write_table(output_dir / SUBJECTS_FILE, ("path", "subject"), rows)
