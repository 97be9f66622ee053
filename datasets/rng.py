"""Counter-based random numbers: a draw is a function of (seed, epoch, sample), not of history.

A run therefore repeats itself whatever the number of workers or processes, and resuming needs
no generator state: it is arithmetic.
"""

import zlib

import numpy as np


def generator(seed: int, epoch: int, index: int, copy: int, stream: str) -> np.random.Generator:
    """Random generator of one sample for one purpose.

    Args:
        seed: the run's `--seed`.
        epoch: 0-based epoch.
        index: the sample's row in its annotation file, or the step for per-batch draws.
        copy: 0 for the first use of the sample in this epoch, 1, 2, ... for repeats.
        stream: what the draw is for ("frames", "crop", "mask", ...); streams are independent.

    Returns:
        A Philox generator keyed by all five.
    """
    entropy = [seed, epoch, index, copy, zlib.crc32(stream.encode())]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
