"""VoxCeleb2: `dev/mp4/*/*/*.mp4` -> `info_clean.csv`, the list for pre-training.

Every file is opened; those that cannot be decoded go to `broken.csv` with the reason.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.listing import Unused, walk_folders
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import PreparationError, check_counts, run_command
from svfap.preprocess.shared.probe import add_probe_flags, probe_or_list

logger = logging.getLogger(__name__)

SPEC = get_spec("voxceleb2")
DEPTH = 2  # folders above a clip
NUM_CLIPS, NUM_BROKEN = SPEC.counts["train"], SPEC.counts["undecodable"]


def find_clips(dataset_dir: Path) -> list[str]:
    """Clips of the development part, in natural order."""
    root, clips = dataset_dir / "dev" / "mp4", []
    unused = Unused(root)
    for folder in walk_folders(root, unused) if root.is_dir() else ():
        depth = len(folder.path.relative_to(root).parts)
        for path in folder.files(folder.videos + folder.pictures):
            if depth == DEPTH and path.suffix.lower() == ".mp4":
                clips.append(str(path))
            else:
                unused.add("files that are not <identity>/<video>/<clip>.mp4", path)
    unused.tell()
    clips.sort(key=natural_key)
    if not clips:
        raise PreparationError(
            f"no clips {root}/<identity>/<video>/<clip>.mp4; --dataset_dir must hold dev/mp4"
        )
    return clips


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.voxceleb2`."""
    parser = argparse.ArgumentParser("preprocess.voxceleb2", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--dataset_dir", type=Path, required=True, metavar="DIR", help="holds dev/mp4")
    add("--output_dir", type=Path, default=Path("saved/data/voxceleb2"))
    add("--allow_other_counts", action="store_true",
        help=f"warn instead of stopping when there are not {NUM_CLIPS:,} clips")  # fmt: skip
    add_probe_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the list of VoxCeleb2."""
    flags = build_parser().parse_args(argv)
    clips = find_clips(flags.dataset_dir)
    found, published = {"dev clips": len(clips)}, {"dev clips": NUM_CLIPS}
    check_counts(found, published, allow_other=flags.allow_other_counts, name="VoxCeleb2")
    num_broken = probe_or_list(clips, flags)
    if num_broken is not None and len(clips) == NUM_CLIPS and num_broken != NUM_BROKEN:
        logger.warning("%d clips are broken; %d are known to be", num_broken, NUM_BROKEN)


if __name__ == "__main__":
    run_command(main)
