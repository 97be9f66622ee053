"""Small versions of the registered models, masks that suit them, and golden files."""

import json

import numpy as np
import torch

from svfap import models

FINETUNE_NAMES = [name for name in models.list_models() if not name.startswith("pretrain_")]
PRETRAIN_NAMES = models.list_models("pretrain_*")


def small_overrides(name: str) -> dict:
    """Overrides that keep a model's structure but make it quick."""
    patch_size = models.default_config(name)["patch_size"]
    overrides = {"img_size": 4 * patch_size, "embed_dim": 24, "num_heads": 2}
    if "maedfer" not in name and models.default_config(name).get("depth", 0) > 8:
        overrides["depth"] = 4
    if "maedfer" in name:
        overrides["region_size"] = [2, 2, 4]
    if name.startswith("pretrain_"):
        overrides |= {"decoder_embed_dim": 12, "decoder_num_heads": 2, "decoder_depth": 1}
    return overrides


def distinct(names: list[str]) -> list[str]:
    """Those of some models whose small versions are not like that of an earlier one."""
    first = {}
    for name in names:
        config = models.default_config(name) | small_overrides(name) | {"name": ""}
        family = models.encoder_name(name).split("_")[0]
        first.setdefault((family, str(sorted(config.items()))), name)
    return list(first.values())


def small_model(name: str, **more) -> torch.nn.Module:
    """A quick model of a registered name with random, not just initial, weights."""
    torch.manual_seed(0)
    model = models.create_model(name, **(small_overrides(name) | more))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def random_clip(model, batch: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 3, model.num_frames, model.img_size, model.img_size)
    return torch.randn(shape, generator=generator)


def tube_mask(model, visible_per_step: int, batch: int = 2, seed: int = 2) -> torch.Tensor:
    """(B, N) tube mask; half of the visible places in each half of the rows (for LGI-Former)."""
    t, h, w = model.grid
    rng = np.random.default_rng(seed)
    mask = np.ones((batch, h * w), dtype=bool)
    for row in mask:
        for half in (0, 1):
            count = (visible_per_step + 1 - half) // 2
            start = half * (h // 2) * w
            row[start + rng.permutation(h // 2 * w)[:count]] = False
    return torch.from_numpy(np.tile(mask, (1, t)))


def load_golden(folder, name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """All parts of a golden file: tensors by name, and the released constructor arguments."""
    arrays = {}
    for part in sorted(folder.glob(f"{name}.part*.npz")):
        with np.load(part, allow_pickle=False) as file:
            arrays |= {key: file[key] for key in file.files}
    meta = json.loads(arrays.pop("meta").tobytes())
    return {key: torch.from_numpy(value) for key, value in arrays.items()}, meta


def model_from_golden(arrays: dict, meta: dict, name: str) -> torch.nn.Module:
    """The model a golden file describes, with its weights, in float64."""
    stage = "encoder_" if name.startswith("pretrain_") else ""
    overrides = {
        "img_size": meta["img_size"],
        "patch_size": meta["patch_size"],
        "num_frames": arrays["video"].shape[2],
        "mlp_ratio": meta["mlp_ratio"],
        "embed_dim": meta[stage + "embed_dim"],
        "num_heads": meta[stage + "num_heads"],
        "depth": meta.get(stage + "depth"),
        "region_size": meta.get("lg_region_size"),
        "first_attn_type": meta.get("lg_first_attn_type"),
        "third_attn_type": meta.get("lg_third_attn_type"),
        "pooled_tokens": meta.get("lg_classify_token_type"),
    }
    same = ("num_classes", "stage_depths", "num_bottleneck_tokens", "temporal_kernel_size")
    decoder = ("decoder_embed_dim", "decoder_depth", "decoder_num_heads")
    overrides |= {key: meta.get(key) for key in (*same, *decoder)}
    overrides = {key: value for key, value in overrides.items() if value is not None}
    model = models.create_model(name, **overrides)
    weights = {k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")}
    model.load_state_dict(weights, strict=True)
    return model.double().eval()
