"""Outputs over time: `keep_temporal_dim` of every fine-tuning model, interpolation to frames."""

import pytest
import torch

from svfap import models
from svfap.models.tpsbt import TPSBT
from tests.model_cases import FINETUNE_NAMES, distinct, random_clip, small_model


@pytest.mark.parametrize("name", distinct(FINETUNE_NAMES))
def test_every_encoder_answers_per_time_step(name):
    pooled = small_model(name).double().eval()
    model = models.create_model(**(pooled.config | {"keep_temporal_dim": True})).double().eval()
    model.load_state_dict(pooled.state_dict(), strict=True)
    clip = random_clip(model).double()
    steps = model.output_steps
    assert 1 < steps <= model.grid[0] and model.num_frames % steps == 0
    assert pooled.output_steps == 1
    outputs, features = model(clip), model.forward_features(clip)
    assert outputs.shape == (2, steps, 7) and features.shape == (2, steps, 24)
    torch.testing.assert_close(outputs, model.head(features), rtol=0, atol=0)
    assert model(clip, per_frame=True).shape == (2, model.num_frames, 7)
    # Steps have equally many tokens: before the norm, their mean is what the other model pools.
    model.fc_norm, pooled.fc_norm = torch.nn.Identity(), torch.nn.Identity()
    torch.testing.assert_close(
        model.forward_features(clip).mean(1), pooled.forward_features(clip), rtol=0, atol=1e-12
    )
    with pytest.raises(ValueError, match="keep_temporal_dim=True"):
        pooled(clip, per_frame=True)


@pytest.mark.parametrize("pooled_tokens", ["region", "org", "all"])
def test_lgi_former_keeps_time_whatever_it_pools(pooled_tokens):
    """Tokens of a time step come from the regions of that time."""
    model = small_model(
        "maedfer_tiny_patch8_64", pooled_tokens=pooled_tokens, keep_temporal_dim=True,
        no_second=True, third_attn_type="self",
    ).double().eval()  # fmt: skip
    clip = random_clip(model, batch=1).double()
    changed = clip.clone()
    changed[:, :, -4:] += 1.0  # the last region in time: 2 tubelets of 2 frames
    one, other = model(clip), model(changed)
    assert model.output_steps == 4
    # Without attention between regions nothing but the last step can change.
    assert torch.equal(one[:, :-1], other[:, :-1])
    assert not torch.allclose(one[:, -1], other[:, -1])


def test_steps_are_those_of_the_last_stage():
    model = models.create_model("svfap_tiny_patch8_64", keep_temporal_dim=True)
    assert isinstance(model, TPSBT) and model.grid[0] == 8
    assert model.output_steps == 2
    assert models.create_model("videomae_tiny_patch8_64", keep_temporal_dim=True).output_steps == 8
    two = models.create_model("svfap_tiny_patch8_64", keep_temporal_dim=True, stage_depths=[2, 2])
    assert two.output_steps == 4


def test_activation_comes_before_interpolation():
    model = small_model("svfap_tiny_patch8_64", keep_temporal_dim=True, head_activation="tanh")
    values = model.eval()(random_clip(model), per_frame=True)
    assert values.abs().max() <= 1


def test_interpolation_by_hand():
    steps = torch.tensor([[[0.0, 1.0], [4.0, 1.0]]])  # two steps of four frames each
    frames = models.to_frames(steps, 8)
    # Middles of the steps lie at 1.5 and 5.5; 1 per frame between them, constant outside.
    expected = [0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.0, 4.0]
    assert frames[0, :, 0].tolist() == expected
    assert frames[0, :, 1].tolist() == [1.0] * 8
    assert torch.equal(models.to_frames(steps[:, :1], 3), torch.tensor([[[0.0, 1.0]] * 3]))
