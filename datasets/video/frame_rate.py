"""`frame_rate.json` beside an annotation file: frames per second of folders of frames."""

import json
import math
import os
from pathlib import Path

from datasets.files import read_json, write_text

FILE_NAME = "frame_rate.json"


def write_frame_rate(folder: str | os.PathLike, fps: float) -> Path:
    """Record the rate of all frame folders in the annotation files of a folder."""
    path = Path(folder) / FILE_NAME
    write_text(path, json.dumps({"frames_per_second": fps}) + "\n")
    return path


def read_frame_rate(annotation_file: str | os.PathLike) -> float | None:
    """The rate recorded beside an annotation file; None where none is.

    Raises:
        ValueError: the file does not hold a positive number.
    """
    path = Path(annotation_file).parent / FILE_NAME
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        fps = float(content["frames_per_second"])
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"{fps} is not positive")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path}: {error}; expected {{"frames_per_second": 4.1667}}') from error
    return fps
