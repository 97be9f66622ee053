"""Pictures of predictions: scores over time, and the video with boxes and labels drawn in."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib.figure import Figure

from svfap.datasets.files import replacing, utf8_path
from svfap.datasets.video.open_video import open_video
from svfap.engine.predict.answers import TrackPrediction, VideoPrediction
from svfap.engine.report.plots import LINE_STYLES, MARKERS, OKABE_ITO, save_figure

MAX_LINES = 7  # classes drawn in a timeline; the others are weaker throughout
BARS = 3  # classes written beside a face
LONGEST_SIDE = 1280  # of an annotated video, in pixels
FONT = cv2.FONT_HERSHEY_SIMPLEX
CLOCK = 1000  # ticks per second of annotated videos, which keeps uneven frame times


def plot_timeline(prediction: VideoPrediction, out_png: str | Path) -> None:
    """Draw the scores of every face over time, a panel each."""
    if not prediction.tracks:
        raise ValueError(f"{prediction.path} has no face to draw a timeline of")
    save_figure(timeline_figure(prediction), out_png)


def timeline_figure(prediction: VideoPrediction) -> Figure:
    """Figure of `plot_timeline`; a window is drawn at its middle."""
    count = len(prediction.tracks)
    figure = Figure(figsize=(8, 2.6 * count + 0.6), layout="constrained")
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for number, (axis, track) in enumerate(zip(panels, prediction.tracks, strict=True), start=1):
        middle, scores = over_time(track, prediction.facts.times)
        strongest = np.argsort(-np.abs(scores).max(0), kind="stable")[:MAX_LINES]
        for place, column in enumerate(sorted(strongest)):
            axis.plot(
                middle,
                scores[:, column],
                color=OKABE_ITO[place % len(OKABE_ITO)],
                linestyle=LINE_STYLES[place % len(LINE_STYLES)],
                marker=MARKERS[place % len(MARKERS)] if len(middle) < 40 else None,
                markersize=4,
                label=track.names[column],
            )
        if track.task.probabilities:
            axis.set_ylim(0, 1)
        axis.set_ylabel("probability" if track.task.probabilities else "value")
        axis.set_title(f"face {number}" if track.span.corners is not None else "whole picture")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
        axis.grid(alpha=0.3)
    times = prediction.facts.times
    panels[-1].set_xlim(0, max(float(times[-1]), 1e-3))
    panels[-1].set_xlabel("seconds")
    return figure


def over_time(track: TrackPrediction, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Answers as a function of time: of frames that have their own, else of windows.

    Args:
        times: (num_frames,) seconds of the video's frames.

    Returns:
        (m,) seconds (of a window: its middle) and (m, num_outputs).
    """
    if track.frame_scores is not None:
        return times[track.frames], track.frame_scores
    return track.seconds.mean(1), track.window_scores


def annotate_video(prediction: VideoPrediction, out_mp4: str | Path) -> None:
    """Write the video with each face's box and its strongest answers at that time.

    Args:
        prediction: of a video with or without faces; frames without are written as they are.
        out_mp4: file to write, H.264; its folder must exist.

    Raises:
        datasets.video.open_video.UnreadableVideoError: the video can no longer be read.
    """
    facts = prediction.facts
    scale = min(1.0, LONGEST_SIDE / max(facts.height, facts.width))
    width, height = (max(2, int(side * scale) // 2 * 2) for side in (facts.width, facts.height))
    curves = [_Curve(track, facts.times) for track in prediction.tracks]
    with (
        open_video(facts.path) as video,
        replacing(out_mp4) as temporary,
        utf8_path(temporary) as name,
        av.open(name, "w", format="mp4") as out,
    ):
        stream = out.add_stream("libx264", rate=Fraction(facts.fps or 25).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, CLOCK)
        number = 0
        for block in video.blocks():
            for frame in block:
                picture = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
                seconds = float(facts.times[number])
                for face, curve in enumerate(curves):
                    curve.draw(picture, number, seconds, scale, face)
                _write(out, stream, picture, seconds)
                number += 1
        out.mux(stream.encode())


def draw_answers(prediction: VideoPrediction, picture: np.ndarray, number: int) -> None:
    """Draw boxes and answers of a frame into it.

    Args:
        picture: (H, W, 3) uint8 RGB, of the video's size.
        number: of the frame.
    """
    times = prediction.facts.times
    for face, track in enumerate(prediction.tracks):
        _Curve(track, times).draw(picture, number, float(times[number]), 1.0, face)


def _write(out, stream, picture: np.ndarray, seconds: float) -> None:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts, frame.time_base = round(seconds * CLOCK), Fraction(1, CLOCK)
    out.mux(stream.encode(frame))


class _Curve:
    """A track's scores as a function of time, and how to draw them."""

    def __init__(self, track: TrackPrediction, times: np.ndarray):
        self.track = track
        self._seconds, self._scores = over_time(track, times)

    def scores(self, seconds: float) -> np.ndarray:
        """(num_outputs,) interpolated in time."""
        return np.array([np.interp(seconds, self._seconds, column) for column in self._scores.T])

    def draw(
        self, picture: np.ndarray, number: int, seconds: float, scale: float, face: int
    ) -> None:
        """Draw box and answers into a frame, if the face is in it."""
        span = self.track.span
        place = number - span.first_frame
        if not 0 <= place < span.num_frames:
            return
        colour = tuple(bytes.fromhex(OKABE_ITO[face % len(OKABE_ITO)][1:]))
        box = np.array([[0, 0], [0, 0]])  # upper left and lower right
        if span.corners is not None:
            corners = np.round(span.corners[place] * scale).astype(np.int32)
            cv2.polylines(picture, [corners], True, colour, 2, cv2.LINE_AA)
            box = np.stack([corners.min(0), corners.max(0)])
        _write_lines(picture, self._lines(self.scores(seconds), face), box, colour)

    def _lines(self, scores: np.ndarray, face: int) -> list[str]:
        """Number of the face, then its strongest classes or all its dimensions."""
        columns = np.arange(len(scores))
        if self.track.label is not None:
            columns = np.argsort(-scores, kind="stable")[:BARS]
        lines = [f"{self.track.names[column]} {scores[column]:.2f}" for column in columns]
        return lines if self.track.span.corners is None else [f"face {face + 1}", *lines]


def _write_lines(picture: np.ndarray, lines: list[str], box: np.ndarray, colour: tuple) -> None:
    """Write lines above the box, below it where there is no room, else into the picture's edge."""
    height, width = picture.shape[:2]
    font = max(0.4, height / 960)
    step = int(32 * font) + 2
    needed = step * len(lines) + 4
    above, below = box[0, 1] - needed, box[1, 1]
    top = above if above >= 0 else min(below, height - needed)
    left = int(np.clip(box[0, 0], 0, max(0, width - 200 * font)))
    for number, text in enumerate(lines, start=1):
        place = (left + 2, int(top) + step * number)
        for ink, thickness in (((0, 0, 0), 2 if font < 0.7 else 4), ((255, 255, 255), 1)):
            cv2.putText(picture, text, place, FONT, font, ink, thickness, cv2.LINE_AA)
    cv2.rectangle(picture, (left, int(top) + 4), (left + 1, int(top) + needed), colour, -1)
