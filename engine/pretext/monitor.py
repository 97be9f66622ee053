"""Does pre-training learn anything? A look at a fixed batch of clips after every epoch.

The loss says little by itself: that of normalised pixels begins at 1, what the mean scores, and a
network can lower it a little while the features of all clips become the same.
"""

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from svfap.datasets.augment import transforms
from svfap.engine.pretext.objectives import MaskedReconstruction
from svfap.engine.results.chance import AT_THE_MEAN
from svfap.models.patches import split_mask

logger = logging.getLogger(__name__)

NUM_CLIPS = 32
COLLAPSED = 2.0  # effective rank


class Spread(NamedTuple):
    """How features (n, D) differ between clips."""

    variance: float  # share of their power that is not in their mean, 0..1
    # exponential of the entropy of their principal variances (Roy and Vetterli 2007), 1..min(n - 1,
    # D)
    rank: float


def spread(features: Tensor) -> Spread:
    """How features (n, D) of n clips differ."""
    features = features.double()
    centred = features - features.mean(0)
    powers = torch.linalg.svdvals(centred).square()
    total = powers.sum()
    if not total > 0:
        return Spread(0.0, 1.0)
    shares = powers / total
    entropy = -torch.special.xlogy(shares, shares).sum()
    return Spread(float(total / features.square().sum()), float(entropy.exp()))


class Monitor:
    """Keeps the first clips of a run and says after every epoch what the model makes of them."""

    def __init__(self, objective: MaskedReconstruction):
        self.objective = objective
        self.clips: dict[str, Tensor] = {}
        self.warned: set[str] = set()

    def keep(self, inputs: Mapping[str, Tensor]) -> None:
        """Keep what `MaskedReconstruction.prepare` made of the first batch of a run."""
        self.clips = {name: value[:NUM_CLIPS].clone() for name, value in inputs.items()}

    @torch.no_grad()
    def look(self, model: nn.Module, autocast: Callable) -> dict[str, float]:
        """Loss in units of the mean's, and the spread of features, for a line of the log."""
        training = model.training
        model.eval()
        objective, clips = self.objective, self.clips
        loss = objective.compute(model, autocast=autocast, **clips)
        pixels, masked = self._pixels(), clips.get("predicted")
        if masked is None:
            masked = split_mask(clips["mask"], objective.num_visible)[1]
        targets = objective.targets(pixels, masked)
        of_mean = objective.loss(targets.mean((0, 1), keepdim=True).expand_as(targets), targets)
        encoder = model.encoder
        with autocast():
            features = encoder.encode(encoder.embed(transforms.normalize_(pixels))).summary.mean(1)
        model.train(training)
        found = spread(features.float().cpu())
        return {
            "loss_of_mean": float(of_mean),
            "relative_loss": float(loss / of_mean),
            "feature_variance": found.variance,
            "feature_rank": found.rank,
        }

    def warn(self, line: Mapping[str, float]) -> None:
        """Say in words what is wrong with a line of `look`, once for each kind."""
        if line["relative_loss"] > AT_THE_MEAN:
            self._warn(
                "loss",
                f"the loss is {line['relative_loss']:.3f} of what the mean of the targets scores: "
                "hardly anything has been learnt; try more steps or another --lr",
            )
        if line["feature_rank"] < COLLAPSED and len(self.clips["clip"]) > COLLAPSED:
            self._warn(
                "features",
                "features of different clips have become almost the same (effective rank "
                f"{line['feature_rank']:.1f}): they have collapsed; try a "
                "lower --lr or longer --warmup_epochs",
            )

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self.warned:
            self.warned.add(kind)
            logger.warning("%s", text)

    def _pixels(self) -> Tensor:
        """(B, 3, T, H, W) in [0, 1]."""
        clip, box = self.clips["clip"], self.clips.get("crop_box")
        return transforms.to_float(clip) if box is None else transforms.enlarge(clip, box)
