"""Model names: sizes, aliases, and the one function that builds a model.

To add a model, write its encoder, name its two classes in `FAMILIES` and its sizes in `SIZES`.
"""

import copy
import fnmatch
from typing import NamedTuple

from torch import nn

from svfap.models import vit
from svfap.models.contrastive import ContrastiveModel
from svfap.models.encoder import Encoder
from svfap.models.image import PREFIX as IMAGE_PREFIX
from svfap.models.image import ImageClassifier, default_image_config, timm_name
from svfap.models.layers import set_norm_epsilon
from svfap.models.lgi_former import LGIFormer, LGIFormerClassifier, following_regions
from svfap.models.masked_autoencoder import MaskedAutoencoder
from svfap.models.tpsbt import TPSBT, TPSBTClassifier
from svfap.suggest import did_you_mean

_PRETRAIN_PREFIX = "pretrain_"
_CONTRASTIVE_PREFIX = "contrastive_"


class Family(NamedTuple):
    """The two classes of a model family; no encoder where it is not pre-trained here."""

    encoder: type[Encoder] | None
    classifier: type[Encoder]


FAMILIES = {
    "svfap": Family(TPSBT, TPSBTClassifier),
    "maedfer": Family(LGIFormer, LGIFormerClassifier),
    "videomae": Family(vit.ViT, vit.ViTClassifier),
    "mira": Family(vit.MiRA, vit.MiRAClassifier),
    "marlin": Family(vit.MARLIN, vit.MARLINClassifier),
    "s4d": Family(None, vit.S4DClassifier),
    "hicmae": Family(None, vit.HiCMAEClassifier),
    "vjepa2": Family(None, vit.VJEPA2Classifier),
}

_CLIP_160 = {"img_size": 160, "patch_size": 16, "num_frames": 16, "tubelet_size": 2}
_CLIP_224 = _CLIP_160 | {"img_size": 224}
_CLIP_256 = _CLIP_160 | {"img_size": 256}
_CLIP_64 = {"img_size": 64, "patch_size": 8, "num_frames": 16, "tubelet_size": 2}
_COMMON = {"mlp_ratio": 4.0, "drop_path_rate": 0.0, "standardise_clip": False}
_PYRAMID = {"num_bottleneck_tokens": 8, "temporal_kernel_size": 2}
_REGIONS = {
    "pooled_tokens": "region",
    "first_attn_type": "self",
    "third_attn_type": "cross",
    "attn_param_sharing_first_third": False,
    "attn_param_sharing_all": False,
    "no_second": False,
    "no_third": False,
    "restore_order": False,
}
_VIT = {
    "norm_eps": 1e-6,
    "last_norm_eps": None,
    "position_grid": None,
    "mean": None,
    "std": None,
    "encoder_norm": True,
}
_WIDTHS = {
    "small": {"embed_dim": 384, "num_heads": 6, "depth": 12},
    "base": {"embed_dim": 768, "num_heads": 12, "depth": 12},
    "large": {"embed_dim": 1024, "num_heads": 16, "depth": 24},
    "huge": {"embed_dim": 1280, "num_heads": 16, "depth": 32},
}
_STEPS = {
    "fmp_num_last_layers": None,
    "fmp_use_residual": True,
    "stats_mode": "instance",
    "flash_tau": 0.17,
}
_EXPERTS = {
    "expert_layers": None,
    "num_experts": 8,
    "top_k": 2,
    "capacity_factor": 1.0,
    "queue": "clip",
}
_GIANT = {"embed_dim": 1408, "num_heads": 16, "depth": 40, "mlp_ratio": 48 / 11, "patch_size": 14}
_HEAD = {
    "num_classes": 7,
    "head_activation": None,
    "keep_temporal_dim": False,
    "head_norm": "layer",
}
_DECODER = {"decoder_embed_dim": 384, "decoder_depth": 4, "decoder_num_heads": 6}
_PROJECTION = {"projection_dim": 128}
_TINY_DECODER = {"decoder_embed_dim": 96, "decoder_depth": 2, "decoder_num_heads": 3}

SIZES: dict[str, dict] = {
    "svfap_base_patch16_160": dict(
        **_CLIP_160, **_COMMON, **_PYRAMID, embed_dim=512, num_heads=8, stage_depths=[12, 6, 3]
    ),
    "svfap_small_patch16_160": dict(
        **_CLIP_160, **_COMMON, **_PYRAMID, embed_dim=384, num_heads=6, stage_depths=[8, 4, 2]
    ),
    "svfap_tiny_patch8_64": dict(
        **_CLIP_64,
        **_COMMON,
        **(_PYRAMID | {"num_bottleneck_tokens": 4}),
        embed_dim=128,
        num_heads=4,
        stage_depths=[4, 2, 2],
    ),
    "maedfer_base_patch16_160": dict(
        **_CLIP_160,
        **_COMMON,
        **_REGIONS,
        embed_dim=512,
        num_heads=8,
        depth=16,
        region_size=[2, 5, 10],
    ),
    "maedfer_tiny_patch8_64": dict(
        **_CLIP_64,
        **_COMMON,
        **_REGIONS,
        embed_dim=128,
        num_heads=4,
        depth=5,
        region_size=[2, 4, 8],
    ),
    **{
        f"videomae_{size}_patch16_{clip['img_size']}": dict(**clip, **_COMMON, **_VIT, **widths)
        for size, widths in _WIDTHS.items()
        for clip in ((_CLIP_224, _CLIP_160) if widths["depth"] > 12 else (_CLIP_160, _CLIP_224))
    },
    **{
        f"mira_{size}_patch16_224": _CLIP_224
        | _COMMON
        | _VIT
        | _WIDTHS[size]
        | {"use_fmp_flashlite": size != "base"}
        | _STEPS
        for size in ("base", "large", "huge")
    },
    **{
        f"marlin_{size}_patch16_224": _CLIP_224
        | _COMMON
        | _VIT
        | {"norm_eps": 1e-5}
        | _WIDTHS[size]
        for size in ("small", "base", "large")
    },
    **{
        f"hicmae_{size}_patch16_160": _CLIP_160
        | _COMMON
        | _VIT
        | {"embed_dim": dim, "num_heads": dim // 64, "depth": 10}
        for size, dim in (("tiny", 256), ("small", 384), ("base", 512))
    },
    "s4d_base_patch16_160": _CLIP_160 | _COMMON | _VIT | _WIDTHS["base"] | _EXPERTS,
    "vjepa2_large_patch16_256": _CLIP_256 | _COMMON | _VIT | _WIDTHS["large"],
    "videomae_giant_patch14_224": _CLIP_224 | _COMMON | _VIT | _GIANT,
    "videomae_tiny_patch8_64": dict(
        **_CLIP_64, **_COMMON, **_VIT, embed_dim=128, num_heads=4, depth=8
    ),
}

# By the size in a model's name, as "videomae_small", else `_DECODER`.
_DECODERS = {
    "videomae_small": {"decoder_embed_dim": 192, "decoder_depth": 4, "decoder_num_heads": 3},
    "videomae_large": {"decoder_embed_dim": 512, "decoder_depth": 12, "decoder_num_heads": 8},
    "videomae_huge": {"decoder_embed_dim": 640, "decoder_depth": 12, "decoder_num_heads": 8},
    "mira_large": {"decoder_embed_dim": 512, "decoder_depth": 12, "decoder_num_heads": 8},
    "mira_huge": {"decoder_embed_dim": 640, "decoder_depth": 12, "decoder_num_heads": 8},
    "marlin_small": {"decoder_embed_dim": 192, "decoder_depth": 4, "decoder_num_heads": 3},
    "marlin_large": {"decoder_embed_dim": 512, "decoder_depth": 12, "decoder_num_heads": 8},
    "videomae_giant": {"decoder_embed_dim": 512, "decoder_depth": 4, "decoder_num_heads": 8},
    "svfap_tiny": _TINY_DECODER,
    "maedfer_tiny": _TINY_DECODER,
    "videomae_tiny": _TINY_DECODER,
}

ALIASES = {
    "pretrain_videomae_base_dim512_no_depth_patch16_160": "pretrain_maedfer_base_patch16_160",
    "vit_base_dim512_no_depth_patch16_160": "maedfer_base_patch16_160",
    "vit_base_patch16_160": "videomae_base_patch16_160",
}


def list_models(pattern: str | None = None) -> list[str]:
    """Names of all models, sorted.

    Args:
        pattern: shell-style ("svfap*", "pretrain_*"); None lists all. Aliases are left out.

    Returns:
        The names.
    """
    names = sorted([*SIZES, *(_PRETRAIN_PREFIX + name for name in SIZES if _family(name).encoder)])
    return names if pattern is None else fnmatch.filter(names, pattern)


def encoder_name(name: str) -> str:
    """The fine-tuning model that has the encoder of a model, pre-training or not; no aliases."""
    name = ALIASES.get(name, name)
    return name.removeprefix(_CONTRASTIVE_PREFIX).removeprefix(_PRETRAIN_PREFIX)


def contrastive_name(name: str) -> str:
    """The contrastive model of the encoder that a model's name stands for."""
    return _CONTRASTIVE_PREFIX + default_config(encoder_name(name))["name"]


def is_image_model(name: str) -> bool:
    """Whether a name stands for a timm image backbone, with or without a prefix."""
    size = encoder_name(name)
    return size not in SIZES and timm_name(size) is not None


def default_config(name: str) -> dict:
    """Every option of a model with its default, `name` (aliases resolved) first.

    Args:
        name: a name of `list_models()`, an alias, "timm/NAME" or the NAME of a timm image backbone;
            "contrastive_" before the name of a fine-tuning model gives it a projection for
            contrastive learning.

    Returns:
        A new dict that `create_model(**config)` accepts.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    name = ALIASES.get(name, name)
    size = encoder_name(name)
    stage = name.removesuffix(size)
    if size in SIZES and stage in _stages(size):
        sizes = copy.deepcopy(SIZES[size])
    elif stage in ("", _CONTRASTIVE_PREFIX) and (backbone := timm_name(size)):
        size, sizes = IMAGE_PREFIX + backbone, default_image_config(backbone)
    else:
        raise ValueError(
            f"unknown model {name!r}{did_you_mean(name, list_models()) or ';'} "
            f"known: {', '.join(list_models())}; "
            f"aliases: {', '.join(sorted(ALIASES))}; image backbones of timm as {IMAGE_PREFIX}NAME "
            f"or NAME; {_CONTRASTIVE_PREFIX} before any of those without {_PRETRAIN_PREFIX}."
        )
    options = {
        "": _HEAD,
        _PRETRAIN_PREFIX: _DECODERS.get(size.split("_patch")[0], _DECODER),
        _CONTRASTIVE_PREFIX: _PROJECTION,
    }
    if stage == _PRETRAIN_PREFIX and "stats_mode" in sizes:
        sizes["stats_mode"] = "batch_ema"
    return {"name": stage + size, **sizes, **options[stage]}


def _family(size: str) -> Family:
    return FAMILIES[size.split("_")[0]]


def _stages(size: str) -> list[str]:
    """Prefixes that a registered size may have."""
    pretrain = [_PRETRAIN_PREFIX] if _family(size).encoder else []
    return ["", _CONTRASTIVE_PREFIX, *pretrain]


def create_model(name: str, **overrides) -> nn.Module:
    """Build a model with random weights.

    Args:
        name: as `default_config` takes it.
        overrides: sizes that differ from the named ones. All: `img_size patch_size tubelet_size
            num_frames embed_dim num_heads mlp_ratio drop_path_rate standardise_clip`; TPSBT
            `stage_depths num_bottleneck_tokens temporal_kernel_size`; ViT and LGI-Former `depth`;
            LGI-Former `region_size pooled_tokens` and its ablations; fine-tuning `num_classes
            head_activation keep_temporal_dim head_norm`; pre-training `decoder_embed_dim
            decoder_depth decoder_num_heads`; contrastive `projection_dim`; image backbones
            `img_size num_frames drop_path_rate`, and the head's in fine-tuning.
            The ViTs also have `norm_eps`, `last_norm_eps` (of the norm before head or pixels; None:
            the same), `position_grid` (see `Encoder`), `encoder_norm` (whether a norm stands
            between encoder and decoder), and `mean` and `std`, which say how clips
            are normalised (None: as ImageNet's) and change nothing.
            None means the default; that of `region_size` follows the clip size.

    Returns:
        The model; `create_model(**model.config)` builds the same one.

    Raises:
        ValueError: unknown name or override, or sizes that do not fit each other.
    """
    config = default_config(name)
    unknown = sorted(set(overrides) - set(config))
    if unknown:
        allowed = ", ".join(key for key in config if key != "name")
        raise ValueError(f"{config['name']} has no option {', '.join(unknown)}; it has: {allowed}.")
    given = {key: value for key, value in overrides.items() if value is not None}
    default = copy.deepcopy(config)
    config.update({key: _plain(value) for key, value in given.items()})
    if "region_size" in config and "region_size" not in given:
        config["region_size"] = following_regions(config, default)
    model = _build(config)
    if not config.get("encoder_norm", True) and hasattr(model, "encoder_to_decoder"):
        model.encoder.norm = nn.Identity()
    if "norm_eps" in config:
        set_norm_epsilon(model, config["norm_eps"], config["last_norm_eps"])
    model.config = config
    return model


def _build(config: dict) -> nn.Module:
    not_built = ("name", "norm_eps", "last_norm_eps", "mean", "std", "encoder_norm")
    options = {key: value for key, value in config.items() if key not in not_built}
    name, size = config["name"], encoder_name(config["name"])
    if name == size:
        return _classifier(size, options)
    if name == _PRETRAIN_PREFIX + size:
        decoder = {key: options.pop(key) for key in _DECODER}
        return MaskedAutoencoder(encoder=_family(size).encoder(**options), **decoder)
    projection = {key: options.pop(key) for key in _PROJECTION}
    encoder = _classifier(size, options | _HEAD | {"num_classes": 0})
    return ContrastiveModel(encoder=encoder, **projection)


def _classifier(size: str, options: dict) -> nn.Module:
    if size.startswith(IMAGE_PREFIX):
        return ImageClassifier(backbone=size.removeprefix(IMAGE_PREFIX), **options)
    return _family(size).classifier(**options)


def _plain(value):
    """Tuples and other sequences as lists, so that a config equals its copy read from JSON."""
    return list(value) if isinstance(value, (tuple, list)) else value
