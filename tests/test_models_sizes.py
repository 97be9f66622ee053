"""Parameter counts and multiply-adds as published, counted on the meta device."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from svfap import models


def on_meta(name: str, **overrides) -> torch.nn.Module:
    with torch.device("meta"):
        return models.create_model(name, **overrides)


def multiply_adds(model: torch.nn.Module, *inputs, **options) -> float:
    """Multiply-adds of one forward pass in units of 1e9."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs, **options)
    return counter.get_total_flops() / 2e9


def meta_clip(model) -> torch.Tensor:
    return torch.empty(1, 3, model.num_frames, model.img_size, model.img_size, device="meta")


@pytest.mark.parametrize(
    ("name", "overrides", "million_parameters", "giga_multiply_adds"),
    [
        ("svfap_base_patch16_160", {}, 77.64, 43.6),
        ("svfap_small_patch16_160", {}, 29.7, 18.1),
        (
            "svfap_base_patch16_160",
            {"stage_depths": [12, 8, 4], "num_bottleneck_tokens": 0},
            77.5,
            53.1,
        ),
        ("maedfer_base_patch16_160", {}, 84.9, 49.75),
        ("videomae_base_patch16_160", {}, 86.2, 80.8),
        (
            "videomae_base_patch16_160",
            {"embed_dim": 512, "num_heads": 8, "depth": 24},
            76.4,
            76.9,
        ),
    ],
)
def test_finetune_cost(name, overrides, million_parameters, giga_multiply_adds):
    model = on_meta(name, **overrides)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(million_parameters, rel=1e-3)
    # The published numbers include element-wise work, about 0.3 %.
    cost = multiply_adds(model, meta_clip(model))
    assert cost == pytest.approx(giga_multiply_adds, rel=4e-3)
    assert cost < giga_multiply_adds


@pytest.mark.parametrize(
    ("name", "overrides", "parameters", "giga_multiply_adds"),
    [
        ("videomae_small_patch16_224", {"num_classes": 400}, 22_033_936, 56.88),
        ("mira_base_patch16_224", {}, 86_232_583, 180.34),
        ("s4d_base_patch16_160", {}, 100_513_646 - 7 * 769, 83.58),
        ("vjepa2_large_patch16_256", {"num_classes": 0}, 303_885_312, 827.85),
        ("hicmae_base_patch16_160", {"num_classes": 0}, None, 32.35),
    ],
)
def test_public_models_are_as_large_as_theirs(name, overrides, parameters, giga_multiply_adds):
    model = on_meta(name, **overrides)
    count = sum(p.numel() for p in model.parameters())
    assert parameters in (None, count)
    cost = multiply_adds(model, meta_clip(model))
    assert cost == pytest.approx(giga_multiply_adds, rel=2e-4)


@pytest.mark.parametrize(
    ("bottleneck_tokens", "visible_per_step", "giga_multiply_adds"),
    [(4, 10, 12.6), (8, 10, 12.9), (16, 10, 13.7), (8, 25, 18.4), (8, 15, 14.7), (8, 5, 11.2)],
)
def test_pretrain_cost(bottleneck_tokens, visible_per_step, giga_multiply_adds):
    name = "pretrain_svfap_base_patch16_160"
    model = on_meta(name, num_bottleneck_tokens=bottleneck_tokens)
    num_visible = 8 * visible_per_step
    mask = torch.ones(1, 800, dtype=torch.bool, device="meta")
    cost = multiply_adds(model, meta_clip(model), mask, num_visible=num_visible)
    # The released code embeds masked tubelets too, then throws them away.
    masked_embedding = (800 - num_visible) * 1536 * 512 / 1e9
    assert cost + masked_embedding == pytest.approx(giga_multiply_adds, abs=0.06)


def test_attention_blocks_cost_as_derived():
    """24 N D^2 + 4 N^2 D FLOP per block (12 and 2 multiply-adds), embedding and head apart."""
    model = on_meta("videomae_tiny_patch8_64", num_classes=0)
    n, d = 512, 128
    expected = 8 * (12 * n * d**2 + 2 * n**2 * d) + n * 384 * d
    assert multiply_adds(model, meta_clip(model)) == pytest.approx(expected / 1e9, rel=1e-9)


def test_tiny_models_are_of_equal_cost():
    costs = {}
    for family in ("svfap", "maedfer", "videomae"):
        model = on_meta(f"pretrain_{family}_tiny_patch8_64")
        mask = torch.ones(1, 512, dtype=torch.bool, device="meta")
        costs[family] = multiply_adds(model, meta_clip(model), mask, num_visible=48)
    assert max(costs.values()) < 1.1 * min(costs.values()), costs
