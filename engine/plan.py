"""`--dry_run`: what a command would do, in numbers, without doing it."""

import logging
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import models

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """What one clip costs.

    Attributes:
        parameters: number of trainable values.
        multiply_adds: of a forward pass.
        activation_bytes: kept for the backward pass in float32.
    """

    parameters: int
    multiply_adds: int
    activation_bytes: int


def clip_cost(config: dict, *, num_visible: int | None = None) -> Cost:
    """Count parameters, multiply-adds and activations of a model for one clip.

    Nothing is computed: shapes alone run through the model.

    Args:
        config: a model's `config`.
        num_visible: visible tokens of a pre-training model; None for a fine-tuning model.
    """
    counter, kept = FlopCounterMode(display=False), {}
    with FakeTensorMode():
        model = models.create_model(**config)
        clip = torch.zeros(1, 3, model.num_frames, model.img_size, model.img_size)
        inputs: tuple = (clip,)
        more = {}
        if num_visible is not None:
            inputs += (torch.zeros(1, model.num_tokens, dtype=torch.bool),)
            more["num_visible"] = num_visible
        weights = {id(parameter.untyped_storage()) for parameter in model.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if id(storage) not in weights:
                kept[id(storage)] = (storage, storage.nbytes())
            return tensor

        with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(*inputs, **more)
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        activation_bytes=sum(size for _, size in kept.values()),
    )


def training_memory_gib(cost: Cost, *, batch_size: int, half: bool, averaged: bool) -> float:
    """Expected memory of a training step per process, without the data loader.

    Weights, gradients and two moments of AdamW in float32, and the activations of a batch, which
    autocast halves.
    """
    copies = 4 + averaged
    activations = cost.activation_bytes * batch_size / (2 if half else 1)
    return (4 * copies * cost.parameters + activations) / 2**30


def describe(rows: dict[str, object]) -> str:
    """A plan as aligned lines of name and value."""
    width = max(len(name) for name in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())


def model_rows(model: nn.Module, cost: Cost, flags, precision, batch: int) -> dict[str, object]:
    """Lines of the plan that both stages share."""
    memory = training_memory_gib(
        cost,
        batch_size=flags.batch_size,
        half=precision.dtype is not None,
        averaged=bool(getattr(flags, "model_ema", False)),
    )
    return {
        "model": f"{flags.model}, {cost.parameters / 1e6:.2f} M parameters",
        "clip": f"{model.num_frames} frames of {model.img_size} x {model.img_size} px, every "
        f"{flags.sampling_rate}. frame; {model.num_tokens} tokens",
        "forward pass": f"{cost.multiply_adds / 1e9:.2f} G multiply-adds per clip",
        "precision": str(precision),
        "global batch": f"{batch} clips",
        "expected memory": f"{memory:.1f} GiB per process for {flags.batch_size} clips (estimate)",
    }
