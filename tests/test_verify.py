"""Checking, guessing and converting files of weights."""

import argparse
import json

import pytest
import torch

from svfap import models
from svfap.engine import verify_checkpoint
from svfap.engine.verify_checkpoint import check_file
from svfap.models.convert import convert
from svfap.models.convert import main as convert_command
from tests.hostile import Hostile
from tests.model_cases import FINETUNE_NAMES, PRETRAIN_NAMES, small_model, small_overrides
from tests.test_runs import finetune_argv, run_finetuning
from tests.tiny_data import make_tiny_data

SHOWN_BY_SHAPES = (
    *("embed_dim", "patch_size", "tubelet_size", "depth", "stage_depths", "num_classes"),
    *("num_bottleneck_tokens", "temporal_kernel_size", "decoder_embed_dim", "decoder_depth"),
)


def told(name: str) -> dict:
    """What has to be said of MiRA's weights."""
    config = models.default_config(name)
    return {key: config[key] for key in ("use_fmp_flashlite", "stats_mode") if key in config}


def save(model, path, **more):
    torch.save({"model": model.state_dict(), **more}, path)
    return path


@pytest.mark.parametrize("name", [*FINETUNE_NAMES, *PRETRAIN_NAMES])
def test_sizes_are_guessed_from_names_and_shapes(name):
    more = {} if name.startswith("pretrain_") else {"num_classes": 11}
    config = models.create_model(name, **(small_overrides(name) | more)).config
    with torch.device("meta"):
        weights = models.create_model(**config).state_dict()
    guess = models.guess_config({"model": weights, "flags": told(name)})
    family = name.removeprefix("pretrain_").split("_")[0]
    assert family in guess["name"] and guess["name"].startswith("pretrain") == (
        "decoder" in str(config)
    )
    for option in SHOWN_BY_SHAPES:
        assert guess.get(option) == config.get(option), option
    assert models.create_model(**(guess | {"num_heads": 2})).state_dict().keys() == weights.keys()


@pytest.mark.parametrize("name", [*FINETUNE_NAMES, *PRETRAIN_NAMES])
def test_registered_sizes_are_guessed_entirely(name):
    with torch.device("meta"):
        model = models.create_model(name)
    guess = models.guess_config({"module": model.state_dict(), "flags": told(name)})
    if guess["img_size"] != model.img_size:  # same weights for two clip sizes
        assert {guess["img_size"], model.img_size} == {160, 224} and "videomae" in name
        guess |= {"name": name, "img_size": model.img_size}
    assert guess == model.config


def test_flags_in_the_file_help_where_shapes_do_not(tmp_path):
    model = small_model("svfap_tiny_patch8_64", stage_depths=[1, 3, 2], num_frames=8, img_size=32)
    args = argparse.Namespace(stage_depths=[1, 3, 2], num_frames=8, input_size=32, lr=1e-3)
    guess = models.guess_config({"model": model.state_dict(), "args": args})
    assert guess["stage_depths"] == [1, 3, 2]
    assert (guess["num_frames"], guess["img_size"]) == (8, 32)
    with pytest.raises(ValueError, match="6 blocks, the first 1 of stage 1.*--stage_depths"):
        models.guess_config({"model": model.state_dict()})
    path = save(model, tmp_path / "w.pth")
    checked = check_file(path, stage_depths=[1, 3, 2])
    assert checked.model.config["stage_depths"] == [1, 3, 2] and not checked.identity.stated


def test_weights_of_other_models_are_named_as_such():
    with pytest.raises(ValueError, match="none of our models.*conv1.weight"):
        models.guess_config({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)})


@pytest.mark.parametrize("name", ["svfap_tiny_patch8_64", "pretrain_svfap_tiny_patch8_64",
                                  "pretrain_maedfer_tiny_patch8_64",
                                  "pretrain_videomae_tiny_patch8_64"])  # fmt: skip
def test_a_sound_file_is_described(tmp_path, capsys, name):
    torch.manual_seed(0)
    path = save(models.create_model(name), tmp_path / "w.pth")
    assert verify_checkpoint.main([str(path), "--names"]) == 0
    shown = capsys.readouterr().out
    encoder = "encoder." if name.startswith("pretrain") else ""
    assert f"model    {name} (from names and shapes" in shown
    assert f"  {encoder}patch_embed.proj.weight  (128, 3, 2, 8, 8)  float32" in shown
    assert "finite, and bitwise the same twice" in shown
    assert verify_checkpoint.main([str(path)]) == 0
    assert f"  {encoder}blocks " in capsys.readouterr().out


def test_files_that_must_not_be_used(tmp_path, capsys):
    torch.manual_seed(0)
    model = models.create_model("svfap_tiny_patch8_64")
    trace = tmp_path / "trace"
    save(model, tmp_path / "hostile.pth", extra=Hostile(trace))
    (tmp_path / "page.pth").write_text("<html>Sign in</html>")
    path = save(model, tmp_path / "short.pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["blocks.3.norm1.weight"][5] = float("nan")
    torch.save({"model": state}, tmp_path / "nan.pth")
    del state["blocks.3.norm1.weight"]
    torch.save({"model": state}, tmp_path / "lacking.pth")
    cases = {
        "hostile": "refused, nothing in it was executed",
        "page": "HTML page",
        "short": "cut off|damaged",
        "nan": "NaN or infinite values in blocks.3.norm1.weight",
        "lacking": r"missing \(1\): blocks.3.norm1.weight",
        "absent": "no weights at",
    }
    for name, message in cases.items():
        assert verify_checkpoint.main([str(tmp_path / f"{name}.pth")]) == 1
        text = capsys.readouterr().err
        assert any(part in text for part in message.replace("\\", "").split("|")), (name, text)
    assert not trace.exists()
    assert convert_command([str(tmp_path / "hostile.pth"), str(tmp_path / "out.safetensors")]) == 1
    assert not trace.exists() and not (tmp_path / "out.safetensors").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fine-tuned run on the tiny data: its folder, the fold, and its metrics."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_data(folder)
    out = folder / "run"
    metrics = run_finetuning(finetune_argv(folder, out, "--model_ema"))
    return out, folder / "fold", metrics


def test_scores_are_compared_with_published_ones(run, tmp_path, capsys):
    out, fold, metrics = run
    path = out / "checkpoint-last.pth"
    data = ["--data_path", str(fold), "--output_dir", str(tmp_path / "evaluation")]
    more = ["--", "--num_workers", "0", "--device", "cpu"]
    truth = [str(100 * metrics["uar"]), str(100 * metrics["war"])]
    assert verify_checkpoint.main([str(path), *data, "--expect", *truth, *more]) == 0
    assert "+0.00): as published" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["num_videos"] == 5
    assert verify_checkpoint.main([str(path), *data, "--expect", "1", truth[1], *more]) == 1
    assert "UAR" in (shown := capsys.readouterr().out) and "points away" in shown
    assert verify_checkpoint.main([str(path), *data, *more]) == 0
    assert "no published ones are known" in capsys.readouterr().out


def test_safetensors_and_back(run, tmp_path):
    out, fold, metrics = run
    path = out / "checkpoint-last.pth"
    ours = models.read_checkpoint(path)
    for source, target in ((path, "w.safetensors"), (tmp_path / "w.safetensors", "back.pth")):
        assert len(convert(source, tmp_path / target)) == len(ours["model"])
        content = models.read_checkpoint(tmp_path / target)
        assert content["model_config"] == ours["model_config"]
        assert content["class_names"] == ours["class_names"]
        for name, value in ours["model"].items():
            assert torch.equal(content["model"][name], value)
    assert torch.load(tmp_path / "back.pth", weights_only=True)["flags"]["lr"] == 0.01
    checked = check_file(tmp_path / "w.safetensors")
    assert checked.identity.stated and checked.model.config == ours["model_config"]
    argv = ["--data_path", str(fold), "--eval", "--resume", str(tmp_path / "w.safetensors"),
            "--num_workers", "0", "--device", "cpu", "--no_report"]  # fmt: skip
    assert run_finetuning(argv)["confusion_matrix"] == metrics["confusion_matrix"]
    convert(path, tmp_path / "ema.safetensors", averaged=True)
    averaged = models.read_checkpoint(tmp_path / "ema.safetensors")["model"]
    assert all(torch.equal(averaged[name], value) for name, value in ours["model_ema"].items())
    with pytest.raises(FileExistsError, match="there already"):
        convert(path, tmp_path / "back.pth")
    with pytest.raises(ValueError, match="ending decides"):
        convert(path, tmp_path / "w.h5")
    with pytest.raises(ValueError, match="no averaged weights"):
        convert(tmp_path / "back.pth", tmp_path / "x.pth", averaged=True)


def test_released_weights_are_evaluated_without_flags_for_their_model(tmp_path):
    make_tiny_data(tmp_path)
    torch.manual_seed(0)
    model = models.create_model("svfap_tiny_patch8_64", num_classes=2)
    args = argparse.Namespace(lr=1e-3, stage_depths=[4, 2, 2], num_frames=16)
    path = save(model, tmp_path / "released.pth", args=args, epoch=99)
    argv = ["--data_path", str(tmp_path / "fold"), "--eval", "--resume", str(path), "--nb_classes",
            "2", "--num_workers", "0", "--device", "cpu", "--no_report"]  # fmt: skip
    assert run_finetuning(argv)["num_videos"] == 5
    argv[argv.index("--nb_classes") + 1] = "3"
    with pytest.raises(ValueError, match="has 2 outputs, the data set 3"):
        run_finetuning(argv)
