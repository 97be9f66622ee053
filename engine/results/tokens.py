"""Tokens of videos, kept while a model runs over their views."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

MEMORY_GIB = 8.0  # of a part's tokens
BATCH = 64  # clips that are computed with at a time
GIB = 2**30


class TokenCache:
    """Tokens of the views of videos, in half precision, in main memory.

    Args:
        num_videos: of the part that is read, on all processes together.
    """

    def __init__(self, num_videos: int, limit_gib: float = MEMORY_GIB):
        self.num_videos, self.limit_gib = num_videos, limit_gib
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self.bytes = 0

    def add(self, batch: dict, tokens: Tensor) -> None:
        """Keep the tokens (B, V, D) of the views of a batch.

        Raises:
            ValueError: they take more memory than allowed, or are out of half precision's range.
        """
        kept = tokens.half().cpu()
        if not kept.isfinite().all():
            raise ValueError("tokens are NaN, infinite or above 65504; probe without --attentive")
        self._parts.append((batch["index"], batch["view_weight"], kept))
        self.bytes += kept.nbytes
        expected = max(self.bytes, self.num_videos * kept[0].nbytes) / GIB
        if expected > self.limit_gib:
            raise ValueError(
                f"the tokens of {self.num_videos} videos take {expected:.1f} GiB of memory, "
                f"{self.limit_gib:g} are allowed: raise --token_memory, take fewer videos "
                "(--label_fraction), or probe without --attentive"
            )

    def gathered(self, gather: Callable[[list], list[list]]) -> "Tokens":
        """What all processes have kept; `gather` is that of their `Workers`."""
        parts = [part for own in gather(self._parts) for part in own]
        self._parts = []
        video, weight, values = (torch.cat(column) for column in zip(*parts))
        return Tokens(video.long(), weight.double(), values)


class Tokens:
    """Tokens of all views of a part.

    Args:
        video: (n,) which video each view is of.
        weight: (n,) what it counts.
        values: (n, V, D) float16.
    """

    def __init__(self, video: Tensor, weight: Tensor, values: Tensor):
        self.video, self.weight, self.values = video, weight, values

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the views, (V, D) each."""
        total, squares = torch.zeros((2, *self.values.shape[1:]), dtype=torch.float64)
        for part in self.values.split(BATCH):
            total += part.double().sum(0)
            squares += part.double().square().sum(0)
        mean = total / len(self.values)
        return mean, (squares / len(self.values) - mean.square()).clamp(min=0).sqrt()

    def pooled(self, scores: Tensor) -> np.ndarray:
        """Weighted means of the scores (n, C) of each video's views: (videos, C)."""
        weighted = torch.cat([scores.double() * self.weight[:, None], self.weight[:, None]], 1)
        sums = torch.zeros(int(self.video.max()) + 1, weighted.shape[1], dtype=torch.float64)
        sums.index_add_(0, self.video, weighted)
        return (sums[:, :-1] / sums[:, -1:]).numpy()
