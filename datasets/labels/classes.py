"""`classes.json` beside the annotation files of a fold: the task and the names behind the labels.

Every preparation command writes one, so that a data set of one's own is described as completely
as those of the catalogue.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.files import write_text

FILE_NAME = "classes.json"
LABEL_TASKS = (
    "classification",
    "regression",
    "multihead",
    "regression_frames",
    "class_and_values",
)


@dataclass(frozen=True, kw_only=True)
class LabelNames:
    """What the labels of an annotation file mean.

    Attributes:
        task: "classification" (one whole number per line), "regression" (one number per
            dimension), "multihead" (one whole number per head), "regression_frames" (an npz
            file per line, with an array over frames for each dimension) or "class_and_values" (a
            whole number for the one head, then one number per dimension).
        class_names: in label order; names of the dimensions in regression, where each frame has
            its labels also those of the arrays; of the heads in multihead; of the head and then
            of the dimensions in class_and_values.
        heads: class names of each head, by the names in `class_names`; multihead and
            class_and_values only.
        data_set: name of the data set, "custom" for one's own.
    """

    task: str
    class_names: tuple[str, ...]
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    data_set: str = "custom"

    @property
    def output_names(self) -> tuple[str, ...]:
        """A name for each output of a model: <head>_<class> of heads, then `class_names`."""
        of_heads = [f"{head}_{name}" for head, names in self.heads.items() for name in names]
        return (*of_heads, *(name for name in self.class_names if name not in self.heads))

    def __post_init__(self) -> None:
        if self.task not in LABEL_TASKS:
            raise ValueError(f"task {self.task!r}: choose {', '.join(LABEL_TASKS)}")
        if not self.class_names or not all(
            isinstance(name, str) and name.strip() for name in self.class_names
        ):
            raise ValueError(f"class names {list(self.class_names)}: give at least one, none empty")
        repeated = {name for name in self.class_names if self.class_names.count(name) > 1}
        if repeated:
            raise ValueError(f"class names repeat: {', '.join(sorted(repeated))}")
        allowed = {"multihead": self.class_names, "class_and_values": self.class_names[:1]}
        if tuple(self.heads) != allowed.get(self.task, ()):
            raise ValueError(
                f"heads {list(self.heads)} with task {self.task!r} and names "
                f"{list(self.class_names)}: multihead needs one entry per name, class_and_values "
                "one for the first name, and no other task has heads"
            )
        if self.task == "class_and_values" and len(self.class_names) < 2:
            raise ValueError(f"names {list(self.class_names)}: no dimension besides the head")
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
    """Read `classes.json` of a fold's folder; None where there is none.

    Raises:
        ValueError: the file is not what `write_classes` writes.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
