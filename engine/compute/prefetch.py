"""Batches on the device, copied beside the computation."""

from collections.abc import Sequence

import torch

from svfap.datasets.loading.loader import Loader, Reading, ToDevice
from svfap.engine import build


class CudaCopies(ToDevice):
    """Copies batches on a stream of their own.

    The host runs ahead of the device, so the copy of a batch overlaps the step before it, if it
    lies in page-locked memory. Inner dicts (draws) and lists (notes) are for the host.
    """

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def start(self, batch: dict, names: frozenset[str] | None) -> dict:
        """See `ToDevice`."""
        chosen = batch.keys() if names is None else names & batch.keys()
        with torch.cuda.stream(self.stream):
            return batch | {
                name: batch[name].to(self.device, non_blocking=True)
                for name in chosen
                if isinstance(batch[name], torch.Tensor)
            }

    def finish(self, batch: dict) -> dict:
        """See `ToDevice`; the current stream waits for the copies, the host does not."""
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        for value in batch.values():
            if isinstance(value, torch.Tensor) and value.is_cuda:
                value.record_stream(current)  # not reused before the step is done with it
        return batch


def open_loader(
    readings: Sequence[Reading], device: torch.device, *, num_workers: int | None, pin_memory: bool
) -> Loader:
    """A loader that brings batches to a device; `num_workers` None: as many as suit the machine."""
    on_gpu = device.type == "cuda"
    return Loader(
        readings,
        num_workers=build.num_workers(num_workers),
        pin_memory=pin_memory and on_gpu,
        to_device=CudaCopies(device) if on_gpu else None,
    )
