"""VoxCeleb1 face frames -> `info_clean.csv`, the list for contrastive pre-training.

Layout below `--dataset_dir`, as the archives of faces unpack:
    unzippedFaces/<name>/1.6/<video>/<n>.jpg                        or
    unzippedIntervalFaces/data/<name>/1.6/<video>/<utterance>/<n>.jpg
(or <name> directly below it). A folder of frames is one video, its frames in natural order. The
frames were taken at 25/6 per second, which is recorded beside the list (frame_rate.json), as is who
is seen (subjects.csv). 1,251 people, 22,496 videos.
"""

import argparse
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svfap.datasets.labels.listing import Unused, visible_folders, walk_folders
from svfap.datasets.tables import write_table
from svfap.datasets.video.frame_rate import write_frame_rate
from svfap.datasets.video.open_video import IMAGE_SUFFIXES, natural_key
from svfap.preprocess.shared.common import PreparationError, Problems, run_command, say, watched
from svfap.preprocess.shared.labelled import SUBJECTS_FILE
from svfap.preprocess.shared.probe import add_probe_flags, listed_names, probe_or_list

logger = logging.getLogger(__name__)

ROOTS = ("unzippedFaces", "unzippedIntervalFaces/data", "unzippedIntervalFaces")
SCALE = "1.6"  # how much more than the face the crops show
FRAME_RATE = 25 / 6
NUM_PEOPLE = 1_251
THREADS = 16


@dataclass(frozen=True)
class FrameFolder:
    """One video as frames."""

    path: Path
    person: str
    num_frames: int
    irregular: bool  # the numbers in the frames' names do not rise by the same step


def find_root(dataset_dir: Path) -> Path:
    """The folder that holds one folder per person."""
    for root in (*(dataset_dir / name for name in ROOTS), dataset_dir):
        if root.is_dir() and any(root.glob(f"*/{SCALE}")):
            return root
    raise PreparationError(
        f"{dataset_dir}: no folders <name>/{SCALE} in it or in {', '.join(ROOTS)}; unpack the "
        "archives of face images of VoxCeleb1 there"
    )


def find_folders(root: Path, problems: Problems) -> list[FrameFolder]:
    """All folders of frames, people and videos in natural order."""
    people = sorted((p.parent for p in root.glob(f"*/{SCALE}")), key=lambda p: natural_key(p.name))
    unused = Unused(root)
    with ThreadPoolExecutor(THREADS) as pool:
        looked = pool.map(lambda person: _look_into(person, unused), people)
        looked = list(watched(looked, len(people), "people"))
    unused.tell()
    problems.lines += [line for _, wrong in looked for line in wrong]
    return [folder for found, _ in looked for folder in found]


def _look_into(person: Path, unused: Unused) -> tuple[list[FrameFolder], list[str]]:
    """A video is a folder of frames, or a folder of these, one per utterance; what is neither."""
    found, wrong = [], []
    frames = {f.path: f.pictures for f in walk_folders(person / SCALE, unused) if f.pictures}
    for video in visible_folders(person / SCALE):
        own, utterances = frames.pop(video, []), visible_folders(video)
        if own and utterances:
            wrong.append(f"{video}: {len(own)} frames beside {len(utterances)} folders; which?")
            continue
        for folder in utterances or [video]:
            names = frames.pop(folder, []) if utterances else own
            if not names:
                wrong.append(f"{folder}: no frames ({', '.join(IMAGE_SUFFIXES)})")
            else:
                found.append(FrameFolder(folder, person.name, len(names), is_irregular(names)))
    for path, names in frames.items():  # those that are left
        unused.add(f"folders that are not <name>/{SCALE}/<video>[/<utterance>]", path / names[0])
    return found, wrong


def is_irregular(names: Sequence[str]) -> bool:
    """Whether the last number in each name does not rise by one and the same step."""
    numbers = [re.findall(r"\d+", Path(name).stem) for name in names]
    if len(names) < 3 or not all(numbers):
        return False
    steps = np.diff([int(found[-1]) for found in numbers])
    return bool((steps != steps[0]).any())


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.voxceleb1`."""
    parser = argparse.ArgumentParser("preprocess.voxceleb1", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--dataset_dir", type=Path, required=True, metavar="DIR", help="holds unzippedFaces")
    add("--output_dir", type=Path, default=Path("saved/data/voxceleb1"))
    add("--frame_rate", type=float, default=FRAME_RATE, metavar="FPS", help="default: 25/6")
    add("--leave_out_wrong", action="store_true", help="warn about odd folders and go on")
    add_probe_flags(parser)
    return parser


def report(folders: Sequence[FrameFolder]) -> None:
    """Say what was found, and what speaks against even times."""
    people = {folder.person for folder in folders}
    lengths = [folder.num_frames for folder in folders]
    logger.info(
        "%d people (published: %d), %d folders, %d frames, median %g per folder",
        len(people), NUM_PEOPLE, len(folders), sum(lengths), np.median(lengths),
    )  # fmt: skip
    irregular = [folder for folder in folders if folder.irregular]
    if irregular:
        shown = ", ".join(str(f.path) for f in irregular[:3]) + " ..." * (len(irregular) > 3)
        logger.warning(
            "%d folders have gaps in the numbers of their frames; times in them are off: %s",
            len(irregular), shown,
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Write the list of VoxCeleb1."""
    flags = build_parser().parse_args(argv)
    if not 0 < flags.frame_rate <= 1000:
        raise PreparationError(f"--frame_rate {flags.frame_rate:g}: give frames per second")
    problems = Problems()
    folders = find_folders(find_root(flags.dataset_dir), problems)
    if flags.leave_out_wrong:
        say("left out", problems.lines)
        problems.lines.clear()
    problems.raise_if_any(
        str(flags.dataset_dir), report=flags.output_dir / "problems.txt",
        remedy="repair them, or leave them out with --leave_out_wrong",
    )  # fmt: skip
    if not folders:
        raise PreparationError(f"{flags.dataset_dir}: no folder with frames")
    report(folders)
    probe_or_list([folder.path for folder in folders], flags)
    write_frame_rate(flags.output_dir, flags.frame_rate)
    names = listed_names([folder.path for folder in folders], flags)
    pairs = [(name, folder.person) for name, folder in zip(names.values(), folders, strict=True)]
    write_table(flags.output_dir / SUBJECTS_FILE, ("path", "subject"), pairs)


if __name__ == "__main__":
    run_command(main)
