"""What decides the results of a run: flags, data, initial weights.

It is kept with the run, as plain values, so that nothing else goes on in its directory. Data and
weights are known by what they hold, not by where they are: moved folders go on.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from svfap import models
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.labels.frame_labels import FrameLabels
from svfap.engine.flags.config import TABLES
from svfap.engine.flags.flag import FINETUNING, PRETRAINING, SAME, Flags
from svfap.models.weights.hub import SourceError, locate
from svfap.models.weights.loading import named_tensors

# Flags of runs begun before there were digests, which had only names to go by.
NAMES = ("data_path", "eval_data_path", "finetune", "descriptor_weights")

# Flags that earlier versions had; a run that was begun with one of them cannot go on.
_GONE = ("short_clip_frames", "short_clip_epochs")


def deciding_flags(flags: Flags, settled: Mapping = MappingProxyType({})) -> dict:
    """Values of the flags that have to stay; those in `settled` were left open."""
    stage = FINETUNING if hasattr(flags, "finetune") else PRETRAINING
    rows, values = TABLES[stage].by_name, {**vars(flags), **settled}
    return plain({name: values[name] for name in rows if rows[name].goes_on == SAME})


def describe_data(annotations: Annotations) -> dict:
    """What a list of videos holds, in its order: how many, and a digest of ids and labels.

    Folders that all ids share are left out of it, so that it outlives a move.
    """
    ids = list(annotations.ids)
    shared = os.path.commonprefix([min(ids), max(ids)]).rfind("/") + 1
    digest = hashlib.sha256(b"\n".join(os.fsencode(name[shared:]) for name in ids))
    labels = annotations.labels
    columns = [labels.lengths, labels.values] if isinstance(labels, FrameLabels) else [labels]
    for column in columns:
        column = np.ascontiguousarray(column)
        digest.update(f"{column.dtype}{column.shape}".encode())
        digest.update(column.tobytes())
    return {"file": str(annotations.path), "videos": len(ids), "digest": digest.hexdigest()}


def describe_weights(path: str, before: Mapping | None, *, keys: Sequence[str] = ()) -> dict | None:
    """What a file of weights holds.

    Args:
        path: of a file, or what else `models.weights.hub.locate` takes; "" for none.
        keys: see `models.load_weights`.
        before: what the run that goes on had, if any. A file that is gone since is taken for that,
            as is what can no longer be fetched.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no weights.
    """
    if not path:
        return None
    try:
        located = locate(path)
    except (FileNotFoundError, SourceError):
        if before and path in (before["file"], before.get("named")):
            return dict(before)
        raise
    content = models.read_checkpoint(located.path)
    digest = hashlib.sha256()
    for name, value in sorted(named_tensors(content, located.source, keys=keys).items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
    others = {"named": path, "licence": located.licence} if located.licence else {}
    return {"file": located.source, "digest": digest.hexdigest(), **others}


def mixes_clips(model: nn.Module) -> bool:
    """Whether the model's own attention or experts look at all clips of a pass."""
    return getattr(getattr(model, "encoder", model), "mixes_clips", False)


def clips_together(model: nn.Module, num_samples: int, *, compared: bool = False) -> int | None:
    """How many of the samples of a pass decide about each other; None where each is by itself."""
    has_batch_norm = any(isinstance(part, _BatchNorm) for part in model.modules())
    return num_samples if compared or has_batch_norm or mixes_clips(model) else None


def describe_texts(texts: Iterable[str]) -> str:
    """Digest of texts in their order."""
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogateescape")).hexdigest()


def plain(value: object) -> object:
    """The value as JSON gives it back."""
    return json.loads(json.dumps(value, default=str))


def differences(before: Mapping, now: Mapping, named: Mapping[str, str | None]) -> list[str]:
    """What is not as it was, in words.

    Args:
        before: origin of the run that is there, or only its `flags`, as earlier versions kept them.
        named: flags of `NAMES` of the run that wants to go on.
    """
    values = before.get("flags", {})
    found = [
        f"--{name} was {values[name]}, is {value}"
        for name, value in sorted(now["flags"].items())
        if name in values and values[name] != value
    ]
    found += [f"--{name} was {values[name]}, and is gone" for name in _GONE if values.get(name)]
    if "data" not in before:
        return found + [
            f"--{name} was {values[name]}, is {new}, and this run has no digest of what it was"
            for name, new in named.items()
            if name in values and _absolute(values[name]) != _absolute(new)
        ]
    return found + data_differences(before, now) + _other_facts(before, now)


def data_differences(before: Mapping, now: Mapping) -> list[str]:
    """Which lists of videos are not as they were, in words."""
    found = []
    for part in sorted(before.get("data", {}).keys() | now["data"].keys()):
        old, new = before["data"].get(part), now["data"].get(part)
        if old and new and old["digest"] != new["digest"]:
            same = old["videos"] == new["videos"]
            found.append(
                f"{part} was {_list(old)}, is {_list(new)}" + ": other ids or labels" * same
            )
        elif part in _ALWAYS and (old is None) != (new is None):
            found.append(f"{part} was {_list(old)}, is {_list(new)}")
    return found


# Parts whose presence decides something; a probe may come and go.
_ALWAYS = ("train", "val", "test")


def _list(part: Mapping | None) -> str:
    return f"{part['videos']} videos of {part['file']}" if part else "none"


def _other_facts(before: Mapping, now: Mapping) -> list[str]:
    found, begins = [], "--finetune" if "labels" in now else "--start_from"
    for what, flag in (("weights", begins), ("descriptor", "--descriptor_weights")):
        old, new = before.get(what), now.get(what)
        if what in before and (old and old["digest"]) != (new and new["digest"]):
            names = [part["file"] if part else "none" for part in (old, new)]
            same = names[0] == names[1]
            found.append(f"{flag} was {names[0]}, is {names[1]}" + ": other weights" * same)
    for what, words in (
        ("model", "the model"),
        ("labels", "the label names"),
        ("together", "--batch_size x processes, what batch norm and contrastive learning see,"),
    ):  # fmt: skip
        old, new = _short(before.get(what), now.get(what))
        if what in before and old != new:
            found.append(f"{words} was {old}, is {new}")
    return found


def _short(old: object, new: object) -> tuple[object, object]:
    """Of two mappings only what differs; other versions may know more or fewer facts."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return old, new
    names = [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    return tuple({name: values[name] for name in names} for values in (old, new))


def _absolute(path: str | None) -> str:
    return os.path.realpath(path) if path else ""
