"""Textures of a synthetic clip, painted once: skin, relief, hair, background with shoulders."""

from dataclasses import dataclass

import cv2
import numpy as np

from svfap.preprocess.synthetic.face import SIDES, spline, surface_depth
from svfap.preprocess.synthetic.identity import Identity, Scene

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Sheet:
    """A picture laid over the face's coordinates."""

    pixels: np.ndarray  # (h, w, 4) uint8; for hair RGB premultiplied by alpha
    origin: np.ndarray  # face coordinates of the centre of pixel (0, 0)
    pixels_per_unit: float

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Face coordinates -> pixel coordinates."""
        return (points - self.origin) * self.pixels_per_unit


def sheet_grid(low: Colour, high: Colour, pixels_per_unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Face coordinates of every pixel of a sheet over the rectangle low..high, (h, w) each."""
    x = np.arange(low[0], high[0], 1 / pixels_per_unit, dtype=np.float32)
    y = np.arange(low[1], high[1], 1 / pixels_per_unit, dtype=np.float32)
    return np.meshgrid(x, y)


def fixed_point(points: np.ndarray) -> np.ndarray:
    """Pixel coordinates as OpenCV's integers with 4 fractional bits."""
    return np.round(np.asarray(points) * 16).astype(np.int32, order="C")


def lay(canvas: np.ndarray, layer: np.ndarray) -> None:
    """Lay a premultiplied RGBA picture over another of the same size, in place."""
    rest = cv2.bitwise_not(cv2.extractChannel(layer, 3))
    cv2.multiply(canvas, cv2.merge([rest] * 4), dst=canvas, scale=1 / 255)
    cv2.add(canvas, layer, dst=canvas)


def _bump(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def _pair(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    return _bump(np.abs(x), y, cx, cy, sx, sy)


# ---- skin -----------------------------------------------------------------------------------

SKIN_LOW, SKIN_HIGH = (-1.4, -1.6), (1.4, 1.8)


def paint_skin(identity: Identity, rng: np.random.Generator) -> Sheet:
    """Colour of the resting skin without light: complexion, freckles, beard, shaved scalp."""
    ppu = 72.0
    x, y = sheet_grid(SKIN_LOW, SKIN_HIGH, ppu)
    shape = x.shape
    tone = np.ones((*shape, 3), np.float32) * identity.skin.astype(np.float32)
    blotches = cv2.resize(rng.normal(0, 1, (11, 9)).astype(np.float32), shape[::-1], None, 0, 0, 2)
    tone *= (1 + 0.018 * blotches + rng.normal(0, 0.012, shape).astype(np.float32))[..., None]
    red = (0.25 + 0.75 * identity.blush) * _pair(x, y, 0.55, 0.45, 0.28, 0.24)
    red += 0.5 * _bump(x, y, 0, identity.nose_y - 0.05, 0.16, 0.14)
    tone *= 1 - red[..., None] * np.array((0.0, 0.11, 0.09), np.float32)
    tired = (0.25 + 0.6 * identity.age) * _pair(x, y, identity.eye_x - 0.04, 0.13, 0.22, 0.07)
    tired += 0.45 * _pair(x, y, identity.eye_x, -0.06, 0.27, 0.12)
    tired += identity.makeup * 0.7 * _pair(x, y, identity.eye_x, -0.07, 0.24, 0.08)
    tone *= 1 - tired[..., None] * np.array((0.16, 0.2, 0.17), np.float32)
    if identity.freckles > 0.2:
        _freckles(tone, identity, rng, ppu)
    mole = (identity.mole_xy - SKIN_LOW) * ppu
    if identity.undertone > 0.8:
        cv2.circle(tone, np.int32(mole).tolist(), 2, (identity.skin * 0.4).tolist(), -1)
    _hairy_skin(tone, x, y, identity, rng)
    pixels = np.dstack([np.clip(tone, 0, 255), np.full(shape, 255)]).astype(np.uint8)
    return Sheet(pixels, np.array(SKIN_LOW), ppu)


def _freckles(tone: np.ndarray, who: Identity, rng: np.random.Generator, ppu: float) -> None:
    spots = np.ones(tone.shape[:2], np.float32)
    for _ in range(int(130 * who.freckles)):
        place = rng.normal((rng.choice(SIDES) * 0.45, 0.35), (0.25, 0.2))
        centre = np.int32((place - SKIN_LOW) * ppu)
        cv2.circle(spots, centre.tolist(), int(rng.integers(1, 3)), rng.uniform(0.72, 0.9), -1)
    tone *= cv2.GaussianBlur(spots, (0, 0), 0.8)[..., None] ** (0.7, 1.0, 1.2)


def _hairy_skin(tone, x, y, who: Identity, rng: np.random.Generator) -> None:
    """Blend beard and shaved or short hair into the skin, in place."""
    below = np.clip((y - 0.35 - 0.35 * (np.abs(x) < 0.75) * (1 - np.abs(x))) / 0.3, 0, 1)
    around_mouth = 1 - np.clip(1.3 - 1.3 * _mouth_distance(x, y, who), 0, 1)
    moustache = _bump(x, y, 0, who.mouth_y - 0.15, 0.33, 0.075) * 1.5
    goatee = _bump(x, y, 0, who.mouth_y + 0.38, 0.26, 0.22) * 1.4
    cheeks = np.clip((np.abs(x) + 1.1 * (y - 0.55) - 0.55) / 0.25, 0, 1) * (y > 0.1)
    full = np.clip(np.maximum(cheeks * below, np.maximum(moustache, goatee)), 0, 1) * around_mouth
    cover = {
        "none": 0 * x,
        "stubble": 0.4 * full,
        "moustache": np.clip(moustache, 0, 1) * around_mouth,
        "goatee": np.clip(np.maximum(moustache, goatee), 0, 1) * around_mouth,
        "full": full,
    }[who.beard]
    if who.hair_style == "buzz":
        edge = who.hairline_y + 0.25 * np.abs(x) ** 3 - y
        cover = np.maximum(cover, 0.85 * np.clip(edge / 0.1, 0, 1))
    elif who.hair_style == "bald":
        edge = np.maximum(np.abs(x) - 0.86, -1.15 - y * 0.2 - 1.2) * 6
        cover = np.maximum(cover, 0.35 * np.clip(edge, 0, 1) * (y < 0.1))
    if not cover.any():
        return
    strands = cv2.GaussianBlur(rng.normal(0, 1, x.shape).astype(np.float32), (0, 0), 0.6, None, 1.4)
    cover = np.clip(cover * (0.85 + 0.35 * strands), 0, 0.93)[..., None]
    hair = who.hair * 0.85 + 4
    tone += cover * (hair * (1 + 0.25 * strands[..., None]) - tone)


def _mouth_distance(x: np.ndarray, y: np.ndarray, who: Identity) -> np.ndarray:
    return np.hypot(x / (who.mouth_half_width + 0.05), (y - who.mouth_y - 0.01) / 0.15)


def relief_normals(identity: Identity) -> Sheet:
    """Unit normals of the resting face for shading; `pixels` is (h, w, 3) float32 here."""
    ppu = 44.0
    x, y = sheet_grid(SKIN_LOW, SKIN_HIGH, ppu)
    who = identity
    ball = 1 - (x / (1.13 * who.face_width)) ** 2 - ((y - 0.15) / 1.66) ** 2
    height = 0.95 * np.sqrt(np.maximum(ball, 0.02))
    nose = surface_depth(x, y, who) - 0.95 * np.exp(-((x / 1.28) ** 2) - ((y - 0.25) / 1.75) ** 2)
    ridge = np.exp(-((x / who.nose_bridge) ** 2))
    height += 0.45 * nose + 0.1 * ridge * np.clip((y + 0.1) / 0.4, 0, 1) * (nose > 0.01)
    height += 0.07 * _bump(x, y, 0, who.nose_y - 0.04, 0.11, 0.1)
    height += 0.05 * _pair(x, y, who.nose_width * 0.75, who.nose_y - 0.01, 0.08, 0.08)
    height += 0.05 * _pair(x, y, 0.35, -0.3, 0.33, 0.09)
    height -= 0.1 * _pair(x, y, who.eye_x - 0.03, 0.0, 0.25, 0.13)
    height += (0.03 + 0.05 * who.cheekbones) * _pair(x, y, 0.62, 0.35, 0.26, 0.17)
    height += 0.05 * _bump(x, y, 0, who.mouth_y, 0.45, 0.24)
    height -= 0.025 * _bump(x, y, 0, who.mouth_y - 0.2, 0.04, 0.09)
    height -= 0.05 * _bump(x, y, 0, who.mouth_y + 0.21, 0.22, 0.05)
    height += 0.06 * _bump(x, y, 0, who.chin_y - 0.16, 0.2, 0.13)
    down, right = np.gradient(height.astype(np.float32), 1 / ppu)
    normal = np.dstack([-right, -down, np.full_like(right, 0.8)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    normal = cv2.GaussianBlur(normal, (0, 0), 1.2)
    return Sheet(normal, np.array(SKIN_LOW), ppu)


# ---- background and body ----------------------------------------------------------------------


def paint_background(scene: Scene, size: int) -> np.ndarray:
    """Picture behind the person, (size, size, 4) uint8."""
    rng = np.random.Generator(np.random.Philox(scene.background_seed))
    low = 48
    y, x = np.mgrid[0:low, 0:low] / low
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * x + np.sin(angle) * y)[..., None] * 0.5 + 0.5
    first, second, third = scene.background
    picture = (first * ramp + (0.5 * first + 0.5 * second) * (1 - ramp)).astype(np.float32)
    if scene.background_kind == "bokeh":
        for _ in range(14):
            centre, radius = rng.integers(0, low, 2).tolist(), int(rng.integers(2, 8))
            mix = rng.random()
            cv2.circle(picture, centre, radius, (mix * second + (1 - mix) * third).tolist(), -1)
        picture = cv2.GaussianBlur(picture, (0, 0), 1.5)
    elif scene.background_kind == "blocks":
        for _ in range(7):
            corner = rng.integers(-8, low, 2)
            other = corner + rng.integers(6, 30, 2)
            mix = rng.random()
            colour = (mix * second + (1 - mix) * third).tolist()
            cv2.rectangle(picture, corner.tolist(), other.tolist(), colour, -1)
        picture = cv2.GaussianBlur(picture, (0, 0), 0.5 + 2.5 * rng.random())
    elif scene.background_kind == "wall":
        picture += cv2.GaussianBlur(rng.normal(0, 60, picture.shape).astype(np.float32), (0, 0), 3)
    light = 0.8 * scene.ambient + 0.35 * scene.diffuse
    big = cv2.resize(np.clip(picture * light, 0, 255), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.dstack([np.clip(big, 0, 255), np.full((size, size), 255)]).astype(np.uint8)


def paint_body(size: int, to_pixels, identity: Identity, scene: Scene, rng) -> np.ndarray:
    """Neck, shoulders and clothes, (size, size, 4) uint8, premultiplied.

    Args:
        to_pixels: function from face coordinates (n, 2) to pixels.
    """
    light = scene.ambient + 0.55 * scene.diffuse
    neck = identity.jaw_width * rng.uniform(0.62, 0.74)
    slope = rng.uniform(0.0, 0.12)
    layer = np.zeros((size, size, 4), np.uint8)

    def fill(half: list, colour: np.ndarray) -> None:
        half = np.array(half, dtype=np.float64)
        curve = spline(np.concatenate([half * (-1, 1), half[::-1]]), 6)
        colour = (*np.clip(colour, 0, 255).tolist(), 255)
        cv2.fillPoly(layer, [fixed_point(to_pixels(curve))], colour, cv2.LINE_AA, 4)

    skin, clothes = identity.skin * light * 0.84, scene.clothes * light
    if scene.collar == "hood":
        fill([(1.35, 2.6), (1.3, 1.9), (1.0, 1.45), (0.4, 1.3)], clothes * 0.7)
    fill([(neck * 1.5, 3.0), (neck * 1.25, 1.95), (neck, 1.6), (neck, 0.7)], skin)
    shadow = [(0.3, 1.72), (0.7 * neck, 1.6), (0.97 * neck, 1.36), (0.97 * neck, 0.7)]
    fill(shadow, skin * 0.78)
    layer = cv2.GaussianBlur(layer, (0, 0), size / 150)
    collar = {"crew": 0.12, "v": 0.75, "shirt": 0.5, "hood": 0.1}[scene.collar]
    edge = [(neck * 1.22, 1.74), (0.6 * neck, 1.86 + 0.5 * collar), (0.02, 1.95 + collar)]
    arm = [(3.4, 4.5), (2.9, 2.9), (2.3, 2.3 + slope), (1.5, 2.02 + slope), (0.95, 1.82)]
    fill([*arm, *edge], clothes)
    rim = np.array([(-x, y) for x, y in edge] + edge[-2::-1])
    bright = (*np.clip(clothes * 0.8, 0, 255).tolist(), 255)
    width = max(1, round(0.05 * abs(to_pixels(np.eye(2))[0, 0] - to_pixels(np.eye(2))[1, 0])))
    cv2.polylines(layer, [fixed_point(to_pixels(spline(rim, 6)))], False, bright, width, 16, 4)
    if scene.collar == "shirt":
        _flaps(layer, to_pixels, neck, clothes)
    fold = np.clip(rng.normal(1, 0.1, (5, 5)).astype(np.float32) * 128, 0, 255).astype(np.uint8)
    fold = cv2.resize(fold, (size, size), interpolation=cv2.INTER_CUBIC)
    fold = cv2.multiply(layer, cv2.merge([fold] * 4), scale=1 / 128)
    layer[..., :3] = np.minimum(fold[..., :3], layer[..., 3:])
    return layer


def _flaps(layer: np.ndarray, to_pixels, neck: float, clothes: np.ndarray) -> None:
    for side in SIDES:
        flap = [(0.03, 2.45), (1.2 * neck, 1.66), (1.5 * neck, 1.86), (0.55, 2.6)]
        pixels = fixed_point(to_pixels(np.array(flap) * (side, 1)))
        colour = (*np.clip(clothes * 1.14 + 6, 0, 255).tolist(), 255)
        cv2.fillPoly(layer, [pixels], colour, cv2.LINE_AA, 4)
