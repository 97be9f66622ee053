"""Draws the frames of one synthetic clip.

A frame is built from the back to the front: background and shoulders, hair behind, ears, skin
(texture pulled by muscles and turned with the head by an inverse map), features as anti-aliased
polygons, light, glasses, hair before, camera. The canvas is larger than the frame and averaged
down at the end.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from svfap.preprocess.synthetic.face import SIDES, FaceGeometry
from svfap.preprocess.synthetic.features import FeatureShapes
from svfap.preprocess.synthetic.hair import paint_hair
from svfap.preprocess.synthetic.identity import Identity, Scene
from svfap.preprocess.synthetic.motion import Motion
from svfap.preprocess.synthetic.texture import (
    SKIN_HIGH,
    SKIN_LOW,
    Sheet,
    fixed_point,
    lay,
    paint_background,
    paint_body,
    paint_skin,
    relief_normals,
    sheet_grid,
)
from svfap.preprocess.synthetic.wrinkles import strokes

GRID_STEP = 12
BASE = 150  # value of the wrinkle layers that leaves the skin as it is
NOISE_MARGIN = 48


@functools.cache
def noise_bank(size: int) -> np.ndarray:
    """Camera noise of unit strength, partly common to the colours, larger than a frame."""
    rng = np.random.Generator(np.random.Philox(size))
    side = size + NOISE_MARGIN
    noise = rng.standard_normal((side, side, 1), np.float32)
    return np.clip(noise + 0.5 * rng.standard_normal((side, side, 3), np.float32), -4, 4)


@dataclass(frozen=True)
class Framing:
    """Where the face stands in the frame, as fractions of the frame's side."""

    window: tuple[float, float, float]  # top, left, side of the square that the face fills

    def unit(self) -> float:
        """Length of a face unit."""
        return self.window[2] / 3.05

    def centre(self) -> np.ndarray:
        """Place of the point between the eyes, (x, y)."""
        top, left, side = self.window
        return np.array((left + 0.5 * side, top + 0.36 * side))


FACE_CROP = Framing((0.0, 0.0, 1.0))
VOXCELEB2 = Framing((0.0, 32 / 224, 160 / 224))


class ClipRenderer:
    """Draws one person, scene and movement.

    Args:
        motion: movement of T frames.
        size: side of the frames in pixels.
        rng: generator for textures and camera noise.
        supersample: canvas pixels per frame pixel along each axis.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        scene: Scene,
        motion: Motion,
        framing: Framing,
        size: int,
        rng: np.random.Generator,
        supersample: float = 1.25,
    ):
        self.identity, self.scene, self.motion, self.rng = identity, scene, motion, rng
        self.size = size
        self.canvas_size = int(np.ceil(size * supersample / (2 * GRID_STEP))) * 2 * GRID_STEP
        self.scale = self.canvas_size / size
        self.unit_px = framing.unit() * self.canvas_size
        self.centre_px = framing.centre() * self.canvas_size - 0.5
        self.geometry = FaceGeometry(identity, motion)
        self.light = scene.ambient + 0.6 * scene.diffuse
        self._paint()
        self._prepare_shapes()
        self._prepare_maps()
        self._prepare_camera()

    # ---- preparation, once per clip ---------------------------------------------------------

    def place(self, flat: np.ndarray) -> np.ndarray:
        """Projected face units (T, n, 2) -> canvas pixels."""
        motion = self.motion
        moved = motion.zoom[:, None, None] * flat + motion.shift[:, None]
        return self.centre_px + self.unit_px * moved

    def landmarks(self) -> np.ndarray:
        """68 landmarks in frame pixels (centre of the first pixel is 0, 0), (T, 68, 2)."""
        canvas = self.place(self.geometry.project(self.geometry.landmarks()))
        return (canvas + 0.5) / self.scale - 0.5

    def _paint(self) -> None:
        self.skin = paint_skin(self.identity, self.rng)
        self.normals = relief_normals(self.identity)
        self.hair = paint_hair(self.identity, self.light, self.rng)
        self.backdrop = paint_background(self.scene, self.canvas_size)
        zoom, shift = self.motion.zoom.mean(), self.motion.shift.mean(0)
        self.body = paint_body(
            self.canvas_size,
            lambda points: self.centre_px + self.unit_px * (zoom * points + shift),
            self.identity,
            self.scene,
            self.rng,
        )
        if self.hair[0] is None:
            lay(self.backdrop, self.body)

    def _prepare_shapes(self) -> None:
        shapes = FeatureShapes(self.geometry, self.place, self.unit_px)
        self.ears = list(shapes.ears(self.identity.skin * self.light))
        self.features = [*shapes.nose(), *shapes.mouth(), *shapes.eyes(), *shapes.brows()]
        self.catchlights = list(shapes.catchlights())
        self.glasses = list(shapes.glasses())
        who, jaw = self.identity, self.geometry.jaw
        width, top = who.face_width, who.skull_height
        angle = np.linspace(0.25, np.pi - 0.25, 17)
        crown = np.stack([width * np.cos(angle), -0.2 - (top - 0.2) * np.sin(angle)], 1)
        front = self.place(
            self.geometry.project(
                np.concatenate([jaw, np.broadcast_to(crown, (len(jaw), *crown.shape))], 1)
            )
        )
        below = [(side * width * x, y) for side in SIDES for x, y in ((1, 0.1), (0.9, 0.5))]
        sides = np.concatenate([crown, below])
        self.outline = np.concatenate([front, self.place(self.geometry.project(sides, 0.12))], 1)
        self.strokes = []
        for stroke in strokes(self.geometry):
            points = fixed_point(self.place(self.geometry.project(stroke.points)) / 2)
            width_px = max(1, round(stroke.width * self.unit_px / 2)) if stroke.width else 0
            self.strokes.append((points, stroke.strength, width_px, stroke.soft))

    def _prepare_maps(self) -> None:
        """For a coarse grid of canvas places, the place of the face seen there."""
        count = self.canvas_size // GRID_STEP
        ticks = (np.arange(count) + 0.5) * GRID_STEP - 0.5
        grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
        flat = (grid - self.centre_px) / self.unit_px
        flat = (flat - self.motion.shift[:, None]) / self.motion.zoom[:, None, None]
        seen = self.geometry.unproject(flat.astype(np.float32))
        self.seen = seen.reshape(-1, count, count, 2).astype(np.float32)
        x, y = sheet_grid(SKIN_LOW, SKIN_HIGH, 16.0)
        basis = self.geometry.displacement_basis(np.stack([x.ravel(), y.ravel()], 1))
        weights = self.geometry.displacement_weights.astype(np.float32)
        pull = weights @ basis.reshape(len(basis), -1).astype(np.float32)
        self.pull = pull.reshape(-1, *x.shape, 2)
        to_light = np.einsum("tij,ti->tj", self.geometry.rotation, self.motion.light)
        self.to_light = to_light.astype(np.float32)

    def _prepare_camera(self) -> None:
        size = self.size
        levels = (np.arange(256) / 255) ** self.scene.gamma
        self.curves = np.clip(255 * levels * self.motion.gain[:, None], 0, 255).astype(np.uint8)
        self.noise = np.round(noise_bank(size) * self.scene.noise).astype(np.int16)
        self.noise_offsets = self.rng.integers(0, NOISE_MARGIN, (len(self.seen), 2))
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        vignette = 1 - self.scene.vignette * 0.5 * (x * x + y * y)
        self.vignette = np.repeat((255 * vignette[..., None]).astype(np.uint8), 3, 2)
        facing = np.linspace(0, 1, 256)[:, None]
        shine = facing**24 * 0.16 + facing * 1.05
        lit = 128 * (self.scene.ambient + shine * self.scene.diffuse)
        curve = np.concatenate([lit, np.full((256, 1), 255)], 1)
        self.light_curve = np.clip(curve, 0, 255).astype(np.uint8)[None]
        grey = np.full((3, 3), 1 / 3)
        mix = self.scene.saturation * np.eye(3) + (1 - self.scene.saturation) * grey
        self.saturation = mix.astype(np.float32)

    # ---- drawing, per frame -----------------------------------------------------------------

    def frame(self, t: int) -> np.ndarray:
        """Draw frame t, (size, size, 3) uint8 RGB."""
        canvas = self.backdrop.copy()
        behind, before = self.hair
        if behind is not None:
            lay(canvas, self._warp_behind(behind, t))
            lay(canvas, self.body)
        for shape in self.ears:
            shape.draw(canvas, t)
        self._draw_face(canvas, t)
        for shape in self.catchlights:
            shape.draw(canvas, t)
        for shape in self.glasses:
            shape.draw(canvas, t)
        if before is not None:
            lay(canvas, self._sample(before, self.seen[t], self.canvas_size))
        return self._camera(canvas, t)

    def _sample(self, sheet: Sheet, seen: np.ndarray, side: int, transparent: bool = True):
        coarse = sheet.to_pixels(seen).astype(np.float32)
        full = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
        border = cv2.BORDER_CONSTANT if transparent else cv2.BORDER_REPLICATE
        return cv2.remap(sheet.pixels, full, None, cv2.INTER_LINEAR, None, border)

    def _warp_behind(self, sheet: Sheet, t: int) -> np.ndarray:
        """Hair behind the head turns as a flat card."""
        anchors = np.float32([(0, -1), (1, 0.5), (-1, 0.5)])
        flat = self.geometry.rotation[t][:2] @ (np.c_[anchors, np.full(3, -0.4)] - (0, 0.35, 0.3)).T
        target = self.motion.zoom[t] * (flat.T + (0, 0.35)) + self.motion.shift[t]
        target = self.centre_px + self.unit_px * target
        matrix = cv2.getAffineTransform(
            sheet.to_pixels(anchors).astype(np.float32), target.astype(np.float32)
        )
        return cv2.warpAffine(sheet.pixels, matrix, (self.canvas_size,) * 2)

    def _draw_face(self, canvas: np.ndarray, t: int) -> None:
        x, y = cv2.split((self.seen[t] - SKIN_LOW).astype(np.float32) * 16)
        pulled = cv2.remap(self.pull[t], x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        resting = self.seen[t] - pulled
        face = self._sample(self.skin, resting, self.canvas_size, transparent=False)
        for shape in self.features:
            shape.draw(face, t)
        light = cv2.resize(self._shading(resting, t), face.shape[1::-1])
        cv2.multiply(face, light, dst=face, scale=1 / 128)
        hull = cv2.convexHull(self.outline[t].astype(np.float32))
        mask = np.zeros(face.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, fixed_point(hull), 255, cv2.LINE_AA, 4)
        lay(canvas, cv2.multiply(face, cv2.merge([mask] * 4), scale=1 / 255))

    def _shading(self, resting: np.ndarray, t: int) -> np.ndarray:
        """Light on the skin with wrinkles at half size; 128 is factor 1."""
        side = self.canvas_size // 2
        facing = np.maximum(self.normals.pixels @ self.to_light[t], 0)
        index = np.minimum(facing * 255, 255).astype(np.uint8)
        lit = cv2.LUT(cv2.merge([index] * 4), self.light_curve)
        sheet = Sheet(lit, self.normals.origin, self.normals.pixels_per_unit)
        light = self._sample(sheet, resting, side, transparent=False)
        layers = [np.full((side, side), BASE, np.uint8) for _ in range(2)]
        for points, strength, width, soft in self.strokes:
            level = strength[t]
            if abs(level) < 0.02:
                continue
            value = float(np.clip(BASE * (1 - level * (0.5 if soft else 0.7)), 0, 255))
            if width:
                cv2.polylines(layers[soft], [points[t]], False, value, width, cv2.LINE_AA, 4)
            else:
                cv2.fillPoly(layers[soft], [points[t]], value, cv2.LINE_AA, 4)
        fine = cv2.GaussianBlur(layers[0], (0, 0), 0.011 * self.unit_px)
        wide = cv2.blur(cv2.blur(layers[1], (9, 9)), (7, 7))
        folds = cv2.multiply(fine, wide, scale=1 / BASE)
        return cv2.multiply(light, cv2.merge([folds] * 4), scale=1 / BASE)

    def _camera(self, canvas: np.ndarray, t: int) -> np.ndarray:
        canvas = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        frame = cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)
        if self.scene.saturation != 1:
            frame = cv2.transform(frame, self.saturation)
        if self.scene.blur_px > 0.2:
            frame = cv2.GaussianBlur(frame, (0, 0), self.scene.blur_px * self.size / 224)
        frame = cv2.multiply(cv2.LUT(frame, self.curves[t]), self.vignette, scale=1 / 255)
        top, left = self.noise_offsets[t]
        noise = self.noise[top : top + self.size, left : left + self.size]
        return cv2.add(frame, noise, dtype=cv2.CV_8U)
