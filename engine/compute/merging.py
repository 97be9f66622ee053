"""`--merge_batches`: accumulated batches computed together, the same updates in fewer passes.

A GPU that computes 64 clips at a time mostly waits for its kernels to be launched; recipes for
several GPUs, run on one with `--update_freq`, would leave it there although it has room for more.
"""

import argparse
import logging
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)

# Share of the memory that steps may fill; what is freed cannot always be used again.
ROOM = 0.8


def merge_batches(
    flags: argparse.Namespace,
    bytes_for: Callable[[int], int],
    device: torch.device,
) -> None:
    """Raise `--batch_size` and lower `--update_freq` by the same factor, where it helps and fits.

    The global batch, its samples and their gradients stay the same, up to rounding.

    Args:
        flags: `merge_batches`: auto (on CUDA, as many as memory holds where nothing is compiled;
            none with `drop_path`, which draws batch by batch), always (all) or never; changed in
            place.
        bytes_for: what a process needs for a batch of so many clips.

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
        factors = [factor for factor in factors if _fits(flags, factor, bytes_for, device)]
    factor = factors[0] if factors else 1
    if factor > 1:
        flags.batch_size *= factor
        flags.update_freq //= factor
        logger.info(
            "%d accumulated batches are computed together: batches of %d, %d accumulated "
            "(--merge_batches never keeps them apart)", factor, flags.batch_size, flags.update_freq,
        )  # fmt: skip


def _fits(flags: argparse.Namespace, factor: int, bytes_for: Callable, device) -> bool:
    limit = ROOM * _memory_gib(device) * 2**30
    return limit > 0 and bytes_for(flags.batch_size * factor * flags.num_samples) < limit


def _memory_gib(device: torch.device) -> float:
    """Memory of a GPU, all of it: a run that goes on has to be divided as before.

    None where larger batches are no faster.
    """
    return torch.cuda.mem_get_info(device)[1] / 2**30 if device.type == "cuda" else 0
