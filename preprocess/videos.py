"""Any folders of videos or frame folders -> `info_clean.csv`, a list for pre-training.

A folder that holds pictures and no videos is one video, its frames in natural order. Pictures
beside videos are taken for thumbnails and left out, which is said.
"""

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets.readers import IMAGE_SUFFIXES, natural_key
from preprocess.common import (
    PreparationError,
    add_link_flag,
    run_command,
    without_spaces,
)
from preprocess.probe import add_probe_flags, probe_or_list

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg")
    + (".mts", ".ogv", ".ts", ".webm", ".wmv")
)


def find_videos(folder: Path) -> Iterator[Path]:
    """Video files and frame folders below `folder`, itself included, in natural order.

    Raises:
        PreparationError: `folder` does not exist.
    """
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise PreparationError(f"no such folder: {folder}")
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        subfolders[:] = sorted((s for s in subfolders if not s.startswith(".")), key=natural_key)
        visible = [name for name in files if not name.startswith(".")]
        videos = [name for name in visible if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        pictures = [name for name in visible if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        if videos:
            yield from (Path(parent, name) for name in sorted(videos, key=natural_key))
            if pictures:
                logger.warning("%s: %d pictures beside videos left out", parent, len(pictures))
        elif pictures:
            yield Path(parent)


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m preprocess.videos`."""
    parser = argparse.ArgumentParser("preprocess.videos", description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="videos, at any depth")
    parser.add_argument(
        "--output_dir", type=Path, required=True, metavar="DIR", help="gets info_clean.csv"
    )
    add_probe_flags(parser)
    add_link_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the list of the videos found.

    Raises:
        PreparationError: a folder does not exist, holds no videos, or none can be read.
    """
    flags = build_parser().parse_args(argv)
    found = [path for folder in flags.folders for path in find_videos(folder)]
    if not found:
        raise PreparationError(
            f"no videos in {', '.join(map(str, flags.folders))}; looked for "
            f"{' '.join(sorted(VIDEO_SUFFIXES))} and folders of {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    paths = dict.fromkeys(str(without_spaces(path, flags.link_dir)) for path in found)
    probe_or_list(list(paths), flags)


if __name__ == "__main__":
    run_command(main)
