"""What every reader of frames offers, and the errors readers raise."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np

from svfap.datasets.video.frame_index import KnownFrames

BLOCK_BYTES = 64 * 2**20  # of frames that are handed out in order
FRAMES_AT_ONCE = 8
SMALLEST_SIDE_PX = 4  # below it a picture shows nothing, and its crops would be empty


class UnreadableVideoError(RuntimeError):
    """A video, frame folder or image that gives no (or not the wanted) frames."""

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
        num_frames: number of frames that decode.
        fps: average frames per second, None where there is no time (folders, images).
        problem: None, or a sentence such as "truncated: 40 of about 78 frames decode".
        remark: None, or a sentence about something odd that loses no frame, such as a header
            with an impossible frame rate.
        window: (top, left, height, width) in pixels of the part of the original frames that
            these are; None where nothing was cut off (only packed stores cut).
        counted: number of frames found by decoding the whole file, worth remembering; None where
            that was not necessary.
    """

    path: str
    num_frames: int
    fps: float | None = None
    problem: str | None = None
    remark: str | None = None
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
        with errors_of(self.path):
            frames = self._read_sorted(wanted.tolist())
        check_size(self.path, frames.shape[1:3])
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
        promised = self.num_frames
        indices = choose(promised)
        with suppress(FrameCountChangedError):
            frames = self.read(indices)
        if self.num_frames != promised:
            indices = choose(self.num_frames)
            frames = self.read(indices)
        return indices, frames

    def blocks(self, *, first: int = 0, every: int = 1) -> Iterator[np.ndarray]:
        """Frames in order, in blocks of a bounded number of bytes, each being decoded once.

        As many come as decode; after the last block `num_frames` and `problem` are exact.

        Args:
            every: step between frames.

        Yields:
            (n, H, W, 3) uint8 RGB.

        Raises:
            UnreadableVideoError: a frame cannot be decoded, or the frames differ in size.
        """
        block: list[np.ndarray] = []
        with errors_of(self.path):
            for frame in self._in_order(range(first, self.num_frames, every)):
                check_size(self.path, frame.shape)
                if block and frame.shape != block[0].shape:
                    raise _differ(self.path, [block[0], frame])
                if len(block) * frame.nbytes >= BLOCK_BYTES:
                    yield np.stack(block)
                    block.clear()
                block.append(frame)
            if block:
                yield np.stack(block)

    def times(self) -> np.ndarray | None:
        """Seconds of each frame from the first one, (num_frames,), strictly increasing.

        None where there is no time, or the time stamps make no sense.
        """
        return np.arange(self.num_frames) / self.fps if self.fps else None

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Release the file."""

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    @abstractmethod
    def _read_sorted(self, wanted: list[int]) -> np.ndarray:
        """Frames of strictly increasing valid indices, (n, H, W, 3) uint8 RGB."""

    def _in_order(self, wanted: range) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) of valid indices, one after the other."""
        for start in range(0, len(wanted), FRAMES_AT_ONCE):
            yield from self._read_sorted(list(wanted[start : start + FRAMES_AT_ONCE]))


@contextmanager
def errors_of(path: str) -> Iterator[None]:
    """Whatever a decoder throws for a file is that file's `UnreadableVideoError`.

    Damaged files reach the strangest places of the libraries: besides their own errors they raise
    KeyError, UnicodeDecodeError, OverflowError, MemoryError and more.
    """
    try:
        yield
    except (UnreadableVideoError, ImportError):
        raise
    except Exception as error:
        raise UnreadableVideoError(path, f"cannot be opened or decoded ({_said(error)})") from error


def _said(error: Exception) -> str:
    words = " ".join(str(error).split())
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {words}".rstrip(": ")


def check_size(path: str, shape: Sequence[int]) -> None:
    """Refuse frames too small to show anything."""
    height, width = shape[:2]
    if min(height, width) < SMALLEST_SIDE_PX:
        raise UnreadableVideoError(
            path,
            f"frames of {height} x {width} px show nothing: "
            f"both sides must be {SMALLEST_SIDE_PX} or more",
        )


def stack_frames(path: str, frames: list[np.ndarray]) -> np.ndarray:
    """Stack (H, W, 3) frames of equal size to (n, H, W, 3)."""
    if len({frame.shape for frame in frames}) > 1:
        raise _differ(path, frames)
    return np.stack(frames)


def _differ(path: str, frames: list[np.ndarray]) -> UnreadableVideoError:
    sizes = sorted({frame.shape[:2] for frame in frames})
    found = ", ".join(f"{height} x {width}" for height, width in sizes)
    return UnreadableVideoError(
        path, f"frames differ in size (height x width: {found}); resize them to one size"
    )
