"""From one frame to the next: upright patches around a face, landmarks in them, optical flow."""

import cv2
import numpy as np

from svfap.datasets.faces.detector import Detection, FaceDetector
from svfap.datasets.faces.geometry import (
    BOX_SIDE,
    box_centres,
    invert,
    nearest_angle,
    place_of_box,
    places,
    similarity,
    transform,
)

# Sides in pixels of an upright patch and of the face's box in its middle.
PATCH, PATCH_BOX = 208, 104
# Flow: search window, pyramid levels, and what a good point may miss its origin by on the way
# back, in patch pixels.
FLOW = {"winSize": (15, 15), "maxLevel": 3}
RETURN_ERROR = 1.5
MIN_GOOD_SHARE = 0.5
# How far landmarks may differ from what flow says: units, ratio of sizes, radians.
MAX_SHIFT, MAX_RATIO, MAX_TURN = 0.4, 1.35, np.radians(25)
# Largest mean change of the thumbnails of neighbouring frames that is not a cut, in grey levels:
# never a cut, or this many times what is usual.
THUMBNAIL = (32, 18)
CUT_LEVEL, CUT_RATIO = 12.0, 6.0


def patch_matrix(place: np.ndarray, widen: float = 1.0) -> np.ndarray:
    """Map (2, 3) from the frame to the upright patch around a place; `widen` shows more."""
    scale = PATCH_BOX / (BOX_SIDE * place[2] * widen)
    middle = ((PATCH - 1) / 2, (PATCH - 1) / 2)
    return similarity(box_centres(place), np.asarray(scale), place[3], middle)


def cut_patch(grey: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(PATCH, PATCH) uint8; what lies outside the frame repeats its border."""
    return cv2.warpAffine(
        grey, matrix, (PATCH, PATCH), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def landmarks_at(grey: np.ndarray, place: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Landmarks (68, 2) in pixels of `grey` of the face at a place, however it is rolled."""
    matrix = patch_matrix(place)
    middle = (PATCH - 1) / 2
    box = Detection(middle, middle, PATCH_BOX, 0.0)
    return transform(invert(matrix), detector.landmarks(cut_patch(grey, matrix), box))


def settle(grey: np.ndarray, place: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Landmarks of a face whose place is only roughly known, such as a new detection."""
    return landmarks_at(grey, places(landmarks_at(grey, place, detector)), detector)


def confirm(
    grey: np.ndarray,
    place: np.ndarray,
    detector: FaceDetector,
    *,
    threshold: float,
    widen: float = 1.0,
) -> tuple[np.ndarray, float] | None:
    """Look for a face around a place, in the patch that stands upright there.

    Args:
        grey: (H, W) uint8.
        place: (4,) where it should be.
        threshold: smallest score.
        widen: size of the part that is searched, relative to a patch.

    Returns:
        Place (4,) of the detection nearest to the middle and its score; None if there is none.
    """
    matrix = patch_matrix(place, widen)
    middle, expected = (PATCH - 1) / 2, PATCH_BOX / widen
    best = None
    for found in detector.detect(cut_patch(grey, matrix), threshold):
        distance = np.hypot(found.x - middle, found.y - middle) / expected
        if distance < 0.45 * widen and 0.6 < found.side / expected < 1.6:
            best = min(best or (distance, found), (distance, found))
    if best is None:
        return None
    found = best[1]
    centre = transform(invert(matrix), np.array([[found.x, found.y]]))[0]
    scale = np.hypot(*matrix[0, :2])
    return place_of_box(*centre, found.side / scale, place[3]), found.score


def follow(
    before: np.ndarray, after: np.ndarray, landmarks: np.ndarray, detector: FaceDetector
) -> np.ndarray | None:
    """Landmarks of the same face in the next (or previous) frame.

    Optical flow moves the landmarks there and back; those that return give the movement, the
    landmark model then refines it.

    Args:
        before: (H, W) uint8.
        after: the other frame.
        landmarks: (68, 2) in `before`.

    Returns:
        (68, 2) in `after`; None where the face cannot be followed.
    """
    place = places(landmarks)
    matrix = patch_matrix(place)
    moved = _flow(cut_patch(before, matrix), cut_patch(after, matrix), transform(matrix, landmarks))
    if moved is None:
        return None
    step, _ = cv2.estimateAffinePartial2D(*moved, ransacReprojThreshold=3.0)
    if step is None:
        return None
    expected = places(transform(invert(matrix), transform(step, transform(matrix, landmarks))))
    if not _inside(expected, after.shape):
        return None
    found = landmarks_at(after, expected, detector)
    return found if _agree(places(found), expected) else None


def _flow(
    before: np.ndarray, after: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Points that flow carries forth and back, and where to; None if too few return."""
    start = points.astype(np.float32)[:, None]
    there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None, **FLOW)
    back, seen_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **FLOW)
    error = np.linalg.norm(back - start, axis=-1)[:, 0]
    good = (seen[:, 0] == 1) & (seen_back[:, 0] == 1) & (error < RETURN_ERROR)
    if good.mean() < MIN_GOOD_SHARE:
        return None
    return start[good, 0], there[good, 0]


def _agree(place: np.ndarray, expected: np.ndarray) -> bool:
    shift = np.hypot(*(box_centres(place) - box_centres(expected))) / expected[2]
    ratio = max(place[2] / expected[2], expected[2] / place[2])
    turn = abs(nearest_angle(place[3], expected[3]) - expected[3])
    return bool(shift < MAX_SHIFT and ratio < MAX_RATIO and turn < MAX_TURN)


def _inside(place: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether the middle of the face is in the picture."""
    x, y = box_centres(place)
    return bool(0 <= x < shape[1] and 0 <= y < shape[0] and place[2] > 2)


class CutDetector:
    """Says where the picture changes so much that it is another shot."""

    def __init__(self):
        self._before: np.ndarray | None = None
        self._usual = 2.0

    def __call__(self, grey: np.ndarray) -> bool:
        """Whether a cut lies between the last frame given and this one, (H, W) uint8."""
        small = cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._before = self._before, small
        if before is None:
            return False
        change = float(np.abs(small - before).mean())
        cut = change > max(CUT_LEVEL, CUT_RATIO * self._usual)
        if not cut:
            self._usual = 0.9 * self._usual + 0.1 * change
        return cut
