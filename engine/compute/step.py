"""A training step's forward pass as one function of tensors, from pixels to the loss."""

from collections.abc import Callable, Mapping
from typing import Protocol

import einops
import numpy as np
import torch
from torch import Tensor, nn

from svfap.datasets.augment import transforms
from svfap.engine.compute.levers import Levers
from svfap.engine.compute.precision import Precision

Loss = Tensor | tuple[Tensor, dict[str, Tensor]]


class StepFunction(Protocol):
    """What is done with a batch in training: an objective of pre-training, or a task's loss."""

    def prepare(self, batch: dict, draws: np.random.Generator) -> dict[str, object]:
        """The part for the host: draw what is random, and bring all that `compute` takes to the
        device, without waiting for it.
        """

    def compute(self, model: Callable, *, autocast: Callable, **inputs: object) -> Loss:
        """The part for the device: `inputs` as prepared to the loss.

        Of tensors alone, with nothing that depends on their values, so that it can be compiled;
        tensors have the same shapes in every step. A scalar, or a pair of it and a dict of scalars
        to log.
        """


class Step(nn.Module):
    """A model with what training computes from a batch; what several processes wrap."""

    def __init__(self, model: nn.Module, function: StepFunction, precision: Precision):
        super().__init__()
        self.model, self.function, self.autocast = model, function, precision.autocast

    def forward(self, **inputs: object) -> Loss:
        """Loss of a prepared batch."""
        return self.function.compute(self.model, autocast=self.autocast, **inputs)

    def loss_of(self, wrapped: Callable, batch: dict, draws: np.random.Generator) -> Loss:
        """Loss of a batch of the loader; `wrapped` is this module, or what was put around it."""
        return _kept(wrapped(**self.function.prepare(batch, draws)))

    def compile_as(self, levers: Levers) -> None:
        """Compile in place what the levers name."""
        compile_module(self if levers.whole_step else self.model, levers)


def compile_module(module: nn.Module, levers: Levers) -> None:
    """As `compiled`, for a module and in place."""
    if levers.compile_mode is not None:
        _know_types()
        module.compile(mode=levers.compile_mode, dynamic=False)


def compiled(function: Callable, levers: Levers) -> Callable:
    """A function, compiled as the levers say, when it is called.

    Batches of a run are filled up, so their shapes are fixed: nothing is compiled with sizes left
    open.
    """
    if levers.compile_mode is None:
        return function
    _know_types()
    return torch.compile(function, mode=levers.compile_mode, dynamic=False)


def augment_together(levers: Levers) -> Callable | None:
    """What `FinetuningLoss` takes to crop and mirror the clips of a batch; None: one by one."""
    return compiled(transforms.augment_together, levers) if levers.batched_augmentation else None


def _know_types() -> None:
    """Let einops meet the types of tensors.

    It keeps a table of those it has met, and compiled code checks that it is unchanged: a type
    first met while compiling would make the second step compile everything again.
    """
    for tensor in (torch.empty(1), nn.Parameter(torch.empty(1))):
        einops.rearrange(tensor, "n -> n")


def _kept(found: Loss) -> Loss:
    """What a step returned, in memory of its own: a CUDA graph writes its next results there."""
    if isinstance(found, Tensor):
        return found.clone()
    loss, metrics = found
    kept: Mapping[str, Tensor] = {name: value.clone() for name, value in metrics.items()}
    return loss.clone(), kept
