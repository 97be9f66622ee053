"""Batches on the device, copied beside the computation."""

from collections.abc import Iterable, Iterator

import torch


def prefetched(batches: Iterable[dict], device: torch.device) -> Iterator[dict]:
    """Copy the tensors of batches to the device on a stream of their own.

    On CUDA the host runs ahead of the device, so the copy of a batch overlaps the step before it,
    if batches lie in page-locked memory. On other devices batches pass through unchanged.

    Args:
        batches: of a loader.
        device: where the tensors go; what else a batch holds (notes, draws) is for the host.

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
                key: value.to(device, non_blocking=True)
                for key, value in batch.items()
                if isinstance(value, torch.Tensor)
            }
        current = torch.cuda.current_stream(device)
        current.wait_stream(side)
        for tensor in moved.values():
            tensor.record_stream(current)  # not reused before the step is done with it
        yield batch | moved
