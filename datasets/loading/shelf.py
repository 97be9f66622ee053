"""Memory that loader processes fill and the main process empties."""

import math
import mmap
from typing import NamedTuple

import torch

# What is smaller travels with the message that the rest is ready.
SMALLEST_PLACED = 4096
ALIGNMENT = 64


class Placed(NamedTuple):
    """Where a tensor lies on a shelf."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Shelf:
    """Slots of shared memory, inherited by forked processes.

    PyTorch's own way makes a file in /dev/shm for every tensor: containers have 64 MB there unless
    told otherwise, which a single batch exceeds, and each file is opened, mapped and faulted in
    anew. Anonymous memory knows no such limit, and stays mapped.

    Args:
        slot_bytes: size of each; nothing is taken from the system before it is used.

    Raises:
        OSError: the system does not give that much.
    """

    def __init__(self, num_slots: int, slot_bytes: int):
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._bytes = torch.frombuffer(
            mmap.mmap(-1, num_slots * self.slot_bytes), dtype=torch.uint8
        )

    def slot(self, number: int) -> "Slot":
        """An empty slot, whatever was in it."""
        return Slot(self, number * self.slot_bytes)

    def at(self, place: Placed) -> torch.Tensor:
        """What lies there."""
        size = math.prod(place.shape) * place.dtype.itemsize
        part = self._bytes[place.start : place.start + size]
        return part.view(place.dtype).view(place.shape)


class Slot:
    """A slot that is being filled."""

    def __init__(self, shelf: Shelf, start: int):
        self._shelf, self._next, self._end = shelf, start, start + shelf.slot_bytes
        # held, so that no other tensor gets the identity of one that is gone
        self._placed: dict[int, tuple[torch.Tensor, Placed]] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor in the slot; elsewhere if it is small, or the slot is full."""
        size = math.prod(shape) * dtype.itemsize
        if size < SMALLEST_PLACED or self._next + size > self._end:
            return torch.empty(shape, dtype=dtype)
        place = Placed(self._next, tuple(shape), dtype)
        self._next += -(-size // ALIGNMENT) * ALIGNMENT
        tensor = self._shelf.at(place)
        self._placed[id(tensor)] = tensor, place
        return tensor

    def message(self, tensor: torch.Tensor):
        """What tells the main process of a tensor: its place, or else its values."""
        _, place = self._placed.get(id(tensor), (tensor, None))
        return place or tensor.numpy()
