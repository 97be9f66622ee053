"""Pairs of videos that look the same, from perceptual hashes of a few frames each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from svfap.preprocess.doctor.scan import HASHED_FRAMES, Scan

# Bits that may differ, of 63 per hashed frame, and how alike the small grey pictures must be.
# Copies that were coded anew, scaled, brightened or trimmed a little stay below; different videos
# of one person differ in 45 bits and more.
MAX_DISTANCE, MIN_CORRELATION = 32, 0.96
# Copies differ by less than this anywhere in a picture, in standard deviations of the picture (0.2
# coded anew or at half size, up to 0.5 brightened until parts are white); one person with another
# expression in the same setting by more (0.6 to 1.2 around a smile).
COPY_DIFFERENCE = 0.5
FLAT = 2.0
BLOCK = 64
# Above this number of videos only equal hashes are compared, not all pairs.
MAX_PAIRED = 60_000


@dataclass(frozen=True)
class Pair:
    """Two videos that look the same."""

    first: str
    second: str
    distance: int  # differing bits, 0 to MAX_DISTANCE
    correlation: float  # of the small grey pictures, up to 1
    difference: float = 0.0  # largest difference anywhere in these, see `largest_difference`

    @property
    def copies(self) -> bool:
        """The same pictures, not only the same person in the same setting."""
        return self.difference <= COPY_DIFFERENCE


def find_pairs(scans: Sequence[Scan]) -> list[Pair]:
    """All pairs of readable videos that look the same, most alike first."""
    readable = [scan for scan in scans if scan.readable]
    if len(readable) < 2:
        return []
    hashes = np.stack([scan.hashes for scan in readable])
    paired = len(readable) <= MAX_PAIRED
    close = _close_rows(hashes) if paired else _equal_rows(hashes)
    pairs = []
    for one, other in close:
        correlation = similarity(readable[one].tiny, readable[other].tiny)
        if correlation >= MIN_CORRELATION:
            distance = int(count_bits(hashes[one] ^ hashes[other]).sum())
            first, second = readable[one], readable[other]
            difference = largest_difference(first.tiny, second.tiny)
            pairs.append(Pair(first.path, second.path, distance, correlation, difference))
    return sorted(pairs, key=lambda pair: (pair.distance, -pair.correlation, pair.first))


def _close_rows(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Indices of rows of (n, HASHED_FRAMES) whose hashes differ in few bits, first < second."""
    for start in range(0, len(hashes), BLOCK):
        block = hashes[start : start + BLOCK]
        rest = hashes[start:]
        distance = np.zeros((len(block), len(rest)), np.uint16)
        for frame in range(HASHED_FRAMES):
            distance += count_bits(block[:, frame, None] ^ rest[None, :, frame])
        for row, column in np.argwhere(distance <= MAX_DISTANCE):
            if row < column:
                yield start + int(row), start + int(column)


def _equal_rows(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    first: dict[bytes, int] = {}
    for row, value in enumerate(hashes):
        seen = first.setdefault(value.tobytes(), row)
        if seen != row:
            yield seen, row


_BITS = np.array([bin(value).count("1") for value in range(256)], np.uint8)


def count_bits(values: np.ndarray) -> np.ndarray:
    """Number of ones in each uint64."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(values)
    octets = np.ascontiguousarray(values)[..., None].view(np.uint8)
    return _BITS[octets].sum(axis=-1, dtype=np.uint8)


def largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference between (frames, side, side) uint8 pictures, made alike in light."""

    def plain(pictures: np.ndarray) -> np.ndarray:
        pictures = pictures.astype(np.float64)
        pictures -= pictures.mean(axis=(1, 2), keepdims=True)
        return pictures / np.maximum(pictures.std(axis=(1, 2), keepdims=True), FLAT)

    return float(np.abs(plain(one) - plain(other)).max())


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of (frames, side, side) uint8 pictures, their brightness left out.

    Pictures without any contrast are alike if they are equally bright.
    """
    first, second = one.astype(np.float64), other.astype(np.float64)
    spread_one, spread_other = first.std(axis=(1, 2)), second.std(axis=(1, 2))
    if max(spread_one.max(), spread_other.max()) < FLAT:
        return 1.0 if np.abs(first.mean() - second.mean()) < FLAT else 0.0
    first -= first.mean(axis=(1, 2), keepdims=True)
    second -= second.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if norm else 0.0
