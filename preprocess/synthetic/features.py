"""Shapes of eyes, brows, nose, mouth, wrinkles and glasses, ready to be filled, for all frames.

Each shape is a polygon or line in picture pixels with 4 fractional bits, one per frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from svfap.preprocess.synthetic.face import (
    LID_POSITIONS,
    LIP_POSITIONS,
    SIDES,
    FaceGeometry,
    spline,
)
from svfap.preprocess.synthetic.texture import fixed_point


@dataclass(frozen=True)
class Shape:
    """One polygon or line through a clip."""

    points: np.ndarray  # (T, k, n, 2) int32, k pieces, pixels with 4 fractional bits
    colour: tuple  # RGB and 255
    alpha: np.ndarray  # (T,) opacity 0..1
    line_px: int = 0  # line width; 0 fills the polygon

    def __post_init__(self):
        margin = 2 + self.line_px
        low = np.maximum((self.points.min((1, 2)) >> 4) - margin, 0)
        object.__setattr__(self, "low", low.astype(np.int32))
        object.__setattr__(self, "high", (self.points.max((1, 2)) >> 4) + margin + 1)

    def draw(self, canvas: np.ndarray, t: int) -> None:
        """Draw frame t, blended by the opacity, in place."""
        alpha, pieces = self.alpha[t], self.points[t]
        if alpha < 0.02:
            return
        if alpha > 0.98:
            self._fill(canvas, pieces)
            return
        (left, top), (right, bottom) = self.low[t], self.high[t]
        area = canvas[top:bottom, left:right]
        if area.size:
            target = area.copy()
            self._fill(target, pieces - (self.low[t] << 4))
            cv2.addWeighted(target, alpha, area, 1 - alpha, 0, dst=area)

    def _fill(self, canvas: np.ndarray, pieces: np.ndarray) -> None:
        if self.line_px:
            cv2.polylines(canvas, list(pieces), False, self.colour, self.line_px, cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(canvas, list(pieces), self.colour, cv2.LINE_AA, 4)


class FeatureShapes:
    """Builds the shapes of a clip.

    Args:
        place: function from projected face units (T, n, 2) to picture pixels.
        unit_px: pixels per face unit.
    """

    def __init__(self, geometry: FaceGeometry, place, unit_px: float):
        self.geometry = geometry
        self.place = place
        self.unit_px = unit_px
        self.ones = np.ones(len(geometry.rotation))

    def _shape(self, points, colour, alpha=1.0, line=0.0, depth=None, pieces=1) -> Shape:
        pixels = fixed_point(self.place(self.geometry.project(points, depth)))
        pixels = pixels.reshape(len(pixels), pieces, -1, 2)
        width = max(1, round(line * self.unit_px)) if line else 0
        colour = (*np.clip(colour, 0, 255).tolist(), 255)
        return Shape(pixels, colour, np.clip(alpha * self.ones, 0, 1), width)

    # ---- eyes -------------------------------------------------------------------------------

    def eyes(self) -> Iterator[Shape]:
        """White, iris, pupil, lid shadow, lashes of both eyes."""
        who = self.geometry.identity
        uppers, lowers = self.geometry.eyes
        lash = np.minimum(who.hair * 0.4, 60) * (0.5 if who.makeup > 0.3 else 1)
        for s in (0, 1):
            upper, lower = uppers[:, s], lowers[:, s]
            outline = np.concatenate([upper, lower[:, ::-1]], 1)
            yield self._shape(outline, (238, 232, 228))
            inner = outline[:, [0, 1, 2, 3, -4, -3, -2, -1]]
            yield self._shape(inner, (214, 158, 150), 0.6)
            rings = ((1.0, 0.5 * who.iris), (0.82, who.iris), (0.42, who.iris * 0 + 8))
            for radius, colour in rings:
                yield self._shape(self._iris(s, radius, upper, lower), colour)
            height = lower - upper
            shade = np.concatenate([upper, (upper + 0.3 * height)[:, ::-1]], 1)
            yield self._shape(shade, who.skin * 0.25, 0.45)
            yield self._shape(lower[:, 3:], who.skin * 0.5, 0.6, 0.014)
            thick = (0.012 + 0.012 * (who.makeup > 0.3)) * (0.5 + LID_POSITIONS)
            above = upper - np.stack([0 * thick, thick * 1.6], -1)
            flick = (0.02 + 0.02 * who.makeup) * np.array((SIDES[s], -0.5))
            line = np.concatenate([above, upper[:, -1:] + flick, upper[:, ::-1]], 1)
            yield self._shape(line, lash)

    def _iris(self, s: int, radius: float, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Disc of the iris cut off by the lids, (T, 24, 2)."""
        who, gaze = self.geometry.identity, self.geometry.motion.gaze
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        x = SIDES[s] * who.eye_x + 0.085 * gaze[:, :1] + radius * who.iris_radius * np.cos(angle)
        y = -0.018 + 0.035 * gaze[:, 1:] + radius * who.iris_radius * np.sin(angle)
        t = (SIDES[s] * x - who.eye_x) / who.eye_half_width * 0.5 + 0.5
        index = np.clip(t, 0, 1) * (len(LID_POSITIONS) - 1)
        low = np.minimum(index.astype(int), len(LID_POSITIONS) - 2)
        part = index - low

        def at(lid: np.ndarray) -> np.ndarray:
            rows = np.arange(len(lid))[:, None]
            return (1 - part) * lid[rows, low, 1] + part * lid[rows, low + 1, 1]

        return np.stack([x, np.clip(y, at(upper), np.maximum(at(lower), at(upper)))], -1)

    def catchlights(self) -> Iterator[Shape]:
        """Reflections on the eyes, gone when the lids are closed."""
        who, motion = self.geometry.identity, self.geometry.motion
        uppers, lowers = self.geometry.eyes
        angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
        ring = 0.024 * np.stack([np.cos(angle), np.sin(angle)], -1)
        for s, side in enumerate(SIDES):
            x = side * who.eye_x + 0.085 * motion.gaze[:, 0] + 0.045 * np.sign(motion.light[:, 0])
            y = -0.05 + 0.035 * motion.gaze[:, 1]
            y = np.maximum(y, uppers[:, s, 9, 1] + 0.035)
            open_px = lowers[:, s, 9, 1] - uppers[:, s, 9, 1]
            alpha = np.clip((open_px - 0.07) / 0.04, 0, 1) * 0.9
            points = np.stack([x, y], -1)[:, None] + ring
            yield self._shape(points, (250, 250, 250), alpha)

    # ---- brows ------------------------------------------------------------------------------

    def brows(self) -> Iterator[Shape]:
        """Brows as a soft area and hairs."""
        who = self.geometry.identity
        centre = self.geometry.brows
        to_dense = spline_matrix(5, 4)
        u = np.linspace(0, 1, 17)
        taper = np.interp(u, (0, 0.12, 0.5, 1), (0.55, 1, 0.85, 0.12)) * who.brow_thickness
        colour = np.minimum(who.hair * 0.75, (120, 100, 84))
        rng = np.random.Generator(np.random.Philox(int(1e6 * who.brow_y * -1)))
        for s in (0, 1):
            line = np.einsum("mn,tnc->tmc", to_dense, centre[:, s])
            offset = np.stack([0 * taper, taper], -1)
            area = np.concatenate([line - offset, (line + 0.75 * offset)[:, ::-1]], 1)
            yield self._shape(area, colour, 0.55 * who.brow_density)
            core = np.concatenate([line - 0.6 * offset, (line + 0.4 * offset)[:, ::-1]], 1)
            yield self._shape(core, colour * 0.9, 0.6 * who.brow_density)
            start, end = line[:, 1:14:2], line[:, 3:16:2]
            reach = taper[2:15:2] * rng.uniform(0.2, 0.9, (2, 7))
            hairs = [start + np.stack([0 * reach[0], reach[0]], -1)]
            hairs.append(end - np.stack([0 * reach[1], reach[1]], -1))
            hairs = np.stack(hairs, 2).reshape(len(line), 14, 2)
            yield self._shape(hairs, colour * 0.7, 0.7, 0.012, pieces=7)

    # ---- nose -------------------------------------------------------------------------------

    def nose(self) -> Iterator[Shape]:
        """Nostrils; the rest of the nose is relief."""
        who = self.geometry.identity
        base = self.geometry.nose_base
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        for s, side in enumerate(SIDES):
            centre = 0.5 * (base[:, 1 if s == 0 else 3] + base[:, 0 if s == 0 else 4])
            centre = centre * (0.72, 1) + (0, 0.012)
            ring = (
                np.stack([0.055 * np.cos(angle), 0.022 * np.sin(angle)], -1) * who.nose_width / 0.2
            )
            ring[:, 1] -= 0.25 * side * ring[:, 0] * -1
            yield self._shape(centre[:, None] + ring, who.skin * (0.3, 0.2, 0.2), 0.75)

    # ---- mouth ------------------------------------------------------------------------------

    def mouth(self) -> Iterator[Shape]:
        """Inside of the mouth, tongue, teeth and lips."""
        who = self.geometry.identity
        lips = self.geometry.mouth
        upper, lower = lips["inner_upper"], lips["inner_lower"]
        gap = lower[:, 20, 1] - upper[:, 20, 1]
        seen = np.clip((gap - 0.012) / 0.02, 0, 1)
        inside = np.concatenate([upper, lower[:, ::-1]], 1)
        yield self._shape(inside, (66, 22, 26))
        yield self._between(lower - 0.4 * (lower - upper), lower, 0.6, (172, 78, 84), seen * 0.8)
        jaw = self.geometry.jaw_drop[:, None]
        f = LIP_POSITIONS
        edge = who.mouth_y + 0.04 - 0.05 * f**2 + 0 * jaw
        low_edge = who.mouth_y + 0.075 + 0.82 * jaw.clip(0) - 0.03 * f**2
        teeth = np.stack([upper[..., 0], np.clip(edge, upper[..., 1], lower[..., 1])], -1)
        low_teeth = np.stack([upper[..., 0], np.clip(low_edge, upper[..., 1], lower[..., 1])], -1)
        yield self._between(low_teeth, lower, 0.62, (206, 196, 184), seen)
        yield self._between(upper, teeth, 0.78, (236, 230, 218), seen)
        yield self._tooth_gaps(upper, teeth, seen)
        dark, light = who.lip_colour * 0.9, np.minimum(who.lip_colour * 1.08, 255)
        yield self._ring(lips["outer_upper"], upper, dark, 0.92)
        yield self._ring(lower, lips["outer_lower"], light, 0.92)
        glow = lower + (lips["outer_lower"] - lower) * 0.25
        glow_end = lower + (lips["outer_lower"] - lower) * 0.62
        shine = np.minimum(light * 1.22 + 12, 255)
        yield self._between(glow, glow_end, 0.5, shine, 0.45)
        yield self._shape(upper, who.lip_colour * (0.42, 0.3, 0.3), 0.85, 0.018)
        yield self._shape(lower[:, 2:-2], who.lip_colour * (0.42, 0.3, 0.3), 0.5 * seen, 0.014)

    def _tooth_gaps(self, top: np.ndarray, bottom: np.ndarray, seen: np.ndarray) -> Shape:
        """Fine lines between the upper teeth."""
        steps = list(range(8, 33, 4))
        lines = np.stack([top[:, steps], bottom[:, steps]], 2).reshape(len(top), -1, 2)
        return self._shape(lines, (150, 130, 118), 0.4 * seen, 0.008, pieces=len(steps))

    def _ring(self, top: np.ndarray, bottom: np.ndarray, colour, alpha) -> Shape:
        return self._shape(np.concatenate([top, bottom[:, ::-1]], 1), colour, alpha)

    def _between(self, top, bottom, reach: float, colour, alpha) -> Shape:
        """Area between two lip curves for positions up to `reach` from the middle."""
        keep = np.abs(LIP_POSITIONS) <= reach
        return self._ring(top[:, keep], bottom[:, keep], colour, alpha)

    # ---- glasses, ears ----------------------------------------------------------------------

    def ears(self, skin: np.ndarray) -> Iterator[Shape]:
        """Ears beside the head, behind the face."""
        who = self.geometry.identity
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ring = np.stack([np.cos(angle) * (0.13 - 0.03 * np.sin(angle)), 0.27 * np.sin(angle)], -1)
        for side in SIDES:
            centre = np.array((side * (who.face_width + 0.02), 0.2))
            yield self._shape(centre + ring * who.ear_size, skin * 0.92, depth=-0.05)
            fold = centre + (side * 0.02, 0) + ring * 0.6 * who.ear_size
            yield self._shape(fold, skin * (0.72, 0.66, 0.66), depth=-0.04)
            if who.earrings:
                drop = centre + (side * 0.01, 0.29 * who.ear_size) + ring * (0.3, 0.16)
                yield self._shape(drop, (226, 200, 130), depth=-0.03)

    def glasses(self) -> Iterator[Shape]:
        """Frames before the eyes; empty for most people."""
        who = self.geometry.identity
        if who.glasses == "none":
            return
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        power = 1.0 if who.glasses == "round" else 0.5
        shape_x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
        shape_y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
        high = 0.27 if who.glasses == "round" else 0.21
        ring = np.stack([0.33 * shape_x, high * shape_y], -1)
        for side in SIDES:
            rim = ring + (side * (who.eye_x + 0.01), 0.04)
            if who.glasses == "half_rim":
                rim = rim[rim[:, 1] < 0.06]
                rim = rim[np.argsort(rim[:, 0])]
                yield self._shape(rim, who.glasses_colour, 1.0, 0.03, depth=0.95)
            else:
                closed = np.concatenate([rim, rim[:1]])
                yield self._shape(closed, who.glasses_colour, 1.0, 0.034, depth=0.95)
            glare = rim[:: max(1, len(rim) // 4)][:3] * (0.9, 0.9)
            yield self._shape(glare, (245, 250, 255), 0.07, depth=0.95)
            hinge = np.array(
                [(side * (who.eye_x + 0.34), 0.0), (side * (who.face_width - 0.02), 0.02)]
            )
            depth = np.array((0.95, 0.1))
            yield self._shape(hinge, who.glasses_colour, 1.0, 0.03, depth=depth)
        bridge = [(-0.1, 0.02), (0.0, -0.015), (0.1, 0.02)]
        yield self._shape(np.array(bridge), who.glasses_colour, 1.0, 0.03, depth=1.0)


def spline_matrix(num_points: int, per_segment: int) -> np.ndarray:
    """Matrix that turns control points into the points of `spline`, (m, num_points)."""
    columns = []
    for i in range(num_points):
        unit = np.zeros((num_points, 2))
        unit[i] = 1
        columns.append(spline(unit, per_segment)[:, 0])
    return np.stack(columns, 1)
