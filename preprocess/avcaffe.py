"""AVCAffe: 6-second clips and self-reports per task -> `{both,arousal,valence}/*.csv`.

Layout below `--dataset_dir` (facts of the official release):
    ground_truths/arousal.txt valence.txt       lines `aiim001_task_1, Excited`
    info/train.txt info/val.txt                 86 and 20 participants, one identifier per line*
    videos/shorter_segments/aiimNNN/task_K/*.avi           58,112 clips of about 6 s, or
    face_crops/shorter_segments_face/aiimNNN/task_K/...    face crops: frame folders of that name
(* assumed; white space and commas separate.) Classes are numbered as in the official loader:
Excited Wide-awake Neutral Dull Calm, and Pleasant Pleased Neutral Unsatisfied Unpleasant.

A self-report is about a whole task, so every clip of a task video has its label, and scores are
averaged over them: groups.csv names the task video of each clip. Three folders are written:
both/ (two labels per line, one head each), arousal/ and valence/ (one label per line). The
participants of the two parts come from the official lists, or from files given by flags; there is
no other source: without them nothing is split.
"""

import argparse
import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.labels.listing import find_videos
from svfap.datasets.tables import read_text
from svfap.preprocess.shared.common import PreparationError, Problems, run_command
from svfap.preprocess.shared.labelled import (
    Clip,
    Found,
    carve,
    csv_paths,
    warn_about_validation,
    write_parts,
    write_subjects,
)
from svfap.preprocess.shared.runner import check_found, dataset_parser

logger = logging.getLogger(__name__)

SPEC = get_spec("AVCAffe")
HEADS = {
    "arousal": ("Excited", "Wide-awake", "Neutral", "Dull", "Calm"),
    "valence": ("Pleasant", "Pleased", "Neutral", "Unsatisfied", "Unpleasant"),
}
SEGMENTS = "videos/shorter_segments"
CLIP_FOLDERS = ("face_crops/shorter_segments_face", "images/shorter_segments_face", SEGMENTS)
LISTS = {"train": "info/train.txt", "test": "info/val.txt"}
PARTICIPANT, TASK = re.compile(r"aiim\d{3}"), re.compile(r"task_\d+")


def read_reports(path: Path, classes: Sequence[str], problems: Problems) -> dict[str, int]:
    """Class of each task video (`aiim001_task_1`) from one file of self-reports."""
    if not path.is_file():
        raise PreparationError(f"no such file: {path}")
    reports: dict[str, int] = {}
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        where = f"{path} line {line}"
        fields = [field.strip() for field in text.split(",")]
        if len(fields) == 1:
            if text.strip():
                logger.warning("%s: no comma, not used: %r", where, text)
        elif len(fields) != 2:
            problems.add(f"{where}: expected `aiimNNN_task_K, class`, got {text!r}")
        elif fields[1] not in classes:
            problems.add(f"{where}: label {fields[1]!r} is none of {', '.join(classes)}")
        elif reports.setdefault(fields[0], classes.index(fields[1])) != classes.index(fields[1]):
            problems.add(f"{where}: {fields[0]} has another label further up")
    return reports


def read_participants(
    dataset_dir: Path, given: Mapping[str, Path | None], problems: Problems
) -> dict[str, str]:
    """Part ("train" or "test") of each participant."""
    parts: dict[str, str] = {}
    for part, official in LISTS.items():
        path = given[part] or dataset_dir / official
        if not path.is_file():
            raise PreparationError(
                f"no list of {part} participants: {path}; it is part of the release, or pass "
                f"--{part}_subjects FILE with one identifier (aiimNNN) per line"
            )
        for name in re.split(r"[\s,]+", read_text(path).strip()):
            if not PARTICIPANT.fullmatch(name):
                problems.add(f"{path}: {name!r} is not a participant (aiimNNN)")
            elif parts.setdefault(name, part) != part:
                problems.add(f"participant {name} is in the {parts[name]} and in the {part} list")
    return parts


def clips_folder(dataset_dir: Path, given: Path | None) -> Path:
    """Folder of the clips: `given`, or the first usual one that exists (face crops first)."""
    candidates = [given] if given else [dataset_dir / name for name in CLIP_FOLDERS]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise PreparationError(
        f"no clips: looked for {', '.join(map(str, candidates))}; pass --clips_dir"
    )


def read_layout(
    dataset_dir: Path, clips_dir: Path, given: Mapping[str, Path | None]
) -> tuple[Found, dict[str, str]]:
    """Clips with both labels ("arousal valence"), and the part of each participant."""
    found = Found()
    folder = dataset_dir / "ground_truths"
    reports = {
        head: read_reports(folder / f"{head}.txt", classes, found.problems)
        for head, classes in HEADS.items()
    }
    parts = read_participants(dataset_dir, given, found.problems)
    unlabelled: dict[str, int] = {}
    for path in find_videos(clips_dir):
        names = path.relative_to(clips_dir).parts
        if len(names) != 3 or not PARTICIPANT.fullmatch(names[0]) or not TASK.fullmatch(names[1]):
            found.extra.append(f"{path} (paths are aiimNNN/task_K/clip)")
            continue
        video = f"{names[0]}_{names[1]}"
        if any(video not in of_head for of_head in reports.values()):
            unlabelled[video] = unlabelled.get(video, 0) + 1
            continue
        label = " ".join(str(of_head[video]) for of_head in reports.values())
        found.clips.append(Clip(path=path, label=label, subject=names[0], group=video))
    found.missing = [f"self-report of {v}: its {n} clips are not used" for v, n in
                     unlabelled.items()]  # fmt: skip
    _check_participants(found, parts)
    return found, parts


def _check_participants(found: Found, parts: Mapping[str, str]) -> None:
    present = {clip.subject for clip in found.clips}
    for name in sorted(present - set(parts)):
        found.problems.add(f"participant {name} has clips and is in neither list")
    found.missing += [f"clips of {name} ({parts[name]} list)" for name in
                      sorted(set(parts) - present)]  # fmt: skip
    videos = {clip.group for clip in found.clips}
    logger.info("%d clips of %d task videos", len(found.clips), len(videos))


def write_targets(
    clips: Sequence[Clip], parts: Mapping[str, str], flags: argparse.Namespace
) -> None:
    """Write both/, arousal/ and valence/ with the same clips in the same parts."""
    train = [clip for clip in clips if parts[clip.subject] == "train"]
    test = [clip for clip in clips if parts[clip.subject] == "test"]
    train, val = carve(train, flags) if flags.val_fraction else (train, None)
    rename = csv_paths(clips, flags.output_dir / "both", flags)
    both = LabelNames(task="multihead", class_names=tuple(HEADS), heads=HEADS, data_set=SPEC.name)
    folders = {"both": (None, both)} | {
        head: (index, LabelNames(task="classification", class_names=names, data_set=SPEC.name))
        for index, (head, names) in enumerate(HEADS.items())
    }
    for folder, (index, names) in folders.items():
        write_parts(
            flags.output_dir / folder,
            train=_one_label(train, index),
            val=None if val is None else _one_label(val, index),
            test=_one_label(test, index),
            names=names,
            flags=flags,
            rename=rename,
        )
    write_subjects(flags.output_dir, clips, rename)
    warn_about_validation(flags)


def _one_label(clips: Iterable[Clip], index: int | None) -> list[Clip]:
    if index is None:
        return list(clips)
    return [dataclasses.replace(clip, label=clip.label.split()[index]) for clip in clips]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about clips and participants."""
    parser.add_argument(
        "--clips_dir", type=Path, metavar="DIR",
        help=f"clips as aiimNNN/task_K/clip (default: {' or '.join(CLIP_FOLDERS)})",
    )  # fmt: skip
    for part, official in LISTS.items():
        parser.add_argument(
            f"--{part}_subjects", type=Path, metavar="FILE",
            help=f"{part} participants, one per line (default: {official})",
        )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.avcaffe`."""
    return dataset_parser(SPEC, "avcaffe", __doc__, add_flags=add_flags)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSVs of AVCAffe."""
    flags = build_parser().parse_args(argv)
    clips_dir = clips_folder(flags.dataset_dir, flags.clips_dir)
    given = {"train": flags.train_subjects, "test": flags.test_subjects}
    found, parts = read_layout(flags.dataset_dir, clips_dir, given)
    present = {clip.subject for clip in found.clips}
    counts = {
        f"{part} participants": sum(parts.get(name) == part for name in present) for part in LISTS
    }
    published = {f"{part} participants": SPEC.counts[f"{part}_subjects"] for part in LISTS}
    if clips_dir == flags.dataset_dir / SEGMENTS:
        published["clips"] = SPEC.counts["all"]
    clips = check_found(found, counts, published, name=SPEC.name, flags=flags)
    write_targets(clips, parts, flags)


if __name__ == "__main__":
    run_command(main)
