"""Whether a result is better than guessing: what its interval says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from svfap.engine.results.kinds.base import Predictions
from svfap.engine.results.metrics import METRICS

Intervals = Mapping[str, tuple[float, float]]
AT_THE_MEAN = 0.98  # of the mean's loss, in pre-training; from here on nothing has been learnt


@dataclass(frozen=True, kw_only=True)
class Chance:
    """A result beside what guessing gives."""

    metric: str  # "uar", or "ccc" of regressions
    level: float  # what guessing gives
    value: float  # the result
    # its (low, high); None where it has none, as with a single person
    interval: tuple[float, float] | None

    @property
    def better(self) -> bool:
        """Whether the interval lies above chance."""
        return self.interval is not None and self.interval[0] > self.level

    @property
    def text(self) -> str:
        """The result beside chance, in words."""
        metric = METRICS[self.metric]
        show = metric.text
        between = ", no interval"
        if self.interval:
            between = f", interval {show(self.interval[0])} to {show(self.interval[1])}"
        verdict = "better" if self.better else "not better"
        unit = " %" * metric.in_percent
        return (
            f"{verdict} than chance: {metric.title} {show(self.value)}{unit}{between}; guessing "
            f"gives {show(self.level)}{unit}"
        )

    @property
    def sentence(self) -> str:
        """`text` with a capital and a full stop."""
        return f"{self.text[0].upper()}{self.text[1:]}."

    def as_dict(self) -> dict:
        """What metrics.json holds as `chance`."""
        return {**asdict(self), "better": self.better}


def chance(predictions: Predictions, intervals: Intervals) -> Chance | None:
    """Set predictions of a test set beside guessing.

    Args:
        predictions: of all videos, or of one head or dimension.
        intervals: of their metrics (`bootstrap_intervals`).

    Returns:
        None for kinds of predictions that have neither a UAR nor a CCC.
    """
    metric, level = "uar", predictions.chance
    if level is None:
        metric, level = "ccc", 0.0
    value = predictions.metrics().get(metric)
    if value is None:
        return None
    return Chance(metric=metric, level=level, value=value, interval=intervals.get(metric))


def is_chance(metrics: Mapping) -> bool:
    """Whether a metrics.json says that its result is not better than guessing."""
    known = metrics.get("chance")
    return known is not None and not known["better"]
