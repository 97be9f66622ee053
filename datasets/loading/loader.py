"""Batches of everything a run reads, made ahead by processes of their own.

A run knows beforehand what it will read: the batches of an epoch, the views of the validation part,
the next epoch. A `Loader` makes them one after the other without a gap between them. The processes
that help it share every batch, so that the first one takes no longer than their share of it.
"""

import contextlib
import queue
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from svfap.datasets.loading.order import EpochSampler, collate
from svfap.datasets.loading.processes import (
    guarded,
    init_worker,
    main_is_leaving,
    start_method,
    started,
)
from svfap.datasets.loading.shelf import Placed, Shelf

# So many batches are under way, so that one that takes long holds nothing up.
BATCHES_AHEAD = 3
# Of a slot, for what belongs to a clip (masks, draws).
SPARE_BYTES = 2**16


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """A part of what a run reads: batches of one dataset, in order."""

    dataset: Dataset  # its items are joined by `collate`
    batches: Callable[[], Iterator[Sequence]]  # gives their keys, batch after batch
    num_batches: int
    batch_size: int  # keys in a batch, at most
    names: frozenset[str] | None = None  # what of a batch goes to the device; None: all tensors

    @classmethod
    def of_epoch(
        cls,
        dataset: Dataset,
        sampler: EpochSampler,
        epoch: int,
        first_step: int = 0,
        stop_step: int | None = None,
    ) -> "Reading":
        """Training batches; see `EpochSampler.batches`."""
        stop = sampler.steps_per_epoch if stop_step is None else stop_step
        return cls(
            dataset=dataset,
            batches=partial(sampler.batches, epoch, first_step, stop),
            num_batches=(stop - first_step) * sampler.accumulation,
            batch_size=sampler.batch_size,
        )

    @classmethod
    def in_order(
        cls, dataset: Dataset, batch_size: int, names: frozenset[str] | None = None
    ) -> "Reading":
        """All items of a dataset, the last batch with what is left."""
        starts = range(0, len(dataset), batch_size)

        def batches() -> Iterator[range]:
            return (range(start, min(start + batch_size, len(dataset))) for start in starts)

        return cls(
            dataset=dataset,
            batches=batches,
            num_batches=len(starts),
            batch_size=batch_size,
            names=names,
        )


class ToDevice:
    """How batches reach the device that computes; this one leaves them on the host."""

    def start(self, batch: dict, names: frozenset[str] | None) -> dict:
        """Begin to copy what `names` says; called as soon as a batch is there."""
        return batch

    def finish(self, batch: dict) -> dict:
        """Called when the batch is wanted."""
        return batch


class Batches:
    """The batches of one reading; to be taken once, in turn."""

    def __init__(self, loader: "Loader", reading: Reading):
        self._loader, self.batch_size = loader, reading.batch_size
        self._length = reading.num_batches

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict]:
        for _ in range(self._length):
            yield self._loader.next_batch()


class _Task(NamedTuple):
    """A part of a batch, for one process to make."""

    slot: int
    dataset: int
    keys: Sequence
    ends_batch: bool


class _Maker(Dataset):
    """Makes parts of batches, indexed by tasks; in a loader process as messages."""

    def __init__(self, datasets: Sequence[Dataset], shelf: Shelf | None, in_processes: bool):
        self.datasets, self.shelf, self.in_processes = datasets, shelf, in_processes

    def __getitem__(self, task: _Task) -> tuple[bool, dict]:
        items = [self.datasets[task.dataset][key] for key in task.keys]
        if not self.in_processes:
            return task.ends_batch, collate(items)
        if self.shelf is None:
            return task.ends_batch, _mapped(collate(items), torch.Tensor.numpy)
        slot = self.shelf.slot(task.slot)
        return task.ends_batch, _mapped(collate(items, slot.empty), slot.message)


class Loader:
    """Makes the batches of readings; a context manager, as it holds processes.

    Batches are the same whatever the number of processes and however these share them.

    Args:
        readings: everything that is read, in this order.
        num_workers: processes that make batches; 0: this one, when they are asked for.
    """

    def __init__(
        self,
        readings: Sequence[Reading],
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        to_device: ToDevice | None = None,
    ):
        self.readings, self.num_workers = list(readings), num_workers
        self._pin_memory, self._to_device = pin_memory, to_device or ToDevice()
        self._datasets = list({id(r.dataset): r.dataset for r in self.readings}.values())
        self._places = {id(dataset): place for place, dataset in enumerate(self._datasets)}
        self._next_reading, self._left = 0, 0  # of which batches are taken; left of it
        self._started: dict | None = None  # the batch that is on its way to the device
        self._source: Iterator[dict] | _Background | None = None

    def __enter__(self) -> "Loader":
        if self.num_workers:
            self._source = _Background(self._begin)
        else:
            self._source = self._begin()
        return self

    def __exit__(self, *_) -> None:
        self._source.close()

    def read(self, reading: Reading) -> Batches:
        """The batches of the next reading."""
        expected = self.readings[self._next_reading]
        assert reading is expected and not self._left, "readings are taken whole and in turn"
        self._next_reading += 1
        self._left = reading.num_batches
        return Batches(self, reading)

    def next_batch(self) -> dict:
        """The next batch, on the device; the one after it is sent there if it is ready."""
        names = self.readings[self._next_reading - 1].names
        batch = self._started
        if batch is None:
            batch = self._to_device.start(next(self._source), names)
        batch, self._started = self._to_device.finish(batch), None
        self._left -= 1
        following = self._following()
        if following and isinstance(self._source, _Background):
            ready = self._source.next_if_ready()
            if ready is not None:
                self._started = self._to_device.start(ready, following.names)
        return batch

    def _following(self) -> Reading | None:
        """What the batch after this one belongs to."""
        if self._left:
            return self.readings[self._next_reading - 1]
        return next((r for r in self.readings[self._next_reading :] if r.num_batches), None)

    def _begin(self) -> Iterator[dict]:
        """Start the processes; all batches, on the host."""
        shares = max(1, self.num_workers)
        largest = max((reading.batch_size for reading in self.readings), default=1)
        ahead = max(2, -(-BATCHES_AHEAD * min(shares, largest) // shares))
        # as many as are asked for ahead, the one that was just handed over, those of a batch
        num_slots = ahead * shares + 1 + shares
        shelf = self._shelf(num_slots, shares) if self.num_workers else None
        shared = DataLoader(
            _Maker(self._datasets, shelf, self.num_workers > 0),
            sampler=self._tasks(num_slots, shares),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            multiprocessing_context=start_method() if self.num_workers else None,
            prefetch_factor=ahead if self.num_workers else None,
            worker_init_fn=partial(init_worker, main_is_leaving()) if self.num_workers else None,
            generator=torch.Generator(),  # so that nothing is drawn from that of the run
        )
        return self._made(guarded(*started(shared)), shelf)

    def _made(self, shared: Iterator[tuple[bool, dict]], shelf: Shelf | None) -> Iterator[dict]:
        """Batches from their parts."""
        parts = []
        for ends_batch, part in shared:
            parts.append(_mapped(part, partial(_opened, shelf)))
            if ends_batch:
                yield self._assembled(parts)
                parts = []

    def _tasks(self, num_slots: int, shares: int) -> Iterator[_Task]:
        number = 0
        for reading in self.readings:
            place = self._places[id(reading.dataset)]
            for keys in reading.batches():
                size = -(-len(keys) // shares)
                for start in range(0, len(keys), size):
                    part = keys[start : start + size]
                    yield _Task(number % num_slots, place, part, start + size >= len(keys))
                    number += 1

    def _shelf(self, num_slots: int, shares: int) -> Shelf | None:
        """Shared memory for the parts of batches; None where processes cannot inherit it."""
        if start_method() != "fork":
            return None
        sizes = [
            -(-reading.batch_size // shares)
            * (getattr(reading.dataset, "item_bytes", 0) + SPARE_BYTES)
            for reading in self.readings
        ]
        try:
            return Shelf(num_slots, max(sizes, default=1))
        except OSError:  # what is made then comes through pipes
            return None

    def _assembled(self, parts: list[dict]) -> dict:
        if len(parts) > 1 or self.num_workers:
            # page-locked memory can be filled at once; elsewhere a part lies in a slot to be freed
            return collate(parts, partial(torch.empty, pin_memory=self._pin_memory))
        return _mapped(parts[0], torch.Tensor.pin_memory) if self._pin_memory else parts[0]


class _Background:
    """Runs a generator in a thread, one item ahead."""

    def __init__(self, make: Callable[[], Iterator[dict]]):
        self._items: queue.Queue = queue.Queue(maxsize=1)
        self._closing, self._begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make,), daemon=True)
        self._thread.start()
        self._begun.wait()  # so that this thread does nothing while processes are forked

    def __next__(self) -> dict:
        return self._taken(self._items.get())

    def next_if_ready(self) -> dict | None:
        """The next item, if it is there."""
        try:
            return self._taken(self._items.get_nowait())
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the thread, and what the generator holds with it."""
        self._closing.set()
        self._thread.join()

    def _taken(self, item: dict | BaseException) -> dict:
        if isinstance(item, BaseException):
            raise item
        return item

    def _run(self, make: Callable[[], Iterator[dict]]) -> None:
        items = iter(())
        try:
            items = make()
            self._begun.set()
            for item in items:
                self._put(item)
                if self._closing.is_set():
                    break
        except BaseException as error:  # to be raised where the batch is asked for
            self._begun.set()
            _forget_frames(error)
            self._put(error)
        finally:
            del items  # ends the processes

    def _put(self, item: dict | BaseException) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=0.1)
                return


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error and of those before it hold: the processes."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _mapped(content: dict, function: Callable) -> dict:
    """A dict with a function's answer in place of each value, inner dicts and lists kept."""
    return {
        key: _mapped(value, function)
        if isinstance(value, dict)
        else value
        if isinstance(value, list)
        else function(value)
        for key, value in content.items()
    }


def _opened(shelf: Shelf | None, value) -> torch.Tensor:
    """The tensor that a loader process told of."""
    if isinstance(value, Placed):
        return shelf.at(value)
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(value)


def _as_it_is(value: object) -> object:
    return value
