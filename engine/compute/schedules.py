"""Per-step schedules of learning rate and weight decay."""

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
