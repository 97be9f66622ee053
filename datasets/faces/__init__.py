"""Faces in video: found, followed, and cut out into steady square crops.

>>> detector = create_detector()  # needs the extra `faces`
>>> with open_video("talk.mp4") as video:
...     found = find_faces(video, detector)
...     track = found.largest()
...     crop = plan_crops(track, style=STYLES["voxceleb"], size=224)
...     frames = cut_track(video, track, crop)  # (T, 224, 224, 3) uint8

Coordinates are pixels (x, y) of the video's frames, the centre of the first pixel being (0, 0).
Landmarks are the 68 points of the iBUG scheme; left and right are the viewer's.
"""

from svfap.datasets.faces.crops import (
    STYLES,
    CropPlan,
    CropStyle,
    crop_blocks,
    cut_crops,
    cut_track,
    parse_style,
    plan_crops,
)
from svfap.datasets.faces.detector import (
    Detection,
    FaceDetector,
    MissingExtraError,
    create_detector,
)
from svfap.datasets.faces.search import FaceVideo, find_faces
from svfap.datasets.faces.tracker import DETECTED, FOLLOWED, INTERPOLATED, Track, TrackingOptions

__all__ = [
    "DETECTED",
    "FOLLOWED",
    "INTERPOLATED",
    "STYLES",
    "CropPlan",
    "CropStyle",
    "Detection",
    "FaceDetector",
    "FaceVideo",
    "MissingExtraError",
    "Track",
    "TrackingOptions",
    "create_detector",
    "crop_blocks",
    "cut_crops",
    "cut_track",
    "find_faces",
    "parse_style",
    "plan_crops",
]
