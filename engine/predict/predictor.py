"""Answers for videos: class probabilities or dimensions of every face, over time.

>>> predictor = svfap.Predictor("saved/model/dfew/checkpoint-best.pth")
>>> print(predictor.predict("talk.mp4").tracks[0].answers())
>>> predictor.features(frames, "stage").tracks[0].values.shape  # (windows, stages, D)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from svfap.datasets.augment import transforms
from svfap.datasets.clips.sliding import (
    ClipMessage,
    SlidingClips,
    SlidingOptions,
    Span,
    VideoFacts,
    VideoMessage,
)
from svfap.datasets.faces import STYLES, CropStyle, FaceDetector, create_detector
from svfap.datasets.loading.processes import guarded, started
from svfap.datasets.video.frames import Video, as_sources
from svfap.engine import build
from svfap.engine.compute.levers import levers_of, set_up_levers
from svfap.engine.compute.precision import choose_precision, set_up_device
from svfap.engine.identity import DEFAULT_FPS, Identity, identify
from svfap.engine.predict.answers import (
    TrackFeatures,
    TrackPrediction,
    VideoPrediction,
    mean_by_frame,
)
from svfap.engine.runtime import distributed


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """What a user may choose; None takes what suits the checkpoint.

    Attributes:
        window_stride: frames at `fps` between windows; None: as many as a clip has; 0: the two
            windows of the test protocol.
        fps: frame rate at which clips are taken, that of the training data; 0 takes frames as they
            come.
        face_window: part of crops or frames that the model was trained on.
    """

    crop: bool = True  # find faces and cut them out
    faces: str = "all"  # "all" or "largest"
    style: CropStyle | None = None  # how much the crops show
    align: str | None = None  # "none" or "similarity"
    window_stride: int | None = None
    sampling_rate: int | None = None  # distance of neighbouring frames of a clip
    fps: float | None = None
    face_window: tuple[int, int, int, int] | None = None
    min_face: float = 1 / 6  # smallest face, as a share of the frame's shorter side
    backend: str = "auto"  # video reader


@dataclass
class _Open:
    """A video whose clips are under way."""

    facts: VideoFacts
    rows: list[dict[int, np.ndarray]] = field(default_factory=list)  # of each face, by window
    waiting: int = 0  # clips not yet computed
    done: bool = False


class Predictor:
    """A fine-tuned model with everything that turns a video into its answers.

    Args:
        checkpoint: file of fine-tuned weights, hf://owner/repo or a name of a catalogue; ours know
            their model, labels and clips.
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
        local = Path(identity.source)
        self.source = str(local.resolve()) if local.exists() else identity.source
        self.model, _ = identity.build()
        self.names, self.kind = identity.labels.output_names, identity.labels.task
        self.task = identity.task()
        self.options = sliding_options(self.model, options, identity)
        self._detector: FaceDetector | None = create_detector() if options.crop else None
        build.place(self.model, self.device).eval()
        set_up_levers(levers_of(self.device), self.device, self.model)  # as evaluation computes
        self.precision = choose_precision(amp, self.device, width=self.model.embed_dim)
        self.batch_size = batch_size

    def predict(self, video: Video, *, frame_rate: float | None = None) -> VideoPrediction:
        """Answers for one video, frame folder or picture.

        A video that cannot be read or shows no face is answered without tracks; its `status` and
        `facts.note` say why.

        Args:
            video: a path; the bytes of a video or image file; an array (T, H, W, 3) uint8 RGB; or
                frames (H, W, 3) uint8 RGB one after the other, which are all kept in memory.
            frame_rate: frames per second of an array or of frames; None: that of the training data.

        Raises:
            ValueError: something else is given, or the model answers NaN or infinity.
        """
        return next(self.predict_many([video], frame_rate=frame_rate))

    def predict_many(
        self, videos: Iterable[Video], *, num_workers: int = 0, frame_rate: float | None = None
    ) -> Iterator[VideoPrediction]:
        """Answers for many videos, as they become ready: `number` says which it is.

        As of `predict`; an array of frames is one video, not all.

        Args:
            num_workers: processes that read videos and find faces; 0: this one.

        Raises:
            LoaderError: a process has died, or could not be started.
        """
        return self._run(videos, self.scores, self._track_prediction, num_workers, frame_rate)

    def features(
        self, video: Video, of: str = "video", *, frame_rate: float | None = None
    ) -> VideoPrediction:
        """Features of one video in place of answers; its tracks are `TrackFeatures`.

        Args:
            of: "video": a feature per window, pooled and normalised, as the head sees it; "stage":
                the mean of the tokens of each stage of the encoder; "step": as of "video", but of
                each time step of the model.

        Raises:
            ValueError: as of `predict`, or another `of`.
        """
        return next(self.features_many([video], of, frame_rate=frame_rate))

    def features_many(
        self,
        videos: Iterable[Video],
        of: str = "video",
        *,
        num_workers: int = 0,
        frame_rate: float | None = None,
    ) -> Iterator[VideoPrediction]:
        """Features of many videos; see `features` and `predict_many`."""
        if of not in FEATURES:
            raise ValueError(f"features of {of!r}: choose one of {', '.join(FEATURES)}")
        function = partial(FEATURES[of], self.model)

        @torch.inference_mode()
        def compute(clips: np.ndarray) -> np.ndarray:
            return self._compute(function, clips).double().cpu().numpy()

        return self._run(videos, compute, TrackFeatures, num_workers, frame_rate)

    def _run(
        self,
        videos: Iterable[Video],
        compute: Callable[[np.ndarray], np.ndarray],
        track: Callable[[Span, np.ndarray, np.ndarray], object],
        num_workers: int,
        frame_rate: float | None,
    ) -> Iterator[VideoPrediction]:
        """Compute rows of every clip, and make tracks of those of each face."""
        with as_sources(videos, frame_rate) as sources:
            under_way: dict[int, _Open] = {}
            queue: list[tuple[_Open, int, int, np.ndarray]] = []
            for message in self._messages([source for _, source in sources], num_workers):
                _take(message, under_way, queue)
                while len(queue) >= self.batch_size:
                    _fill(queue[: self.batch_size], compute)
                    del queue[: self.batch_size]
                yield from _finished(under_way, sources, track)
            if queue:
                _fill(queue, compute)
            yield from _finished(under_way, sources, track)

    def _messages(
        self, sources: Sequence, num_workers: int
    ) -> Iterator[ClipMessage | VideoMessage]:
        if num_workers:
            cv2.setNumThreads(1)  # a forked worker would wait for ever for OpenCV's threads
        # A forked worker inherits the detector; one that starts afresh has to make its own.
        afresh = num_workers and torch.multiprocessing.get_start_method() != "fork"
        clips = SlidingClips(sources, self.options, None if afresh else self._detector)
        loader = torch.utils.data.DataLoader(
            clips,
            batch_size=None,
            num_workers=num_workers,
            collate_fn=_as_it_is,
        )
        return guarded(*started(loader))

    @torch.inference_mode()
    def scores(self, clips: np.ndarray) -> np.ndarray:
        """Scores of clips.

        Args:
            clips: (B, T, H, W, 3) uint8 RGB, of the model's size.

        Returns:
            (B, num_outputs) float64 probabilities or values; (B, T, num_outputs) of models that
            answer per time step.
        """
        per_frame = {"per_frame": True} if self.model.keep_temporal_dim else {}
        outputs = self._compute(partial(self.model, **per_frame), clips)
        return self.task.scores(outputs).double().cpu().numpy()

    def _compute(
        self, function: Callable[[torch.Tensor], torch.Tensor], clips: np.ndarray
    ) -> torch.Tensor:
        """A function of normalised clips."""
        batch = torch.from_numpy(clips).to(self.device)
        with self.precision.autocast():
            return function(transforms.normalize_(transforms.to_float(batch)))

    def _track_prediction(
        self, span: Span, seconds: np.ndarray, rows: np.ndarray
    ) -> TrackPrediction:
        per_frame = {}
        if rows.ndim == 3:
            frames, frame_scores = mean_by_frame(span.frames, rows)
            per_frame, rows = {"frames": frames, "frame_scores": frame_scores}, rows.mean(1)
        return TrackPrediction(span, seconds, self.names, rows, self.task, **per_frame)


def _take(message: ClipMessage | VideoMessage, under_way: dict[int, _Open], queue: list) -> None:
    """Note what a message says of a video, or queue its clips."""
    if isinstance(message, ClipMessage):
        video = under_way[message.video]
        for window, clip in zip(message.windows, message.clips, strict=True):
            queue.append((video, message.span, int(window), clip))
            video.waiting += 1
        return
    if not message.done or message.video not in under_way:
        under_way[message.video] = _Open(message.facts)
    video = under_way[message.video]
    video.rows = video.rows or [{} for _ in message.facts.spans]
    video.facts, video.done = message.facts, message.done


def _fill(some: list[tuple[_Open, int, int, np.ndarray]], compute: Callable) -> None:
    rows = compute(np.stack([clip for _, _, _, clip in some]))
    for (video, span, window, _), row in zip(some, rows, strict=True):
        if not np.isfinite(row).all():
            raise ValueError(
                f"{video.facts.path}: the model answers NaN or infinity. If its weights are "
                "sound (python -m svfap.engine.verify_checkpoint FILE), try --amp off."
            )
        video.rows[span][window] = row
        video.waiting -= 1


def _finished(
    under_way: dict[int, _Open], sources: Sequence[tuple], track: Callable
) -> Iterator[VideoPrediction]:
    """Take out and answer the videos whose clips are all computed."""
    for number in [n for n, video in under_way.items() if video.done and not video.waiting]:
        video = under_way.pop(number)
        facts = replace(video.facts, path=sources[number][0])
        if facts.status != "ok":
            yield VideoPrediction(replace(facts, spans=()), number=number)
            continue
        tracks = [
            track(span, facts.times[span.windows], np.stack([rows[w] for w in range(len(rows))]))
            for span, rows in zip(facts.spans, video.rows, strict=True)
        ]
        yield VideoPrediction(facts, tuple(tracks), number)


def _stage_features(model: torch.nn.Module, clip: torch.Tensor) -> torch.Tensor:
    return torch.stack([stage.mean(1) for stage in model.encode(model.embed(clip)).stages], 1)


def _video_features(model: torch.nn.Module, clip: torch.Tensor) -> torch.Tensor:
    features = model.forward_features(clip)
    return features.mean(1) if model.keep_temporal_dim else features


FEATURES = {
    "video": _video_features, "stage": _stage_features,
    "step": lambda model, clip: model.step_features(clip),
}  # fmt: skip


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
