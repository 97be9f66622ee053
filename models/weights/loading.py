"""Put weights into models: from our checkpoints, the released ones, or safetensors."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from svfap.models.weights.formats import (
    Preprocessing,
    convert_names,
    described_normalisation,
    normalisation_of,
    renormalisation,
    renormalised,
)
from svfap.models.weights.hub import Located, locate
from svfap.models.weights.weight_file import CHOSEN, read_described

_CONTAINERS = ("model", "module", "state_dict", "model_ema")
_WRAPPERS = ("module.", "_orig_mod.")
_HEAD = ("head.",)
_NEW_AFTER_PRETRAINING = ("head.", "fc_norm.")
_LISTED = 6
# What may differ between the model that weights come from and the one they go into: sizes that are
# interpolated, the head, what matters in training only, what shows in shapes and has two spellings.
_MAY_DIFFER = {
    *("name", "img_size", "num_frames", "drop_path_rate", "num_classes", "head_activation"),
    *("keep_temporal_dim", "num_bottleneck_tokens", "position_grid", "mean", "std", "head_norm"),
}
_OF_PRETRAINING = {"restore_order", "encoder_norm"}
_OF_FINE_TUNING = {"pooled_tokens", "stats_mode"}


@dataclass
class LoadReport:
    """What `load_weights` did.

    Attributes:
        source: path of the file, hf:// with commit and file, or "dict".
        licence: of weights of others, in words; None of the user's own.
        loaded: parameters of the model that were set.
        missing: parameters that the source should have had but has not.
        unexpected: names in the source that the model does not have.
        mismatched: (name, shape in the source, shape in the model).
        new: parameters that keep their fresh values as expected: a new head and, after
            pre-training, its norm.
        unused: names of a source that the model has no use for: decoder, mask token and the
            encoder's last norm of pre-training, the classifier of an image backbone.
        resized: parameters interpolated from another clip size.
        preprocessing: what clips the weights were trained with; of `open_weights` only.
    """

    source: str
    licence: str | None = None
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    preprocessing: Preprocessing | None = None

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
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines + [f"  licence: {self.licence}"] * bool(self.licence))


def load_weights(
    model: nn.Module,
    source: str | Path | Mapping,
    strict: bool = True,
    *,
    keys: Sequence[str] = (),
    prefix: str = "",
    called: str | None = None,
) -> LoadReport:
    """Set a model's parameters from a checkpoint.

    Of a checkpoint of ours it takes the weights that were chosen, which are the averaged ones where
    the scores of the file are of these.

    Files of others whose models are known (docs/public_weights.md) are brought under our names and
    to the model's normalisation of clips, which is ImageNet's unless its config says otherwise.

    Names may carry the prefixes of data-parallel or compiled models. Pre-training weights go into
    a fine-tuning model by themselves: the encoder's are taken, the decoder's left out; head and
    fc_norm are new. A head of another number of classes is new as well, and so are head and norm
    where `head_norm` is another one.

    Args:
        model: a model of `create_model`; changed in place, unless an error is raised.
        source: path of a .pth or .safetensors file, hf://owner/repo or a name of a catalogue (see
            `models.weights.hub.locate`), or a dict: the names and tensors themselves or a
            checkpoint that has them under "model", "module" or "state_dict".
        strict: raise if anything but a new head is missing, unexpected or mis-shaped, or if the
            file says that its model computes something else; otherwise only report it.
        keys: where in the checkpoint the weights are: the first of these that it has.
        prefix: take the entries whose names begin so, without it.
        called: name of a dict for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights (HTML page, broken, unsafe pickle, no tensors), or
            some that are not finite, or (strict) they do not fit.
    """
    named = isinstance(source, (str, Path))
    located = locate(source) if named else Located(path=Path(), source="dict")
    content = read_described(located.path) if named else source
    report = LoadReport(source=called or located.source, licence=located.licence)
    entries = named_tensors(content, report.source, keys=keys)
    if prefix:
        entries, report.unused = below(prefix, entries, report.source)
    config = content.get("model_config") if isinstance(content, Mapping) else None
    model = getattr(model, "_orig_mod", model)
    model = getattr(model, "module", model)
    entries = _as_ours(entries, content, model, report)
    if hasattr(model, "own_names"):
        entries, left_out = model.own_names(entries)
        report.unused += left_out
    from_pretraining = _take_encoder(entries, model, report)
    from_pretraining |= _leave_other_head(entries, model, report)
    accepted = _match(entries, model, report, from_pretraining, config)
    if strict and not report.ok:
        name = getattr(model, "config", {}).get("name", type(model).__name__)
        raise ValueError(
            f"these weights do not fit {name}:\n{report}\nBuild the model with the sizes they "
            "were trained with (model name, stage_depths, embed_dim, num_bottleneck_tokens, ...), "
            "or leave the file out; in Python load_weights(..., strict=False) loads what fits."
        )
    if strict:
        check_same_model(_stated_config(content), getattr(model, "config", {}), report.source)
    require_finite(accepted, report.source)
    model.load_state_dict(accepted, strict=False)
    return report


def _as_ours(
    entries: dict[str, Tensor], content: Mapping, model: nn.Module, report: LoadReport
) -> dict[str, Tensor]:
    """Entries under our names, for clips normalised as the model takes them."""
    if config := content.get("model_config"):
        theirs = normalisation_of(config)
    else:
        converted = convert_names(entries, report.source)
        entries, theirs = converted.entries, described_normalisation(content, converted.format)
        report.unused += converted.unused
        report.notes += converted.notes
    ours = normalisation_of(getattr(model, "config", {}))
    report.notes += [note] if (note := renormalisation(theirs, ours)) else []
    return renormalised(entries, theirs, ours)


def require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError if some weight is NaN or infinite."""
    values = {
        n: value for n, value in tensors.items() if value.is_floating_point() and value.numel()
    }
    if not values:
        return
    ends = [torch.stack(value.aminmax()) for value in values.values()]  # NaN is both
    finite = torch.stack([end.isfinite().all() for end in ends])
    bad = [name for name, is_finite in zip(values, finite.tolist()) if not is_finite]
    if bad:
        raise ValueError(f"{source}: NaN or infinite values in {_listed(bad)}; do not use it.")


def _stated_config(content: object) -> dict:
    """What a checkpoint says about its model, as far as `create_model` has names for it."""
    if not isinstance(content, Mapping):
        return {}
    flags = training_flags(content)
    depths = flags.get("stage_depths")
    return content.get("model_config") or ({"stage_depths": list(depths)} if depths else {})


def training_flags(content: Mapping) -> dict:
    """The training flags in a checkpoint, released (a Namespace) or ours; empty without any."""
    flags = content.get("args") or content.get("flags") or {}
    return vars(flags) if isinstance(flags, argparse.Namespace) else dict(flags)


def check_same_model(theirs: Mapping, ours: Mapping, source: str) -> None:
    """Raise ValueError if weights whose shapes fit are those of a model that computes otherwise."""
    if not (theirs and ours):
        return
    theirs = {"standardise_clip": False, **theirs}
    skip = set(_MAY_DIFFER)
    stages = [str(config.get("name", "")).startswith("pretrain_") for config in (theirs, ours)]
    skip |= set() if all(stages) else _OF_PRETRAINING
    skip |= _OF_FINE_TUNING if any(stages) else set()
    sizes = ("img_size", "num_frames", "patch_size", "tubelet_size")
    if any(theirs.get(size) != ours.get(size) for size in sizes):
        skip.add("region_size")  # follows the size of the clips
    differ = [
        (key, theirs[key], ours[key])
        for key in sorted(theirs.keys() & ours.keys() - skip)
        if theirs[key] != ours[key]
    ]
    backbones = [_backbone(config) for config in (theirs, ours)]
    if all(backbones) and backbones[0] != backbones[1]:
        differ.insert(0, ("name", *backbones))
    if differ:
        said = "; ".join(f"{key}={value}, the model has {own}" for key, value, own in differ)
        raise ValueError(
            f"{source}: these weights were trained with {said}. All shapes fit, but it would "
            "compute something else: build it with the same (add, drop or change --model, "
            "--stage_depths, --standardise_clip, ...); in Python, strict=False loads it anyway."
        )


def _backbone(config: Mapping) -> str:
    """The architecture of an image backbone, without what tells its training; "" of others."""
    name = str(config.get("name", ""))
    return name.split("timm/")[1].split(".")[0] if "timm/" in name else ""


def below(
    prefix: str, entries: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Entries whose names begin with a prefix, without it, and the names of the others."""
    inside = {n.removeprefix(prefix): v for n, v in entries.items() if n.startswith(prefix)}
    if not inside:
        raise ValueError(
            f"{source}: no name begins with {prefix!r} (--model_prefix); the names are "
            f"{_listed(list(entries))}."
        )
    return inside, [name for name in entries if not name.startswith(prefix)]


def named_tensors(
    checkpoint: object, source: str, *, keys: Sequence[str] = ()
) -> dict[str, Tensor]:
    """The named tensors inside a checkpoint, without the prefixes of wrappers.

    Args:
        checkpoint: what `read_checkpoint` returned.
        keys: take what is under the first of these that is there; without any of them, or without
            keys, the weights that a checkpoint of ours names as chosen, else those under "model",
            "module" or "state_dict", else the tensors at the top.

    Raises:
        ValueError: there are none.
    """
    if isinstance(checkpoint, Mapping):
        for key in (*keys, checkpoint.get(CHOSEN)):
            if isinstance(checkpoint.get(key), Mapping):
                checkpoint = checkpoint[key]
                break
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
    if not prefix and "norm.weight" in ours:
        return False
    for name in list(entries):
        value = entries.pop(name)
        inner = name.removeprefix(prefix)
        if not name.startswith(prefix) or inner.startswith("norm."):
            report.unused.append(name)
        else:
            entries[inner] = value
    return True


def _leave_other_head(entries: dict[str, Tensor], model: nn.Module, report: LoadReport) -> bool:
    """Leave out norm and head made for the other `head_norm`; True if they were."""
    kinds = ("fc_norm.weight", "fc_norm.running_mean")  # layer, batch
    ours = model.state_dict()
    there, wanted = ([kind in names for kind in kinds] for names in (entries, ours))
    if not any(there) or not any(wanted) or there == wanted:
        return False
    left_out = [name for name in entries if name.startswith(_NEW_AFTER_PRETRAINING)]
    report.unused += left_out
    for name in left_out:
        del entries[name]
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
