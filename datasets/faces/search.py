"""All face tracks of a video, and its frames in order without holding all of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from datasets.faces.detector import FaceDetector
from datasets.faces.tracker import FaceTracker, Track, TrackingOptions
from datasets.video.base import FrameReader, UnreadableVideoError
from datasets.video.pyav import PyAVReader

# Faces are followed in frames of at most this shorter side.
WORK_SIDE = 480
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class FaceVideo:
    """What was found in a video.

    Attributes:
        path: the video.
        num_frames: frames that were looked at, every `every`-th of the video.
        height: of a frame in pixels.
        width: of a frame in pixels.
        fps: frames looked at per second, None where there is no time.
        problem: None, or what is wrong with the video, such as that it is truncated.
        tracks: by first frame; frame numbers count the frames that were looked at.
        every: step between these frames.
    """

    path: str
    num_frames: int
    height: int
    width: int
    fps: float | None
    problem: str | None
    tracks: list[Track]
    every: int = 1

    def largest(self) -> Track | None:
        """The most prominent track: large and long; None without faces."""
        return max(self.tracks, key=Track.size, default=None)

    def by_size(self) -> list[Track]:
        """Tracks, most prominent first."""
        return sorted(self.tracks, key=Track.size, reverse=True)

    def frames_without_face(self) -> int:
        """Frames that belong to no track."""
        covered = np.zeros(self.num_frames, bool)
        for track in self.tracks:
            covered[track.first : track.last + 1] = True
        return int(self.num_frames - covered.sum())


def find_faces(
    video: FrameReader,
    detector: FaceDetector,
    options: TrackingOptions | None = None,
    *,
    every: int = 1,
) -> FaceVideo:
    """Find and follow the faces of a video.

    Args:
        video: an open reader.
        detector: finds faces and landmarks.
        options: how; default: `TrackingOptions()`.
        every: look at every n-th frame only.

    Returns:
        The tracks; none where no face was seen.

    Raises:
        UnreadableVideoError: a frame cannot be decoded.
    """
    fps = video.fps / every if video.fps else None
    tracker = FaceTracker(detector, options or TrackingOptions(), fps)
    count, shape, scale = 0, (0, 0), 1.0
    for block in frame_blocks(video, every=every):
        shape = block.shape[1:3]
        scale = min(1.0, WORK_SIDE / min(shape))
        for frame in block:
            tracker.feed(work_picture(frame, scale))
        count += len(block)
    size = work_size(shape, scale)
    tracks = [_in_frame_pixels(track, shape, size) for track in tracker.finish()]
    return FaceVideo(video.path, count, *shape, fps, video.problem, tracks, every)


def work_size(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) of a frame of `shape` scaled for detection."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def work_picture(frame: np.ndarray, scale: float) -> np.ndarray:
    """Grey (H, W) uint8 picture of an RGB frame, made smaller."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    if scale == 1.0:
        return grey
    return cv2.resize(grey, work_size(grey.shape, scale)[::-1], interpolation=cv2.INTER_AREA)


def _in_frame_pixels(track: Track, shape: tuple[int, int], size: tuple[int, int]) -> Track:
    ratio = np.array([shape[1] / size[1], shape[0] / size[0]])
    return replace(track, landmarks=(track.landmarks + 0.5) * ratio - 0.5)


def frame_blocks(video: FrameReader, *, every: int = 1, first: int = 0) -> Iterator[np.ndarray]:
    """Frames in order, in blocks of a bounded number of bytes.

    Args:
        video: an open reader.
        every: step between frames.
        first: number of the first frame.

    Yields:
        (n, H, W, 3) uint8 RGB.

    Raises:
        UnreadableVideoError: a frame cannot be decoded, or the frames differ in size.
    """
    wanted = range(first, video.num_frames, every)
    if len(wanted) == 0:
        return
    probe = video.read([wanted[0]])
    length = max(1, BLOCK_BYTES // probe.nbytes)
    if len(wanted) > length and isinstance(video, PyAVReader):
        frames = _decoded_in_order(video, wanted)
    else:
        starts = range(0, len(wanted), length)
        yield from (video.read(wanted[start : start + length]) for start in starts)
        return
    block: list[np.ndarray] = []
    for frame in frames:
        if frame.shape != probe.shape[1:]:
            raise UnreadableVideoError(video.path, "the size of the frames changes on the way")
        block.append(frame)
        if len(block) == length:
            yield np.stack(block)
            block.clear()
    if block:
        yield np.stack(block)


def _decoded_in_order(video: PyAVReader, wanted: range) -> Iterator[np.ndarray]:
    """Frames of a file too long for one block, each packet being decoded once."""
    count = 0
    video._saw_damage = False  # what the reader itself does before decoding everything
    for number, frame in enumerate(video._decode_all()):
        if number in wanted:
            count += 1
            yield video._to_rgb(frame)
    if count != len(wanted):
        raise UnreadableVideoError(
            video.path, f"decoding is not repeatable: {count} of {len(wanted)} frames came"
        )
