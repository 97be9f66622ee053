"""Scores of a test set: UAR, WAR, F1s, confusion matrix; PCC, CCC and MAE of regressions.

All of them are computed once from the pooled predictions, never as a mean over batches or
processes. Fractions are 0..1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metric:
    """How a number of metrics.json is shown."""

    title: str
    in_percent: bool = False  # times 100, with two decimals; else as it is, with three
    lower_is_better: bool = False
    headline: bool = False  # shown where there is room for one or two

    def text(self, value: float, percent_digits: int = 2) -> str:
        """A value for people."""
        return f"{100 * value:.{percent_digits}f}" if self.in_percent else f"{value:.3f}"


# In the order of tables; what a new task measures is added here.
METRICS = {
    "uar": Metric("UAR", in_percent=True, headline=True),
    "war": Metric("WAR", in_percent=True, headline=True),
    "weighted_f1": Metric("weighted F1", in_percent=True),
    "micro_f1": Metric("micro F1", in_percent=True),
    "macro_f1": Metric("macro F1", in_percent=True),
    "pcc": Metric("PCC", headline=True),
    "ccc": Metric("CCC", headline=True),
    "mae": Metric("MAE", lower_is_better=True),
    "accuracy": Metric("1 - MAE"),
    "rmse": Metric("RMSE", lower_is_better=True),
}
HEADLINE_METRICS = ("uar", "war", "weighted_f1", "micro_f1", "macro_f1")
REGRESSION_METRICS = ("pcc", "ccc", "mae", "accuracy", "rmse")


def classification_metrics(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str] | None = None
) -> dict:
    """Scores of single-label classification, as the papers report them.

    A class without test videos has no recall: it is left out of UAR and listed in
    `absent_classes`. Macro F1 averages over the classes that occur in the labels or in the
    predictions; a predicted class without test videos counts as 0 there.

    Args:
        labels: (n,) true classes, 0..C-1.
        predicted: (n,) likewise.
        class_names: C names in label order; by default "0", "1", ...

    Returns:
        `HEADLINE_METRICS`; per_class_recall (C values, None where absent), confusion_matrix (C
        rows of true, C columns of predicted counts), class_names, absent_classes (names) and
        num_videos. Plain Python values, ready for JSON.

    Raises:
        ValueError: no videos, lengths that differ, or a class out of range.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.ndim != 1 or labels.shape != predicted.shape or not len(labels):
        raise ValueError(
            f"labels of shape {labels.shape} and predicted classes of shape {predicted.shape}: "
            "both must be (videos,) with at least one video."
        )
    size = len(class_names or ()) or int(max(labels.max(), predicted.max())) + 1
    names = _check_names(class_names, size)
    labels = _check_classes(labels, size, "label")
    predicted = _check_classes(predicted, size, "predicted class")
    counts = np.bincount(labels * size + predicted, minlength=size**2).reshape(size, size)
    found = {name: float(own[0]) for name, own in classification_from_counts(counts[None]).items()}
    recalls = [found.pop(f"recall_{index}") for index in range(size)]
    return {
        **found,
        "per_class_recall": [None if np.isnan(recall) else recall for recall in recalls],
        "confusion_matrix": counts.tolist(),
        "class_names": names,
        "absent_classes": [name for name, recall in zip(names, recalls) if np.isnan(recall)],
        "num_videos": len(labels),
    }


def classification_from_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`HEADLINE_METRICS` of many confusion matrices at once.

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


def regression_metrics(
    targets: np.ndarray,
    values: np.ndarray,
    names: Sequence[str] | None = None,
) -> dict:
    """Pearson and concordance correlation, mean absolute error, 1 - MAE, root of the mean square.

    Where targets or predictions of a dimension are constant, the correlations are undefined. They
    are then set to 0, the value of a prediction that carries no information, and `notes` says so.

    Args:
        targets: (n, L) true values, or (n,) for a single dimension.
        values: (n, L) predictions, shaped like the targets.
        names: L names of the dimensions; by default "0", "1", ...

    Returns:
        pcc, ccc, mae, accuracy (1 - MAE; meaningful for targets in [0, 1]) and rmse, each the mean
        over the dimensions; per_dimension: name -> the same five; num_videos and notes.

    Raises:
        ValueError: no videos, shapes that differ, or a NaN or infinite number.
    """
    targets, values = _as_columns(targets), _as_columns(values)
    if targets.shape != values.shape or not len(targets):
        raise ValueError(
            f"targets of shape {targets.shape} and predictions of shape {values.shape}: "
            "both must be (videos, dimensions) with at least one video."
        )
    require_finite(targets, "targets")
    require_finite(values, "predictions")
    names = _check_names(names, targets.shape[1])
    notes: list[str] = []
    per_dimension = {
        name: _one_dimension(targets[:, i], values[:, i], name, notes)
        for i, name in enumerate(names)
    }
    means = {
        metric: float(np.mean([scores[metric] for scores in per_dimension.values()]))
        for metric in REGRESSION_METRICS
    }
    return {**means, "per_dimension": per_dimension, "num_videos": len(targets), "notes": notes}


def regression_summands(targets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n, L, 7): 1, x, y, xx, yy, xy and |x - y| of targets x and values y (n, L)."""
    x, y = targets, values
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, np.abs(x - y)], axis=-1)


def regression_from_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Means over dimensions as `regression_metrics`, from sums over videos.

    Args:
        sums: (R, L, 7) sums of `regression_summands`.

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


def concordance(targets: np.ndarray, values: np.ndarray) -> float:
    """Lin's concordance correlation coefficient, with variances over n; 0 where it is 0 / 0.

    Args:
        targets: (n,) true values.
        values: (n,) predictions.

    Returns:
        -1..1; 1 only for equal series, unlike Pearson's, which ignores scale and offset.
    """
    covariance = np.mean((targets - targets.mean()) * (values - values.mean()))
    spread = targets.var() + values.var() + (targets.mean() - values.mean()) ** 2
    return float(2 * covariance / spread) if spread > 0 else 0.0


def _one_dimension(
    targets: np.ndarray, values: np.ndarray, name: str, notes: list[str]
) -> dict[str, float]:
    mae = float(np.abs(targets - values).mean())
    rmse = float(np.sqrt(np.square(targets - values).mean()))
    constant = [
        kind
        for kind, series in (("targets", targets), ("predictions", values))
        if np.ptp(series) == 0
    ]
    if constant:
        notes.append(f"{name}: {' and '.join(constant)} constant, pcc and ccc set to 0")
        return {"pcc": 0.0, "ccc": 0.0, "mae": mae, "accuracy": 1.0 - mae, "rmse": rmse}
    pcc = float(np.corrcoef(targets, values)[0, 1])
    ccc = concordance(targets, values)
    return {"pcc": pcc, "ccc": ccc, "mae": mae, "accuracy": 1.0 - mae, "rmse": rmse}


def _check_classes(classes: np.ndarray, num_classes: int, what: str) -> np.ndarray:
    whole = classes.astype(np.int64)
    wrong = np.flatnonzero((whole != classes) | (whole < 0) | (whole >= num_classes))
    if len(wrong):
        raise ValueError(
            f"{what} {classes[wrong[0]]} of video {wrong[0]} ({len(wrong)} such): must be a whole "
            f"number 0..{num_classes - 1}; check the annotation file and the number of classes."
        )
    return whole


def _check_names(names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [str(index) for index in range(count)]
    if len(names) != count:
        raise ValueError(f"{len(names)} names {list(names)} for {count} classes or dimensions.")
    return list(names)


def _as_columns(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return values[:, None] if values.ndim == 1 else values


def require_finite(values: np.ndarray, what: str) -> None:
    """Raise ValueError if there is a NaN or infinity in any row of (n, ...)."""
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        rows = np.flatnonzero(~finite)
        raise ValueError(
            f"{what} hold NaN or infinity for {len(rows)} of {len(values)} videos (first rows: "
            f"{rows[:5].tolist()}); the model has diverged or its input is broken."
        )
