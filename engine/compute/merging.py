"""`--merge_batches`: accumulated batches computed together, the same updates in fewer passes.

A GPU that computes 64 clips at a time mostly waits for its kernels to be launched; recipes for
several GPUs, run on one with `--update_freq`, would leave it there although it has room for more.
"""

import logging
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)

# Share of the memory that steps may fill; what is freed cannot always be used again.
ROOM = 0.8


def batches_together(
    how: str,
    *,
    accumulation: int,
    drop_path: float,
    bytes_for: Callable[[int], int],
    device: torch.device,
) -> int:
    """How many of the batches of a step are computed together, where it helps and fits.

    The global batch, its samples and their gradients stay the same, up to rounding.

    Args:
        how: auto (on CUDA, as many as memory holds where nothing is compiled; one with
            `drop_path`, which draws batch by batch), always (all) or never.
        accumulation: `--update_freq`.
        drop_path: `--drop_path`.
        bytes_for: what a process needs for so many batches at once.

    Returns:
        A divisor of `accumulation`.

    Raises:
        ValueError: `always` with `drop_path`.
    """
    if accumulation == 1 or how == "never":
        return 1
    if drop_path:
        if how == "always":
            raise ValueError(
                f"--merge_batches always with --drop_path {drop_path}: which blocks a clip "
                "leaves out is drawn batch by batch, so merged batches would be another run; take "
                "--merge_batches never, or --drop_path 0"
            )
        return 1
    numbers = [number for number in range(accumulation, 0, -1) if accumulation % number == 0]
    limit = ROOM * _memory_gib(device) * 2**30
    if how == "auto":
        numbers = [number for number in numbers if limit and bytes_for(number) < limit]
    together = numbers[0] if numbers else 1
    if together > 1:
        logger.info(
            "%d of %d accumulated batches are computed together (--merge_batches never keeps them "
            "apart)", together, accumulation,
        )  # fmt: skip
    return together


def _memory_gib(device: torch.device) -> float:
    """Memory of a GPU, all of it: a run that goes on has to be divided as before.

    0 where larger batches are no faster.
    """
    return torch.cuda.mem_get_info(device)[1] / 2**30 if device.type == "cuda" else 0
