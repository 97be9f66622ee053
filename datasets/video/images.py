"""Decoding single images, by the fastest library that gives the right pixels."""

import cv2  # before decord, which otherwise makes OpenCV return None for every PNG
import numpy as np
import simplejpeg

JPEG_SUFFIXES = (".jpg", ".jpeg")
IMAGE_SUFFIXES = (*JPEG_SUFFIXES, ".png", ".bmp")
JPEG_SIGNATURE = b"\xff\xd8"
PNG_SIGNATURE, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def decode_image(data: bytes) -> np.ndarray | None:
    """Decode one image to (H, W, 3) uint8 RGB; None if it is damaged.

    Grey images become RGB, transparency is dropped, orientation tags are not applied.
    """
    if data[:2] == JPEG_SIGNATURE:
        try:
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        except ValueError:
            if _simplejpeg_can(data):
                return None  # cut off or damaged
    if data[:8] == PNG_SIGNATURE and PNG_END not in data[-64:]:
        return None
    if not data:
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_into(frame: np.ndarray, data: bytes | memoryview) -> bool:
    """Decode one image into an array, without memory of its own where it is a JPEG.

    Args:
        frame: (H, W, 3) uint8, contiguous; its contents are undefined where decoding fails.
        data: the image file.

    Returns:
        Whether the image is intact and has that size.
    """
    if data[:2] == JPEG_SIGNATURE:
        try:
            decoded = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=frame)
        except ValueError:  # damaged, larger, or of a kind simplejpeg has not
            decoded = None
        if decoded is not None and decoded.shape == frame.shape:
            return True
    image = decode_image(bytes(data))
    if image is None or image.shape != frame.shape:
        return False
    frame[:] = image
    return True


def _simplejpeg_can(data: bytes) -> bool:
    """Whether simplejpeg decodes this kind of JPEG at all (it has no CMYK)."""
    try:
        colours = simplejpeg.decode_jpeg_header(data, strict=False)[2]
    except ValueError:
        return True
    return colours not in ("CMYK", "YCCK")
