"""Public weights: opened from names and shapes, equal to the models they are of."""

import copy
import json

import numpy as np
import pytest
import torch

from svfap import models
from svfap.models.patches import interpolated_positions, sinusoid_table
from svfap.models.weights.formats import IMAGENET
from tests.conftest import ROOT

PUBLIC = ROOT.parent / "shared" / "public_weights"
EXACT = {"rtol": 0.0, "atol": 1e-9}


def golden(name: str) -> tuple[dict[str, torch.Tensor], dict, dict[str, torch.Tensor]]:
    """What a golden file holds: tensors (in float64), constructor arguments, weights."""
    path = PUBLIC / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}
        meta = json.loads(file["meta"].tobytes())
    weights = {k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")}
    rest = {k: v for k, v in arrays.items() if not k.startswith("param/")}
    return {k: v.double() if v.is_floating_point() else v for k, v in rest.items()}, meta, weights


def opened(weights, **overrides) -> tuple[torch.nn.Module, models.LoadReport]:
    model, report = models.open_weights(weights, **overrides)
    assert report.ok and not report.new
    return model.double().eval(), report


FINE_TUNED = [
    *("hf_videomae_classify_tiny", "videomaev2_finetune_tiny", "mira_exact_finetune_tiny"),
    *("mira_flashlite_finetune_tiny", "s4d_finetune_tiny", "marlin_encoder_tiny"),
    *("vjepa2_encoder_tiny", "hicmae_video_tiny"),
]
PRETRAINED = [
    *("hf_videomae_pretrain_tiny", "videomaev2_pretrain_tiny", "s4d_pretrain_tiny"),
    *("mira_exact_pretrain_tiny", "mira_flashlite_pretrain_tiny", "marlin_full_tiny"),
]


@pytest.mark.parametrize("name", FINE_TUNED)
def test_classifiers_equal_their_sources(name):
    arrays, meta, weights = golden(name)
    model, report = opened(weights, **meta)
    if "logits" in arrays:
        torch.testing.assert_close(model(arrays["video"]), arrays["logits"], **EXACT)
    feature = model.forward_features(arrays["video"])
    torch.testing.assert_close(feature, arrays["feature"], **EXACT)
    assert report.preprocessing.size == report.preprocessing["size"] == model.img_size


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretraining_models_equal_their_sources(name):
    arrays, meta, weights = golden(name)
    model, _ = opened(weights, **meta)
    mask, expected = arrays["mask"], arrays["prediction"]
    if expected.shape[1] == model.num_tokens:  # S4D predicts all tokens
        expected = torch.stack([row[hidden] for row, hidden in zip(expected, mask)])
    torch.testing.assert_close(model(arrays["video"], mask), expected, **EXACT)
    visible = torch.stack([(~row).nonzero()[:, 0] for row in mask])
    tokens = model.encode(arrays["video"], visible)
    torch.testing.assert_close(tokens, arrays["encoder_tokens"], **EXACT)
    if "tokens_unmasked" in arrays:
        mean = model.encode(arrays["video"]).mean(1)
        torch.testing.assert_close(mean, arrays["tokens_unmasked"], **EXACT)
    if "decoded" in arrays:
        chosen = torch.stack([row.nonzero()[:, 0] for row in arrays["decoded"]])
        prediction = model(arrays["video"], mask, predicted=chosen)
        torch.testing.assert_close(prediction, arrays["prediction_decoded"], **EXACT)


def test_positions_of_other_grids():
    arrays, meta, _ = golden("position_interpolation")
    table, before = arrays["table"], tuple(meta["grid_from"])
    for name in ("space", "space_time"):
        found = interpolated_positions(table, before, tuple(meta[f"grid_{name}"]))
        torch.testing.assert_close(found, arrays[name], **EXACT)
    recomputed = sinusoid_table(len(arrays["recomputed"]), meta["width"]).double()
    torch.testing.assert_close(recomputed, arrays["recomputed"], **EXACT)


MIRA = ["mira_exact", "mira_flashlite"]


@pytest.mark.parametrize("name", MIRA)
def test_mira_weighs_steps_as_released(name):
    arrays, meta, weights = golden(f"{name}_finetune_tiny")
    with pytest.raises(ValueError, match="use_fmp_flashlite=True or False"):
        models.open_weights(weights, num_heads=4)
    model, _ = opened(weights, **meta)
    (model(arrays["video"]) ** 2).sum().backward()
    gradients = {
        "qkv0": model.blocks[0].attn.qkv.weight,
        "patch_embed": model.patch_embed.proj.weight,
    }
    for part, parameter in gradients.items():
        torch.testing.assert_close(parameter.grad.norm(), arrays[f"grad_{part}_norm"], **EXACT)


@pytest.mark.parametrize("name", MIRA)
def test_mira_remembers_its_steps_in_training_only(name):
    arrays, meta, weights = golden(f"{name}_pretrain_tiny")
    model, _ = opened(weights, **meta)
    before = copy.deepcopy(model)
    prediction = model.train()(arrays["video"], arrays["mask"])
    torch.testing.assert_close(prediction, arrays["prediction_training"], **EXACT)
    kept = torch.cat([block.attn.c_buf for block in model.encoder.blocks])
    torch.testing.assert_close(kept, arrays["c_buf_after"], **EXACT)
    before.set_grad_checkpointing()
    for one in (model, before):
        one.load_state_dict(opened(weights, **meta)[0].state_dict())
        one.train()(arrays["video"], arrays["mask"]).square().sum().backward()
    for one, other in zip(model.parameters(), before.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-12)
    uneven = arrays["mask"].sort(1).values
    with pytest.raises(ValueError, match="--mask_type tube"):
        model(arrays["video"], uneven)


def test_s4d_asks_its_experts(monkeypatch):
    arrays, meta, weights = golden("s4d_finetune_tiny")
    clip_by_clip = {key: value for key, value in meta.items() if key != "moe"}
    model, report = opened(weights, **clip_by_clip)
    assert "head.image.weight" in report.unused
    alone = arrays["logits_first_clip_alone"]
    torch.testing.assert_close(model(arrays["video"])[:1], alone, **EXACT)
    as_released, _ = opened(weights, **meta)
    noise = iter(arrays["router_noise"])
    monkeypatch.setattr(torch, "randn_like", lambda wanted: next(noise).to(wanted))
    torch.testing.assert_close(
        as_released.train()(arrays["video"]), arrays["logits_with_router_noise"], **EXACT
    )
    images, _ = opened(weights, **(meta | {"all_frames": 2}), head="image")
    clip = arrays["image"][:, :, None].expand(-1, -1, 2, -1, -1)
    torch.testing.assert_close(images(clip), arrays["image_logits"], **EXACT)
    torch.testing.assert_close(images.forward_features(clip), arrays["image_feature"], **EXACT)


def test_marlin_takes_pixels_as_they_are():
    arrays, meta, weights = golden("marlin_full_tiny")
    _, report = opened(weights, **meta)
    assert report.preprocessing.mean == (0, 0, 0) and report.preprocessing["std"] == (1, 1, 1)
    classifier, report = models.open_weights(weights, **meta, num_classes=0)
    feature = classifier.double().eval().forward_features(arrays["video"])
    torch.testing.assert_close(feature, arrays["feature"], **EXACT)
    # a model of the program takes ImageNet's normalisation; the patch embedding makes up for it
    usual = models.create_model(**(classifier.config | {"mean": None, "std": None}))
    report = models.load_weights(usual, weights)
    assert "patch embedding makes up for another normalisation" in str(report)
    mean, std = (torch.tensor(values)[:, None, None, None] for values in IMAGENET)
    changed = usual.double().eval().forward_features((arrays["video"] - mean) / std)
    torch.testing.assert_close(changed, feature, rtol=1e-6, atol=1e-6)
