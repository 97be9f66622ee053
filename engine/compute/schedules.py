"""Per-step schedules of learning rate and weight decay."""

import argparse

import numpy as np


def cosine_schedule(
    base_value: float,
    final_value: float,
    *,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: int = 0,
    warmup_steps: int = -1,
    start_value: float = 0.0,
) -> np.ndarray:
    """Linear warm-up, then half a cosine, one value per optimizer step (SVFAP Sec. 4.1.2).

    Args:
        base_value: value at the end of the warm-up.
        warmup_steps: the same in steps; overrides `warmup_epochs` if above 0.
        start_value: value of the first warm-up step.

    Returns:
        (epochs * steps_per_epoch,) float64. A warm-up longer than the run is cut off.
    """
    total = epochs * steps_per_epoch
    warmup = warmup_steps if warmup_steps > 0 else warmup_epochs * steps_per_epoch
    rising = np.linspace(start_value, base_value, warmup)
    progress = np.arange(max(total - warmup, 0)) / max(total - warmup, 1)
    falling = final_value + 0.5 * (base_value - final_value) * (1 + np.cos(np.pi * progress))
    return np.concatenate([rising, falling])[:total]


def rate_schedule(flags: argparse.Namespace, steps_per_epoch: int, global_batch: int) -> np.ndarray:
    """Learning rate per step: warm-up to its peak, then half a cosine."""
    peak, final, first = peak_rates(flags, global_batch)
    return cosine_schedule(
        peak,
        final,
        epochs=flags.epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=flags.warmup_epochs,
        warmup_steps=flags.warmup_steps,
        start_value=first,
    )


def peak_rates(flags: argparse.Namespace, batch: int) -> tuple[float, float, float]:
    """Peak, final and warm-up learning rate: each flag times global batch / 256."""
    scale = batch / 256
    return flags.lr * scale, flags.min_lr * scale, flags.warmup_lr * scale


def weight_decay_schedule(flags: argparse.Namespace, steps_per_epoch: int) -> np.ndarray:
    """Weight decay per step: constant, or a cosine to `--weight_decay_end`."""
    begin, end = _weight_decays(flags)
    return cosine_schedule(begin, end, epochs=flags.epochs, steps_per_epoch=steps_per_epoch)


def highest_weight_decay(flags: argparse.Namespace) -> float:
    """The largest weight decay of any step; 0 only if nothing ever decays."""
    return max(_weight_decays(flags))


def _weight_decays(flags: argparse.Namespace) -> tuple[float, float]:
    end = flags.weight_decay_end
    return flags.weight_decay, flags.weight_decay if end is None else end
