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

import argparse
import logging
import re
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.datasets.labels.listing import find_videos
from svfap.preprocess.shared.common import PreparationError, run_command
from svfap.preprocess.shared.labelled import Clip, Found, matching
from svfap.preprocess.shared.runner import Command

logger = logging.getLogger(__name__)

SPEC = get_spec("eNTERFACE05")
PATTERN = re.compile(
    r"subject[ _](?P<subject>\d+)/(?P<emotion>[^/]+)/sentence[ _](?P<sentence>\d+)/(?P<name>[^/]+)"
)
FORM = "paths are subject N/EMOTION/sentence M/*.avi; subject 6 is uncut"
NAME = re.compile(r"s_?\d+_(an|di|fe|ha|sa|su)_\d.*")
NUM_SUBJECTS, NUM_SENTENCES, UNCUT_SUBJECT = 44, 5, 6


def read(flags: argparse.Namespace) -> Found:
    """Find the videos and what is missing or extra."""
    found, root = Found(), flags.dataset_dir
    paths = find_videos(root)
    if not paths:
        raise PreparationError(f"no videos in {root}")
    seen: dict[tuple[int, str, int], Path] = {}
    videos = {path.relative_to(root).as_posix(): path for path in paths}
    for match, path in matching(videos, PATTERN, FORM, found, {"emotion": SPEC.class_names}):
        subject, emotion, sentence, name = match.groups()
        first = seen.setdefault((int(subject), emotion, int(sentence)), path)
        if first is not path:
            found.problems.add(f"{path}: this sentence has another video, {first.name}")
            continue
        said = NAME.fullmatch(name)
        if said and not emotion.startswith(said[1]):
            logger.warning("%s: its name says %s, its folder %s (used)", path, said[1], emotion)
        label = str(SPEC.class_names.index(emotion))
        found.clips.append(Clip(path=path, label=label, subject=subject))
    for subject in range(1, NUM_SUBJECTS + 1):
        if subject != UNCUT_SUBJECT:
            found.missing += _missing(subject, {key[1:] for key in seen if key[0] == subject})
    return found


def _missing(subject: int, seen: set[tuple[str, int]]) -> list[str]:
    """Folders of a subject without a video; all of it, and all of an emotion, as one line."""
    lines = []
    for emotion in SPEC.class_names if seen else ():
        lack = [str(n) for n in range(1, NUM_SENTENCES + 1) if (emotion, n) not in seen]
        if lack:
            which = f"/sentence {' '.join(lack)}" if len(lack) < NUM_SENTENCES else ""
            lines.append(f"subject {subject}/{emotion}{which}")
    return lines if seen else [f"subject {subject}"]


COMMAND = Command(spec=SPEC, name="enterface", description=__doc__, read=read)
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
