"""Fine-tuning tasks: how labels become a loss, outputs become scores, scores become metrics.

A task is one class with the members of `Task`; `TASKS` names them (docs/tasks.md).
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import nn

from datasets.augment import transforms
from engine.results.predictions import Predictions
from engine.tasks.class_and_values import ClassAndValues, class_and_values
from engine.tasks.classification import Classification, Multihead, classification, multihead
from engine.tasks.regression import Regression, regression

__all__ = [
    "TASKS",
    "ClassAndValues",
    "Classification",
    "FinetuningLoss",
    "Multihead",
    "Regression",
    "Task",
    "create_task",
]


class Task(Protocol):
    """What the fine-tuning engine asks of a task."""

    names: list[str]  # classes, dimensions, or heads
    num_outputs: int
    default_metric: str
    frame_level: bool  # labels and outputs are of frames; the model keeps its time steps
    remark: str  # for the plan

    def training_loss(self, model: nn.Module, clip: torch.Tensor, label: torch.Tensor, draws):
        """Mixing, forward pass and loss; clip (B, 3, T, H, W) augmented and normalised."""

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """(..., num_outputs) model outputs to what is averaged over the views of a video."""

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Loss of averaged scores, for validation."""

    def predictions(
        self,
        ids: Sequence[str],
        labels: np.ndarray,
        scores: np.ndarray,
        frames: np.ndarray | None = None,
    ) -> Predictions:
        """What pred.csv holds; its `metrics()` are the published ones."""


TASKS: dict[str, Callable[..., Task]] = {
    "classification": classification,
    "multihead": multihead,
    "regression": regression,
    "regression_frames": partial(regression, frame_level=True),
    "class_and_values": class_and_values,
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
        heads: class names of each head, for "multihead" and "class_and_values".

    Raises:
        ValueError: no such task, or flags that do not suit it.
    """
    if kind not in TASKS:
        raise ValueError(f"task {kind!r} is not one of {sorted(TASKS)}")
    return TASKS[kind](flags, names, heads)


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
