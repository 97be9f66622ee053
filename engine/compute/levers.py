"""What makes a step faster, each by itself; what is computed stays the same up to rounding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import nn

from svfap.models.layers import choose_attention_kernels, keep_norms_in_half

# What a GPU at least needs for a step that is not compiled, mostly to have its kernels launched,
# and what it computes in bf16 meanwhile if there is enough to do (measured on an H200).
EAGER_STEP_SECONDS = 0.05
EAGER_FLOP_PER_SECOND = 160e12
# Compiling takes half a minute to two minutes, and saves about a third of the time from then on.
MIN_SECONDS_TO_COMPILE = 600


@dataclass(frozen=True, kw_only=True)
class Levers:
    """Which ways of computing a step are taken; `levers_of` knows what suits a device.

    `dataclasses.replace` changes one of them, for a measurement or to rule it out.
    """

    compile_mode: str | None = None  # of torch.compile; None: nothing is compiled
    # compile pixels, targets, model and loss as one function; False: the model only
    whole_step: bool = True
    cudnn_attention: bool = False  # cuDNN's attention in training (see `models.layers.attention`)
    # layer normalisation answers in bf16 or fp16 under autocast on CUDA, as it does on a CPU (see
    # `models.layers.LayerNorm`)
    half_norms: bool = False
    batched_augmentation: bool = False  # crop and mirror the clips of a fine-tuning batch together
    joint_optimizer: bool = True  # AdamW does nothing between its groups (`engine.compute.optim`)


def levers_of(device: torch.device, *, compile_mode: str | None = None) -> Levers:
    """The levers that pay on a device."""
    on_gpu = device.type == "cuda"
    return Levers(
        compile_mode=compile_mode,
        cudnn_attention=on_gpu,
        half_norms=on_gpu,
        batched_augmentation=on_gpu,
    )


def lever_names() -> list[str]:
    """The levers that are on or off."""
    return [field.name for field in fields(Levers) if field.type is bool]


def set_up_levers(levers: Levers, device: torch.device, model: nn.Module | None = None) -> None:
    """Make the choices that hold for a model, or for the whole process where it is about kernels.

    Before anything is computed or compiled.
    """
    if model is not None:
        keep_norms_in_half(model, levers.half_norms)
    if device.type == "cuda":
        # where tensors only pretend to be on a GPU there is no cuDNN to ask
        choose_attention_kernels(cudnn=levers.cudnn_attention and torch.cuda.is_available())


def choose_levers(
    device: torch.device,
    *,
    wanted: str,
    mode: str,
    without: Sequence[str] | None,
    shard: bool,
    passes: float,
    flop: Callable[[], float] = float,
) -> tuple[Levers, str]:
    """What a run takes, and how it is compiled in words, for the plan.

    The whole run counts, also where a part of it is done: a run that goes on is to compute as it
    would have without a stop.

    Args:
        wanted: `--compile`.
        mode: `--compile_mode`.
        without: `--without`, levers that are ruled out.
        passes: of the run, through the model or there and back.
        flop: gives the operations of a pass, where it matters; 0: few, or unknown.
    """
    pays, why = wanted == "on", f"--compile {wanted}"
    if wanted == "auto":
        pays, why = _pays(device, shard, passes, flop)
    levers = replace(
        levers_of(device, compile_mode=mode if pays else None),
        **dict.fromkeys(without or (), False),
    )
    return levers, f"{mode if pays else 'no'} ({why})"


def _pays(device: torch.device, shard: bool, passes: float, flop: Callable) -> tuple[bool, str]:
    """Whether compiling saves more time than it takes, and why."""
    if device.type != "cuda":
        return False, "does not pay on this device"
    if shard:
        return False, "--shard"
    seconds = passes * max(EAGER_STEP_SECONDS, flop() / EAGER_FLOP_PER_SECOND)
    pays = MIN_SECONDS_TO_COMPILE / 60
    return seconds / 60 >= pays, f"estimated {seconds / 60:.0f} minutes without, {pays:.0f} pay"
