"""Faces of raw videos and frame folders -> square face crops, one folder or file per face.

Faces are detected, followed over time and cut out with a steady box. The result can be given to
`preprocess.videos`, or named in annotation files. Needs the extra `faces` (dlib).
"""

import argparse
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

from svfap.datasets.faces import STYLES, create_detector, parse_style
from svfap.datasets.faces.crops import ALIGNMENTS, BORDERS, BOXES
from svfap.datasets.labels.listing import apart_from, list_videos
from svfap.preprocess.shared.common import (
    PreparationError,
    add_pictures_flag,
    add_workers_flag,
    run_command,
    say,
    watched,
)
from svfap.preprocess.shared.face_jobs import FORMATS, FaceSettings, Outcome, do_video
from svfap.preprocess.shared.face_journal import (
    JOURNAL,
    TABLE,
    Journal,
    is_done,
    read_journal,
    write_table,
)
from svfap.preprocess.shared.workers import parallel

logger = logging.getLogger(__name__)

FAILED = ("unreadable", "failed")
# Flags of the settings of these names: what is allowed, and what it means.
NUMBERS = {
    "size": (8, 4096, "side of the crops in pixels"),
    "smooth_seconds": (0, 60, "smoothing of the box over time; 0: none"),
    "quality": (1, 100, "of jpg, 1 to 100"),
    "every": (1, 10**6, "take every N-th frame"),
    "max_gap_seconds": (0, 3600, "a face out of sight for longer is another track"),
    "min_face": (
        0.01, 1,
        "smallest face, as a share of the frame's shorter side; smaller is slower",
    ),
}  # fmt: skip
CHOICES = {
    "align": (ALIGNMENTS, "similarity: eyes made level"),
    "box": (BOXES, "constant: one box for the whole track instead of one that follows the face"),
    "faces": (
        ("largest", "all"),
        "the most prominent face of each video, or every face in a folder face_<n>",
    ),
    "format": (FORMATS, "of the crops"),
}


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.faces`."""
    parser = argparse.ArgumentParser("preprocess.faces", description=__doc__.split("\n")[0])
    add, default = parser.add_argument, FaceSettings()
    add("inputs", type=Path, nargs="+", metavar="INPUT", help="videos, frame folders, or folders")
    add("--output_dir", type=Path, required=True, metavar="DIR", help="gets the crops")
    add("--margin", default=default.margin, metavar="STYLE|NUMBER",
        help=f"{', '.join(STYLES)}, or what is added on each side as a share of the face"
    )  # fmt: skip
    for name, (_, _, text) in NUMBERS.items():
        value = getattr(default, name)
        add(f"--{name}", type=type(value), default=value, metavar="N", help=text)
    for name, (choices, text) in CHOICES.items():
        add(f"--{name}", choices=choices, default=getattr(default, name), help=text)
    add("--border", choices=BORDERS,
        help="what shows outside the frame; inside: crops are moved into the frame (default: "
        "inside, with --align similarity black)"
    )  # fmt: skip
    add("--landmarks", action="store_true", help="write landmarks.npz beside the crops")
    add_pictures_flag(parser)
    add_workers_flag(parser)
    return parser


def read_settings(flags: argparse.Namespace) -> FaceSettings:
    """Settings of the flags, checked."""
    border = flags.border or ("inside" if flags.align == "none" else "black")
    for name, (low, high, _) in NUMBERS.items():
        if not low <= getattr(flags, name) <= high:
            raise PreparationError(f"--{name} {getattr(flags, name)}: allowed are {low} to {high}")
    if flags.format == "mp4" and flags.size % 2:
        raise PreparationError(f"--size {flags.size}: --format mp4 needs an even number")
    if flags.align != "none" and (flags.box == "constant" or border == "inside"):
        raise PreparationError(
            "--align similarity moves the crop with the eyes: it goes with --box smooth and with "
            "--border black or repeat"
        )
    parse_style(flags.margin)
    values = {**vars(flags), "border": border}
    return FaceSettings(**{field.name: values[field.name] for field in fields(FaceSettings)})


def report(outcomes: Sequence[Outcome], output_dir: Path) -> None:
    """Say what was found."""
    for status in ("no_face", "not_followed", *FAILED):
        some = [outcome for outcome in outcomes if outcome.status == status]
        say(status, [f"{o.source}: {o.note or f'no face in {o.num_frames} frames'}" for o in some])
    for outcome in outcomes:
        if outcome.status == "ok" and outcome.note:
            logger.warning("damaged, used: %s: %s", outcome.source, outcome.note)
    cropped = [outcome for outcome in outcomes if outcome.tracks]
    tracks = [track for outcome in cropped for track in outcome.tracks]
    partly = sum(track["num_frames"] < o.num_frames for o in cropped for track in o.tracks)
    logger.info(
        "%d tracks of %d videos, %d frames (%d of them interpolated); %d tracks do not cover their "
        "video; %d videos without a face, %d with faces that could not be followed: %s",
        len(tracks), len(cropped), sum(track["num_frames"] for track in tracks),
        sum(track["interpolated"] for track in tracks), partly,
        *(sum(o.status == status for o in outcomes) for status in ("no_face", "not_followed")),
        output_dir / TABLE,
    )  # fmt: skip
    bad = sum(outcome.status in FAILED for outcome in outcomes)
    if bad:
        raise PreparationError(
            f"{bad} of {len(outcomes)} videos could not be done; they are listed above and in "
            f"{output_dir / TABLE}, and the same command tries them again"
        )
    if not tracks:
        raise PreparationError(
            f"in none of the {len(outcomes)} videos a face was found and followed; see above"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Write crops, `faces.csv` and the journal."""
    flags = build_parser().parse_args(argv)
    settings = read_settings(flags)
    jobs = list_videos(flags.inputs, flags.pictures)
    apart_from(jobs, flags.inputs, flags.output_dir)
    known = read_journal(flags.output_dir, settings)
    todo = [job for job in jobs if not is_done(known.get(job.source), flags.output_dir)]
    if todo:
        create_detector()  # says what is missing before any worker starts
    if len(todo) < len(jobs):
        logger.info("%d of %d videos are done (%s)", len(jobs) - len(todo), len(jobs), JOURNAL)
    journal = Journal(flags.output_dir, settings)
    begun, frames = time.monotonic(), 0
    work = partial(do_video, settings=settings, output_dir=flags.output_dir)
    outcomes = parallel(work, todo, flags.num_workers)
    for outcome in watched(outcomes, len(jobs), "videos", done=len(jobs) - len(todo)):
        journal.add(outcome)
        known[outcome.source] = outcome
        frames += outcome.num_frames
    journal.close()
    shutil.rmtree(flags.output_dir / ".partial", ignore_errors=True)
    outcomes = [known[job.source] for job in jobs]
    write_table(flags.output_dir, outcomes)
    if todo:
        seconds = time.monotonic() - begun
        logger.info(
            "%d videos, %d frames in %.1f s: %.0f frames/s", len(todo), frames, seconds,
            frames / seconds,
        )  # fmt: skip
    report(outcomes, flags.output_dir)


if __name__ == "__main__":
    run_command(main)
