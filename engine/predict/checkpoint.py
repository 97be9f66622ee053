"""What a checkpoint says about its predictions: model, task and names of the outputs."""

from collections.abc import Sequence
from pathlib import Path

import torch

import models
from datasets.catalog import DatasetSpec
from datasets.labels.classes import read_classes
from engine.flags.config import finetuning_parser
from engine.tasks.base import Task, create_task


def load_model(
    content: dict, source: str | Path, name: str | None = None, *, averaged: bool = False
) -> torch.nn.Module:
    """Build the fine-tuned model of a checkpoint and set its weights.

    Args:
        content: of `models.read_checkpoint`.
        source: the file, for messages.
        name: registered model, for weights that do not say theirs.
        averaged: take `model_ema`.

    Raises:
        ValueError: not a fine-tuned model, or it is unknown which.
    """
    if averaged and not content.get("model_ema"):
        raise ValueError(f"{source} holds no averaged weights; leave --averaged out")
    weights = {"model": content["model_ema"]} if averaged else content
    config = content.get("model_config")
    if config is None:
        config = models.guess_config(content, str(source))
        config = config | ({"name": name} if name else {})
    if str(config["name"]).startswith("pretrain") or not config.get("num_classes"):
        raise ValueError(
            f"{source} is a pre-trained encoder without a head, which cannot answer anything; "
            "fine-tune it first (run_finetune.py --finetune), then give that checkpoint"
        )
    model = models.create_model(**config)
    models.load_weights(model, weights)
    return model


def task_kind(content: dict, flags: dict, spec: DatasetSpec | None) -> str:
    """Task: the checkpoint's, the data set's, that of the labels trained on, or classification."""
    if content.get("task"):
        return str(content["task"])
    if spec and spec.class_names:
        return spec.task
    beside = read_classes(flags["data_path"]) if flags.get("data_path") else None
    return beside.task if beside else "classification"


def stated_names(content: dict) -> Sequence[str] | None:
    """A name for each output, as the checkpoint says: classes, dimensions, or <head>_<class>."""
    heads = content.get("heads")
    if not heads:
        return content.get("class_names")
    of_heads = [f"{head}_{name}" for head, names in heads.items() for name in names]
    return of_heads + [name for name in content.get("class_names") or () if name not in heads]


def checked_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The names, or numbers where there are none.

    Raises:
        ValueError: other names than outputs.
    """
    if not names:
        return tuple(map(str, range(count)))
    if len(names) != count:
        raise ValueError(
            f"the model has {count} outputs, but there are {len(names)} names "
            f"({', '.join(names)}); give the right --data_set or --class_names"
        )
    return tuple(names)


def task_of(kind: str, flags: dict, names: Sequence[str], heads: dict | None) -> Task:
    """The task, with the checkpoint's flags over the defaults."""
    defaults = finetuning_parser().parse_args([])
    for name, value in flags.items():
        setattr(defaults, name, value)
    return create_task(kind, defaults, list(names), heads)
