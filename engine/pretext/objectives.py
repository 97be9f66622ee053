"""Pre-training objectives: what a model is asked to predict, and how far off it is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from svfap.datasets.augment import transforms
from svfap.models.patches import gather_tokens, patchify, split_mask

CPU = torch.device("cpu")
NUM_COLOURS = 3


def normalise_tubelets(tubelets: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance per tubelet and colour channel (SVFAP Sec. 3.1.4).

    Args:
        tubelets: (..., P), values ordered frame, row, column, colour, in [0, 1].

    Returns:
        The same shape; unbiased standard deviation, 1e-6 added to it.
    """
    centred, _, std = _centred(tubelets)
    return rearrange(centred.div_(std), "... p c -> ... (p c)")


def tubelet_statistics(tubelets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (+ 1e-6) per tubelet and colour: two (..., 1, C)."""
    return _centred(tubelets)[1:]


def _centred(tubelets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Values (..., P/C, C) less their mean, and what `tubelet_statistics` returns."""
    values = rearrange(tubelets, "... (p c) -> ... p c", c=NUM_COLOURS)
    mean = values.mean(dim=-2, keepdim=True)
    centred = values - mean
    squares = centred.square().sum(dim=-2, keepdim=True)  # faster than torch.var
    return centred, mean, (squares / (values.shape[-2] - 1)).sqrt() + 1e-6


def motion_targets(
    tubelets: torch.Tensor, *, tubelet_frames: int, group_frames: int, num_steps: int = 1
) -> torch.Tensor:
    """Keep the first frame of each group, replace the others by their difference to it.

    MAE-DFER Sec. 3.3: appearance and motion in one target. There a group is a tubelet of two
    frames; it may be a part of a longer tubelet, or reach over several, as in the released code.

    Args:
        tubelets: (..., t*s, P) normalised, values ordered frame, row, column, colour.
        tubelet_frames: frames in a tubelet.
        group_frames: frames in a group, counted from the clip's first.
        num_steps: t, the time steps in token order. 1 takes each tubelet by itself, which will do
            for any selection of tubelets as long as groups lie within one.

    Returns:
        The same shape.
    """
    return _against_first(tubelets, tubelet_frames, group_frames, num_steps, sign=-1)


def undo_motion(
    values: torch.Tensor, *, tubelet_frames: int, group_frames: int, num_steps: int = 1
) -> torch.Tensor:
    """The inverse of `motion_targets`: add each group's first frame to its others."""
    return _against_first(values, tubelet_frames, group_frames, num_steps, sign=1)


def _against_first(
    tubelets: torch.Tensor, tubelet_frames: int, group_frames: int, num_steps: int, *, sign: int
) -> torch.Tensor:
    """Add `sign` times the first frame of each group to the group's other frames."""
    sizes = {"t": num_steps, "f": tubelet_frames}
    frames = rearrange(tubelets, "... (t s) (f p) -> ... s (t f) p", **sizes)
    groups = rearrange(frames, "... s (k g) p -> ... s k g p", g=group_frames)
    first = groups[..., :1, :]
    groups = torch.cat([first, groups[..., 1:, :] + sign * first], dim=-2)
    frames = groups.flatten(-3, -2)  # (..., s, t*f, p)
    return rearrange(frames, "... s (t f) p -> ... (t s) (f p)", **sizes)


@dataclass(frozen=True)
class MaskedReconstruction:
    """Mean squared error on the masked tubelets (SVFAP Sec. 3.1.4, MAE-DFER Sec. 3.3).

    As `engine.compute.step.StepFunction`.
    """

    tubelet: tuple[int, int, int]  # (frames, height_px, width_px)
    num_visible: int  # visible tokens per clip
    normalise: bool = True  # normalise each target tubelet per colour
    # None for pixels; otherwise appearance and motion in groups of that many frames, counted from
    # the clip's first; the clip is a multiple of it
    group_frames: int | None = None
    # share of motion in the loss, 0..1, for groups within a tubelet; None weighs every value alike
    motion_weight: float | None = None
    device: torch.device = CPU

    def __post_init__(self) -> None:
        """Check the frame groups."""
        if self.group_frames is not None and self.group_frames < 2:
            raise ValueError(
                f"--frame_diff_group_size {self.group_frames}: the first frame of a group is kept "
                "and the others become differences to it, so it must be at least 2"
            )
        if self.motion_weight is not None and self.group_frames and not self._within_tubelet:
            raise ValueError(
                f"--target_diff_weight {self.motion_weight}: needs groups that divide the tubelet "
                f"of {self.tubelet[0]} frames; --frame_diff_group_size is {self.group_frames}. "
                "Leave the weight out, which weighs every value alike, or change the group size"
            )

    @property
    def _within_tubelet(self) -> bool:
        """Whether no group of frames reaches over several tubelets."""
        return self.tubelet[0] % self.group_frames == 0

    def targets(self, pixels: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """What the decoder should predict.

        Args:
            pixels: (B, 3, T, H, W) in [0, 1].
            masked: (B, M) indices of the masked tokens.

        Returns:
            (B, M, P)
        """
        tubelets = patchify(pixels, self.tubelet)
        if not self.group_frames or self._within_tubelet:
            return self._encoded(gather_tokens(tubelets, masked), num_steps=1)
        num_steps = pixels.shape[2] // self.tubelet[0]
        return gather_tokens(self._encoded(tubelets, num_steps=num_steps), masked)

    def _encoded(self, tubelets: torch.Tensor, *, num_steps: int) -> torch.Tensor:
        """Normalise tubelets and take frame differences, as far as asked; see `motion_targets`."""
        if self.normalise:
            tubelets = normalise_tubelets(tubelets)
        if not self.group_frames:
            return tubelets
        return motion_targets(
            tubelets,
            tubelet_frames=self.tubelet[0],
            group_frames=self.group_frames,
            num_steps=num_steps,
        )

    def loss(self, prediction: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared error, with appearance and motion weighed if so asked."""
        if self.motion_weight is None or not self.group_frames:
            return F.mse_loss(prediction.float(), targets)
        error = (prediction.float() - targets).square()
        num_groups = self.tubelet[0] // self.group_frames
        per_frame = rearrange(error, "b m (k g p) -> g b m k p", k=num_groups, g=self.group_frames)
        appearance, motion = per_frame[0].mean(), per_frame[1:].mean()
        return (1 - self.motion_weight) * appearance + self.motion_weight * motion

    def prepare(self, batch: dict, draws: object = None) -> dict[str, torch.Tensor]:
        """What `compute` takes of a batch of the pre-training loader; nothing is drawn here."""
        names = [name for name in ("clip", "mask", "crop_box", "predicted") if name in batch]
        return {name: batch[name].to(self.device, non_blocking=True) for name in names}

    def compute(
        self,
        model: nn.Module | Callable,
        *,
        autocast: Callable,
        clip: torch.Tensor,
        mask: torch.Tensor,
        crop_box: torch.Tensor | None = None,
        predicted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss of a batch.

        Args:
            clip: (B, T, H, W, 3) uint8.
            mask: (B, N) bool, True = hidden.
            crop_box: (B, 4) the part of each clip that is enlarged; None: all of it, as it is.
            predicted: (B, M') indices of the masked tokens that are predicted; None: all.
        """
        with torch.no_grad():
            if crop_box is None:
                pixels = transforms.to_float(clip)
            else:
                pixels = transforms.enlarge(clip, crop_box)  # (B, 3, T, H, W)
            _, masked = split_mask(mask, self.num_visible)
            options = {"num_visible": self.num_visible}
            if predicted is not None:
                masked = options["predicted"] = predicted
            targets = self.targets(pixels, masked)
        with autocast():
            prediction = model(transforms.normalize_(pixels), mask, **options)
        return self.loss(prediction, targets)
