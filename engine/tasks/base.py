"""Fine-tuning tasks by name, and the loss that the loop calls (docs/tasks.md)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from svfap.datasets.augment import transforms
from svfap.datasets.augment.mixing import Mixes, as_tensors
from svfap.datasets.augment.transforms import to_device
from svfap.datasets.labels.kinds import kind_of
from svfap.engine.flags.flag import Flags
from svfap.engine.tasks.classification import Classification
from svfap.engine.tasks.composite import ClassAndValues, Multihead
from svfap.engine.tasks.regression import FrameRegression, Regression
from svfap.engine.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "multihead": Multihead,
    "regression": Regression,
    "regression_frames": FrameRegression,
    "class_and_values": ClassAndValues,
}


def create_task(
    kind: str,
    flags: Flags,
    names: list[str],
    heads: Mapping[str, Sequence[str]] | None = None,
) -> Task:
    """Build a task by name.

    Args:
        names: class, dimension or head names, in label order.
        heads: class names of each of the names that stand for a class of their own.

    Raises:
        ValueError: no such task, classes of heads that are unknown, or flags that do not suit it.
    """
    if kind not in TASKS:
        raise ValueError(f"task {kind!r} is not one of {sorted(TASKS)}")
    unknown = [name for name in names[kind_of(kind).headed] if name not in (heads or {})]
    if unknown:
        raise ValueError(
            f"the classes of {', '.join(unknown)} are unknown: {kind} needs the heads of a "
            "classes.json beside the CSVs"
        )
    return TASKS[kind].create(flags, names, heads or {})


@dataclass(frozen=True)
class FinetuningLoss:
    """Device part of augmentation, then the task's loss (SVFAP Sec. 4.2).

    As `engine.compute.step.StepFunction`.
    """

    task: Task
    size: int  # side of the frames in pixels
    device: torch.device
    erase_mode: str = "pixel"  # as `transforms.erase_` takes it
    # `transforms.augment_together`, compiled or not; None: clip by clip
    augment_together: Callable | None = None

    def prepare(self, batch: dict, draws) -> dict[str, object]:
        """Augmented clips, labels, and how they are mixed."""
        clip = self.augmented(batch["clip"], batch["draws"])
        mixes = self.task.draw_mixes(draws, len(clip), self.size)
        return {
            "clip": clip,
            "label": batch["label"].to(self.device, non_blocking=True),
            "mixes": None if mixes is None else as_tensors(mixes, self.device),
        }

    @torch.no_grad()
    def augmented(self, clip: torch.Tensor, draws: dict[str, torch.Tensor]) -> torch.Tensor:
        """Clips (B, T, H, W, 3) uint8 as the model takes them, cropped, mirrored and erased."""
        clip = clip.to(self.device, non_blocking=True)
        if self.augment_together is None:
            clip = transforms.normalize_(transforms.to_float(clip))
            return transforms.apply_draws(clip, draws, self.size, erase_mode=self.erase_mode)
        box, flip = (to_device(draws[k], self.device) for k in ("crop_box", "flip"))
        clip = self.augment_together(clip, box, flip, self.size)
        # drawn from a generator per clip, which compiled code has not
        return transforms.erase_(clip, draws, self.erase_mode)

    def compute(
        self, model: Callable, *, autocast: Callable, clip: torch.Tensor, label: torch.Tensor,
        mixes: Mixes | None,
    ) -> torch.Tensor:  # fmt: skip
        """Loss of one batch."""
        with autocast():
            return self.task.training_loss(model, clip, label, mixes)
