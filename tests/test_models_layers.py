"""Patches, positions, attention, stochastic depth and initialisation against values by hand."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends
from torch.utils._python_dispatch import TorchDispatchMode

from svfap import models
from svfap.models import layers
from svfap.models.encoder import EncoderOutput
from svfap.models.lgi_former import LGIBlock
from svfap.models.masked_autoencoder import fuse_stages
from svfap.models.patches import (
    TubeletEmbedding,
    gather_tokens,
    patchify,
    sinusoid_table,
    split_mask,
    standardise_colours,
    unpatchify,
)
from svfap.models.tpsbt import SpatialAttention, TemporalDownsample
from tests.model_cases import small_model

TUBELET = (2, 3, 4)


def numbered_clip() -> torch.Tensor:
    return torch.arange(2 * 3 * 4 * 6 * 8.0).view(2, 3, 4, 6, 8)


def test_patchify_orders_frame_row_column_colour():
    clip = numbered_clip()
    tokens = patchify(clip, TUBELET)
    assert tokens.shape == (2, 2 * 2 * 2, 2 * 3 * 4 * 3)
    expected = [
        clip[1, colour, 2 + frame, row, 4 + column].item()  # token (t, h, w) = (1, 0, 1)
        for frame in range(2)
        for row in range(3)
        for column in range(4)
        for colour in range(3)
    ]
    assert tokens[1, 5].tolist() == expected
    assert torch.equal(unpatchify(tokens, TUBELET, (2, 2, 2)), clip)


def test_patchify_errors():
    with pytest.raises(ValueError, match="does not divide into tubelets"):
        patchify(numbered_clip()[:, :, :3], TUBELET)
    with pytest.raises(ValueError, match=r"expected \(B, 12, colours \* 24\)"):
        unpatchify(torch.zeros(1, 8, 72), TUBELET, (2, 2, 3))


def test_tubelet_embedding_equals_the_convolution():
    torch.manual_seed(0)
    embed = TubeletEmbedding(tubelet=TUBELET, embed_dim=5).double()
    clip = torch.randn(2, 3, 4, 6, 8).double()
    expected = embed.proj(clip).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(clip), expected, rtol=0, atol=1e-12)
    indices = torch.tensor([[0, 3, 7], [1, 2, 6]])
    chosen = embed(clip, indices)
    torch.testing.assert_close(chosen, gather_tokens(expected, indices), rtol=0, atol=1e-12)


def test_split_mask():
    mask = torch.tensor([[True, False, True, False], [False, True, True, False]])
    visible, masked = split_mask(mask)
    assert visible.tolist() == [[1, 3], [0, 3]]
    assert masked.tolist() == [[0, 2], [1, 2]]
    assert visible.dtype == torch.int64
    for one, other in zip(split_mask(mask, 2), (visible, masked)):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match=r"got \[2, 3\]"):
        split_mask(torch.tensor([[True, False, True, False], [False, True, False, False]]))
    with pytest.raises(ValueError, match="num_visible must be 0 to 4; got 5"):
        split_mask(mask, 5)
    with pytest.raises(ValueError, match="bool tensor"):
        split_mask(mask.float())


def test_sinusoid_table_by_hand():
    table = sinusoid_table(50, 6)
    for position, column in [(0, 0), (0, 1), (3, 0), (3, 1), (49, 2), (49, 5)]:
        angle = position / 10000 ** (2 * (column // 2) / 6)
        expected = math.cos(angle) if column % 2 else math.sin(angle)
        assert table[position, column].item() == pytest.approx(expected, abs=1e-7)


def test_attention_kernels_agree_with_the_formula():
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, n, 4, requires_grad=True) for n in (5, 7, 7))
    weights = (query @ key.transpose(-2, -1) / 2.0).softmax(-1)
    expected = weights @ value
    torch.testing.assert_close(layers.attention(query, key, value), expected)
    torch.testing.assert_close(layers._chunked_attention(query, key, value), expected)
    halves = [x.bfloat16() for x in (query, key, value)]
    torch.testing.assert_close(layers.attention(*halves).float(), expected, rtol=0.1, atol=0.03)


@pytest.mark.parametrize("amx", [True, False])
def test_bf16_on_cpu_avoids_sdpa(monkeypatch, amx):
    """In training; with AMX not in evaluation."""
    monkeypatch.setattr(layers, "_HAS_AMX", amx)
    calls = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a: calls.append(a) or original(*a)
    )
    query = torch.randn(2, 2, 5, 4, requires_grad=True)
    layers.attention(query, query, query)
    assert len(calls) == 1
    half = query.bfloat16()
    layers.attention(half, half, half)
    assert len(calls) == 1
    with torch.no_grad():
        layers.attention(half, half, half)
    assert len(calls) == 1 + amx


@pytest.mark.parametrize("cudnn", [True, False])
def test_cudnn_attends_on_cuda_where_shapes_stay_and_there_are_several_queries(monkeypatch, cudnn):
    """It comes first in training, and is ruled out for one query and in varying evaluation."""
    order = []

    def noted(query, key, value):
        order.append(_cur_sdpa_kernel_backends(with_priority=True))
        return query

    monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
    layers._chosen_kernels.close()  # an earlier run of this process may have chosen
    before = _cur_sdpa_kernel_backends(with_priority=True)
    layers.choose_attention_kernels(cudnn=cudnn)
    with FakeTensorMode():
        many = torch.empty(2, 4, 8, 16, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        layers.attention(many, many, many)
        assert (order.pop()[0] == SDPBackend.CUDNN_ATTENTION) is cudnn
        layers.attention(many[:, :, :1], many, many)
        assert SDPBackend.CUDNN_ATTENTION not in order.pop()
        with torch.no_grad():
            layers.attention(many, many, many)
            assert SDPBackend.CUDNN_ATTENTION not in order.pop()
            monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
            layers.attention(many, many, many)
            assert (SDPBackend.CUDNN_ATTENTION in order.pop()) is cudnn
    layers._chosen_kernels.close()
    assert _cur_sdpa_kernel_backends(with_priority=True) == before


def test_norms_in_half_answer_in_the_type_of_their_input():
    """Near to float32, which stays as it is; gradients reach the float32 weights."""
    norm = layers.LayerNorm(16)
    with torch.no_grad():
        norm.weight.add_(0.1 * torch.randn(16))
    tokens = torch.randn(4, 5, 16)
    exact = norm(tokens)
    model = torch.nn.Sequential(norm)
    layers.keep_norms_in_half(model, True)
    assert torch.equal(norm(tokens), exact)
    for dtype in (torch.bfloat16, torch.float16):
        rough = norm(tokens.to(dtype))
        assert rough.dtype == dtype
        torch.testing.assert_close(rough.float(), exact, rtol=0.02, atol=0.02)
    norm(tokens.bfloat16()).float().square().sum().backward()
    assert norm.weight.grad.dtype == torch.float32 and norm.bias.grad.abs().sum() > 0


def test_autocast_keeps_the_model_working():
    model = small_model("pretrain_svfap_tiny_patch8_64")
    clip = torch.randn(2, 3, 16, 32, 32)
    mask = torch.ones(2, 8, 16, dtype=torch.bool)
    mask[:, :, [1, 6, 9]] = False
    exact = model(clip, mask.flatten(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(clip, mask.flatten(1))
    rough.float().square().mean().backward()
    assert (rough.float() - exact).norm() < 0.05 * exact.norm()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_keys_have_no_bias():
    names = [name for name, _ in layers.SelfAttention(dim=4, num_heads=2).named_parameters()]
    assert sorted(names) == ["proj.bias", "proj.weight", "q_bias", "qkv.weight", "v_bias"]
    names = [name for name, _ in layers.CrossAttention(dim=4, num_heads=2).named_parameters()]
    assert "k_bias" not in names


def test_drop_path():
    drop = layers.DropPath(0.25)
    ones = torch.ones(4000, 2, 3)
    torch.manual_seed(0)
    dropped = drop(ones)
    rows = dropped.flatten(1)
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    torch.testing.assert_close(rows[:, 0].unique(), torch.tensor([0.0, 4 / 3]))
    assert rows.mean().item() == pytest.approx(1.0, abs=0.03)
    assert drop.eval()(ones) is ones
    assert layers.drop_path_rates(0.2, 5) == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert layers.drop_path_rates(0.2, 1) == [0.0]


def test_temporal_downsample_equals_convolution_per_place():
    torch.manual_seed(0)
    down = TemporalDownsample(dim=4, kernel_size=2).double()
    tokens = torch.randn(2, 6, 5, 4).double()  # (B, t, s, D)
    for place in range(5):
        series = tokens[:, :, place].transpose(1, 2)  # (B, D, t)
        expected = F.conv1d(series, down.weight, down.bias, stride=2).transpose(1, 2)
        torch.testing.assert_close(down(tokens)[:, :, place], expected, rtol=0, atol=1e-12)


def test_spatial_attention_weighs_unnormalised_tokens():
    torch.manual_seed(0)
    condense = SpatialAttention(dim=4, num_bottleneck_tokens=3)
    tokens = 10 + 5 * torch.randn(2, 6, 5, 4)
    sums = condense(tokens)
    assert sums.shape == (2, 6, 3, 4)
    assert (sums >= tokens.amin(2, keepdim=True) - 1e-4).all()  # convex combinations of a
    assert (sums <= tokens.amax(2, keepdim=True) + 1e-4).all()  # step's own tokens
    equal = tokens[:, :, :1].expand_as(tokens)
    torch.testing.assert_close(condense(equal), equal[:, :, :3])


def test_fusion_repeats_steps_not_places():
    def numbered(steps, factor):
        step = torch.arange(float(steps)).view(1, steps, 1, 1) * factor
        place = torch.arange(3.0).view(1, 1, 3, 1)
        return (step + place).flatten(1, 2)

    stages = [numbered(4, 100.0), numbered(2, 1000.0), numbered(1, 10000.0)]
    fused = fuse_stages(EncoderOutput(stages, [4, 2, 1], stages[-1]))
    expected = [
        step * 100 + (step // 2) * 1000 + 3 * place for step in range(4) for place in range(3)
    ]
    assert fused.flatten().tolist() == expected


def test_initial_values():
    model = models.create_model("svfap_tiny_patch8_64")
    limit = math.sqrt(6 / (128 + 3 * 128))
    assert 0.99 * limit < model.blocks[0].attn.qkv.weight.abs().max().item() <= limit
    assert model.head.weight.std().item() == pytest.approx(2e-5, rel=0.2)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, name.endswith("weight")))
        elif name.endswith("bias") and "proj" not in name and "temporal" not in name:
            assert not parameter.any(), name
    pretrain = models.create_model("pretrain_svfap_tiny_patch8_64")
    limit = math.sqrt(6 / (128 + 512))
    weight = pretrain.encoder.blocks[0].mlp.fc1.weight
    assert 0.99 * limit < weight.abs().max().item() <= limit


class Copies(TorchDispatchMode):
    """Counts operations that write in place, and those that copy a whole sequence."""

    def __init__(self, num_values: int):
        super().__init__()
        self.num_values, self.found = num_values, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        name = func._schema.name
        copies = any(word in name for word in ("clone", "copy", "cat"))
        is_long = isinstance(output, torch.Tensor) and output.numel() >= self.num_values
        if name.endswith("_") or (copies and is_long):
            self.found[name] += 1
        return output


@pytest.mark.parametrize("drop_path_rate", [0.0, 0.2])
def test_an_lgi_block_copies_the_sequence_once(drop_path_rate):
    """Representatives join the normalised tokens for the first attention; nothing else is moved."""
    options = dict.fromkeys(("attn_param_sharing_first_third", "attn_param_sharing_all",
                             "no_second", "no_third"), False)  # fmt: skip
    block = LGIBlock(
        dim=32, num_heads=4, mlp_ratio=4.0, drop_path_rate=drop_path_rate, first_attn_type="self",
        third_attn_type="cross", **options,
    ).train()  # fmt: skip
    tokens = torch.randn(2, 800, 32, requires_grad=True)
    representatives = torch.randn(2, 8, 32, requires_grad=True)
    with Copies(tokens.numel()) as copies:
        block(representatives, tokens)
    drawn = {"aten::bernoulli_": 4} if drop_path_rate else {}
    assert copies.found == {"aten::cat": 1} | drawn


def test_standardised_clip_has_zero_mean_and_unit_variance_per_colour():
    tubelets = torch.stack([numbered_clip().view(2, 8, -1)[0], 5 + 2 * torch.randn(8, 72)])
    values = standardise_colours(tubelets, num_colours=3).view(2, 8, 3, 24)
    torch.testing.assert_close(values.mean((1, 3)), torch.zeros(2, 3), atol=1e-4, rtol=0)
    variance = values.var((1, 3), unbiased=False)
    torch.testing.assert_close(variance, torch.ones(2, 3), atol=2e-3, rtol=0)
    grey = standardise_colours(torch.full((1, 2, 12), 0.3), num_colours=3)
    assert torch.equal(grey, torch.zeros(1, 2, 12))


def test_a_standardised_clip_hides_light_and_contrast():
    model = small_model("svfap_tiny_patch8_64", standardise_clip=True).eval()
    clip = torch.randn(2, 3, model.num_frames, model.img_size, model.img_size)
    gain, offset = torch.tensor([0.7, 1.2, 2.0]), torch.tensor([0.3, -0.2, 1.0])
    changed = clip * gain.view(3, 1, 1, 1) + offset.view(3, 1, 1, 1)
    torch.testing.assert_close(model(changed), model(clip), atol=2e-2, rtol=0)
    plain = small_model("svfap_tiny_patch8_64").eval()
    assert (plain(changed) - plain(clip)).abs().max() > 0.1


def test_weights_of_standardised_clips_need_a_model_that_standardises():
    trained = small_model("pretrain_svfap_tiny_patch8_64", standardise_clip=True)
    checkpoint = {"model": trained.state_dict(), "model_config": trained.config}
    with pytest.raises(ValueError, match="standardise_clip=True, the model has False.*add"):
        models.load_weights(small_model("svfap_tiny_patch8_64"), checkpoint)
    fitting = small_model("svfap_tiny_patch8_64", standardise_clip=True)
    assert models.load_weights(fitting, checkpoint).ok
