"""A picture of swapped faces: is the inner face moved, the outer one kept, and no seam to be seen?

    python -m svfap.preprocess.swap_grid saved/data/faces.csv --output swapped.png

takes clips of an annotation file that have landmarks beside them (`datasets.faces.landmarks`) and
draws triples: image (its expression is kept), donor (its head is kept), result.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from svfap.datasets.faces.landmarks import landmarks_for
from svfap.datasets.faces.swap import swap_face
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.rng import generator
from svfap.datasets.video.open_video import open_video
from svfap.preprocess.shared.common import PreparationError, run_command

logger = logging.getLogger(__name__)

GAP_PX = 6
TITLE_PX = 16
TITLES = ("image", "donor", "swapped")


class Face(NamedTuple):
    """One frame of a clip with its landmarks."""

    image: np.ndarray  # (H, W, 3) uint8
    points: np.ndarray  # (68, 2) pixels


def draw_face(path: str, rng: np.random.Generator, root: str | None) -> Face | None:
    """A random frame of a clip that shows a face; None where no frame does.

    Args:
        path: video or frame folder.
        rng: chooses the frame.
        root: folder of landmark files, None: beside the frames.
    """
    landmarks = landmarks_for(path, root)
    if landmarks is None or not landmarks.has_face.any():
        return None
    with open_video(path) as video:
        landmarks.check_length(video.num_frames, path)
        frame = int(rng.choice(np.flatnonzero(landmarks.has_face)))
        return Face(video.read([frame])[0], landmarks.points[frame])


def resized(face: Face, size: int) -> Face:
    """The frame brought to a square of `size` pixels, landmarks with it."""
    height, width = face.image.shape[:2]
    scale = np.array([size / width, size / height], np.float32)
    how = cv2.INTER_AREA if min(scale) < 1 else cv2.INTER_LINEAR
    image = cv2.resize(face.image, (size, size), interpolation=how)
    return Face(image, (face.points + 0.5) * scale - 0.5)


def swap_pairs(faces: Sequence[Face]) -> tuple[list[list[np.ndarray]], float]:
    """Triples of every face and the next one; a black result where swapping fails.

    Returns:
        The triples and the mean processor time of a swap in milliseconds.
    """
    rows, seconds = [], 0.0
    for face, donor in zip(faces, [*faces[1:], faces[0]]):
        begun = time.process_time()
        result = swap_face(face.image, face.points, donor.image, donor.points)
        seconds += time.process_time() - begun
        shown = np.zeros_like(donor.image) if result is None else result
        rows.append([face.image, donor.image, shown])
    return rows, 1000 * seconds / len(rows)


def grid(triples: Sequence[Sequence[np.ndarray]], columns: int) -> np.ndarray:
    """Triples side by side, `columns` of them in a row, with a title line; RGB uint8."""
    size = triples[0][0].shape[0]
    cell = np.full((size + GAP_PX, 3 * size + 4 * GAP_PX, 3), 255, np.uint8)
    cells = []
    for triple in triples:
        cells.append(cell.copy())
        for place, image in enumerate(triple):
            left = GAP_PX + place * (size + GAP_PX // 2)
            cells[-1][:size, left : left + size] = image
    cells += [cell] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    title = np.full((TITLE_PX, rows[0].shape[1], 3), 255, np.uint8)
    for column in range(columns):
        for place, text in enumerate(TITLES):
            left = column * cell.shape[1] + GAP_PX + place * (size + GAP_PX // 2)
            where = (left, TITLE_PX - 4)
            cv2.putText(
                title, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA
            )
    return np.vstack([title, *rows])


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.swap_grid`."""
    parser = argparse.ArgumentParser("preprocess.swap_grid", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("csv", type=Path, metavar="CSV", help="annotation file of clips with landmarks")
    add("--output", type=Path, required=True, metavar="FILE.png")
    add("--data_root", metavar="DIR", help="prefix of relative paths in the CSV")
    add("--landmarks", metavar="DIR", help="root of landmark files, if not beside the frames")
    add("--num_pairs", type=int, default=12)
    add("--columns", type=int, default=2, help="pairs in a row")
    add("--size", type=int, default=112, help="side of the faces in pixels")
    add("--seed", type=int, default=0)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the picture.

    Raises:
        PreparationError: fewer than two clips with landmarks.
    """
    flags = build_parser().parse_args(argv)
    rows = read_annotations(flags.csv, task="pretrain", data_root=flags.data_root)
    order = generator(flags.seed, 0, 0, 0, "swap grid").permutation(len(rows))
    faces, without = [], 0
    for index in order.tolist():
        rng = generator(flags.seed, 0, index, 0, "swap grid")
        face = draw_face(rows.paths[index], rng, flags.landmarks)
        without += face is None
        faces += [resized(face, flags.size)] if face else []
        if len(faces) == flags.num_pairs:
            break
    if len(faces) < 2:
        raise PreparationError(
            f"{flags.csv}: {len(faces)} of {len(rows)} clips have landmarks, two are needed; "
            "`python -m svfap.preprocess.landmarks CSV` writes them, --landmarks names their folder"
        )
    triples, milliseconds = swap_pairs(faces)
    failed = sum(not triple[2].any() for triple in triples)
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(flags.output), grid(triples, flags.columns)[..., ::-1])
    logger.info(
        "%s: %d pairs, %d could not be swapped, %d clips without landmarks; %.2f ms per swap",
        flags.output, len(triples), failed, without, milliseconds,
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
