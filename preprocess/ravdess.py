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

import logging
import re
from itertools import product
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.preprocess.shared.common import run_command
from svfap.preprocess.shared.labelled import Clip, Found, named_videos
from svfap.preprocess.shared.runner import Command

logger = logging.getLogger(__name__)

SPEC = get_spec("RAVDESS")
PATTERN = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
FULL, VIDEO_ONLY, AUDIO_ONLY, SPEECH, SONG = "01", "02", "03", "01", "02"
EMOTIONS = tuple(f"{number:02d}" for number in range(1, SPEC.num_classes + 1))
ACTORS = tuple(f"{number:02d}" for number in range(1, SPEC.counts["subjects"] + 1))
TWO = ("01", "02")


def expected_trials() -> set[str]:
    """`EE-II-SS-RR-AA` of all speech recordings; neutral has no strong intensity."""
    trials = product(EMOTIONS, TWO, TWO, TWO, ACTORS)
    return {"-".join(trial) for trial in trials if trial[:2] != (EMOTIONS[0], "02")}


def read_layout(dataset_dir: Path) -> Found:
    """Find one video of every speech recording and what is missing or extra."""
    found = Found()
    chosen: dict[str, tuple[str, Path]] = {}
    twice, songs = 0, 0
    for name, path in named_videos(dataset_dir, found.problems).items():
        match = PATTERN.fullmatch(name)
        if match is None:
            found.extra.append(f"{path} (names are MM-VC-EE-II-SS-RR-AA)")
            continue
        if problem := _problem(match):
            found.problems.add(f"{path}: {problem}")
            continue
        if match[2] == SONG or match[1] == AUDIO_ONLY:
            songs += 1
            continue
        trial = "-".join(match.groups()[2:])
        twice += trial in chosen
        if trial not in chosen or match[1] < chosen[trial][0]:
            chosen[trial] = (match[1], path)
    for trial, (_, path) in chosen.items():
        label = str(EMOTIONS.index(trial[:2]))
        found.clips.append(Clip(path=path, label=label, subject=trial[-2:]))
    found.missing = _missing(set(chosen))
    if twice:
        logger.info("%d recordings are there with and without sound: one of each is used", twice)
    if songs:
        logger.info("%d songs or sound-only files not used", songs)
    return found


def _missing(present: set[str]) -> list[str]:
    """Recordings that are not there; actors without any as one line."""
    lines = []
    for actor in ACTORS:
        expected = {trial for trial in expected_trials() if trial.endswith(f"-{actor}")}
        absent = sorted(expected - present)
        whole = len(absent) == len(expected)
        lines += [f"actor {actor}"] if whole else [f"*-01-{trial}" for trial in absent]
    return lines


def _problem(match: re.Match) -> str | None:
    """What is wrong with the numbers of a file name."""
    modality, channel, emotion, intensity, statement, repetition, actor = match.groups()
    checks = (
        ("modality", modality, (FULL, VIDEO_ONLY, AUDIO_ONLY)),
        ("vocal channel", channel, (SPEECH, SONG)),
        ("emotion", emotion, EMOTIONS),
        ("intensity", intensity, TWO),
        ("statement", statement, TWO),
        ("repetition", repetition, TWO),
        ("actor", actor, ACTORS),
    )
    for what, value, allowed in checks:
        if value not in allowed:
            return f"{what} {value} is not one of {allowed[0]}..{allowed[-1]}"
    return None


COMMAND = Command(
    spec=SPEC,
    name="ravdess",
    description=__doc__,
    read=lambda flags: read_layout(flags.dataset_dir),
)
build_parser, main = COMMAND.build_parser, COMMAND.main

if __name__ == "__main__":
    run_command(main)
