"""`open_weights`: the model that a file is, with its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from svfap.models.registry import create_model, default_config, encoder_name
from svfap.models.weights.formats import (
    HEAD,
    IMAGENET,
    PLAIN,
    Converted,
    Preprocessing,
    convert_names,
    described_normalisation,
    normalisation_of,
)
from svfap.models.weights.guess import config_of
from svfap.models.weights.hub import Located, locate
from svfap.models.weights.loading import LoadReport, load_weights, named_tensors, training_flags
from svfap.models.weights.weight_file import read_described

# What others call our options, in their configurations and in the golden files.
_OTHER_NAMES = {
    "image_size": "img_size", "crop_size": "img_size", "input_size": "img_size",
    "all_frames": "num_frames", "n_frames": "num_frames", "frames_per_clip": "num_frames",
    "encoder_embed_dim": "embed_dim", "hidden_size": "embed_dim",
    "encoder_depth": "depth", "num_hidden_layers": "depth",
    "encoder_num_heads": "num_heads", "num_attention_heads": "num_heads",
    "decoder_hidden_size": "decoder_embed_dim", "decoder_num_hidden_layers": "decoder_depth",
    "decoder_num_attention_heads": "decoder_num_heads", "layer_norm_eps": "norm_eps",
    "num_labels": "num_classes", "layers": "expert_layers",
    "lg_region_size": "region_size",
}  # fmt: skip
# Arguments of others' constructors that names and shapes show, or that matter in training only.
_NEEDLESS = {
    "qkv_bias", "qk_scale", "init_scale", "init_values", "drop_rate", "attn_drop_rate",
    "norm_layer", "mode", "note", "names", "intermediate_size", "decoder_intermediate_size",
    "decoder_num_classes", "use_mean_pooling", "as_feature_extractor", "multi_head", "keys",
    "reweighted_blocks", "num_pooler_layers",
}  # fmt: skip
_GROUPS = ("attention", "moe")  # of such arguments
# Options that tensors show; told otherwise they contradict the file.
_SHOWN = (
    "embed_dim", "depth", "patch_size", "tubelet_size", "decoder_embed_dim", "decoder_depth",
    "expert_layers", "num_experts", "fmp_num_last_layers",
)  # fmt: skip
# Options that say what is wanted, not what a file is.
_ASKED = {"img_size", "num_frames", "num_classes", "position_grid"}
# Options without which it cannot be found out what a file is.
_HINTS = ("stage_depths", "use_fmp_flashlite")
_POSITIONS = ("recomputed", "interpolated")


@dataclass(kw_only=True)
class Opened:
    """What a file of weights is."""

    trained: dict  # keywords of `create_model` for the model it was trained as
    config: dict = field(default_factory=dict)  # those of the model that is asked for
    stated: bool  # whether the file states its model; otherwise it was found out, or told
    converted: Converted  # its tensors under our names
    stride: int  # distance of a clip's frames
    class_order: tuple[str, ...] | None = None  # names of the outputs, as far as they are known
    assumed: set[str] = field(default_factory=set)  # sizes that the file does not tell
    notes: list[str] = field(default_factory=list)  # what a user should know

    @property
    def preprocessing(self) -> Preprocessing:
        """What clips the model takes."""
        mean, std = normalisation_of(self.config)
        return Preprocessing(
            size=self.config["img_size"], frames=self.config["num_frames"], stride=self.stride,
            mean=mean, std=std, class_order=self.class_order,
        )  # fmt: skip


def open_weights(source: str | Path | Mapping, **overrides) -> tuple[nn.Module, LoadReport]:
    """Build the model that a file of weights is, and load it strictly.

    Args:
        source: a file (ours, released, or of a public model: docs/public_weights.md), as
            `models.weights.hub.locate` takes it: path, hf://owner/repo or name of a catalogue; or
            its content: tensors by name, bare or as in a checkpoint.
        overrides: what the file cannot tell: options of `create_model`, also under the names that
            the models' authors have for them. Files of pre-training give the pre-training model
            unless `num_classes` is given. `positions` is "recomputed" or "interpolated": what
            becomes of the position table where clips have another size than in training.

    Returns:
        The model, in evaluation mode on the CPU, and what was loaded, left out and assumed;
        `report.preprocessing` says how the model wants its clips.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no weights, damaged, of an unknown model, or overrides that do not fit them.
    """
    named = isinstance(source, (str, Path))
    located = locate(source) if named else Located(path=Path(), source="the weights")
    content = read_described(located.path) if named else source
    called = located.source
    opened = understand(content, called, located.told | overrides)
    model = create_model(**opened.config)
    content = {"model": opened.converted.entries, "model_config": opened.trained}
    report = load_weights(model, content, called=called)
    report.unused = opened.converted.unused + report.unused
    report.notes = [*opened.converted.notes, *opened.notes, *report.notes]
    report.preprocessing, report.licence = opened.preprocessing, located.licence
    return model.eval(), report


def understand(content: Mapping, source: str, overrides: Mapping) -> Opened:
    """What `open_weights` makes of the content of `read_described`, and its errors."""
    told = _told(overrides)
    positions, grid = told.pop("positions", None), told.get("position_grid")
    if positions not in (None, *_POSITIONS):
        raise ValueError(f"positions is one of {', '.join(_POSITIONS)}; got {positions!r}.")
    if "capacity_factor" in told:  # S4D's, which counts the tokens of a batch
        told = {"queue": "batch"} | told
    opened = _stated(content, source) or _found_out(content, source, told)
    trained = opened.trained
    fixed = opened.converted.format.fixed
    told = {n: value for n, value in told.items() if n not in fixed or fixed[n] != value}
    for name in told.keys() & set(_SHOWN) & trained.keys():
        if trained[name] is not None and told[name] != trained[name]:
            raise ValueError(f"{source} has {name} {trained[name]}; {told[name]} was asked for.")
    if not opened.stated:
        trained |= {name: told[name] for name in told.keys() & trained.keys() - _ASKED}
    config = trained
    if "num_classes" in told and "num_classes" not in trained:
        config = _fine_tuning(trained)
    if told.get("num_classes") not in (None, trained.get("num_classes")):
        opened.class_order = None
    decoder = [name for name in told if name.startswith("decoder_") and name not in config]
    unknown = sorted(told.keys() - config.keys() - set(decoder))
    if unknown:
        raise ValueError(
            f"{source} is a {config['name']}, which has no option {', '.join(unknown)}; it has: "
            f"{', '.join(key for key in config if key != 'name')}, positions."
        )
    opened.config = config | {name: value for name, value in told.items() if name in config}
    sizes = any(opened.config[size] != config[size] for size in ("img_size", "num_frames"))
    if sizes and "region_size" in config and not told.get("region_size"):
        opened.config["region_size"] = None  # follows the size of the clips
    if assumed := ", ".join(f"{n} {trained[n]}" for n in sorted(opened.assumed - told.keys())):
        opened.notes.append(f"assumed, for the file does not tell: {assumed}")
    if "position_grid" in config and not grid:
        _choose_positions(opened, positions)
    return opened


def _told(overrides: Mapping) -> dict:
    groups = [overrides[name] for name in _GROUPS if isinstance(overrides.get(name), Mapping)]
    told = {name: value for name, value in overrides.items() if name not in _GROUPS}
    told = {name: value for part in (told, *groups) for name, value in part.items()}
    return {
        _OTHER_NAMES.get(name, name): value
        for name, value in told.items()
        if name not in _NEEDLESS and not name.startswith("pred_") and value is not None
    }


def _stated(content: Mapping, source: str) -> Opened | None:
    """A file of ours says itself what it is."""
    config = content.get("model_config")
    if not isinstance(config, Mapping):
        return None
    rate = (content.get("clips") or {}).get("sampling_rate")
    return Opened(
        trained=default_config(config["name"]) | config,
        stated=True,
        converted=Converted(format=PLAIN, entries=named_tensors(content, source)),
        stride=rate or training_flags(content).get("sampling_rate") or PLAIN.stride,
        class_order=tuple(content.get("class_names") or ()) or None,
    )


def _found_out(content: Mapping, source: str, told: dict) -> Opened:
    """What names, shapes and descriptions beside a file show, helped by what is told."""
    head = told.pop("head", HEAD)
    converted = convert_names(named_tensors(content, source), source, head)
    beside = content.get("hf_config") or {}
    beside = _told(beside | (beside.get("model_config") or {}))
    flags = training_flags(content)
    if "img_size" in beside:
        beside["input_size"] = beside["img_size"]
    hints = {name: told[name] for name in _HINTS if name in told}
    config = config_of(converted, flags | beside | hints, source)
    kept = ("num_heads", "decoder_num_heads", "norm_eps")
    options = {name: beside[name] for name in kept if name in beside}
    mean, std = described_normalisation(content, converted.format)
    if (mean, std) != IMAGENET:
        options |= {"mean": list(mean), "std": list(std)}
    opened = Opened(
        trained=config | {name: value for name, value in options.items() if name in config},
        stated=False,
        converted=converted,
        stride=flags.get("sampling_rate") or converted.format.stride,
        class_order=_labels(content.get("hf_config") or {})
        or converted.format.class_orders.get(config.get("num_classes")),
    )
    said = {"img_size"} if "input_size" in flags else set()
    said |= {"num_frames"} if "use_fmp_flashlite" in config else set()
    said |= {"img_size", "num_frames"} if converted.format.family == "marlin" else set()
    usual = default_config(config["name"])["embed_dim"] == config["embed_dim"]
    said |= {"num_heads"} if usual else set()  # which are known of the registered widths
    opened.assumed = {"img_size", "num_frames", "num_heads"} - said - flags.keys() - beside.keys()
    return opened


def _labels(described: Mapping) -> tuple[str, ...] | None:
    """Class names of a configuration of transformers, in order."""
    names = described.get("id2label") or {}
    names = tuple(str(names[key]) for key in sorted(names, key=int))
    return None if all(name.startswith("LABEL_") for name in names) else names


def _fine_tuning(config: Mapping) -> dict:
    """The configuration of the fine-tuning model with the encoder of a pre-training model."""
    own = default_config(encoder_name(config["name"]))
    kept = own.keys() - {"name", "stats_mode"}  # MiRA is fine-tuned clip by clip
    return own | {key: value for key, value in config.items() if key in kept}


def _choose_positions(opened: Opened, positions: str | None) -> None:
    """Where clips have another size: the table computed anew, or interpolated; says so."""
    sizes = ("img_size", "num_frames")
    trained, config = opened.trained, opened.config
    if all(config[size] == trained[size] for size in sizes) or trained["position_grid"]:
        return
    if positions is None and any(size in opened.assumed for size in sizes):
        return  # those that are asked for may be those of training
    if positions == "interpolated":
        side = trained["img_size"] // trained["patch_size"]
        config["position_grid"] = [trained["num_frames"] // trained["tubelet_size"], side, side]
    opened.notes.append(
        f"positions {positions or 'recomputed'}: trained on {trained['num_frames']} frames of "
        f"{trained['img_size']} px, asked for {config['num_frames']} of {config['img_size']} px"
    )
