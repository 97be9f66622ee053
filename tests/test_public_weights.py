"""Public weights: opened from names and shapes, equal to the models they are of."""

import copy
import json

import numpy as np
import pytest
import safetensors.torch
import torch

from svfap import models
from svfap.datasets.augment import transforms
from svfap.datasets.catalog import get_spec
from svfap.engine.identity import identify
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from svfap.engine.probe.probing import load_frozen
from svfap.models.convert import convert
from svfap.models.convert import main as convert_command
from svfap.models.patches import interpolated_positions, sinusoid_table
from svfap.models.weights.formats import IMAGENET
from tests.conftest import ROOT
from tests.hostile import Hostile

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


@pytest.mark.parametrize("name", [*FINE_TUNED, *PRETRAINED])
def test_saved_and_opened_again(name, tmp_path):
    """As a checkpoint it says itself what it is; bare, under our names, as much as before."""
    _, meta, weights = golden(name)
    model, report = models.open_weights(weights, **meta)
    torch.save({"model": model.state_dict(), "model_config": model.config}, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "w.safetensors")
    for source in ("w.pth", "w.safetensors"):
        again, report_again = models.open_weights(tmp_path / source)
        assert again.config == model.config and not again.training
        assert report_again.preprocessing.mean == report.preprocessing.mean
        for key, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[key], value)
    bare, _ = models.open_weights({"model": model.state_dict()}, **meta)
    assert bare.state_dict().keys() == model.state_dict().keys()


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


def random_marlin(tmp_path, **more):
    """A MARLIN encoder with a head, under released names, and its own model."""
    torch.manual_seed(0)
    sizes = {"depth": 2, "embed_dim": 32, "num_heads": 4, "img_size": 32, "patch_size": 8}
    own = models.create_model("marlin_small_patch16_224", **sizes, **more).eval()
    names = {
        "patch_embed.proj": "patch_embedding.projection", "mlp.fc1": "mlp.layers.0.linear",
        "mlp.fc2": "mlp.layers.1.linear", "position_table": "pos_embedding.emb", "fc_norm": "norm",
    }  # fmt: skip
    weights = {}
    for name, value in own.state_dict().items():
        value = value[None] if name == "position_table" else value
        name = next((name.replace(a, b) for a, b in names.items() if a in name), name)
        weights[name if name.startswith("head.") else f"encoder.{name}"] = value
    path = tmp_path / "marlin.pt"
    torch.save(weights, path)
    return own, path


def test_one_file_through_every_door(tmp_path):
    """Whatever reads a checkpoint takes it, with the normalisation it was trained with."""
    own, path = random_marlin(tmp_path, num_classes=3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 32, 32, 3), dtype=np.uint8)
    clip = torch.from_numpy(pixels).permute(0, 4, 1, 2, 3) / 255
    with torch.no_grad():
        answers, feature = own(clip).softmax(1), own.forward_features(clip)
    model, report = models.open_weights(path, num_heads=4)
    assert report.preprocessing.stride == 2 and report.source == str(path)
    torch.testing.assert_close(model.eval()(clip).softmax(1), answers)
    assert "num_heads 1" in str(models.open_weights(path)[1])
    told = {"num_heads": 4}
    identity = identify(path, told=told)
    assert identity.sampling_rate == 2 and identity.labels.numbered
    built, report = identity.build()
    assert "another normalisation of clips" in str(report)
    usual = transforms.normalize(clip)
    torch.testing.assert_close(built.eval()(usual).softmax(1), answers, rtol=1e-4, atol=1e-5)
    torch.save({"model": model.state_dict(), "model_config": model.config}, tmp_path / "again.pth")
    again, report = models.open_weights(tmp_path / "again.pth")
    assert again.config == model.config and report.preprocessing.mean == (0, 0, 0)
    assert torch.equal(again.eval()(clip), model(clip))
    frozen, _ = load_frozen(tmp_path / "again.pth")
    torch.testing.assert_close(frozen.eval().forward_features(usual), feature, rtol=1e-4, atol=1e-5)
    predictor = Predictor(tmp_path / "again.pth", PredictionOptions(crop=False), device="cpu")
    torch.testing.assert_close(
        torch.from_numpy(predictor.scores(pixels)).float(), answers, rtol=1e-4, atol=1e-5
    )


def test_clips_of_another_size():
    """Positions are computed anew or interpolated, as asked for, and it is said."""
    torch.manual_seed(0)
    weights = models.create_model("videomae_small_patch16_224", depth=1, num_classes=400)
    size = {"img_size": 160, "num_frames": 8}
    model, report = models.open_weights(weights.state_dict(), positions="interpolated", **size)
    assert "positions interpolated: trained on 16 frames of 224 px" in str(report)
    assert model.config["position_grid"] == [8, 14, 14] and model.grid == (4, 10, 10)
    table = interpolated_positions(sinusoid_table(1568, 384), (8, 14, 14), (4, 10, 10))
    assert torch.equal(model.position_table, table)
    assert torch.equal(models.create_model(**model.config).position_table, table)
    anew, report = models.open_weights(weights.state_dict(), positions="recomputed", **size)
    assert torch.equal(anew.position_table, sinusoid_table(400, 384)) and "recomputed" in str(
        report
    )
    with pytest.raises(ValueError, match="positions is one of recomputed, interpolated"):
        models.open_weights(weights.state_dict(), positions="cubic")
    for told, words in (({"depth": 2}, "has depth 1; 2 was asked for"),
                        ({"dept": 2}, "no option dept; it has: .*positions")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            models.open_weights(weights.state_dict(), **told)
    assert "img_size 224, num_frames 16" in str(models.open_weights(weights.state_dict())[1])


def test_stages_and_heads(tmp_path):
    pretrained = models.create_model(
        "pretrain_mira_base_patch16_224", depth=2, embed_dim=24, num_heads=2, decoder_depth=1
    )
    told = {"num_heads": 2, "use_fmp_flashlite": False}
    model, _ = models.open_weights({"module": pretrained.state_dict()}, **told)
    assert model.config["stats_mode"] == "batch_ema" and hasattr(model, "mask_token")
    model, report = models.open_weights({"model": pretrained.state_dict()}, **told, num_classes=7)
    assert model.config["stats_mode"] == "instance" and "head.weight" in report.new
    assert report.preprocessing.class_order is None  # a new head has no names yet
    tuned = models.create_model(
        "mira_base_patch16_224", depth=2, embed_dim=24, num_heads=2, num_classes=11
    )
    _, report = models.open_weights(tuned.half().state_dict(), **told)
    assert sorted(report.preprocessing.class_order) == sorted(get_spec("MAFW").class_names)
    seven = models.create_model("mira_base_patch16_224", depth=1).state_dict()
    _, report = models.open_weights(seven, use_fmp_flashlite=True)
    for name in ("DFEW", "FERV39k"):
        known = [label.casefold() for label in get_spec(name).class_names]
        assert sorted(report.preprocessing.class_order) == sorted(known)
    with pytest.raises(ValueError, match="MiRA.*--use_fmp_flashlite"):
        models.open_weights(seven)
    torch.save({"module": seven}, tmp_path / "mp_rank_00_model_states.pt")
    told = ["--use_fmp_flashlite", "true"]
    assert convert_command([str(tmp_path), str(tmp_path / "x" / "w.safetensors"), *told]) == 0
    assert identify(tmp_path / "x").config["use_fmp_flashlite"]
    identity = identify(tmp_path, told={"use_fmp_flashlite": True}, data_set="DFEW")
    assert identity.labels.class_names[0] == "disgust" and identity.sampling_rate == 4


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "model.", "module.backbone.encoder."])
def test_encoders_under_a_prefix(prefix):
    weights = models.create_model("videomae_tiny_patch8_64", num_classes=0).state_dict()
    _, report = models.open_weights({prefix + name: value for name, value in weights.items()})
    assert len(report.loaded) == len(weights) and not report.new


@pytest.mark.parametrize("name", ["AVF-MAE", "cosine"])
def test_models_that_are_not_offered_are_named(name):
    weights = models.create_model("videomae_tiny_patch8_64").state_dict()
    extra = {"AVF-MAE": "blocks.0.fourth_attn.q.weight", "cosine": "blocks.0.attn.scale"}[name]
    with pytest.raises(ValueError, match=f"is of .*{name}"):
        models.open_weights(weights | {extra: torch.ones(4, 1, 1)})


def test_damaged_and_hostile_files_are_refused(tmp_path):
    own, path = random_marlin(tmp_path)
    weights = torch.load(path)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(path.read_bytes()[:-1000])
    torch.save(weights | {"x": Hostile(tmp_path / "trace")}, tmp_path / "hostile.pt")
    torch.save({n: v for n, v in weights.items() if "blocks.1.mlp" not in n}, tmp_path / "part.pt")
    endless = weights | {"encoder.norm.bias": torch.full((32,), torch.nan)}
    torch.save(endless, tmp_path / "nan.pt")
    safetensors.torch.save_file({"w": torch.ones(3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "videomae", ')
    for name, words in (("cut.pt", "cut off or damaged"), ("hostile.pt", "refused"),
                        ("part.pt", r"missing \(4\)"), ("nan.pt", "NaN"),
                        ("model.safetensors", "config.json does not describe")):  # fmt: skip
        if name == "part.pt":
            (tmp_path / "config.json").rename(tmp_path / "config.txt")
        with pytest.raises(ValueError, match=words):
            models.open_weights(tmp_path / name, num_heads=4)
        if name == "nan.pt":
            (tmp_path / "config.txt").rename(tmp_path / "config.json")
    assert not (tmp_path / "trace").exists()


def randomised(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


VIDEOMAE = {
    "image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 96, "decoder_hidden_size": 12,
    "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 48,
}  # fmt: skip


@torch.no_grad()
def test_folders_of_transformers_answer_as_there(tmp_path):
    transformers = pytest.importorskip("transformers")
    labels = {0: "happy", 1: "sad", 2: "neutral"}
    config = transformers.VideoMAEConfig(**VIDEOMAE, id2label=labels)
    clip = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    theirs = randomised(transformers.VideoMAEForVideoClassification(config))
    theirs.save_pretrained(tmp_path / "tuned")
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "tuned" / "preprocessor_config.json").write_text(json.dumps(statistics))
    model, report = opened(tmp_path / "tuned")
    answers = theirs.double()(clip.transpose(1, 2)).logits
    torch.testing.assert_close(model(clip), answers, **EXACT)
    assert report.preprocessing.std == (0.25,) * 3
    assert report.preprocessing.class_order == ("happy", "sad", "neutral")
    identity = identify(tmp_path / "tuned")
    assert identity.labels.class_names == ("happy", "sad", "neutral")
    mean, std = (torch.tensor(values)[:, None, None, None] for values in IMAGENET)
    pixels = clip * 0.25 + 0.5
    usual = identity.build()[0].double().eval()((pixels - mean) / std)
    torch.testing.assert_close(usual, answers, rtol=1e-5, atol=1e-5)

    theirs = randomised(
        transformers.VideoMAEForPreTraining(transformers.VideoMAEConfig(**VIDEOMAE))
    )
    theirs.save_pretrained(tmp_path / "pretrained")
    model, _ = opened(tmp_path / "pretrained")
    mask = torch.rand(2, model.num_tokens).argsort(1) < 20
    predicted = theirs.double()(clip.transpose(1, 2), mask).logits
    torch.testing.assert_close(model(clip, mask), predicted, **EXACT)

    first_token = transformers.VideoMAEConfig(**VIDEOMAE, use_mean_pooling=False)
    theirs = transformers.VideoMAEForVideoClassification(first_token)
    theirs.save_pretrained(tmp_path / "first")
    model, report = models.open_weights(tmp_path / "first")
    assert model.num_classes == 0 and "reads the first token only" in str(report)


@torch.no_grad()
def test_vjepa2_of_transformers_sees_as_there(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.VJEPA2Config(
        crop_size=32, patch_size=8, frames_per_clip=4, hidden_size=56, num_attention_heads=2,
        num_hidden_layers=2, mlp_ratio=2, pred_hidden_size=24, pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )  # fmt: skip
    theirs = randomised(transformers.VJEPA2Model(config))
    theirs.save_pretrained(tmp_path)
    model, report = opened(tmp_path)
    assert any(name.startswith("predictor.") for name in report.unused)
    clip = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    seen = theirs.double().get_vision_features(clip.transpose(1, 2)).mean(1)
    torch.testing.assert_close(model.forward_features(clip), seen, **EXACT)
