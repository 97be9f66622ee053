"""Wrinkles, folds and bulges that action units make in the skin, as soft dark and light strokes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from svfap.preprocess.synthetic.face import SIDES, FaceGeometry


@dataclass(frozen=True)
class Stroke:
    """A line or area that darkens (positive) or lightens (negative) the skin."""

    points: np.ndarray  # (T, n, 2) in face units on the face
    strength: np.ndarray  # (T,) -1..1
    width: float  # line width in face units; 0 fills the polygon
    soft: bool = False  # drawn on the strongly blurred layer


def _still(face: FaceGeometry, points: list) -> np.ndarray:
    return face.displace(np.array(points, dtype=np.float64))


def _blob(face: FaceGeometry, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return face.displace(np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1))


def strokes(face: FaceGeometry) -> list[Stroke]:
    """All strokes of a clip, those that never show left out."""
    result = [*_forehead(face), *_eyes(face), *_cheeks_and_nose(face), *_mouth_and_chin(face)]
    return [stroke for stroke in result if np.abs(stroke.strength).max() > 0.02]


def _forehead(face: FaceGeometry) -> Iterator[Stroke]:
    age, m = face.identity.age, face.mean
    raised = np.maximum(m("AU01"), m("AU02")) * (0.35 + 0.45 * age)
    for i, y in enumerate((-0.5, -0.6, -0.71)):
        inner = [(x, y - 0.02 + 0.06 * x * x * 4 * (0.3 - 0.0)) for x in np.linspace(-0.5, 0.5, 9)]
        level = raised * (1, 0.9, 0.6)[i] + 0.1 * max(0.0, age - 0.4)
        yield Stroke(_still(face, inner), level, 0.02)
    frown = m("AU04") * (0.45 + 0.25 * age)
    for side in SIDES:
        line = [(side * 0.075, -0.38), (side * 0.065, -0.27), (side * 0.085, -0.16)]
        yield Stroke(_still(face, line), frown + 0.05 * age, 0.026)
    yield Stroke(_blob(face, 0, -0.27, 0.14, 0.1), 0.22 * m("AU04"), 0, True)


def _eyes(face: FaceGeometry) -> Iterator[Stroke]:
    who, m = face.identity, face.mean
    upper, lower = face.eyes
    for s, side in enumerate(SIDES):
        lift = 0.05 + 0.02 * who.lid_crease - 0.02 * m("AU05")[:, None] + 0.03 * m("AU43")[:, None]
        crease = upper[:, s, 1:] - np.stack([0 * lift, lift], -1)
        yield Stroke(crease, (0.35 + 0.3 * who.lid_crease) * (1 - 0.3 * m("AU04")), 0.022)
        socket = np.concatenate([upper[:, s], crease[:, ::-1]], 1)
        yield Stroke(socket, 0.12 + 0 * m("AU04"), 0, True)
        bag = lower[:, s, 2:-1] + (0, 0.075)
        tight = 0.1 + 0.25 * who.age + 0.4 * m("AU06") + 0.35 * m("AU07") + 0.15 * m("AU09")
        yield Stroke(bag, tight * 0.8, 0.022)
        corner = np.array((side * (who.eye_x + who.eye_half_width + 0.04), 0.0))
        for angle in (-0.35, 0.05, 0.45):
            tip = corner + 0.16 * np.array((side * np.cos(angle), np.sin(angle)))
            level = m("AU06") * (0.25 + 0.4 * who.age)
            yield Stroke(_still(face, [corner, tip]), level, 0.016)


def _cheeks_and_nose(face: FaceGeometry) -> Iterator[Stroke]:
    who, m = face.identity, face.mean
    lips = face.mouth["inner_upper"]
    base = face.nose_base
    fold = 0.12 + 0.3 * who.age + 0.55 * m("AU12") + 0.5 * m("AU10") + 0.55 * m("AU09")
    fold = np.minimum(fold + 0.15 * m("AU06") + 0.1 * m("AU20"), 0.85)
    for s, side in enumerate(SIDES):
        wing, corner = base[:, 0 if s == 0 else 4], lips[:, 0 if s == 0 else -1]
        start = wing + (side * 0.035, -0.05)
        end = corner + (side * 0.1, -0.02)
        bulge = 0.06 + 0.05 * m("AU12")[:, None] + 0.05 * m("AU10")[:, None]
        middle = 0.5 * (start + end) + bulge * np.array((side, -0.25))
        t = np.linspace(0, 0.95, 9)[None, :, None]
        curve = (
            (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * middle[:, None] + t**2 * end[:, None]
        )
        yield Stroke(curve, fold * 0.75, 0.024)
        yield Stroke(curve + (side * 0.0, 0.02), fold * 0.4, 0.1, True)
        apple = -0.25 * np.minimum(m("AU06") + 0.6 * m("AU12"), 1)
        yield Stroke(_blob(face, side * 0.55, 0.36, 0.2, 0.13), apple, 0, True)
        wing_line = [(side * (who.nose_width - 0.02), who.nose_y - 0.14)]
        wing_line += [(side * (who.nose_width + 0.015), who.nose_y - 0.06)]
        wing_line += [(side * (who.nose_width - 0.01), who.nose_y + 0.015)]
        yield Stroke(_still(face, wing_line), 0.35 + 0.3 * m("AU09"), 0.022)
        for y in (0.06, 0.15, 0.24):
            wrinkle = [(side * 0.03, y - 0.04), (side * 0.15, y + 0.015)]
            yield Stroke(_still(face, wrinkle), 0.55 * m("AU09"), 0.02)
        flank = [(side * 0.16, 0.1), (side * 0.2, 0.35), (side * (who.nose_width + 0.03), 0.5)]
        yield Stroke(_still(face, flank), 0.16 + 0.25 * m("AU09"), 0.07, True)
    under = [(-0.14, who.nose_y + 0.07), (0, who.nose_y + 0.1), (0.14, who.nose_y + 0.07)]
    yield Stroke(_still(face, under), 0.32 + 0 * fold, 0.06, True)


def _mouth_and_chin(face: FaceGeometry) -> Iterator[Stroke]:
    who, m = face.identity, face.mean
    mouth = face.mouth
    below = mouth["outer_lower"][:, 10:31] + (0, 0.05)
    yield Stroke(below, 0.3 + 0.2 * m("AU17"), 0.07, True)
    corners = mouth["inner_upper"][:, [0, -1]]
    for s, side in enumerate(SIDES):
        corner = corners[:, s, None]
        dimple = corner + np.array(
            [(side * 0.035, -0.04), (side * 0.05, 0.0), (side * 0.035, 0.05)]
        )
        level = 0.22 + 0.3 * m("AU12") + 0.55 * m("AU14") + 0.35 * m("AU20") + 0.2 * m("AU15")
        yield Stroke(dimple, np.minimum(level, 0.8), 0.03)
        down = corner + np.array([(side * 0.05, 0.03), (side * 0.08, 0.12), (side * 0.09, 0.22)])
        yield Stroke(down, 0.1 * who.age + 0.5 * m("AU15") + 0.2 * m("AU17"), 0.03)
        stretch = corner + np.array([(side * 0.12, -0.1), (side * 0.16, 0.02), (side * 0.14, 0.16)])
        yield Stroke(stretch, 0.4 * m("AU20"), 0.04)
    y = who.mouth_y + 0.3
    dent = [(-0.14, y + 0.06), (-0.07, y), (0, y - 0.01), (0.07, y), (0.14, y + 0.06)]
    yield Stroke(_still(face, dent), 0.5 * m("AU17"), 0.03)
    boss = _blob(face, 0, y + 0.12, 0.13, 0.08)
    yield Stroke(boss, -0.15 * m("AU17"), 0, True)
