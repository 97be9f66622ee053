"""Weights of the plain ViT as transformers' VideoMAE reads them: a folder for `from_pretrained`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
from torch import Tensor

from svfap.models.registry import default_config

_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "attn.q_bias": "attention.attention.q_bias",
    "attn.v_bias": "attention.attention.v_bias",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_OTHERS = {
    "encoder.patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
    "encoder.norm": "videomae.layernorm",
    "head": "classifier",
}
_QKV = ("query", "key", "value")
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# Options that transformers has no word for, with the only value that it computes.
_MUST_BE = {
    "standardise_clip": False,
    "keep_temporal_dim": False,
    "head_activation": None,
    "head_norm": "layer",
    "position_grid": None,
    "encoder_norm": True,
}
OTHER_EPSILON = 1e-5  # of its fc_norm and decoder.norm, whatever the configuration says


def write_for_transformers(
    folder: Path, config: Mapping, tensors: Mapping[str, Tensor], class_names: Sequence[str] = ()
) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors of a `videomae_*`.

    ValueError: transformers' VideoMAE does not compute what this model does.
    """
    config = default_config(config["name"]) | config
    about = _described(config, class_names)
    mean, std = config.get("mean"), config.get("std")
    pixels = {"image_mean": list(mean), "image_std": list(std)} if mean and std else _IMAGENET
    square = {"height": config["img_size"], "width": config["img_size"]}
    images = {
        "image_processor_type": "VideoMAEImageProcessor", "do_resize": True, "size": square,
        "do_center_crop": False, "do_rescale": True, "do_normalize": True, **pixels,
    }  # fmt: skip
    named = dict(pair for name, value in tensors.items() for pair in _renamed(name, value))
    folder.mkdir(parents=True)
    safetensors.torch.save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in (("config.json", about), ("preprocessor_config.json", images)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _described(config: Mapping, class_names: Sequence[str]) -> dict:
    """The configuration in transformers' words."""
    name = config["name"].removeprefix("pretrain_")
    pretrained = name != config["name"]
    other = {key for key, value in _MUST_BE.items() if config.get(key, value) != value}
    if not name.startswith("videomae_"):
        raise ValueError(f"{config['name']}: transformers' VideoMAE is the plain ViT (videomae_*).")
    if other:
        told = ", ".join(f"{key} {config[key]}" for key in sorted(other))
        raise ValueError(f"transformers' VideoMAE cannot compute what this model has: {told}.")
    if not (pretrained or config["num_classes"]):
        raise ValueError("an encoder without head or decoder is no model that transformers knows.")
    ratio = config["mlp_ratio"]
    about = {
        "model_type": "videomae",
        "architectures": ["VideoMAEForPreTraining" if pretrained else
                          "VideoMAEForVideoClassification"],
        "image_size": config["img_size"], "patch_size": config["patch_size"], "num_channels": 3,
        "num_frames": config["num_frames"], "tubelet_size": config["tubelet_size"],
        "hidden_size": config["embed_dim"], "num_hidden_layers": config["depth"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": int(config["embed_dim"] * ratio + 1e-6), "hidden_act": "gelu",
        "layer_norm_eps": config.get("norm_eps", 1e-6), "qkv_bias": True,
        "use_mean_pooling": not pretrained,
    }  # fmt: skip
    if pretrained:
        width = config["decoder_embed_dim"]
        return about | {
            "decoder_hidden_size": width, "decoder_num_hidden_layers": config["decoder_depth"],
            "decoder_num_attention_heads": config["decoder_num_heads"],
            "decoder_intermediate_size": int(width * ratio + 1e-6), "norm_pix_loss": True,
        }  # fmt: skip
    names = list(class_names) or [str(number) for number in range(config["num_classes"])]
    return about | {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _renamed(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """A tensor under transformers' name; queries, keys and values apart."""
    if name.startswith(("blocks.", "patch_embed.")):
        name = f"encoder.{name}"
    stem, _, kind = name.rpartition(".")
    if ".blocks." not in name:
        return [(f"{_OTHERS.get(stem, stem)}.{kind}".lstrip("."), value.contiguous())]
    part, _, rest = name.partition(".blocks.")
    number, _, inner = rest.partition(".")
    layers = "videomae.encoder.layer" if part == "encoder" else "decoder.decoder_layers"
    layer = f"{layers}.{number}."
    if inner == "attn.qkv.weight":
        thirds = (third.contiguous().clone() for third in value.chunk(3))
        return [(f"{layer}attention.attention.{q}.weight", third) for q, third in zip(_QKV, thirds)]
    if inner in _BLOCK:  # biases of queries and values
        return [(layer + _BLOCK[inner], value.contiguous())]
    stem, _, kind = inner.rpartition(".")
    return [(f"{layer}{_BLOCK[stem]}.{kind}", value.contiguous())]
