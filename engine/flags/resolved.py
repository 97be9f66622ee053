"""What the flags of a run come to: numbers that follow from them, the processes and the data.

Flags stay as they were given. What is settled afterwards stands here, once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from svfap.engine.flags.flag import Flags


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Numbers of a run that stay the same from its first step to its last one."""

    batch_size: int  # samples (videos, or pairs of views) that a process computes at a time
    accumulation: int  # how many of these batches make an optimizer step
    clips_per_sample: int  # clips that a batch holds of each sample
    global_batch: int  # samples per optimizer step, all processes together
    steps_per_epoch: int  # optimizer steps; the last batch is filled up (docs/reproduction.md)
    total_steps: int  # of the whole run
    first_lr: float  # learning rate at the first step of the warm-up
    peak_lr: float  # at its end: `--lr` x global batch / 256, as the other two
    final_lr: float  # at the end of the run
    weight_decays: tuple[float, float]  # of the first step, and of the last
    # flags that were left open and follow from the model, with their values
    settled: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


def resolve(
    flags: Flags,
    *,
    world_size: int,
    num_samples: int,
    merged: int = 1,
    settled: Mapping[str, object] = MappingProxyType({}),
) -> Resolved:
    """Work out the numbers of a run.

    `merged` accumulated batches are computed together (`engine.compute.merging`).
    """
    batch = flags.batch_size * flags.update_freq * world_size
    steps = math.ceil(num_samples / batch)
    last = flags.weight_decay if flags.weight_decay_end is None else flags.weight_decay_end
    return Resolved(
        batch_size=flags.batch_size * merged,
        accumulation=flags.update_freq // merged,
        clips_per_sample=flags.clips_per_sample,
        global_batch=batch,
        steps_per_epoch=steps,
        total_steps=min(flags.epochs * steps, flags.max_steps or flags.epochs * steps),
        first_lr=flags.warmup_lr * batch / 256,
        peak_lr=flags.lr * batch / 256,
        final_lr=flags.min_lr * batch / 256,
        weight_decays=(flags.weight_decay, last),
        settled=MappingProxyType(dict(settled)),
    )


def as_facts(resolved: Resolved) -> dict[str, object]:
    """As `config.json` has it."""
    values = {part.name: getattr(resolved, part.name) for part in fields(resolved)}
    return {**values, "settled": dict(resolved.settled)}
