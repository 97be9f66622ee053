"""Processes and devices: one process or torchrun, CPU (gloo) or CUDA (nccl)."""

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from svfap.engine.runtime.rendezvous import store_of_this_start

_alone = False


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
        ValueError: the device is unknown or not available, or the variables of a launcher are
            there only in part.
    """
    rank, local_rank, world_size = _places()
    chosen = _choose_device(device, local_rank)
    if world_size > 1 and not dist.is_initialized():
        dist.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo",
            store=store_of_this_start(rank, world_size),
            rank=rank,
            world_size=world_size,
        )
    return Workers(rank=rank, local_rank=local_rank, world_size=world_size, device=chosen)


def _places() -> tuple[int, int, int]:
    """RANK, LOCAL_RANK and WORLD_SIZE as torchrun sets them; one process where none is set."""
    names = ["RANK", "WORLD_SIZE"]
    remedy = "start with torchrun, which sets them all, or unset RANK, WORLD_SIZE and LOCAL_RANK"
    if not any(os.environ.get(name) for name in names):
        return 0, 0, 1
    if os.environ.get("WORLD_SIZE") != "1":
        names += ["MASTER_ADDR", "MASTER_PORT"]
    missing = [name for name in names if not os.environ.get(name)]
    found = {name: os.environ[name] for name in names[:2] if os.environ.get(name)}
    if missing:
        raise ValueError(f"{_assignments(found)} without {' and '.join(missing)}: {remedy}")
    found["LOCAL_RANK"] = os.environ.get("LOCAL_RANK", "0")
    if not all(text.isdecimal() for text in found.values()):
        raise ValueError(f"{_assignments(found)}: these must be whole numbers; {remedy}")
    rank, world_size, local_rank = map(int, found.values())
    if not rank < world_size:
        raise ValueError(f"{_assignments(found)}: RANK must be below WORLD_SIZE; {remedy}")
    return rank, local_rank, world_size


def _assignments(variables: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in variables.items())


def stop() -> None:
    """Leave the process group, whose threads end when nothing holds it any more."""
    if _has_group():
        gc.collect()
        dist.destroy_process_group()


def process_rank() -> int:
    """Number of this process in its group; 0 where there is none."""
    return dist.get_rank() if _has_group() else 0


def _has_group() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized()


@contextlib.contextmanager
def as_if_alone() -> Iterator[None]:
    """While entered, `gather_rows` and `process_rank` answer as in a single process."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


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
