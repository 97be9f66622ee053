"""Hashes by which tables find names, the same on every machine and in every run."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np


def hash_key(key: str) -> int:
    """64-bit hash of a name or path."""
    digest = hashlib.blake2b(os.fsencode(key), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def hash_keys(keys: Sequence[str]) -> np.ndarray:
    """Hashes of names, (n,) uint64."""
    return np.fromiter(map(hash_key, keys), np.uint64, len(keys))
