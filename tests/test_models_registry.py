"""Names, aliases, overrides, timm, and messages for sizes that do not fit."""

import subprocess
import sys

import pytest
import timm
import torch

from svfap import models
from svfap.models import registry
from tests.model_cases import random_clip, small_model, small_overrides, tube_mask

SVFAP = "svfap_tiny_patch8_64"
PRETRAIN = "pretrain_svfap_tiny_patch8_64"
MAEDFER = "maedfer_tiny_patch8_64"


def test_names():
    sizes = {
        "svfap_base_patch16_160",
        "svfap_small_patch16_160",
        "svfap_tiny_patch8_64",
        "maedfer_base_patch16_160",
        "maedfer_tiny_patch8_64",
        *(f"videomae_{size}_patch16_{side}"
          for size in ("small", "base", "large", "huge") for side in (160, 224)),
        "videomae_giant_patch14_224",
        "videomae_tiny_patch8_64",
        *(f"mira_{size}_patch16_224" for size in ("base", "large", "huge")),
        *(f"marlin_{size}_patch16_224" for size in ("small", "base", "large")),
    }  # fmt: skip
    fine_tuned = {
        *(f"hicmae_{size}_patch16_160" for size in ("tiny", "small", "base")),
        *("s4d_base_patch16_160", "vjepa2_large_patch16_256"),
    }
    assert set(models.list_models()) == sizes | fine_tuned | {f"pretrain_{name}" for name in sizes}
    with pytest.raises(ValueError, match="unknown model 'pretrain_s4d_base"):
        models.create_model("pretrain_s4d_base_patch16_160")
    assert models.list_models("svfap*") == sorted(n for n in sizes if n.startswith("svfap"))


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("vit_base_dim512_no_depth_patch16_160", "maedfer_base_patch16_160"),
        (
            "pretrain_videomae_base_dim512_no_depth_patch16_160",
            "pretrain_maedfer_base_patch16_160",
        ),
        ("vit_base_patch16_160", "videomae_base_patch16_160"),
    ],
)
def test_released_names(alias, name):
    with torch.device("meta"):
        assert models.create_model(alias).config == models.create_model(name).config
        assert timm.create_model(alias).config["name"] == name


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="unknown model 'svfap_huge'.*svfap_base_patch16_160"):
        models.create_model("svfap_huge")
    with pytest.raises(ValueError, match="has no option depth; it has: .*stage_depths"):
        models.create_model(SVFAP, depth=3)
    with pytest.raises(ValueError, match="has no option decoder_depth"):
        models.create_model(SVFAP, decoder_depth=3)


def test_timm_builds_the_same_model():
    torch.manual_seed(5)
    ours = models.create_model(SVFAP, num_classes=3)
    torch.manual_seed(5)
    theirs = timm.create_model(SVFAP, num_classes=3, cache_dir=None)
    assert theirs.config == ours.config
    for one, other in zip(ours.parameters(), theirs.parameters()):
        assert torch.equal(one, other)
    assert all(name in timm.list_models() for name in models.list_models())
    with pytest.raises(ValueError, match="load_weights"):
        timm.create_model(SVFAP, pretrained=True)


@pytest.mark.parametrize("order", ["import timm, models", "import models, timm"])
def test_timm_knows_the_names_in_either_order_of_import(order):
    check = f"assert timm.is_model('{SVFAP}'); timm.create_model('{SVFAP}', depth=1)"
    done = subprocess.run(
        [sys.executable, "-c", f"{order}; {check}"], capture_output=True, text=True
    )
    assert f"ValueError: {SVFAP} has no option depth" in done.stderr


def test_import_is_light():
    check = "import sys, models; sys.exit('timm' in sys.modules or 'torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_none_keeps_the_default_and_configs_are_independent():
    model = small_model(SVFAP, stage_depths=None)
    assert model.config["stage_depths"] == [4, 2, 2]
    model.config["stage_depths"].append(9)
    assert models.default_config(SVFAP)["stage_depths"] == [4, 2, 2]
    assert small_model(SVFAP, stage_depths=(1, 2)).config["stage_depths"] == [1, 2]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (SVFAP, {"img_size": 60}, "does not divide into tubelets of .2, 8, 8."),
        (SVFAP, {"num_frames": 15}, "num_frames, img_size, tubelet_size or patch_size"),
        (SVFAP, {"num_frames": 12}, "num_frames must be a multiple of 8"),
        (SVFAP, {"temporal_kernel_size": 3}, "must be a multiple of 18"),
        (SVFAP, {"temporal_kernel_size": 0}, "temporal_kernel_size must be .* from 1; got 0"),
        (SVFAP, {"num_bottleneck_tokens": [4, 4, 4]}, "has 3 values; give one .* or 2"),
        (SVFAP, {"num_bottleneck_tokens": -1}, "num_bottleneck_tokens must be .* got -1"),
        (SVFAP, {"stage_depths": []}, "one per stage"),
        (SVFAP, {"stage_depths": [4, 0, 2]}, "whole numbers from 1"),
        (SVFAP, {"stage_depths": 4}, "must be a list"),
        (SVFAP, {"num_heads": 3}, "num_heads = 3 does not divide embed_dim = 128; possible"),
        (SVFAP, {"embed_dim": 0}, "embed_dim must be .* got 0"),
        (SVFAP, {"img_size": "64"}, "img_size must be .* got '64'"),
        (SVFAP, {"mlp_ratio": 0}, "mlp_ratio must be positive"),
        (SVFAP, {"drop_path_rate": 1.0}, "below 1; got 1.0"),
        (SVFAP, {"num_classes": -1}, "num_classes must be .* got -1"),
        (SVFAP, {"head_activation": "gelu"}, "'sigmoid', 'relu', 'tanh'.*got 'gelu'"),
        (PRETRAIN, {"decoder_num_heads": 5}, "decoder_num_heads = 5 does not divide decoder_"),
        (PRETRAIN, {"decoder_depth": -1}, "decoder_depth must be 0 or more"),
        ("videomae_tiny_patch8_64", {"depth": 0}, "depth must be .* got 0"),
        (MAEDFER, {"region_size": [2, 3, 8]}, "do not divide the token grid .8, 8, 8."),
        (MAEDFER, {"region_size": [2, 4]}, "three numbers .t, h, w."),
        (MAEDFER, {"pooled_tokens": "cls"}, "region, org, all; got 'cls'"),
        (MAEDFER, {"third_attn_type": "none"}, "self, cross; got 'none'"),
    ],
)
def test_sizes_that_do_not_fit_are_explained(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        models.create_model(name, **overrides)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        (SVFAP, {"num_frames": 8, "stage_depths": [1, 1, 1]}),
        (SVFAP, {"num_frames": 32, "num_bottleneck_tokens": [3, 5]}),
        (SVFAP, {"stage_depths": [2], "num_bottleneck_tokens": 2}),
        (SVFAP, {"stage_depths": [1, 2, 1, 2]}),
        (SVFAP, {"num_bottleneck_tokens": 0}),
        (SVFAP, {"num_bottleneck_tokens": [0, 3]}),
        (SVFAP, {"temporal_kernel_size": 1, "tubelet_size": 4}),
        (SVFAP, {"num_frames": 18, "temporal_kernel_size": 3}),
        (SVFAP, {"mlp_ratio": 2.5, "head_activation": "sigmoid", "num_classes": 2}),
        (MAEDFER, {"num_frames": 8, "region_size": [4, 2, 4], "pooled_tokens": "org"}),
        (MAEDFER, {"depth": 2, "pooled_tokens": "all"}),
        (MAEDFER, {"first_attn_type": "cross", "third_attn_type": "self", "depth": 2}),
        (MAEDFER, {"attn_param_sharing_first_third": True, "depth": 2}),
        (MAEDFER, {"attn_param_sharing_all": True, "depth": 2}),
        (MAEDFER, {"no_second": True, "pooled_tokens": "all", "depth": 2}),
        (MAEDFER, {"no_third": True, "pooled_tokens": "all", "depth": 2}),
    ],
)
@pytest.mark.parametrize("stage", ["", "pretrain_"])
def test_other_sizes_run_and_come_back_from_their_config(name, overrides, stage):
    if stage:
        overrides = {k: v for k, v in overrides.items() if k not in ("num_classes",)}
        overrides.pop("head_activation", None)
    model = small_model(stage + name, **overrides).train()
    clip = random_clip(model)
    output = model(clip, tube_mask(model, 4)) if stage else model(clip)
    output.square().sum().backward()
    assert torch.isfinite(output).all()
    again = models.create_model(**model.config)
    again.load_state_dict(model.state_dict(), strict=True)
    inputs = (clip, tube_mask(model, 4)) if stage else (clip,)
    assert torch.equal(again.eval()(*inputs), model.eval()(*inputs))


@pytest.mark.parametrize("visible_per_step", [1, 3, 7, 15, 16])
def test_odd_numbers_of_visible_tokens(visible_per_step):
    """Bottleneck tokens may outnumber the visible ones, and their number may be odd."""
    model = small_model(PRETRAIN, num_bottleneck_tokens=5).eval()
    mask = tube_mask(model, visible_per_step)
    prediction = model(random_clip(model), mask)
    assert prediction.shape == (2, model.num_tokens - 8 * visible_per_step, 384)
    assert torch.isfinite(prediction).all()


@pytest.mark.parametrize("ratio", [0.75, 0.85, 0.9, 0.95])
def test_published_mask_ratios_run(ratio):
    model = small_model(PRETRAIN, img_size=80).eval()  # 10 x 10 places, as at 160 px
    hidden_per_step = int(100 * ratio)
    mask = tube_mask(model, 100 - hidden_per_step)
    assert model(random_clip(model), mask).shape[1] == 8 * hidden_per_step


def test_clips_and_masks_that_do_not_fit_are_explained():
    model = small_model(PRETRAIN)
    clip, mask = random_clip(model), tube_mask(model, 4)
    with pytest.raises(ValueError, match=r"\(B, 3, 16, 32, 32\)"):
        model(clip[:, :, :8], mask)
    with pytest.raises(ValueError, match="mask has 96 tokens; this model has 128"):
        model(clip, mask[:, :96])
    with pytest.raises(ValueError, match="bool tensor .* got torch.int64"):
        model(clip, mask.long(), num_visible=32)
    uneven = mask.clone()
    uneven[0] = tube_mask(model, 6)[0]
    with pytest.raises(ValueError, match=r"same number of tokens; got \[48, 32\]"):
        model(clip, uneven)
    unsteady = mask.clone()
    unsteady[0, 0] = ~unsteady[0, 0]
    unsteady[0, 16:32] = True
    unsteady[0, 16 : 16 + int((~mask[0]).sum() - (~unsteady[0]).sum())] = False
    with pytest.raises(ValueError, match="--mask_type tube"):
        model(clip, unsteady)
    with pytest.raises(ValueError, match="multiple of 8, from 8"):
        model(clip, mask, num_visible=31)
    regional = small_model("pretrain_maedfer_tiny_patch8_64")
    with pytest.raises(ValueError, match="part_window"):
        regional(clip, tube_mask(regional, 3))
    with pytest.raises(ValueError, match="do not spread evenly over 8 regions"):
        regional(clip, mask, num_visible=31)


def test_plain_vit_takes_any_mask():
    model = small_model("pretrain_videomae_tiny_patch8_64").eval()
    mask = torch.rand(2, model.num_tokens).argsort(1) >= 37
    assert model(random_clip(model), mask).shape[1] == model.num_tokens - 37


def test_small_overrides_are_allowed_everywhere():
    for name in models.list_models():
        assert set(small_overrides(name)) <= set(models.default_config(name))


def test_the_package_offers_names_and_rooms_when_asked(monkeypatch):
    monkeypatch.delattr(models, "sizes")
    assert models.sizes.SIZES is registry.SIZES
    assert models.open_weights.__module__ == "svfap.models.weights.opening"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        models.nothing  # noqa: B018
    assert all(hasattr(models, name) for name in models.__all__)
