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
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.labels.listing import find_videos
from svfap.datasets.tables import read_text
from svfap.preprocess.shared.common import PreparationError, Problems, run_command
from svfap.preprocess.shared.labelled import Clip, Found, first_folder, matching
from svfap.preprocess.shared.runner import Command, published_counts
from svfap.preprocess.shared.writing import Target

logger = logging.getLogger(__name__)

SPEC = get_spec("AVCAffe")
HEADS = {
    "arousal": ("Excited", "Wide-awake", "Neutral", "Dull", "Calm"),
    "valence": ("Pleasant", "Pleased", "Neutral", "Unsatisfied", "Unpleasant"),
}
SEGMENTS = "videos/shorter_segments"
CLIP_FOLDERS = ("face_crops/shorter_segments_face", "images/shorter_segments_face", SEGMENTS)
LISTS = {"train": "info/train.txt", "test": "info/val.txt"}
PARTICIPANT = re.compile(r"aiim\d{3}")
PATTERN = re.compile(rf"(?P<who>{PARTICIPANT.pattern})/(?P<task>task_\d+)/[^/]+")


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


def read(flags: argparse.Namespace) -> Found:
    """Clips with both labels ("arousal valence") in the parts of their participants."""
    found, root, unlabelled = Found(), flags.dataset_dir, Counter()
    clips_dir = first_folder(root, flags.clips_dir, CLIP_FOLDERS, "--clips_dir")
    reports = [
        read_reports(root / "ground_truths" / f"{head}.txt", classes, found.problems)
        for head, classes in HEADS.items()
    ]
    given = {"train": flags.train_subjects, "test": flags.test_subjects}
    part_of = read_participants(root, given, found.problems)
    parts = found.splits[""] = {part: [] for part in LISTS}
    present, form = set(), "paths are aiimNNN/task_K/clip"
    videos = {path.relative_to(clips_dir).as_posix(): path for path in find_videos(clips_dir)}
    for match, path in matching(videos, PATTERN, form, found, {}):
        who, video = match["who"], "_".join(match.groups())
        if any(video not in of_head for of_head in reports):
            unlabelled[video] += 1
            continue
        label = " ".join(str(of_head[video]) for of_head in reports)
        if who in part_of:
            parts[part_of[who]].append(Clip(path=path, label=label, subject=who, group=video))
        elif who not in present:
            found.problems.add(f"participant {who} has clips and is in neither list")
        present.add(who)
    found.missing = [f"self-report of {v}: its {n} clips are not used" for v, n in
                     unlabelled.items()]  # fmt: skip
    found.missing += [f"clips of {name} ({part_of[name]} list)" for name in
                      sorted(set(part_of) - present)]  # fmt: skip
    return found


def targets(flags: argparse.Namespace) -> dict[str, Target]:
    """Both labels, a head each, and each label alone."""
    both = LabelNames(task="multihead", class_names=tuple(HEADS), heads=HEADS, data_set=SPEC.name)
    return {"both": Target(both)} | {
        head: Target(
            LabelNames(task="classification", class_names=names, data_set=SPEC.name),
            slice(index, index + 1),
        )
        for index, (head, names) in enumerate(HEADS.items())
    }


def published(flags: argparse.Namespace, found: Found) -> dict[str, int]:
    """Published numbers; that of the clips is for the whole videos' segments only."""
    counts = published_counts(SPEC)
    if first_folder(flags.dataset_dir, flags.clips_dir, CLIP_FOLDERS, "") != (
        flags.dataset_dir / SEGMENTS
    ):
        del counts["clips"]
    return counts


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about clips and participants."""
    parser.add_argument(
        "--clips_dir", type=Path, metavar="DIR",
        help=f"clips as aiimNNN/task_K/clip (default: {' or '.join(CLIP_FOLDERS)})",
    )  # fmt: skip
    for part, path in LISTS.items():
        parser.add_argument(
            f"--{part}_subjects", type=Path, metavar="FILE",
            help=f"participants of the {part} part, one per line (default: {path})",
        )  # fmt: skip


COMMAND = Command(
    spec=SPEC, name="avcaffe", description=__doc__, read=read, targets=targets,
    published=published, add_flags=add_flags,
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
