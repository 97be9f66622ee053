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

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.video.open_video import natural_key
from svfap.preprocess.shared.common import read_table, run_command
from svfap.preprocess.shared.labelled import Clip, Found, clip_name, named_videos
from svfap.preprocess.shared.runner import Command

SPEC = get_spec("CREMA-D")
VIDEOS, LIST = "VideoFlash", "SentenceFilenames.csv"
PATTERN = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)")
EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
FIRST_SUBJECT, CLIPS_OF_A_SUBJECT = 1001, 82


def read_layout(dataset_dir: Path) -> Found:
    """Find the clips and what is missing or extra."""
    found = Found()
    folder = dataset_dir / VIDEOS if (dataset_dir / VIDEOS).is_dir() else dataset_dir
    videos = named_videos(folder, found.problems)
    for name, path in videos.items():
        match = PATTERN.fullmatch(name)
        if match is None:
            found.extra.append(f"{path} (names are NNNN_SSS_EMO_XX)")
        elif match[3] not in EMOTIONS:
            found.problems.add(f"{path}: emotion {match[3]!r} is none of {', '.join(EMOTIONS)}")
        else:
            label = str(EMOTIONS.index(match[3]))
            found.clips.append(Clip(path=path, label=label, subject=match[1]))
    found.missing = _missing(dataset_dir, found.clips)
    return found


def _missing(dataset_dir: Path, clips: Sequence[Clip]) -> list[str]:
    """Clips of the official list that are not there; without the list, incomplete subjects."""
    present = {clip_name(clip.path) for clip in clips}
    if (dataset_dir / LIST).is_file():
        rows = read_table(dataset_dir / LIST, ("Filename",))
        listed = {(row["Filename"] or "").strip() for _, row in rows}
        return sorted(listed - present - {""}, key=natural_key)
    numbers = Counter(clip.subject for clip in clips)
    expected = range(FIRST_SUBJECT, FIRST_SUBJECT + SPEC.counts["subjects"])
    return [
        f"subject {subject}: {numbers[str(subject)]} of {CLIPS_OF_A_SUBJECT} clips"
        for subject in expected
        if numbers[str(subject)] < CLIPS_OF_A_SUBJECT
    ]


COMMAND = Command(
    spec=SPEC, name="cremad", description=__doc__, read=lambda flags: read_layout(flags.dataset_dir)
)
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
