"""Fine-tuning tasks: how labels become a loss, outputs become scores, scores become metrics.

A task is one class with the members of `Task`; `TASKS` names them.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from datasets import transforms
from datasets.mixing import Mixer
from engine.metrics import classification_metrics, regression_metrics


class Task(Protocol):
    """What the fine-tuning engine asks of a task."""

    names: list[str]  # classes, or dimensions
    num_outputs: int
    default_metric: str

    def training_loss(self, model: nn.Module, clip: torch.Tensor, label: torch.Tensor, draws):
        """Mixing, forward pass and loss; clip (B, 3, T, H, W) augmented and normalised."""

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """(B, num_outputs) model outputs to what is averaged over the views of a video."""

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Loss of averaged scores, for validation."""

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict:
        """Published metrics of a set of videos."""


@dataclass
class Classification:
    """One class per video: cross-entropy, mixup and cutmix, label smoothing; UAR and WAR.

    `class_weights`, if set, scale each class's part of the loss; the mean stays one over clips.
    """

    names: list[str]
    mixer: Mixer | None = None
    smoothing: float = 0.0
    class_weights: Sequence[float] | None = None
    default_metric: str = "uar"

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.names)

    def training_loss(self, model, clip, label, draws) -> torch.Tensor:
        """Cross-entropy against mixed or smoothed labels."""
        smoothing = self.smoothing
        if self.mixer is not None:
            clip, label = self.mixer(clip, label, draws)
            smoothing = 0.0
        logits = model(clip).float()
        if self.class_weights is None:
            return F.cross_entropy(logits, label, label_smoothing=smoothing)
        if label.ndim == 1:  # for class indices, torch would divide by the sum of the weights
            label = F.one_hot(label, self.num_outputs) * (1 - smoothing)
            label = label + smoothing / self.num_outputs
        return F.cross_entropy(logits, label, weight=logits.new_tensor(self.class_weights))

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Class probabilities."""
        return outputs.float().softmax(dim=-1)

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Negative log of the true class's mean probability."""
        chosen = scores[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict:
        """See `engine.metrics.classification_metrics`."""
        return classification_metrics(labels, scores, self.names)


@dataclass
class Regression:
    """Continuous dimensions per video: mean squared error; PCC, CCC, MAE."""

    names: list[str]
    default_metric: str = "ccc"

    @property
    def num_outputs(self) -> int:
        """Number of dimensions."""
        return len(self.names)

    def training_loss(self, model, clip, label, draws) -> torch.Tensor:
        """Mean squared error."""
        return F.mse_loss(model(clip).float(), label)

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """The outputs themselves."""
        return outputs.float()

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Mean squared error of averaged predictions."""
        return float(np.square(scores - labels).mean())

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict:
        """See `engine.metrics.regression_metrics`."""
        return regression_metrics(labels, scores, self.names)


def _classification(flags: argparse.Namespace, names: list[str]) -> Classification:
    mixes = flags.mixup > 0 or flags.cutmix > 0 or flags.cutmix_minmax
    mixer = None
    if mixes:
        mixer = Mixer(
            mixup_alpha=flags.mixup,
            cutmix_alpha=flags.cutmix,
            cutmix_minmax=flags.cutmix_minmax,
            prob=flags.mixup_prob,
            switch_prob=flags.mixup_switch_prob,
            mode=flags.mixup_mode,
            label_smoothing=flags.smoothing,
            num_classes=len(names),
        )
    return Classification(names=names, mixer=mixer, smoothing=flags.smoothing)


def _regression(flags: argparse.Namespace, names: list[str]) -> Regression:
    return Regression(names=names)


TASKS: dict[str, Callable[[argparse.Namespace, list[str]], Task]] = {
    "classification": _classification,
    "regression": _regression,
}


def create_task(kind: str, flags: argparse.Namespace, names: list[str]) -> Task:
    """Build a task by name.

    Args:
        kind: one of `TASKS`.
        flags: mixing and smoothing flags.
        names: class or dimension names, in label order.

    Raises:
        ValueError: no such task.
    """
    if kind not in TASKS:
        raise ValueError(f"task {kind!r} is not one of {sorted(TASKS)}")
    return TASKS[kind](flags, names)


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
            clip = transforms.normalize(transforms.to_float(clip))
            clip = transforms.apply_draws(
                clip, batch["draws"], self.size, erase_mode=self.erase_mode
            )
        with self.autocast():
            return self.task.training_loss(model, clip, label, draws)
