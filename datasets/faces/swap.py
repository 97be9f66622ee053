"""One person's expression on another's head: the inner face, cut out along landmarks (SSL-FER).

The inner face (brows, eyes, nose, mouth) of an image is brought to a donor's by a similarity
transform, takes on the donor's colours and is laid onto the donor's picture through a soft mask.
What was to be seen of the first person's hair, skin, jaw and background is gone; the expression is
still there. After M. Earl's recipe "Switching Eds", which the paper uses.

Deviation: the mask's border is soft in proportion to the face and the mask stays inside both faces'
outlines; colours are compared inside the mask only, so that neither hair nor background tint the
face, and where the ratio would exceed `MAX_GAIN` the rest is added; a frontal and a turned head, of
which the one does not fit on the other, are not swapped.
"""

import cv2
import numpy as np

from svfap.datasets.faces.geometry import (
    BROWS,
    EYES,
    JAW,
    LEFT_EYE,
    MOUTH,
    NOSE,
    RIGHT_EYE,
    transform,
)

# What both faces are aligned by, and the groups whose convex hulls make the mask.
INNER = np.r_[BROWS, EYES, NOSE, MOUTH]
HULLS = (np.r_[BROWS, EYES], np.r_[NOSE, MOUTH])

COLOUR_BLUR = 0.6  # standard deviation, in distances between the pupils
GROW, FEATHER = 0.08, 0.1  # how far the mask grows, and how soft it is, in the same
MAX_GAIN = 1.6  # largest change of a colour, as a factor; what is missing then is added
MAX_MISFIT = 0.22  # of the aligned landmarks, relative to their spread
MIN_PUPILS_PX = 4.0  # smaller faces have no expression to speak of
MAX_ZOOM = 4.0
MIN_VISIBLE = 0.7  # share of the mask that both pictures must show
SHIFT = 4  # binary digits behind the point of polygons' corners


def swap_face(
    image: np.ndarray, points: np.ndarray, donor: np.ndarray, donor_points: np.ndarray
) -> np.ndarray | None:
    """Lay the inner face of an image on a donor's head.

    Args:
        image: (H, W, 3) uint8, whose expression is kept.
        points: (68, 2) its landmarks in pixels; NaN: no face.
        donor: (H', W', 3) uint8, whose head, hair, skin and background are kept.
        donor_points: (68, 2) its landmarks.

    Returns:
        (H', W', 3) uint8, a new array; None where it cannot be done: no face in one of the two,
        a tiny or collapsed face, or one that is mostly outside its picture. The caller counts.
    """
    matrix = alignment(points, donor_points)
    if matrix is None:
        return None
    pupils = _pupils(donor_points)
    moved = transform(matrix, np.asarray(points, np.float64))
    found = _mask(moved, np.asarray(donor_points, np.float64), donor.shape[:2], pupils)
    if found is None:
        return None
    mask, area, (left, top) = found
    bottom, right = top + mask.shape[0], left + mask.shape[1]
    place = matrix - np.array([[0, 0, left], [0, 0, top]])
    size = (right - left, bottom - top)
    face = cv2.warpAffine(image, place, size, flags=_filter(matrix))
    shown = cv2.warpAffine(np.ones(image.shape[:2], np.float32), place, size)
    mask = mask * (shown > 0.999)
    if mask.sum() < MIN_VISIBLE * area:
        return None
    head = donor[top:bottom, left:right].astype(np.float32)
    face = _recoloured(face.astype(np.float32), head, mask, COLOUR_BLUR * pupils)
    soft = cv2.GaussianBlur(mask, (0, 0), FEATHER * pupils)[..., None]
    soft *= shown[..., None]
    result = donor.copy()
    blend = head + soft * (face - head)
    result[top:bottom, left:right] = np.clip(blend + 0.5, 0, 255).astype(np.uint8)
    return result


def swapped_points(points: np.ndarray, donor_points: np.ndarray) -> np.ndarray | None:
    """Landmarks of what `swap_face` makes: the donor's jaw, all else moved there.

    Args:
        points: (68, 2) of the image.
        donor_points: (68, 2).

    Returns:
        (68, 2) pixels of the donor's picture; None where no face can be aligned.
    """
    matrix = alignment(points, donor_points)
    if matrix is None:
        return None
    moved = transform(matrix, np.asarray(points, np.float64))
    moved[JAW] = donor_points[JAW]
    return moved


def alignment(points: np.ndarray, donor_points: np.ndarray) -> np.ndarray | None:
    """Similarity (Procrustes) from the inner landmarks of one face to those of another.

    Args:
        points: (68, 2).
        donor_points: (68, 2).

    Returns:
        (2, 3): donor pixel = matrix @ (x, y, 1); None for faces that are not there or collapsed.
    """
    one, other = (np.asarray(p, np.float64)[INNER] @ (1, 1j) for p in (points, donor_points))
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    if min(_pupils(points), _pupils(donor_points)) < MIN_PUPILS_PX:
        return None
    middle, other_middle = one.mean(), other.mean()
    one, other = one - middle, other - other_middle
    turn = np.vdot(one, other)
    zoom = np.sqrt((np.abs(other) ** 2).sum() / max((np.abs(one) ** 2).sum(), 1e-12))
    if abs(turn) < 1e-9 or not 1 / MAX_ZOOM <= zoom <= MAX_ZOOM:
        return None
    linear = zoom * turn / abs(turn)
    if np.linalg.norm(linear * one - other) > MAX_MISFIT * np.linalg.norm(other):
        return None
    shift = other_middle - linear * middle
    return np.array(
        [[linear.real, -linear.imag, shift.real], [linear.imag, linear.real, shift.imag]]
    )


def _pupils(points: np.ndarray) -> float:
    """Distance between the eyes' centres in pixels."""
    points = np.asarray(points, np.float64)
    return float(np.linalg.norm(points[RIGHT_EYE].mean(0) - points[LEFT_EYE].mean(0)))


def _filter(matrix: np.ndarray) -> int:
    """Averaging where the face becomes smaller."""
    return cv2.INTER_AREA if np.hypot(*matrix[:, 0]) < 0.5 else cv2.INTER_LINEAR


def _mask(
    moved: np.ndarray, donor_points: np.ndarray, shape: tuple[int, int], pupils: float
) -> tuple[np.ndarray, float, tuple[int, int]] | None:
    """Union of both faces' hulls, grown.

    Returns:
        Float mask (0 or 1) of the part of the donor's picture that matters, the area of the whole
        union in pixels, and the part's (left, top); None where hardly any of it is in the picture.
    """
    grow = max(1, round(GROW * pupils))
    border = grow + int(np.ceil(4 * FEATHER * pupils)) + 1
    corners = np.concatenate([moved[INNER], np.asarray(donor_points)[INNER]])
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int) + 1
    low, high = low - border, high + border
    if (high - low).max() > 4 * max(shape):
        return None
    mask, outlines = np.zeros((2, *(high - low)[::-1]), np.uint8)
    for points in (moved, donor_points):
        for group in HULLS:
            _fill(mask, points[group] - low)
        outline = np.zeros_like(mask)
        _fill(outline, points - low)
        outlines += outline
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1,) * 2)
    mask = cv2.dilate(mask, disc) & cv2.dilate((outlines == 2).view(np.uint8), disc)
    area = float(mask.sum())
    start = np.clip(low, 0, shape[::-1])
    end = np.clip(high, 0, shape[::-1])
    (left, top), (right, bottom) = start - low, end - low
    if right <= left or bottom <= top or mask[top:bottom, left:right].sum() < MIN_VISIBLE * area:
        return None
    return mask[top:bottom, left:right].astype(np.float32), area, (int(start[0]), int(start[1]))


def _fill(mask: np.ndarray, points: np.ndarray) -> None:
    """Set the convex hull of some points to 1."""
    hull = cv2.convexHull(np.float32(points))
    cv2.fillConvexPoly(mask, np.round(hull * 2**SHIFT).astype(np.int32), 1, shift=SHIFT)


def _recoloured(face: np.ndarray, head: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """The face with the head's colours: times the ratio of both, blurred inside the mask."""
    inside = mask[..., None]
    of_face, of_head, weight = (
        cv2.GaussianBlur(part, (0, 0), sigma) for part in (face * inside, head * inside, mask)
    )
    weight = np.maximum(weight, 1e-4)[..., None]
    of_face, of_head = of_face / weight, of_head / weight
    gain = np.clip((of_head + 1) / (of_face + 1), 1 / MAX_GAIN, MAX_GAIN)
    return face * gain + (of_head - of_face * gain)
