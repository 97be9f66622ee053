"""Hair of synthetic faces: ribbons of strands between two curves, painted once per clip.

A hair style is a list of ribbons behind the head and a list before it. A ribbon is the area
between a root curve and a tip curve in face coordinates; strands run from one to the other.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from svfap.preprocess.synthetic.face import SIDES, even_spline
from svfap.preprocess.synthetic.identity import Identity
from svfap.preprocess.synthetic.texture import Sheet, fixed_point

HAIR_LOW, HAIR_HIGH, PIXELS_PER_UNIT = (-1.9, -2.1), (1.9, 2.4), 72.0


@dataclass(frozen=True)
class Ribbon:
    """Area between two curves, (n, 2) each, filled with strands from `root` to `tip`."""

    root: np.ndarray
    tip: np.ndarray
    lean: float = 0.0  # by how much of the curve's length strands lean sideways, -1..1
    wave: float = 0.0  # amplitude of waves in face units
    curls: bool = False  # fill with curls instead of strands
    shade: float = 1.0
    plain: bool = False
    along: bool = False  # strands run along the curves instead of across


def _curve(points: list) -> np.ndarray:
    return even_spline(np.array(points, dtype=np.float64), 10, 60)


def _cap(who: Identity, volume: float, line: list) -> Ribbon:
    """Hair over the top of the head down to a hairline given from left to right."""
    width, top = who.face_width + 0.06 + 0.5 * volume, who.skull_height + volume
    half = [(width, 0.02), (width + 0.03, -0.45), (0.88 * width, -0.85 * top), (0.48 * width, -top)]
    outer = [(-x, y) for x, y in half] + [(0, -1.07 * top)] + half[::-1]
    return Ribbon(_curve(outer), _curve(line))


def _hairline(who: Identity, height: float = 0.0, temple: float = 0.12) -> list:
    y, w = who.hairline_y + height, who.face_width
    half = [(w * 0.97, 0.16), (w * 0.95, -0.2), (w * (0.92 - temple), -0.5), (0.58 * w, y + 0.13)]
    return [(-x, v) for x, v in half] + [(-0.25, y + 0.01), (0.25, y + 0.01)] + half[::-1]


def _curtain(who: Identity, side: float, low: float, inner: float, outer: float, wave: float):
    """Hair hanging beside the face down to `low`."""
    w, top = who.face_width, who.skull_height
    root = [(side * 0.35, -1.08 * top), (side * 0.8 * w, -0.85 * top), (side * (w + outer), -0.35)]
    root += [(side * (w + outer + 0.02), 0.5 * low), (side * (w + outer - 0.08), low)]
    tip = [(side * 0.22, who.hairline_y - 0.02), (side * 0.6 * w, who.hairline_y + 0.12)]
    tip += [(side * (w - inner), -0.3), (side * (w - inner + 0.05), 0.5 * low)]
    tip += [(side * (w - inner + 0.16), low - 0.04)]
    return Ribbon(_curve(root), _curve(tip), along=True, wave=wave)


def _behind(who: Identity, low: float, outer: float, **options) -> Ribbon:
    w, top = who.face_width + outer, who.skull_height + 0.5 * outer
    half = [(0.4 * w, -1.04 * top), (0.9 * w, -0.75 * top), (w, 0.0), (w, 0.6 * low)]
    right = [*half, (0.9 * w, low)]
    left = [(-x, y) for x, y in right]
    return Ribbon(_curve(left), _curve(right), shade=0.62, along=True, **options)


def _ball(x: float, y: float, radius: float, **options) -> Ribbon:
    angle = np.linspace(0, np.pi, 9)
    upper = np.stack([x - radius * np.cos(angle), y - radius * np.sin(angle)], 1)
    lower = np.stack([x - radius * np.cos(angle), y + radius * np.sin(angle)], 1)
    return Ribbon(_curve(list(upper)), _curve(list(lower)), **options)


def _swept(who: Identity, deep: float) -> list:
    """Hairline of hair parted on one side and combed over to the other."""
    side, w, y = who.hair_side, who.face_width, who.hairline_y
    line = [(-0.97 * w, 0.16), (-0.95 * w, -0.2), (-0.84 * w, -0.45), (-0.5 * w, y + deep)]
    line += [(0.0, y + 0.45 * deep), (0.4, y - 0.03), (0.66 * w, y + 0.14), (0.86 * w, -0.45)]
    line += [(0.96 * w, -0.2), (0.97 * w, 0.16)]
    return [(x, v) for x, v in line] if side > 0 else [(-x, v) for x, v in line[::-1]]


def style_ribbons(who: Identity) -> tuple[list[Ribbon], list[Ribbon]]:
    """Ribbons behind and before the head of this person's hair style."""
    style, volume = who.hair_style, who.hair_volume
    lean = 0.25 * who.hair_side
    if style in ("bald", "buzz"):
        return [], []
    if style == "scarf":
        return _scarf(who)
    if style == "curly":
        ring = [_ball(0, -0.55, 1.22 + 0.3 * volume, curls=True, shade=0.7)]
        cap = _cap(who, 0.16 + 0.25 * volume, _hairline(who, 0.05))
        return ring, [Ribbon(cap.root, cap.tip, curls=True)]
    if style == "bun":
        cap = _cap(who, 0.05, _hairline(who, 0.0, 0.05))
        bun = _ball(0.2 * who.hair_side, -1.55, 0.3 + 0.15 * volume, lean=0.3, shade=0.8)
        return [bun, _behind(who, 0.5, 0.05)], [Ribbon(cap.root, cap.tip, lean=0.0)]
    if style in ("short", "quiff", "side_part"):
        deep = {"short": 0.1, "quiff": -0.04, "side_part": 0.22}[style]
        line = _swept(who, deep) if style == "side_part" else _hairline(who, deep * 0.6)
        cap = _cap(who, {"quiff": 0.2, "short": 0.05}.get(style, 0.1) + 0.12 * volume, line)
        return [], [Ribbon(cap.root, cap.tip, lean=lean, wave=0.02 * volume)]
    return _long_hair(who, lean)


def _long_hair(who: Identity, lean: float) -> tuple[list[Ribbon], list[Ribbon]]:
    style, volume = who.hair_style, who.hair_volume
    low = {"bob": 1.0, "bangs": 1.3, "long": 2.3, "wavy": 2.2}[style] + 0.3 * volume
    wave = {"wavy": 0.07, "long": 0.015}.get(style, 0.01)
    outer = 0.14 + 0.14 * volume
    back = [_behind(who, low, outer + 0.06, wave=wave)]
    inner = 0.1 + 0.08 * (1 - volume)
    front = [_curtain(who, side, low, inner, outer, wave) for side in SIDES]
    line = _hairline(who, 0.02) if style != "bangs" else _hairline(who, 0.36, 0.06)
    if style == "bob":
        line = _swept(who, 0.2)
    cap = _cap(who, 0.1 + 0.1 * volume, line)
    return back, [*front, Ribbon(cap.root, cap.tip, lean=lean, wave=0.3 * wave)]


def _scarf(who: Identity) -> tuple[list[Ribbon], list[Ribbon]]:
    w, low, high = who.face_width, who.chin_y + 0.1, who.hairline_y + 0.08
    angle = np.linspace(0, 2 * np.pi, 33)
    across, along = np.sin(angle), np.cos(angle)
    opening = np.stack([0.93 * w * across, 0.5 * (low + high) + 0.5 * (low - high) * along], 1)
    top, bottom = -who.skull_height - 0.2, who.chin_y + 0.75
    outer = np.stack([1.3 * w * across, 0.5 * (top + bottom) + 0.5 * (bottom - top) * along], 1)
    drape = _behind(who, 2.3, 0.3, plain=True)
    return [drape], [Ribbon(outer, opening, plain=True, wave=0.02)]


def _strands(ribbon: Ribbon, rng: np.random.Generator, count: int) -> np.ndarray:
    """Points of `count` strands, (count, 9, 2)."""
    index = np.linspace(0, 1, len(ribbon.root))
    start = rng.random((count, 1))
    if ribbon.along:
        across = rng.random((count, 1))
        place = start - 0.25 + np.linspace(0, rng.uniform(0.35, 0.6, count), 9).T
        place = np.clip(place, 0, 1)
        across = across + 0.06 * (place - start) * rng.normal(size=(count, 1))
    else:
        end = rng.uniform(0.85, 1.0 if ribbon.plain else 1.06, count)
        across = np.linspace(0, end, 9).T
        lean = ribbon.lean * (1 + 0.3 * rng.normal(size=(count, 1)))
        lean = lean + rng.normal(0, 0.02, (count, 1))
        place = np.clip(start + lean * across * (0.4 + 0.6 * across), 0, 1)
    root, tip = (
        np.stack([np.interp(place, index, curve[:, c]) for c in (0, 1)], -1)
        for curve in (ribbon.root, ribbon.tip)
    )
    path = root + across[..., None] * (tip - root)
    phase = rng.uniform(0, 1, (count, 1)) + 5.5 * path[..., 1]
    path[..., 0] += ribbon.wave * np.sin(phase * 1.6) + 0.005 * rng.normal(size=path.shape[:2])
    return path


def _paint_ribbon(layer: np.ndarray, ribbon: Ribbon, colour: np.ndarray, rng) -> None:
    def pixels(points: np.ndarray) -> np.ndarray:
        return fixed_point((points - HAIR_LOW) * PIXELS_PER_UNIT)

    def opaque(factor: float) -> tuple:
        return (*np.clip(colour * ribbon.shade * factor, 0, 255).tolist(), 255)

    area = np.concatenate([ribbon.root, ribbon.tip[::-1]])
    cv2.fillPoly(layer, [pixels(area)], opaque(0.72 if not ribbon.plain else 0.95), cv2.LINE_AA, 4)
    if ribbon.curls:
        t, u = rng.random((2, 420))
        index = np.linspace(0, 1, len(ribbon.root))
        for c, (s, v) in enumerate(zip(t, u)):
            ends = [
                [np.interp(v, index, curve[:, k]) for k in (0, 1)]
                for curve in (ribbon.root, ribbon.tip)
            ]
            centre = pixels((1 - s) * np.array(ends[0]) + s * np.array(ends[1]))
            radius = int(rng.uniform(0.03, 0.08) * PIXELS_PER_UNIT * 16)
            shade = opaque(rng.uniform(0.6, 1.2))
            cv2.circle(layer, centre.tolist(), radius, shade, 2 - c % 2, cv2.LINE_AA, 4)
        return
    count = 24 if ribbon.plain else 190
    paths = pixels(_strands(ribbon, rng, count))
    factors = rng.uniform(0.88, 1.0, count) if ribbon.plain else rng.uniform(0.7, 1.34, count)
    colours = colour * ribbon.shade * factors[:, None] + 40 * np.maximum(factors[:, None] - 1.1, 0)
    colours = np.c_[np.clip(colours, 0, 255), np.full(count, 255)].tolist()
    widths = [3] * count if ribbon.plain else (1 + (rng.random(count) < 0.35)).tolist()
    for path, shade, width in zip(paths, colours, widths):
        cv2.polylines(layer, [path], False, shade, width, cv2.LINE_AA, 4)


def paint_hair(
    identity: Identity, light: np.ndarray, rng: np.random.Generator
) -> list[Sheet | None]:
    """Sheets of the hair [behind, before] the head, RGB premultiplied by alpha; None for none.

    Args:
        light: (3,) factor by which the scene's light colours the hair.
    """
    size = np.int32((np.array(HAIR_HIGH) - HAIR_LOW) * PIXELS_PER_UNIT)
    colour = identity.hair * light
    if identity.hair_style == "scarf":
        colour = (0.5 * rng.uniform(20, 235, 3) + 0.5 * rng.uniform(20, 235)) * light
    sheets = []
    for ribbons in style_ribbons(identity):
        layer = np.zeros((size[1], size[0], 4), np.uint8)
        for ribbon in ribbons:
            _paint_ribbon(layer, ribbon, colour, rng)
        y = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None]
        gloss = 1 + 0.28 * np.exp(-(((y - 0.2) / 0.06) ** 2)) - 0.12 * y
        rgb = np.clip(layer[..., :3] * gloss, 0, 255)
        layer[..., :3] = rgb
        soft = cv2.GaussianBlur(layer, (0, 0), 0.5)
        sheets.append(Sheet(soft, np.array(HAIR_LOW), PIXELS_PER_UNIT) if ribbons else None)
    return sheets
