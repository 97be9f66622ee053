"""Data set, task, model and precision of a fine-tuning or evaluation, resolved from flags."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

import models
from datasets.catalog import DatasetSpec
from datasets.clips import training as clips
from datasets.clips.frame_views import WINDOWS_PER_ITEM, FrameViews
from datasets.labels.annotations import Annotations, read_annotations
from datasets.labels.classes import LabelNames, read_classes
from engine import build
from engine.evaluate import Evaluated, evaluate
from engine.evaluate_frames import evaluate_frames
from engine.groups import GROUPS_FILE, average_by_group, read_groups
from engine.runtime.distributed import Workers
from engine.runtime.precision import Precision, choose_precision
from engine.tasks.base import Task, create_task


@dataclass
class Setting:
    """What fine-tuning and evaluation share once flags are resolved."""

    flags: argparse.Namespace
    workers: Workers
    precision: Precision
    model: torch.nn.Module
    task: Task
    kind: str
    window: tuple[int, int, int, int] | None
    heads: dict[str, list[str]] | None = None

    @property
    def compiled(self) -> bool:
        """Whether evaluation compiles; sharded models are collected for it as they are."""
        return self.flags.compile and not self.flags.shard

    def read(self, split: str, folder: str | None = None) -> Annotations | None:
        """Annotations of a split; None where the data set has no such file."""
        path = Path(folder or self.flags.data_path) / f"{split}.csv"
        if not path.exists() and split == "val":
            return None
        return read_annotations(
            path,
            task=self.kind,
            names=self.task.names,
            heads=self.heads,
            data_root=self.flags.data_root,
            check_paths=self.flags.check_paths,
        )

    def views(self, annotations: Annotations, *, middle: bool):
        """Loader of evaluation views: the middle clip, or those of the test protocol.

        Where frames have labels: windows over the whole video, which overlap by half in the test.
        """
        batch_size = self.flags.batch_size
        source = {
            "annotations": annotations,
            "clip_frames": self.model.num_frames,
            "stride": self.flags.sampling_rate,
            "size": self.model.img_size,
            "face_window": self.window,
            "backend": self.flags.reader,
            "rank": self.workers.rank,
            "world_size": self.workers.world_size,
        }
        if self.task.frame_level:
            span = self.model.num_frames * self.flags.sampling_rate
            dataset = FrameViews(**source, window_stride=span if middle else max(1, span // 2))
            batch_size = max(1, batch_size // WINDOWS_PER_ITEM)
        else:
            dataset = clips.EvalViews(
                **source,
                num_segments=self.flags.test_num_segment,
                num_crops=self.flags.test_num_crop,
                middle=middle,
            )
        return clips.make_loader(
            dataset,
            batch_size=batch_size,
            num_workers=build.num_workers(self.flags),
            pin_memory=self.flags.pin_mem and self.workers.device.type == "cuda",
        )

    def evaluate(self, model, annotations: Annotations, *, middle: bool, title: str) -> Evaluated:
        """Scores of a model on a set of videos, of their groups or of their frames."""
        run = {
            "annotations": annotations,
            "workers": self.workers,
            "precision": self.precision,
            "title": title,
            "pass_size": self.flags.batch_size if self.compiled else None,
        }
        loader = self.views(annotations, middle=middle)
        if self.task.frame_level:
            return evaluate_frames(model, loader, self.task, **run)
        with_features = self.flags.save_feature and not middle
        evaluated = evaluate(model, loader, self.task, **run, with_features=with_features)
        if self.flags.average_by == "videos":
            return evaluated
        path = Path(annotations.path).parent / GROUPS_FILE
        return average_by_group(evaluated, read_groups(path, evaluated.ids))


def settle(
    flags: argparse.Namespace,
    workers: Workers,
    checkpoint: dict | None = None,
    model: torch.nn.Module | None = None,
) -> Setting:
    """Resolve data set, task, model and precision.

    Args:
        flags: parsed flags; what a checkpoint knows better is put into them.
        workers: processes and device.
        checkpoint: content of one of our checkpoints, whose model, labels and clips are taken
            over, so that evaluation needs no flags for them.
        model: take this one instead of building one.

    Raises:
        ValueError: labels, data set and flags contradict each other.
    """
    if checkpoint:
        _adopt(flags, checkpoint)
    spec = build.resolve_spec(flags)
    labels = _labels(flags, spec, checkpoint)
    task = create_task(labels.task, flags, list(labels.class_names), labels.heads)
    _check_evaluation(flags, task)
    if model is None and checkpoint:
        model = _model_of(checkpoint, task)
    elif model is None:
        model = build.create_model(
            flags, num_classes=task.num_outputs, keep_temporal_dim=task.frame_level or None
        )
    return Setting(
        flags=flags,
        workers=workers,
        precision=choose_precision(flags.amp, workers.device, width=model.embed_dim),
        model=model.to(workers.device),
        task=task,
        kind=labels.task,
        window=tuple(flags.face_window) if flags.face_window else spec and spec.face_window,
        heads={head: list(names) for head, names in labels.heads.items()} or None,
    )


def _check_evaluation(flags: argparse.Namespace, task: Task) -> None:
    """Refuse what an evaluation of frames cannot do."""
    if not task.frame_level:
        return
    if flags.average_by != "videos":
        raise ValueError(
            f"--average_by {flags.average_by}: this task is about single frames; leave it out"
        )
    if flags.save_feature:
        raise ValueError("--save_feature: not for labels of frames; leave it out")


def _model_of(checkpoint: dict, task: Task) -> torch.nn.Module:
    """The model that a checkpoint was trained as.

    Raises:
        ValueError: it is no classifier, or has another number of outputs than there are labels.
    """
    config = checkpoint["model_config"]
    if config.get("num_classes") != task.num_outputs:
        raise ValueError(
            f"the checkpoint's model {config['name']} has {config.get('num_classes') or 'no'} "
            f"outputs, the data set {task.num_outputs} ({', '.join(task.names)}); evaluate a "
            "fine-tuned checkpoint on the labels it was trained for"
        )
    return models.create_model(**config)


def _adopt(flags: argparse.Namespace, checkpoint: dict) -> None:
    """Take from a checkpoint what decides how clips are made, unless given on the command line."""
    for name in ("data_set", "nb_classes", "num_frames", "sampling_rate", "face_window"):
        if name not in flags.explicit and name in checkpoint.get("flags", {}):
            setattr(flags, name, checkpoint["flags"][name])


def _labels(
    flags: argparse.Namespace, spec: DatasetSpec | None, checkpoint: dict | None
) -> LabelNames:
    """Task and label names: the checkpoint's, the data set's, those beside the CSVs, or numbers.

    Raises:
        ValueError: the number of classes is unknown, or two sources of it contradict each other.
    """
    beside = read_classes(flags.data_path)
    task = spec.task if spec and spec.class_names else beside.task if beside else "classification"
    if checkpoint and checkpoint.get("class_names"):
        return LabelNames(
            task=checkpoint.get("task") or task,
            class_names=tuple(checkpoint["class_names"]),
            heads={head: tuple(names) for head, names in (checkpoint.get("heads") or {}).items()},
        )
    if spec and spec.class_names and beside and beside.task != spec.task:
        raise ValueError(
            f"{flags.data_path}/classes.json is for {beside.task} ({', '.join(beside.class_names)})"
            f", --data_set {spec.name} is {spec.task}; use --data_set custom, or leave it out"
        )
    if spec and spec.class_names:
        labels, source = LabelNames(task=task, class_names=spec.class_names), spec.name
    elif beside:
        labels, source = beside, f"{flags.data_path}/classes.json"
    elif flags.nb_classes:
        return LabelNames(task=task, class_names=tuple(map(str, range(flags.nb_classes))))
    else:
        raise ValueError(
            "the number of classes is unknown: give --nb_classes, a --data_set of the catalogue, "
            f"or put a classes.json into {flags.data_path}"
        )
    names = labels.output_names
    if flags.nb_classes not in (None, len(names)):
        raise ValueError(
            f"--nb_classes {flags.nb_classes}: {source} has {len(names)} ({', '.join(names)}); "
            "leave --nb_classes out, or use --data_set custom for other labels"
        )
    return labels
