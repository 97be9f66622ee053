"""Turning pictures the way their file says they are to be shown."""

import io
from typing import NamedTuple

import av
import numpy as np
import PIL.Image
from av.sidedata.sidedata import Type

ORIENTATION_TAG = 0x0112
JPEG_SIGNATURE, PNG_SIGNATURE = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
PICTURE_BEGINS = 0xDA  # after the blocks about it, of which EXIF is one
WHOLE_TURN = 65536  # 1.0 in a display matrix


class Turn(NamedTuple):
    """One of the eight ways to lay a picture: transposed first, then mirrored."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Turn an (H, W, 3) picture; a view of it."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]


AS_IT_IS = Turn()
# Meaning of EXIF's orientation values.
EXIF_TURNS = {
    1: AS_IT_IS,
    2: Turn(columns_reversed=True),
    3: Turn(rows_reversed=True, columns_reversed=True),
    4: Turn(rows_reversed=True),
    5: Turn(transposed=True),
    6: Turn(transposed=True, columns_reversed=True),
    7: Turn(transposed=True, rows_reversed=True, columns_reversed=True),
    8: Turn(transposed=True, rows_reversed=True),
}


def image_turn(data: bytes | memoryview) -> Turn:
    """How an image file is to be turned: its EXIF orientation, none where it says nothing."""
    if not _may_have_exif(data):
        return AS_IT_IS
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            return EXIF_TURNS.get(image.getexif().get(ORIENTATION_TAG), AS_IT_IS)
    except Exception:  # a damaged note; whether the picture itself is damaged shows in decoding
        return AS_IT_IS


def _may_have_exif(data: bytes | memoryview) -> bool:
    """A quick look, since most images have none."""
    if data[:8] == PNG_SIGNATURE:
        return b"eXIf" in bytes(data)
    if data[:2] != JPEG_SIGNATURE:
        return False
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF and data[place + 1] != PICTURE_BEGINS:
        if data[place + 4 : place + 10] == b"Exif\0\0":
            return True
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def frame_turn(frame: av.VideoFrame) -> Turn:
    """How a frame is to be turned: the display matrix of its file, as FFmpeg applies it.

    Quarter turns and mirrors are applied; other angles, which no camera writes, are not.
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return AS_IT_IS
    a, b, _, c, d = (value / WHOLE_TURN for value in np.frombuffer(matrix, np.int32)[:5].tolist())
    if abs(b) + abs(c) < 0.01 * (abs(a) + abs(d)):  # x' = a x, y' = d y
        return Turn(False, d < 0, a < 0)
    if abs(a) + abs(d) < 0.01 * (abs(b) + abs(c)):  # x' = c y, y' = b x
        return Turn(True, b < 0, c < 0)
    return AS_IT_IS
