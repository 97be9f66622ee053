"""Which model are these weights of? Read off names and shapes."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from svfap.models.lgi_former import following_regions
from svfap.models.registry import SIZES, default_config
from svfap.models.weights.formats import PATCH, Converted, Format, convert_names
from svfap.models.weights.loading import named_tensors, training_flags

_HEAD_WIDTH = 64
_AVERAGE = "attn.c_buf"
_ROUTER = "moe_layer.router.topkroute_linear.weight"
_KINETICS = (174, 400, 600, 700, 710)  # classes of objects and actions, trained on at 224 px


def guess_config(checkpoint: Mapping, source: str = "the checkpoint") -> dict:
    """Keywords of `create_model` for the model that a checkpoint's weights fit.

    A checkpoint of ours states them. Otherwise names give the family and the stage, shapes the
    widths and depths. What shapes do not show (attention heads, frame count and side, where TPSBT's
    stages begin) comes from the flags in the checkpoint, if it has them, else from the registered
    size that is most alike, else heads are 64 wide.

    Args:
        checkpoint: what `read_checkpoint` returned.

    Returns:
        A dict with `name`, as `model.config`.

    Raises:
        ValueError: no family has such names, or the depths of TPSBT's stages are unknown.
    """
    if "model_config" in checkpoint:
        return dict(checkpoint["model_config"])
    converted = convert_names(named_tensors(checkpoint, source), source)
    return config_of(converted, training_flags(checkpoint), source)


def config_of(converted: Converted, flags: Mapping, source: str) -> dict:
    """As `guess_config`, for tensors under our names and flags that may say more."""
    entries = converted.entries
    pretrain = "mask_token" in entries
    encoder = {
        name.removeprefix("encoder."): value
        for name, value in entries.items()
        if name.startswith("encoder.") or not pretrain
    }
    if PATCH not in encoder or encoder[PATCH].ndim != 5:
        some = ", ".join(list(entries)[:4])
        raise ValueError(
            f"{source} is of none of our models: it has no {PATCH}; its names begin with {some}. "
            "Name the model with --model if you know better."
        )
    dim, _, frames, patch, _ = encoder[PATCH].shape
    size = _nearest(_family(encoder, converted.format), dim, patch)
    config = default_config(("pretrain_" if pretrain else "") + size) | converted.format.options
    same_width = config["embed_dim"] == dim
    config |= {"embed_dim": dim, "patch_size": patch, "tubelet_size": frames}
    config["num_heads"] = config["num_heads"] if same_width else max(1, dim // _HEAD_WIDTH)
    if config["name"].startswith("videomae") and _head_sizes(entries)["num_classes"] in _KINETICS:
        config["img_size"] = 224
    hidden = encoder.get("blocks.0.mlp.fc1.weight")
    if hidden is not None and len(hidden) != int(dim * config["mlp_ratio"] + 1e-6):
        config["mlp_ratio"] = len(hidden) / dim
    for flag, option in (("input_size", "img_size"), ("num_frames", "num_frames")):
        if isinstance(flags.get(flag), int):
            config[option] = flags[flag]
    if pretrain and "encoder_norm" in config:
        config["encoder_norm"] = "norm.weight" in encoder
    config |= _encoder_sizes(encoder, config, flags, source)
    return config | (_decoder_sizes(entries, config) if pretrain else _head_sizes(entries))


def _family(encoder: Mapping[str, Tensor], form: Format) -> str:
    if any(name.startswith("temporal_downsamples.") for name in encoder):
        return "svfap"
    return "maedfer" if "lg_region_tokens" in encoder else form.family


def _nearest(family: str, dim: int, patch: int) -> str:
    """The registered size of a family with this patch size and, if any, this width."""
    sizes = [name for name in SIZES if name.startswith(f"{family}_")]
    return min(
        sizes, key=lambda n: (SIZES[n]["patch_size"] != patch, abs(SIZES[n]["embed_dim"] - dim))
    )


def _count(names: Mapping[str, Tensor], prefix: str) -> int:
    numbers = (re.match(rf"{prefix}\.(\d+)\.", name) for name in names)
    return max((int(number.group(1)) + 1 for number in numbers if number), default=0)


def _encoder_sizes(encoder: Mapping[str, Tensor], config: dict, flags: dict, source: str) -> dict:
    depth = _count(encoder, "blocks")
    if "use_fmp_flashlite" in config:
        return {"depth": depth, **_step_weights(encoder, config, flags, source)}
    if "num_experts" in config:
        layers = [i for i in range(depth) if f"blocks.{i}.{_ROUTER}" in encoder]
        count = encoder[f"blocks.{layers[0]}.{_ROUTER}"].shape[0]
        usual = layers == list(range(depth // 2, depth))
        return {
            "depth": depth,
            "expert_layers": None if usual else layers,
            "num_experts": count,
        }
    if "position_table" in encoder:
        return {"depth": depth, **_clip_size(len(encoder["position_table"]), config)}
    if "region_size" in config:
        return {"depth": depth, **_regions(config, flags), **_ablations(encoder)}
    if "stage_depths" not in config:
        return {"depth": depth}
    stages = _count(encoder, "temporal_downsamples") + 1
    tokens = [
        encoder[name].shape[0] if (name := f"spatial_downsamples.{i}.mlp.fc2.weight") in encoder
        else 0
        for i in range(stages - 1)
    ]  # fmt: skip
    plain = sum(f"blocks.{i}.cross_attn.q.weight" not in encoder for i in range(depth))
    return {
        "stage_depths": _stage_depths(depth, plain, stages, flags, source),
        "num_bottleneck_tokens": tokens[0] if len(set(tokens)) == 1 else tokens,
        "temporal_kernel_size": encoder["temporal_downsamples.0.weight"].shape[2],
    }


def _step_weights(encoder: Mapping[str, Tensor], config: dict, flags: dict, source: str) -> dict:
    """Of MiRA; which of its two attentions it is has to be told."""
    if not isinstance(flags.get("use_fmp_flashlite"), bool):
        raise ValueError(
            f"{source} is of MiRA, whose exact and flashLite attention have the same weights: say "
            "which it is, use_fmp_flashlite=True or False (--use_fmp_flashlite true or false of "
            "training and of `python -m svfap.models.convert`, whose files say it themselves)."
        )
    options = ("use_fmp_flashlite", "fmp_use_residual", "stats_mode", "flash_tau")
    averages = [value for name, value in encoder.items() if name.endswith(_AVERAGE)]
    return {
        **{name: flags[name] for name in options if flags.get(name) is not None},
        "fmp_num_last_layers": None if f"blocks.0.{_AVERAGE}" in encoder else len(averages),
        "num_frames": averages[0].shape[1] * config["tubelet_size"],
    }


def _clip_size(positions: int, config: dict) -> dict:
    """Of a stored position table: 16 frames if that makes square frames, else what does."""
    for steps in (8, 4, 16, 2, 32, 1):
        side = math.isqrt(positions // steps)
        if side * side * steps == positions:
            size = {"num_frames": steps * config["tubelet_size"]}
            return size | {"img_size": side * config["patch_size"]}
    return {}


def _regions(config: dict, flags: dict) -> dict:
    """LGI-Former's regions and pooled tokens by the flags; else the former follow the clip size."""
    given = flags.get("lg_region_size")
    size = list(given) if given else following_regions(config, default_config(config["name"]))
    pooled = flags.get("lg_classify_token_type") or config["pooled_tokens"]
    return {"region_size": size, "pooled_tokens": pooled}


def _ablations(encoder: Mapping[str, Tensor]) -> dict:
    """Parts of an LGI block that names show; attention that is shared has the same weights."""
    names = {name.removeprefix("blocks.0.") for name in encoder if name.startswith("blocks.0.")}

    def has(part: str) -> bool:
        return f"{part}.weight" in names

    has_third = has("third_attn_norm0")
    return {
        "first_attn_type": "cross" if has("first_attn_norm1") else "self",
        "third_attn_type": "self" if has_third and not has("third_attn_norm1") else "cross",
        "no_second": not has("second_attn_norm0"),
        "no_third": not has_third,
    }


def _stage_depths(depth: int, plain: int, stages: int, flags: dict, source: str) -> list[int]:
    """Blocks per stage; names show only where the first stage ends."""
    if stages == 2:
        return [plain, depth - plain]
    registered = [size for size in SIZES.values() if "stage_depths" in size]
    for hint in (flags, *registered):
        depths = list(hint.get("stage_depths") or [0])
        if sum(depths) == depth and len(depths) == stages and depths[0] == plain:
            return depths
    later = depth - plain
    if later == stages - 1:
        return [plain] + [1] * later
    raise ValueError(
        f"{source} has {depth} blocks, the first {plain} of stage 1; how the others divide into "
        f"{stages - 1} stages cannot be seen. Give --stage_depths."
    )


def _decoder_sizes(entries: Mapping[str, Tensor], config: dict) -> dict:
    dim = entries["mask_token"].shape[-1]
    same = config["decoder_embed_dim"] == dim
    return {
        "decoder_embed_dim": dim,
        "decoder_depth": _count(entries, r"decoder\.blocks"),
        "decoder_num_heads": config["decoder_num_heads"] if same else max(1, dim // _HEAD_WIDTH),
    }


def _head_sizes(entries: Mapping[str, Tensor]) -> dict:
    head = entries.get("head.weight")
    norm = "batch" if "fc_norm.running_mean" in entries else "layer"
    return {"num_classes": 0 if head is None else head.shape[0], "head_norm": norm}
