"""What makes a step faster, each by itself; what is computed stays the same up to rounding."""

from dataclasses import dataclass, fields

import torch

from models.layers import choose_attention_kernels


@dataclass(frozen=True, kw_only=True)
class Levers:
    """Which ways of computing a step are taken; `levers_of` knows what suits a device.

    `dataclasses.replace` changes one of them, for a measurement or to rule it out.

    Attributes:
        compile_mode: of torch.compile; None: nothing is compiled.
        whole_step: compile pixels, targets, model and loss as one function; False: the model only.
        cudnn_attention: cuDNN's attention in training (see `models.layers.attention`).
    """

    compile_mode: str | None = None
    whole_step: bool = True
    cudnn_attention: bool = False


def levers_of(device: torch.device, *, compile_mode: str | None = None) -> Levers:
    """The levers that pay on a device."""
    on_gpu = device.type == "cuda"
    return Levers(compile_mode=compile_mode, cudnn_attention=on_gpu)


def lever_names() -> list[str]:
    """The levers that are on or off."""
    return [field.name for field in fields(Levers) if field.type is bool]


def set_up_levers(levers: Levers, device: torch.device) -> None:
    """Make the choices that hold for the whole process, before anything is computed or compiled."""
    if device.type == "cuda":
        # where tensors only pretend to be on a GPU there is no cuDNN to ask
        choose_attention_kernels(cudnn=levers.cudnn_attention and torch.cuda.is_available())
