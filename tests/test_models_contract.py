"""The model contract of models/__init__.py, over every registered model."""

import copy
import json

import pytest
import torch

from svfap import models
from svfap.models.patches import split_mask
from tests import model_cases
from tests.model_cases import distinct, random_clip, small_model, small_overrides, tube_mask

FINETUNE_NAMES = distinct(model_cases.FINETUNE_NAMES)
PRETRAIN_NAMES = distinct(model_cases.PRETRAIN_NAMES)
ALL_NAMES = FINETUNE_NAMES + PRETRAIN_NAMES
OF_A_KIND = {
    *("mira_base_patch16_224", "pretrain_mira_huge_patch16_224", "s4d_base_patch16_160"),
    "vjepa2_large_patch16_256",
}
BUFFERS = ("attn.c_buf", "position_table")  # of MiRA and MARLIN, in files of weights


def call(model, clip, visible_per_step=4):
    if model.config["name"].startswith("pretrain_"):
        return model(clip, tube_mask(model, visible_per_step, batch=len(clip)))
    return model(clip)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_describes_itself(name):
    model = small_model(name)
    t, h, w = model.grid
    frames, height_px, width_px = model.tubelet
    assert (t * frames, h * height_px, w * width_px) == (
        model.num_frames,
        model.img_size,
        model.img_size,
    )
    assert model.num_tokens == t * h * w
    assert model.embed_dim == 24
    assert model.config["name"] == name


@pytest.mark.parametrize("name", ALL_NAMES)
def test_config_and_state_dict_round_trip(name):
    model = small_model(name, drop_path_rate=0.1)
    config = json.loads(json.dumps(model.config))
    assert config == model.config
    again = models.create_model(**config)
    again.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    assert again.config == model.config
    parameters = [key for key, _ in model.named_parameters()]
    beside = [key for key in again.state_dict() if not key.endswith(BUFFERS)]
    assert beside == parameters
    clip = random_clip(model)
    assert torch.equal(call(model.eval(), clip), call(again.eval(), clip))


@pytest.mark.parametrize("name", ALL_NAMES)
def test_output_is_bitwise_deterministic_and_row_independent(name):
    model = small_model(name).double().eval()
    clip = random_clip(model, batch=3).double()
    first = call(model, clip)
    assert torch.equal(first, call(model, clip))
    assert torch.isfinite(first).all()
    if name in FINETUNE_NAMES:
        assert first.shape == (3, 7)
        torch.testing.assert_close(model(clip[1:2]), first[1:2], rtol=0, atol=1e-12)
        assert not torch.allclose(first[0], first[1])
    else:
        values = 3 * model.tubelet[0] * model.tubelet[1] * model.tubelet[2]
        assert first.shape == (3, model.num_tokens - 4 * model.grid[0], values)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_parameter_gets_a_gradient(name):
    model = small_model(name).train()
    output = call(model, random_clip(model))
    (output * torch.randn_like(output)).sum().backward()
    gradients = {key: p.grad for key, p in model.named_parameters()}
    assert not [key for key, grad in gradients.items() if grad is None]
    zero = {key for key, grad in gradients.items() if not grad.any()}
    if name.startswith("maedfer"):
        # Fine-tuning pools the representatives, which the last third attention does not reach.
        last = f"blocks.{len(model.blocks) - 1}.third_attn"
        assert zero == {key for key in gradients if key.startswith(last)}
    else:
        assert not zero


@pytest.mark.parametrize("name", ALL_NAMES)
def test_layer_groups_partition_the_parameters(name):
    model = small_model(name)
    groups = model.layer_groups()
    grouped = [key for group in groups for key in group]
    assert sorted(grouped) == sorted(key for key, _ in model.named_parameters())
    prefix = "encoder." if name in PRETRAIN_NAMES else ""
    assert groups[0] == [f"{prefix}patch_embed.proj.weight", f"{prefix}patch_embed.proj.bias"]
    for depth, group in enumerate(groups[1:-1]):
        assert group
        assert all(key.startswith(f"{prefix}blocks.{depth}.") for key in group)
    assert groups[-1][-1].startswith(("head.", "encoder_to_decoder", "decoder."))
    assert model.no_weight_decay() <= set(grouped)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("name", PRETRAIN_NAMES)
def test_masked_pixels_have_no_influence(name, standardise):
    model = small_model(name, standardise_clip=standardise).eval()
    clip, other = random_clip(model, seed=1), random_clip(model, seed=2)
    mask = tube_mask(model, visible_per_step=4)
    t, h, w = model.grid
    pixels = mask.view(-1, 1, t, h, w)
    for axis, size in enumerate(model.tubelet, start=2):
        pixels = pixels.repeat_interleave(size, dim=axis)
    changed = torch.where(pixels, other, clip)
    assert torch.equal(model(clip, mask), model(changed, mask))
    shown_changed = torch.where(pixels, clip, other)
    assert not torch.allclose(model(clip, mask), model(shown_changed, mask))


@pytest.mark.parametrize("name", PRETRAIN_NAMES)
def test_trusted_count_changes_nothing(name):
    model = small_model(name).eval()
    clip, mask = random_clip(model), tube_mask(model, visible_per_step=4)
    assert torch.equal(model(clip, mask), model(clip, mask, num_visible=4 * model.grid[0]))


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("name", PRETRAIN_NAMES)
def test_all_visible_mask_equals_no_mask(name, standardise):
    """Also across stages: the encoder hands on the same in pre-training and in fine-tuning."""
    pretrained = small_model(name, standardise_clip=standardise).double().eval()
    config = {k: v for k, v in pretrained.config.items() if not k.startswith("decoder_")}
    classifier = models.create_model(**config | {"name": name.removeprefix("pretrain_")})
    classifier = classifier.double().eval()
    models.load_weights(classifier, pretrained.state_dict())
    clip = random_clip(pretrained).double()
    nothing_hidden = torch.zeros(2, pretrained.num_tokens, dtype=torch.bool)
    visible, masked = split_mask(nothing_hidden)
    encoder = pretrained.encoder
    chosen = encoder.encode(encoder.embed(clip, visible), visible)
    everything = classifier.encode(classifier.embed(clip))
    for one, other in zip(chosen.stages, everything.stages):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    torch.testing.assert_close(chosen.summary, everything.summary, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        pretrained.encode(clip, visible), pretrained.encode(clip), rtol=0, atol=1e-12
    )
    assert pretrained(clip, nothing_hidden).shape[:2] == (2, 0) == masked.shape


@pytest.mark.parametrize("name", ALL_NAMES)
def test_recomputing_activations_changes_no_gradient(name):
    model = small_model(name, drop_path_rate=0.3).double().train()
    clip = random_clip(model).double()

    recomputing = copy.deepcopy(model)
    recomputing.set_grad_checkpointing(True)
    for one in (model, recomputing):
        torch.manual_seed(3)
        call(one, clip).square().sum().backward()
    for expected, actual in zip(model.parameters(), recomputing.parameters()):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-12, atol=1e-12)
    for expected, actual in zip(model.buffers(), recomputing.buffers()):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize("name", FINETUNE_NAMES)
def test_head_can_be_replaced(name):
    model = small_model(name).double().eval()
    clip = random_clip(model).double()
    feature = model.forward_features(clip)
    assert feature.shape == (2, model.embed_dim)
    model.reset_classifier(11)
    assert model(clip).shape == (2, 11)
    assert model.config["num_classes"] == models.create_model(**model.config).num_classes == 11
    assert model.head.weight.abs().max() < 1e-3  # starts near zero
    model.reset_classifier(0)
    assert torch.equal(model(clip), feature)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_needs_no_host_synchronisation(name):
    """Tensors of the meta device have no values to read back."""
    with torch.device("meta"):
        depth = {key: size for key, size in small_overrides(name).items() if key == "depth"}
        model = models.create_model(name, **depth)
        clip = torch.empty(2, 3, model.num_frames, model.img_size, model.img_size)
        if name in FINETUNE_NAMES:
            assert model(clip).shape == (2, 7)
        else:
            mask = torch.ones(2, model.num_tokens, dtype=torch.bool)
            assert model(clip, mask, num_visible=80).shape[:2] == (2, model.num_tokens - 80)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ALL_NAMES if "tiny" in n or n in OF_A_KIND])
def test_compiles_to_one_graph(name):
    model = small_model(name).eval()
    clip = random_clip(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    if name in FINETUNE_NAMES:
        assert torch.equal(compiled(clip), model(clip))
        return
    mask, num_visible = tube_mask(model, visible_per_step=4), 4 * model.grid[0]
    expected = model(clip, mask, num_visible=num_visible)
    assert torch.equal(compiled(clip, mask, num_visible=num_visible), expected)
