"""Plain ViTs in transformers: the same answers, with the biases of queries and values."""

import json

import pytest
import torch

from svfap import models
from svfap.models.convert import main as convert
from svfap.models.weights.to_transformers import OTHER_EPSILON

SMALL = {"img_size": 32, "patch_size": 8, "num_frames": 4, "embed_dim": 32, "num_heads": 4}


def with_values(name, **more):
    """A model none of whose parameters is zero, in float64."""
    torch.manual_seed(0)
    model = models.create_model(name, depth=2, **SMALL, **more).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def opened(model, tmp_path, kind, **facts):
    transformers = pytest.importorskip("transformers")
    torch.save({"model": model.state_dict(), "model_config": model.config, **facts},
               tmp_path / "w.pth")  # fmt: skip
    assert convert([str(tmp_path / "w.pth"), "--to", "transformers"]) == 0
    folder = tmp_path / "w-transformers"
    theirs, notes = getattr(transformers, kind).from_pretrained(
        folder, dtype=torch.float64, output_loading_info=True
    )
    assert not (notes["missing_keys"] or notes["unexpected_keys"] or notes["mismatched_keys"])
    for layer in model.modules():  # theirs cannot be told another one there
        if getattr(layer, "eps", None) and layer in last_norms(model):
            layer.eps = OTHER_EPSILON
    return theirs.eval(), folder


def last_norms(model):
    return [m for n, m in model.named_modules() if n in ("fc_norm", "decoder.norm")]


def test_a_classifier_answers_the_same(tmp_path):
    model = with_values("videomae_small_patch16_160", num_classes=3)
    names = ["happy", "sad", "neutral"]
    theirs, folder = opened(model, tmp_path, "VideoMAEForVideoClassification", class_names=names)
    clip = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        difference = (theirs(clip.transpose(1, 2)).logits - model(clip)).abs().max()
    assert difference < 1e-9
    inner = theirs.videomae.encoder.layer[1].attention.attention
    ours = model.blocks[1].attn
    assert torch.equal(inner.query.bias, ours.q_bias) and torch.equal(inner.value.bias, ours.v_bias)
    assert list(theirs.config.id2label.values()) == names
    pixels = json.loads((folder / "preprocessor_config.json").read_text())
    assert pixels["size"] == {"height": 32, "width": 32} and pixels["image_std"][0] == 0.229


def test_a_masked_autoencoder_predicts_the_same(tmp_path):
    model = with_values("pretrain_videomae_small_patch16_160", decoder_depth=2,
                        decoder_embed_dim=24, decoder_num_heads=3)  # fmt: skip
    theirs, _ = opened(model, tmp_path, "VideoMAEForPreTraining")
    clip = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    mask = torch.rand(2, model.num_tokens).argsort(1) < 20
    with torch.no_grad():
        difference = (theirs(clip.transpose(1, 2), mask).logits - model(clip, mask)).abs().max()
    assert difference < 1e-9


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("svfap_tiny_patch8_64", {}, "plain ViT"),
        ("videomae_tiny_patch8_64", {"standardise_clip": True}, "standardise_clip True"),
        ("videomae_tiny_patch8_64", {"num_classes": 0}, "without head or decoder"),
    ],
)
def test_what_transformers_cannot_compute_is_refused(tmp_path, capsys, name, more, words):
    model = models.create_model(name, **more)
    torch.save({"model": model.state_dict(), "model_config": model.config}, tmp_path / "w.pth")
    assert convert([str(tmp_path / "w.pth"), str(tmp_path / "out"), "--to", "transformers"]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_through_transformers_and_the_hub_and_back(hub, tmp_path):
    """Its folder, on a hub, is the model again: heads, norms and names from config.json."""
    model = with_values("videomae_small_patch16_160", num_classes=3).float()
    torch.save({"model": model.state_dict(), "model_config": model.config,
                "class_names": ["a", "b", "c"]}, tmp_path / "w.pth")  # fmt: skip
    assert convert([str(tmp_path / "w.pth"), str(tmp_path / "out"), "--to", "transformers"]) == 0
    commit = hub.commit("o/hf", {path.name: path.read_bytes() for path in tmp_path.glob("out/*")})
    again, report = models.open_weights("hf://o/hf")
    assert report.source == f"hf://o/hf@{commit}/model.safetensors"
    assert "not stated" in report.licence and again.config["num_heads"] == 4
    assert tuple(report.preprocessing.class_order) == ("a", "b", "c")
    assert convert(["hf://o/hf", str(tmp_path / "back.safetensors")]) == 0
    content = models.read_checkpoint(tmp_path / "back.safetensors")
    assert content["class_names"] == ["a", "b", "c"]
    assert all(value.equal(content["model"][n]) for n, value in model.state_dict().items())
    for layer in last_norms(model):
        layer.eps = OTHER_EPSILON
    clip = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.allclose(again.eval()(clip), model(clip), atol=1e-5)
