"""The constant prediction: mean or most frequent label of the training part, whatever the video."""

import json

import numpy as np
import pytest

from svfap.engine.compare import main as compare
from svfap.engine.constant import main, write_constant
from svfap.engine.results.kinds.classes import Classes, ClassesOfHeads
from svfap.engine.results.kinds.numbers import Numbers
from svfap.engine.results.predictions import read_predictions, write_metrics, write_predictions

IDS = ["x/1", "x/2", "x/3", "x/4"]


def write_run(folder, task, names, train_rows, predictions):
    data = folder / "data"
    data.mkdir(parents=True)
    (data / "train.csv").write_text("".join(f"y/{i} {row}\n" for i, row in enumerate(train_rows)))
    run = folder / "run"
    run.mkdir()
    write_predictions(run / "pred.csv", predictions)
    write_metrics(run / "metrics.json", predictions.metrics(), weights="last", split="test")
    config = {
        "flags": {"data_path": str(data)},
        "resolved": {"task": task, "class_names": names},
    }
    (run / "config.json").write_text(json.dumps(config))
    return run


def test_regression(tmp_path, capsys):
    names = ["valence", "arousal"]
    labels = np.array([[0.0, 1.0], [0.5, 0.0], [1.0, 0.0], [0.5, 1.0]])
    predictions = Numbers.from_scores(IDS, labels, labels + 0.1, names)
    run = write_run(tmp_path, "regression", names, ["0.2 0.4", "0.4 -0.4"], predictions)
    assert main([str(run)]) == 0
    constant = read_predictions(run / "constant" / "pred.csv")
    assert constant.ids == IDS
    np.testing.assert_allclose(constant.predicted, np.tile([0.3, 0.0], (4, 1)))
    np.testing.assert_allclose(constant.labels, labels)
    metrics = json.loads((run / "constant" / "metrics.json").read_text())
    assert metrics["ccc"] == metrics["pcc"] == 0
    assert metrics["per_dimension"]["valence"]["mae"] == pytest.approx((0.3 + 0.2 + 0.7 + 0.2) / 4)
    assert metrics["weights"] == "none (mean of the training labels)"
    compare([str(run), str(run / "constant")])
    assert "| MAE     | 0.100 | 0.425 |" in capsys.readouterr().out
    (run / "training.csv").write_text("y/1 0.4 -0.4\n")  # of --label_fraction
    constant = read_predictions(write_constant(run) / "pred.csv")
    np.testing.assert_allclose(constant.predicted, np.tile([0.4, -0.4], (4, 1)))


def test_frames(tmp_path):
    frames, names = np.array([0, 1, 0, 1]), ["arousal"]
    for index, values in enumerate(([0.0, 0.0, 0.3], [0.1])):
        np.savez(tmp_path / f"{index}.npz", arousal=np.array(values))
    rows = [str(tmp_path / f"{index}.npz") for index in range(2)]
    labels = np.array([[0.1], [0.2], [0.3], [0.4]])
    ids = ["x/1", "x/1", "x/2", "x/2"]
    predictions = Numbers.from_scores(ids, labels, labels, names, frames=frames)
    folder = write_constant(write_run(tmp_path, "regression_frames", names, rows, predictions))
    constant = read_predictions(folder / "pred.csv")
    assert constant.keys == predictions.keys
    np.testing.assert_allclose(constant.predicted, 0.1)  # every frame of every video counts alike


def test_classification_and_heads(tmp_path, capsys):
    predictions = Classes.from_scores(IDS, [0, 1, 2, 1], np.eye(3)[[0, 1, 2, 2]], ["a", "b", "c"])
    run = write_run(tmp_path / "one", "classification", ["a", "b", "c"], [2, 1, 1, 0], predictions)
    constant = read_predictions(write_constant(run) / "pred.csv", ["a", "b", "c"])
    assert constant.predicted.tolist() == [1, 1, 1, 1]
    metrics = json.loads((run / "constant" / "metrics.json").read_text())
    assert metrics["war"] == 0.5 and metrics["uar"] == pytest.approx(1 / 3)
    heads = {"mood": ["low", "high"], "pace": ["slow", "fast"]}
    labels = np.array([[0, 1], [1, 1], [1, 0], [0, 0]])
    predictions = ClassesOfHeads.from_scores(IDS, labels, np.ones((4, 4)) / 2, heads)
    run = write_run(tmp_path / "two", "multihead", list(heads), ["1 0", "1 1", "0 0"], predictions)
    constant = read_predictions(write_constant(run) / "pred.csv")
    assert type(constant) is ClassesOfHeads and constant.predicted.tolist() == [[1, 0]] * 4
    compare([str(run), str(run / "constant")])
    assert "UAR" in capsys.readouterr().out


def test_a_class_and_values(tmp_path):
    predictions = Classes.from_scores(IDS, [0, 1, 1, 1], np.eye(2)[[0, 1, 0, 1]], ["a", "b"])
    names = ["emotion", "valence"]
    rows = ["1 0.2", "1 0.4", "0 0.6"]
    run = write_run(tmp_path, "class_and_values", names, rows, predictions)
    labels = np.array([[0.0], [0.5], [1.0], [0.5]])
    write_predictions(run / "values.csv", Numbers.from_scores(IDS, labels, labels, ["valence"]))
    folder = write_constant(run)
    assert read_predictions(folder / "pred.csv", ["a", "b"]).predicted.tolist() == [1] * 4
    np.testing.assert_allclose(read_predictions(folder / "values.csv").predicted, 0.4)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["war"] == 0.75 and metrics["ccc"] == 0
    assert metrics["mae"] == pytest.approx((0.4 + 0.1 + 0.6 + 0.1) / 4)


def test_what_is_missing_is_said(tmp_path, capsys):
    names = ["valence"]
    predictions = Numbers.from_scores(IDS, np.ones((4, 1)), np.ones((4, 1)), names)
    run = write_run(tmp_path, "regression", names, ["0.1"], predictions)
    (tmp_path / "data" / "train.csv").unlink()
    with pytest.raises(FileNotFoundError, match="training labels .* any more"):
        write_constant(run)
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "evaluate it first" in capsys.readouterr().err
