"""Regression tasks: continuous dimensions of a video, or of every frame of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from svfap.engine.results.kinds.numbers import Numbers
from svfap.engine.results.metrics import concordance
from svfap.engine.tasks.task import Task

MIXING_FLAGS = ("mixup", "cutmix", "cutmix_minmax")


def ccc_loss(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - Lin's concordance correlation coefficient, mean over dimensions.

    Args:
        values: (..., L) predictions; all leading axes together are the series.
        targets: (..., L).

    Returns:
        A scalar, 0..2; 1 for constant predictions.
    """
    values, targets = values.flatten(0, -2), targets.flatten(0, -2)
    mean_value, mean_target = values.mean(0), targets.mean(0)
    covariance = ((values - mean_value) * (targets - mean_target)).mean(0)
    spread = values.var(0, correction=0) + targets.var(0, correction=0)
    spread = spread + (mean_value - mean_target).square()
    return 1 - (2 * covariance / (spread + 1e-8)).mean()


@dataclass
class Regression(Task):
    """Continuous dimensions per video; PCC, CCC, MAE."""

    names: list[str]
    loss_kind: str = "mse"

    default_metric = "ccc"
    can_be_probed = True

    @classmethod
    def create(
        cls, flags, names, heads, *, refused: Sequence[str] = (*MIXING_FLAGS, "smoothing")
    ) -> "Regression":
        """See `Task`; flags of `refused` must not be given, or be off.

        ValueError: flags ask for mixing of clips, or the CCC loss gets single clips.
        """
        explicit = getattr(flags, "explicit", ())
        asked = [f"--{name}" for name in refused if name in explicit and getattr(flags, name)]
        if asked:
            raise ValueError(
                f"{', '.join(asked)}: mixing and smoothing are for class labels, this is a "
                f"regression of {', '.join(names)}; leave them out or set them to 0"
            )
        loss = flags.regression_loss
        clips = flags.batch_size * flags.num_sample
        if "ccc" in loss and clips < 2 and not cls.frame_level:
            raise ValueError(
                f"--regression_loss {loss} compares the clips of a batch, but "
                f"--batch_size x --num_sample is {clips}; use at least 2, better 16, or mse"
            )
        return cls(names=names, loss_kind=loss)

    @property
    def num_outputs(self) -> int:
        """Number of dimensions."""
        return len(self.names)

    @property
    def remark(self) -> str:
        """What the plan says about the loss."""
        return f"{self.loss_kind} loss; mixup, cutmix and label smoothing are off"

    def training_loss(self, model, clip, label, mixes) -> torch.Tensor:
        """The chosen loss over the batch."""
        return self.loss_of(model(clip).float(), label)

    def loss_of(self, values: torch.Tensor, targets: torch.Tensor, mixes=None) -> torch.Tensor:
        """The chosen loss of predictions and targets of one shape (..., L); never mixed."""
        parts = {"mse": F.mse_loss, "ccc": ccc_loss}
        return sum(parts[name](values, targets) for name in self.loss_kind.split("+"))

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """The outputs themselves."""
        return outputs.float()

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """The chosen loss of averaged predictions."""
        labels, total = np.asarray(labels, np.float64), 0.0
        if "mse" in self.loss_kind:
            total += float(np.square(scores - labels).mean())
        if "ccc" in self.loss_kind:
            total += 1 - float(np.mean(list(map(concordance, labels.T, scores.T))))
        return total

    def predictions(self, ids, labels, scores, frames=None) -> Numbers:
        """Predictions with the names of the dimensions."""
        return Numbers.from_scores(ids, labels, scores, self.names, frames=frames)


class FrameRegression(Regression):
    """Continuous dimensions of every frame; metrics pool all frames.

    The model keeps the time steps of its last stage, whose outputs are interpolated to the frames
    of the clip; labels are (B, T, L).
    """

    frame_level = True
    can_be_probed = False

    def training_loss(self, model, clip, label, mixes) -> torch.Tensor:
        """The chosen loss over the frames of the batch."""
        return self.loss_of(model(clip, per_frame=True).float(), label)
