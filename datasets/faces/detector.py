"""What finds faces and their landmarks in one picture; dlib behind a small interface.

Another detector is one class with the two methods of `FaceDetector` and a line in `DETECTORS`.
dlib is imported only when its detector is made.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from svfap.extras import install

LANDMARK_FILE = "models/shape_predictor_68_face_landmarks.dat"


class MissingExtraError(ImportError, ValueError):
    """The packages of the extra `faces` are not installed; the message says how to."""


class Detection(NamedTuple):
    """An upright square around a face, from the brows to the chin, in pixels of the picture."""

    x: float  # centre
    y: float  # centre
    side: float  # width and height
    score: float  # the detector's confidence; 0 is its usual threshold, larger is surer


class FaceDetector(Protocol):
    """Finds upright faces in a grey picture.

    Attributes:
        min_side: side in pixels of the smallest face that it finds.
    """

    min_side: float

    def detect(self, grey: np.ndarray, threshold: float = 0.0) -> list[Detection]:
        """Faces of an (H, W) uint8 picture with a score of at least `threshold`."""

    def landmarks(self, grey: np.ndarray, box: Detection) -> np.ndarray:
        """(68, 2) float64 landmarks of the upright face in `box`."""


class DlibDetector:
    """dlib's HOG frontal face detector and 68-point shape predictor.

    Landmark model: that of face_recognition_models, trained on iBUG 300-W.

    Raises:
        MissingExtraError: dlib or the model file is not installed.
    """

    min_side = 80.0

    def __init__(self):
        try:
            import dlib
        except ImportError as error:
            raise MissingExtraError(
                f"finding faces needs dlib, which cannot be imported ({error}); {install('faces')}"
            ) from error
        self._rectangle = dlib.rectangle
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(landmark_file()))

    def detect(self, grey: np.ndarray, threshold: float = 0.0) -> list[Detection]:
        """See `FaceDetector`."""
        boxes, scores, _ = self._detector.run(np.ascontiguousarray(grey), 0, threshold)
        found = []
        for box, score in zip(boxes, scores):
            x, y = (box.left() + box.right()) / 2, (box.top() + box.bottom()) / 2
            found.append(Detection(x, y, float(box.width()), float(score)))
        return found

    def landmarks(self, grey: np.ndarray, box: Detection) -> np.ndarray:
        """See `FaceDetector`."""
        left, top = round(box.x - box.side / 2), round(box.y - box.side / 2)
        side = round(box.side)
        rectangle = self._rectangle(left, top, left + side, top + side)
        shape = self._predictor(np.ascontiguousarray(grey), rectangle)
        return np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)


def landmark_file() -> Path:
    """The landmark model inside face_recognition_models.

    The package itself is not imported: it needs pkg_resources, which new setuptools lack.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, LANDMARK_FILE)
        if path.is_file():
            return path
    raise MissingExtraError(
        f"finding faces needs {LANDMARK_FILE} of face_recognition_models, which is not installed; "
        f"{install('faces')}"
    )


DETECTORS: dict[str, Callable[[], FaceDetector]] = {"dlib": DlibDetector}


def create_detector(name: str = "dlib") -> FaceDetector:
    """Make a detector by name."""
    if name not in DETECTORS:
        raise ValueError(f"face detector {name!r} is not one of {sorted(DETECTORS)}")
    return DETECTORS[name]()


def search_picture(
    grey: np.ndarray, detector: FaceDetector, *, min_face: float, threshold: float = 0.0
) -> list[Detection]:
    """Detect at the size at which the smallest wanted face is just large enough.

    Args:
        grey: (H, W) uint8.
        min_face: smallest face, as a share of the shorter side of the picture.

    Returns:
        Faces in pixels of `grey`.
    """
    scale = detector.min_side / (min_face * min(grey.shape))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=how)
    real = (scaled.shape[1] / grey.shape[1], scaled.shape[0] / grey.shape[0])
    return [
        Detection(
            (found.x + 0.5) / real[0] - 0.5,
            (found.y + 0.5) / real[1] - 0.5,
            found.side / scale,
            found.score,
        )
        for found in detector.detect(scaled, threshold)
    ]
