"""Predictions of numbers, of videos or of their frames, and of a class with numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from svfap.engine.results.kinds.base import Predictions, Summands, checked_scores, numbered
from svfap.engine.results.kinds.classes import Classes
from svfap.engine.results.kinds.table import PREDICTIONS_FILE, PredictionTable
from svfap.engine.results.metrics import (
    regression_from_sums,
    regression_metrics,
    regression_summands,
)

VALUES_FILE = "values.csv"  # beside the pred.csv of a class and numbers
# Of the numbers that come with a class; "accuracy" (1 - MAE) would be taken for the class's.
VALUES_METRICS = ("pcc", "ccc", "mae", "rmse")


@dataclass(frozen=True, kw_only=True)
class Numbers(Predictions):
    """Numbers per video or frame: labels (n, L) float64; `names` are the dimensions."""

    header = "id[,frame],label_<dimension>...,pred_<dimension>..."
    guess_is = "mean of the training labels"

    @classmethod
    def from_scores(
        cls, ids, labels, scores, names: Sequence[str] | None = None, *, frames=None
    ) -> "Numbers":
        """The outputs (n, L) themselves."""
        return cls(
            ids=ids,
            labels=np.asarray(labels, dtype=np.float64),
            predicted=checked_scores(scores),
            names=numbered(names, np.shape(scores)[1]),
            frames=frames,
        )

    def parts(self) -> dict[str, Predictions]:
        """The dimensions."""
        if self.labels.shape[1] < 2:
            return {}
        columns = zip(self.score_names, np.moveaxis([self.labels, self.predicted], -1, 0))
        return {
            name: replace(self, labels=own[:, None], predicted=predicted[:, None], names=[name])
            for name, (own, predicted) in columns
        }

    def metrics(self) -> dict:
        """See `regression_metrics`; all frames are pooled, whichever video they are of."""
        metrics = regression_metrics(self.labels, self.predicted, self.names)
        if self.frames is None:
            return metrics
        return {**metrics, "num_videos": len(set(self.ids)), "num_frames": len(self)}

    @classmethod
    def summands(cls, systems) -> list[Summands]:
        """What the moments of both series are computed from."""
        rows = [regression_summands(own.labels, own.predicted) for own in systems]
        shape = (-1, *rows[0].shape[1:])
        flat = [own.reshape(len(own), -1) for own in rows]
        return [Summands(flat, lambda sums: regression_from_sums(sums.reshape(shape)))]

    @staticmethod
    def guess(labels) -> np.ndarray:
        """The mean."""
        return labels.astype(np.float64).mean(axis=0)

    def sections(self, page, title="") -> list[str]:
        """Metrics of the dimensions, and predicted over true values."""
        return page.numbers(self)

    @classmethod
    def recognises(cls, table) -> bool:
        """A prediction for each label, and no probabilities."""
        names = table.after("label_")
        return bool(names) and set(names) <= set(table.after("pred_")) and not table.after("prob_")

    @classmethod
    def fields(cls, table, names) -> dict:
        """See `Predictions`."""
        names = table.after("label_")
        return {
            "labels": table.numbers([f"label_{name}" for name in names]),
            "predicted": table.numbers([f"pred_{name}" for name in names]),
            "names": names,
            "frames": table.frames(),
        }


@dataclass(frozen=True, kw_only=True)
class ClassesAndNumbers(Classes):
    """A class per video and, besides, numbers, which have a file of their own.

    Args:
        values: the numbers, of the same videos in the same order.
    """

    header = f"{Classes.header}, with {VALUES_FILE}"

    values: Numbers

    @property
    def score_names(self) -> list[str]:
        """The classes, then the dimensions."""
        return [*super().score_names, *self.values.score_names]

    def parts(self) -> dict[str, Predictions]:
        """The numbers by dimension; empty where there is only one."""
        return self.values.parts()

    def metrics(self) -> dict:
        """Those of the class; `VALUES_METRICS` (means) and `values` of the numbers."""
        own, values = super().metrics(), self.values.metrics()
        return own | {name: values[name] for name in VALUES_METRICS} | {"values": values}

    @classmethod
    def summands(cls, systems) -> list[Summands]:
        """Those of the class, then those of the numbers."""
        [numbers] = Numbers.summands([own.values for own in systems])

        def metrics(sums: np.ndarray) -> dict[str, np.ndarray]:
            found = numbers.metrics(sums)
            return {name: found[name] for name in VALUES_METRICS}

        return [*super().summands(systems), replace(numbers, metrics=metrics)]

    def constant(self, training_labels) -> "ClassesAndNumbers":
        """Of labels that are the class, then the numbers."""
        constant = super().constant(training_labels[:, 0])
        return replace(constant, values=self.values.constant(training_labels[:, 1:]))

    def sections(self, page, title="") -> list[str]:
        """Those of both."""
        return [*super().sections(page, title), *self.values.sections(page)]

    def files(self) -> dict[str, Predictions]:
        """See `Predictions`."""
        return {PREDICTIONS_FILE: self, VALUES_FILE: self.values}

    @classmethod
    def recognises(cls, table) -> bool:
        """A file of classes that has one of numbers beside it."""
        return super().recognises(table) and table.beside(VALUES_FILE) is not None

    @classmethod
    def fields(cls, table, names) -> dict:
        """See `Predictions`."""
        file = table.beside(VALUES_FILE)
        values = Numbers.read(PredictionTable(file))
        if values.ids != table.ids():
            raise ValueError(f"{file} is of other videos than pred.csv beside it; evaluate again.")
        return {**super().fields(table, names), "values": values}

    def taken(self, rows) -> "ClassesAndNumbers":
        """See `Predictions`."""
        return replace(super().taken(rows), values=self.values.taken(rows))

    @classmethod
    def joined(cls, parts) -> "ClassesAndNumbers":
        """See `Predictions`."""
        return replace(super().joined(parts), values=Numbers.joined([p.values for p in parts]))

    def require_alike(self, other) -> None:
        """See `Predictions`."""
        super().require_alike(other)
        if isinstance(other, ClassesAndNumbers):
            self.values.require_alike(other.values)

    def require_same(self, other) -> None:
        """See `Predictions`."""
        super().require_same(other)
        if isinstance(other, ClassesAndNumbers):
            self.values.require_same(other.values)
