"""Predictions of a class, and of a class for each of several heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from svfap.engine.results.kinds.base import Predictions, Summands, checked_scores, numbered
from svfap.engine.results.kinds.table import NAMED_COLUMNS, PredictionTable
from svfap.engine.results.metrics import (
    HEADLINE_METRICS,
    classification_from_counts,
    classification_metrics,
)


@dataclass(frozen=True, kw_only=True)
class Classes(Predictions):
    """A class per video: labels (n,) int64; `names` are the classes."""

    header = "id,label,pred[,prob_<class>...]"
    guess_is = "most frequent training class"
    endings = ("",)

    @classmethod
    def from_scores(cls, ids, labels, scores, names: Sequence[str] | None = None) -> "Classes":
        """The most probable classes, from (n, C) probabilities, which must be finite.

        Raises:
            ValueError: a score is not finite.
        """
        scores = checked_scores(scores)
        return cls(
            ids=ids,
            labels=np.asarray(labels).astype(np.int64),
            predicted=scores.argmax(axis=1),
            scores=scores,
            names=numbered(names, scores.shape[1]),
        )

    @property
    def num_classes(self) -> int:
        """How many classes there are, as far as that is known."""
        if self.names is not None:
            return len(self.names)
        return int(max(self.labels.max(), self.predicted.max())) + 1

    @property
    def chance(self) -> float:
        """See `Predictions`."""
        return 1 / (len(np.unique(self.labels)) if self.names is None else len(self.names))

    @property
    def right(self) -> np.ndarray:
        """See `Predictions`."""
        return self.predicted == self.labels

    @property
    def shares(self) -> dict[str, np.ndarray]:
        """See `Predictions`."""
        everything = np.ones(len(self), dtype=bool)
        recalls = {f"recall_{index}": self.labels == index for index in np.unique(self.labels)}
        return {"war": everything, "micro_f1": everything, **recalls}

    @property
    def score_names(self) -> list[str]:
        """The classes."""
        return numbered(self.names, self.num_classes)

    def columns(self) -> dict[str, np.ndarray]:
        """See `Predictions`; the last two say `label` and `pred` by name."""
        found = super().columns()
        if self.names is None:
            return found
        names = np.array(self.names)
        return found | dict(zip(NAMED_COLUMNS, (names[self.labels], names[self.predicted])))

    def metrics(self) -> dict:
        """See `classification_metrics`."""
        return classification_metrics(self.labels, self.predicted, self.names)

    @classmethod
    def summands(cls, systems) -> list[Summands]:
        """Cells of the confusion matrix."""
        size = max(own.num_classes for own in systems)
        cells = [own.labels * size + own.predicted for own in systems]
        rows = [np.eye(size**2)[cell] for cell in cells]
        return [
            Summands(
                rows, lambda sums: classification_from_counts(sums.reshape(-1, size, size)), cells
            )
        ]

    @staticmethod
    def guess(labels) -> np.ndarray:
        """The most frequent class, the first of equally frequent ones."""
        return np.bincount(labels.astype(np.int64)).argmax()

    def sections(self, page, title="") -> list[str]:
        """Confusion, recall and what is taken for what."""
        return page.classes(self, title)

    @classmethod
    def recognises(cls, table) -> bool:
        """A label or prediction without a name."""
        return not {"label", "pred"}.isdisjoint(table.header)

    @classmethod
    def fields(cls, table, names) -> dict:
        """Names may be known from elsewhere, where there are no probabilities."""
        found = table.after("prob_")
        if names and found and list(names) != found:
            table.problems.append(f"line 1: classes {found}, expected {list(names)}")
        names = found or names
        given = [name for name in table.header if name.startswith(("label", "pred"))]
        if sorted(given) != ["label", "pred"]:
            table.problems.append(f"line 1: columns {given}, expected 'label' and 'pred'")
            table.check()
        return {
            "labels": table.classes("label", names),
            "predicted": table.classes("pred", names),
            "scores": table.numbers([f"prob_{name}" for name in found]) if found else None,
            "names": names,
        }


@dataclass(frozen=True, kw_only=True)
class ClassesOfHeads(Predictions):
    """A class per video and head: labels (n, H) int64; `names` are the heads.

    Args:
        heads: class names of each head; scores are those of all heads, side by side.
    """

    header = "id,label_<head>...,pred_<head>...,prob_<head>_<class>..."
    guess_is = Classes.guess_is

    heads: Mapping[str, Sequence[str]]

    @classmethod
    def from_scores(cls, ids, labels, scores, heads: Mapping) -> "ClassesOfHeads":
        """The most probable class of each head; scores must be finite.

        Raises:
            ValueError: a score is not finite.
        """
        scores = checked_scores(scores)
        return cls(
            ids=ids,
            labels=np.asarray(labels).astype(np.int64),
            predicted=np.stack([own.argmax(axis=1) for own in split_heads(scores, heads)], axis=1),
            scores=scores,
            names=list(heads),
            heads=heads,
        )

    @property
    def chance(self) -> float:
        """The mean over the heads."""
        return float(np.mean([own.chance for own in self.parts().values()]))

    @property
    def score_names(self) -> list[str]:
        """<head>_<class>."""
        return [f"{head}_{name}" for head, names in self.heads.items() for name in names]

    def parts(self) -> dict[str, Predictions]:
        """The heads, each a classification."""
        scores = [None] * len(self.heads)
        if self.scores is not None:
            scores = split_heads(self.scores, self.heads)
        columns = zip(self.labels.T, self.predicted.T, scores, strict=True)
        return {
            head: Classes(
                ids=self.ids, labels=own, predicted=predicted, scores=part, names=list(names)
            )
            for (head, names), (own, predicted, part) in zip(self.heads.items(), columns)
        }

    def columns(self) -> dict[str, np.ndarray]:
        """See `Predictions`; the last two of each head say its label and prediction by name."""
        own = {head: part.columns() for head, part in self.parts().items()}
        return super().columns() | {
            f"{column}_{head}": columns[column]
            for head, columns in own.items()
            for column in NAMED_COLUMNS
        }

    def metrics(self) -> dict:
        """Means over the heads, and all metrics of each."""
        per_head = {head: own.metrics() for head, own in self.parts().items()}
        means = {
            name: float(np.mean([own[name] for own in per_head.values()]))
            for name in HEADLINE_METRICS
        }
        absent = [
            f"{head}: {name}" for head, own in per_head.items() for name in own["absent_classes"]
        ]
        heads = {head: list(names) for head, names in self.heads.items()}
        return {
            **means, "per_head": per_head, "heads": heads, "absent_classes": absent,
            "num_videos": len(self),
        }  # fmt: skip

    @classmethod
    def summands(cls, systems) -> list[Summands]:
        """Those of the heads side by side; the metrics are their means."""
        of_heads = [Classes.summands(own)[0] for own in zip(*(s.parts().values() for s in systems))]
        ends = np.cumsum([part.rows[0].shape[1] for part in of_heads])[:-1]

        def means(sums: np.ndarray) -> dict[str, np.ndarray]:
            blocks = np.split(sums, ends, axis=1)
            found = [part.metrics(block) for part, block in zip(of_heads, blocks)]
            return {
                name: np.mean([own[name] for own in found], axis=0) for name in HEADLINE_METRICS
            }

        rows = [np.concatenate(own, axis=1) for own in zip(*(part.rows for part in of_heads))]
        codes = [code for own in zip(*(part.codes for part in of_heads)) for code in own]
        return [Summands(rows, means, codes)]

    @staticmethod
    def guess(labels) -> np.ndarray:
        """The most frequent class of each head."""
        return np.array([Classes.guess(column) for column in labels.T])

    def constant(self, training_labels) -> "ClassesOfHeads":
        """See `Predictions`; with probabilities, without which files are not told from numbers."""
        constant = super().constant(training_labels)
        columns = zip(self.heads.values(), constant.predicted.T)
        certain = [np.eye(len(names))[predicted] for names, predicted in columns]
        return replace(constant, scores=np.concatenate(certain, axis=1))

    def sections(self, page, title="") -> list[str]:
        """Those of each head."""
        return [text for head, own in self.parts().items() for text in own.sections(page, head)]

    @classmethod
    def recognises(cls, table) -> bool:
        """Probabilities of classes of every label."""
        return bool(_heads(table))

    @classmethod
    def fields(cls, table, names) -> dict:
        """See `Predictions`."""
        heads = _heads(table)
        labels, predicted = (
            np.stack([table.classes(f"{kind}_{h}", c) for h, c in heads.items()], axis=1)
            for kind in ("label", "pred")
        )
        probabilities = [f"prob_{head}_{name}" for head in heads for name in heads[head]]
        scores = table.numbers(probabilities)
        return {
            "labels": labels, "predicted": predicted, "scores": scores, "names": list(heads),
            "heads": heads,
        }  # fmt: skip

    def require_alike(self, other) -> None:
        """See `Predictions`."""
        super().require_alike(other)
        if dict(self.heads) != dict(other.heads):
            raise ValueError(f"heads differ: {self.heads} and {other.heads}.")


def split_heads(scores: np.ndarray, heads: Mapping[str, Sequence[str]]) -> list[np.ndarray]:
    """(n, sum of C) scores to (n, C) of each head."""
    ends = np.cumsum([len(names) for names in heads.values()])
    return np.split(scores, ends[:-1], axis=1)


def _heads(table: PredictionTable) -> dict[str, tuple[str, ...]]:
    """Classes of each head; empty where a probability belongs to none or a head has none."""
    heads: dict[str, list[str]] = {name: [] for name in table.after("label_")}
    for text in table.after("prob_"):
        owners = [name for name in heads if text.startswith(f"{name}_")]
        if not owners:
            return {}
        owner = max(owners, key=len)
        heads[owner].append(text[len(owner) + 1 :])
    return {name: tuple(own) for name, own in heads.items()} if all(heads.values()) else {}
