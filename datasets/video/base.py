"""What every reader of frames offers, and the errors readers raise."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from datasets.video.frame_index import KnownFrames


class UnreadableVideoError(RuntimeError):
    """A video, frame folder or image that gives no (or not the wanted) frames.

    Args:
        path: the file or folder.
        reason: one sentence without the path.
    """

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class FrameCountChangedError(UnreadableVideoError):
    """Decoding gave fewer frames than the packets promised; `num_frames` is now exact."""


class FrameReader(ABC):
    """Random access to the frames of one video.

    Attributes:
        path: what was opened.
        num_frames: number of frames that decode.
        fps: average frames per second, None where there is no time (folders, images).
        problem: None, or a sentence such as "truncated: 40 of about 78 frames decode".
        window: (top, left, height, width) in pixels of the part of the original frames that
            these are; None where nothing was cut off (only packed stores cut).
        counted: number of frames found by decoding the whole file, worth remembering; None where
            that was not necessary.
    """

    path: str
    num_frames: int
    fps: float | None = None
    problem: str | None = None
    window: tuple[int, int, int, int] | None = None
    counted: KnownFrames | None = None

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Decode the wanted frames in one pass.

        Args:
            indices: 0-based frame numbers in display order; any order, repeats allowed.

        Returns:
            (n, H, W, 3) uint8 RGB, one frame per entry of `indices`.

        Raises:
            UnreadableVideoError: a wanted frame cannot be decoded.
            IndexError: an index is outside 0 .. num_frames - 1.
        """
        wanted, positions = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if wanted.size == 0:
            raise ValueError("no frame indices given: ask for at least one frame")
        if wanted[0] < 0 or wanted[-1] >= self.num_frames:
            raise IndexError(
                f"{self.path}: frames {wanted[0]} to {wanted[-1]} were asked for, "
                f"there are frames 0 to {self.num_frames - 1}"
            )
        frames = self._read_sorted(wanted.tolist())
        if frames.shape[0] == positions.size and np.array_equal(
            positions.ravel(), np.arange(positions.size)
        ):
            return frames
        return frames[positions.ravel()]

    def read_chosen(self, choose: Callable[[int], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Read the frames that a rule picks, once more if decoding corrects the frame count.

        Args:
            choose: number of frames -> frame indices.

        Returns:
            The indices, and their frames as `read` gives them.
        """
        try:
            indices = choose(self.num_frames)
            return indices, self.read(indices)
        except FrameCountChangedError:
            indices = choose(self.num_frames)
            return indices, self.read(indices)

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Release the file."""

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    @abstractmethod
    def _read_sorted(self, wanted: list[int]) -> np.ndarray:
        """Frames of strictly increasing valid indices, (n, H, W, 3) uint8 RGB."""


def stack_frames(path: str, frames: list[np.ndarray]) -> np.ndarray:
    """Stack (H, W, 3) frames of equal size to (n, H, W, 3).

    Raises:
        UnreadableVideoError: the sizes differ.
    """
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        found = ", ".join(f"{height} x {width}" for height, width in sizes)
        raise UnreadableVideoError(
            path, f"frames differ in size (height x width: {found}); resize them to one size"
        )
    return np.stack(frames)
