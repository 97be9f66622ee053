"""Who is drawn: the random but fixed traits of a synthetic person, and the circumstances of a clip.

An `Identity` holds what stays with a person (head, skin, hair, features, glasses, personal style
of moving the face); a `Scene` holds what changes from clip to clip (clothes, background, light,
camera). Neither knows anything about the emotion that will be shown, so that neither colour nor
shape gives the class away.

Lengths are in face units: the half width of an average face at the cheekbones is 1, x points to
the right of the picture, y down, z towards the camera; the origin lies between the eyes.
"""

from dataclasses import dataclass

import numpy as np

from svfap.datasets.rng import generator
from svfap.preprocess.synthetic.motion import AU_NAMES

SKIN_TONES = np.array(
    [(250, 218, 196), (241, 200, 170), (232, 188, 158), (222, 172, 136), (205, 150, 112),
     (184, 128, 92), (158, 104, 74), (128, 84, 60), (100, 66, 48), (82, 54, 42)],
    dtype=np.float64,
)  # fmt: skip
HAIR_COLOURS = np.array(
    [(28, 24, 24), (44, 32, 26), (66, 44, 30), (98, 66, 40), (134, 92, 54), (176, 134, 82),
     (208, 172, 116), (146, 66, 34), (120, 116, 114), (196, 194, 190)],
    dtype=np.float64,
)  # fmt: skip
IRIS_COLOURS = np.array(
    [(62, 40, 24), (84, 56, 30), (48, 34, 26), (110, 96, 50), (74, 110, 80), (84, 124, 156)],
    dtype=np.float64,
)  # fmt: skip
HAIR_STYLES = (
    "bald", "buzz", "short", "quiff", "side_part", "bangs", "bob", "long", "wavy", "curly", "bun",
    "scarf",
)  # fmt: skip
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "round", "rectangular", "half_rim")


@dataclass(frozen=True)
class Identity:
    """Traits of one synthetic person; lengths in face units, colours RGB 0..255, the rest 0..1."""

    skin: np.ndarray
    undertone: float
    age: float
    freckles: float
    blush: float
    makeup: float
    face_width: float
    jaw_width: float
    jaw_height: float
    chin_width: float
    chin_y: float
    skull_height: float
    hairline_y: float
    cheekbones: float
    ear_size: float
    eye_x: float
    eye_half_width: float
    eye_upper: float
    eye_lower: float
    eye_tilt: float
    lid_crease: float
    iris: np.ndarray
    iris_radius: float
    brow_y: float
    brow_length: float
    brow_arch: float
    brow_slope: float
    brow_thickness: float
    brow_density: float
    nose_width: float
    nose_y: float
    nose_height: float
    nose_bridge: float
    mouth_y: float
    mouth_half_width: float
    lip_upper: float
    lip_lower: float
    lip_bow: float
    lip_colour: np.ndarray
    hair_style: str
    hair: np.ndarray
    hair_volume: float
    hair_side: float
    beard: str
    glasses: str
    glasses_colour: np.ndarray
    earrings: bool
    mole_xy: np.ndarray
    au_gain: np.ndarray
    au_rest: np.ndarray
    au_asymmetry: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Circumstances of one clip: clothes, background, light and camera (colours RGB 0..255)."""

    clothes: np.ndarray
    collar: str
    background: np.ndarray
    background_kind: str
    background_seed: int
    ambient: np.ndarray
    diffuse: np.ndarray
    gamma: float
    blur_px: float
    noise: float
    vignette: float
    saturation: float


def _around(rng: np.random.Generator, mean: float, spread: float) -> float:
    """A normal draw cut off at two standard deviations."""
    return float(mean + spread * np.clip(rng.normal(), -2, 2))


def _hair_style(rng: np.random.Generator, feminine: bool, age: float) -> str:
    weights = dict.fromkeys(HAIR_STYLES, 1.0)
    if feminine:
        weights.update(bald=0.0, buzz=0.1, short=0.4, quiff=0.2, long=2.5, bob=1.5, wavy=2.0)
    else:
        weights.update(bob=0.1, long=0.4, wavy=0.2, bun=0.2, scarf=0.0, short=2.5, side_part=1.5)
        weights["bald"] = 0.4 + 1.2 * age
    probabilities = np.array([weights[style] for style in HAIR_STYLES])
    return str(rng.choice(HAIR_STYLES, p=probabilities / probabilities.sum()))


def _colours(rng: np.random.Generator, age: float, makeup: float) -> dict:
    """Skin, hair, iris and lip colours that go together loosely."""
    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    low = int(tone)
    high = min(low + 1, len(SKIN_TONES) - 1)
    skin = SKIN_TONES[low] + (tone - low) * (SKIN_TONES[high] - SKIN_TONES[low])
    skin = np.clip(skin * rng.uniform(0.95, 1.04) + rng.normal(0, 3, 3), 20, 255)
    darkness = tone / (len(SKIN_TONES) - 1)
    if rng.random() < 0.6 * max(0.0, age - 0.55):
        hair = HAIR_COLOURS[rng.integers(8, 10)]
    else:
        hair = HAIR_COLOURS[rng.integers(0, 8 if darkness < 0.5 else 4)]
    iris = IRIS_COLOURS[rng.integers(0, 6 if darkness < 0.5 else 3)]
    natural = skin * (0.86, 0.66, 0.66) + (6, 0, 2)
    painted = np.array([(178, 52, 62), (198, 84, 92), (150, 48, 70)][rng.integers(3)], float)
    return {
        "skin": skin,
        "hair": np.clip(hair * rng.uniform(0.8, 1.15) + rng.normal(0, 3, 3), 8, 240),
        "iris": np.clip(iris * rng.uniform(0.8, 1.2), 10, 220),
        "lip_colour": np.clip(natural + makeup * 0.6 * (painted - natural), 15, 240),
    }


def _personal_style(rng: np.random.Generator) -> dict:
    """How strongly this person moves each action unit, its value at rest, and how unevenly."""
    num_au = len(AU_NAMES)
    rest = np.zeros(num_au)
    for name, high in {"AU04": 0.22, "AU15": 0.2, "AU12": 0.18, "AU01": 0.15, "AU05": 0.15}.items():
        if rng.random() < 0.25:
            rest[AU_NAMES.index(name)] = rng.uniform(0.05, high)
    return {
        "au_gain": np.clip(rng.normal(1.0, 0.13, num_au), 0.7, 1.3),
        "au_rest": rest,
        "au_asymmetry": np.clip(rng.normal(0, 0.1, num_au), -0.25, 0.25),
    }


def _head(rng: np.random.Generator, feminine: bool) -> dict:
    around = _around
    return {
        "face_width": around(rng, 1.0, 0.045),
        "jaw_width": around(rng, 0.79 if feminine else 0.86, 0.045),
        "jaw_height": around(rng, 0.88, 0.06),
        "chin_width": around(rng, 0.27 if feminine else 0.34, 0.05),
        "chin_y": around(rng, 1.44, 0.06),
        "skull_height": around(rng, 1.32, 0.05),
        "hairline_y": around(rng, -0.86, 0.08),
        "cheekbones": rng.uniform(0, 1),
        "ear_size": around(rng, 1.0, 0.12),
        "eye_x": around(rng, 0.43, 0.018),
        "eye_half_width": around(rng, 0.22, 0.013),
        "eye_upper": around(rng, 0.108 if feminine else 0.1, 0.011),
        "eye_lower": around(rng, 0.062, 0.008),
        "eye_tilt": around(rng, 0.025, 0.025),
        "lid_crease": rng.uniform(0, 1),
        "iris_radius": around(rng, 0.106, 0.005),
        "brow_y": around(rng, -0.285, 0.022),
        "brow_length": around(rng, 0.46, 0.03),
        "brow_arch": around(rng, 0.065 if feminine else 0.045, 0.02),
        "brow_slope": around(rng, -0.01, 0.03),
        "brow_thickness": around(rng, 0.042 if feminine else 0.056, 0.009),
        "brow_density": rng.uniform(0.55, 0.95),
        "nose_width": around(rng, 0.19 if feminine else 0.215, 0.022),
        "nose_y": around(rng, 0.56, 0.03),
        "nose_height": around(rng, 0.27, 0.03),
        "nose_bridge": around(rng, 0.105, 0.015),
        "mouth_y": around(rng, 0.935, 0.025),
        "mouth_half_width": around(rng, 0.37, 0.025),
        "lip_upper": around(rng, 0.082, 0.018),
        "lip_lower": around(rng, 0.115, 0.02),
        "lip_bow": rng.uniform(0.1, 0.45),
    }


def draw_identity(seed: int, subject: int) -> Identity:
    """Draw the person with this number; the same (seed, subject) is always the same person."""
    rng = generator(seed, 0, subject, 0, "identity")
    feminine = rng.random() < 0.5
    age = rng.beta(1.6, 2.2)
    makeup = rng.uniform(0.2, 1.0) if feminine and rng.random() < 0.6 else 0.0
    beard = "none" if feminine else str(rng.choice(BEARDS, p=(0.45, 0.2, 0.1, 0.1, 0.15)))
    frame = np.array([(30, 26, 24), (90, 56, 30), (150, 30, 40), (120, 124, 130)])[rng.integers(4)]
    return Identity(
        **_colours(rng, age, makeup),
        **_head(rng, feminine),
        **_personal_style(rng),
        undertone=rng.normal(),
        age=age,
        freckles=max(0.0, rng.uniform(-1.5, 1)),
        blush=rng.uniform(0, 1),
        makeup=makeup,
        hair_style=_hair_style(rng, feminine, age),
        hair_volume=rng.uniform(0, 1),
        hair_side=float(rng.choice((-1, 1))),
        beard=beard,
        glasses=str(rng.choice(GLASSES, p=(0.76, 0.08, 0.1, 0.06))),
        glasses_colour=frame.astype(float),
        earrings=feminine and rng.random() < 0.4,
        mole_xy=rng.uniform((-0.8, 0.2), (0.8, 1.2)),
    )


def draw_scene(seed: int, index: int, stream: str, spread: float = 1.0) -> Scene:
    """Draw clothes, background, light and camera, which depend on neither person nor emotion.

    Args:
        index: number of the clip (or of the video that several clips come from).
        stream: name of the random stream, different for the two data sets.
        spread: factor of the differences in light and camera.
    """
    rng = generator(seed, 0, index, 0, stream)
    warm = spread * rng.normal(0, 0.07)
    cast = np.array([1 + warm, 1 + spread * rng.normal(0, 0.025), 1 - warm])
    exposure = 1 + spread * (rng.uniform(0.8, 1.08) - 1)
    contrast = 0.4 + spread * (rng.uniform(0.25, 0.75) - 0.4)
    saturation = rng.uniform(0.7, 1.15) if rng.random() < 0.9 else 1 - spread
    return Scene(
        clothes=rng.uniform(15, 235, 3) * 0.7 + rng.uniform(0, 70),
        collar=str(rng.choice(("crew", "v", "shirt", "hood"))),
        background=rng.uniform(10, 235, (3, 1)) * 0.6 + rng.uniform(5, 100, (3, 3)),
        background_kind=str(rng.choice(("gradient", "bokeh", "blocks", "wall"))),
        background_seed=int(rng.integers(2**31)),
        ambient=cast * exposure * (1 - 0.72 * contrast),
        diffuse=cast[::-1] ** 0.3 * cast * exposure * contrast,
        gamma=float(np.exp(rng.normal(0, 0.1))),
        blur_px=float(spread * max(0.0, rng.uniform(-0.5, 1.0))),
        noise=float(spread * rng.uniform(0.3, 4.0)),
        vignette=float(spread * rng.uniform(0, 0.35)),
        saturation=float(saturation),
    )
