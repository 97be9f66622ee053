"""What fine-tuning asks of a task."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from svfap.datasets.augment.mixing import Mix, Mixes
from svfap.engine.flags.flag import Flags
from svfap.engine.results.kinds.base import Predictions


class Task:
    """How labels become a loss, outputs become scores, and scores become predictions.

    What the labels are is said by the entry of the same name in `datasets.labels.kinds.KINDS`;
    what is measured, drawn and written of predictions by their class (`engine.results.kinds`).
    """

    default_metric: ClassVar[str]  # chooses the best weights
    frame_level: ClassVar[bool] = False  # of frames; the model keeps its time steps
    probabilities: ClassVar[bool] = False  # scores are between 0 and 1
    can_be_probed: ClassVar[bool] = False  # a linear probe or neighbours can predict the labels

    names: list[str]  # classes, dimensions, or heads
    num_outputs: int
    remark: str = ""  # for the plan

    @classmethod
    def create(cls, flags: Flags, names: list[str], heads: Mapping[str, Sequence[str]]) -> "Task":
        """See `engine.tasks.base.create_task`."""
        raise NotImplementedError

    def draw_mixes(
        self, draws: np.random.Generator, num_clips: int, size: int
    ) -> Sequence[Mix] | None:
        """How the clips of a batch, with frames of that side, are mixed; None: not at all."""
        return None

    def training_loss(
        self, model: nn.Module, clip: torch.Tensor, label: torch.Tensor, mixes: Mixes | None
    ) -> torch.Tensor:
        """Mixing, forward pass and loss; clip (B, 3, T, H, W) augmented and normalised."""
        raise NotImplementedError

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """(..., num_outputs) model outputs to what is averaged over the views of a video."""
        raise NotImplementedError

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Loss of averaged scores, for validation."""
        raise NotImplementedError

    def predictions(
        self,
        ids: Sequence[str],
        labels: np.ndarray,
        scores: np.ndarray,
        frames: np.ndarray | None = None,
    ) -> Predictions:
        """What pred.csv holds."""
        raise NotImplementedError

    def answer(self, scores: np.ndarray) -> str | None:
        """The answer to a video in a word, from (num_outputs,); None where there is no such."""
        return None

    def balance(self, weights: torch.Tensor) -> None:
        """Let each class's part of the loss weigh that much (`--class_balanced loss`).

        `weights` (C,) are float32 and on the device of the training; ValueError where the loss is
        not about one class per video.
        """
        raise ValueError("--class_balanced loss: this task has no classes to balance; leave it out")
