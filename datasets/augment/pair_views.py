"""Augmentation of the views of a contrastive pair (SSL-FER Sec. 4.1; SimCLR, arXiv 2002.05709).

One draw for all frames of a clip. uint8 (T, H, W, 3) in and out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from svfap.datasets.augment import frame_ops
from svfap.datasets.augment.transforms import resize_square
from svfap.datasets.faces.geometry import LEFT_EYE, MOUTH, RIGHT_EYE

# Landmarks of the parts that can be covered.
PARTS = (MOUTH, LEFT_EYE, RIGHT_EYE)
MARGIN = 10 / 128  # around a part, in units of the frame's side
UNCROPPED = 128 / 112  # side of what crops are taken from, in units of the crop's
JITTER = (0.4, 0.4, 0.4, 0.2)  # brightness, contrast, saturation, hue
BLUR_SIGMA = (0.1, 2.0)  # pixels; the window has 3 x 3

_Operation = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ViewAugmentation:
    """What turns a clip into a view.

    In this order: resizing to a square, covering a part of the face, a random crop of 112/128 of
    the square's side, mirroring, colour jitter, grey, blur.
    """

    size: int  # side of the view in pixels
    # probability that mouth or one eye is covered, by an ellipse of the mean colour
    part_mask: float = 0.0
    flip: float = 0.5  # probability of mirroring
    jitter: float = 0.8  # probability of colour jitter; of each pair one view is always jittered
    grey: float = 0.2  # probability of losing all colour
    blur: float = 0.5  # probability of blurring

    def __call__(
        self,
        frames: np.ndarray,
        points: np.ndarray | None,
        rng: np.random.Generator,
        *,
        always_jitter: bool,
    ) -> np.ndarray:
        """Make a view.

        Args:
            frames: (T, H, W, 3) uint8.
            points: (T, 68, 2) landmarks in pixels of the frames, NaN without a face; None: none.
            always_jitter: as for the first view of a pair.

        Returns:
            (T, size, size, 3) uint8.
        """
        # every view draws the same number of values, so that one option does not move another
        cover, flip, jitter, grey, blur = rng.random(5)
        part, side = rng.integers(len(PARTS)), round(self.size * UNCROPPED)
        top, left = rng.integers(0, side - self.size + 1, 2)
        operations, sigma = _draw_jitter(rng), rng.uniform(*BLUR_SIGMA)

        height, width = frames.shape[1:3]
        frames = resize_square(frames, side)
        if cover < self.part_mask and points is not None:
            scale = np.array([side / width, side / height])
            frames = cover_part(frames, (points[:, PARTS[part]] + 0.5) * scale - 0.5)
        frames = frames[:, top : top + self.size, left : left + self.size]
        if flip < self.flip:
            frames = frames[:, :, ::-1]
        frames = np.ascontiguousarray(frames)
        if always_jitter or jitter < self.jitter:
            for operation in operations:
                frames = operation(frames)
        if grey < self.grey:
            frames = frame_ops.grey(frames)
        return frame_ops.blur(frames, sigma) if blur < self.blur else frames


def cover_part(frames: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Cover a part of the face by an upright ellipse of each frame's mean colour.

    Args:
        frames: (T, S, S, 3) uint8.
        points: (T, n, 2) landmarks of the part in pixels; frames with NaN stay as they are.

    Returns:
        A new array of the same shape.
    """
    covered, margin = frames.copy(), MARGIN * frames.shape[1]
    for frame, part in zip(covered, points):
        if not np.isfinite(part).all():
            continue
        low, high = part.min(0), part.max(0)
        middle, axes = (low + high) / 2, (high - low) / 2 + margin
        mask = np.zeros(frame.shape[:2], np.uint8)
        box = (tuple(map(float, middle)), tuple(map(float, 2 * axes)), 0.0)
        cv2.ellipse(mask, box, 1, thickness=-1)
        frame[mask > 0] = np.round(frame.mean((0, 1))).astype(np.uint8)
    return covered


def _draw_jitter(rng: np.random.Generator) -> list[_Operation]:
    """The four operations of a colour jitter in random order, each with its own strength."""
    brightness, contrast, saturation = (rng.uniform(1 - s, 1 + s) for s in JITTER[:3])
    shift = rng.uniform(-JITTER[3], JITTER[3])
    operations: list[_Operation] = [
        lambda frames: frame_ops.brightness(frames, brightness),
        lambda frames: frame_ops.contrast(frames, contrast),
        lambda frames: frame_ops.color(frames, saturation),
        lambda frames: frame_ops.hue(frames, shift),
    ]
    return [operations[place] for place in rng.permutation(len(operations))]
