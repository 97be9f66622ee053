"""`classes.json` beside the annotation files of a fold: the task and the names behind the labels.

Every preparation command writes one, so that a data set of one's own is described as completely
as those of the catalogue.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from svfap.datasets.files import read_json, write_text
from svfap.datasets.labels.kinds import KINDS, UNNAMED, Column, LabelKind

FILE_NAME = "classes.json"


@dataclass(frozen=True, kw_only=True)
class LabelNames:
    """What the labels of an annotation file mean."""

    task: str  # one of `datasets.labels.kinds.KINDS`
    # in label order; names of the dimensions in regression, where each frame has its labels also
    # those of the arrays; of the heads in multihead; of the head and then of the dimensions in
    # class_and_values
    class_names: tuple[str, ...]
    # class names of each of the `class_names` that stand for a class of their own
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    data_set: str = "custom"  # name of the data set, "custom" for one's own

    @classmethod
    def of_numbers(cls, count: int) -> "LabelNames":
        """Of labels of which nothing is known but how many there are: 0, 1, ..."""
        return cls(task=UNNAMED, class_names=tuple(map(str, range(count))))

    @property
    def kind(self) -> LabelKind:
        """What the labels are."""
        return KINDS[self.task]

    @property
    def columns(self) -> list[Column]:
        """What stands behind the path."""
        return self.kind.columns(self.class_names, self.heads)

    @property
    def output_names(self) -> tuple[str, ...]:
        """A name for each output of a model: <head>_<class> of heads, then `class_names`."""
        of_heads = [f"{head}_{name}" for head, names in self.heads.items() for name in names]
        return (*of_heads, *(name for name in self.class_names if name not in self.heads))

    @property
    def meaning(self) -> tuple:
        """All but whose labels they are, to be compared."""
        return self.task, self.class_names, {head: tuple(own) for head, own in self.heads.items()}

    @property
    def numbered(self) -> bool:
        """Whether the names are mere numbers, so that nothing is known of what they mean."""
        return not self.heads and self.class_names == tuple(map(str, range(len(self.class_names))))

    def __post_init__(self) -> None:
        if self.task not in KINDS:
            raise ValueError(f"task {self.task!r}: choose {', '.join(KINDS)}")
        if not self.class_names or not all(
            isinstance(name, str) and name.strip() for name in self.class_names
        ):
            raise ValueError(f"class names {list(self.class_names)}: give at least one, none empty")
        repeated = {name for name in self.class_names if self.class_names.count(name) > 1}
        if repeated:
            raise ValueError(f"class names repeat: {', '.join(sorted(repeated))}")
        if len(self.class_names) < self.kind.fewest_names:
            raise ValueError(
                f"names {list(self.class_names)}: {self.task} has at least {self.kind.fewest_names}"
            )
        headed = list(self.class_names[self.kind.headed])
        if list(self.heads) != headed:
            raise ValueError(
                f"heads {list(self.heads)}: with task {self.task!r} and names "
                f"{list(self.class_names)} there must be {headed or 'none'}"
            )
        unclear = [
            f"{head}_{name} ({head}) and {other}_... ({other})"
            for head, names in self.heads.items()
            for name in names
            for other in self.heads
            if len(other) > len(head) and f"{head}_{name}".startswith(f"{other}_")
        ]
        if unclear:
            raise ValueError(f"columns named alike, rename a class or head: {'; '.join(unclear)}")


def write_classes(folder: str | os.PathLike, names: LabelNames) -> Path:
    """Write `classes.json` into the folder of a fold, completely or not at all."""
    content = {
        "task": names.task,
        "class_names": list(names.class_names),
        "data_set": names.data_set,
    }
    if names.heads:
        content["heads"] = {head: list(classes) for head, classes in names.heads.items()}
    path = Path(folder) / FILE_NAME
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text)
    return path


def read_classes(folder: str | os.PathLike) -> LabelNames | None:
    """Read `classes.json` of a fold's folder; None where there is none."""
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        return LabelNames(
            task=content["task"],
            class_names=_names(content["class_names"]),
            heads={str(head): _names(c) for head, c in content.get("heads", {}).items()},
            data_set=str(content.get("data_set", "custom")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path}: {error}; expected {{"task": "classification", "class_names": ["...", ...]}}'
        ) from error


def _names(value: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{value!r} is not a list of names")
    return tuple(value)
