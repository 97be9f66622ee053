"""Geometry of a synthetic face: action units -> contours, skin displacement, 68 landmarks.

All contours of all frames of a clip are computed at once, in face units (see
`synthetic_identity`), then turned with the head and projected orthographically. The picture is
drawn from the same points that become the landmarks, so these are exact.
"""

import functools

import numpy as np

from svfap.preprocess.synthetic.identity import Identity
from svfap.preprocess.synthetic.motion import AU_NAMES, Motion, au_index

PIVOT = np.array((0.0, 0.35, 0.3))
LIP_POSITIONS = np.linspace(-1, 1, 41)
OUTER_LIP_STEPS = (0, 8, 15, 20, 25, 32, 40)
INNER_LIP_STEPS = (3, 14, 20, 26, 37)
LID_POSITIONS = np.linspace(0, 1, 19)
LID_STEPS = (6, 12)
SIDES = (-1.0, 1.0)


def surface_depth(x: np.ndarray, y: np.ndarray, identity: Identity) -> np.ndarray:
    """Depth z of the face's surface over (x, y): a smooth dome and the nose, in face units."""
    dome = 0.95 * np.exp(-((x / 1.28) ** 2) - ((y - 0.25) / 1.75) ** 2)
    along = np.clip((y + 0.15) / (identity.nose_y + 0.15), 0, 1.35)
    profile = along * np.clip((1.35 - along) / 0.35, 0, 1)
    return dome + identity.nose_height * profile * np.exp(-((x / 0.2) ** 2))


def rotation(pose: np.ndarray) -> np.ndarray:
    """Rotation of the head from yaw, pitch and roll, (T, 3) radians -> (T, 3, 3)."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(pose).T, np.sin(pose).T
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    pitch = np.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], -1).reshape(-1, 3, 3)
    yaw = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).reshape(-1, 3, 3)
    roll = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return roll @ yaw @ pitch


def spline(points: np.ndarray, per_segment: int) -> np.ndarray:
    """Smooth (Catmull-Rom) curve through points, (n, 2) -> ((n - 1) * per_segment + 1, 2)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = (np.arange(per_segment) / per_segment)[:, None, None]
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i] for i in range(4))
    curve = p1 + 0.5 * t * (
        p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
    )
    return np.concatenate([curve.swapaxes(0, 1).reshape(-1, 2), points[-1:]])


def even_spline(points: np.ndarray, per_segment: int, count: int) -> np.ndarray:
    """`count` evenly spaced points of a `spline`, (count, 2)."""
    dense = spline(points, per_segment)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    even = np.linspace(0, length[-1], count)
    return np.stack([np.interp(even, length, dense[:, c]) for c in (0, 1)], 1)


class FaceGeometry:
    """Contours of one person under given action units.

    Args:
        motion: movement of T frames.
    """

    def __init__(self, identity: Identity, motion: Motion):
        self.identity = identity
        self.motion = motion
        units = motion.action_units[:, :, None]
        lean = identity.au_asymmetry[:, None] * np.array((1.0, -1.0))
        self.units = np.clip(units * (1 + lean), 0, 1)  # (T, A, 2 sides)
        self.rotation = rotation(motion.pose)
        self.jaw_drop = np.minimum(self.mean("AU26") * 0.19 + self.mean("AU27") * 0.3, 0.38)
        self.jaw_drop += 0.02 * self.mean("AU25") - 0.03 * self.mean("AU17")
        self.neutral_jaw = self._neutral_jaw()

    def side(self, name: str) -> np.ndarray:
        """Intensity on the picture's left and right side, (T, 2)."""
        return self.units[:, au_index(name)]

    def mean(self, name: str) -> np.ndarray:
        """Intensity over both sides, (T,)."""
        return self.units[:, au_index(name)].mean(1)

    # ---- projection -------------------------------------------------------------------------

    def project(self, points: np.ndarray, depth: np.ndarray | float | None = None) -> np.ndarray:
        """Turn and project points of the face.

        Args:
            points: (T, n, 2) or (n, 2) in face units.
            depth: z of the points; None: on the face's surface.

        Returns:
            (T, n, 2) in face units of the picture, before zoom and shift.
        """
        points = np.broadcast_to(points, (len(self.rotation), *points.shape[-2:]))
        if depth is None:
            depth = surface_depth(points[..., 0], points[..., 1], self.identity)
        depth = np.broadcast_to(depth, points.shape[:-1])
        solid = np.concatenate([points, depth[..., None]], -1) - PIVOT
        return solid @ self.rotation[:, :2].swapaxes(1, 2) + PIVOT[:2]

    def unproject(self, flat: np.ndarray) -> np.ndarray:
        """Points of the surface seen at places of the picture, the inverse of `project`.

        Args:
            flat: (T, n, 2) places in face units of the picture.

        Returns:
            (T, n, 2) on the face, by fixed-point iteration, in the type of `flat`.
        """
        plane = np.linalg.inv(self.rotation[:, :2, :2])
        slant = np.einsum("tij,tj->ti", plane, self.rotation[:, :2, 2])[:, None].astype(flat.dtype)
        pivot = PIVOT.astype(flat.dtype)
        target = (flat - pivot[:2]) @ plane.swapaxes(1, 2).astype(flat.dtype) + pivot[:2]
        points = target
        for _ in range(5):
            depth = surface_depth(points[..., 0], points[..., 1], self.identity) - pivot[2]
            points = 0.3 * points + 0.7 * (target - depth[..., None] * slant)
        return points

    # ---- skin -------------------------------------------------------------------------------

    def displacement_basis(self, points: np.ndarray) -> np.ndarray:
        """Fields by which muscles pull the skin, (n, 2) points -> (K, n, 2)."""
        who = self.identity
        x, y = points[:, 0], points[:, 1]

        def bump(cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
            return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)

        drop = np.clip((y - 0.45) / (who.chin_y - 0.45), 0, 1.2)
        fields = [(0 * x, drop * drop * (3 - 2 * np.minimum(drop, 1)))]
        for side in SIDES:
            corner = bump(side * who.mouth_half_width, who.mouth_y, 0.24, 0.24)
            fields += [(side * corner, 0 * x), (0 * x, corner)]
            for place in (
                (0.52, 0.42, 0.28, 0.28),
                (who.nose_width, who.nose_y, 0.14, 0.16),
                (0.2, -0.3, 0.22, 0.22),
                (0.65, -0.3, 0.26, 0.22),
            ):
                fields.append((0 * x, bump(side * place[0], *place[1:])))
        fields.append((0 * x, bump(0, who.mouth_y - 0.17, 0.3, 0.12)))
        fields.append((0 * x, bump(0, who.mouth_y + 0.3, 0.25, 0.14)))
        return np.stack([np.stack(field, -1) for field in fields])

    @functools.cached_property
    def displacement_weights(self) -> np.ndarray:
        """How far each field pulls in each frame, (T, K), face units."""
        columns = [self.jaw_drop]
        for s in (0, 1):
            au = {name: self.units[:, i, s] for i, name in enumerate(AU_NAMES)}
            columns += [
                0.08 * au["AU12"] + 0.1 * au["AU20"] + 0.03 * au["AU14"] - 0.08 * au["AU18"],
                -0.15 * au["AU12"] + 0.1 * au["AU15"] + 0.03 * au["AU20"],
                -0.07 * au["AU06"] - 0.05 * au["AU12"] - 0.03 * au["AU09"],
                -0.06 * au["AU09"] - 0.03 * au["AU10"],
                -0.12 * au["AU01"] + 0.09 * au["AU04"] + 0.04 * au["AU09"],
                -0.12 * au["AU02"] + 0.06 * au["AU04"],
            ]
        columns.append(-0.06 * self.mean("AU10") - 0.04 * self.mean("AU09"))
        columns.append(-0.05 * self.mean("AU17"))
        return np.stack(columns, 1)

    def displace(self, points: np.ndarray) -> np.ndarray:
        """Move points of the resting skin with the muscles, (n, 2) -> (T, n, 2)."""
        return points + np.einsum(
            "tk,knc->tnc", self.displacement_weights, self.displacement_basis(points)
        )

    def _neutral_jaw(self) -> np.ndarray:
        """Contour from one ear over the chin to the other at rest, (65, 2)."""
        who = self.identity
        half = np.array(
            [
                (who.face_width, 0.0),
                (who.face_width * (0.965 + 0.02 * who.cheekbones), 0.42),
                (who.jaw_width, who.jaw_height),
                (who.chin_width + 0.46 * (who.jaw_width - who.chin_width), who.chin_y - 0.21),
                (who.chin_width * 0.72, who.chin_y - 0.03),
                (0.0, who.chin_y),
            ]
        )
        return even_spline(np.concatenate([half * (-1, 1), half[-2::-1]]), 12, 65)

    @functools.cached_property
    def jaw(self) -> np.ndarray:
        """Contour from one ear over the chin to the other, (T, 65, 2)."""
        weights, basis = self.displacement_weights, self.displacement_basis(self.neutral_jaw)
        moved = self.neutral_jaw + np.einsum("t,nc->tnc", weights[:, 0], basis[0])
        narrow = 1 - 0.12 * self.jaw_drop[:, None] * np.clip(self.neutral_jaw[:, 1], 0, 1)
        return np.stack([moved[..., 0] * narrow, moved[..., 1]], -1)

    # ---- eyes and brows ---------------------------------------------------------------------

    @functools.cached_property
    def brows(self) -> np.ndarray:
        """Centre lines of both brows from inner to outer end, (T, 2, 5, 2)."""
        who = self.identity
        u = np.linspace(0, 1, 5)
        inner, outer = (1 - u) ** 1.3, np.clip(0.2 + 1.3 * u, 0, 1)
        lines = []
        for s, side in enumerate(SIDES):
            au = {name: self.units[:, i, s, None] for i, name in enumerate(AU_NAMES)}
            y = who.brow_y + who.brow_slope * u - who.brow_arch * np.sin(np.pi * u**0.85 * 0.92)
            y = y - 0.2 * au["AU01"] * inner - 0.185 * au["AU02"] * outer
            y = y + au["AU04"] * (0.145 - 0.06 * u) * (1 - 0.75 * au["AU01"] * inner)
            y = y + 0.085 * au["AU09"] * (1 - 0.8 * u) - 0.015 * au["AU05"]
            x = 0.17 + who.brow_length * u - 0.06 * au["AU04"] * (1 - 0.7 * u)
            lines.append(np.stack([side * x, y], -1))
        return np.stack(lines, 1)

    @functools.cached_property
    def eyes(self) -> tuple[np.ndarray, np.ndarray]:
        """Upper and lower lid margins from inner to outer corner, (T, 2, 19, 2) each."""
        who = self.identity
        t = LID_POSITIONS
        bulge = np.sin(np.pi * t**0.9)
        upper_lids, lower_lids = [], []
        for s, side in enumerate(SIDES):
            au = {name: self.units[:, i, s, None] for i, name in enumerate(AU_NAMES)}
            x = side * (who.eye_x + who.eye_half_width * (2 * t - 1))
            corner = who.eye_tilt * (0.5 - t) + 0.012 * (1 - t)
            squint = 0.3 * au["AU07"] + 0.16 * au["AU06"] + 0.18 * au["AU09"] + 0.1 * au["AU04"]
            up = who.eye_upper * (1 + 0.8 * au["AU05"] - squint)
            low = who.eye_lower * (1 + 0.25 * au["AU05"])
            low = low * (1 - 0.85 * au["AU07"] - 0.75 * au["AU06"] - 0.35 * au["AU09"])
            lower = corner + np.maximum(low, -0.03) * np.sin(np.pi * t**1.1) ** 0.8
            upper = corner - up * bulge**0.72
            meeting = lower - 0.006 * bulge
            closure = au["AU43"]
            upper = np.minimum(upper + closure * (meeting - upper), lower - 0.004 * bulge)
            x = np.broadcast_to(x, upper.shape)
            upper_lids.append(np.stack([x, upper], -1))
            lower_lids.append(np.stack([x, lower], -1))
        return np.stack(upper_lids, 1), np.stack(lower_lids, 1)

    # ---- mouth ------------------------------------------------------------------------------

    @functools.cached_property
    def mouth(self) -> dict[str, np.ndarray]:
        """The four lip curves from the picture's left to right corner, (T, 41, 2) each."""
        who, f = self.identity, LIP_POSITIONS
        au = {name: self.mean(name)[:, None] for name in AU_NAMES}
        width, corner_y = self._corners()  # (T, 2)
        is_right = (f > 0).astype(int)
        x = width[:, is_right] * f
        opening = np.maximum(0, 1 - (np.abs(f) / 0.9) ** 2.4)
        middle = who.mouth_y + 0.22 * self.jaw_drop[:, None] - 0.045 * au["AU17"]
        middle = middle - 0.03 * au["AU09"] - 0.012 * au["AU10"]
        bend = np.abs(f) ** (1.7 + 0.35 * au["AU12"])
        line = middle + (corner_y[:, is_right] - middle) * bend
        lift = (0.12 * au["AU10"] + 0.05 * au["AU09"]) * (1 - np.abs(f) ** 3)
        gap = np.maximum(au["AU25"], np.maximum(au["AU26"], au["AU27"]) * 0.6)
        up = gap * (0.022 + 0.06 * au["AU10"] + 0.03 * au["AU12"] + 0.03 * au["AU18"])
        down = gap * (0.06 + 0.05 * au["AU16"] + 0.05 * au["AU12"] + 0.02 * au["AU20"])
        down = down + 0.015 * au["AU10"] + 0.05 * au["AU16"]
        down = down + np.minimum(1.0, 1.6 * gap) * 0.78 * self.jaw_drop[:, None].clip(0)
        push = 0.055 * au["AU17"] * (1 - f**2) ** 1.5
        inner_upper = line - up * opening - lift * (0.45 + 0.55 * np.minimum(1, 1.5 * gap))
        inner_lower = line + down * opening - push * (1 - np.minimum(1, gap)) - lift * 0.4
        inner_lower = np.maximum(inner_lower, inner_upper + 0.002)
        press = 0.5 * au["AU23"] + 0.62 * au["AU24"] + 0.2 * au["AU12"] + 0.25 * au["AU20"]
        press = press + 0.12 * au["AU27"] - 0.35 * au["AU18"]
        slim = np.clip(1 - press, 0.18, 1.4)
        bow = who.lip_bow * (1 - 0.5 * au["AU12"]) * np.exp(-((f / 0.13) ** 2))
        upper_shape = np.maximum(0, 1 - np.abs(f) ** 1.5) ** 0.9 * (1 + 0.12 * who.lip_bow - bow)
        lower_shape = np.maximum(0, 1 - np.abs(f) ** 2.1) ** 0.85
        top = inner_upper - who.lip_upper * slim * upper_shape
        bottom = inner_lower + who.lip_lower * slim * (1 + 0.15 * au["AU17"]) * lower_shape
        curves = {"outer_upper": top, "inner_upper": inner_upper}
        curves.update(inner_lower=inner_lower, outer_lower=bottom)
        return {name: np.stack([x, curve], -1) for name, curve in curves.items()}

    def _corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance of the mouth's corners from the middle and their height, (T, 2) each."""
        who, side = self.identity, self.side
        width = 1 + 0.3 * side("AU12") + 0.3 * side("AU20") + 0.08 * side("AU14")
        width = width + 0.04 * side("AU10") + 0.05 * side("AU15") - 0.42 * side("AU18")
        width = width - 0.2 * side("AU23") - 0.05 * side("AU26") - 0.16 * side("AU27")
        height = who.mouth_y - 0.23 * side("AU12") + 0.19 * side("AU15") + 0.06 * side("AU20")
        height = height - 0.05 * side("AU09") - 0.03 * side("AU10") - 0.02 * side("AU14")
        height = height + 0.5 * self.jaw_drop[:, None] - 0.02 * side("AU17")
        return who.mouth_half_width * np.maximum(width, 0.5), height

    # ---- nose and landmarks -----------------------------------------------------------------

    @functools.cached_property
    def nose_base(self) -> np.ndarray:
        """Five points under the nose from the picture's left to right, (T, 5, 2)."""
        who = self.identity
        spread = 1 + 0.12 * (self.mean("AU09") + self.mean("AU10"))[:, None]
        x = who.nose_width * 0.92 * np.array((-1, -0.5, 0, 0.5, 1)) * spread
        y = who.nose_y + np.array((-0.01, 0.045, 0.065, 0.045, -0.01))
        lift = 0.075 * self.mean("AU09") + 0.03 * self.mean("AU10")
        return np.stack([x, y - lift[:, None] * (1, 0.8, 0.6, 0.8, 1)], -1)

    def landmarks(self) -> np.ndarray:
        """The 68 points in the iBUG 300-W order, (T, 68, 2) in face units on the face."""
        brows, mouth = self.brows, self.mouth
        upper, lower = self.eyes
        bridge_y = np.linspace(0.0, self.identity.nose_y - 0.05, 4)
        bridge = np.stack([np.zeros(4), bridge_y], 1)
        bridge = np.broadcast_to(bridge, (len(brows), 4, 2))
        first, second = list(LID_STEPS)
        left = [upper[:, 0, -1], upper[:, 0, second], upper[:, 0, first], upper[:, 0, 0]]
        left += [lower[:, 0, first], lower[:, 0, second]]
        right = [upper[:, 1, 0], upper[:, 1, first], upper[:, 1, second], upper[:, 1, -1]]
        right += [lower[:, 1, second], lower[:, 1, first]]
        inside = list(INNER_LIP_STEPS)
        return np.concatenate(
            [
                self.jaw[:, ::4],
                brows[:, 0, ::-1],
                brows[:, 1],
                bridge,
                self.nose_base,
                np.stack(left + right, 1),
                mouth["outer_upper"][:, list(OUTER_LIP_STEPS)],
                mouth["outer_lower"][:, list(OUTER_LIP_STEPS[-2:0:-1])],
                mouth["inner_upper"][:, inside],
                mouth["inner_lower"][:, inside[-2:0:-1]],
            ],
            axis=1,
        )
