"""Drawn stand-ins for faces, and a detector that finds them."""

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from svfap.datasets.faces.detector import Detection
from svfap.datasets.faces.geometry import BOX_DROP, BOX_SIDE, EYES_TO_MOUTH

HEIGHT, WIDTH = 180, 300


def drawn_landmarks(x: float, y: float, unit: float, roll: float = 0.0) -> np.ndarray:
    """(68, 2) landmarks of a symmetric face: eyes, mouth and jaw where they belong."""
    points = np.zeros((68, 2))
    turn = np.linspace(0, np.pi, 17)
    points[:17] = np.stack([-1.1 * np.cos(turn), 1.7 * np.sin(turn)], 1)
    points[17:27] = np.stack([np.linspace(-0.8, 0.8, 10), np.full(10, -0.35)], 1)
    points[27:36] = np.stack([np.zeros(9), np.linspace(0, 0.7, 9)], 1)
    around = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    ring = np.stack([0.15 * np.cos(around), 0.08 * np.sin(around)], 1)
    points[36:42], points[42:48] = ring + [-0.5, 0], ring + [0.5, 0]
    around = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    mouth = np.stack([-0.4 * np.cos(around), -0.1 * np.sin(around)], 1)
    points[48:60] = mouth + [0, EYES_TO_MOUTH]
    points[60:68] = np.array([0, EYES_TO_MOUTH])
    cos, sin = np.cos(roll), np.sin(roll)
    return points @ np.array([[cos, sin], [-sin, cos]]) * unit + [x, y]


class Scene:
    """Textured bright discs on a dark background.

    Args:
        people: for each, frame number -> (x, y of the eyes, unit in pixels).
        num_frames: length.
        cut_at: frame from which on background and texture are others.
    """

    def __init__(self, people: list[dict], num_frames: int, cut_at: int | None = None):
        self.people, self.num_frames, self.cut_at = people, num_frames, cut_at

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB frames."""
        for index in range(self.num_frames):
            shot = int(self.cut_at is not None and index >= self.cut_at)
            rng = np.random.default_rng(shot)
            dark = rng.integers(0, 60, (HEIGHT, WIDTH)).astype(np.float32)
            frame = cv2.GaussianBlur(dark, (0, 0), 2) + 50 * shot
            for number, places in enumerate(self.people):
                if index in places:
                    _draw(frame, *places[index], texture(10 * shot + number))
            yield np.repeat(frame.astype(np.uint8)[:, :, None], 3, 2)


def texture(seed: int) -> np.ndarray:
    """(128, 128) smooth random grey levels, 150 to 250."""
    noise = np.random.default_rng(seed).normal(size=(128, 128)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 4)
    return 150 + 100 * (noise - noise.min()) / np.ptp(noise)


def _draw(frame: np.ndarray, x: float, y: float, unit: float, skin: np.ndarray) -> None:
    side = BOX_SIDE * unit
    left, top = x - side / 2, y + BOX_DROP * unit - side / 2
    matrix = np.array([[side / 128, 0, left], [0, side / 128, top]])
    size = frame.shape[::-1]
    drawn = cv2.warpAffine(skin, matrix, size)
    disc = np.zeros((128, 128), np.float32)
    cv2.circle(disc, (64, 64), 62, 1.0, -1)
    mask = cv2.warpAffine(disc, matrix, size)
    frame[:] = frame * (1 - mask) + drawn * mask


class BlobDetector:
    """Finds bright discs; as strict about size as a real detector."""

    min_side = 60.0

    def detect(self, grey: np.ndarray, threshold: float = 0.0) -> list[Detection]:
        """See `datasets.faces.FaceDetector`."""
        bright = (cv2.GaussianBlur(grey, (0, 0), 2) > 125).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(bright)
        found = []
        for left, top, width, height, area in stats[1:count]:
            round_enough = 0.8 < width / height < 1.25 and area > 0.6 * width * height
            if round_enough and width >= self.min_side * 0.9:
                x, y = left + (width - 1) / 2, top + (height - 1) / 2
                found.append(Detection(x, y, (width + height) / 2 / 0.97, 1.0))
        return found

    def landmarks(self, grey: np.ndarray, box: Detection) -> np.ndarray:
        """See `datasets.faces.FaceDetector`; refined by the disc if it is there."""
        near = [f for f in self.detect(grey) if np.hypot(f.x - box.x, f.y - box.y) < box.side / 2]
        box = near[0] if near else box
        unit = box.side / BOX_SIDE
        return drawn_landmarks(box.x, box.y - BOX_DROP * unit, unit)


def write_frames(folder: Path, scene: Scene) -> Path:
    """Write a scene as a folder of PNG files."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(scene.frames()):
        cv2.imwrite(str(folder / f"{number:03d}.png"), frame)
    return folder


def face_video(path: Path, scene: Scene) -> Path:
    """Write a scene as an H.264 video of 25 frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in scene.frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
