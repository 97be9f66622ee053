"""Order of training samples, and how samples become batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from svfap.datasets.checks import at_least
from svfap.datasets.rng import generator


class SampleKey(NamedTuple):
    """What a training dataset is indexed with; all its draws are keyed by it."""

    epoch: int
    index: int
    copy: int


class EpochSampler:
    """Batches of sample keys: a fresh permutation per epoch, the same for any number of processes.

    Global batch k (one optimizer step) holds the same samples however it is divided among
    processes and accumulation turns, as long as its size is the same. The last one is filled up
    from the front of the permutation; what comes a second time carries copy 1 (then 2, ...), so
    that it gets draws of its own.

    Args:
        batch_size: samples per process and accumulation turn.
        seed: the run's `--seed`.
        rank: this process, 0 .. world_size - 1.
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
        at_least(1, num_samples=num_samples, batch_size=batch_size)
        at_least(1, world_size=world_size, accumulation=accumulation)
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

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step, over all processes and accumulation turns."""
        return self.batch_size * self.world_size * self.accumulation

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch; the last one is filled up."""
        return -(-self.num_samples // self.global_batch_size)

    def batches(
        self, epoch: int, first_step: int = 0, stop_step: int | None = None
    ) -> Iterator[list[SampleKey]]:
        """This process's batches of an epoch, `accumulation` of them per optimizer step.

        Args:
            epoch: counted from 0.
            first_step: the first optimizer step, counted from 0.
            stop_step: the first one that is not wanted; None: to the end of the epoch.

        Raises:
            ValueError: the epoch has no such step.
        """
        stop_step = self.steps_per_epoch if stop_step is None else stop_step
        if epoch < 0 or not 0 <= first_step <= stop_step <= self.steps_per_epoch:
            raise ValueError(
                f"epoch {epoch}, steps {first_step} to {stop_step} do not exist: epochs count from "
                f"0 and have {self.steps_per_epoch} steps"
            )
        return self._batches(epoch, range(first_step, stop_step))

    def _batches(self, epoch: int, steps: range) -> Iterator[list[SampleKey]]:
        indices, copies = self._order(epoch)
        for step in steps:
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


def collate(samples: Sequence[dict], empty: Callable[..., torch.Tensor] = torch.empty) -> dict:
    """Put samples, or parts of a batch, together.

    Args:
        samples: dicts of arrays or tensors with a leading axis (a video may give several clips or
            views), of dicts of such, and of lists.
        empty: (shape, dtype=...) -> tensor that is filled with what is joined.

    Returns:
        The same keys; arrays joined along the first axis as CPU tensors, lists joined.
    """
    return {key: _join([sample[key] for sample in samples], empty) for key in samples[0]}


def _join(values: list, empty: Callable[..., torch.Tensor]):
    first = values[0]
    if isinstance(first, dict):
        return collate(values, empty)
    if isinstance(first, list):
        return [item for value in values for item in value]
    arrays = [np.asarray(value) for value in values]
    dtype = torch.from_numpy(np.empty(0, np.result_type(*arrays))).dtype
    joined = empty((sum(map(len, arrays)), *arrays[0].shape[1:]), dtype=dtype)
    np.concatenate(arrays, out=joined.numpy())  # one thread, beside those that compute
    return joined
