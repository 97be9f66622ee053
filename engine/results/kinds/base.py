"""What all predictions have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from svfap.engine.results.kinds.table import PREDICTIONS_FILE, PredictionTable
from svfap.engine.results.metrics import require_finite

Metrics = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Summands:
    """What the metrics of resampled videos are computed from: sums over the videos."""

    rows: Sequence[np.ndarray]  # (n, K) summands of each system
    # (R, K) sums of resamples to metric -> (R,), NaN where there is no such value
    metrics: Callable[[np.ndarray], Metrics]
    # (n,) of each system and column of labels; videos that agree in all of them have the same
    # summands
    codes: Sequence[np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said about every video of a test set, or about every frame.

    A kind of predictions is a subclass, named in `engine.results.predictions.KINDS`.

    Args:
        ids: n distinct names of videos, as the annotation file writes them.
        labels: (n, ...) what is true.
        predicted: like `labels`.
        scores: (n, C) probabilities, or None where unknown or not the model's answer.
        names: of the classes, dimensions or heads; None where unknown.
        frames: (n,) frame of the video that a row is about, from 0; None: rows are videos.

    Raises:
        ValueError: lengths that differ, or ids (and frames) that occur twice.
    """

    header: ClassVar[str]  # of the file, for messages
    guess_is: ClassVar[str]  # in words

    ids: Sequence[str]
    labels: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray | None = None
    names: Sequence[str] | None = None
    frames: np.ndarray | None = None

    def __post_init__(self):
        lengths = {"ids": len(self.ids), "labels": len(self.labels), "pred": len(self.predicted)}
        for name in ("scores", "frames"):
            if getattr(self, name) is not None:
                lengths[name] = len(getattr(self, name))
        if len(set(lengths.values())) != 1:
            raise ValueError(f"predictions need one entry per video in every column, not {lengths}")
        keys = self.keys
        if len(set(keys)) != len(keys):
            seen: set = set()
            twice = [key for key in keys if key in seen or seen.add(key)]
            raise ValueError(
                f"{len(twice)} videos occur more than once, such as {twice[:3]}; "
                "every video counts once."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> list:
        """What each row is about: the video, or (video, frame)."""
        if self.frames is None:
            return list(self.ids)
        return list(zip(self.ids, self.frames.tolist(), strict=True))

    @property
    def chance(self) -> float | None:
        """UAR of guessing; None where nothing is guessed among classes."""
        return None

    @property
    def right(self) -> np.ndarray | None:
        """(n,) whether a row is right; None where it can be more or less so."""
        return None

    @property
    def shares(self) -> dict[str, np.ndarray]:
        """Metric -> (n,) bool, of metrics that are the share of these rows that is right."""
        return {}

    @property
    def score_names(self) -> list[str]:
        """Names of the model's outputs."""
        return numbered(self.names, self.labels.shape[1])

    @property
    def endings(self) -> list[str]:
        """What columns of labels and predictions end in: one for each column of `labels`."""
        return [f"_{name}" for name in numbered(self.names, self.labels.shape[1])]

    def metrics(self) -> dict:
        """What metrics.json holds; numbers by the names of `engine.results.metrics.METRICS`."""
        raise NotImplementedError

    def parts(self) -> dict[str, "Predictions"]:
        """Single heads or dimensions by name; empty where there is only one."""
        return {}

    @classmethod
    def summands(cls, systems: Sequence["Predictions"]) -> list[Summands]:
        """For the bootstrap, which draws videos for each entry of the list anew."""
        raise NotImplementedError

    @staticmethod
    def guess(labels: np.ndarray) -> np.ndarray:
        """The best that can be said of any row without looking at it, from (m, ...) labels."""
        raise NotImplementedError

    def constant(self, training_labels: np.ndarray) -> "Predictions":
        """The same answer, `guess`, for every row; ValueError of other dimensions or heads."""
        if training_labels.shape[1:] != self.labels.shape[1:]:
            raise ValueError(
                f"training labels of shape {training_labels.shape} do not belong to predictions "
                f"of labels of shape {self.labels.shape}"
            )
        predicted = np.broadcast_to(self.guess(training_labels), self.labels.shape).copy()
        return replace(self, predicted=predicted, scores=None)

    def sections(self, page: Any, title: str = "") -> list[str]:
        """Parts of a report; `page` is an `engine.report.page.Page`."""
        raise NotImplementedError

    def columns(self) -> dict[str, np.ndarray]:
        """Columns of the file, but for ids and frames: integers or numbers."""
        found = {}
        for kind, values in (("label", self.labels), ("pred", self.predicted)):
            columns = values.reshape(len(self), -1).T
            found |= {f"{kind}{end}": own for end, own in zip(self.endings, columns, strict=True)}
        scores = () if self.scores is None else self.scores.T
        return found | {f"prob_{name}": own for name, own in zip(self.score_names, scores)}

    def files(self) -> dict[str, "Predictions"]:
        """Which file has the columns of which predictions."""
        return {PREDICTIONS_FILE: self}

    @classmethod
    def recognises(cls, table: PredictionTable) -> bool:
        """Whether a file is of this kind."""
        raise NotImplementedError

    @classmethod
    def fields(cls, table: PredictionTable, names: Sequence[str] | None) -> dict[str, Any]:
        """Arguments of the class from a file, but for ids; problems are noted in the table."""
        raise NotImplementedError

    @classmethod
    def read(cls, table: PredictionTable, names: Sequence[str] | None = None) -> "Predictions":
        """Predictions from a file of this kind; PredictionFileError with all of its problems."""
        fields = cls.fields(table, names)
        ids = table.ids()
        table.check(complete=True)
        return cls(ids=ids, **fields)

    def taken(self, rows: np.ndarray) -> "Predictions":
        """Some rows, in the order given."""
        arrays = {"labels", "predicted", "scores", "frames"}
        some = {name: getattr(self, name) for name in arrays if getattr(self, name) is not None}
        own = {name: values[rows] for name, values in some.items()}
        return replace(self, ids=[self.ids[row] for row in rows], **own)

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """All rows of several predictions of this kind; scores only if all have them."""
        arrays = {}
        for name in ("labels", "predicted", "scores", "frames"):
            values = [getattr(part, name) for part in parts]
            arrays[name] = None if any(v is None for v in values) else np.concatenate(values)
        named = [part.names for part in parts if part.names is not None]
        ids = [video for part in parts for video in part.ids]
        return replace(parts[0], ids=ids, names=named[0] if named else None, **arrays)

    def require_alike(self, other: "Predictions") -> None:
        """Refuse predictions of another kind, or of other names; says where they differ.

        Raises:
            ValueError: says where they differ.
        """
        common_kind([self, other])
        named = self.names is not None and other.names is not None
        if named and list(self.names) != list(other.names):
            raise ValueError(f"classes differ: {list(self.names)} and {list(other.names)}.")

    def require_same(self, other: "Predictions") -> None:
        """Likewise other labels of the same rows."""
        self.require_alike(other)
        if self.labels.shape != other.labels.shape:
            raise ValueError("they are of different dimensions.")
        differ = np.flatnonzero((self.labels != other.labels).reshape(len(self), -1).any(axis=1))
        if len(differ):
            listed = [f"{self.ids[i]}: {self.labels[i]} and {other.labels[i]}" for i in differ[:5]]
            more = ", ..." * (len(differ) > 5)
            raise ValueError(
                f"labels disagree for {len(differ)} videos: {', '.join(listed)}{more}."
            )


def common_kind(systems: Sequence[Predictions]) -> type[Predictions]:
    """The kind that all predictions are of; ValueError where there is none."""
    kinds = type(systems[0]).__mro__
    kind = next(kind for kind in kinds if all(isinstance(own, kind) for own in systems))
    if kind is Predictions:
        headers = dict.fromkeys(own.header for own in systems)
        raise ValueError(f"predictions of different kinds: {' and '.join(headers)}.")
    return kind


def checked_scores(scores: np.ndarray) -> np.ndarray:
    """Scores as float64, all finite, or ValueError: no class should follow from others."""
    scores = np.asarray(scores, dtype=np.float64)
    require_finite(scores, "scores")
    return scores


def numbered(names: Sequence[str] | None, count: int) -> list[str]:
    """The names; without any "0", "1", ..."""
    return list(map(str, range(count))) if names is None else list(names)
