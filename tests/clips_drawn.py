"""Small frame folders and videos of smooth random patterns: different seeds look different."""

from pathlib import Path

import cv2
import numpy as np


def pattern(seed: int, num_frames: int = 20, side: int = 72, width: int | None = None):
    """(num_frames, side, width or side, 3) uint8, changing slowly."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (2, 6, 6, 3)).astype(np.float32)
    size = (width or side, side)
    first, last = (cv2.resize(c, size, interpolation=cv2.INTER_CUBIC) for c in coarse)
    steps = np.linspace(0, 1, num_frames)[:, None, None, None]
    frames = first * (1 - 0.4 * steps) + last * 0.4 * steps
    return np.clip(frames, 0, 255).astype(np.uint8)


def write_folder(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index + 1:05d}.jpg"), frame[:, :, ::-1])
    return folder


def write_video(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (frames.shape[2], frames.shape[1])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, size)
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path
