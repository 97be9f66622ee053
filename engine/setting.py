"""Data set, task, model and precision of a fine-tuning or evaluation, resolved from flags."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

import models
from datasets import clips
from datasets.annotations import Annotations, read_annotations
from engine import build
from engine.distributed import Workers
from engine.evaluate import Evaluated, evaluate
from engine.precision import Precision, choose_precision
from engine.tasks import Task, create_task


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

    def read(self, split: str, folder: str | None = None) -> Annotations | None:
        """Annotations of a split; None where the data set has no such file."""
        path = Path(folder or self.flags.data_path) / f"{split}.csv"
        if not path.exists() and split == "val":
            return None
        classes = self.task.num_outputs if self.kind == "classification" else None
        return read_annotations(
            path,
            task=self.kind,
            num_classes=classes,
            num_labels=None if classes else self.task.num_outputs,
            data_root=self.flags.data_root,
            check_paths=self.flags.check_paths,
        )

    def views(self, annotations: Annotations, *, middle: bool):
        """Loader of evaluation views: the middle clip, or those of the test protocol."""
        dataset = clips.EvalViews(
            annotations=annotations,
            clip_frames=self.model.num_frames,
            stride=self.flags.sampling_rate,
            size=self.model.img_size,
            num_segments=1 if middle else self.flags.test_num_segment,
            num_crops=1 if middle else self.flags.test_num_crop,
            middle=middle,
            face_window=self.window,
            backend=self.flags.reader,
            rank=self.workers.rank,
            world_size=self.workers.world_size,
        )
        return clips.make_loader(
            dataset,
            batch_size=self.flags.batch_size,
            num_workers=build.num_workers(self.flags),
            pin_memory=self.flags.pin_mem and self.workers.device.type == "cuda",
        )

    def evaluate(self, model, annotations: Annotations, *, middle: bool, title: str) -> Evaluated:
        """Scores of a model on a set of videos."""
        return evaluate(
            model,
            self.views(annotations, middle=middle),
            self.task,
            num_videos=len(annotations),
            workers=self.workers,
            precision=self.precision,
            title=title,
            with_features=self.flags.save_feature and not middle,
        )


def settle(
    flags: argparse.Namespace, workers: Workers, weights: tuple[str, dict | None] | None
) -> Setting:
    """Resolve data set, task, model and precision; checkpoints of ours know their own."""
    content = weights[1] if weights else None
    if content:
        _adopt(flags, content)
    spec = build.resolve_spec(flags)
    kind = spec.task if spec else "classification"
    names = _label_names(flags, spec, content)
    task = create_task(kind, flags, names)
    if content:
        model = models.create_model(**content["model_config"])
    else:
        model = build.create_model(flags, num_classes=task.num_outputs)
    window = tuple(flags.face_window) if flags.face_window else spec and spec.face_window
    return Setting(
        flags=flags,
        workers=workers,
        precision=choose_precision(flags.amp, workers.device, width=model.embed_dim),
        model=model.to(workers.device),
        task=task,
        kind=kind,
        window=window,
    )


def _adopt(flags: argparse.Namespace, content: dict) -> None:
    """Take from a checkpoint what decides how clips are made, unless given on the command line."""
    for name in ("data_set", "nb_classes", "num_frames", "sampling_rate", "face_window",
                 "input_size"):  # fmt: skip
        if name not in flags.explicit and name in content["flags"]:
            setattr(flags, name, content["flags"][name])


def _label_names(flags, spec, content: dict | None) -> list[str]:
    """Class or dimension names: the data set's, else numbers.

    Raises:
        ValueError: the number of classes is unknown or contradicts the data set.
    """
    if content and content.get("class_names"):
        return list(content["class_names"])
    known = list(spec.class_names) if spec and spec.class_names else None
    count = flags.nb_classes or (len(known) if known else None)
    if count is None:
        raise ValueError(
            "the number of classes is unknown: give --nb_classes or a known --data_set"
        )
    if known and count != len(known):
        raise ValueError(
            f"--nb_classes {count}: {spec.name} has {len(known)} ({', '.join(known)}); leave "
            "--nb_classes out, or use --data_set custom for other labels"
        )
    return known or [str(index) for index in range(count)]
