"""Order of training samples, batches, and the worker processes that make them."""

import atexit
import os
import signal
from collections.abc import Iterator
from functools import cache, partial
from multiprocessing.sharedctypes import RawValue
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.clips.memory import keep_freed_memory
from datasets.rng import generator

# A worker told to end stays this long, so that the main process can finish its step and save.
GRACE_SECONDS = 10


class SampleKey(NamedTuple):
    """What a training dataset is indexed with; all its draws are keyed by it."""

    epoch: int
    index: int
    copy: int


class EpochSampler(Sampler):
    """Batches of sample keys: a fresh permutation per epoch, the same for any number of processes.

    Global batch k (one optimizer step) holds the same samples however it is divided among
    processes and accumulation turns, as long as its size is the same. The last one is filled up
    from the front of the permutation; what comes a second time carries copy 1 (then 2, ...), so
    that it gets draws of its own.

    Args:
        num_samples: rows of the annotation file.
        batch_size: samples per process and accumulation turn.
        seed: the run's `--seed`.
        rank: this process, 0 .. world_size - 1.
        world_size: number of processes.
        accumulation: batches per process and optimizer step.
        weights: (num_samples,) how often samples are wanted relative to each other; None: all
            alike. An epoch then still has num_samples draws, each sample the whole number of times
            just below or above its share; repeats carry copies 1, 2, ... of their own draws.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        weights: np.ndarray | None = None,
    ):
        for name, value in (
            ("num_samples", num_samples),
            ("batch_size", batch_size),
            ("world_size", world_size),
            ("accumulation", accumulation),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}: it must be 1 or more")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}: it must be 0 to {world_size - 1}")
        if weights is not None and (
            len(weights) != num_samples
            or not np.all(np.isfinite(weights) & (weights >= 0))
            or not np.sum(weights) > 0
        ):
            raise ValueError(
                f"weights must be {num_samples} finite numbers from 0, not all 0, one per sample"
            )
        self.weights = weights
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulation = accumulation
        self.epoch = 0
        self.step = 0

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step, over all processes and accumulation turns."""
        return self.batch_size * self.world_size * self.accumulation

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch; the last one is filled up."""
        return -(-self.num_samples // self.global_batch_size)

    def set_position(self, epoch: int, step: int = 0) -> None:
        """Let the next iteration begin at optimizer step `step` (0-based) of `epoch`.

        Raises:
            ValueError: the epoch has no such step.
        """
        if epoch < 0 or not 0 <= step <= self.steps_per_epoch:
            raise ValueError(
                f"position epoch {epoch}, step {step} does not exist: epochs count from 0 and "
                f"have steps 0 to {self.steps_per_epoch}"
            )
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        """Batches of this process from the position set to the end of the epoch."""
        return (self.steps_per_epoch - self.step) * self.accumulation

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self._batches(self.epoch, self.step)

    def _batches(self, epoch: int, first_step: int) -> Iterator[list[SampleKey]]:
        indices, copies = self._order(epoch)
        for step in range(first_step, self.steps_per_epoch):
            for turn in range(self.accumulation):
                part = turn * self.world_size + self.rank
                start = step * self.global_batch_size + part * self.batch_size
                yield [
                    SampleKey(epoch, int(indices[place]), int(copies[place]))
                    for place in range(start, start + self.batch_size)
                ]

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples of all steps, the last one filled up from the front, and their copy numbers."""
        rng = generator(self.seed, epoch, 0, 0, "order")
        order = rng.permutation(self.num_samples)
        places = np.arange(self.steps_per_epoch * self.global_batch_size)
        if self.weights is None:
            return order[places % self.num_samples], places // self.num_samples
        order = rng.permutation(_systematic(order, self.weights[order], rng))
        indices = order[places % self.num_samples]
        return indices, _occurrences(indices)


def _systematic(order: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many entries of `order` as it has, in proportion to weights, as evenly as possible."""
    by_weight = np.argsort(weights, kind="stable")  # so that each class gets its share exactly
    order, weights = order[by_weight], weights[by_weight]
    ends = np.cumsum(weights) * (len(order) / np.sum(weights))
    points = np.arange(len(order)) + rng.random()
    return order[np.minimum(np.searchsorted(ends, points, side="right"), len(order) - 1)]


def _occurrences(values: np.ndarray) -> np.ndarray:
    """How often each value has come before: [7, 3, 7, 7] -> [0, 0, 1, 2]."""
    by_value = np.argsort(values, kind="stable")
    ranked = values[by_value]
    counts = np.empty_like(values)
    counts[by_value] = np.arange(len(values)) - np.searchsorted(ranked, ranked)
    return counts


def collate(samples: list[dict]) -> dict:
    """Put the samples of a batch together.

    Args:
        samples: dicts of arrays or tensors with a leading axis (a video may give several clips or
            views), of dicts of such, and of lists.

    Returns:
        The same keys; arrays joined along the first axis as CPU tensors, lists joined.
    """
    return {key: _join([sample[key] for sample in samples]) for key in samples[0]}


def _join(values: list):
    first = values[0]
    if isinstance(first, dict):
        return collate(values)
    if isinstance(first, list):
        return [item for value in values for item in value]
    if isinstance(first, torch.Tensor):
        return torch.cat(values)
    return torch.from_numpy(np.concatenate(values))


def make_loader(
    dataset: Dataset,
    sampler: EpochSampler | None = None,
    *,
    batch_size: int | None = None,
    num_workers: int = 0,
    pin_memory: bool = False,
    prefetch: int = 2,
) -> DataLoader:
    """Loader of training batches (with a sampler) or evaluation batches (with a batch size).

    Workers live as long as the loader, use one thread each and draw nothing of their own, so
    batches do not depend on their number.

    Args:
        dataset: a `ClipSource`, or anything whose items `collate` takes.
        sampler: decides batches; reachable as `loader.batch_sampler`.
        batch_size: videos per batch, in order, where there is no sampler.
        num_workers: worker processes; 0 decodes in this process.
        pin_memory: page-locked batches; for CUDA only.
        prefetch: batches each worker makes ahead.

    Raises:
        ValueError: neither or both of sampler and batch_size are given.
    """
    if (sampler is None) == (batch_size is None):
        raise ValueError("give either a sampler (training) or a batch_size (evaluation)")
    order = {"batch_sampler": sampler} if sampler is not None else {"batch_size": batch_size}
    ahead = {"persistent_workers": True, "prefetch_factor": prefetch} if num_workers else {}
    return DataLoader(
        dataset,
        **order,
        **ahead,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=collate,
        worker_init_fn=partial(_init_worker, _main_is_leaving()) if num_workers else None,
    )


@cache
def _main_is_leaving() -> RawValue:
    """A number that workers see: 1 once this process is on its way out."""
    flag = RawValue("b", 0)
    atexit.register(setattr, flag, "value", 1)
    return flag


def _init_worker(main_is_leaving: RawValue, worker: int) -> None:
    """One thread per worker; interrupting the run is the main process's business.

    Ctrl-C and a scheduler's SIGTERM reach all processes at once. Workers outlive them until the
    main process has finished its step and saved; when it ends, they end at once.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "SIGALRM"):
        return

    def end_later(*_) -> None:
        if main_is_leaving.value:
            os._exit(0)
        signal.alarm(GRACE_SECONDS)

    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, end_later)
