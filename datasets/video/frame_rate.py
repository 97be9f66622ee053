"""`frame_rate.json`: frames per second of folders of frames.

Beside an annotation file it holds for all its folders; inside a folder of frames it is that
folder's, with the time of each frame where they are not evenly spaced.
"""

import json
import math
import os
from pathlib import Path

import numpy as np

from svfap.datasets.files import read_json, write_text

FILE_NAME = "frame_rate.json"


def write_frame_rate(
    folder: str | os.PathLike, fps: float, seconds: np.ndarray | None = None
) -> Path:
    """Record the rate of all frame folders in the annotation files of a folder, or of its frames.

    Args:
        fps: frames per second, on average.
        seconds: (n,) time of each frame, where they are not evenly spaced.
    """
    path = Path(folder) / FILE_NAME
    record = {"frames_per_second": fps}
    if seconds is not None:
        record["seconds"] = [round(float(second), 6) for second in seconds]
    write_text(path, json.dumps(record) + "\n")
    return path


def read_frame_rate(annotation_file: str | os.PathLike) -> float | None:
    """The rate recorded beside an annotation file; None where none is."""
    return read_folder_rate(Path(annotation_file).parent)[0]


def read_folder_rate(folder: str | os.PathLike) -> tuple[float | None, np.ndarray | None]:
    """Frames per second recorded in a folder, and (n,) the time of each frame; None if unknown.

    Raises:
        ValueError: the file does not hold a positive number, or times that do not increase.
    """
    path = os.path.join(folder, FILE_NAME)
    if not os.path.isfile(path):
        return None, None
    try:
        record = read_json(path)
        fps = float(record["frames_per_second"])
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"{fps} is not positive")
        seconds = record.get("seconds")
        if seconds is not None:
            seconds = np.array(seconds, np.float64)
            if seconds.ndim != 1 or not (np.diff(seconds) > 0).all():
                raise ValueError("seconds do not increase")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: {error}; expected {{"frames_per_second": 4.1667}}') from error
    return fps, seconds
