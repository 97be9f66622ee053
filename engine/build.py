"""From flags to models, and to the numbers that follow from both."""

import os
from collections.abc import Mapping

import torch
from torch import nn

from svfap import models
from svfap.datasets.catalog import DatasetSpec, get_spec, spec_for_csv
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.video.store import stores_of
from svfap.engine.flags.flag import Flags

# flag -> keyword of `models.create_model`; a flag that was not given leaves the model's default
MODEL_FLAGS = {
    "input_size": "img_size",
    "num_frames": "num_frames",
    "patch_size": "patch_size",
    "tubelet_size": "tubelet_size",
    "standardise_clip": "standardise_clip",
    "drop_path": "drop_path_rate",
    "stage_depths": "stage_depths",
    "temporal_kernel_size": "temporal_kernel_size",
    "num_bottleneck_tokens": "num_bottleneck_tokens",
    "depth": "depth",
    "lg_region_size": "region_size",
    "decoder_depth": "decoder_depth",
    "projection_dim": "projection_dim",
    "lg_first_attn_type": "first_attn_type",
    "lg_third_attn_type": "third_attn_type",
    "lg_attn_param_sharing_first_third": "attn_param_sharing_first_third",
    "lg_attn_param_sharing_all": "attn_param_sharing_all",
    "lg_no_second": "no_second",
    "lg_no_third": "no_third",
    "lg_restore_order": "restore_order",
    "use_fmp_flashlite": "use_fmp_flashlite",
}
FINETUNING_FLAGS = {
    "lg_classify_token_type": "pooled_tokens",
    "head_activation_func": "head_activation",
}


def model_overrides(flags: Flags) -> dict:
    """Keywords of `models.create_model` that the flags ask for, `name` only where it changes."""
    mapping = MODEL_FLAGS | (FINETUNING_FLAGS if hasattr(flags, "finetune") else {})
    if models.is_image_model(flags.model):  # defaults of clips and tubelets do not apply
        mapping = {flag: key for flag, key in mapping.items() if flag in flags.explicit}
    values = {flag: getattr(flags, flag, None) for flag in mapping}
    given = {
        mapping[flag]: value for flag, value in values.items()
        if value is not None and (value is not False or flag in flags.explicit)
    }  # fmt: skip
    other = not models.is_image_model(flags.model)
    return given | (_encoder_overrides(flags.model, flags.attn_type) if other else {})


def _encoder_overrides(model: str, attn_type: str | None) -> dict:
    """What `--attn_type` asks for: the released MAE-DFER names stand for two encoders."""
    sizes = models.default_config(model)
    name = sizes["name"]
    local_global = "maedfer" in name
    if attn_type is None or (attn_type == "local_global") == local_global:
        return {}
    if model == name:
        raise ValueError(
            f"--attn_type {attn_type}: {name} has another encoder; choose "
            f"{'a videomae' if local_global else 'a maedfer'} model, or leave --attn_type out"
        )
    return {"name": name.replace("maedfer", "videomae")} | {
        key: sizes[key] for key in ("embed_dim", "num_heads")
    }


def head_norm(asked: str, name: str, *, alone: bool, before: Mapping | None) -> str:
    """What `--head_norm` comes to.

    Args:
        alone: whether a batch norm would see one clip at a time.
        before: `config` of the model that training goes on with, None if it begins; models of
            earlier versions have a layer norm and do not say so.

    Raises:
        ValueError: that model has another one, or a batch norm would see one clip at a time.
    """
    name = models.encoder_name(name)
    released = "_tiny_" not in name and not models.is_image_model(name)
    chosen = asked
    if asked == "auto":
        chosen = "layer" if released or alone else "batch"
    if before is not None and not (asked == "auto" and released):
        chosen = before.get("head_norm", "layer")
    if asked not in ("auto", chosen):
        raise ValueError(f"--head_norm {asked}: the run that goes on has {chosen}; leave it out")
    if alone and chosen == "batch":
        raise ValueError(
            "--batch_size 1: a batch norm before the head compares clips; use 2 or more, or "
            "--head_norm layer"
        )
    return chosen


# Of these, sizes that the model of a checkpoint has or has not.
_SIZE_FLAGS = (
    *("input_size", "num_frames", "patch_size", "tubelet_size", "stage_depths", "depth"),
    *("lg_region_size",),
)


def check_model_flags(given: Mapping, config: Mapping, source: str) -> None:
    """Refuse flags that were given and are not the sizes of a checkpoint's model.

    Raises:
        ValueError: names them.
    """
    wrong = [
        f"--{name} {given[name]}: it has {config[MODEL_FLAGS[name]]}"
        for name in _SIZE_FLAGS
        if name in given and given[name] != config.get(MODEL_FLAGS[name], given[name])
    ]
    if wrong:
        raise ValueError(f"{source} is of another size ({'; '.join(wrong)}); leave the flags out")


def create_model(flags: Flags, **more: object) -> nn.Module:
    """Build `--model` with the flags' sizes; initial weights follow from `--seed`.

    Raises:
        ValueError: unknown name, or sizes that the model does not take.
    """
    torch.manual_seed(flags.seed)
    model = models.create_model(**({"name": flags.model} | model_overrides(flags) | more))
    if flags.use_checkpoint:
        model.set_grad_checkpointing(True)
    return model


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to its device; returns it.

    Convolutions of images compute faster on CUDA with channels last (`models.image` hands their
    images over likewise).
    """
    for layer in model.modules() if device.type == "cuda" else ():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    return model.to(device)


def num_workers(asked: int | None) -> int:
    """`--num_workers`, or as many as this process's share of the cores, at most 16."""
    if asked is not None:
        return asked
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(16, max(1, cores // local))


def resolve_spec(data_set: str | None, data_path: str | None) -> DatasetSpec | None:
    """The data set of `--data_set`, or the one that the CSV's path names, or None."""
    if data_set:
        return get_spec(data_set)
    return spec_for_csv(data_path) if data_path else None


def window_text(window: tuple | None, annotations: Annotations) -> str:
    """Which part of the frames is used, for the plan."""
    for folder, manifest in stores_of(annotations.paths).items():
        if manifest["face_window"]:
            return f"{tuple(manifest['face_window'])}, cut out when {folder} was packed"
    return str(window or "whole frame")


def synchronise(device: torch.device) -> None:
    """Wait for the device, before timing or leaving."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
