"""Whole runs that begin with, evaluate or go on from weights of a hub."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from svfap import models
from svfap.engine import verify_checkpoint
from svfap.engine.identity import identify
from svfap.engine.probe import command as probe
from svfap.engine.publish import command as publish
from svfap.engine.publish.card import _data, _results, subgroup_tables
from svfap.engine.publish.run import without_paths
from svfap.engine.report.page import write_report
from svfap.engine.results.find import find_results
from svfap.engine.results.kinds.classes import Classes
from svfap.engine.results.predictions import write_predictions
from svfap.models.convert import convert
from svfap.models.weights import hub as door
from svfap.models.weights.hub import locate
from tests.test_runs import finetune_argv, pretrain_argv, run_finetuning, run_pretraining

ONE_EPOCH = ("--epochs", "1", "--warmup_epochs", "0")


def without(argv, *flags):
    """Arguments without these flags and their values."""
    kept, skip = [], False
    for word in argv:
        skip = word in flags or (skip and not word.startswith("--"))
        kept += [] if skip else [word]
    return kept


SIZES = ("--model", "--input_size", "--stage_depths", "--num_bottleneck_tokens", "--decoder_depth")


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """A run of pre-training, whose clips are every second frame."""
    out = tmp_path_factory.mktemp("published")
    run_pretraining(pretrain_argv(data, out, *ONE_EPOCH))
    return out


@pytest.fixture(scope="module")
def published(pretrained):
    """Its weights, as safetensors."""
    out = pretrained
    convert(out / "checkpoint-last.pth", out / "model.safetensors")
    return (out / "model.safetensors").read_bytes()


def forget():
    door._fetched.cache_clear()


def test_shape_and_clips_follow_from_the_weights_unless_they_are_given(
    data, pretrained, tmp_path, capsys
):
    more = ("--finetune", str(pretrained / "checkpoint-last.pth"), "--dry_run")
    argv = without(finetune_argv(data, tmp_path, *more), *SIZES, "--sampling_rate", "--num_frames")
    for named in ([], ["--model", "svfap_tiny_patch8_64"]):
        run_finetuning([*argv, *named])
        assert "16 frames of 32 x 32 px, every 2. frame" in capsys.readouterr().out
    run_finetuning([*argv, "--num_frames", "8", "--sampling_rate", "3"])
    said = capsys.readouterr().out
    assert "8 frames of 32 x 32 px, every 3. frame" in said and "--num_frames 8 (16)" in said
    with pytest.raises(ValueError, match="do not fit"):
        run_finetuning([*argv, "--model", "videomae_tiny_patch8_64"])


def test_a_run_begins_with_weights_of_the_hub_and_keeps_to_them(
    hub, data, published, tmp_path, capsys
):
    card = b"---\nlicense: cc-by-nc-4.0\n---\n"
    commit = hub.commit("o/pre", {"model.safetensors": published, "README.md": card})
    out = tmp_path / "run"
    argv = without(finetune_argv(data, out, *ONE_EPOCH, "--finetune", "hf://o/pre"), *SIZES)
    metrics = run_finetuning(argv)
    config = json.loads((out / "config.json").read_text())["origin"]
    assert config["weights"]["file"] == f"hf://o/pre@{commit}/model.safetensors"
    assert config["weights"]["licence"] == "cc-by-nc-4.0: for non-commercial use only"
    assert config["model"]["name"] == "svfap_tiny_patch8_64" and config["model"]["img_size"] == 32
    write_report(out)
    assert (
        f"hf://o/pre@{commit}/model.safetensors; licence: cc-by"
        in (out / "report.html").read_text()
    )
    # the same weights from another commit go on; without a network or a cache, too
    hub.commit("o/pre", {"README.md": b"other words"})
    forget()
    assert run_finetuning(argv)["confusion_matrix"] == metrics["confusion_matrix"]
    hub.refusals["o/pre"] = (404, "RepoNotFound")
    shutil.rmtree(tmp_path / "cache")
    forget()
    assert run_finetuning(argv)["confusion_matrix"] == metrics["confusion_matrix"]
    # other weights under the same name are refused
    del hub.refusals["o/pre"]
    other = models.create_model(**identify(out / "checkpoint-last.pth").config)
    import torch

    torch.save({"model": other.state_dict(), "model_config": other.config}, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "w.safetensors")
    later = hub.commit("o/pre", {"model.safetensors": (tmp_path / "w.safetensors").read_bytes()})
    forget()
    with pytest.raises(ValueError, match=f"--finetune was hf://o/pre@{commit}/.*, is .*@{later}/"):
        run_finetuning(argv)
    # what was trained is evaluated, probed and verified from there, too
    convert(out / "checkpoint-last.pth", tmp_path / "fine.safetensors")
    hub.commit("o/fine", {"fine.safetensors": (tmp_path / "fine.safetensors").read_bytes()})
    shared = ["--data_path", str(data / "fold"), "--num_workers", "0", "--device", "cpu"]
    again = run_finetuning(["--eval", "--resume", "hf://o/fine", "--no_report", *shared])
    assert again["confusion_matrix"] == metrics["confusion_matrix"]
    assert verify_checkpoint.main(["hf://o/fine"]) == 0
    assert "licence  not stated" in capsys.readouterr().out
    file = tmp_path / "probe.json"
    more = ["--nb_classes", "2", "--output", str(file), "--", *shared[2:]]
    assert probe.main(["hf://o/fine", *shared[:2], *more]) == 0
    assert json.loads(file.read_text())["checkpoint"].endswith("/fine.safetensors")
    publish_and_open_again(hub, out, tmp_path, data)


def publish_and_open_again(hub, run, tmp_path, data):
    """What is published has no path of the author's, and is the same model again."""
    known = [line.split()[0] for line in (data / "fold" / "test.csv").read_text().splitlines()]
    groups = tmp_path / "groups.csv"
    rows = [f"{name},{'older' if i % 2 else 'younger'}" for i, name in enumerate(known)]
    groups.write_text("\n".join(["video_name,age", *rows]) + "\n")
    argv = [str(run), "o/mine", "--licence", "cc-by-nc-4.0", "--subgroups", str(groups)]
    assert publish.main([*argv, "--dry_run"]) == 0
    assert "o/mine" not in hub.repos
    assert publish.main(argv) == 0
    files = hub.repos["o/mine"][-1]
    folder = run / "published"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    for name, content in files.items():
        for private in (str(tmp_path), str(data), str(Path.home()), "/tmp/"):
            assert private.encode() not in content, name
    card = files["README.md"].decode()
    for words in ("license: ", "Art. 5(1)(f)", "younger", "older", "not better than chance",
                  "train 6 videos", "hf://o/pre@", "for non-commercial use only"):  # fmt: skip
        assert words.lower() in card.lower(), words
    forget()
    ours = identify(run / "checkpoint-last.pth")
    for source in ("hf://o/mine", folder):
        again = identify(source)
        assert again.config == ours.config and again.labels == ours.labels
        assert (again.sampling_rate, again.fps) == (ours.sampling_rate, ours.fps)
        assert all(value.equal(again.weights[name]) for name, value in ours.weights.items())
    assert locate("hf://o/mine").licence == "cc-by-nc-4.0: for non-commercial use only"
    hub.refusals["o/mine"] = (403, None)
    assert publish.main(argv) == 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "2 of 9 videos of /home/eve/data/fold/test.csv are left out",
            "2 of 9 videos of test.csv are left out",
        ),
        (r"from C:\\Users\\eve\\w.pth", "from w.pth"),
        ("../eve/faces/train.csv, data/eve/x.csv", "train.csv, x.csv"),
        ("fear/surprise and timm/resnet50", "fear/surprise and timm/resnet50"),
        ("hf://o/r@0123/model.safetensors", "hf://o/r@0123/model.safetensors"),
    ],
)
def test_paths_are_reduced_to_their_last_part(text, left):
    assert without_paths({"a": [text]}) == {"a": [left]}


def test_all_intervals_of_a_card_resample_people_where_they_are_known(tmp_path):
    labels, ids = np.arange(40) % 2, [f"{index}.mp4" for index in range(40)]
    scores = np.eye(2)[np.where(np.arange(40) < 20, labels, 1 - labels)]
    write_predictions(tmp_path / "pred.csv", Classes.from_scores(ids, labels, scores, list("ab")))
    people = tmp_path / "people.csv"
    rows = [f"{name},{'x' if i < 20 else 'y'},{'fm'[i % 4 // 2]}" for i, name in enumerate(ids)]
    people.write_text("\n".join(["video_name,subject,sex", *rows]) + "\n")
    run = SimpleNamespace(result=find_results([tmp_path])[0], subjects=people)
    of_two_people = "9.5 to 90.5"  # Wilson's of one of two
    assert _results(run)[1].count(of_two_people) == 2
    assert subgroup_tables(run, [people])[0].count("50.00 [9.45, 90.55]") >= 2
    run.subjects = None
    assert of_two_people not in _results(run)[1]


def test_weights_of_ones_own_have_no_licence_to_tell():
    origin = {"data": {"train": {"videos": 6}}, "weights": {"file": "/home/eve/w.pth"}}
    text = _data(SimpleNamespace(result=None, flags={}, origin=origin))
    assert "training began with: w.pth" in text and "licence" not in text


def test_what_cannot_be_published_is_said(tmp_path, capsys):
    assert publish.main([str(tmp_path), "o/mine", "--dry_run"]) == 1
    assert "is no run" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.json").write_text('{"uar": 0.5, "weights": "x.pth", "split": "test"}')
    assert publish.main([str(tmp_path), "o/mine", "--dry_run"]) == 1
    assert "an evaluation of x.pth" in capsys.readouterr().err


@pytest.mark.parametrize("alone", [False, True])
def test_pre_training_goes_on_from_weights(hub, data, published, tmp_path, alone):
    """Of a masked autoencoder with its decoder, of an encoder with a new one."""
    (tmp_path / "w.safetensors").write_bytes(published)
    source = identify(tmp_path / "w.safetensors")
    if alone:
        model = models.create_model("svfap_tiny_patch8_64", num_classes=2, **{
            name: source.config[name]
            for name in ("img_size", "stage_depths", "num_bottleneck_tokens")
        })  # fmt: skip
        models.load_weights(model, source.weights)
        import torch

        torch.save({"model": model.state_dict(), "model_config": model.config}, tmp_path / "w.pth")
        (tmp_path / "w.safetensors").unlink()
        convert(tmp_path / "w.pth", tmp_path / "w.safetensors")
    hub.commit("o/pre", {"w.safetensors": (tmp_path / "w.safetensors").read_bytes()})
    out = tmp_path / "run"
    argv = pretrain_argv(data, out, *ONE_EPOCH, "--lr", "0", "--min_lr", "0", "--warmup_lr", "0",
                         "--weight_decay", "0", "--start_from", "hf://o/pre")  # fmt: skip
    run_pretraining(without(argv, *SIZES))
    trained = identify(out / "checkpoint-last.pth").weights
    kept = source.weights
    same = [name for name in trained if name in kept and trained[name].equal(kept[name])]
    encoder = [n for n in trained if n.startswith("encoder.") and not n.startswith("encoder.norm")]
    assert set(encoder) <= set(same)
    assert ("decoder.head.weight" in same) != alone
    run_pretraining(without(argv, *SIZES))  # finished: nothing to do
    with pytest.raises(ValueError, match="--start_from was hf://o/pre@.*, is none"):
        run_pretraining([*without(argv, "--start_from"), "--start_from", ""])
