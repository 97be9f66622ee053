"""Pictures of predictions: scores over time, and the video with boxes beside a panel of answers."""

from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image, ImageDraw, ImageFont

from svfap.datasets.files import replacing, utf8_path
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.engine.predict.answers import TrackPrediction, VideoPrediction
from svfap.engine.report.plots import (
    CHANCE,
    LINE_STYLES,
    MARKERS,
    OKABE_ITO,
    as_they_are,
    families,
    save_figure,
    short,
    spread,
)

MAX_LINES = 7  # classes drawn in a timeline; the others are weaker throughout
BARS = 5  # classes of a face in the panel
PANEL_FACES = 3  # faces with bars in the panel
LONGEST_SIDE = 1280  # of the video in an annotated one, in pixels
SHORTEST_SIDE = 360  # smaller videos are enlarged, so that the panel beside them can be read
PANEL_WIDTH, STRIP_HEIGHT = 300, 150  # pixels; the panel stands right, the timeline below
PAPER, INK, SOFT, TRACK = (24, 28, 34), (240, 243, 246), (150, 160, 172), (58, 66, 77)
CLOCK = 1000  # ticks per second of annotated videos, which keeps uneven frame times
THUMBNAILS = 8  # frames above a timeline
PROBABILITIES = -0.02, 1.03  # of an axis: lines at 0 and 1 are not hidden by its edge
MAX_SPANS = 12  # windows that are drawn from their beginning to their end


def plot_timeline(prediction: VideoPrediction, out_png: str | Path) -> None:
    """Draw the scores of every face over time, a panel each, below frames of the video."""
    if not prediction.tracks:
        raise ValueError(f"{prediction.path} has no face to draw a timeline of")
    save_figure(timeline_figure(prediction), out_png)


def timeline_figure(prediction: VideoPrediction) -> Figure:
    """Figure of `plot_timeline`; windows are drawn as long as they are, their middles joined."""
    frames = _thumbnails(prediction)
    count, times = len(prediction.tracks), prediction.facts.times
    figure = Figure(figsize=(8, 2.6 * count + 0.6 + 0.9 * bool(frames)), layout="constrained")
    heights = [0.9] * bool(frames) + [2.6] * count
    panels = list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    figure.suptitle(Path(prediction.path).name, fontsize="medium")
    if frames:
        axis = panels.pop(0)
        gap = np.full((frames[0].shape[0], 4, 3), 255, np.uint8)
        axis.imshow(np.hstack([part for frame in frames for part in (frame, gap)][:-1]))
        axis.set_axis_off()
    tracks = enumerate(zip(panels, prediction.tracks, strict=True), start=1)
    end = max(float(times[-1]), 1e-3)
    for number, (axis, track) in tracks:
        _draw_track(axis, track, times)
        whole = track.span.corners is None
        said = f", {short(track.label)} overall" if track.label is not None else ""
        axis.set_title(("whole picture" if whole else f"face {number}") + said, fontsize="medium")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
        axis.set_xlim(0, end)
    panels[-1].set_xlabel("seconds")
    as_they_are(figure)
    return figure


def _draw_track(axis, track: TrackPrediction, times: np.ndarray) -> None:
    middle, scores = over_time(track, times)
    spans = track.seconds if track.frame_scores is None and len(middle) <= MAX_SPANS else ()
    strongest = np.argsort(-np.abs(scores).max(0), kind="stable")[:MAX_LINES]
    for place, column in enumerate(sorted(strongest)):
        colour = OKABE_ITO[place % len(OKABE_ITO)]
        axis.plot(
            middle,
            scores[:, column],
            color=colour,
            linestyle=LINE_STYLES[place % len(LINE_STYLES)],
            marker=MARKERS[place % len(MARKERS)] if len(middle) < 40 else None,
            markersize=4,
            label=short(track.names[column]),
        )
        for (begin, end), value in zip(spans, scores[:, column]):
            axis.plot((begin, end), (value, value), color=colour, linewidth=3, alpha=0.25)
    if track.task.probabilities:
        axis.set_ylim(PROBABILITIES)
        axis.axhline(1 / len(track.names), **CHANCE)
    axis.set_ylabel("probability" if track.task.probabilities else "value")
    axis.grid(alpha=0.3)


def _thumbnails(prediction: VideoPrediction) -> list[np.ndarray]:
    """Frames over the whole time, 96 pixels high; none where the video is not to be had again."""
    try:
        with open_video(prediction.path) as video:
            frames = video.read(spread(video.num_frames, THUMBNAILS))
    except (UnreadableVideoError, OSError):
        return []
    size = (max(1, round(96 * frames[0].shape[1] / frames[0].shape[0])), 96)
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]


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
    """Write the video with each face's box, a panel of answers beside it and the timeline below.

    Args:
        prediction: of a video with or without faces.
        out_mp4: file to write, H.264; its folder must exist.

    Raises:
        datasets.video.open_video.UnreadableVideoError: the video can no longer be read.
    """
    facts = prediction.facts
    painter = _Painter(prediction)
    with (
        open_video(facts.path) as video,
        replacing(out_mp4) as temporary,
        utf8_path(temporary) as name,
        av.open(name, "w", format="mp4") as out,
    ):
        stream = out.add_stream("libx264", rate=Fraction(facts.fps or 25).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = painter.width, painter.height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, CLOCK)
        number = 0
        for block in video.blocks():
            for frame in block:
                picture = painter.paint(frame, number)
                encoded = av.VideoFrame.from_ndarray(picture, format="rgb24")
                encoded.pts = round(float(facts.times[number]) * CLOCK)
                encoded.time_base = Fraction(1, CLOCK)
                out.mux(stream.encode(encoded))
                number += 1
        out.mux(stream.encode())


def draw_answers(prediction: VideoPrediction, picture: np.ndarray, number: int) -> np.ndarray:
    """A frame of the video with boxes, beside a panel of answers and above the timeline; RGB."""
    return _Painter(prediction).paint(picture, number)


def enlargement(height: int, width: int) -> float:
    """By how much a video is enlarged (or made smaller) in an annotated one."""
    least = SHORTEST_SIDE / min(height, width)
    return min(max(1.0, least), LONGEST_SIDE / max(height, width))


class _Painter:
    """Puts frames, panel and timeline of a video together."""

    def __init__(self, prediction: VideoPrediction):
        self.facts, self.tracks = prediction.facts, prediction.tracks
        self.scale = enlargement(self.facts.height, self.facts.width)
        sides = (self.facts.width, self.facts.height)
        self.size = tuple(max(2, int(side * self.scale) // 2 * 2) for side in sides)
        self.over_time = [over_time(track, self.facts.times) for track in self.tracks]
        self.width = self.size[0] + PANEL_WIDTH
        self.height = self.size[1] + (STRIP_HEIGHT if self.tracks else 0)
        self.canvas = np.full((self.height, self.width, 3), PAPER, np.uint8)
        if self.tracks:
            self._draw_strip()

    def paint(self, frame: np.ndarray, number: int) -> np.ndarray:
        """(height, width, 3) uint8 RGB of a frame."""
        seconds = float(self.facts.times[number])
        canvas = self.canvas.copy()
        canvas[: self.size[1], : self.size[0]] = cv2.resize(
            frame, self.size, interpolation=cv2.INTER_AREA if self.scale <= 1 else cv2.INTER_CUBIC
        )
        shown = [
            face
            for face, track in enumerate(self.tracks)
            if 0 <= number - track.span.first_frame < track.span.num_frames
        ]
        for face in shown:
            span = self.tracks[face].span
            if span.corners is not None:
                corners = np.round(span.corners[number - span.first_frame] * self.scale)
                target = canvas[: self.size[1], : self.size[0]]
                cv2.polylines(target, [corners.astype(np.int32)], True, _colour(face), 2,
                              cv2.LINE_AA)  # fmt: skip
        if self.tracks:
            x = round(float(np.interp(seconds, *self.axis)))
            canvas[self.size[1] + 34 : -24, x : x + 2] = INK
        picture = Image.fromarray(canvas)
        self._draw_panel(ImageDraw.Draw(picture), shown, seconds)
        return np.asarray(picture)

    def _draw_panel(self, draw: ImageDraw.ImageDraw, shown: list[int], seconds: float) -> None:
        left, top = self.size[0] + 16, 12
        draw.text((left, top), f"{seconds:.1f} s", SOFT, _font(15))
        if not shown:
            draw.text((left, top + 26), "no face here", SOFT, _font(17))
        lines = max(1, (self.size[1] - 60) // (22 * max(1, len(shown[:PANEL_FACES]))) - 2)
        top += 28
        for face in shown[:PANEL_FACES]:
            track = self.tracks[face]
            times, scores = self.over_time[face]
            now = np.array([np.interp(seconds, times, column) for column in scores.T])
            columns = np.arange(len(now))
            if track.label is not None:
                columns = np.argsort(-now, kind="stable")
            title = "whole picture" if track.span.corners is None else f"face {face + 1}"
            draw.rectangle((left, top + 4, left + 10, top + 14), fill=_colour(face))
            draw.text((left + 18, top - 1), title, INK, _font(17))
            top += 26
            most = 1.0 if track.task.probabilities else max(float(np.abs(scores).max()), 1e-6)
            for column in columns[: min(BARS, lines)]:
                value = float(now[column])
                ends = (0.0 if track.task.probabilities else -most), value, most
                self._draw_bar(draw, (left, top), track.names[column], ends, _colour(face))
                top += 22
            top += 10

    @staticmethod
    def _draw_bar(draw, place, name: str, values: tuple[float, float, float], colour) -> None:
        """A line of the panel: name, a bar from 0, number; least, value and most on its track."""
        (left, top), font = place, _font(15, name)
        while draw.textlength(name, font) > 112 and len(name) > 2:
            name = name[:-2] + "\u2026"
        draw.text((left, top), name, INK, font)
        begin, end = left + 118, left + 222
        draw.rectangle((begin, top + 5, end, top + 14), fill=TRACK)
        least, value, most = values
        zero, reach = np.interp((0.0, value), (least, most), (begin, end)).round()
        draw.rectangle((min(zero, reach), top + 5, max(zero, reach), top + 14), fill=colour)
        draw.text((end + 8, top), f"{value:.2f}", INK, font)

    def _draw_strip(self) -> None:
        """The timeline of the most prominent face, once; `axis` maps seconds to columns."""
        track = self.tracks[0]
        figure = Figure(figsize=(self.width / 100, STRIP_HEIGHT / 100), dpi=100)
        figure.patch.set_facecolor(np.array(PAPER) / 255)
        axis = figure.add_axes((0.07, 0.17, 0.91, 0.6), facecolor=np.array(PAPER) / 255)
        times, scores = self.over_time[0]
        if track.frame_scores is None:  # the first and the last window reach to their ends
            times = np.array([track.seconds[0, 0], *times, track.seconds[-1, 1]])
            scores = scores[[0, *range(len(scores)), -1]]
        strongest = np.argsort(-np.abs(scores).max(0), kind="stable")[:MAX_LINES]
        for place, column in enumerate(sorted(strongest)):
            colour = "#ffffff" if OKABE_ITO[place] == "#000000" else OKABE_ITO[place]
            axis.plot(times, scores[:, column], color=colour, label=short(track.names[column]))
        end = max(float(self.facts.times[-1]), 1e-3)
        axis.set_xlim(0, end)
        if track.task.probabilities:
            axis.set_ylim(PROBABILITIES)
        soft = np.array(SOFT) / 255
        axis.tick_params(colors=soft, labelsize=7)
        axis.spines[:].set_color(soft)
        axis.legend(fontsize=6, ncols=4, frameon=False, labelcolor="white", loc="lower left",
                    bbox_to_anchor=(-0.05, 0.97), columnspacing=1)  # fmt: skip
        as_they_are(figure)
        drawn = FigureCanvasAgg(figure)
        drawn.draw()
        pixels = np.asarray(drawn.buffer_rgba())[:STRIP_HEIGHT, : self.width, :3]
        strip = self.canvas[self.size[1] :]
        strip[: pixels.shape[0], : pixels.shape[1]] = pixels
        ends = axis.transData.transform([(0, 0), (end, 0)])[:, 0]
        self.axis = (0.0, end), tuple(ends)


def _colour(face: int) -> tuple[int, int, int]:
    return tuple(bytes.fromhex(OKABE_ITO[face % (len(OKABE_ITO) - 1)][1:]))


@cache
def _font(size: int, text: str = "") -> ImageFont.FreeTypeFont:
    """The first font of figures that has all letters of a text, or Matplotlib's own."""
    files = [findfont(family) for family in families(text)]
    known = (file for file in files if all(map(get_font(file).get_char_index, map(ord, text))))
    return ImageFont.truetype(next(known, files[0]), size)
