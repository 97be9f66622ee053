"""Answers for videos: class probabilities or dimensions of every face, over time.

>>> from engine.predict import Predictor
>>> predictor = Predictor("saved/model/dfew/checkpoint-best.pth")
>>> print(predictor.predict("talk.mp4").tracks[0].answers())
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from svfap.datasets.augment import transforms
from svfap.datasets.clips.sliding import ClipMessage, SlidingClips, SlidingOptions, Span, VideoFacts
from svfap.datasets.faces import STYLES, CropStyle, FaceDetector, create_detector
from svfap.datasets.loading.processes import guarded, started
from svfap.engine import build
from svfap.engine.compute.levers import levers_of, set_up_levers
from svfap.engine.compute.precision import choose_precision, set_up_device
from svfap.engine.identity import DEFAULT_FPS, Identity, identify
from svfap.engine.runtime import distributed
from svfap.engine.tasks.task import Task


@dataclass(frozen=True)
class TrackPrediction:
    """Answers for one face, or for the whole picture where faces were not looked for.

    Attributes:
        span: the frames it covers, and its windows.
        seconds: (n, 2) begin and end of each window.
        names: classes or dimensions.
        window_scores: (n, num_outputs) probabilities or values of each window.
        task: of the model.
        frames: (m,) numbers of the frames that have answers of their own: none, unless the model
            answers per time step.
        frame_scores: (m, num_outputs) mean over the windows that show the frame.
    """

    span: Span
    seconds: np.ndarray
    names: tuple[str, ...]
    window_scores: np.ndarray
    task: Task
    frames: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
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
class VideoPrediction:
    """What a model says about a video.

    Attributes:
        facts: the video, its faces, and what was wrong with it.
        tracks: one per face, most prominent first; empty where there is none.
    """

    facts: VideoFacts
    tracks: tuple[TrackPrediction, ...] = ()

    @property
    def path(self) -> str:
        """The video."""
        return self.facts.path

    @property
    def status(self) -> str:
        """What became of it: "ok", "no_face", "unreadable" or "failed"."""
        return self.facts.status


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """What a user may choose; None takes what suits the checkpoint.

    Attributes:
        crop: find faces and cut them out.
        faces: "all" or "largest".
        style: how much the crops show.
        align: "none" or "similarity".
        window_stride: frames at `fps` between windows; None: as many as a clip has; 0: the two
            windows of the test protocol.
        sampling_rate: distance of neighbouring frames of a clip.
        fps: frame rate at which clips are taken, that of the training data; 0 takes frames as they
            come.
        face_window: part of crops or frames that the model was trained on.
        min_face: smallest face, as a share of the frame's shorter side.
        backend: video reader.
    """

    crop: bool = True
    faces: str = "all"
    style: CropStyle | None = None
    align: str | None = None
    window_stride: int | None = None
    sampling_rate: int | None = None
    fps: float | None = None
    face_window: tuple[int, int, int, int] | None = None
    min_face: float = 1 / 6
    backend: str = "auto"


@dataclass
class _Open:
    """A video whose clips are under way."""

    facts: VideoFacts
    scores: list[dict[int, np.ndarray]] = field(default_factory=list)
    waiting: int = 0  # clips not yet scored
    done: bool = False


class Predictor:
    """A fine-tuned model with everything that turns a video into its answers.

    Args:
        checkpoint: file of fine-tuned weights; ours know their model, labels and clips.
        options: see `PredictionOptions`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        amp: see `--amp` of run_finetune.py.
        batch_size: clips per forward pass.
        averaged: use the averaged weights (model_ema) of the checkpoint, whichever it names as
            chosen.
        model_name: registered model, for weights that do not name theirs.
        data_set: of the catalogue, for weights that do not name theirs.
        class_names: names of the outputs, if neither checkpoint nor data set has them.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: the file is no fine-tuned model, or lacks what the other arguments could say.
        datasets.faces.MissingExtraError: faces are wanted but the extra `faces` is not installed.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        options: PredictionOptions | None = None,
        *,
        device: str = "auto",
        amp: str = "auto",
        batch_size: int = 16,
        averaged: bool = False,
        model_name: str | None = None,
        data_set: str | None = None,
        class_names: Sequence[str] | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be 1 or more")
        options = options or PredictionOptions()
        self.device = distributed.start(device).device
        set_up_device(self.device)
        identity = identify(
            checkpoint,
            averaged=averaged or None,
            told={"name": model_name} if model_name else None,
            data_set=data_set,
            class_names=class_names,
        )
        identity.require_head()
        self.model, _ = identity.build()
        self.names, self.kind = identity.labels.output_names, identity.labels.task
        self.task = identity.task()
        self.options = sliding_options(self.model, options, identity)
        self._detector: FaceDetector | None = create_detector() if options.crop else None
        build.place(self.model, self.device).eval()
        set_up_levers(levers_of(self.device), self.device, self.model)  # as evaluation computes
        self.precision = choose_precision(amp, self.device, width=self.model.embed_dim)
        self.batch_size = batch_size

    def predict(self, path: str | Path) -> VideoPrediction:
        """Answers for one video, frame folder or picture.

        A video that cannot be read or shows no face is answered without tracks; its `status` and
        `facts.note` say why.
        """
        return next(self.predict_many([path]))

    def predict_many(
        self, paths: Sequence[str | Path], *, num_workers: int = 0
    ) -> Iterator[VideoPrediction]:
        """Answers for many videos, as they become ready (not always in the order given).

        Args:
            paths: the videos.
            num_workers: processes that read videos and find faces; 0: this one.

        Raises:
            ValueError: the model answers NaN or infinity.
            LoaderError: a process has died, or could not be started.
        """
        if num_workers:
            cv2.setNumThreads(1)  # a forked worker would wait for ever for OpenCV's threads
        # A forked worker inherits the detector; one that starts afresh has to make its own.
        afresh = num_workers and torch.multiprocessing.get_start_method() != "fork"
        clips = SlidingClips(
            list(map(str, paths)), self.options, None if afresh else self._detector
        )
        loader = torch.utils.data.DataLoader(
            clips,
            batch_size=None,
            num_workers=num_workers,
            collate_fn=_as_it_is,
        )
        messages = guarded(*started(loader))
        under_way: dict[int, _Open] = {}
        queue: list[tuple[_Open, int, int, np.ndarray]] = []
        for message in messages:
            if isinstance(message, ClipMessage):
                video = under_way[message.video]
                for window, clip in zip(message.windows, message.clips, strict=True):
                    queue.append((video, message.span, int(window), clip))
                    video.waiting += 1
            else:
                if not message.done or message.video not in under_way:
                    under_way[message.video] = _Open(message.facts)
                video = under_way[message.video]
                video.scores = video.scores or [{} for _ in message.facts.spans]
                video.facts, video.done = message.facts, message.done
            while len(queue) >= self.batch_size:
                self._score(queue[: self.batch_size])
                del queue[: self.batch_size]
            yield from self._finished(under_way)
        if queue:
            self._score(queue)
        yield from self._finished(under_way)

    @torch.inference_mode()
    def scores(self, clips: np.ndarray) -> np.ndarray:
        """Scores of clips.

        Args:
            clips: (B, T, H, W, 3) uint8 RGB, of the model's size.

        Returns:
            (B, num_outputs) float64 probabilities or values; (B, T, num_outputs) of models that
            answer per time step.
        """
        batch = torch.from_numpy(clips).to(self.device)
        with self.precision.autocast():
            pixels = transforms.normalize_(transforms.to_float(batch))
            per_frame = {"per_frame": True} if self.model.keep_temporal_dim else {}
            outputs = self.model(pixels, **per_frame)
        return self.task.scores(outputs).double().cpu().numpy()

    def _score(self, some: list[tuple[_Open, int, int, np.ndarray]]) -> None:
        scores = self.scores(np.stack([clip for _, _, _, clip in some]))
        for (video, span, window, _), row in zip(some, scores, strict=True):
            if not np.isfinite(row).all():
                raise ValueError(
                    f"{video.facts.path}: the model answers NaN or infinity. If its weights are "
                    "sound (python -m engine.verify_checkpoint FILE), try --amp off."
                )
            video.scores[span][window] = row
            video.waiting -= 1

    def _finished(self, under_way: dict[int, _Open]) -> Iterator[VideoPrediction]:
        """Take out and answer the videos whose clips are all scored."""
        for number in [n for n, video in under_way.items() if video.done and not video.waiting]:
            yield self._answer(under_way.pop(number))

    def _answer(self, video: _Open) -> VideoPrediction:
        if video.facts.status != "ok":
            return VideoPrediction(replace(video.facts, spans=()))
        tracks = []
        for span, scores in zip(video.facts.spans, video.scores, strict=True):
            seconds = video.facts.times[span.windows]
            rows = np.stack([scores[window] for window in range(len(span.windows))])
            per_frame = {}
            if rows.ndim == 3:
                frames, frame_scores = mean_by_frame(span.frames, rows)
                per_frame, rows = {"frames": frames, "frame_scores": frame_scores}, rows.mean(1)
            tracks.append(TrackPrediction(span, seconds, self.names, rows, self.task, **per_frame))
        return VideoPrediction(video.facts, tuple(tracks))


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


def _as_it_is(message: object) -> object:
    return message


def sliding_options(
    model: torch.nn.Module, chosen: PredictionOptions, identity: Identity
) -> SlidingOptions:
    """What clips the model wants: the user's choice, else what it was trained on."""
    window = chosen.face_window or identity.face_window
    stride = chosen.window_stride
    fps = (identity.fps or DEFAULT_FPS) if chosen.fps is None else chosen.fps
    return SlidingOptions(
        clip_frames=model.num_frames,
        sampling_rate=int(chosen.sampling_rate or identity.sampling_rate or 4),
        size=model.img_size,
        window_stride=model.num_frames if stride is None else stride,
        fps=fps or None,
        crop=chosen.crop,
        faces=chosen.faces,
        style=chosen.style or STYLES[identity.crops.crop_style],
        align=chosen.align or identity.crops.crop_align,
        face_window=tuple(window) if window else None,
        min_face=chosen.min_face,
        backend=chosen.backend,
    )
