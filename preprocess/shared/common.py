"""What the preparation commands share: problems told together, counts, paths, progress."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from svfap.datasets import tables
from svfap.datasets.files import write_text
from svfap.datasets.labels.listing import PICTURES, Unused, is_ours
from svfap.datasets.video.open_video import IMAGE_SUFFIXES
from svfap.terminal import as_program

logger = logging.getLogger(__name__)

SHOWN_PROBLEMS = 20
# Of libx264: with trees of macroblocks the same frames are other bytes from one time to the next.
REPEATABLE_H264 = {"preset": "veryfast", "x264-params": "mbtree=0"}


class PreparationError(ValueError):
    """Official files that are not what they should be; lists every problem found.

    Whatever reads or checks files in these rooms raises it; `run_command` tells it to the user.
    """


@dataclass
class Problems:
    """Collects what is wrong, so that one run names all of it."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Remember one problem."""
        self.lines.append(text)

    def raise_if_any(self, what: str, *, report: Path, remedy: str = "") -> None:
        """Raise a `PreparationError` with the first problems; `report` gets all of them."""
        if not self.lines:
            return
        write_text(report, "\n".join(self.lines) + "\n")
        text = [f"{what}: {len(self.lines)} problem(s)", *(f"  {x}" for x in shortened(self.lines))]
        raise PreparationError(
            "\n".join([*text, f"all of them: {report}", *[remedy] * bool(remedy)])
        )


def shortened(lines: Sequence[str]) -> list[str]:
    """The first of some lines, and how many more there are."""
    more = len(lines) - SHOWN_PROBLEMS
    return [*lines[:SHOWN_PROBLEMS], *[f"... and {more} more"] * (more > 0)]


def say(what: str, lines: Sequence[str]) -> None:
    """Warn of some lines, the first of them one by one."""
    for line in shortened(lines):
        logger.warning("%s: %s", what, line)


def check_counts(
    found: dict[str, int],
    published: dict[str, int],
    *,
    allow_other: bool,
    name: str,
    details: Sequence[str] = (),
) -> None:
    """Compare numbers of videos with the published ones.

    Args:
        found: what was counted, by part ("fold 1 train", ...).
        published: what the data set's authors state, by the same parts.
        details: what is known about the difference, for example names of missing folders.
    """
    wrong = [
        f"{part}: found {found.get(part, 0):,}, published {number:,}"
        for part, number in published.items()
        if found.get(part, 0) != number
    ]
    if not wrong:
        return
    message = f"{name}: {len(wrong)} count(s) differ from the published ones"
    if not allow_other:
        raise PreparationError(
            "\n".join([message, *(f"  {line}" for line in [*wrong, *shortened(details)])])
            + "\nget the complete official files, or pass --allow_other_counts to go on with these"
        )
    logger.warning("%s (--allow_other_counts): %s", message, "; ".join(wrong[:3]))


def add_pictures_flag(parser: argparse.ArgumentParser) -> None:
    """`--pictures`."""
    parser.add_argument(
        "--pictures", choices=PICTURES, default="auto",
        help="a folder of pictures is one video (frames), or each is an item of its own (single); "
        "auto: what they look like",
    )  # fmt: skip


def frame_folder_problem(folder: Path, unused: Unused) -> str | None:
    """Why `folder` cannot be read as a video, or None when it holds frames.

    Args:
        unused: gets what lies in it and is no frame.
    """
    if not folder.exists():
        return f"no such frame folder: {folder}"
    if not folder.is_dir():
        return f"not a folder: {folder}"
    try:
        names = os.listdir(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    frames = {name for name in names if name.lower().endswith(IMAGE_SUFFIXES)}
    for name in names:
        if name not in frames and not is_ours(name):
            unused.add(f"{Path(name).suffix.lower() or 'other'} files among frames", folder / name)
    if not frames:
        return f"no jpg, png or bmp frames in {folder}"
    return None


def without_spaces(path: Path, link_dir: Path | None, folder: Path | None = None) -> Path:
    """Path that fits into an annotation line, which may contain no white space.

    Args:
        link_dir: where to make a symbolic link when `path` has white space.
        folder: of the annotation file, from which a relative path may lead to `path`.

    Returns:
        `path` made absolute, the way to it from `folder`, or the link.
    """
    path = Path(os.path.abspath(path))
    if (fitting := fitting_path(path, folder)) is not None:
        return fitting
    if link_dir is None:
        raise PreparationError(
            f"{str(path)!r} contains white space, which annotation files cannot hold; rename it, "
            "or pass --link_dir DIR for symbolic links without"
        )
    link_dir = Path(os.path.abspath(link_dir))
    if fitting_path(link_dir, folder) is None:
        raise PreparationError(f"--link_dir {str(link_dir)!r} must itself be free of white space")
    link_dir.mkdir(parents=True, exist_ok=True)
    return fitting_path(_make_link(path, link_dir), folder)


def fitting_path(path: Path, folder: Path | None) -> Path | None:
    """An absolute path, or the way to it from a folder, without white space; None without."""
    if not re.search(r"\s", str(path)):
        return path
    relative = os.path.relpath(path, os.path.realpath(folder)) if folder else str(path)
    return None if re.search(r"\s", relative) else Path(relative)


def _make_link(path: Path, link_dir: Path) -> Path:
    """Link to `path` in `link_dir`; a number tells apart paths that get the same name."""
    stem = re.sub(r"\s+", "_", "__".join(path.parts[-3:]).lstrip("/"))
    for number in range(1000):
        name = stem if number == 0 else f"{Path(stem).stem}-{number}{Path(stem).suffix}"
        link = link_dir / name
        if not link.is_symlink() and not link.exists():
            link.symlink_to(path, target_is_directory=path.is_dir())
            return link
        if link.is_symlink() and Path(os.readlink(link)) == path:
            return link
    raise PreparationError(f"{link_dir} holds too many links called {stem}; choose another folder")


def add_link_flag(parser: argparse.ArgumentParser) -> None:
    """`--link_dir`, for paths with white space."""
    parser.add_argument(
        "--link_dir", type=Path, metavar="DIR",
        help="make symbolic links here for paths with white space, which CSVs cannot hold",
    )  # fmt: skip


def add_workers_flag(parser: argparse.ArgumentParser, most: int = 16) -> None:
    """`--num_workers`, by default the number of cores that this process may use, at most `most`."""
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    cores = min(len(allowed(0)), most)
    parser.add_argument("--num_workers", type=int, default=cores, help="processes; 0: this one")


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV with a header, each with its line number."""
    if not path.is_file():
        raise PreparationError(f"no such file: {path}")
    try:
        return tables.read_table(path, columns)
    except tables.TableError as error:
        raise PreparationError(str(error)) from error


def watched(items: Iterable, total: int, what: str, *, done: int = 0) -> tqdm:
    """The items, with a bar on a terminal and a line now and then elsewhere.

    Args:
        total: how many there are, with those that were `done` before.
        done: how many an earlier command did.
    """
    every = 0.2 if sys.stderr.isatty() else 30
    return tqdm(
        items, what, total, initial=done, unit="", mininterval=every, delay=1, dynamic_ncols=True
    )


def run_command(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run a preparation command: log to stderr, tell user errors without a traceback."""
    as_program()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        main(None)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
