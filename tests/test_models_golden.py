"""Equality with the released modules (their two forward defects corrected)."""

import json
import zlib

import numpy as np
import pytest
import torch

from svfap import models
from svfap.models.patches import split_mask
from tests.model_cases import load_golden, model_from_golden

FAMILIES = ["svfap", "maedfer", "videomae"]
EXACT = {"rtol": 0.0, "atol": 1e-9}
PRETRAIN_BASE = [f"pretrain_{family}_base_patch16_160" for family in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES)
def test_finetune_tiny_equals_released(golden_dir, family):
    arrays, meta = load_golden(golden_dir, f"{family}_finetune_tiny")
    model = model_from_golden(arrays, meta, f"{family}_base_patch16_160")
    video = arrays["video"].double()
    torch.testing.assert_close(model(video), arrays["logits"], **EXACT)
    torch.testing.assert_close(model.forward_features(video), arrays["feature"], **EXACT)


def test_finetune_gradients_equal_released(golden_dir):
    arrays, meta = load_golden(golden_dir, "svfap_finetune_tiny")
    model = model_from_golden(arrays, meta, "svfap_base_patch16_160")
    video = arrays["video"].double().requires_grad_()
    (model(video) ** 2).sum().backward()
    patch_norm = model.patch_embed.proj.weight.grad.norm()
    torch.testing.assert_close(video.grad.norm(), arrays["grad_video_norm"], **EXACT)
    torch.testing.assert_close(patch_norm, arrays["grad_patch_embed"], **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("counted", [False, True])
def test_pretrain_tiny_equals_released(golden_dir, family, counted):
    arrays, meta = load_golden(golden_dir, f"{family}_pretrain_tiny")
    model = model_from_golden(arrays, meta, f"pretrain_{family}_base_patch16_160")
    video, mask = arrays["video"].double(), arrays["mask"]
    visible, _ = split_mask(mask)
    prediction = model(video, mask, num_visible=visible.shape[1] if counted else None)
    torch.testing.assert_close(model.encode(video, visible), arrays["encoder_tokens"], **EXACT)
    torch.testing.assert_close(prediction[..., ::4], arrays["prediction_every_4th"], **EXACT)


@pytest.fixture(scope="module")
def base_models(golden_dir) -> dict:
    return json.loads((golden_dir / "base_models.json").read_text())


def closed_form_model(name: str, parameters: dict) -> torch.nn.Module:
    """The full-size model with the golden probe's weights."""
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in models.create_model(name).state_dict().items()}
    assert shapes == {k: tuple(v) for k, v in parameters.items()}
    model = models.create_model(name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            phase = zlib.crc32(key.encode()) % 1000
            values = 0.02 * np.cos(0.7391 * np.arange(parameter.numel()) + phase)
            values += 1.0 if "norm" in key and key.endswith("weight") else 0.0
            parameter.copy_(torch.from_numpy(values.astype(np.float32)).view_as(parameter))
    return model.eval()


def probe_clip() -> torch.Tensor:
    """The golden probe's input."""
    i = np.arange(2 * 3 * 16 * 160 * 160)
    values = np.sin(0.0137 * i + 0.5 * np.cos(0.00071 * i))
    return torch.from_numpy(values.astype(np.float32)).view(2, 3, 16, 160, 160)


def close(actual: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [f"{family}_base_patch16_160" for family in FAMILIES])
@torch.no_grad()
def test_base_finetune_probe(base_models, name):
    golden = base_models[name]
    model = closed_form_model(name, golden["parameters"])
    assert sum(p.numel() for p in model.parameters()) == golden["total"]
    feature = model.forward_features(probe_clip())
    close(feature[:, :8], golden["probe"]["feature_first8"])
    close(model.head(feature), golden["probe"]["logits"])


@pytest.mark.parametrize("name", PRETRAIN_BASE)
@torch.no_grad()
def test_base_pretrain_probe(base_models, name):
    golden = base_models[name]
    model = closed_form_model(name, golden["parameters"])
    assert sum(p.numel() for p in model.parameters()) == golden["total"]
    probe = golden["probe"]
    mask = torch.ones(2, 8, 100, dtype=torch.bool)
    for row, places in zip(mask, probe["visible_patch_indices"]):
        row[:, places] = False
    prediction = model(probe_clip(), mask.flatten(1))
    assert list(prediction.shape) == probe["prediction_shape"]
    close(prediction[:, 0, :8], probe["prediction_first8"])
    assert prediction.mean().item() == pytest.approx(probe["prediction_mean"], abs=1e-6)
    assert prediction.std().item() == pytest.approx(probe["prediction_std"], rel=1e-5)


def test_layer_decay_of_released_recipe(golden_dir):
    golden = json.loads((golden_dir / "layer_decay.json").read_text())
    with torch.device("meta"):
        model = models.create_model(golden["model"])
    groups = model.layer_groups()
    assert len(groups) == golden["num_layers"] + 2
    for depth, names in enumerate(groups):
        for name in names:
            expected = golden["parameters"].pop(name)
            factor = golden["layer_decay"] ** (len(groups) - 1 - depth)
            assert factor == pytest.approx(expected["lr_scale"], rel=1e-12), name
            decays = model.get_parameter(name).dim() > 1 and name not in model.no_weight_decay()
            assert expected["weight_decay"] == (golden["weight_decay"] if decays else 0.0), name
    assert not golden["parameters"]
