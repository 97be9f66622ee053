"""Labels of one data set in the terms of another: what is called the same is the same."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.labels.frame_labels import FrameLabels
from svfap.datasets.labels.splits import take_rows

LEFT_OUT = "-"  # in a mapping: videos of this class are left out


def relabel(
    annotations: Annotations,
    theirs: LabelNames,
    ours: LabelNames,
    mapping: Mapping[str, str] | None = None,
) -> Annotations:
    """Say labels with other names, matched by name whatever their order.

    Names are the same that differ in capitals only. Every class and column of the annotations needs
    a counterpart, as does every column (but not every class) of `ours`.

    Args:
        annotations: with labels as `theirs` says.
        ours: what the labels of the result mean.
        mapping: counterparts by name, for names that differ; `LEFT_OUT` leaves the videos of a
            class out, or a column.

    Returns:
        The same videos, without those that are left out.

    Raises:
        ValueError: labels of other kinds, or names without a counterpart; shows both lists.
    """
    mapping = mapping or {}
    _check_mapping(mapping, theirs, ours)
    if theirs.task != ours.task:
        raise _refusal(annotations.path, theirs, ours, "these are labels of another kind")
    there, wanted = theirs.columns, ours.columns
    names = [column.name for column in there], [column.name for column in wanted]
    places = _match(*names, mapping, annotations.path, theirs, ours)
    absent = [name for place, name in enumerate(names[1]) if place not in places]
    if absent:
        raise _refusal(annotations.path, theirs, ours, f"nothing for {', '.join(absent)}")
    order = [places.index(place) for place in range(len(wanted))]
    labels = annotations.labels
    if isinstance(labels, FrameLabels):
        return replace(annotations, labels=FrameLabels(labels.values[:, order], labels.lengths))
    labels = (labels[:, None] if labels.ndim == 1 else labels)[:, order]
    for column, (their, our) in enumerate(zip((there[i] for i in order), wanted, strict=True)):
        if their.classes is not None:
            found = _match(their.classes, our.classes, mapping, annotations.path, theirs, ours)
            labels[:, column] = np.array(found)[labels[:, column].astype(np.int64)]
    headed = [column for column, our in enumerate(wanted) if our.classes is not None]
    kept = np.flatnonzero((labels[:, headed] >= 0).all(axis=1))
    if not len(kept):
        raise _refusal(annotations.path, theirs, ours, "every video is left out")
    labels = labels[:, 0] if ours.kind.one_class else labels
    return take_rows(replace(annotations, labels=labels), kept.tolist())


def read_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """A mapping from texts "theirs=ours".

    Raises:
        ValueError: a text is none, or names something twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        name, equals, counterpart = pair.partition("=")
        if not (name and equals and counterpart) or name in mapping:
            raise ValueError(
                f"{pair!r}: write THEIRS=OURS, each of theirs once, or THEIRS={LEFT_OUT} to leave "
                "it out"
            )
        mapping[name] = counterpart
    return mapping


def _match(
    theirs: Sequence[str],
    ours: Sequence[str],
    mapping: Mapping[str, str],
    path: str,
    *both: LabelNames,
) -> list[int]:
    """The place in `ours` of each of `theirs`, -1 of what is left out."""
    places = {name: place for place, name in reversed(list(enumerate(ours)))}
    plain = {name.casefold(): place for name, place in places.items()}
    places = {**plain, **places, LEFT_OUT: places.get(LEFT_OUT, -1)}
    named = [mapping.get(name, name) for name in theirs]
    found = [places.get(name, places.get(name.casefold())) for name in named]
    unmatched = [name for name, place in zip(theirs, found) if place is None]
    if unmatched:
        raise _refusal(path, *both, f"no counterpart for {', '.join(unmatched)}")
    return found


def _check_mapping(mapping: Mapping[str, str], theirs: LabelNames, ours: LabelNames) -> None:
    for names, labels in ((mapping.keys(), theirs), (set(mapping.values()) - {LEFT_OUT}, ours)):
        known = [n for c in labels.columns for n in (c.name, *(c.classes or ()))]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(
                f"--map_classes: no {', '.join(unknown)} among {', '.join(labels.output_names)}"
            )


def _refusal(path: str, theirs: LabelNames, ours: LabelNames, why: str) -> ValueError:
    return ValueError(
        f"{path} has labels {', '.join(theirs.output_names)} ({theirs.task}), the model answers "
        f"{', '.join(ours.output_names)} ({ours.task}): {why}. What means the same under two names "
        f"can be told, --map_classes THEIRS=OURS ...; THEIRS={LEFT_OUT} leaves videos out"
    )
