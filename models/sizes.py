"""Names and sizes of models, and nothing that would import PyTorch: flags are checked with them."""

IMAGE_PREFIX = "timm/"  # before the names of timm's image backbones
PRETRAIN_PREFIX = "pretrain_"
CONTRASTIVE_PREFIX = "contrastive_"

_CLIP_160 = {"img_size": 160, "patch_size": 16, "num_frames": 16, "tubelet_size": 2}
_CLIP_224 = _CLIP_160 | {"img_size": 224}
_CLIP_256 = _CLIP_160 | {"img_size": 256}
_CLIP_64 = {"img_size": 64, "patch_size": 8, "num_frames": 16, "tubelet_size": 2}
_COMMON = {"mlp_ratio": 4.0, "drop_path_rate": 0.0, "standardise_clip": False}
_PYRAMID = {"num_bottleneck_tokens": 8, "temporal_kernel_size": 2}
_REGIONS = {
    "pooled_tokens": "region", "first_attn_type": "self", "third_attn_type": "cross",
    "attn_param_sharing_first_third": False, "attn_param_sharing_all": False, "no_second": False,
    "no_third": False, "restore_order": False,
}  # fmt: skip
_VIT = {
    "norm_eps": 1e-6, "last_norm_eps": None, "position_grid": None, "mean": None, "std": None,
    "encoder_norm": True,
}  # fmt: skip
_WIDTHS = {
    "small": {"embed_dim": 384, "num_heads": 6, "depth": 12},
    "base": {"embed_dim": 768, "num_heads": 12, "depth": 12},
    "large": {"embed_dim": 1024, "num_heads": 16, "depth": 24},
    "huge": {"embed_dim": 1280, "num_heads": 16, "depth": 32},
}
_STEPS = {
    "fmp_num_last_layers": None, "fmp_use_residual": True, "stats_mode": "instance",
    "flash_tau": 0.17,
}  # fmt: skip
_EXPERTS = {
    "expert_layers": None, "num_experts": 8, "top_k": 2, "capacity_factor": 1.0, "queue": "clip",
}  # fmt: skip
_GIANT = {"embed_dim": 1408, "num_heads": 16, "depth": 40, "mlp_ratio": 48 / 11, "patch_size": 14}
HEAD = {
    "num_classes": 7, "head_activation": None, "keep_temporal_dim": False, "head_norm": "layer",
}  # fmt: skip
_TINY = {"embed_dim": 128, "num_heads": 4}
PROJECTION = {"projection_dim": 128}


def _decoder(dim: int, depth: int, num_heads: int) -> dict[str, int]:
    return {"decoder_embed_dim": dim, "decoder_depth": depth, "decoder_num_heads": num_heads}


DECODER = _decoder(384, 4, 6)
SIZES: dict[str, dict] = {
    "svfap_base_patch16_160": _CLIP_160 | _COMMON | _PYRAMID
    | {"embed_dim": 512, "num_heads": 8, "stage_depths": [12, 6, 3]},
    "svfap_small_patch16_160": _CLIP_160 | _COMMON | _PYRAMID
    | {"embed_dim": 384, "num_heads": 6, "stage_depths": [8, 4, 2]},
    "svfap_tiny_patch8_64": _CLIP_64 | _COMMON | _PYRAMID | _TINY
    | {"num_bottleneck_tokens": 4, "stage_depths": [4, 2, 2]},
    "maedfer_base_patch16_160": _CLIP_160 | _COMMON | _REGIONS
    | {"embed_dim": 512, "num_heads": 8, "depth": 16, "region_size": [2, 5, 10]},
    "maedfer_tiny_patch8_64": _CLIP_64 | _COMMON | _REGIONS | _TINY
    | {"depth": 5, "region_size": [2, 4, 8]},
    **{
        f"videomae_{size}_patch16_{clip['img_size']}": dict(**clip, **_COMMON, **_VIT, **widths)
        for size, widths in _WIDTHS.items()
        for clip in ((_CLIP_224, _CLIP_160) if widths["depth"] > 12 else (_CLIP_160, _CLIP_224))
    },
    **{
        f"mira_{size}_patch16_224": _CLIP_224 | _COMMON | _VIT | _WIDTHS[size]
        | {"use_fmp_flashlite": size != "base"} | _STEPS
        for size in ("base", "large", "huge")
    },
    **{
        f"marlin_{size}_patch16_224": _CLIP_224 | _COMMON | _VIT | {"norm_eps": 1e-5}
        | _WIDTHS[size]
        for size in ("small", "base", "large")
    },
    **{
        f"hicmae_{size}_patch16_160": _CLIP_160 | _COMMON | _VIT
        | {"embed_dim": dim, "num_heads": dim // 64, "depth": 10}
        for size, dim in (("tiny", 256), ("small", 384), ("base", 512))
    },
    "s4d_base_patch16_160": _CLIP_160 | _COMMON | _VIT | _WIDTHS["base"] | _EXPERTS,
    "vjepa2_large_patch16_256": _CLIP_256 | _COMMON | _VIT | _WIDTHS["large"],
    "videomae_giant_patch14_224": _CLIP_224 | _COMMON | _VIT | _GIANT,
    "videomae_tiny_patch8_64": _CLIP_64 | _COMMON | _VIT | _TINY | {"depth": 8},
}  # fmt: skip

# By the size in a model's name, as "videomae_small", else `DECODER`.
DECODERS = {
    **{f"{family}_tiny": _decoder(96, 2, 3) for family in ("svfap", "maedfer", "videomae")},
    **{f"{family}_small": _decoder(192, 4, 3) for family in ("videomae", "marlin")},
    **{f"{family}_large": _decoder(512, 12, 8) for family in ("videomae", "mira", "marlin")},
    **{f"{family}_huge": _decoder(640, 12, 8) for family in ("videomae", "mira")},
    "videomae_giant": _decoder(512, 4, 8),
}

ALIASES = {
    "pretrain_videomae_base_dim512_no_depth_patch16_160": "pretrain_maedfer_base_patch16_160",
    "vit_base_dim512_no_depth_patch16_160": "maedfer_base_patch16_160",
    "vit_base_patch16_160": "videomae_base_patch16_160",
}


def encoder_name(name: str) -> str:
    """The fine-tuning model that has the encoder of a model, pre-training or not; no aliases."""
    name = ALIASES.get(name, name)
    return name.removeprefix(CONTRASTIVE_PREFIX).removeprefix(PRETRAIN_PREFIX)
