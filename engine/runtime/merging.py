"""`--merge_batches`: accumulated batches computed together, the same updates in fewer passes.

A GPU that computes 64 clips at a time mostly waits for its kernels to be launched; recipes for
several GPUs, run on one with `--update_freq`, would leave it there although it has room for more.
"""

import argparse
import logging

import torch

from engine.runtime import plan
from engine.runtime.precision import Precision

logger = logging.getLogger(__name__)

# Share of the memory that an estimate may fill; allocators and kernels need some, too.
ROOM = 0.7


def merge_batches(
    flags: argparse.Namespace,
    cost: plan.Cost,
    precision: Precision,
    device: torch.device,
    *,
    shards: int = 1,
) -> None:
    """Raise `--batch_size` and lower `--update_freq` by the same factor, where it helps and fits.

    The global batch, its samples and their gradients stay the same, up to rounding.

    Args:
        flags: `merge_batches`: auto (on CUDA, as many as memory holds by the plan's estimate; none
            with `drop_path`, which draws batch by batch), always (all) or never; changed in place.
        cost: of a clip.
        precision: number format of the forward pass.
        device: where the model will be.
        shards: processes that share the model's memory.

    Raises:
        ValueError: `always` with `drop_path`.
    """
    if flags.update_freq == 1 or flags.merge_batches == "never":
        return
    if flags.drop_path:
        if flags.merge_batches == "always":
            raise ValueError(
                f"--merge_batches always with --drop_path {flags.drop_path}: which blocks a clip "
                "leaves out is drawn batch by batch, so merged batches would be another run; take "
                "--merge_batches never, or --drop_path 0"
            )
        return
    factors = [n for n in range(flags.update_freq, 0, -1) if flags.update_freq % n == 0]
    if flags.merge_batches == "auto":
        memory = _memory_gib(device)
        factors = [
            factor
            for factor in factors
            if plan.training_memory_gib(
                cost,
                batch_size=flags.batch_size * factor * flags.num_samples,
                half=precision.dtype is not None,
                averaged=False,
                shards=shards,
            )
            < ROOM * memory
        ]
    factor = factors[0] if factors else 1
    if factor > 1:
        flags.batch_size *= factor
        flags.update_freq //= factor
        logger.info(
            "%d accumulated batches are computed together: batches of %d, %d accumulated "
            "(--merge_batches never keeps them apart)", factor, flags.batch_size, flags.update_freq,
        )  # fmt: skip


def _memory_gib(device: torch.device) -> float:
    """Memory of a GPU, all of it: a run that goes on has to be divided as before.

    None where larger batches are no faster.
    """
    return torch.cuda.mem_get_info(device)[1] / 2**30 if device.type == "cuda" else 0
