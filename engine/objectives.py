"""Pre-training objectives: what a model is asked to predict, and how far off it is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import nn

from datasets import transforms
from models.patches import gather_tokens, patchify, split_mask


def normalise_tubelets(tubelets: torch.Tensor, *, num_colours: int = 3) -> torch.Tensor:
    """Zero mean and unit variance per tubelet and colour channel (SVFAP Sec. 3.1.4).

    Args:
        tubelets: (..., P), values ordered frame, row, column, colour, in [0, 1].
        num_colours: C.

    Returns:
        The same shape; unbiased standard deviation, 1e-6 added to it.
    """
    values = rearrange(tubelets, "... (p c) -> ... p c", c=num_colours)
    mean, std = tubelet_statistics(tubelets, num_colours=num_colours)
    return rearrange((values - mean) / std, "... p c -> ... (p c)")


def tubelet_statistics(
    tubelets: torch.Tensor, *, num_colours: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (+ 1e-6) per tubelet and colour: two (..., 1, C)."""
    values = rearrange(tubelets, "... (p c) -> ... p c", c=num_colours)
    mean = values.mean(dim=-2, keepdim=True)
    return mean, values.var(dim=-2, unbiased=True, keepdim=True).sqrt() + 1e-6


def motion_targets(tubelets: torch.Tensor, *, group_frames: int) -> torch.Tensor:
    """Keep the first frame of each group, replace the others by their difference to it.

    MAE-DFER Sec. 3.3: appearance and motion in one target.

    Args:
        tubelets: (..., P) normalised, values ordered frame, row, column, colour, with P a
            multiple of `group_frames`.
        group_frames: frames per group; normally those of a tubelet.

    Returns:
        The same shape.
    """
    frames = rearrange(tubelets, "... (g f p) -> ... g f p", f=group_frames, g=1)
    appearance = frames[..., :1, :]
    return torch.cat([appearance, frames[..., 1:, :] - appearance], dim=-2).flatten(-3)


@dataclass(frozen=True)
class MaskedReconstruction:
    """Mean squared error on the masked tubelets (SVFAP Sec. 3.1.4, MAE-DFER Sec. 3.3).

    Attributes:
        tubelet: (frames, height_px, width_px).
        num_visible: visible tokens per clip.
        decoder_mask_share: share of the masked tokens that the decoder predicts, another random
            part in every step (0 < share <= 1). Below 1 is a change of recipe, for speed (compare
            VideoMAE V2, arXiv 2303.16727, Sec. 3.2).
        normalise: normalise each target tubelet per colour.
        group_frames: None for pixels; otherwise appearance and motion in groups of that many
            frames.
        motion_weight: share of motion in the loss, 0..1; None weighs every value alike.
    """

    tubelet: tuple[int, int, int]
    num_visible: int
    decoder_mask_share: float = 1.0
    normalise: bool = True
    group_frames: int | None = None
    motion_weight: float | None = None

    def __post_init__(self) -> None:
        """Check the frame groups.

        Raises:
            ValueError: groups do not match the tubelet.
        """
        if self.group_frames is not None and self.group_frames != self.tubelet[0]:
            raise ValueError(
                f"--frame_diff_group_size {self.group_frames}: differences are taken inside a "
                f"tubelet, so it must equal --tubelet_size ({self.tubelet[0]})"
            )

    def targets(self, pixels: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """What the decoder should predict.

        Args:
            pixels: (B, 3, T, H, W) in [0, 1].
            masked: (B, M) indices of the masked tokens.

        Returns:
            (B, M, P)
        """
        hidden = gather_tokens(patchify(pixels, self.tubelet), masked)
        if self.normalise:
            hidden = normalise_tubelets(hidden)
        if self.group_frames:
            hidden = motion_targets(hidden, group_frames=self.group_frames)
        return hidden

    def loss(self, prediction: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared error, with appearance and motion weighed if so asked."""
        error = (prediction.float() - targets).square()
        if self.motion_weight is None or not self.group_frames:
            return error.mean()
        per_frame = rearrange(error, "b m (f p) -> f b m p", f=self.group_frames)
        appearance, motion = per_frame[0].mean(), per_frame[1:].mean()
        return (1 - self.motion_weight) * appearance + self.motion_weight * motion

    def __call__(
        self,
        model: nn.Module | Callable,
        batch: dict,
        *,
        device: torch.device,
        autocast: Callable,
        draws: np.random.Generator | None = None,
    ) -> torch.Tensor:
        """Loss of one batch of the pre-training loader.

        Args:
            model: pre-training model, wrapped or not.
            batch: of the loader.
            device: where to compute.
            autocast: context of the forward pass.
            draws: chooses what is predicted where that is a part.
        """
        clip = batch["clip"].to(device, non_blocking=True)
        mask = batch["mask"].to(device, non_blocking=True)
        with torch.no_grad():
            pixels = transforms.to_float(clip)  # (B, 3, T, H, W)
            _, masked = split_mask(mask, self.num_visible)
            options = {"num_visible": self.num_visible}
            if self.decoder_mask_share < 1:
                masked = options["predicted"] = self.part_of(masked, draws)
            targets = self.targets(pixels, masked)
        with autocast():
            prediction = model(transforms.normalize(pixels), mask, **options)
        return self.loss(prediction, targets)

    def part_of(self, masked: torch.Tensor, draws: np.random.Generator) -> torch.Tensor:
        """Random part of the masked tokens of every clip: (B, M) to (B, M'), in token order."""
        count = max(1, round(self.decoder_mask_share * masked.shape[1]))
        places = np.argsort(draws.random(masked.shape), axis=1)[:, :count]
        places = torch.from_numpy(np.sort(places, axis=1))
        return masked.gather(1, places.to(masked.device, non_blocking=True))
