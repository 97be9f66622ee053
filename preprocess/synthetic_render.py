"""Draws the frames of one synthetic clip.

A frame is built from the back to the front: background and shoulders, hair behind, ears, skin
(texture pulled by muscles and turned with the head by an inverse map), features as anti-aliased
polygons, light, hair before, glasses, camera. The canvas is larger than the frame and averaged
down at the end.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from preprocess.synthetic_face import SIDES, FaceGeometry
from preprocess.synthetic_features import FeatureShapes, Shape
from preprocess.synthetic_hair import paint_hair
from preprocess.synthetic_identity import Identity, Scene
from preprocess.synthetic_motion import Motion
from preprocess.synthetic_texture import (
    SKIN_HIGH,
    SKIN_LOW,
    Sheet,
    fixed_point,
    paint_background,
    paint_body,
    paint_skin,
    relief_normals,
    sheet_grid,
)
from preprocess.synthetic_wrinkles import strokes

GRID_STEP = 8
BASE = 150  # value of the wrinkle layers that leaves the skin as it is


@dataclass(frozen=True)
class Framing:
    """Where the face stands in the frame, as fractions of the frame's side.

    Attributes:
        window: top, left, side of the square that the face fills.
    """

    window: tuple[float, float, float]

    def unit(self) -> float:
        """Length of a face unit."""
        return self.window[2] / 3.25

    def centre(self) -> np.ndarray:
        """Place of the point between the eyes, (x, y)."""
        top, left, side = self.window
        return np.array((left + 0.5 * side, top + 0.385 * side))


FACE_CROP = Framing((0.0, 0.0, 1.0))
VOXCELEB2 = Framing((0.0, 32 / 224, 160 / 224))


class ClipRenderer:
    """Draws one person, scene and movement.

    Args:
        identity: the person.
        scene: clothes, background, light, camera.
        motion: movement of T frames.
        framing: place of the face.
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
        supersample: float = 1.5,
    ):
        self.identity, self.scene, self.motion, self.rng = identity, scene, motion, rng
        self.size = size
        self.canvas_size = int(np.ceil(size * supersample / (2 * GRID_STEP))) * 2 * GRID_STEP
        self.scale = self.canvas_size / size
        self.unit_px = framing.unit() * self.canvas_size
        self.centre_px = framing.centre() * self.canvas_size
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
        paint_body(
            self.backdrop,
            lambda points: self.centre_px + self.unit_px * (zoom * points + shift),
            self.identity,
            self.scene,
            self.rng,
        )
        neck = self.backdrop[..., :3]
        self.backdrop[..., :3] = np.clip(neck, 0, 255)

    def _prepare_shapes(self) -> None:
        shapes = FeatureShapes(self.geometry, self.place, self.unit_px)
        self.ears = shapes.ears(self.identity.skin * self.light)
        self.features = [*shapes.nose(), *shapes.mouth(), *shapes.eyes(), *shapes.brows()]
        self.catchlights = shapes.catchlights()
        self.glasses = shapes.glasses()
        who, jaw = self.identity, self.geometry.jaw()
        width, top = who.face_width, who.skull_height
        crown = [
            (width * 1.0, -0.45),
            (0.86 * width, -0.92 * top + 0.1),
            (0.5 * width, -0.97 * top),
        ]
        crown = np.array(crown + [(0, -1.02 * top)] + [(-x, y) for x, y in crown[::-1]])
        front = self.place(self.geometry.project(np.concatenate([jaw[0] * 0 + jaw[0], crown])))
        front = self.place(
            self.geometry.project(
                np.concatenate([jaw, np.broadcast_to(crown, (len(jaw), *crown.shape))], 1)
            )
        )
        sides = np.array(
            [(side * width * x, y) for side in SIDES for x, y in ((1, -0.5), (1, 0.1), (0.9, 0.62))]
        )
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
        pull = np.tensordot(self.geometry.displacement_weights(), basis, 1)
        self.pull = pull.reshape(-1, *x.shape, 2).astype(np.float32)
        to_light = np.einsum("tij,ti->tj", self.geometry.rotation, self.motion.light)
        self.to_light = to_light.astype(np.float32)

    def _prepare_camera(self) -> None:
        size = self.size
        levels = (np.arange(256) / 255) ** self.scene.gamma
        self.curves = np.clip(255 * levels * self.motion.gain[:, None], 0, 255).astype(np.uint8)
        noise = self.rng.normal(0, self.scene.noise, (size + 48, size + 48, 1))
        noise = noise + self.rng.normal(0, 0.5 * self.scene.noise, (size + 48, size + 48, 3))
        self.noise = np.clip(noise, -60, 60).astype(np.int16)
        self.noise_offsets = self.rng.integers(0, 48, (len(self.seen), 2))
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        vignette = 1 - self.scene.vignette * 0.5 * (x * x + y * y)
        self.vignette = np.repeat((255 * vignette[..., None]).astype(np.uint8), 3, 2)
        grey = np.full((3, 3), 1 / 3)
        mix = self.scene.saturation * np.eye(3) + (1 - self.scene.saturation) * grey
        self.saturation = mix.astype(np.float32)

    # ---- drawing, per frame -----------------------------------------------------------------

    def frame(self, t: int) -> np.ndarray:
        """Draw frame t, (size, size, 3) uint8 RGB."""
        canvas = self.backdrop.copy()
        behind, before = self.hair
        if behind is not None:
            self._lay(canvas, self._warp_behind(behind, t))
        for shape in self.ears:
            draw(canvas, shape, t)
        self._draw_face(canvas, t)
        for shape in self.catchlights:
            draw(canvas, shape, t)
        if before is not None:
            self._lay(canvas, self._sample(before, self.seen[t], self.canvas_size))
        for shape in self.glasses:
            draw(canvas, shape, t)
        return self._camera(canvas, t)

    def _sample(self, sheet: Sheet, seen: np.ndarray, side: int, transparent: bool = True):
        coarse = sheet.to_pixels(seen).astype(np.float32)
        full = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
        border = cv2.BORDER_CONSTANT if transparent else cv2.BORDER_REPLICATE
        return cv2.remap(sheet.pixels, full, None, cv2.INTER_LINEAR, None, border)

    def _lay(self, canvas: np.ndarray, layer: np.ndarray) -> None:
        """Lay a premultiplied RGBA picture over the canvas, in place."""
        rest = cv2.bitwise_not(cv2.extractChannel(layer, 3))
        cv2.multiply(canvas, cv2.merge([rest] * 4), dst=canvas, scale=1 / 255)
        cv2.add(canvas, layer, dst=canvas)

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
            draw(face, shape, t)
        light = cv2.resize(self._shading(resting, t), face.shape[1::-1])
        cv2.multiply(face, light, dst=face, scale=1 / 128)
        hull = cv2.convexHull(self.outline[t].astype(np.float32))
        mask = np.zeros(face.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, fixed_point(hull), 255, cv2.LINE_AA, 4)
        weight = mask.astype(np.float32) * (1 / 255)
        cv2.blendLinear(face, canvas, weight, 1 - weight, canvas)

    def _shading(self, resting: np.ndarray, t: int) -> np.ndarray:
        """Light on the skin with wrinkles at half size; 128 is factor 1."""
        side = self.canvas_size // 2
        facing = np.maximum(self.normals.pixels @ self.to_light[t], 0)
        shine = (facing**24 * 0.18 + facing * 1.2)[..., None]
        lit = (self.scene.ambient + shine * self.scene.diffuse) * 128
        sheet = Sheet(np.clip(lit, 0, 255).astype(np.uint8), self.normals.origin, 44.0)
        light = self._sample(sheet, resting, side, transparent=False)
        layers = [np.full((side, side), BASE, np.uint8) for _ in range(2)]
        for points, strength, width, soft in self.strokes:
            level = strength[t]
            if abs(level) < 0.02:
                continue
            value = float(np.clip(BASE * (1 - level * (0.45 if soft else 0.6)), 0, 255))
            if width:
                cv2.polylines(layers[soft], [points[t]], False, value, width, cv2.LINE_AA, 4)
            else:
                cv2.fillPoly(layers[soft], [points[t]], value, cv2.LINE_AA, 4)
        fine = cv2.GaussianBlur(layers[0], (0, 0), 0.011 * self.unit_px)
        wide = cv2.blur(cv2.blur(layers[1], (9, 9)), (7, 7))
        folds = cv2.multiply(fine, wide, scale=1 / BASE)
        light = cv2.multiply(light, cv2.merge([folds] * 3), scale=1 / BASE)
        return cv2.merge([*cv2.split(light), np.full((side, side), 128, np.uint8)])

    def _camera(self, canvas: np.ndarray, t: int) -> np.ndarray:
        frame = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)[..., :3]
        frame = np.ascontiguousarray(frame)
        if self.scene.saturation != 1:
            frame = cv2.transform(frame, self.saturation)
        if self.scene.blur_px > 0.2:
            frame = cv2.GaussianBlur(frame, (0, 0), self.scene.blur_px * self.size / 224)
        frame = cv2.multiply(cv2.LUT(frame, self.curves[t]), self.vignette, scale=1 / 255)
        top, left = self.noise_offsets[t]
        noise = self.noise[top : top + self.size, left : left + self.size]
        return cv2.add(frame, noise, dtype=cv2.CV_8U)


def draw(canvas: np.ndarray, shape: Shape, t: int) -> None:
    """Draw frame t of a shape, blended by its opacity, in place."""
    alpha = shape.alpha[t]
    if alpha < 0.02:
        return
    points = shape.points[t]
    area, target = None, canvas
    if alpha < 0.98:
        margin = 2 + shape.line_px
        low = np.maximum((points.min(0) >> 4) - margin, 0)
        high = np.minimum((points.max(0) >> 4) + margin + 1, canvas.shape[1::-1])
        if (high <= low).any():
            return
        area = canvas[low[1] : high[1], low[0] : high[0]]
        target, points = area.copy(), points - (low * 16).astype(np.int32)
    if shape.line_px:
        cv2.polylines(target, [points], False, shape.colour, shape.line_px, cv2.LINE_AA, 4)
    else:
        cv2.fillPoly(target, [points], shape.colour, cv2.LINE_AA, 4)
    if area is not None:
        cv2.addWeighted(target, alpha, area, 1 - alpha, 0, dst=area)
