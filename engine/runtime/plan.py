"""`--dry_run`: what a command would do, in numbers, without doing it."""

import logging
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """What one clip costs."""

    parameters: int
    multiply_adds: int


def clip_cost(model: nn.Module, *, num_visible: int | None = None) -> Cost:
    """Count parameters and multiply-adds of a model for one clip; `num_visible` is of pre-training.

    Nothing is computed: shapes alone run through the model, as on a CPU wherever its weights are.
    """
    # PyTorch 2.11 and older do not count attention on a CPU
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    attention = {kernel: lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)}
    counter = FlopCounterMode(display=False, custom_mapping=attention)
    shapes = FakeTensorMode()
    with shapes:
        state = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, requires_grad=tensor.requires_grad)
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        }
    with shapes, counter, torch.no_grad():
        clip = torch.zeros(1, 3, model.num_frames, model.img_size, model.img_size)
        inputs, options = (clip,), {}
        if num_visible is not None:
            inputs = (clip, torch.zeros(1, model.num_tokens, dtype=torch.bool))
            options = {"num_visible": num_visible}
        training = model.training
        if any(isinstance(layer, _BatchNorm) for layer in model.modules()):
            model.eval()  # one clip has no batch statistics, and none of other processes
        torch.func.functional_call(model, state, inputs, options)
        model.train(training)
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
    )


def training_flop(cost: Cost, clips: int) -> float:
    """Operations of a training pass over some clips, 2 per multiply-add; backward counts twice."""
    return 2 * 3 * cost.multiply_adds * clips


def describe(rows: dict[str, object]) -> str:
    """A plan as aligned lines of name and value."""
    width = max(len(name) for name in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())


def model_rows(
    model: nn.Module,
    cost: Cost,
    precision,
    *,
    sampling_rate: int,
    global_batch: int,
    clips: int,
    clips_per_sample: int = 1,
    views: int = 1,
    memory: int | None = None,
) -> dict[str, object]:
    """Lines of the plan that both stages share.

    A process computes `clips` at a time, for which it needs `memory` bytes (None: not counted).
    """
    whole = f"{global_batch} clips"
    if views > 1:
        whole = f"{global_batch} samples of {views} views"
    elif clips_per_sample > 1:
        whole = f"{global_batch} videos of {clips_per_sample} clips"
    rows = {
        "model": f"{model.config['name']}, {cost.parameters / 1e6:.2f} M parameters",
        "clip": f"{model.num_frames} frames of {model.img_size} x {model.img_size} px, every "
        f"{sampling_rate}. frame; {model.num_tokens} tokens",
        "forward pass": f"{cost.multiply_adds / 1e9:.2f} G multiply-adds per clip",
        "precision": str(precision),
        "global batch": whole,
    }
    if memory is not None:
        rows["expected memory"] = f"{memory / 2**30:,.1f} GiB per process for {clips} clips"
    return rows
