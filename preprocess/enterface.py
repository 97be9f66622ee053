"""eNTERFACE05: `subject N/EMOTION/sentence M/*.avi` -> `split0N/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release):
    subject 1 ... subject 44/anger disgust fear happiness sadness surprise/sentence 1 ... 5/*.avi
                                              one video each, or a frame folder

Subject and label come from the folders. File names repeat both (`s1_an_1.avi`) but are known to
be irregular (subject 11's files are called s12, subject 3's s_3): where a name contradicts its
emotion folder, that is told and the folder believed. Subject 6 was released without sentence
folders, one uncut video per emotion: not used. With it the release has 1,293 videos of 44
subjects, without 1,287 of 43, three fewer than 43 x 30: three happiness sentences were never
released. The five folds are those of the authors of MAE-DFER and SVFAP (subjects 1-10, 11-19, ...);
`--fold_seed` draws others.
The folders have spaces, which CSVs cannot hold: the CSVs name links in `links/` beside them.
Crop faces first (preprocess.faces) and pass the crops, laid out alike; it writes `subject_1` for
`subject 1`, which is read as well.
"""

import logging
import re
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.listing import find_videos
from svfap.preprocess.shared.common import PreparationError, run_command
from svfap.preprocess.shared.labelled import Clip, Found, clip_name
from svfap.preprocess.shared.runner import Command

logger = logging.getLogger(__name__)

SPEC = get_spec("eNTERFACE05")
SUBJECT, SENTENCE = re.compile(r"subject[ _](\d+)"), re.compile(r"sentence[ _](\d+)")
NAME = re.compile(r"s_?\d+_(an|di|fe|ha|sa|su)_\d.*")
NUM_SUBJECTS, NUM_SENTENCES, UNCUT_SUBJECT = 44, 5, 6


def read_layout(dataset_dir: Path) -> Found:
    """Find the videos and what is missing or extra."""
    found = Found()
    seen: dict[tuple[int, str, int], Path] = {}
    paths = find_videos(dataset_dir)
    if not paths:
        raise PreparationError(f"no videos in {dataset_dir}")
    for path in paths:
        parts = path.relative_to(dataset_dir).parts
        subject = SUBJECT.fullmatch(parts[0])
        sentence = SENTENCE.fullmatch(parts[2]) if len(parts) == 4 else None
        if subject is None or sentence is None:
            uncut = subject is not None and int(subject[1]) == UNCUT_SUBJECT
            reason = "uncut" if uncut else "paths are subject N/EMOTION/sentence M/*.avi"
            found.extra.append(f"{path} ({reason})")
            continue
        if parts[1] not in SPEC.class_names:
            known = ", ".join(SPEC.class_names)
            found.problems.add(f"{path}: emotion folder {parts[1]!r} is none of {known}")
            continue
        key = (int(subject[1]), parts[1], int(sentence[1]))
        first = seen.setdefault(key, path)
        if first is not path:
            found.problems.add(f"{path}: this sentence has another video, {first.name}")
            continue
        _tell_odd_name(path, parts[1])
        label = str(SPEC.class_names.index(parts[1]))
        found.clips.append(Clip(path=path, label=label, subject=subject[1]))
    found.missing = _missing(set(seen))
    return found


def _tell_odd_name(path: Path, emotion: str) -> None:
    match = NAME.fullmatch(clip_name(path))
    if match and not emotion.startswith(match[1]):
        logger.warning("%s: its name says %s, its folder %s (used)", path, match[1], emotion)


def _missing(seen: set[tuple[int, str, int]]) -> list[str]:
    """Folders without a video, whole subjects and emotions as one line."""
    lines = []
    for subject in range(1, NUM_SUBJECTS + 1):
        if subject == UNCUT_SUBJECT:
            continue
        if not any(key[0] == subject for key in seen):
            lines.append(f"subject {subject}")
            continue
        for emotion in SPEC.class_names:
            have = {key[2] for key in seen if key[:2] == (subject, emotion)}
            lack = [str(n) for n in range(1, NUM_SENTENCES + 1) if n not in have]
            if not have:
                lines.append(f"subject {subject}/{emotion}")
            elif lack:
                lines.append(f"subject {subject}/{emotion}/sentence {' '.join(lack)}")
    return lines


COMMAND = Command(
    spec=SPEC, name="enterface", description=__doc__,
    read=lambda flags: read_layout(flags.dataset_dir),
)  # fmt: skip
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
