"""Batches on the device, copied beside the computation."""

from collections.abc import Iterable, Iterator

import torch

# What the device works on; the rest of a batch (notes, draws) is for the host.
ON_DEVICE = ("clip", "mask", "label", "eyes", "mouth", "described", "swap")


def prefetched(batches: Iterable[dict], device: torch.device) -> Iterator[dict]:
    """Copy batches to the device on a stream of their own.

    On CUDA the host runs ahead of the device, so the copy of a batch overlaps the step before it,
    if batches lie in page-locked memory. On other devices batches pass through unchanged.

    Args:
        batches: of a loader.
        device: where what it works on goes (`ON_DEVICE`).

    Yields:
        The same batches in the same order.
    """
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(side):
            moved = {
                key: batch[key].to(device, non_blocking=True) for key in ON_DEVICE if key in batch
            }
        current = torch.cuda.current_stream(device)
        current.wait_stream(side)
        for tensor in moved.values():
            tensor.record_stream(current)  # not reused before the step is done with it
        yield batch | moved
