"""Any folders of videos or frame folders -> `info_clean.csv`, a list for pre-training.

A folder that holds pictures and no videos is one video, its frames in natural order. Where they do
not look like frames of one video, each picture is an item of its own; `--pictures` decides.
Pictures beside videos are taken for thumbnails and left out, which is said.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.labels.listing import VIDEO_SUFFIXES, find_videos
from svfap.datasets.video.open_video import IMAGE_SUFFIXES
from svfap.preprocess.shared.common import PreparationError, add_pictures_flag, run_command
from svfap.preprocess.shared.probe import add_probe_flags, probe_or_list


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.videos`."""
    parser = argparse.ArgumentParser("preprocess.videos", description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="videos, at any depth")
    parser.add_argument(
        "--output_dir", type=Path, required=True, metavar="DIR", help="gets info_clean.csv"
    )
    add_probe_flags(parser)
    add_pictures_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the list of the videos found."""
    flags = build_parser().parse_args(argv)
    found = [path for folder in flags.folders for path in find_videos(folder, flags.pictures)]
    if not found:
        raise PreparationError(
            f"no videos in {', '.join(map(str, flags.folders))}; looked for "
            f"{' '.join(sorted(VIDEO_SUFFIXES))} and folders of {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    probe_or_list(found, flags)


if __name__ == "__main__":
    run_command(main)
