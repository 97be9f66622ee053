"""Decoding single images, by the fastest library that gives the right pixels."""

from collections.abc import Sequence
from pathlib import Path

import cv2  # before decord, which otherwise makes OpenCV return None for every PNG
import numpy as np
import simplejpeg

from svfap.datasets.video.upright import AS_IT_IS, JPEG_SIGNATURE, PNG_SIGNATURE, image_turn

JPEG_SUFFIXES = (".jpg", ".jpeg")
IMAGE_SUFFIXES = (*JPEG_SUFFIXES, ".png", ".bmp")
PNG_END = b"IEND\xaeB`\x82"
# Warnings of libjpeg that come with a whole picture, such as of surplus bytes before the end, which
# some cameras write.
HARMLESS = ("extraneous bytes before", "unknown JFIF", "Unknown Adobe", "Invalid SOS parameters")
# Of a folder of pictures: pairs of neighbours that are looked at; the correlation from which two
# are alike (in a video above 0.95, faces of different people around 0.4); the share of pairs that
# may be unlike in a video, where it is cut.
NEIGHBOURS, ALIKE, MOST_CUTS = 24, 0.8, 1 / 8
SCAN_BEGINS, JPEG_ENDS = b"\xff\xda", b"\xff\xd9"


def decode_image(data: bytes) -> np.ndarray | None:
    """Decode one image to (H, W, 3) uint8 RGB; None if it is damaged.

    Grey images become RGB, transparency is dropped, the EXIF orientation is applied.
    """
    image = _decode(data)
    return None if image is None else np.ascontiguousarray(image_turn(data)(image))


def _decode(data: bytes) -> np.ndarray | None:
    """The pixels as they are stored."""
    if data[:2] == JPEG_SIGNATURE:
        image, damaged = _decode_jpeg(data)
        if damaged or image is not None:
            return image
    if not data or (data[:8] == PNG_SIGNATURE and PNG_END not in data[-64:]):
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # impossible sizes
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_jpeg(data: bytes) -> tuple[np.ndarray | None, bool]:
    """The picture, or None and whether that is because it is damaged."""
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB"), False
    except (ValueError, KeyError) as error:  # KeyError: cut off inside the header
        said = str(error)
    try:
        if simplejpeg.decode_jpeg_header(data, strict=False)[2] in ("CMYK", "YCCK"):
            return None, False  # simplejpeg has no conversion for these
        whole = data.rfind(JPEG_ENDS) > data.rfind(SCAN_BEGINS)
        if whole and any(words in said for words in HARMLESS):
            return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=False), False
    except (ValueError, KeyError):
        pass
    return None, True


def are_frames(paths: Sequence[Path]) -> bool:
    """Whether pictures, in their order, look like frames of one video.

    They have one size, and of some pairs of neighbours few are unlike each other. What cannot be
    read is left to others.
    """
    random = np.random.default_rng(0)
    count = max(0, min(NEIGHBOURS, len(paths) - 1))
    starts = random.choice(len(paths) - 1, count, replace=False) if count else []
    pairs = [[_picture(paths[place]) for place in (n, n + 1)] for n in starts]
    pairs = [pair for pair in pairs if all(picture is not None for picture in pair)]
    if len({picture.shape for pair in pairs for picture in pair}) > 1:
        return False
    unlike = sum(_likeness(*pair) < ALIKE for pair in pairs)
    return unlike == 0 or unlike < MOST_CUTS * len(pairs)


def _picture(path: Path) -> np.ndarray | None:
    try:
        return decode_image(path.read_bytes())
    except OSError:
        return None


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two pictures, made small; 1 where one of them is of one colour."""
    small = [cv2.resize(p, (16, 16), interpolation=cv2.INTER_AREA).ravel() for p in (one, other)]
    return float(np.corrcoef(small)[0, 1]) if all(np.ptp(p) for p in small) else 1.0


def decode_into(frame: np.ndarray, data: bytes | memoryview) -> bool:
    """Decode one image into an array, without memory of its own where it is a JPEG.

    Args:
        frame: (H, W, 3) uint8, contiguous; its contents are undefined where decoding fails.

    Returns:
        Whether the image is intact and has that size.
    """
    if data[:2] == JPEG_SIGNATURE and image_turn(data) == AS_IT_IS:
        try:
            decoded = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=frame)
        except (ValueError, KeyError):  # damaged, larger, or of a kind simplejpeg has not
            decoded = None
        if decoded is not None and decoded.shape == frame.shape:
            return True
    image = decode_image(bytes(data))
    if image is None or image.shape != frame.shape:
        return False
    frame[:] = image
    return True
