"""What the synthetic data set consists of: its settings, and who shows what in which clip."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svfap.datasets.rng import generator
from svfap.preprocess.synthetic.identity import draw_identity, draw_scene
from svfap.preprocess.synthetic.motion import EMOTIONS, LEVELS, draw_motion
from svfap.preprocess.synthetic.render import FACE_CROP, ClipRenderer, Framing

VERSION = 2  # raised whenever the same settings give other pictures
SCENES = ("clip", "subject")
FIRST_PRETRAIN_SUBJECT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides what is drawn.

    Raises:
        ValueError: a setting is out of range.
    """

    num_pretrain_videos: int = 400  # unlabelled mp4 clips
    num_pretrain_identities: int = 100  # people in them
    num_labelled_videos: int = 420  # labelled frame folders
    num_identities: int = 60  # people in them
    num_folds: int = 5  # subject-independent folds over the labelled clips
    size: int = 224  # side of the frames in pixels, even
    min_frames: int = 24  # shortest clip
    max_frames: int = 64  # longest clip
    # "clip": clothes, background, light and camera are drawn for each labelled clip, as in films;
    # "subject": for each person, as in recordings made in one session
    scenes: str = "clip"
    # "easy": expressions in full, little pose, light, noise and speech; "hard": all of them as they
    # come
    level: str = "hard"
    seed: int = 0  # 0 or more
    version: int = VERSION

    def __post_init__(self):
        def check(fine: bool, name: str, allowed: str) -> None:
            if not fine:
                raise ValueError(f"--{name} is {getattr(self, name)}; allowed: {allowed}")

        check(self.num_pretrain_videos >= 0, "num_pretrain_videos", "0 or more")
        check(self.num_labelled_videos >= 0, "num_labelled_videos", "0 or more")
        check(self.num_pretrain_identities >= 1, "num_pretrain_identities", "1 or more")
        check(self.num_folds >= 2, "num_folds", "2 or more")
        check(self.num_identities >= self.num_folds, "num_identities", "at least one per fold")
        check(self.size >= 32 and self.size % 2 == 0, "size", "even numbers from 32")
        check(self.min_frames >= 8, "min_frames", "8 or more")
        check(self.max_frames >= self.min_frames, "max_frames", "--min_frames or more")
        check(self.scenes in SCENES, "scenes", ", ".join(SCENES))
        check(self.level in LEVELS, "level", ", ".join(LEVELS))
        check(self.seed >= 0, "seed", "0 or more")


def labelled_clip(settings: Settings, index: int) -> tuple[int, str]:
    """Subject and emotion of a labelled clip (0-based index).

    Every subject goes through all seven emotions in an own random order before any comes again,
    so that identity says nothing about the class and classes are about equally frequent.
    """
    turn, subject = divmod(index, settings.num_identities)
    rng = generator(settings.seed, turn // len(EMOTIONS), subject, 0, "emotion order")
    return subject, EMOTIONS[rng.permutation(len(EMOTIONS))[turn % len(EMOTIONS)]]


def subject_folds(settings: Settings) -> np.ndarray:
    """Fold in which each subject is tested, 0-based, (num_identities,)."""
    order = generator(settings.seed, 0, 0, 0, "folds").permutation(settings.num_identities)
    folds = np.empty(settings.num_identities, dtype=np.int64)
    folds[order] = np.arange(settings.num_identities) % settings.num_folds
    return folds


def pretrain_clip(settings: Settings, index: int) -> tuple[int, int, Path]:
    """Person, source video and file (below dev/mp4) of a pre-training clip (0-based index).

    Two clips each come from the same video: same person, clothes, background and light.
    """
    turn, person = divmod(index, settings.num_pretrain_identities)
    video, part = divmod(turn, 2)
    letters = generator(settings.seed, video, person, 0, "video name").integers(0, 26, 11)
    name = "".join(chr(97 + letter) for letter in letters)
    return person, video, Path(f"id{10001 + person:05d}") / name / f"{part + 1:05d}.mp4"


def make_renderer(
    settings: Settings,
    *,
    subject: int,
    scene: int,
    emotion: str,
    index: int,
    stream: str,
    framing: Framing,
    talk_probability: float | None = None,
) -> ClipRenderer:
    """Everything needed to draw one clip, from the settings and its number alone."""
    rng = generator(settings.seed, 0, index, 0, stream)
    identity = draw_identity(settings.seed, subject)
    level = LEVELS[settings.level]
    num_frames = int(rng.integers(settings.min_frames, settings.max_frames + 1))
    motion = draw_motion(
        rng,
        emotion,
        num_frames,
        gain=identity.au_gain,
        rest=identity.au_rest,
        talk_probability=talk_probability,
        level=level,
    )
    return ClipRenderer(
        identity=identity,
        scene=draw_scene(settings.seed, scene, stream, level.spread),
        motion=motion,
        framing=framing,
        size=settings.size,
        rng=rng,
    )


def labelled_renderer(settings: Settings, index: int) -> ClipRenderer:
    """What draws a labelled clip (0-based index)."""
    subject, emotion = labelled_clip(settings, index)
    return posed_renderer(settings, subject, emotion, index=index, stream="labelled clip")


def posed_renderer(
    settings: Settings, subject: int, emotion: str, *, index: int, stream: str
) -> ClipRenderer:
    """What draws a labelled person with an emotion; `index` and `stream` name the random draws."""
    return make_renderer(
        settings,
        subject=subject,
        scene=index if settings.scenes == "clip" else subject,
        emotion=emotion,
        index=index,
        stream=stream,
        framing=FACE_CROP,
    )
