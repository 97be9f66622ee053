"""Model names: sizes, aliases, and the one function that builds a model.

To add a model, write its encoder, name its two classes in `FAMILIES` and its sizes in
`models.sizes.SIZES`.
"""

import copy
import fnmatch
from typing import NamedTuple

from torch import nn

from svfap.models import vit
from svfap.models.contrastive import ContrastiveModel
from svfap.models.encoder import Encoder
from svfap.models.image import ImageClassifier, default_image_config, timm_name
from svfap.models.layers import set_norm_epsilon
from svfap.models.lgi_former import LGIFormer, LGIFormerClassifier, following_regions
from svfap.models.masked_autoencoder import MaskedAutoencoder
from svfap.models.sizes import (
    ALIASES,
    CONTRASTIVE_PREFIX,
    DECODER,
    DECODERS,
    HEAD,
    IMAGE_PREFIX,
    PRETRAIN_PREFIX,
    PROJECTION,
    SIZES,
    encoder_name,
)
from svfap.models.tpsbt import TPSBT, TPSBTClassifier
from svfap.suggest import did_you_mean


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


def list_models(pattern: str | None = None) -> list[str]:
    """Names of all models, sorted, that fit a shell-style pattern ("svfap*"); no aliases."""
    names = sorted([*SIZES, *(PRETRAIN_PREFIX + name for name in SIZES if _family(name).encoder)])
    return names if pattern is None else fnmatch.filter(names, pattern)


def contrastive_name(name: str) -> str:
    """The contrastive model of the encoder that a model's name stands for."""
    return CONTRASTIVE_PREFIX + default_config(encoder_name(name))["name"]


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
    stages = ["", CONTRASTIVE_PREFIX]
    if size in SIZES and stage in stages + [PRETRAIN_PREFIX] * bool(_family(size).encoder):
        sizes = copy.deepcopy(SIZES[size])
    elif stage in stages and (backbone := timm_name(size)):
        size, sizes = IMAGE_PREFIX + backbone, default_image_config(backbone)
    else:
        raise ValueError(
            f"unknown model {name!r}{did_you_mean(name, list_models()) or ';'} "
            f"known: {', '.join(list_models())}; "
            f"aliases: {', '.join(sorted(ALIASES))}; image backbones of timm as {IMAGE_PREFIX}NAME "
            f"or NAME; {CONTRASTIVE_PREFIX} before any of those without {PRETRAIN_PREFIX}."
        )
    options = {
        "": HEAD,
        PRETRAIN_PREFIX: DECODERS.get(size.split("_patch")[0], DECODER),
        CONTRASTIVE_PREFIX: PROJECTION,
    }
    if stage == PRETRAIN_PREFIX and "stats_mode" in sizes:
        sizes["stats_mode"] = "batch_ema"
    return {"name": stage + size, **sizes, **options[stage]}


def _family(size: str) -> Family:
    return FAMILIES[size.split("_")[0]]


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
    for key, value in given.items():  # a config equals its copy read from JSON
        config[key] = list(value) if isinstance(value, (tuple, list)) else value
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
    if name == PRETRAIN_PREFIX + size:
        decoder = {key: options.pop(key) for key in DECODER}
        return MaskedAutoencoder(encoder=_family(size).encoder(**options), **decoder)
    projection = {key: options.pop(key) for key in PROJECTION}
    encoder = _classifier(size, options | HEAD | {"num_classes": 0})
    return ContrastiveModel(encoder=encoder, **projection)


def _classifier(size: str, options: dict) -> nn.Module:
    if size.startswith(IMAGE_PREFIX):
        return ImageClassifier(backbone=size.removeprefix(IMAGE_PREFIX), **options)
    return _family(size).classifier(**options)
