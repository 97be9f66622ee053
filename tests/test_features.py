"""Features in files, and probes of frozen encoders."""

import json
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image

from svfap import models
from svfap.datasets.files import read_arrays
from svfap.engine.pretext import epochs
from svfap.engine.probe import command as probe
from svfap.engine.probe import probing
from svfap.engine.probe.attentive import DECAYS, attentive_probe
from svfap.engine.probe.probing import Frozen, extract, linear_probe, nearest_neighbours
from svfap.engine.probe.probing import probe as probe_features
from svfap.engine.results.features import StageRecorder, write_features
from svfap.engine.results.predictions import read_metrics, read_predictions
from svfap.engine.results.tokens import TokenCache, Tokens
from svfap.engine.runtime import checkpoint
from tests.model_cases import (
    FINETUNE_NAMES,
    PRETRAIN_NAMES,
    distinct,
    random_clip,
    small_model,
    tube_mask,
)
from tests.test_runs import (
    assert_equal_weights,
    finetune_argv,
    log_lines,
    pretrain_argv,
    run_finetuning,
    run_pretraining,
    weights,
)


@pytest.mark.parametrize("name", distinct(FINETUNE_NAMES))
def test_stages_are_recorded_without_changing_the_model(name):
    model = small_model(name).eval()
    clip = random_clip(model)
    with torch.inference_mode():
        plain = model.forward_features(clip)
        stages = model.encode(model.embed(clip)).stages
        recorder = StageRecorder(model)
        with recorder:
            again = model.forward_features(clip)
        features = recorder.split(recorder.take(again).numpy())
    assert torch.equal(plain, again) and "encode" not in vars(model)
    assert torch.equal(recorder.tokens, stages[-1])  # what the attentive probe reads
    assert list(features) == ["feature", *(f"stage{i}" for i in range(1, len(stages) + 1))]
    np.testing.assert_allclose(features["feature"], plain.numpy(), rtol=1e-6)
    for stage, found in zip(stages, list(features.values())[1:]):
        np.testing.assert_allclose(found, stage.mean(1).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in PRETRAIN_NAMES if "tiny" in n])
def test_stages_of_a_pretraining_model(name):
    model = small_model(name).eval()
    recorder = StageRecorder(model)
    with torch.inference_mode(), recorder:
        model(random_clip(model), tube_mask(model, 4))
    stages = 3 if "svfap" in name else 1
    assert [tuple(s.shape) for s in recorder.stages] == [(2, model.embed_dim)] * stages


def test_the_file_of_features_is_as_documented(data, tmp_path):
    out = tmp_path / "run"
    run_finetuning(finetune_argv(data, out, "--save_feature"))
    content = read_arrays(out / "features.npz", None)
    assert list(content) == [
        "id",
        "label",
        "score",
        "name",
        "feature",
        "stage1",
        "stage2",
        "stage3",
    ]
    rows = [line.split(",") for line in (out / "pred.csv").read_text().splitlines()[1:]]
    assert content["id"].tolist() == [row[0] for row in rows]
    assert content["label"].tolist() == [int(row[1]) for row in rows]
    np.testing.assert_allclose(content["score"], np.array(rows)[:, 3:5].astype(float), atol=1e-6)
    assert content["name"].tolist() == ["0", "1"]
    assert all(content[name].shape == (5, 128) for name in list(content)[4:])
    assert content["feature"].dtype == np.float32 and content["stage1"].std() > 0
    model = models.create_model(**checkpoint.read(out / checkpoint.LAST)["model_config"])
    models.load_weights(model, out / checkpoint.LAST)
    head = torch.from_numpy(content["feature"]) @ model.head.weight.T + model.head.bias
    # The mean of two clips' features; softmax of their mean is near the mean of their softmax.
    np.testing.assert_allclose(head.softmax(1).detach().numpy(), content["score"], atol=0.02)


def features_of(n: int) -> dict:
    rng = np.random.default_rng(0)
    return {
        "ids": [f"v{i}" for i in range(n)],
        "labels": np.arange(n) % 2,
        "scores": rng.random((n, 2)),
        "names": ["happy", "sad"],
        "features": {"feature": rng.random((n, 4), np.float32)},
    }


def test_parquet_needs_its_library_and_holds_the_same(tmp_path, monkeypatch):
    import sys

    with pytest.raises(ValueError, match="choose among npz, parquet"):
        write_features(tmp_path, **features_of(3), formats=["csv"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="needs pyarrow: pip install pyarrow"):
        write_features(tmp_path, **features_of(3), formats=["npz", "parquet"])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    pytest.importorskip("pyarrow")
    import pandas

    write_features(tmp_path, **features_of(3), formats=["npz", "parquet"])
    table = pandas.read_parquet(tmp_path / "features.parquet")
    arrays = read_arrays(tmp_path / "features.npz", None)
    assert list(table.columns) == ["id", "label", "score_happy", "score_sad", "feature"]
    np.testing.assert_array_equal(np.stack(table["feature"]), arrays["feature"])


def clouds(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes: only the first two of twenty numbers tell them apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    x = rng.normal(size=(len(labels), 20))
    x[:, :2] += 4 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    return x, labels


def test_probes_find_what_is_there():
    (x, y), (x_test, y_test) = clouds(40, 1), clouds(100, 2)
    scores, strength = linear_probe(x, y, x_test, np.arange(len(x)) % 5 == 0, num_outputs=3)
    np.testing.assert_allclose(scores.sum(1), 1)
    assert (scores.argmax(1) == y_test).mean() > 0.93 and strength in (0.01, 0.1, 1.0, 10.0, 100.0)
    voted = nearest_neighbours(x, y, x_test, 20, num_classes=3)
    np.testing.assert_allclose(voted.sum(1), 1)
    assert (voted.argmax(1) == y_test).mean() > 0.75
    exact = nearest_neighbours(x, y, x, 1, num_classes=3)
    assert (exact.argmax(1) == y).all()
    shuffled = np.random.default_rng(0).permutation(y)
    scores, _ = linear_probe(x, shuffled, x_test, None, num_outputs=3)
    assert (scores.argmax(1) == y_test).mean() < 0.5


def test_a_probe_of_nothing_but_noise_answers_the_mean():
    """As many features as training videos: a ridge too weak answers anything."""
    random = np.random.default_rng(0)
    x, x_test = random.normal(size=(2, 200, 200))
    y = random.normal(size=(200, 1))
    scores, _ = linear_probe(x, y, x_test, np.arange(200) % 5 == 0, num_outputs=1)
    assert scores.std() < 0.1


def views(num_videos: int, seed: int, numbers: bool = False) -> tuple[Tokens, np.ndarray]:
    """Two views of each video; one token of nine says its class, the others are other noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_videos) % 2)
    video = torch.arange(num_videos).repeat_interleave(2)
    values = rng.normal(size=(2 * num_videos, 9, 16)).astype(np.float32)
    values[:, 5, :4] = 0.2 * values[:, 5, :4] + np.repeat(2.0 * labels - 1, 2)[:, None]
    tokens = Tokens(video, torch.ones(len(video)).double(), torch.from_numpy(values).half())
    return tokens, labels[:, None] * [10.0, -1.0] + 3 if numbers else labels


def test_an_attentive_probe_finds_the_one_token_that_says_it():
    (train, y), (test, y_test) = views(120, 1), views(80, 2)
    held_out = np.arange(120) % 5 == 0
    scores, decay = attentive_probe(train, y, test, held_out, num_outputs=2)
    np.testing.assert_allclose(scores.sum(1), 1)
    assert (scores.argmax(1) == y_test).all() and decay in DECAYS
    means = [tokens.values.float().mean(1)[::2].numpy() for tokens in (train, test)]
    linear, _ = linear_probe(means[0], y, means[1], held_out, num_outputs=2)
    assert (linear.argmax(1) == y_test).mean() < 0.85
    again, _ = attentive_probe(train, y, test, held_out, num_outputs=2)
    np.testing.assert_array_equal(again, scores)


def test_an_attentive_probe_of_numbers():
    (train, y), (test, y_test) = views(120, 1, True), views(80, 2, True)
    values, _ = attentive_probe(train, y, test, None, num_outputs=2)
    assert np.abs(values - y_test).mean(0) == pytest.approx([0, 0], abs=1)
    assert np.corrcoef(values[:, 0], y_test[:, 0])[0, 1] > 0.95


def test_tokens_that_do_not_fit_are_refused():
    batch = {"index": torch.arange(2), "view_weight": torch.ones(2)}
    cache = TokenCache(num_videos=1000, limit_gib=1e-3)
    with pytest.raises(ValueError, match="1000 videos take 0.6 GiB .*raise --token_memory"):
        cache.add(batch, torch.zeros(2, 300, 1024))
    with pytest.raises(ValueError, match="above 65504"):
        TokenCache(2).add(batch, torch.full((2, 3, 4), 1e6))
    cache = TokenCache(2)
    cache.add(batch, torch.ones(2, 3, 4))
    tokens = cache.gathered(lambda own: [own, own])  # as of two processes
    assert tokens.values.shape == (4, 3, 4) and tokens.video.tolist() == [0, 1, 0, 1]


def test_probes_of_numbers():
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(200, 5)), rng.normal(size=(50, 5))
    weights = rng.normal(size=(5, 2))
    results = probe_features(
        Frozen(features={"feature": x}, labels=x @ weights),
        Frozen(features={"feature": x_test}, labels=x_test @ weights),
        ["arousal", "valence"],
    )["feature"]
    assert results["linear"]["ccc"] > 0.99 and results["linear"]["strength"] >= 1
    assert 0.5 < results["knn"]["pcc"] < results["linear"]["pcc"]


def test_features_that_are_not_finite_are_no_features(monkeypatch):
    broken = SimpleNamespace(features={"feature": np.array([[0.5], [np.nan]]), "stage1": None})
    monkeypatch.setattr(probing, "evaluate", lambda *_, **__: broken)
    setting = MagicMock()
    with pytest.raises(ValueError, match="features 'feature' hold NaN or infinity for 1 of 2"):
        extract(setting, SimpleNamespace(labels=np.zeros(2)), None, title="", stages=False)


def test_one_class_and_few_videos_do_not_stop_a_probe():
    x = np.random.default_rng(0).normal(size=(3, 4))
    part = Frozen(features={"feature": x}, labels=np.zeros(3, np.int64))
    results = probe_features(part, part, ["a", "b"], neighbours=20)
    assert results["feature"]["linear"]["war"] == results["feature"]["knn"]["war"] == 1


@pytest.mark.parametrize("stage", ["pretrained", "finetuned"])
def test_the_command_probes_both_kinds_of_checkpoints(data, tmp_path, capsys, stage):
    if stage == "pretrained":
        run_pretraining(pretrain_argv(data, tmp_path / "run"))
    else:
        run_finetuning(finetune_argv(data, tmp_path / "run"))
    path = tmp_path / "run" / checkpoint.LAST
    out = tmp_path / "probe.json"
    argv = [str(path), "--data_path", str(data / "fold"), "--nb_classes", "2", "--output", str(out),
            "--attentive", "--output_dir", str(tmp_path / "answers"),
            "--", "--device", "cpu", "--num_workers", "0", "--sampling_rate", "2"]  # fmt: skip
    assert probe.main(argv) == 0
    shown = capsys.readouterr().out
    assert "| feature | linear UAR | linear WAR | linear MACRO F1 | attentive UAR |" in shown
    assert "6 training and 5 test videos, frozen encoder" in shown
    content = json.loads(out.read_text())
    assert list(content["features"]) == ["feature", "stage1", "stage2", "stage3"]
    for found in content["features"].values():
        for method in ("linear", "knn"):
            assert sum(map(sum, found[method]["confusion_matrix"])) == 5
    for method in ("linear", "knn", "attentive"):
        folder, metrics = tmp_path / "answers" / method, content["features"]["feature"][method]
        assert read_metrics(folder / "metrics.json")["uar"] == metrics["uar"]
        assert read_predictions(folder / "pred.csv").metrics()["uar"] == metrics["uar"]
    assert content["model"].endswith("svfap_tiny_patch8_64")
    argv[0] = str(tmp_path / "absent.pth")
    assert probe.main(argv) == 1 and "no weights at" in capsys.readouterr().err


def test_probing_does_not_change_pretraining(data, tmp_path):
    more = ["--epochs", "3", "--probe_every", "2", "--probe_path", str(data / "fold")]
    (data / "fold" / "classes.json").write_text(
        json.dumps({"task": "classification", "class_names": ["right", "down"]})
    )
    run_pretraining(pretrain_argv(data, tmp_path / "probed", *more))
    run_pretraining(
        pretrain_argv(data, tmp_path / "plain", "--epochs", "3", "--save_ckpt_freq", "1")
    )
    assert epochs.main([str(tmp_path / "plain"), "--num_faces", "3", "--device", "cpu"]) == 0
    with Image.open(tmp_path / "plain" / "epochs.png") as picture:
        assert picture.height > picture.width  # original, masked, three epochs
    assert epochs.main([str(tmp_path / "probed" / "absent")]) == 1
    assert_equal_weights(weights(tmp_path / "probed"), weights(tmp_path / "plain"))
    lines = log_lines(tmp_path / "probed")
    names = {"probe_linear_uar", "probe_linear_war", "probe_knn_uar", "probe_knn_war"}
    assert [names <= line.keys() for line in lines] == [False, True, False]
    assert all(0 <= lines[1][name] <= 1 for name in names)
    with pytest.raises(ValueError, match="missing --probe_path"):
        run_pretraining(pretrain_argv(data, tmp_path / "no", "--probe_every", "1"))
