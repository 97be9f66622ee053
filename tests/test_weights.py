"""Loading weights: names, shapes, files that are none, and files that would do harm."""

import argparse
import pickle
import re
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.serialization import get_crc32_options, set_crc32_options

from svfap import models
from svfap.models.convert import convert
from tests.hostile import Hostile
from tests.model_cases import random_clip, small_model


@pytest.fixture
def pretrained():
    return small_model("pretrain_svfap_tiny_patch8_64")


@pytest.fixture
def classifier():
    return small_model("svfap_tiny_patch8_64")


def same(model, weights: dict) -> bool:
    return all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("wrapper", [None, "model", "module", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_wrapped_and_prefixed_names(classifier, wrapper, prefix):
    weights = {prefix + key: value + 1 for key, value in classifier.state_dict().items()}
    source = weights if wrapper is None else {wrapper: weights, "epoch": 3}
    report = models.load_weights(classifier, source)
    assert report.ok
    assert len(report.loaded) == len(weights)
    assert same(classifier, {key.removeprefix(prefix): value for key, value in weights.items()})


def test_files_of_both_kinds(classifier, tmp_path):
    weights = {key: value + 1 for key, value in classifier.state_dict().items()}
    args = argparse.Namespace(model="svfap", lr=1e-3, stages=[1, 2])
    torch.save({"model": weights, "args": args, "epoch": 7}, tmp_path / "released.pth")
    safetensors.torch.save_file(weights, tmp_path / "ours.safetensors")
    for name in ("released.pth", "ours.safetensors"):
        model = small_model("svfap_tiny_patch8_64")
        report = models.load_weights(model, str(tmp_path / name))
        assert report.ok
        assert report.source.endswith(name)
        assert same(model, weights)
    assert models.read_checkpoint(tmp_path / "released.pth")["args"].lr == 1e-3


@pytest.mark.parametrize("bare", [False, True])
def test_pretraining_weights_go_into_a_classifier(pretrained, classifier, bare):
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    source = pretrained.encoder.state_dict() if bare else {"model": pretrained.state_dict()}
    report = models.load_weights(classifier, source)
    assert report.ok
    assert sorted(report.new) == ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]
    prefix = "" if bare else "encoder."
    assert f"{prefix}norm.weight" in report.unused
    assert bare or "mask_token" in report.unused
    after = classifier.state_dict()
    for key, value in after.items():
        expected = before if key in report.new else pretrained.encoder.state_dict()
        assert torch.equal(value, expected[key]), key
    clip = random_clip(classifier)
    visible_everywhere = pretrained.encoder.encode(pretrained.encoder.embed(clip)).stages[-1]
    feature = classifier.eval().forward_features(clip)
    pooled = classifier.fc_norm(visible_everywhere.mean(1))
    torch.testing.assert_close(feature, pooled)


def test_another_number_of_classes_is_a_new_head(classifier):
    source = small_model("svfap_tiny_patch8_64", num_classes=11)
    report = models.load_weights(classifier, source.state_dict())
    assert report.ok
    assert sorted(report.new) == ["head.bias", "head.weight"]
    assert "fc_norm.weight" in report.loaded


def test_strict_raises_and_changes_nothing(classifier):
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    weights = {key: value + 1 for key, value in classifier.state_dict().items()}
    del weights["blocks.3.attn.q_bias"]
    weights["blocks.0.attn.k_bias"] = torch.zeros(24)
    weights["blocks.1.mlp.fc1.bias"] = torch.zeros(5)
    with pytest.raises(ValueError, match="do not fit svfap_tiny_patch8_64") as caught:
        models.load_weights(classifier, weights)
    message = str(caught.value)
    for part in ("blocks.3.attn.q_bias", "blocks.0.attn.k_bias", "(5,) in file, (96,) in model"):
        assert part in message
    assert same(classifier, before)

    report = models.load_weights(classifier, weights, strict=False)
    assert report.missing == ["blocks.3.attn.q_bias"]
    assert report.unexpected == ["blocks.0.attn.k_bias"]
    assert report.mismatched == [("blocks.1.mlp.fc1.bias", (5,), (96,))]
    assert torch.equal(classifier.state_dict()["head.weight"], weights["head.weight"])


def test_missing_fc_norm_is_only_expected_after_pretraining(classifier):
    weights = classifier.state_dict()
    del weights["fc_norm.weight"]
    with pytest.raises(ValueError, match="missing .*fc_norm.weight"):
        models.load_weights(classifier, weights)


def test_pretraining_model_takes_its_own_weights_only(pretrained, classifier):
    weights = {key: value + 1 for key, value in pretrained.state_dict().items()}
    assert models.load_weights(pretrained, {"module": weights}).ok
    assert same(pretrained, weights)
    with pytest.raises(ValueError, match="unexpected"):
        models.load_weights(pretrained, classifier.state_dict())


def test_released_maedfer_names_and_other_clip_sizes():
    short = small_model("pretrain_maedfer_tiny_patch8_64")
    longer = small_model("maedfer_tiny_patch8_64", num_frames=32)
    with torch.no_grad():
        short.encoder.lg_region_tokens.copy_(torch.arange(8.0).unsqueeze(1).expand(8, 24))
    report = models.load_weights(longer, short.state_dict())
    assert report.resized == ["lg_region_tokens"]
    assert report.ok
    column = longer.lg_region_tokens[:, 0].view(8, 2)  # (t, places): t doubled, places kept
    expected = torch.tensor([0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6])
    torch.testing.assert_close(column[:, 0], expected)
    torch.testing.assert_close(column[:, 1], expected + 1)


@pytest.mark.parametrize(
    "save", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))]
)
def test_hostile_pickle_executes_nothing(classifier, tmp_path, save):
    trace = tmp_path / "trace"
    save({"model": classifier.state_dict(), "x": Hostile(trace)}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="nothing in it was executed"):
        models.load_weights(classifier, tmp_path / "bad.pth")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n <!DOCTYPE html><html>Sign in to your account</html>", "HTML page"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"PK\x03\x04 cut", "refused|cut off"),
        (b"some text", "refused|cut off"),
        (b"\x80\x02}q\x00", "refused|cut off"),
    ],
)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_files_that_are_no_weights(classifier, tmp_path, content, message, ending):
    path = tmp_path / f"file{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        models.load_weights(classifier, path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("fraction", [0.0001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(classifier, tmp_path, fraction):
    path = tmp_path / "whole.pth"
    torch.save({"model": classifier.state_dict()}, path)
    safetensors.torch.save_file(classifier.state_dict(), tmp_path / "whole.safetensors")
    for whole in (path, tmp_path / "whole.safetensors"):
        cut = tmp_path / f"cut{whole.suffix}"
        cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * fraction) + 1])
        with pytest.raises(ValueError, match="refused|cut off"):
            models.load_weights(classifier, cut)


def test_other_sources(classifier, tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at .*absent.pth"):
        models.load_weights(classifier, tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="no tensors .*keys: epoch, args"):
        models.load_weights(classifier, {"epoch": 3, "args": None})
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list"):
        models.load_weights(classifier, tmp_path / "list.pth")


def test_report_reads_well(pretrained, classifier):
    text = str(models.load_weights(classifier, pretrained.state_dict()))
    assert text.splitlines()[0].endswith("parameters loaded")
    assert "new (4): fc_norm.weight, fc_norm.bias, head.weight, head.bias" in text
    assert re.search(r"unused \(\d+\): .*, and \d+ more", text)


# ---------------------------------------------------------------- altered files, other models


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_changed_bit_is_refused_or_changes_nothing(tmp_path, ending):
    """A checksum guards every weight; padding and time stamps may change."""
    model = small_model("svfap_tiny_patch8_64")
    names = ["happy", "sad"]
    torch.save({"model": model.state_dict(), "class_names": names}, tmp_path / "whole.pth")
    convert(tmp_path / "whole.pth", tmp_path / "whole.safetensors")
    whole = (tmp_path / f"whole{ending}").read_bytes()
    path, refused = tmp_path / f"changed{ending}", 0
    rng = np.random.default_rng(0)
    header = rng.integers(0, 8 * 4096, 60)  # where little is weights
    for bit in (*header, *rng.integers(0, 8 * len(whole), 60)):
        path.write_bytes(flipped(whole, int(bit)))
        try:
            content = models.read_checkpoint(path)
        except ValueError as error:
            assert path.name in str(error)
            refused += 1
        else:
            found = models.load_weights(small_model("svfap_tiny_patch8_64"), content)
            assert found.ok and content["class_names"] == names
            assert all(torch.equal(content["model"][k], v) for k, v in model.state_dict().items())
    assert refused > 90


def test_a_file_that_was_written_without_checksums_is_read(classifier, tmp_path):
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        torch.save({"model": classifier.state_dict()}, tmp_path / "w.pth")
    finally:
        set_crc32_options(before)
    assert models.load_weights(classifier, tmp_path / "w.pth").ok


def test_numbers_of_numpy_beside_weights_are_plain_values(classifier, tmp_path):
    numbers = {
        str(kind): np.dtype(kind).type(1) for kind in ("f2", "f4", "f8", "i1", "i8", "u2", "?")
    }
    path = tmp_path / "scalars.pth"
    torch.save({"model": classifier.state_dict(), "best_acc": np.float64(0.5), **numbers}, path)
    assert models.load_weights(classifier, path).ok
    assert models.read_checkpoint(path)["best_acc"] == 0.5
    # as NumPy 1 named it
    renamed = tmp_path / "older.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(renamed, "w") as new:
        for member in old.namelist():
            new.writestr(member, old.read(member).replace(b"numpy._core.", b"numpy.core."))
    assert models.read_checkpoint(renamed)["f4"] == 1
    torch.save({"model": classifier.state_dict(), "x": np.array([object()])}, path)
    with pytest.raises(ValueError, match="namely numpy.*Take another copy") as caught:
        models.read_checkpoint(path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(classifier, strict, value):
    weights = {key: item.clone() for key, item in classifier.state_dict().items()}
    weights["blocks.0.norm1.weight"][3] = value
    with pytest.raises(ValueError, match="NaN or infinite values in blocks.0.norm1.weight"):
        models.load_weights(classifier, weights, strict=strict)
    assert all(value.isfinite().all() for value in classifier.state_dict().values())


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("svfap_tiny_patch8_64", {"stage_depths": [1, 3, 1]}, {"stage_depths": [1, 2, 2]}),
        ("svfap_tiny_patch8_64", {"num_heads": 4}, {"num_heads": 2}),
        ("videomae_tiny_patch8_64", {"num_heads": 4}, {"num_heads": 2}),
        ("maedfer_tiny_patch8_64", {"region_size": [2, 2, 4]}, {"region_size": [2, 4, 2]}),
        ("maedfer_tiny_patch8_64", {"attn_param_sharing_all": True}, {}),
        ("maedfer_tiny_patch8_64", {"pooled_tokens": "org"}, {}),
        ("pretrain_maedfer_tiny_patch8_64", {"restore_order": True}, {}),
        ("pretrain_videomae_tiny_patch8_64", {"decoder_num_heads": 2}, {"decoder_num_heads": 4}),
    ],
)
def test_weights_of_a_model_of_equal_shapes_that_computes_otherwise_are_refused(name, theirs, ours):
    source, model = (models.create_model(name, **changes) for changes in (theirs, ours))
    content = {"model": source.state_dict(), "model_config": source.config}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"trained with {next(iter(theirs))}=.*the model has"):
        models.load_weights(model, content)
    assert same(model, before)
    assert models.load_weights(model, content, strict=False).ok
    again = models.create_model(**source.config)
    assert models.load_weights(again, content).ok


def test_what_may_differ_between_two_models():
    source = models.create_model("pretrain_maedfer_tiny_patch8_64", restore_order=True)
    content = {"model": source.state_dict(), "model_config": source.config}
    for changes in ({}, {"pooled_tokens": "org"}, {"num_frames": 32}, {"drop_path_rate": 0.1}):
        models.load_weights(models.create_model("maedfer_tiny_patch8_64", **changes), content)
    args = argparse.Namespace(stage_depths=[1, 3, 1])
    model = models.create_model("svfap_tiny_patch8_64", stage_depths=[1, 3, 1])
    other = models.create_model("svfap_tiny_patch8_64", stage_depths=[1, 2, 2])
    assert models.load_weights(model, {"model": model.state_dict(), "args": args}).ok
    with pytest.raises(ValueError, match="stage_depths="):
        models.load_weights(other, {"model": model.state_dict(), "args": args})


def test_keys_and_a_prefix_say_where_the_weights_are(classifier):
    """As `--model_key` and `--model_prefix` of the released code."""
    state = classifier.state_dict()
    inside = {f"student.{key}": value + 1 for key, value in state.items()}
    source = {"model": state, "ema": {**inside, "queue.weight": torch.zeros(2)}}
    report = models.load_weights(classifier, source, keys=["absent", "ema"], prefix="student.")
    assert report.ok and report.unused == ["queue.weight"]
    assert same(classifier, {key.removeprefix("student."): inside[key] for key in inside})
    with pytest.raises(ValueError, match="no name begins with 'teacher.'.*student.patch_embed"):
        models.load_weights(classifier, source, keys=["ema"], prefix="teacher.")
    bare = {key: torch.zeros_like(value) for key, value in state.items()}
    assert models.load_weights(classifier, bare, keys=["model", "module"]).ok


def test_the_chosen_weights_of_a_checkpoint_are_taken(classifier, tmp_path):
    last = {key: torch.zeros_like(value) for key, value in classifier.state_dict().items()}
    average = {key: torch.ones_like(value) for key, value in last.items()}
    ours = {"model": last, "model_ema": average, "position": {}, "flags": {}}
    models.load_weights(classifier, ours | {"chosen_weights": "model_ema"})
    assert same(classifier, average)
    models.load_weights(classifier, ours | {"chosen_weights": "model"})
    assert same(classifier, last)
    # Checkpoints of before: the best, and those of runs that reported their averaged weights.
    for name, flags, expected in (
        ("checkpoint-best.pth", {}, average),
        ("checkpoint-last.pth", {}, last),
        ("checkpoint-last.pth", {"test_weights": "ema"}, average),
    ):
        torch.save(ours | {"flags": flags}, tmp_path / name)
        models.load_weights(classifier, tmp_path / name)
        assert same(classifier, expected)


def test_a_head_behind_another_norm_is_new(classifier):
    batch = small_model("svfap_tiny_patch8_64", head_norm="batch")
    for model, other in ((classifier, batch), (batch, classifier)):
        weights = {name: value + 1 for name, value in other.state_dict().items()}
        report = models.load_weights(model, {"model": weights, "model_config": other.config})
        assert report.ok
        assert {name.split(".")[0] for name in report.new} == {"fc_norm", "head"}
        assert {name.split(".")[0] for name in report.unused} == {"fc_norm", "head"}
        assert torch.equal(model.patch_embed.proj.bias, weights["patch_embed.proj.bias"])
    again = small_model("svfap_tiny_patch8_64", head_norm="batch")
    assert not models.load_weights(again, batch.state_dict()).new
    assert models.guess_config({"model": batch.state_dict()})["head_norm"] == "batch"
