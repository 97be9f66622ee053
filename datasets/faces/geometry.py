"""Where a face is: five numbers from 68 landmarks, and the maps between frame and patch.

A place is an array whose last axis is (x, y, unit, roll): the point between the eyes in pixels, the
face's unit length in pixels (the distance between the eyes as seen from the front), and the roll
in radians, positive when the head turns clockwise in the picture.
"""

import numpy as np

# Ranges of the 68 points; left and right are the viewer's.
JAW, BROWS, NOSE = slice(0, 17), slice(17, 27), slice(27, 36)
LEFT_EYE, RIGHT_EYE, EYES, MOUTH = slice(36, 42), slice(42, 48), slice(36, 48), slice(48, 68)
LEFT_MOUTH, RIGHT_MOUTH = 48, 54
# Eyes to mouth corners, in distances between the eyes; median over frontal faces.
EYES_TO_MOUTH = 1.1
# The detector's box: side, and its centre below the eyes, in units; measured like the above.
BOX_SIDE, BOX_DROP = 2.15, 0.5


def places(landmarks: np.ndarray) -> np.ndarray:
    """Place of each face.

    The unit is the larger of what the eyes and what eyes and mouth say: turning the head shortens
    the former, nodding the latter, so that the face's size hardly depends on where it looks.

    Args:
        landmarks: (..., 68, 2) pixels.

    Returns:
        (..., 4) x, y, unit, roll.
    """
    left = landmarks[..., LEFT_EYE, :].mean(-2)
    right = landmarks[..., RIGHT_EYE, :].mean(-2)
    mouth = (landmarks[..., LEFT_MOUTH, :] + landmarks[..., RIGHT_MOUTH, :]) / 2
    middle = (left + right) / 2
    across, down = right - left, mouth - middle
    unit = np.maximum(
        np.linalg.norm(across, axis=-1), np.linalg.norm(down, axis=-1) / EYES_TO_MOUTH
    )
    axis = across + np.stack([down[..., 1], -down[..., 0]], -1)
    roll = np.arctan2(axis[..., 1], axis[..., 0])
    return np.stack([middle[..., 0], middle[..., 1], unit, roll], -1)


def eye_roll(landmarks: np.ndarray) -> np.ndarray:
    """Angle of the line through both eyes, radians; (..., 68, 2) -> (...)."""
    across = landmarks[..., RIGHT_EYE, :].mean(-2) - landmarks[..., LEFT_EYE, :].mean(-2)
    return np.arctan2(across[..., 1], across[..., 0])


def sideways(landmarks: np.ndarray) -> np.ndarray:
    """How far the middle of the jaw lies beside the middle of the eyes, across the face, in pixels.

    Zero for frontal faces; in profile the eyes are at one end of what is seen of the face.

    Args:
        landmarks: (..., 68, 2) pixels.

    Returns:
        (...) positive towards the right eye.
    """
    place = places(landmarks)
    axis = np.stack([np.cos(place[..., 3]), np.sin(place[..., 3])], -1)
    along = ((landmarks[..., JAW, :] - place[..., None, :2]) * axis[..., None, :]).sum(-1)
    return (along.min(-1) + along.max(-1)) / 2


def place_of_box(x: float, y: float, side: float, roll: float = 0.0) -> np.ndarray:
    """Place (4,) that a detector's box (centre, side) suggests."""
    unit = side / BOX_SIDE
    drop = BOX_DROP * unit
    return np.array([x + drop * np.sin(roll), y - drop * np.cos(roll), unit, roll])


def box_centres(place: np.ndarray, drop: float = BOX_DROP) -> np.ndarray:
    """Point `drop` units below the eyes along the face; (..., 4) -> (..., 2) pixels."""
    length = drop * place[..., 2]
    return np.stack(
        [
            place[..., 0] - length * np.sin(place[..., 3]),
            place[..., 1] + length * np.cos(place[..., 3]),
        ],
        -1,
    )


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two places' upright boxes."""
    low = np.maximum(_corner(one, -1), _corner(other, -1))
    high = np.minimum(_corner(one, 1), _corner(other, 1))
    shared = np.prod(np.maximum(high - low, 0))
    areas = (BOX_SIDE * one[2]) ** 2 + (BOX_SIDE * other[2]) ** 2
    return float(shared / (areas - shared))


def _corner(place: np.ndarray, sign: int) -> np.ndarray:
    return box_centres(place) + sign * BOX_SIDE * place[2] / 2


def similarity(
    centre: np.ndarray, scale: np.ndarray, roll: np.ndarray, target: np.ndarray | tuple
) -> np.ndarray:
    """Maps that turn by -roll, scale, and bring `centre` to `target`.

    Args:
        centre: (..., 2) pixels of the frame.
        scale: (...) result pixels per frame pixel.
        roll: (...) radians.
        target: (2,) pixels of the result.

    Returns:
        (..., 2, 3): result = matrix @ (x, y, 1).
    """
    cos, sin = scale * np.cos(roll), scale * np.sin(roll)
    linear = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    shift = np.asarray(target) - (linear @ centre[..., None])[..., 0]
    return np.concatenate([linear, shift[..., None]], -1)


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply (..., 2, 3) maps to (..., n, 2) points."""
    linear = np.swapaxes(matrix[..., :2], -1, -2)
    return points @ linear + matrix[..., None, :, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """Maps the other way; (..., 2, 3) -> (..., 2, 3)."""
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], -1)


def nearest_angle(angle: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The same angle within pi of `reference`, radians."""
    return reference + np.angle(np.exp(1j * (angle - reference)))
