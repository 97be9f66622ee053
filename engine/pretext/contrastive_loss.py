"""The contrastive objective: InfoNCE over the views of all processes, and what SSL-FER adds to it.

Views of a batch stand in the loader's order: those of a pair side by side, the pairs of a sample
one after the other, the samples of a process together. Rows are this process's views, as anchors;
columns are the views of all processes, as candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svfap.datasets.augment.mixing import cutmix_box
from svfap.datasets.augment.transforms import normalize_, to_device, to_float
from svfap.datasets.clips.contrastive import SWAP_FAILED, SWAPPED
from svfap.engine.runtime.distributed import gather_rows, process_rank

CPU = torch.device("cpu")
FALSE_NEGATIVES = ("none", "remove", "promote")


@dataclass(frozen=True, kw_only=True)
class Relations:
    """What every candidate is to every anchor; all (R, C) bool."""

    partner: Tensor  # the other view of the same pair
    # a view of the sample's other pair, a hard negative (SSL-FER Sec. 3.2)
    hard: Tensor
    # views of other videos, and hard negatives. A batch that was filled up may hold a video twice;
    # its two samples are nothing to each other
    negative: Tensor


def relations(videos: Tensor, *, num_pairs: int, first: int, count: int) -> Relations:
    """Compare rows `first` to `first + count` with all views.

    Args:
        videos: (C,) int, which video each view is of.
        count: R, views of this process.
    """
    columns = torch.arange(len(videos), device=videos.device)
    rows = columns[first : first + count, None]
    same_sample = rows // (2 * num_pairs) == columns // (2 * num_pairs)
    same_pair = rows // 2 == columns // 2
    same_video = videos[first : first + count, None] == videos
    return Relations(
        partner=same_pair & (rows != columns),
        hard=same_sample & ~same_pair,
        negative=(same_sample & ~same_pair) | (~same_sample & ~same_video),
    )


def info_nce(logits: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Cross entropy of choosing the positives among positives and negatives.

    Args:
        logits: (R, C) float32, similarities over the temperature.
        positives: (R, C) weights, each row adding up to 1, or to 0 where it has no loss.
        negatives: (R, C) bool.

    Returns:
        (R,) losses.
    """
    allowed = (positives > 0) | negatives
    allowed = allowed | ~allowed.any(1, keepdim=True)  # an empty row must not become NaN
    total = logits.masked_fill(~allowed, float("-inf")).logsumexp(1, keepdim=True)
    return (positives * (total - logits)).sum(1)


def most_similar(similarity: Tensor, candidates: Tensor) -> Tensor:
    """Mark the most similar candidate of each row: (R, C) bool, none where there is none."""
    best = similarity.masked_fill(~candidates, float("-inf")).argmax(1, keepdim=True)
    columns = torch.arange(similarity.shape[1], device=similarity.device)
    return (columns == best) & candidates


@dataclass(frozen=True, kw_only=True)
class ContrastiveLoss:
    """InfoNCE (temperature-scaled cosine similarity), with false negatives and CutMix as asked.

    MaskFN (SSL-FER Sec. 3.3): of the negatives, the one whose eyes and mouth are described most
    alike becomes a second positive, loss 1 + weight x loss 2; or all that are more alike than the
    threshold, hard negatives excepted, are left out. Neither loss counts what was taken out among
    its negatives. Views without landmarks are negatives as without MaskFN.

    CutMix: a box of every first view comes from the first view of the next video of the batch, and
    by its share of the area the latter's positive counts too (as in i-Mix, arXiv 2010.08887).

    Accumulated batches are not negatives of each other; the batches of all processes are.
    """

    num_pairs: int = 1  # pairs per sample
    temperature: float = 0.07  # above 0
    false_negatives: str = "none"  # of `FALSE_NEGATIVES`
    weight: float = 0.8  # of the loss of promoted negatives
    threshold: float = 0.5  # cosine similarity above which negatives are removed
    # (eyes, mouth) -> (R, D), each (R, 3, 64, 64) in [0, 1]; needed unless "none"
    descriptor: Callable[[Tensor, Tensor], Tensor] | None = None
    cutmix: float = 0.0  # alpha of the Beta distribution of what is left; 0: no CutMix
    device: torch.device = CPU

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.temperature > 0:
            raise ValueError(f"--temperature {self.temperature:g}: must be above 0, e.g. 0.07")
        if self.false_negatives not in FALSE_NEGATIVES:
            raise ValueError(
                f"--false_negatives {self.false_negatives!r}: choose among "
                f"{', '.join(FALSE_NEGATIVES)}"
            )
        if not self.weight >= 0:
            raise ValueError(f"--false_negative_weight {self.weight:g}: must be at least 0")
        if not -1 <= self.threshold <= 1:
            raise ValueError(
                f"--false_negative_threshold {self.threshold:g}: a cosine lies in -1..1"
            )
        if not self.cutmix >= 0:
            raise ValueError(f"--cutmix {self.cutmix:g}: must be at least 0")

    def prepare(self, batch: dict, draws: np.random.Generator) -> dict[str, Tensor]:
        """What `compute` takes of a batch of `datasets.clips.contrastive`."""
        names = ["clip", "index", "swap", *(["eyes", "mouth", "described"] * bool(self.descriptor))]
        inputs = {
            name: batch[name].to(self.device, non_blocking=True) for name in names if name in batch
        }
        with torch.no_grad():
            clip, share = self.mixed(normalize_(to_float(inputs["clip"])), draws)
        if share is not None:
            inputs["share"] = to_device(torch.tensor(share), self.device)
        return inputs | {"clip": clip}

    def compute(
        self, model: nn.Module | Callable, *, autocast: Callable, clip: Tensor, index: Tensor,
        share: Tensor | None = None, swap: Tensor | None = None, **described: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """Loss of a batch.

        Args:
            autocast: context of the forward pass; similarities and losses are float32.
            clip: (R, 3, T, H, W) views, normalised.
            index: (R,) which video each view is of.
            share: of each first view that is its own after CutMix.
            swap: (R,) what became of the face swaps.
            described: what `descriptions` takes.

        Returns:
            The loss, and `accuracy`: the share of views whose partner is more similar than every
            negative; with face swaps also `face_swap_failed`, the share of those drawn that could
            not be made.
        """
        with autocast():
            projected = model(clip)
        own = F.normalize(projected.float(), dim=1)  # (R, D)
        logits = own @ gather_rows(own).T / self.temperature  # (R, C)
        videos = gather_rows(index)
        first = process_rank() * len(own)
        known = relations(videos, num_pairs=self.num_pairs, first=first, count=len(own))
        positives = self.targets(known, share, first=first)
        alike = self.descriptions(**described) if self.descriptor else None
        losses = self.losses(logits, positives, known, alike)
        return losses.mean(), self._metrics(logits, known, swap)

    def losses(
        self, logits: Tensor, positives: Tensor, known: Relations, alike: Tensor | None
    ) -> Tensor:
        """Loss of every row, (R,), from logits (R, C) float32 and weights of the positives (R, C).

        Args:
            alike: (R, C) cosine similarity of descriptions, NaN where one is missing; None
                without MaskFN.
        """
        negatives = known.negative & ~(positives > 0)
        if self.false_negatives == "none":
            return info_nce(logits, positives, negatives)
        candidates = negatives & ~alike.isnan()
        if self.false_negatives == "remove":
            removed = candidates & ~known.hard & (alike > self.threshold)
            return info_nce(logits, positives, negatives & ~removed)
        promoted = most_similar(alike, candidates)
        negatives = negatives & ~promoted
        first = info_nce(logits, positives, negatives)
        return first + self.weight * info_nce(logits, promoted.to(logits.dtype), negatives)

    @torch.no_grad()
    def descriptions(self, eyes: Tensor, mouth: Tensor, described: Tensor) -> Tensor:
        """Cosine similarity of the views' eyes and mouths (R, H, W, 3) uint8: (R, C), NaN where one
        is missing.
        """
        eyes, mouth = (part.permute(0, 3, 1, 2).float() / 255 for part in (eyes, mouth))
        found = F.normalize(self.descriptor(eyes, mouth).float(), dim=1)
        found = found.masked_fill(~described[:, None], float("nan"))
        return found @ gather_rows(found).T

    def mixed(self, clip: Tensor, draws: np.random.Generator) -> tuple[Tensor, float | None]:
        """Carry out CutMix on the first views of a clip (R, 3, T, H, W).

        Returns the clips, and the share of each first view that is its own; None without CutMix.
        """
        if not self.cutmix or len(clip) == 2 * self.num_pairs:
            return clip, None
        height, width = clip.shape[-2:]
        share = draws.beta(self.cutmix, self.cutmix)
        centre = tuple(int(value) for value in draws.integers(0, (height, width)))
        top, bottom, left, right = cutmix_box(share, centre, height, width)
        clip = clip.clone()
        others = clip[::2].roll(-self.num_pairs, 0)[..., top:bottom, left:right]
        clip[::2, ..., top:bottom, left:right] = others
        share = 1 - (bottom - top) * (right - left) / (height * width)
        return clip, share

    def targets(self, known: Relations, share: Tensor | float | None, *, first: int) -> Tensor:
        """Weights of the positives (R, C): the partner, and with CutMix what was mixed in; `first`
        is the column of this process's first view.
        """
        partner = known.partner.float()
        if share is None:
            return partner
        count, shift = len(partner), self.num_pairs
        own = partner[:, first : first + count]  # CutMix stays within a process
        mixed = torch.zeros_like(own)
        mixed[::2] = own[::2].roll(-shift, 0)  # the positive of the video whose box it shows
        mixed[1::2] = own[1::2].roll(shift, 0)  # the view that shows a box of its video
        weights = torch.zeros_like(partner)
        weights[:, first : first + count] = share * own + (1 - share) * mixed
        return weights

    @torch.no_grad()
    def _metrics(self, logits: Tensor, known: Relations, swap: Tensor | None) -> dict[str, Tensor]:
        others = logits.masked_fill(~known.negative, float("-inf")).amax(1)
        partner = logits.masked_fill(~known.partner, float("-inf")).amax(1)
        metrics = {"accuracy": (partner > others).float().mean()}
        if swap is not None:
            failed, swapped = ((swap == what).sum() for what in (SWAP_FAILED, SWAPPED))
            metrics["face_swap_failed"] = failed / (failed + swapped).clamp(min=1)
        return metrics
