"""MARLIN: VideoMAE's ViT, trained on faces, with a position table of its own (arXiv 2211.06627)."""

import math
from collections.abc import Mapping

from torch import Tensor

from svfap.models.classifier import Classifier
from svfap.models.patches import interpolated_positions
from svfap.models.vit.vit import ViT


class MARLIN(ViT):
    """ViT whose position table is part of its weights, though it is not trained.

    The released table was computed in float32 and differs a little from `sinusoid_table`.
    """

    positions_in_file = True

    def resized(self, name: str, values: Tensor, source: Mapping | None = None) -> Tensor | None:
        """The table for another clip size: interpolated with `position_grid`, else computed."""
        if not name.endswith("position_table"):
            return super().resized(name, values, source)
        count, dim = values.shape
        if math.prod(self.position_grid) != count or self.position_grid == self.grid:
            return self.positions(dim)
        return interpolated_positions(values, self.position_grid, self.grid)


class MARLINClassifier(Classifier, MARLIN):
    """MARLIN for fine-tuning: mean of all tokens, norm, head."""

    def own_names(self, entries: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Entries of pre-training, whose last norm is the one after the mean here."""
        if "mask_token" not in entries:
            return dict(entries), []
        last = {"encoder.norm.weight": "encoder.fc_norm.weight"}
        last["encoder.norm.bias"] = "encoder.fc_norm.bias"
        return {last.get(name, name): value for name, value in entries.items()}, []
