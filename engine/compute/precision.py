"""Number formats of a training step: which, when, and what that needs."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

from svfap.datasets.loading.memory import keep_freed_memory
from svfap.engine.compute.levers import levers_of, set_up_levers

# Below this width autocast costs more than its matrix products save on a CPU.
MIN_CPU_AUTOCAST_WIDTH = 256


@dataclass(frozen=True)
class Precision:
    """Resolved `--amp`: `dtype` None means float32 throughout.

    Attributes:
        autocast: makes the context in which the forward pass runs.
    """

    device_type: str
    dtype: torch.dtype | None
    autocast: Callable[[], contextlib.AbstractContextManager] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Make `autocast` once; a cached property has a lock, which cannot be compiled."""
        context = contextlib.nullcontext
        if self.dtype is not None:
            context = partial(torch.autocast, self.device_type, dtype=self.dtype)
        object.__setattr__(self, "autocast", context)

    @property
    def needs_scaler(self) -> bool:
        """Whether gradients underflow without loss scaling."""
        return self.dtype == torch.float16

    def __str__(self) -> str:
        return "float32" if self.dtype is None else str(self.dtype).removeprefix("torch.")


def choose_precision(amp: str, device: torch.device, *, width: int) -> Precision:
    """Resolve `--amp` for a device and a model.

    Args:
        amp: "auto" (bf16 where the device computes in it, fp16 on older CUDA devices, float32
            elsewhere and for narrow models on CPU), "bf16", "fp16" or "off".
        width: the model's `embed_dim`.

    Raises:
        ValueError: fp16 on a CPU.
    """
    if amp == "fp16" and device.type == "cpu":
        raise ValueError("--amp fp16 needs a CUDA device; on a CPU use bf16, off or auto")
    fixed = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if amp in fixed:
        return Precision(device.type, fixed[amp])
    if device.type == "cuda":
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
        return Precision("cuda", dtype)
    # bf16 products are faster than float32 ones with AMX (5 times) or AVX-512 BF16 (twice)
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    quick = device.type == "cpu" and width >= MIN_CPU_AUTOCAST_WIDTH
    quick = quick and any(getattr(torch.cpu, name, bool)() for name in names)
    return Precision(device.type, torch.bfloat16 if quick else None)


def set_up_device(device: torch.device) -> None:
    """Process-wide choices, to be made before anything is computed.

    CUDA: TF32 for what stays in float32. CPU: freed memory stays for the next step, which otherwise
    gets every page anew.
    """
    set_up_levers(levers_of(device), device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    elif device.type == "cpu":
        keep_freed_memory()
