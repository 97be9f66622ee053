"""Fine-tuning tasks by name, and the loss that the loop calls (docs/tasks.md)."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from datasets.augment import transforms
from datasets.labels.kinds import kind_of
from engine.tasks.class_and_values import ClassAndValues
from engine.tasks.classification import Classification, Multihead
from engine.tasks.regression import FrameRegression, Regression
from engine.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "multihead": Multihead,
    "regression": Regression,
    "regression_frames": FrameRegression,
    "class_and_values": ClassAndValues,
}


def create_task(
    kind: str,
    flags: argparse.Namespace,
    names: list[str],
    heads: Mapping[str, Sequence[str]] | None = None,
) -> Task:
    """Build a task by name.

    Args:
        kind: one of `TASKS`.
        flags: of fine-tuning: mixing, smoothing, loss.
        names: class, dimension or head names, in label order.
        heads: class names of each of the names that stand for a class of their own.

    Raises:
        ValueError: no such task, classes of heads that are unknown, or flags that do not suit it.
    """
    if kind not in TASKS:
        raise ValueError(f"task {kind!r} is not one of {sorted(TASKS)}")
    unknown = [name for name in names[kind_of(kind).headed] if name not in (heads or {})]
    if unknown:
        raise ValueError(
            f"the classes of {', '.join(unknown)} are unknown: {kind} needs the heads of a "
            "classes.json beside the CSVs"
        )
    return TASKS[kind].create(flags, names, heads or {})


@dataclass(frozen=True)
class FinetuningLoss:
    """Device part of augmentation, then the task's loss (SVFAP Sec. 4.2)."""

    task: Task
    size: int
    device: torch.device
    autocast: Callable
    erase_mode: str = "pixel"

    def __call__(self, model: nn.Module, batch: dict, draws) -> torch.Tensor:
        """Loss of one batch of the fine-tuning loader."""
        clip = batch["clip"].to(self.device, non_blocking=True)
        label = batch["label"].to(self.device, non_blocking=True)
        with torch.no_grad():
            clip = transforms.normalize_(transforms.to_float(clip))
            clip = transforms.apply_draws(
                clip, batch["draws"], self.size, erase_mode=self.erase_mode
            )
        with self.autocast():
            return self.task.training_loss(model, clip, label, draws)
