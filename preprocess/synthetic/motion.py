"""How a synthetic face moves: action units over time, speech, blinks, gaze, head, light.

Expressions are composed from action units of the Facial Action Coding System (Ekman, Friesen and
Hager 2002); which units make which emotion follows the usual EMFACS prototypes. Intensities are
0..1, 1 being FACS level E. A clip has onset, apex and offset; the labelled emotion is what the
expression track shows, while speech, blinks and head movements happen in every class.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

AU_NAMES = tuple(
    f"AU{number:02d}"
    for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 23, 24, 25, 26, 27, 43)
)
EMOTIONS = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")

# Per emotion: action unit -> (lowest, highest intensity at the apex, probability of taking part).
PROTOTYPES = {
    "happy": {
        "AU06": (0.4, 1.0, 0.85), "AU12": (0.6, 1.0, 1.0), "AU25": (0.4, 1.0, 0.65),
        "AU26": (0.15, 0.45, 0.25), "AU07": (0.1, 0.5, 0.3),
    },
    "sad": {
        "AU01": (0.5, 1.0, 0.9), "AU04": (0.25, 0.7, 0.75), "AU15": (0.55, 1.0, 0.9),
        "AU17": (0.3, 0.8, 0.6), "AU43": (0.15, 0.4, 0.5), "AU07": (0.1, 0.3, 0.2),
    },
    "angry": {
        "AU04": (0.65, 1.0, 1.0), "AU07": (0.4, 0.9, 0.8), "AU05": (0.3, 0.7, 0.5),
        "AU23": (0.5, 1.0, 0.7), "AU24": (0.3, 1.0, 0.5), "AU17": (0.2, 0.6, 0.4),
    },
    "surprise": {
        "AU01": (0.6, 1.0, 0.95), "AU02": (0.6, 1.0, 0.95), "AU05": (0.4, 0.9, 0.85),
        "AU25": (0.6, 1.0, 1.0), "AU26": (0.5, 1.0, 0.85), "AU27": (0.3, 0.9, 0.35),
    },
    "disgust": {
        "AU09": (0.6, 1.0, 0.85), "AU10": (0.5, 1.0, 0.9), "AU04": (0.2, 0.6, 0.45),
        "AU07": (0.2, 0.6, 0.5), "AU15": (0.15, 0.4, 0.25), "AU16": (0.3, 0.7, 0.35),
        "AU17": (0.2, 0.6, 0.35), "AU25": (0.2, 0.6, 0.5),
    },
    "fear": {
        "AU01": (0.6, 1.0, 0.95), "AU02": (0.3, 0.8, 0.75), "AU04": (0.4, 0.9, 0.85),
        "AU05": (0.5, 1.0, 0.95), "AU07": (0.1, 0.4, 0.3), "AU20": (0.55, 1.0, 0.9),
        "AU25": (0.5, 1.0, 0.8), "AU26": (0.15, 0.5, 0.45),
    },
    "neutral": {
        "AU01": (0.03, 0.22, 0.15), "AU02": (0.03, 0.22, 0.15), "AU04": (0.03, 0.25, 0.2),
        "AU07": (0.03, 0.25, 0.15), "AU12": (0.03, 0.22, 0.2), "AU14": (0.05, 0.3, 0.2),
        "AU15": (0.03, 0.22, 0.15), "AU17": (0.03, 0.25, 0.15), "AU24": (0.05, 0.3, 0.15),
    },
}  # fmt: skip
SHOUTING = {"AU10": (0.3, 0.8, 1.0), "AU16": (0.3, 0.8, 0.8), "AU25": (0.6, 1.0, 1.0)}

VALENCE_WEIGHTS = {
    "AU12": 0.85, "AU06": 0.2, "AU01": -0.22, "AU04": -0.4, "AU05": -0.05, "AU09": -0.5,
    "AU10": -0.35, "AU15": -0.5, "AU16": -0.1, "AU17": -0.15, "AU20": -0.45, "AU23": -0.2,
    "AU24": -0.15, "AU02": 0.18, "AU26": 0.1, "AU27": 0.05,
}  # fmt: skip
AROUSAL_WEIGHTS = {
    "AU01": 0.05, "AU02": 0.25, "AU04": 0.2, "AU05": 0.45, "AU06": 0.1, "AU07": 0.15, "AU09": 0.15,
    "AU10": 0.15, "AU12": 0.25, "AU15": -0.35, "AU17": -0.05, "AU20": 0.3, "AU23": 0.2,
    "AU24": 0.15, "AU25": 0.15, "AU26": 0.2, "AU27": 0.3, "AU43": -0.5,
}  # fmt: skip


class Level(NamedTuple):
    """How hard expressions are to tell apart."""

    # factor of all that says nothing about the expression: pose, place, light, speech, features of
    # the face at rest, camera
    spread: float
    clearness: float  # 0..1, how far expressions lie from weak and partial (0) to full (1)


LEVELS = {"easy": Level(spread=0.4, clearness=0.6), "hard": Level(spread=1.0, clearness=0.0)}


@dataclass(frozen=True)
class Motion:
    """Everything that varies within a clip; T frames, angles in radians, lengths in face units."""

    action_units: np.ndarray  # (T, A) intensities as drawn, 0..1, speech and blinks included
    valence: np.ndarray  # (T,) -1..1, of the expression alone
    arousal: np.ndarray  # (T,) -1..1, of the expression alone
    # (T, 3) yaw (positive: nose to the picture's right), pitch (positive: nose down), roll
    # (positive: clockwise in the picture)
    pose: np.ndarray
    shift: np.ndarray  # (T, 2) of the head in the picture
    zoom: np.ndarray  # (T,) factor around 1
    gaze: np.ndarray  # (T, 2) of the irises, -1..1
    light: np.ndarray  # (T, 3) unit vector towards the light
    gain: np.ndarray  # (T,) brightness factor around 1


def au_index(name: str) -> int:
    """Column of an action unit, e.g. "AU12".

    Raises:
        ValueError: the action unit is not drawn.
    """
    if name not in AU_NAMES:
        raise ValueError(f"action unit {name!r} is not drawn; known: {', '.join(AU_NAMES)}")
    return AU_NAMES.index(name)


def _weights(table: dict) -> np.ndarray:
    return np.array([table.get(name, 0.0) for name in AU_NAMES])


def valence_arousal(action_units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Affect that an expression shows, as a squashed weighted sum of its action units.

    The signs follow where the prototypes stand on the circumplex (Russell 1980): happiness right,
    sadness lower left, anger and fear upper left, surprise up.

    Args:
        action_units: (..., A) intensities 0..1.

    Returns:
        Valence and arousal, (...) each, -1..1; a face at rest has (0, 0).
    """
    valence = np.tanh(1.3 * (action_units @ _weights(VALENCE_WEIGHTS)))
    arousal = np.tanh(1.1 * (action_units @ _weights(AROUSAL_WEIGHTS)))
    return valence, arousal


def smooth_noise(rng: np.random.Generator, num_frames: int, period_frames: float) -> np.ndarray:
    """Random curve of about unit variance whose ups and downs last about `period_frames`, (T,)."""
    num_knots = int(np.ceil(num_frames / period_frames)) + 3
    knots = rng.normal(size=num_knots)
    position = np.arange(num_frames) / period_frames + rng.random()
    left = position.astype(int)
    step = position - left
    step = step * step * (3 - 2 * step)
    return knots[left] * (1 - step) + knots[left + 1] * step


def _smoothstep(value: np.ndarray) -> np.ndarray:
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def draw_envelope(rng: np.random.Generator, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Times at which an expression begins and ends.

    Returns:
        (P, 2) first and last apex frame of each of P pulses, and (P, 2) the lengths of onset and
        offset in frames. At least about a third of the clip is near an apex.
    """
    kind = rng.choice(
        ("whole", "rising", "falling", "steady", "twice"), p=(0.4, 0.2, 0.15, 0.1, 0.15)
    )
    last = num_frames - 1.0
    ramps = rng.uniform(5, 14, (2, 2))
    start, stop = rng.uniform(0.18, 0.32) * last, rng.uniform(0.62, 0.82) * last
    if kind == "twice":
        gap = rng.uniform(0.4, 0.55) * last
        apexes = [(0.15 * last, gap - 5), (gap + 5, 0.9 * last)]
        return np.array(apexes), rng.uniform(4, 8, (2, 2))
    if kind in ("falling", "steady"):
        start = -20.0
    if kind in ("rising", "steady"):
        stop = last + 20.0
    return np.array([(start, stop)]), ramps[:1]


def _expression(
    rng: np.random.Generator, emotion: str, num_frames: int, clearness: float
) -> np.ndarray:
    """Action units of the labelled expression alone, (T, A)."""
    prototype = dict(PROTOTYPES[emotion])
    if emotion == "angry" and rng.random() < 0.3:
        prototype = {k: v for k, v in prototype.items() if k not in ("AU23", "AU24", "AU17")}
        prototype.update(SHOUTING)
    apexes, ramps = draw_envelope(rng, num_frames)
    neutral = emotion == "neutral"
    strength = 1.0 if neutral else rng.uniform(0.75, 1.0)
    strength = 1 - (1 - clearness) * (1 - strength)
    time = np.arange(num_frames)[:, None]
    track = np.zeros((num_frames, len(AU_NAMES)))
    for name, (low, high, probability) in prototype.items():
        goal = 0 if neutral else 1  # probability and level of the clearest expression
        probability += clearness * (goal - probability)
        takes_part, level = rng.random() < probability, rng.uniform(low, high)
        level += clearness * goal * (high - level)
        delay = rng.normal(0, 1.5, 2)
        if not takes_part:
            continue
        rise = _smoothstep((time - apexes[:, 0] - delay[0]) / ramps[:, 0] + 1)
        fall = _smoothstep((apexes[:, 1] + delay[1] - time) / ramps[:, 1] + 1)
        flutter = 1 + 0.07 * smooth_noise(rng, num_frames, 8)
        track[:, au_index(name)] = strength * level * (rise * fall).max(1) * flutter
    return np.clip(track, 0, 1)


def _speech(rng: np.random.Generator, num_frames: int, loudness: float) -> np.ndarray:
    """Mouth movements of talking, (T, A): syllables at 3 to 5 Hz in phrases, at 25 frames/s."""
    track = np.zeros((num_frames, len(AU_NAMES)))
    rate = rng.uniform(3.0, 5.0) / 25
    phase = 2 * np.pi * (rate * np.arange(num_frames) + rng.random())
    phase += 0.9 * smooth_noise(rng, num_frames, 7)
    phrase = _smoothstep(0.9 + smooth_noise(rng, num_frames, 14))
    opening = loudness * phrase * np.clip(0.5 + 0.5 * np.sin(phase), 0, 1)
    opening *= 0.6 + 0.4 * np.abs(smooth_noise(rng, num_frames, 5))
    vowel = smooth_noise(rng, num_frames, 6)
    track[:, au_index("AU25")] = 0.9 * opening
    track[:, au_index("AU26")] = 0.5 * opening * (vowel < 1.2)
    track[:, au_index("AU18")] = loudness * phrase * np.clip(0.6 * vowel - 0.1, 0, 0.7)
    track[:, au_index("AU20")] = loudness * phrase * np.clip(-0.4 * vowel - 0.1, 0, 0.35)
    track[:, au_index("AU24")] = loudness * phrase * np.clip(0.4 * np.sin(phase + 3.5) - 0.2, 0, 1)
    return track


def _blinks(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Closure of the lids by blinking, (T,): about one blink every three seconds."""
    closure = np.zeros(num_frames)
    time = np.arange(num_frames)
    moment = rng.exponential(60.0)
    while moment < num_frames:
        length = rng.uniform(1.6, 2.8)
        closure = np.maximum(closure, np.clip(1.35 - np.abs(time - moment) / length, 0, 1))
        moment += 12 + rng.exponential(65.0)
    return closure


def _head(rng: np.random.Generator, emotion: str, num_frames: int, spread: float) -> dict:
    """Pose, shift, zoom and gaze; a little of the head's attitude goes with the emotion."""
    liveliness = rng.uniform(0.2, 1.0)
    drift = np.stack([smooth_noise(rng, num_frames, 22) for _ in range(3)], axis=1)
    base = rng.normal(0, (0.13, 0.06, 0.045))
    base[1] += {"sad": 0.06, "surprise": -0.03, "disgust": -0.02}.get(emotion, 0.0)
    pose = base + liveliness * drift * (0.08, 0.045, 0.035)
    gaze = np.stack([np.round(2 * smooth_noise(rng, num_frames, 18)) / 4 for _ in range(2)], axis=1)
    gaze[:, 1] += 0.25 * (emotion == "sad") * (rng.random() < 0.5)
    shake = rng.uniform(0, 0.004) * rng.normal(size=(num_frames, 2))
    slow = np.stack([smooth_noise(rng, num_frames, 25) for _ in range(2)], axis=1)
    shift = rng.normal(0, 0.022, 2) + 0.018 * liveliness * slow + shake
    zoom = rng.normal(0, 0.025) + 0.01 * smooth_noise(rng, num_frames, 25)
    return {
        "pose": np.clip(spread * pose, (-0.42, -0.24, -0.2), (0.42, 0.24, 0.2)),
        "shift": np.clip(spread * shift, -0.07, 0.07),
        "zoom": np.clip(np.exp(spread * zoom), 0.93, 1.05),
        "gaze": np.clip(gaze, -0.75, 0.75),
    }


def _light(rng: np.random.Generator, num_frames: int, spread: float) -> dict:
    """Slowly drifting direction (mostly from above, either side) and brightness."""
    direction = rng.normal((0, -0.55, 1.0), spread * np.array((0.6, 0.3, 0.2)))
    drift = np.stack([smooth_noise(rng, num_frames, 30) for _ in range(3)], axis=1)
    light = direction + rng.uniform(0, 0.15) * drift
    light[:, 2] = np.maximum(light[:, 2], 0.35)
    gain = 1 + rng.uniform(0, 0.05) * smooth_noise(rng, num_frames, 20)
    return {"light": light / np.linalg.norm(light, axis=1, keepdims=True), "gain": gain}


def draw_motion(
    rng: np.random.Generator,
    emotion: str,
    num_frames: int,
    *,
    gain: np.ndarray,
    rest: np.ndarray,
    talk_probability: float | None = None,
    level: Level = LEVELS["hard"],
) -> Motion:
    """Draw the movement of one clip.

    Args:
        emotion: one of `EMOTIONS`.
        num_frames: T.
        gain: (A,) personal strength of each action unit.
        rest: (A,) personal intensities of the face at rest.
        talk_probability: 0..1; None: talking is likelier in neutral clips, where only it moves.
        level: how hard expressions are to tell apart.

    Raises:
        ValueError: the emotion is not known.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion {emotion!r} is not one of {', '.join(EMOTIONS)}")
    expression = np.clip(_expression(rng, emotion, num_frames, level.clearness) * gain, 0, 1)
    if talk_probability is None:
        talk_probability = 0.55 if emotion == "neutral" else 0.3
    talks = rng.random() < talk_probability
    loudness = level.spread * rng.uniform(0.3, 0.8) * (1.0 if emotion == "neutral" else 0.7)
    speech = _speech(rng, num_frames, loudness * talks)
    total = np.maximum(expression, speech)
    rest = level.spread * rest
    total = np.maximum(total, rest * (0.85 + 0.15 * smooth_noise(rng, num_frames, 12)[:, None]))
    lids = au_index("AU43")
    total[:, lids] = np.maximum(total[:, lids], _blinks(rng, num_frames))
    valence, arousal = valence_arousal(expression)
    return Motion(
        action_units=np.clip(total, 0, 1),
        valence=valence,
        arousal=arousal,
        **_head(rng, emotion, num_frames, level.spread),
        **_light(rng, num_frames, level.spread),
    )
