"""Load weights from our checkpoints, the released ones, or safetensors; never arbitrary pickles."""

import argparse
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn

_CONTAINERS = ("model", "module", "state_dict")
_WRAPPERS = ("module.", "_orig_mod.")
_HEAD = ("head.",)
_NEW_AFTER_PRETRAINING = ("head.", "fc_norm.")
_LISTED = 6
# What `models.convert` writes into the header of a safetensors file, each as JSON.
HEADER_FACTS = ("model_config", "class_names", "task", "heads", "flags")


@dataclass
class LoadReport:
    """What `load_weights` did.

    Attributes:
        source: path of the file, or "dict".
        loaded: parameters of the model that were set.
        missing: parameters that the source should have had but has not.
        unexpected: names in the source that the model does not have.
        mismatched: (name, shape in the source, shape in the model).
        new: parameters that keep their fresh values as expected: a new head and, after
            pre-training, its norm.
        unused: names of a source that the model has no use for: decoder, mask token and the
            encoder's last norm of pre-training, the classifier of an image backbone.
        resized: parameters interpolated from another clip size.
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing differs but a new head."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} parameters loaded"]
        for kind in ("missing", "unexpected", "new", "unused", "resized"):
            if names := getattr(self, kind):
                lines.append(f"  {kind} ({len(names)}): {_listed(names)}")
        if self.mismatched:
            shapes = [
                f"{name} {theirs} in file, {ours} in model"
                for name, theirs, ours in self.mismatched
            ]
            lines.append(f"  mis-shaped ({len(shapes)}): {_listed(shapes)}")
        return "\n".join(lines)


def load_weights(model: nn.Module, source: str | Path | Mapping, strict: bool = True) -> LoadReport:
    """Set a model's parameters from a checkpoint.

    Names may carry the prefixes of data-parallel or compiled models. Pre-training weights go into
    a fine-tuning model by themselves: the encoder's are taken, the decoder's left out; head and
    fc_norm are new. A head of another number of classes is new as well.

    Args:
        model: a model of `create_model`; changed in place, unless an error is raised.
        source: path of a .pth or .safetensors file, or a dict: the names and tensors themselves or
            a checkpoint that has them under "model", "module" or "state_dict".
        strict: raise if anything but a new head is missing, unexpected or mis-shaped; otherwise
            only report it.

    Returns:
        What was loaded and what was not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights (HTML page, broken, unsafe pickle, no tensors), or
            (strict) they do not fit.
    """
    named = isinstance(source, (str, Path))
    content = read_checkpoint(source) if named else source
    entries = named_tensors(content, str(source) if named else "dict")
    config = content.get("model_config") if isinstance(content, Mapping) else None
    model = getattr(model, "_orig_mod", model)
    model = getattr(model, "module", model)
    report = LoadReport(source=str(source) if named else "dict")
    if strict:
        _check_same_input(config, getattr(model, "config", {}))
    if hasattr(model, "own_names"):
        entries, report.unused = model.own_names(entries)
    from_pretraining = _take_encoder(entries, model, report)
    accepted = _match(entries, model, report, from_pretraining, config)
    if strict and not report.ok:
        name = getattr(model, "config", {}).get("name", type(model).__name__)
        raise ValueError(
            f"these weights do not fit {name}:\n{report}\nBuild the model with the sizes they "
            "were trained with (model name, stage_depths, embed_dim, num_bottleneck_tokens, ...), "
            "or pass strict=False to load what fits."
        )
    model.load_state_dict(accepted, strict=False)
    return report


def _check_same_input(theirs: Mapping | None, ours: Mapping) -> None:
    """Raise ValueError if weights were trained on inputs prepared in another way."""
    key = "standardise_clip"
    if theirs and bool(theirs.get(key)) != bool(ours.get(key)):
        raise ValueError(
            f"these weights were trained with {key}={bool(theirs.get(key))}, the model has "
            f"{bool(ours.get(key))}: build it with the same ({'add' if theirs.get(key) else 'drop'}"
            f" the flag --{key}), or pass strict=False."
        )


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint file without executing anything in it.

    Args:
        path: .safetensors, or a file of `torch.save` (any ending).

    Returns:
        What the file holds; tensors are on the CPU. Of a safetensors file: its tensors, and if
        `models.convert` wrote it they are under "model", beside what its header says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a checkpoint: HTML page, Git LFS pointer, empty, cut off, or a pickle with
            anything but tensors, plain containers and argparse.Namespace.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}: give the path of a .pth or .safetensors file."
        )
    check_is_binary(path)
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was refused, nothing in it was executed: it is damaged, or holds Python "
            "objects other than tensors, plain containers and argparse.Namespace. Fetch it again, "
            f"or get a file whose weights are plain tensors. ({_first_line(error)})"
        ) from error
    except Exception as error:  # on damaged bytes the readers fail in many ways
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is not a readable checkpoint, probably cut "
            f"off. Fetch it again and compare its size or checksum. ({_first_line(error)})"
        ) from error


def _read_safetensors(path: Path) -> dict:
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        header = file.metadata() or {}
    facts = {name: json.loads(header[name]) for name in HEADER_FACTS if name in header}
    return {"model": tensors, **facts} if facts else tensors


def check_is_binary(path: Path) -> None:
    """Raise ValueError for an empty file, an HTML page or a Git LFS pointer."""
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise ValueError(f"{path} is empty. Fetch it again.")
    if start[:1] == b"<":
        raise ValueError(
            f"{path} is an HTML page, not weights: the download link led to a log-in, expiry or "
            "warning page. Open the link in a browser, or get the file from another place."
        )
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, not weights. Run `git lfs pull` there.")


def named_tensors(checkpoint: object, source: str) -> dict[str, Tensor]:
    """The named tensors inside a checkpoint, without the prefixes of wrappers.

    Args:
        checkpoint: what `read_checkpoint` returned.
        source: what messages call it.

    Raises:
        ValueError: there are none.
    """
    for _ in _CONTAINERS:
        for key in _CONTAINERS:
            if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
                checkpoint = checkpoint[key]
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{source} holds a {type(checkpoint).__name__}, not named tensors.")
    entries = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
    if not entries:
        raise ValueError(
            f"{source} holds no tensors at the top or under {', '.join(_CONTAINERS)}; its keys: "
            f"{_listed([str(key) for key in checkpoint])}."
        )
    while any(all(name.startswith(prefix) for name in entries) for prefix in _WRAPPERS):
        entries = {name.split(".", 1)[1]: value for name, value in entries.items()}
    return entries


def _take_encoder(entries: dict[str, Tensor], model: nn.Module, report: LoadReport) -> bool:
    """Reduce pre-training entries to what a fine-tuning model takes; True if they were such."""
    ours = model.state_dict()
    if any(name.startswith("encoder.") for name in ours):
        return False
    prefix = "encoder." if any(name.startswith("encoder.") for name in entries) else ""
    if not prefix and ("norm.weight" not in entries or "fc_norm.weight" in entries):
        return False
    for name in list(entries):
        value = entries.pop(name)
        inner = name.removeprefix(prefix)
        if not name.startswith(prefix) or inner.startswith("norm."):
            report.unused.append(name)
        else:
            entries[inner] = value
    return True


def _match(
    entries: dict[str, Tensor],
    model: nn.Module,
    report: LoadReport,
    from_pretraining: bool,
    config: Mapping | None,
) -> dict[str, Tensor]:
    """Sort names into the report and return the entries that fit."""
    ours = model.state_dict()
    may_be_new = _NEW_AFTER_PRETRAINING if from_pretraining else _HEAD
    report.unexpected += [name for name in entries if name not in ours]
    accepted = {}
    for name, own in ours.items():
        value = entries.get(name)
        if value is not None and value.shape != own.shape:
            value = _resized(model, name, value, report, config)
        if value is None and name.startswith(may_be_new):
            report.new.append(name)
        elif value is None and name in entries:
            report.mismatched.append((name, tuple(entries[name].shape), tuple(own.shape)))
        elif value is None:
            report.missing.append(name)
        else:
            accepted[name] = value
            report.loaded.append(name)
    return accepted


def _resized(
    model: nn.Module, name: str, value: Tensor, report: LoadReport, config: Mapping | None
) -> Tensor | None:
    encoder = getattr(model, "encoder", model)
    if not hasattr(encoder, "resized"):
        return None
    value = encoder.resized(name.removeprefix("encoder."), value, config)
    if value is not None:
        report.resized.append(name)
    return value


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
