"""How sure a number is: bootstrap intervals, and paired tests between two systems.

Resampled are videos, or subjects with all their videos where subjects are known: clips of one
person resemble each other, so intervals by video are then too narrow. A resample is a set of
multiplicities; metrics are computed from sums over videos, all resamples at once.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest, norm, sem, t

from svfap.engine.results.kinds.base import Predictions, common_kind
from svfap.engine.results.metrics import METRICS

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
FEW = 10  # videos or subjects, of which resamples say next to nothing
CHUNK_NUMBERS = 5_000_000


def add_bootstrap_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--subjects`, `--num_resamples` and `--seed`."""
    add = parser.add_argument
    add("--subjects", metavar="CSV", help="columns video_name and subject; the bootstrap then "
        "resamples subjects")  # fmt: skip
    add("--num_resamples", type=int, default=NUM_RESAMPLES, help="of the bootstrap, default 10000")
    add("--seed", type=int, default=0, help="of the bootstrap, default 0")


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Difference of two systems on the same videos.

    McNemar's test is exact and two-sided, and treats videos as independent; it and the counts are
    None in regression and with several heads.
    """

    first: dict[str, float]  # metric -> value of the first system
    second: dict[str, float]  # metric -> value of the second
    intervals: dict[str, tuple[float, float]]  # metric -> (low, high) of first minus second
    p_values: dict[str, float]  # metric -> two-sided bootstrap p of no difference
    only_first_right: int | None = None
    only_second_right: int | None = None
    mcnemar_p: float | None = None


def bootstrap_intervals(
    predictions: Predictions,
    subjects: Sequence[str] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of all metrics of a set of predictions.

    A resample without videos of some class leaves that class out of its UAR, as the metric does.
    Where rows are frames, whole videos are resampled. Where all videos (of a class) are right, or
    all wrong, every resample says so, and fewer than FEW say next to nothing: there a share gets
    Wilson's interval, UAR the one that follows from its recalls', and metrics on which all
    resamples agree get none.

    Args:
        predictions: n videos.
        subjects: n names of the persons shown; None resamples single videos.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        Metric -> (low, high), of all that `summands` of the predictions give; of classes also
        recall_<class index> of every class with videos. Empty of a single subject, or of frames of
        a single video.

    Raises:
        ValueError: subjects do not match the videos, or numbers out of range.
    """
    units = _resampled(predictions, subjects)
    if units is not None and len(units) == len(predictions) and len(set(units)) == 1:
        return {}
    [values] = resampled_metrics([predictions], subjects, num_resamples=num_resamples, seed=seed)
    intervals = {name: percentiles(batch) for name, batch in values.items()}
    intervals = {name: interval for name, interval in intervals.items() if interval is not None}
    intervals |= of_few(predictions, intervals, subjects)
    return {name: limits for name, limits in intervals.items() if limits is not None}


def resampled_metrics(
    systems: Sequence[Predictions],
    subjects: Sequence[str] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[dict[str, np.ndarray]]:
    """Metrics of several systems on the same bootstrap resamples of their videos.

    Of predictions for the same n videos in the same order; the rest as in `bootstrap_intervals`.

    Returns:
        For each system metric -> (num_resamples,), NaN where a resample has no such value.
    """
    for name, value, least in (("num_resamples", num_resamples, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} {value} must be at least {least}.")
    metrics: list[dict[str, np.ndarray]] = [{} for _ in systems]
    for part in common_kind(systems).summands(systems):
        rows = np.concatenate(part.rows, axis=1)
        codes = None if part.codes is None else np.stack(part.codes, axis=1)
        units, counts = _units(rows, codes, _resampled(systems[0], subjects))
        values: list[dict[str, list]] = [{} for _ in systems]
        for sums in _resampled_sums(units, counts, num_resamples, seed):
            for own, of_system in zip(values, np.split(sums, len(systems), axis=1)):
                for name, batch in part.metrics(of_system).items():
                    own.setdefault(name, []).append(batch)
        for found, own in zip(metrics, values):
            found |= {name: np.concatenate(batches) for name, batches in own.items()}
    return metrics


def paired_test(
    first: Predictions,
    second: Predictions,
    subjects: Sequence[str] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> PairedTest:
    """Compare two systems by a paired bootstrap, and by McNemar's test in classification.

    Both predict the same videos in the same order, or ValueError; the rest as in
    `bootstrap_intervals`. A bootstrap p is twice the smaller share of resamples on either side of
    zero, at least 2 / (resamples + 1).
    """
    if first.keys != second.keys:
        raise ValueError("the two sets of predictions are of different videos or in other order")
    first.require_same(second)
    one, two = resampled_metrics([first, second], subjects, num_resamples=num_resamples, seed=seed)
    joined = {name: one[name] - two[name] for name in one if name in METRICS}
    metrics = [predictions.metrics() for predictions in (first, second)]
    test = PairedTest(
        first={name: metrics[0][name] for name in joined},
        second={name: metrics[1][name] for name in joined},
        intervals={name: percentiles(values) for name, values in joined.items()},
        p_values={name: two_sided_p(values) for name, values in joined.items()},
    )
    right = first.right, second.right
    return test if right[0] is None else _with_mcnemar(test, *right)


def _resampled(predictions: Predictions, subjects: Sequence[str] | None) -> Sequence[str] | None:
    """What a row belongs to: its subject, or its video where rows are frames."""
    return predictions.ids if subjects is None and predictions.frames is not None else subjects


def _units(
    rows: np.ndarray, codes: np.ndarray | None, subjects: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """What is resampled: (U, K) summands of distinct units, and how often each occurs (U,)."""
    if subjects is not None:
        if len(subjects) != len(rows):
            raise ValueError(f"{len(subjects)} subjects for {len(rows)} videos: one each, please.")
        names, unit = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
        if len(names) < 2:
            raise ValueError(
                f"all rows belong to {str(names[0])!r}: resampling needs at least two subjects "
                "(two videos where rows are frames); leave the subjects out to resample videos."
            )
        units = np.zeros((len(names), rows.shape[1]))
        np.add.at(units, unit, rows)
        return units, np.ones(len(names))
    if codes is None:
        return rows, np.ones(len(rows))
    # Videos with the same label and prediction are interchangeable: far fewer units to draw.
    _, first, counts = np.unique(codes, axis=0, return_index=True, return_counts=True)
    return rows[first], counts


def _resampled_sums(
    units: np.ndarray, counts: np.ndarray, num_resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """Sums (r, K) over resampled units, in chunks that fit into memory."""
    random = np.random.Generator(np.random.Philox(seed))
    total = int(counts.sum())
    chunk = max(1, CHUNK_NUMBERS // max(units.shape))
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        yield random.multinomial(total, counts / total, size=size) @ units


def percentiles(values: np.ndarray) -> tuple[float, float] | None:
    """The interval that holds a share of resampled values (R,); None where all are NaN."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def of_few(predictions: Predictions, intervals: dict, subjects: Sequence[str] | None) -> dict:
    """What replaces intervals that resamples cannot tell; None where nothing can."""
    if predictions.right is None:
        return {}
    units = _resampled(predictions, subjects)
    units = np.arange(len(predictions)) if units is None else np.asarray(units)
    found = {}
    for name, rows in predictions.shares.items():
        share, number = predictions.right[rows].mean(), len(np.unique(units[rows]))
        if share in (0, 1) or number < FEW:
            found[name] = wilson(share, number)
    recalls = [name for name in predictions.shares if name.startswith("recall_")]
    if "uar" in intervals and any(name in found for name in recalls):
        values = np.array([predictions.right[predictions.shares[name]].mean() for name in recalls])
        limits = np.array([found.get(name) or intervals[name] for name in recalls])
        # Zou and Donner, Statistics in Medicine 2008: distances to the limits add up as variances.
        below, above = np.linalg.norm(values[:, None] - limits, axis=0) / len(values)
        found["uar"] = float(values.mean() - below), float(values.mean() + above)
    # F1 scores that every resample agrees on.
    rest = {name: None for name, (low, high) in intervals.items() if low == high}
    return rest | found


def wilson(share: float, number: int) -> tuple[float, float]:
    """Wilson's interval of a share (0..1) of `number` independent cases."""
    z2 = norm.ppf((1 + CONFIDENCE) / 2) ** 2  # scipy's own knows no fractions of persons
    middle = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = np.sqrt(z2 * (share * (1 - share) / number + z2 / (4 * number**2))) / (1 + z2 / number)
    return float(max(middle - half, 0)), float(min(middle + half, 1))


def half_width(values: Sequence[float]) -> float | None:
    """Half the interval of the mean of independent values by Student's t; None of a single one."""
    if len(values) < 2:
        return None
    return float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * sem(values))


def two_sided_p(differences: np.ndarray) -> float:
    """Bootstrap p of no difference, from resampled differences (R,)."""
    # Differences that only rounding separates from zero count for both sides.
    below = np.count_nonzero(differences <= 1e-12)
    above = np.count_nonzero(differences >= -1e-12)
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))


def _with_mcnemar(test: PairedTest, first_right, second_right) -> PairedTest:
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    disagree = only_first + only_second
    return replace(
        test,
        only_first_right=only_first,
        only_second_right=only_second,
        mcnemar_p=float(binomtest(only_first, disagree).pvalue) if disagree else 1.0,
    )
