"""Processes and devices: one process or torchrun, CPU (gloo) or CUDA (nccl)."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from engine.runtime.rendezvous import store_of_this_start


@dataclass(frozen=True)
class Workers:
    """Where this process stands among the processes of the run, and its device."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there is a process group."""
        return self.world_size > 1

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.is_distributed:
            dist.barrier()

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average a tensor over the processes."""
        if not self.is_distributed:
            return values
        total = values.to(self.device, torch.float64 if self.device.type == "cpu" else torch.float)
        dist.all_reduce(total)
        return total / self.world_size

    def gather(self, value: object) -> list:
        """Collect a picklable object from every process, in rank order, on every process."""
        if not self.is_distributed:
            return [value]
        gathered = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on some process."""
        if not self.is_distributed:
            return flag
        vote = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(vote, op=dist.ReduceOp.MAX)
        return bool(vote.item())


def start(device: str = "auto") -> Workers:
    """Join the process group of torchrun, if any, and choose the device.

    Args:
        device: "auto" (CUDA if there is any, else CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        ValueError: the device is unknown or not available.
    """
    rank, local_rank, world_size = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1))
    )
    chosen = _choose_device(device, local_rank)
    if world_size > 1 and not dist.is_initialized():
        dist.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo",
            store=store_of_this_start(rank, world_size),
            rank=rank,
            world_size=world_size,
        )
    return Workers(rank=rank, local_rank=local_rank, world_size=world_size, device=chosen)


def stop() -> None:
    """Leave the process group."""
    if _has_group():
        dist.destroy_process_group()


def process_rank() -> int:
    """Number of this process in its group; 0 where there is none."""
    return dist.get_rank() if _has_group() else 0


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _choose_device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name!r}: use auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"--device {name}: this PyTorch ({torch.__version__}) sees no CUDA device; "
                "use --device cpu, or install a CUDA build and driver"
            )
        count = torch.cuda.device_count()
        position = local_rank if device.index is None else device.index
        if position >= count:
            raise ValueError(
                f"process {local_rank} needs cuda:{position}, there are {count} devices; start "
                f"torchrun with --nproc_per_node {count} or less"
            )
        device = torch.device("cuda", position)
        torch.cuda.set_device(device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device mps: not available here; use --device cpu")
    elif device.type not in ("cpu", "mps"):
        raise ValueError(f"--device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    return device


class _GatherRows(torch.autograd.Function):
    """All processes' rows; the gradient of a row is summed over the processes that used it."""

    @staticmethod
    def forward(context, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all processes in rank order, differentiable.

    With each process's loss the mean over its own rows, the average of the processes' gradients
    (what DistributedDataParallel takes) is the gradient of the mean over all rows.

    Args:
        rows: (R, ...), the same shape on every process.

    Returns:
        (processes * R, ...); `rows` itself in a single process.
    """
    if not _has_group():
        return rows
    return _GatherRows.apply(rows)
