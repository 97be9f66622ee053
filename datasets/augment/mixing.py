"""Mixup and CutMix of clips with soft labels, right on video (timm's would cut along time).

Sources: mixup, arXiv 1710.09412; CutMix, arXiv 1905.04899; modes and label smoothing as in timm.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from svfap.datasets.augment.transforms import to_device

MODES = ("batch", "elem", "pair")


class Mix(NamedTuple):
    """How a clip is mixed with its partner."""

    lam: float  # share of the clip itself, 0..1; 1 = not mixed
    # (top, bottom, left, right) in pixels that comes from the partner; None = mixup
    box: tuple[int, int, int, int] | None


class Mixes(NamedTuple):
    """How the clips of a batch are mixed, as tensors, so that one function serves all draws."""

    share: torch.Tensor  # (B,) float32, `Mix.lam`
    box: torch.Tensor  # (B, 4) int64, `Mix.box`; zeros: mixup


class Mixer:
    """Mix each clip with its partner, clip i with clip B - 1 - i, and their labels likewise.

    Args:
        mixup_alpha: parameter of the Beta distribution of mixup's share; 0: no mixup.
        cutmix_alpha: the same of CutMix; 0: no CutMix.
        cutmix_minmax: instead of `cutmix_alpha`: smallest and largest side of the CutMix box as
            shares of the frame's.
        prob: probability of mixing at all.
        switch_prob: probability of CutMix where both are possible.
        mode: "batch": one draw for the batch; "elem": one for each clip; "pair": one for each two
            partners (needs an even batch).
        label_smoothing: share of the label spread over all classes, 0..1.

    Raises:
        ValueError: a value out of range, an unknown mode, or nothing to mix with.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        mixup_alpha: float = 0.8,
        cutmix_alpha: float = 1.0,
        cutmix_minmax: tuple[float, float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: str = "batch",
        label_smoothing: float = 0.1,
    ):
        if mode not in MODES:
            raise ValueError(f"unknown mixing mode {mode!r}; known: {', '.join(MODES)}")
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
        shares = {"prob": prob, "switch_prob": switch_prob, "label_smoothing": label_smoothing}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie in 0..1")
        if min(mixup_alpha, cutmix_alpha) < 0:
            raise ValueError(f"mixup {mixup_alpha} and cutmix {cutmix_alpha} must not be negative")
        if cutmix_minmax is not None and not 0 < cutmix_minmax[0] <= cutmix_minmax[1] <= 1:
            raise ValueError(
                f"cutmix_minmax {cutmix_minmax} must be 0 < min <= max <= 1, e.g. .2 .8"
            )
        self.use_mixup = mixup_alpha > 0
        self.use_cutmix = cutmix_alpha > 0 or cutmix_minmax is not None
        if not (self.use_mixup or self.use_cutmix):
            raise ValueError(
                "mixup and cutmix are both 0: there is nothing to mix; set one above 0, or train "
                "without a Mixer (label smoothing then belongs to the loss)"
            )
        self.num_classes = num_classes
        self.mixup_alpha, self.cutmix_alpha = mixup_alpha, cutmix_alpha
        self.cutmix_minmax = cutmix_minmax
        self.prob, self.switch_prob = prob, switch_prob
        self.mode = mode
        self.label_smoothing = label_smoothing

    def __call__(
        self, clips: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix a batch; the inputs stay as they are.

        Args:
            clips: (B, 3, T, H, W) float; any (B, ..., H, W) will do.
            labels: (B,) int64 classes, same device.

        Returns:
            Clips of the same shape and soft labels (B, num_classes) float32, rows adding up to 1.

        Raises:
            ValueError: an odd batch in mode "pair".
        """
        mixes = as_tensors(self.draw(rng, len(clips), *clips.shape[-2:]), clips.device)
        return mix_clips(clips, mixes), self.mix_labels(labels, mixes)

    def draw(self, rng: np.random.Generator, num_clips: int, height: int, width: int) -> list[Mix]:
        """Draw how each of `num_clips` clips of that size in pixels is mixed."""
        if self.mode == "batch":
            return [self._draw_mix(rng, height, width)] * num_clips
        if self.mode == "elem":
            return [self._draw_mix(rng, height, width) for _ in range(num_clips)]
        if num_clips % 2:
            raise ValueError(
                f"mixing mode 'pair' mixes clips two by two, but the batch has {num_clips}: "
                "use an even batch size, or mode 'batch' or 'elem'"
            )
        half = [self._draw_mix(rng, height, width) for _ in range(num_clips // 2)]
        return half + half[::-1]

    def _draw_mix(self, rng: np.random.Generator, height: int, width: int) -> Mix:
        mixed = rng.random() < self.prob
        cut = rng.random() < self.switch_prob if self.use_mixup else True
        if not mixed:
            return Mix(1.0, None)
        if not (self.use_cutmix and cut):
            return Mix(float(rng.beta(self.mixup_alpha, self.mixup_alpha)), None)
        if self.cutmix_minmax is not None:
            box = _draw_box_minmax(rng, height, width, self.cutmix_minmax)
        else:
            lam = rng.beta(self.cutmix_alpha, self.cutmix_alpha)
            box = cutmix_box(lam, (rng.integers(height), rng.integers(width)), height, width)
        top, bottom, left, right = box
        return Mix(1.0 - (bottom - top) * (right - left) / (height * width), box)

    def mix_labels(self, labels: torch.Tensor, mixes: Mixes) -> torch.Tensor:
        """Soft labels (B, num_classes) of classes (B,), mixed as the clips were."""
        off = self.label_smoothing / self.num_classes
        soft = torch.full((len(labels), self.num_classes), off, device=labels.device)
        soft.scatter_(1, labels.long()[:, None], 1 - self.label_smoothing + off)
        share = mixes.share[:, None]
        return soft * share + soft.flip(0) * (1 - share)


def as_tensors(mixes: Sequence[Mix], device: torch.device) -> Mixes:
    """What was drawn for a batch, on a device."""
    share = torch.tensor([mix.lam for mix in mixes], dtype=torch.float32)
    box = torch.tensor([mix.box or (0, 0, 0, 0) for mix in mixes])
    return Mixes(to_device(share, device), to_device(box, device))


def mix_clips(clips: torch.Tensor, mixes: Mixes) -> torch.Tensor:
    """Mix clips (B, ..., H, W) as drawn; a new tensor."""
    height, width = clips.shape[-2:]
    rows = torch.arange(height, device=clips.device)[:, None]
    columns = torch.arange(width, device=clips.device)
    top, bottom, left, right = mixes.box[:, :, None, None].unbind(1)  # (B, 1, 1) each
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    share = torch.where(bottom > top, (~inside).float(), mixes.share[:, None, None])  # (B, H, W)
    share = share.view(len(clips), *[1] * (clips.ndim - 3), height, width)
    return torch.lerp(clips.flip(0), clips, share)


def cutmix_box(
    lam: float, centre: tuple[int, int], height: int, width: int
) -> tuple[int, int, int, int]:
    """Box of the share 1 - lam of a frame around a point, cut at the frame's border.

    Args:
        lam: share of the frame to leave.
        centre: (row, column) in pixels.

    Returns:
        (top, bottom, left, right) in pixels, bottom and right not included.
    """
    side = math.sqrt(1 - lam)
    box = []
    for point, extent in zip(centre, (height, width)):
        cut = int(extent * side)
        box += [max(int(point) - cut // 2, 0), min(int(point) + (cut + 1) // 2, extent)]
    return tuple(box)


def _draw_box_minmax(
    rng: np.random.Generator, height: int, width: int, minmax: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Box anywhere inside the frame, each side drawn between two shares of the frame's."""
    box = []
    for extent in (height, width):
        cut = int(rng.integers(int(extent * minmax[0]), int(extent * minmax[1]) + 1))
        start = int(rng.integers(extent - cut + 1))
        box += [start, start + cut]
    return tuple(box)
