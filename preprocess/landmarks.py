"""Landmarks of face crops that stay as they are: every frame of an annotation file's videos.

    python -m svfap.preprocess.landmarks saved/data/voxceleb1/info_clean.csv

For data that come as face crops (VoxCeleb1, AffectNet); `preprocess.faces --landmarks` cuts new
crops. Frames without exactly one face get NaN. A file per video goes beside its frames, or with
--output_dir into a folder of their own, which training takes as --landmarks DIR. Needs the extra
`faces` (dlib).
"""

import argparse
import logging
import os
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from svfap.datasets.faces import FaceDetector, create_detector
from svfap.datasets.faces.detector import search_picture
from svfap.datasets.faces.landmarks import (
    FILE_NAME,
    NUM_POINTS,
    SUFFIX,
    LandmarkError,
    Landmarks,
    read_landmarks,
    write_landmarks,
)
from svfap.datasets.faces.search import work_picture
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.video.frame_rate import read_frame_rate
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.preprocess.shared.common import (
    PreparationError,
    add_workers_flag,
    run_command,
    say,
    watched,
)
from svfap.preprocess.shared.workers import parallel

logger = logging.getLogger(__name__)

MIN_FACE = 0.3  # smallest face, as a share of the shorter side: crops are full of one


class Done(NamedTuple):
    """What became of a video."""

    path: str
    num_frames: int
    num_faces: int  # frames with exactly one
    num_several: int
    problem: str = ""
    known: bool = False


def find_points(
    frame: np.ndarray, detector: FaceDetector, min_face: float
) -> tuple[np.ndarray | None, int]:
    """Landmarks of the only face in a frame.

    Args:
        frame: (H, W, 3) uint8.

    Returns:
        (68, 2) pixels, None where there is not exactly one face; and how many there are.
    """
    grey = work_picture(frame, 1.0)
    found = search_picture(grey, detector, min_face=min_face)
    if len(found) != 1:
        return None, len(found)
    scale = max(1.0, detector.min_side / found[0].side)  # the model was made for larger faces
    large = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    real = np.array([large.shape[1] / grey.shape[1], large.shape[0] / grey.shape[0]])
    x, y = (np.array([found[0].x, found[0].y]) + 0.5) * real - 0.5
    box = found[0]._replace(x=x, y=y, side=found[0].side * scale)
    return (detector.landmarks(large, box) + 0.5) / real - 0.5, 1


def place_of(path: str, output_dir: Path | None, above: str) -> Path:
    """Where the landmarks of a video go.

    Args:
        output_dir: a folder of their own; None: beside the frames.
    """
    video = Path(os.path.abspath(path))
    name = video.name if video.is_dir() else video.stem
    if output_dir is not None:
        return output_dir / os.path.relpath(video.parent, above) / f"{name}{SUFFIX}"
    return video / FILE_NAME if video.is_dir() else video.with_name(f"{name}{SUFFIX}")


def process(
    path: str, *, output_dir: Path | None, above: str, fps: float | None, min_face: float
) -> Done:
    """Do one video, unless its file is there; problems are an outcome, not an error."""
    target = place_of(path, output_dir, above)
    try:
        with open_video(path) as video:
            kept = _kept(target, video.num_frames)
            if kept is not None:
                return Done(path, len(kept), int(kept.has_face.sum()), 0, known=True)
            points, counts = [], []
            for block in video.blocks():
                for frame in block:
                    found, count = find_points(frame, _detector(), min_face)
                    points.append(np.full((NUM_POINTS, 2), np.nan) if found is None else found)
                    counts.append(count)
            write_landmarks(target, np.stack(points), video.fps or fps)
    except UnreadableVideoError as error:
        return Done(path, 0, 0, 0, problem=" ".join(error.reason.split()))
    except OSError as error:
        return Done(path, 0, 0, 0, problem=f"{target} cannot be written ({error.strerror})")
    counts = np.array(counts)
    return Done(path, len(counts), int((counts == 1).sum()), int((counts > 1).sum()))


def _kept(target: Path, num_frames: int) -> Landmarks | None:
    """Landmarks that are there and belong to the video, else None."""
    try:
        kept = read_landmarks(target) if target.is_file() else None
    except LandmarkError:
        return None
    return kept if kept is not None and len(kept) == num_frames else None


@lru_cache(maxsize=1)
def _detector() -> FaceDetector:
    cv2.setNumThreads(1)
    return create_detector()


def report(done: Sequence[Done]) -> None:
    """Say what was found."""
    frames, faces = sum(d.num_frames for d in done), sum(d.num_faces for d in done)
    logger.info(
        "%d videos (%d were done), %d frames: %d with one face, %d with several, %d with none",
        len(done), sum(d.known for d in done), frames, faces,
        sum(d.num_several for d in done), frames - faces - sum(d.num_several for d in done),
    )  # fmt: skip
    bad = [d for d in done if d.problem]
    say("not done", [f"{some.path}: {some.problem}" for some in bad])
    if bad:
        raise PreparationError(f"{len(bad)} of {len(done)} videos could not be done")
    if not faces:
        raise PreparationError(
            f"none of the {frames} frames shows exactly one face; smaller faces: --min_face, raw "
            "video: preprocess.faces --landmarks"
        )


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.landmarks`."""
    parser = argparse.ArgumentParser("preprocess.landmarks", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("csv", type=Path, metavar="CSV", help="annotation file of any task")
    add("--data_root", metavar="DIR", help="prefix of relative paths in the CSV")
    add("--output_dir", type=Path, metavar="DIR", help="default: beside the frames")
    add("--min_face", type=float, default=MIN_FACE, metavar="SHARE",
        help="smallest face, as a share of the frame's shorter side")  # fmt: skip
    add_workers_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the landmark files."""
    flags = build_parser().parse_args(argv)
    if not 0.01 <= flags.min_face <= 1:
        raise PreparationError(f"--min_face {flags.min_face:g}: allowed are 0.01 to 1")
    rows = read_annotations(flags.csv, task="pretrain", data_root=flags.data_root)
    _detector()  # says what is missing before any worker starts
    folders = [os.path.dirname(os.path.abspath(path)) for path in rows.paths]
    job = partial(
        process, output_dir=flags.output_dir, above=os.path.commonpath(folders),
        fps=read_frame_rate(flags.csv), min_face=flags.min_face,
    )  # fmt: skip
    outcomes = parallel(job, list(rows.paths), flags.num_workers)
    report(list(watched(outcomes, len(rows), "videos")))


if __name__ == "__main__":
    run_command(main)
