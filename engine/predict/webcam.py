"""Answers for a camera while it runs: a window of its last seconds, again and again."""

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from svfap.datasets.files import GrowingFile, replacing
from svfap.engine.predict.answers import VideoPrediction
from svfap.engine.predict.draw import draw_answers
from svfap.engine.predict.files import as_dict
from svfap.engine.predict.predictor import Predictor

logger = logging.getLogger(__name__)

LONGEST_SIDE = 640  # of the frames that are looked at, in pixels
TITLE = "svfap (q ends)"
ENDS = (ord("q"), 27)  # q and Escape


class Camera:
    """The last seconds of a camera, stream or file, read by a thread of its own.

    Args:
        source: number of a device, URL of a stream, or file, which is played at its own speed.
        seconds: how much is kept.

    Raises:
        ValueError: it cannot be opened.
    """

    def __init__(self, source: str, seconds: float):
        self._capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
        if not self._capture.isOpened():
            raise ValueError(
                f"--webcam {source}: no camera or stream can be opened there; give the number of "
                "another device (0, 1, ...), the URL of a stream or a file"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS) if os.path.isfile(source) else 0
        self._pause, self._seconds = (1 / rate if rate > 0 else 0), seconds
        self._frames: deque[tuple[float, np.ndarray]] = deque()
        self._changed = threading.Condition()
        self.ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self.ended:
            there, frame = self._capture.read()
            with self._changed:
                if there:
                    now = time.monotonic()
                    self._frames.append((now, _small(frame[..., ::-1])))
                    while self._frames[0][0] < now - self._seconds:
                        self._frames.popleft()
                self.ended = self.ended or not there
                self._changed.notify()
            time.sleep(self._pause)
        self._capture.release()

    def windows(self) -> Iterator[tuple[np.ndarray, float]]:
        """Frames (T, H, W, 3) and their rate: the last seconds, whenever the one before is done."""
        last = -1.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda last=last: self.ended or self._is_full(last))
                frames = list(self._frames)
            if len(frames) > 1 and frames[-1][0] > last:
                (first, _), (last, _) = frames[0], frames[-1]
                yield np.stack([frame for _, frame in frames]), (len(frames) - 1) / (last - first)
            if self.ended:
                return

    def _is_full(self, last: float) -> bool:
        times = [self._frames[place][0] for place in (0, -1)] if self._frames else [0.0, 0.0]
        return times[1] > last and times[1] - times[0] >= 0.9 * self._seconds

    def close(self) -> None:
        """Let go of the camera."""
        self.ended = True
        self._thread.join(timeout=2)  # a camera may hang


def watch(predictor: Predictor, source: str, output_dir: Path | None) -> int:
    """Answer until the source ends, q is pressed in the window, or Ctrl-C; returns how often.

    Args:
        predictor: whose clips say how many seconds are looked at.
        source: see `Camera`.
        output_dir: for `webcam.jsonl`, a line per answer, and `webcam.jpg`, the last picture.
    """
    options = predictor.options
    seconds = ((options.clip_frames - 1) * options.sampling_rate + 1) / (options.fps or 25)
    camera, begun, count = Camera(source, seconds), time.monotonic(), 0
    show = _shower()
    logger.info("looking at %.1f seconds at a time; Ctrl-C ends", seconds)
    try:
        for frames, rate in camera.windows():
            prediction = predictor.predict(frames, frame_rate=rate)
            count += 1
            _tell(prediction, time.monotonic() - begun, output_dir)
            picture = draw_answers(prediction, frames[-1], len(frames) - 1)
            if output_dir:
                with replacing(output_dir / "webcam.jpg") as temporary:
                    temporary.write_bytes(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())
            if show(picture):
                break
    except KeyboardInterrupt:
        pass
    finally:
        camera.close()
    logger.info("%d answers in %.0f seconds", count, time.monotonic() - begun)
    return count


def _small(frame: np.ndarray) -> np.ndarray:
    scale = LONGEST_SIDE / max(frame.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(frame)
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _tell(prediction: VideoPrediction, seconds: float, output_dir: Path | None) -> None:
    content = as_dict(prediction)
    for track in content["tracks"]:
        best = sorted(track["scores"].items(), key=lambda item: -item[1])[:3]
        said = "  ".join(f"{name} {score:.2f}" for name, score in best)
        logger.info("%.1f s: %s  %s", seconds, track["what"], said)
    if not content["tracks"]:
        logger.info("%.1f s: no face", seconds)
    if output_dir:
        keep = [
            {k: track.get(k) for k in ("what", "label", "scores")} for track in content["tracks"]
        ]
        with GrowingFile(output_dir / "webcam.jsonl") as file:
            line = {"seconds": round(seconds, 2), "status": content["status"], "tracks": keep}
            file.write(json.dumps(line) + "\n")


def _shower():
    """A function that shows a picture and says whether to end; without a screen it does nothing."""
    try:
        cv2.namedWindow(TITLE)
    except cv2.error:
        logger.info("this OpenCV opens no windows; answers are printed (--output_dir: and drawn)")
        return lambda picture: False

    def show(picture: np.ndarray) -> bool:
        cv2.imshow(TITLE, picture[..., ::-1])
        return cv2.waitKey(1) & 0xFF in ENDS

    return show
