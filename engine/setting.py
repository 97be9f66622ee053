"""Data set, task, model and precision of a fine-tuning or evaluation, resolved from flags."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from svfap.datasets.augment.mixing import as_tensors
from svfap.datasets.clips import training as clips
from svfap.datasets.clips.frame_views import WINDOWS_PER_ITEM, FrameViews
from svfap.datasets.labels.annotations import Annotations, read_annotations
from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.labels.frame_labels import FrameLabels
from svfap.datasets.labels.matching import read_mapping, relabel
from svfap.datasets.loading.loader import Batches, Loader, Reading
from svfap.engine import build
from svfap.engine.compute.levers import Levers, levers_of, set_up_levers
from svfap.engine.compute.precision import Precision, choose_precision
from svfap.engine.compute.prefetch import open_loader
from svfap.engine.compute.step import compiled
from svfap.engine.evaluate import Evaluated, evaluate, view_scores
from svfap.engine.flags.flag import Flags
from svfap.engine.flags.labels import labels_of, named_labels
from svfap.engine.identity import Beginning, Identity
from svfap.engine.results.groups import GROUPS_FILE, average_by_group, read_groups
from svfap.engine.runtime.distributed import Workers
from svfap.engine.tasks.base import create_task
from svfap.engine.tasks.task import Task

logger = logging.getLogger(__name__)


@dataclass
class Setting:
    """What fine-tuning and evaluation share once flags are resolved."""

    flags: Flags  # the run's flags
    workers: Workers
    precision: Precision
    model: torch.nn.Module
    task: Task
    labels: LabelNames
    window: tuple[int, int, int, int] | None  # part of each frame that is used
    sampling_rate: int  # distance of the frames of a clip
    mapping: Mapping[str, str] = field(default_factory=dict)  # of `--map_classes`
    notes: list[str] = field(default_factory=list)  # what a reader of the metrics must know
    levers: Levers = field(init=False)

    def __post_init__(self) -> None:
        """Compute as suits the device."""
        self.use(levers_of(self.workers.device))

    def use(self, levers: Levers) -> None:
        """Compute as the levers say from here on."""
        self.levers = levers
        set_up_levers(levers, self.workers.device, self.model)

    @property
    def kind(self) -> str:
        """Name of the task."""
        return self.labels.task

    @cached_property
    def scoring(self) -> Callable:
        """`view_scores` as the levers say; the same for validation and test, so compiled once."""
        return compiled(view_scores, self.levers)

    @property
    def protocol(self) -> str:
        """What a test looks at, in words."""
        flags = self.flags
        if self.task.frame_level:
            steps = self.model.output_steps
            return f"all frames: windows that overlap by half, {steps} outputs per window"
        views = f"{flags.test_num_segment} segments x {flags.test_num_crop} crops (equal views are "
        averaged = "; mean over the clips of a group" * (flags.average_by == "groups")
        return f"{views}computed once){averaged}"

    def shapes(self, train_set: Annotations, num_clips: int) -> dict[str, object]:
        """What `FinetuningLoss.compute` takes of a batch of so many clips, without values."""
        model, label = self.model, train_set.labels[0]
        if isinstance(train_set.labels, FrameLabels):
            label = label[np.zeros(model.num_frames, int)]
        label = torch.as_tensor(label)
        mixes = self.task.draw_mixes(np.random.default_rng(0), num_clips, model.img_size)
        size = (num_clips, 3, model.num_frames, model.img_size, model.img_size)
        return {
            "clip": torch.empty(size, device="meta"),
            "label": label.expand(num_clips, *label.shape),
            "mixes": None if mixes is None else as_tensors(mixes, torch.device("cpu")),
        }

    def read(self, split: str, folder: str | None = None) -> Annotations | None:
        """Annotations of a split in this setting's labels; None where there is no such file.

        Raises:
            ValueError: what stands beside the file gives its labels names that cannot be matched.
        """
        folder = folder or self.flags.data_path
        path = Path(folder) / f"{split}.csv"
        if not path.exists() and split == "val":
            return None
        own = str(folder) == str(self.flags.data_path)
        theirs = named_labels(folder, self.flags.data_set, own=own) or self.labels
        annotations = read_annotations(
            path, task=theirs.task, names=theirs.class_names, heads=theirs.heads,
            data_root=self.flags.data_root, check_paths=self.flags.check_paths,
        )  # fmt: skip
        if not self.mapping and (theirs.meaning == self.labels.meaning or self.labels.numbered):
            return annotations
        matched = relabel(annotations, theirs, self.labels, self.mapping)
        if left_out := len(annotations) - len(matched):
            self.notes.append(f"{left_out} of {len(annotations)} videos of {path} are left out")
            logger.warning("%s, by --map_classes", self.notes[-1])
        return matched

    def reading(self, annotations: Annotations, *, middle: bool) -> Reading:
        """Batches of evaluation views: the middle clip, or those of the test protocol.

        Where frames have labels: windows over the whole video, which overlap by half in the test.
        """
        batch_size = self.flags.batch_size
        source = {
            "annotations": annotations, "clip_frames": self.model.num_frames,
            "stride": self.sampling_rate, "size": self.model.img_size, "face_window": self.window,
            "backend": self.flags.reader, "rank": self.workers.rank,
            "world_size": self.workers.world_size,
        }  # fmt: skip
        if self.task.frame_level:
            span = self.model.num_frames * self.sampling_rate
            dataset = FrameViews(**source, window_stride=span if middle else max(1, span // 2))
            batch_size = max(1, batch_size // WINDOWS_PER_ITEM)
        else:
            dataset = clips.EvalViews(
                **source, num_segments=self.flags.test_num_segment,
                num_crops=self.flags.test_num_crop, middle=middle,
            )  # fmt: skip
        return Reading.in_order(dataset, batch_size, names=frozenset({"clip"}))

    def open_loader(self, *readings: Reading) -> Loader:
        """A loader of `reading`s."""
        flags, device = self.flags, self.workers.device
        return open_loader(
            readings, device, num_workers=flags.num_workers, pin_memory=flags.pin_mem
        )

    def evaluate(self, model, annotations: Annotations, *, middle: bool, title: str) -> Evaluated:
        """Scores of a model on a set of videos, of their groups or of their frames."""
        reading = self.reading(annotations, middle=middle)
        with self.open_loader(reading) as loader:
            return self.score(model, annotations, loader.read(reading), middle=middle, title=title)

    def score(
        self, model, annotations: Annotations, batches: Batches, *, middle: bool, title: str
    ) -> Evaluated:
        """As `evaluate`, of batches that a loader has of these videos."""
        evaluated = evaluate(
            model,
            batches,
            self.task,
            annotations=annotations,
            workers=self.workers,
            precision=self.precision,
            title=title,
            with_features=self.flags.save_feature and not middle,
            score=self.scoring,
            pass_size=self.flags.batch_size if self.levers.compile_mode else None,
        )
        if self.flags.average_by == "videos":
            return evaluated
        return average_by_group(evaluated, self.groups(annotations))

    def groups(self, annotations: Annotations) -> list[str]:
        """The group of each video, of `groups.csv` beside the annotation file."""
        return read_groups(Path(annotations.path).parent / GROUPS_FILE, annotations.ids)

    def metric_names(self, annotations: Annotations) -> list[str]:
        """What validation on these videos measures; found out with made-up scores of some."""
        ids, labels, frames = annotations.ids[:2], annotations.labels[:2], None
        if self.task.frame_level:
            labels = annotations.labels[0]
            ids, frames = [annotations.ids[0]] * len(labels), np.arange(len(labels))
        shape = len(ids), self.task.num_outputs
        scores = np.linspace(0.2, 0.8, shape[0] * shape[1]).reshape(shape)
        metrics = self.task.predictions(ids, labels, scores, frames).metrics()
        return ["loss", *(name for name, value in metrics.items() if isinstance(value, float))]


def settle(
    flags: Flags,
    workers: Workers,
    identity: Identity | None = None,
    model: torch.nn.Module | None = None,
    start: Beginning | None = None,
) -> Setting:
    """Resolve data set, task, model and precision.

    Args:
        identity: a fine-tuned checkpoint, whose model, weights, labels and clips are taken over, so
            that evaluation needs no flags for them; flags that were given win for clips.
        model: take this one instead of building one.
        start: what a model that is built for training takes over, beside what flags say.

    Raises:
        ValueError: labels, data set, flags and checkpoint contradict each other.
    """
    spec = build.resolve_spec(flags.data_set, flags.data_path)
    checkpoint = {"known": identity.labels, "checkpoint": identity.source} if identity else {}
    labels = labels_of(
        flags.data_path, flags.eval_data_path, flags.data_set, flags.nb_classes, **checkpoint
    )
    task = create_task(labels.task, flags, list(labels.class_names), labels.heads)
    if task.frame_level and flags.average_by != "videos":
        raise ValueError(
            f"--average_by {flags.average_by}: this task is about single frames; leave it out"
        )
    if task.frame_level and flags.save_feature:
        raise ValueError("--save_feature: not for labels of frames; leave it out")
    if model is None and identity:
        model = _model_of(identity, task, flags.given)
    elif model is None:
        outputs = {"num_classes": task.num_outputs, "keep_temporal_dim": task.frame_level or None}
        model = build.create_model(flags, **(start.model if start else {}), **outputs)
    window = flags.face_window or (identity and identity.face_window)
    if identity is None and spec and not window:
        window = spec.face_window(model.img_size)
    known_rate = (identity or start or Beginning()).sampling_rate
    given = "sampling_rate" in flags.explicit or not known_rate
    return Setting(
        flags=flags,
        workers=workers,
        precision=choose_precision(flags.amp, workers.device, width=model.embed_dim),
        model=build.place(model, workers.device),
        task=task,
        labels=labels,
        window=tuple(window) if window else None,
        sampling_rate=flags.sampling_rate if given else known_rate,
        mapping=read_mapping(flags.map_classes or ()),
    )


def _model_of(identity: Identity, task: Task, given: Mapping) -> torch.nn.Module:
    """The model of a checkpoint, which has the sizes of the flags that were given."""
    identity.require_head()
    config = identity.config
    if config.get("num_classes") != task.num_outputs:
        raise ValueError(
            f"the checkpoint's model {config['name']} has {config['num_classes']} outputs, the "
            f"data set {task.num_outputs} ({', '.join(task.names)}); evaluate a fine-tuned "
            "checkpoint on the labels it was trained for"
        )
    if identity.stated:
        build.check_model_flags(given, config, identity.source)
    elif task.frame_level:
        identity = replace(identity, config=config | {"keep_temporal_dim": True})
    model, report = identity.build()
    logger.info("weights of %s%s\n%s", identity.source, " (averaged)" * identity.averaged, report)
    return model
