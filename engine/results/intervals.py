"""How sure a number is: bootstrap intervals, and paired tests between two systems.

Resampled are videos, or subjects with all their videos where subjects are known: clips of one
person resemble each other, so intervals by video are then too narrow. A resample is a set of
multiplicities; metrics are computed from sums over videos, all resamples at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest, t

from engine.results.metrics import HEADLINE_METRICS
from engine.results.predictions import VALUES_METRICS, Predictions, PredictionsWithValues

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
CHUNK_NUMBERS = 5_000_000

# Sums per dimension of a regression: target x, value y.
REGRESSION_SUMS = ("one", "x", "y", "xx", "yy", "xy", "absolute_error")


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Difference of two systems on the same videos.

    Attributes:
        first: metric -> value of the first system.
        second: metric -> value of the second.
        intervals: metric -> (low, high) of first minus second.
        p_values: metric -> two-sided bootstrap p of no difference.
        only_first_right: videos that only the first system classifies right; None in regression
            and with several heads.
        only_second_right: videos that only the second classifies right; None likewise.
        mcnemar_p: exact two-sided McNemar test on those two counts; it treats videos as
            independent. None likewise.
    """

    first: dict[str, float]
    second: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    p_values: dict[str, float]
    only_first_right: int | None = None
    only_second_right: int | None = None
    mcnemar_p: float | None = None


def bootstrap_intervals(
    predictions: Predictions,
    subjects: Sequence[str] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of all metrics of a set of predictions.

    A resample without videos of some class leaves that class out of its UAR, as the metric does.
    Where rows are frames, whole videos are resampled.

    Args:
        predictions: n videos.
        subjects: n names of the persons shown; None resamples single videos.
        num_resamples: bootstrap resamples.
        confidence: share of the distribution inside the interval, 0..1.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        Metric -> (low, high). Classification: uar, war, weighted_f1, micro_f1, macro_f1 and
        recall_<class index> of every class with videos; of several heads the means of the first
        five; regression: pcc, ccc, mae, accuracy, rmse; a class and values: those of both but
        accuracy.

    Raises:
        ValueError: subjects do not match the videos, or numbers out of range.
    """
    _check_options(num_resamples, confidence)
    [values] = resampled_metrics([predictions], subjects, num_resamples=num_resamples, seed=seed)
    intervals = {name: percentiles(batch, confidence) for name, batch in values.items()}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def resampled_metrics(
    systems: Sequence[Predictions],
    subjects: Sequence[str] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[dict[str, np.ndarray]]:
    """Metrics of several systems on the same bootstrap resamples of their videos.

    Args:
        systems: predictions for the same n videos in the same order.
        subjects: as in `bootstrap_intervals`, as are the next two.
        num_resamples: see there.
        seed: see there.

    Returns:
        For each system metric -> (num_resamples,), NaN where a resample has no such value.
    """
    rows, codes, statistic = _summands(systems)
    units, counts = _units(rows, codes, _resampled(systems[0], subjects))
    values: list[dict[str, list]] = [{} for _ in systems]
    for sums in _resampled_sums(units, counts, num_resamples, seed):
        for own, part in zip(values, np.split(sums, len(systems), axis=1)):
            for name, batch in statistic(part).items():
                own.setdefault(name, []).append(batch)
    metrics = [{name: np.concatenate(parts) for name, parts in own.items()} for own in values]
    if all(isinstance(system, PredictionsWithValues) for system in systems):
        numbers = [system.values for system in systems]
        of_values = resampled_metrics(numbers, subjects, num_resamples=num_resamples, seed=seed)
        for own, more in zip(metrics, of_values, strict=True):
            own |= {name: more[name] for name in VALUES_METRICS}
    return metrics


def paired_test(
    first: Predictions,
    second: Predictions,
    subjects: Sequence[str] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> PairedTest:
    """Compare two systems by a paired bootstrap, and by McNemar's test in classification.

    Args:
        first: predictions of one system.
        second: predictions of the other for the same videos, in the same order.
        subjects: as in `bootstrap_intervals`, as are the next three.
        num_resamples: see there.
        confidence: see there.
        seed: see there.

    Returns:
        Values, intervals of the difference first - second, and p values. A bootstrap p is twice
        the smaller share of resamples on either side of zero, at least 2 / (resamples + 1).

    Raises:
        ValueError: other videos, labels or classes in one than in the other.
    """
    _check_options(num_resamples, confidence)
    _require_same_videos(first, second)
    one, two = resampled_metrics([first, second], subjects, num_resamples=num_resamples, seed=seed)
    joined = {name: one[name] - two[name] for name in one if not name.startswith("recall_")}
    metrics = [predictions.metrics() for predictions in (first, second)]
    test = PairedTest(
        first={name: metrics[0][name] for name in joined},
        second={name: metrics[1][name] for name in joined},
        intervals={name: percentiles(values, confidence) for name, values in joined.items()},
        p_values={name: two_sided_p(values) for name, values in joined.items()},
    )
    return _with_mcnemar(test, first, second) if first.task == "classification" else test


def classification_from_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of `engine.results.metrics` for many confusion matrices at once.

    Args:
        counts: (R, C, C) of true by predicted classes; each matrix holds at least one video.

    Returns:
        Metric -> (R,); recall_<class index> is NaN where the class has no videos.
    """
    right = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)  # (R, C)
    support, predicted = counts.sum(axis=2), counts.sum(axis=1)
    total = support.sum(axis=1)
    recall = np.divide(right, support, out=np.full_like(right, np.nan), where=support > 0)
    occurs = support + predicted > 0
    f1 = np.divide(2 * right, support + predicted, out=np.zeros_like(right), where=occurs)
    war = right.sum(axis=1) / total
    return {
        "uar": np.nanmean(recall, axis=1),
        "war": war,
        "weighted_f1": (f1 * support).sum(axis=1) / total,
        "micro_f1": war,
        "macro_f1": f1.sum(axis=1) / occurs.sum(axis=1),
        **{f"recall_{index}": recall[:, index] for index in range(counts.shape[1])},
    }


def regression_from_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Means over dimensions as `engine.results.metrics.regression_metrics`, from sums over videos.

    Args:
        sums: (R, L, 7) sums of `REGRESSION_SUMS` over the videos of each resample.

    Returns:
        pcc, ccc, mae, accuracy and rmse, each (R,); correlations of constant series are 0.
    """
    n, x, y, xx, yy, xy, error = np.moveaxis(sums, -1, 0)
    mean_x, mean_y = x / n, y / n
    # Rounding may leave a variance of a constant series slightly off zero.
    var_x, var_y = (np.where(v > 1e-12, v, 0.0) for v in (xx / n - mean_x**2, yy / n - mean_y**2))
    varies = (var_x > 0) & (var_y > 0)
    covariance = np.where(varies, xy / n - mean_x * mean_y, 0.0)
    pcc = covariance / np.sqrt(np.where(varies, var_x * var_y, 1.0))
    ccc = 2 * covariance / np.where(varies, var_x + var_y + (mean_x - mean_y) ** 2, 1.0)
    mae = error / n
    rmse = np.sqrt(np.maximum(xx - 2 * xy + yy, 0.0) / n)
    means = {"pcc": pcc, "ccc": ccc, "mae": mae, "accuracy": 1.0 - mae, "rmse": rmse}
    return {name: values.mean(axis=1) for name, values in means.items()}


def _summands(
    systems: Sequence[Predictions],
) -> tuple[np.ndarray, np.ndarray | None, Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """Per-video summands (n, K), codes of equal rows, and metrics of summed rows of a system."""
    if systems[0].task == "regression":
        num_dimensions = systems[0].labels.shape[1]
        rows = np.concatenate([_regression_rows(system) for system in systems], axis=1)
        shape = (-1, num_dimensions, len(REGRESSION_SUMS))
        return rows, None, lambda sums: regression_from_sums(sums.reshape(shape))
    # One classification per system, or one per system and head.
    parts = [[system.head(name) for name in system.heads or ()] or [system] for system in systems]
    sizes = [max(map(_num_classes, of_head)) for of_head in zip(*parts)]
    cells = [
        part.labels * size + part.predicted
        for own in parts
        for part, size in zip(own, sizes, strict=True)
    ]
    widths = [size**2 for size in sizes] * len(systems)
    rows = np.concatenate(
        [np.eye(width)[cell] for cell, width in zip(cells, widths, strict=True)], axis=1
    )
    return rows, np.stack(cells, axis=1), lambda sums: _from_counts(sums, sizes)


def _from_counts(sums: np.ndarray, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Metrics of confusion matrices side by side (R, K); of several heads the means."""
    blocks = np.split(sums, np.cumsum([size**2 for size in sizes])[:-1], axis=1)
    of_heads = [
        classification_from_counts(block.reshape(-1, size, size))
        for block, size in zip(blocks, sizes, strict=True)
    ]
    if len(of_heads) == 1:
        return of_heads[0]
    return {name: np.mean([own[name] for own in of_heads], axis=0) for name in HEADLINE_METRICS}


def _resampled(predictions: Predictions, subjects: Sequence[str] | None) -> Sequence[str] | None:
    """What a row belongs to: its subject, or its video where rows are frames."""
    return predictions.ids if subjects is None and predictions.frames is not None else subjects


def _regression_rows(predictions: Predictions) -> np.ndarray:
    x, y = predictions.labels, predictions.predicted
    rows = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, np.abs(x - y)], axis=-1)
    return rows.reshape(len(x), -1)  # (n, L*7)


def _num_classes(predictions: Predictions) -> int:
    if predictions.names is not None:
        return len(predictions.names)
    return int(max(predictions.labels.max(), predictions.predicted.max())) + 1


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
                f"all rows belong to {names[0]!r}: resampling needs at least two subjects (two "
                "videos where rows are frames); leave the subjects out to resample videos."
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


def percentiles(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The interval that holds a share of resampled values (R,); None where all are NaN."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> float | None:
    """Half the interval of the mean of independent values by Student's t; None of a single one."""
    if len(values) < 2:
        return None
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(t.ppf((1 + confidence) / 2, len(values) - 1) * error)


def two_sided_p(differences: np.ndarray) -> float:
    """Bootstrap p of no difference, from resampled differences (R,)."""
    # Differences that only rounding separates from zero count for both sides.
    below = np.count_nonzero(differences <= 1e-12)
    above = np.count_nonzero(differences >= -1e-12)
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))


def _with_mcnemar(test: PairedTest, first: Predictions, second: Predictions) -> PairedTest:
    first_right, second_right = (p.predicted == p.labels for p in (first, second))
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    disagree = only_first + only_second
    return replace(
        test,
        only_first_right=only_first,
        only_second_right=only_second,
        mcnemar_p=float(binomtest(only_first, disagree).pvalue) if disagree else 1.0,
    )


def _require_same_videos(first: Predictions, second: Predictions) -> None:
    if first.keys != second.keys:
        raise ValueError("the two sets of predictions are of different videos or in other order")
    if first.task != second.task or not np.array_equal(first.labels, second.labels):
        raise ValueError("the two sets of predictions disagree about the labels")


def _check_options(num_resamples: int, confidence: float) -> None:
    if num_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"num_resamples {num_resamples} must be at least 1, confidence {confidence} "
            "between 0 and 1."
        )
