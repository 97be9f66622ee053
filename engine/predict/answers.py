"""What a model says about a video, and about each face in it."""

from dataclasses import dataclass, field

import numpy as np

from svfap.datasets.clips.sliding import Span, VideoFacts
from svfap.engine.tasks.task import Task


@dataclass(frozen=True)
class TrackPrediction:
    """Answers for one face, or for the whole picture where faces were not looked for."""

    span: Span  # the frames it covers, and its windows
    seconds: np.ndarray  # (n, 2) begin and end of each window
    names: tuple[str, ...]  # classes or dimensions
    window_scores: np.ndarray  # (n, num_outputs) probabilities or values of each window
    task: Task  # of the model
    # (m,) numbers of the frames that have answers of their own: none, unless the model answers per
    # time step
    frames: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    # (m, num_outputs) mean over the windows that show the frame
    frame_scores: np.ndarray | None = None

    @property
    def scores(self) -> np.ndarray:
        """(num_outputs,) mean over the windows."""
        return self.window_scores.mean(0)

    @property
    def label(self) -> str | None:
        """Most probable class; None unless the task is classification."""
        return self.task.answer(self.scores)

    def answers(self) -> dict[str, float]:
        """Mean probability or value by name."""
        return dict(zip(self.names, map(float, self.scores), strict=True))


@dataclass(frozen=True)
class TrackFeatures:
    """Features of one face, or of the whole picture where faces were not looked for."""

    span: Span  # the frames it covers, and its n windows
    seconds: np.ndarray  # (n, 2) begin and end of each window
    # (n, D) of the video; (n, S, D) of S stages; (n, T', D) of T' time steps, which divide the
    # frames of a window evenly
    values: np.ndarray


@dataclass(frozen=True)
class VideoPrediction:
    """What a model says about a video."""

    facts: VideoFacts  # the video, its faces, and what was wrong with it
    # one per face, most prominent first; empty where there is none
    tracks: tuple[TrackPrediction | TrackFeatures, ...] = ()
    number: int = 0  # place of the video among those that were given, from 0

    @property
    def path(self) -> str:
        """The video; "video 1" is the first of those given, if that was no path."""
        return self.facts.path

    @property
    def status(self) -> str:
        """What became of it: "ok", "no_face", "unreadable" or "failed"."""
        return self.facts.status


def mean_by_frame(frames: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average what several windows say about a frame.

    Args:
        frames: (n, T) frame numbers of the windows.
        scores: (n, T, C).

    Returns:
        (m,) distinct frame numbers, increasing, and (m, C) their mean scores.
    """
    distinct, place = np.unique(frames, return_inverse=True)
    sums = np.zeros((len(distinct), scores.shape[2]))
    np.add.at(sums, place.ravel(), scores.reshape(-1, scores.shape[2]))
    return distinct, sums / np.bincount(place.ravel())[:, None]
