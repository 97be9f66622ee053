"""CREMA-D: clips named after subject and emotion -> `split0N/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    VideoFlash/NNNN_SSS_EMO_XX.flv    subject, sentence, emotion, level; or frame folders of that
                                      name; without VideoFlash the whole folder is searched
    SentenceFilenames.csv             optional: column Filename lists all clips

The label is the emotion that was acted (the file name), as in the papers, not the raters' votes.
The five folds are those of the authors of MAE-DFER and SVFAP (subjects 1001-1018, 1019-1036, ...);
`--fold_seed` draws others. Videos show head and shoulders: crop faces first (preprocess.faces) and
pass the crops, named alike, as `--dataset_dir`.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import read_table, run_command
from svfap.preprocess.shared.labelled import Clip, Found, clip_name, matching, named_videos
from svfap.preprocess.shared.runner import Command

SPEC = get_spec("CREMA-D")
VIDEOS, LIST = "VideoFlash", "SentenceFilenames.csv"
PATTERN = re.compile(r"(?P<subject>\d{4})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_(LO|MD|HI|XX?)")
EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
FIRST_SUBJECT, CLIPS_OF_A_SUBJECT = 1001, 82


def read(flags: argparse.Namespace) -> Found:
    """Find the clips and what is missing or extra."""
    found, root = Found(), flags.dataset_dir
    videos = named_videos(root / VIDEOS if (root / VIDEOS).is_dir() else root, found.problems)
    form, allowed = "names are NNNN_SSS_EMO_XX", {"emotion": EMOTIONS}
    found.clips = [
        Clip(path=path, label=str(EMOTIONS.index(match["emotion"])), subject=match["subject"])
        for match, path in matching(videos, PATTERN, form, found, allowed)
    ]
    found.missing = _missing(root / LIST, found.clips)
    return found


def _missing(listed: Path, clips: Sequence[Clip]) -> list[str]:
    """Clips of the official list that are not there; without the list, incomplete subjects."""
    if listed.is_file():
        names = {(row["Filename"] or "").strip() for _, row in read_table(listed, ("Filename",))}
        present = {clip_name(clip.path) for clip in clips}
        return sorted(names - present - {""}, key=natural_key)
    numbers = Counter(clip.subject for clip in clips)
    return [
        f"subject {subject}: {numbers[str(subject)]} of {CLIPS_OF_A_SUBJECT} clips"
        for subject in range(FIRST_SUBJECT, FIRST_SUBJECT + SPEC.counts["subjects"])
        if numbers[str(subject)] < CLIPS_OF_A_SUBJECT
    ]


COMMAND = Command(spec=SPEC, name="cremad", description=__doc__, read=read)
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
