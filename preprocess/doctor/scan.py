"""What preprocess.doctor learns from opening one video: length, size, looks, faces."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.preprocess.shared.common import watched
from svfap.preprocess.shared.workers import parallel

logger = logging.getLogger(__name__)

HASHED_FRAMES = 4
HASH_SIDE, HASH_FREQUENCIES, TINY_SIDE = 32, 8, 16
# Shorter side to which pictures are brought before faces are looked for, and the border around
# them: detectors miss faces that fill a picture.
FACE_PICTURE_PX, BORDER_SHARE = 320, 0.25


@dataclass(frozen=True)
class Scan:
    """One video."""

    path: str
    num_frames: int = 0  # frames that decode; 0 when it cannot be read
    height: int = 0  # of a frame in pixels
    width: int = 0  # of a frame in pixels
    error: str = ""  # why it cannot be read, else empty
    note: str = ""  # what is wrong with a readable one (truncated), else empty
    # (HASHED_FRAMES,) uint64 perceptual hashes of frames spread over the video
    hashes: np.ndarray | None = None
    tiny: np.ndarray | None = None  # (HASHED_FRAMES, 16, 16) uint8, the same frames in grey
    # share of the frame's shorter side that the largest face takes, 0 where there is no face, for
    # each looked-at frame; None if faces were not looked for
    faces: tuple[float, ...] | None = None

    @property
    def readable(self) -> bool:
        """Frames could be read."""
        return not self.error


def spread(num_frames: int) -> np.ndarray:
    """Frames in the middles of HASHED_FRAMES equal parts; repeated in very short videos."""
    middles = (np.arange(HASHED_FRAMES) + 0.5) / HASHED_FRAMES
    return (middles * num_frames).astype(int)


def scan_video(path: str, *, with_faces: bool = False) -> Scan:
    """Open one video and look at a few frames."""
    try:
        with open_video(path) as reader:
            _, frames = reader.read_chosen(spread)
            num_frames, note = reader.num_frames, reader.problem or ""
    except UnreadableVideoError as error:
        return Scan(path, error=" ".join(str(error.reason).split()) or "cannot be read")
    grey = [cv2.cvtColor(np.ascontiguousarray(f), cv2.COLOR_RGB2GRAY) for f in frames]
    tiny = [cv2.resize(g, (TINY_SIDE, TINY_SIDE), interpolation=cv2.INTER_AREA) for g in grey]
    return Scan(
        path=path,
        num_frames=num_frames,
        height=frames.shape[1],
        width=frames.shape[2],
        note=note,
        hashes=np.array([perceptual_hash(picture) for picture in grey], np.uint64),
        tiny=np.stack(tiny),
        faces=tuple(map(face_share, grey[:-1])) if with_faces else None,
    )


def perceptual_hash(grey: np.ndarray) -> int:
    """63-bit hash of an (H, W) uint8 picture that changes little with size, light and coding.

    The signs, against their median, of the lowest frequencies of the cosine transform, the mean
    left out.
    """
    small = cv2.resize(grey, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    frequencies = cv2.dct(small.astype(np.float32))[:HASH_FREQUENCIES, :HASH_FREQUENCIES]
    values = frequencies.ravel()[1:]
    bits = values > np.median(values)
    return int.from_bytes(np.packbits(np.concatenate([[False], bits])).tobytes(), "big")


@functools.cache
def _detector():
    from svfap.datasets.faces import create_detector

    return create_detector()


def faces_available() -> str | None:
    """None if faces can be looked for, else why not."""
    try:
        _detector()
    except ImportError as error:
        return str(error)
    return None


def face_share(grey: np.ndarray) -> float:
    """Side of the largest face as a share of the picture's shorter side; 0 without a face."""
    scale = FACE_PICTURE_PX / min(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(grey, size, interpolation=method)
    border = round(BORDER_SHARE * FACE_PICTURE_PX)
    framed = cv2.copyMakeBorder(picture, *(border,) * 4, cv2.BORDER_REPLICATE)
    sides = [face.side for face in _detector().detect(framed)]
    return max(sides, default=0.0) / FACE_PICTURE_PX


def scan_all(paths: Sequence[str], *, num_workers: int, with_faces: bool) -> dict[str, Scan]:
    """Scan videos, each once, in parallel and with progress."""
    unique = list(dict.fromkeys(paths))
    examine = functools.partial(scan_video, with_faces=with_faces)
    scans = parallel(examine, unique, num_workers)
    return {scan.path: scan for scan in watched(scans, len(unique), "videos examined")}
