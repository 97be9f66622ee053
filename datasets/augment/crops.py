"""The crop of pre-training, on the worker's side: drawn, cut out, resized."""

from collections.abc import Sequence

import numpy as np

from svfap.datasets.augment.transforms import Box, resize_square


class MultiScaleCrop:
    """Multi-scale crop of pre-training, resized to a square.

    Height and width are each a scale times the shorter side of the frame, rounded down (or `size`
    where that is less than 3 px away); their places in the list of scales differ by one at most.
    The crop lies at one of 13 places: corners, centre, middles of the sides, quarter points.

    Deviation: a crop that becomes larger than the frame by taking the value of `size` is cut to the
    frame; the released code pads it with black.

    Args:
        size: side of the result in pixels.
        scales: shares of the shorter side, descending.
    """

    PLACES = (
        *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),  # (down, right) in quarters of the free space
        *((2, 0), (2, 4), (4, 2), (0, 2)),
        *((1, 1), (1, 3), (3, 1), (3, 3)),
    )

    def __init__(self, size: int, *, scales: Sequence[float] = (1, 0.875, 0.75, 0.66)):
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ValueError(
                f"crop scales {tuple(scales)!r} must be numbers in (0, 1], e.g. 1 0.75"
            )
        self.size = size
        self.scales = tuple(scales)

    def shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """The equally likely (height, width) of crops from a frame of that size, in pixels."""
        sides = [int(min(height, width) * scale) for scale in self.scales]
        sides = [self.size if abs(side - self.size) < 3 else side for side in sides]
        return [
            (min(h, height), min(w, width))
            for i, h in enumerate(sides)
            for j, w in enumerate(sides)
            if abs(i - j) <= 1
        ]

    def places(self, height: int, width: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
        """The 13 equally likely (top, left) of a crop of that shape, in pixels."""
        down, right = (height - shape[0]) // 4, (width - shape[1]) // 4
        return [(i * down, j * right) for i, j in self.PLACES]

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Box:
        """Draw the crop of a clip whose frames are `height` x `width` pixels."""
        shapes = self.shapes(height, width)
        shape = shapes[rng.integers(len(shapes))]
        places = self.places(height, width, shape)
        return Box(*places[rng.integers(len(places))], *shape)

    def cut(self, frames: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
        """Cut the box out of all frames and leave the enlarging to `enlarge`.

        Returns:
            (T, size, size, 3) uint8 with the crop in its upper left corner, and where in it the
            crop lies. A crop larger than that is resized here.
        """
        if max(box.height, box.width) > self.size:
            return self.apply(frames, box), Box(0, 0, self.size, self.size)
        top, left, height, width = box
        canvas = np.zeros((len(frames), self.size, self.size, 3), np.uint8)
        canvas[:, :height, :width] = frames[:, top : top + height, left : left + width]
        return canvas, Box(0, 0, height, width)

    def apply(self, frames: np.ndarray, box: Box) -> np.ndarray:
        """Cut the box out of all frames (T, H, W, 3) and resize: (T, size, size, 3) uint8."""
        top, left, height, width = box
        return resize_square(frames[:, top : top + height, left : left + width], self.size)
