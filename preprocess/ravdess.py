"""RAVDESS: speech videos named after emotion and actor -> `split0N/{train,val,test}.csv`.

Layout below `--dataset_dir` (facts of the official release), at any depth:
    MM-VC-EE-II-SS-RR-AA.mp4    modality (01 full audio-visual, 02 video only), vocal channel
                                (01 speech, 02 song), emotion 01..08, intensity, statement,
                                repetition, actor 01..24; or frame folders of that name

Used is speech with pictures: channel 01, modality 01 or 02. The two modalities of a recording
have the same pictures, so one of them is taken (01 where there is a choice): 1,440 videos, 60 of
each actor. The six folds are those of the authors of MAE-DFER and SVFAP (actors 1-4, 5-8, ...);
`--fold_seed` draws others. Crop faces first (preprocess.faces) and pass the crops, named alike.
"""

import argparse
import logging
import re
from itertools import product
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import run_command
from svfap.preprocess.shared.labelled import Clip, Found, matching, named_videos
from svfap.preprocess.shared.runner import Command

logger = logging.getLogger(__name__)

SPEC = get_spec("RAVDESS")
GROUPS = ("modality", "channel", "emotion", "intensity", "statement", "repetition", "actor")
PATTERN = re.compile("-".join(rf"(?P<{group}>\d\d)" for group in GROUPS))
FULL, AUDIO_ONLY, SPEECH = "01", "03", "01"
TWO = ("01", "02")
EMOTIONS = tuple(f"{number:02d}" for number in range(1, SPEC.num_classes + 1))
ACTORS = tuple(f"{number:02d}" for number in range(1, SPEC.counts["subjects"] + 1))
ALLOWED = dict(zip(GROUPS, ((*TWO, AUDIO_ONLY), TWO, EMOTIONS, TWO, TWO, TWO, ACTORS)))


def read(flags: argparse.Namespace) -> Found:
    """Find one video of every speech recording and what is missing or extra."""
    found = Found()
    chosen: dict[str, tuple[str, Path]] = {}
    videos = named_videos(flags.dataset_dir, found.problems)
    matches = list(matching(videos, PATTERN, "names are MM-VC-EE-II-SS-RR-AA", found, ALLOWED))
    used = [(m, path) for m, path in matches if m[2] == SPEECH and m[1] != AUDIO_ONLY]
    for match, path in used:
        trial = "-".join(match.groups()[2:])
        chosen[trial] = min(chosen.get(trial, (match[1], path)), (match[1], path))
    for trial, (_, path) in chosen.items():
        label = str(EMOTIONS.index(trial[:2]))
        found.clips.append(Clip(path=path, label=label, subject=trial[-2:]))
    for actor in ACTORS:  # neutral has no strong intensity
        trials = ["-".join((*t, actor)) for t in product(EMOTIONS, TWO, TWO, TWO) if t[:2] != TWO]
        absent = [f"*-01-{trial}" for trial in trials if trial not in chosen]
        found.missing += absent if len(absent) < len(trials) else [f"actor {actor}"]
    logger.info(
        "%d recordings are there with and without sound: one of each is used; %d songs or "
        "sound-only files not used", len(used) - len(chosen), len(matches) - len(used),
    )  # fmt: skip
    return found


COMMAND = Command(spec=SPEC, name="ravdess", description=__doc__, read=read)
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
