"""The contact sheet of preprocess.doctor: examples of every class, and pairs that look alike."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from svfap.datasets.files import replacing
from svfap.datasets.rng import generator
from svfap.datasets.tables import readable
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.preprocess.doctor.data import Fold
from svfap.preprocess.doctor.pairs import Pair
from svfap.preprocess.doctor.scan import Scan

COLUMNS, MIN_COLUMNS = 10, 5
TILE_INCHES, TILE_PX = 0.95, 112
MAX_ROWS, MAX_PAIRS = 24, 8
NO_FACE, BROKEN = "#d55e00", "#999999"


@dataclass(frozen=True)
class Row:
    """One line of the sheet: its name and the videos in it."""

    title: str
    paths: list[str]


def choose_rows(fold: Fold, scans: Mapping[str, Scan]) -> list[Row]:
    """Examples of every class, drawn from the first part of the fold, the same on every run."""
    split = next((s for s in fold.splits if s.annotations is not None), None)
    if split is None:
        return []
    opened = [row for row in split.sampled if split.annotations.paths[row] in scans]
    groups = {split.name: opened}
    first = next(iter(fold.columns), None)
    labels = split.labels_of()
    if first and first.classes is not None:
        groups = {
            f"{index} {name}": [row for row in opened if labels[row] == index]
            for index, name in enumerate(first.classes)
        }
    elif first and len(labels) == len(split.annotations):
        thirds = np.array_split(np.array(sorted(opened, key=lambda row: labels[row]), int), 3)
        groups = {
            f"{first.name} {level}": some.tolist()
            for level, some in zip(("low", "middle", "high"), thirds, strict=True)
        }
    rows = []
    for title, members in list(groups.items())[:MAX_ROWS]:
        rng = generator(0, 0, 0, 0, f"contact sheet {title}")
        chosen = sorted(rng.permutation(members)[:COLUMNS].tolist())
        paths = [split.annotations.paths[row] for row in chosen]
        lines = textwrap.wrap(title, 20, max_lines=2, placeholder="\u2026")
        rows.append(Row("\n".join([*lines, f"{len(members):,}"]), paths))
    return rows


def pair_rows(pairs: Sequence[Pair]) -> list[Row]:
    """Pairs side by side."""
    return [
        Row(f"alike {number}\n{pair.distance} bits", [pair.first, pair.second])
        for number, pair in enumerate(pairs[:MAX_PAIRS], 1)
    ]


def middle_frame(path: str) -> np.ndarray | None:
    """Square, (H, W, 3) uint8 of the middle frame, bars around it if it is not square."""
    try:
        with open_video(path) as reader:
            frame = reader.read_chosen(lambda count: np.array([count // 2]))[1][0]
    except UnreadableVideoError:
        return None
    height, width = frame.shape[:2]
    scale = TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)
    canvas = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    top, left = (TILE_PX - small.shape[0]) // 2, (TILE_PX - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def draw_sheet(path: Path, title: str, rows: Sequence[Row], scans: Mapping[str, Scan]) -> None:
    """Draw the sheet as PNG.

    Args:
        scans: say where no face was found (framed) and what cannot be read (crossed out).
    """
    columns = max(MIN_COLUMNS, *(len(row.paths) for row in rows))
    width, height = columns + 1.6, len(rows) + 0.9
    figure = Figure(figsize=(width * TILE_INCHES, height * TILE_INCHES), dpi=110)
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-1.6, columns), ylim=(len(rows) + 0.3, -0.6))
    axis.axis("off")
    axis.text(-1.5, -0.45, readable(title), fontsize=9, va="center", ha="left", parse_math=False)
    axis.text(
        -1.5, -0.2, "framed in orange: no face found; crossed out: cannot be read",
        fontsize=7, va="center", color="#555555",
    )  # fmt: skip
    for line, row in enumerate(rows):
        axis.text(
            -0.1, line + 0.5, row.title, fontsize=8, va="center", ha="right", parse_math=False
        )
        for column, name in enumerate(row.paths):
            _draw_tile(axis, column, line, name, scans.get(name))
    with replacing(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:])


def _draw_tile(axis, column: int, line: int, path: str, scan: Scan | None) -> None:
    picture = middle_frame(path) if scan is None or scan.readable else None
    left, right, top, bottom = column + 0.03, column + 0.97, line + 0.03, line + 0.97
    if picture is None:
        axis.plot([left, right], [top, bottom], color=BROKEN, linewidth=1)
        axis.plot([left, right], [bottom, top], color=BROKEN, linewidth=1)
        return
    axis.imshow(picture, extent=(left, right, bottom, top), interpolation="antialiased")
    if scan is not None and scan.faces is not None and not any(scan.faces):
        axis.plot(
            [left, right, right, left, left], [top, top, bottom, bottom, top],
            color=NO_FACE, linewidth=2,
        )  # fmt: skip
