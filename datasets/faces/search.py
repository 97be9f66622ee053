"""All face tracks of a video."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from svfap.datasets.faces.detector import FaceDetector
from svfap.datasets.faces.tracker import FaceTracker, Track, TrackingOptions
from svfap.datasets.video.base import FrameReader

# Faces are followed in frames of at most this shorter side.
WORK_SIDE = 480
# Of the frames of a video: faces seen in fewer are taken for mistakes of the detector.
SEEN_SHARE = 0.25


@dataclass(frozen=True)
class FaceVideo:
    """What was found in a video."""

    path: str
    num_frames: int  # frames that were looked at, every `every`-th of the video
    height: int  # of a frame in pixels
    width: int  # of a frame in pixels
    fps: float | None  # frames looked at per second, None where there is no time
    # None, or what is wrong or odd about the video, such as that it is truncated
    problem: str | None
    tracks: list[Track]  # by first frame; frame numbers count the frames that were looked at
    every: int = 1  # step between these frames
    # (num_frames,) seconds of these frames from the first one, None where there is no time
    times: np.ndarray | None = None
    num_seen: int = 0  # frames in which a face was seen, even if it could not be followed

    def largest(self) -> Track | None:
        """The most prominent track: large and long; None without faces."""
        return max(self.tracks, key=Track.size, default=None)

    def by_size(self) -> list[Track]:
        """Tracks, most prominent first."""
        return sorted(self.tracks, key=Track.size, reverse=True)

    def ticks(self, track: Track) -> np.ndarray | None:
        """When the frames of a track were taken, in frames of average length; None: evenly."""
        if self.times is None or self.fps is None:
            return None
        return self.times[track.first : track.last + 1] * self.fps

    @property
    def unfollowed(self) -> str:
        """What to say of faces that were seen, but nowhere long enough to follow them; else ""."""
        if self.tracks or self.num_seen < max(1, self.num_frames * SEEN_SHARE):
            return ""
        return (
            f"a face was seen in {self.num_seen} of {self.num_frames} frames, but could not be "
            "followed from frame to frame, as if these were far apart in time: --pictures single "
            "takes each picture of a folder by itself"
        )

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
        every: look at every n-th frame only.
    """
    fps = video.fps / every if video.fps else None
    tracker = FaceTracker(detector, options or TrackingOptions(), fps)
    count, shape, scale = 0, (0, 0), 1.0
    for block in video.blocks(every=every):
        shape = block.shape[1:3]
        scale = min(1.0, WORK_SIDE / min(shape))
        for frame in block:
            tracker.feed(work_picture(frame, scale))
        count += len(block)
    size = work_size(shape, scale)
    tracks = [_in_frame_pixels(track, shape, size) for track in tracker.finish()]
    times = video.times()
    times = None if times is None else times[::every]
    note = "; ".join(filter(None, (video.problem, video.remark))) or None
    return FaceVideo(video.path, count, *shape, fps, note, tracks, every, times, tracker.num_seen())


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
