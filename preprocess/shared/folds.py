"""From official train and test lists to checked CSVs, fold by fold; used by dfew, ferv39k, mafw."""

import argparse
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.catalog import get_spec
from datasets.labels.classes import LabelNames, write_classes
from preprocess.shared.common import (
    PreparationError,
    Problems,
    check_counts,
    check_frame_folders,
    name_extra_folders,
    read_table,
    without_spaces,
)
from preprocess.shared.splits import Row, split_parts, warn_about_validation, write_split

logger = logging.getLogger(__name__)

NAME_COLUMNS = ("video_name", "id", "clip")


@dataclass(frozen=True)
class Video:
    """One line of an official list.

    Attributes:
        name: folder of its frames, relative to the frames folder.
        label: class index, 0-based.
        where: file and line, for messages.
    """

    name: str
    label: int
    where: str


Fold = dict[str, list[Video]]
"""The official parts "train" and "test" of one fold."""


def label_index(name: str, class_names: Sequence[str], where: str, problems: Problems) -> int:
    """Index of a label name; an unknown name is a problem, never guessed.

    Returns:
        0-based index, or -1 after adding a problem.
    """
    if name in class_names:
        return class_names.index(name)
    problems.add(f"{where}: label {name!r} is none of {', '.join(class_names)}")
    return -1


def check_folds(folds: Mapping[str, Fold], problems: Problems, *, complete: bool) -> None:
    """Look for repeated videos, videos on both sides of a fold, and labels that disagree.

    Args:
        folds: folds by name.
        problems: gets a line for each finding.
        complete: all folds are here, so each video must be in exactly one test part.
    """
    labels: dict[str, Video] = {}
    tested: dict[str, Video] = {}
    for parts in folds.values():
        seen: dict[str, Video] = {}
        for video in (*parts["train"], *parts["test"]):
            first = seen.setdefault(video.name, video)
            if first is not video:
                problems.add(f"{video.where}: {video.name} is already in {first.where}")
            known = labels.setdefault(video.name, video)
            if known.label != video.label:
                problems.add(
                    f"{video.where}: {video.name} has label {video.label}, "
                    f"but {known.label} in {known.where}"
                )
        for video in parts["test"]:
            other = tested.setdefault(video.name, video)
            if other.where.split(" line ")[0] != video.where.split(" line ")[0]:
                problems.add(f"{video.where}: {video.name} is also tested in {other.where}")
    if complete and len(folds) > 1:
        for name in sorted(set(labels) - set(tested)):
            problems.add(f"{labels[name].where}: {name} is in no fold's test part")


def count_videos(folds: Mapping[str, Fold]) -> dict[str, int]:
    """Numbers of videos by "<fold> train", "<fold> test" and "<fold> in all"."""
    counts = {}
    for name, parts in folds.items():
        counts |= {f"{name} {part}": len(videos) for part, videos in parts.items()}
        counts[f"{name} in all"] = sum(len(videos) for videos in parts.values())
    return counts


def read_subjects(path: Path | None, default: Path) -> dict[str, str]:
    """Subject of each video from a CSV with columns video_name (or id, or clip) and subject.

    Args:
        path: file given by the user, or None.
        default: used when `path` is None and this file exists.

    Returns:
        Subjects by video name; empty when there is no file.

    Raises:
        PreparationError: the file or a column is absent.
    """
    if path is None and not default.is_file():
        return {}
    rows = [row for _, row in read_table(path or default, ("subject",))]
    column = next((name for name in NAME_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise PreparationError(f"{path or default}: no rows, or none of columns {NAME_COLUMNS}")
    return {row[column].strip(): row["subject"].strip() for row in rows}


def check_subjects(
    folds: Mapping[str, Fold], subjects: Mapping[str, str], problems: Problems
) -> None:
    """With subjects known: everyone has one, and none is on both sides of a fold."""
    for name, parts in folds.items():
        sides = {}
        for part, videos in parts.items():
            unknown = [video for video in videos if video.name not in subjects]
            for video in unknown:
                problems.add(f"{video.where}: {video.name} has no line in the subjects file")
            sides[part] = {subjects[v.name] for v in videos if v.name in subjects}
        for subject in sorted(sides["train"] & sides["test"]):
            problems.add(f"{name}: subject {subject} is in train and in test")


def prepare_folds(
    *,
    dataset: str,
    folds: Mapping[str, Fold],
    frames_dir: Path,
    published: Mapping[str, int],
    flags: argparse.Namespace,
    problems: Problems,
    subjects: Mapping[str, str] | None = None,
    complete: bool = True,
) -> None:
    """Check everything, then write the CSVs of every fold.

    Args:
        dataset: name for messages.
        folds: official parts by fold; the fold's name is its folder below `flags.output_dir`.
        frames_dir: folder of the frame folders.
        published: counts by the keys of `count_videos`.
        flags: of `splits.add_split_flags`, with `output_dir`.
        problems: what reading the lists has found already.
        subjects: subject by video name, where known.
        complete: `folds` are all folds of the data set.

    Raises:
        PreparationError: counts differ, or labels, frames, folds or subjects have problems.
    """
    report = flags.output_dir / "problems.txt"
    remedy = "correct the official files; to go on without videos that lack frames: "
    problems.raise_if_any(f"{dataset} lists", report=report)
    check_counts(
        count_videos(folds), dict(published), allow_other=flags.allow_other_counts, name=dataset
    )
    check_folds(folds, problems, complete=complete)
    if subjects:
        check_subjects(folds, subjects, problems)
    names = sorted({v.name for parts in folds.values() for part in parts.values() for v in part})
    if not frames_dir.is_dir():
        raise PreparationError(f"no such frames folder: {frames_dir} (see --frames_dir)")
    folders = {name: frames_dir / name for name in names}
    missing = check_frame_folders(
        list(folders.values()), problems, leave_out=flags.leave_out_missing
    )
    problems.raise_if_any(dataset, report=report, remedy=remedy + "--leave_out_missing")
    report.unlink(missing_ok=True)
    _name_extra(folders.values())
    base = without_spaces(frames_dir, flags.link_dir)
    spec = get_spec(dataset)
    names = LabelNames(task=spec.task, class_names=spec.class_names, data_set=spec.name)
    for name, parts in folds.items():
        write_classes(flags.output_dir / name, names)
        kept = {p: [v for v in vs if folders[v.name] not in missing] for p, vs in parts.items()}
        rows = {part: _rows(videos, base) for part, videos in kept.items()}
        of_train = [subjects[video.name] for video in kept["train"]] if subjects else None
        write_split(
            flags.output_dir / name, split_parts(rows["train"], rows["test"], flags, of_train)
        )
    warn_about_validation(flags)


def _rows(videos: Iterable[Video], base: Path) -> list[Row]:
    return [(f"{base}/{video.name}", str(video.label)) for video in videos]


def _name_extra(folders: Iterable[Path]) -> None:
    by_parent: dict[Path, list[Path]] = {}
    for folder in folders:
        by_parent.setdefault(folder.parent, []).append(folder)
    for parent, known in sorted(by_parent.items()):
        if parent.is_dir():
            name_extra_folders(parent, known)
