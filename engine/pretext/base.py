"""What pre-training asks of an objective."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn
from torch.utils.data import Dataset

from svfap.datasets.labels.annotations import Annotations
from svfap.engine.compute.step import StepFunction
from svfap.engine.flags.flag import Flags
from svfap.engine.loop import Training
from svfap.engine.runtime import plan


class Pretext(StepFunction):
    """Model, data and loss of an objective; built from (flags, workers), which checks the flags.

    Attributes:
        flags: that it was built from.
        model: on the CPU, with random weights.
        samples_per_video: how many of the samples that make up a batch come from one video.
        views: clips per sample.
        compares: whether the samples of a batch are compared with each other.
        settled: flags that were left open, with what they came to.
        looks_at_first: whether `look` is at the first clips of a run; one that goes on reads them
            again, for `look_at`.
    """

    flags: Flags
    model: nn.Module
    samples_per_video: int = 1
    views: int = 1
    compares: bool = False
    settled: Mapping[str, object] = MappingProxyType({})
    looks_at_first: bool = False

    def choose_rows(self, annotations: Annotations) -> Annotations:
        """The videos that can be used."""
        return annotations

    def write_chosen(self, folder: Path) -> None:
        """Write into a run directory which these are, if not all."""

    def dataset(self, annotations: Annotations, window: tuple | None) -> Dataset:
        """Training items of these videos, indexed by `SampleKey`."""
        raise NotImplementedError

    def cost(self) -> plan.Cost:
        """What one clip costs."""
        return plan.clip_cost(self.model)

    def shapes(self, num_clips: int) -> dict[str, torch.Tensor]:
        """What `compute` takes of a batch of so many clips, on the device "meta"."""
        raise NotImplementedError

    def plan_rows(self) -> dict[str, str]:
        """Lines of the plan."""
        return {}

    def look_at(self, batch: dict) -> None:
        """Look at the clips of this batch of the loader from now on."""

    def look(self, run: Training, epoch: int) -> dict[str, float]:
        """What else a line of the log says after 0-based `epoch`; called on all processes."""
        return {}

    def draw(
        self, run: Training, annotations: Annotations, window: tuple | None, output_dir: Path
    ) -> None:
        """Pictures at the end, on the main process."""
