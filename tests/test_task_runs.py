"""Whole runs of every task but classification on tiny videos, from CSVs to files read back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from svfap.datasets.labels.annotations import AnnotationError
from svfap.datasets.labels.classes import LabelNames, write_classes
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from svfap.engine.report.page import write_report
from svfap.engine.results.kinds.numbers import ClassesAndNumbers, Numbers
from svfap.engine.results.metrics import concordance
from svfap.engine.results.predictions import read_predictions
from svfap.engine.runtime import checkpoint
from svfap.engine.summarize import main as summarize
from svfap.engine.tasks.base import create_task
from svfap.engine.tasks.regression import ccc_loss
from svfap.preprocess.doctor import command as doctor
from tests.tiny_data import FINETUNE_FLAGS, make_tiny_data

PARTS = {"train": slice(0, 6), "val": slice(6, 8), "test": slice(5, 10)}
HEADS = {"arousal": ("calm", "excited"), "valence": ("bad", "good", "so-so")}
FLAGS = list(FINETUNE_FLAGS)
FLAGS[FLAGS.index("--nb_classes") : FLAGS.index("--nb_classes") + 2] = []


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    make_tiny_data(folder)
    return sorted((folder / "videos").iterdir())


def make_fold(folder, videos, labels, names):
    folder.mkdir(parents=True)
    for part, rows in PARTS.items():
        lines = [f"{video} {label}" for video, label in zip(videos[rows], labels[rows])]
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")
    write_classes(folder, names)
    return folder


def run(fold, out, *more):
    argv = [*FLAGS, "--data_path", str(fold), "--output_dir", str(out), *more]
    return finetune(parse_flags(finetuning_parser(), argv))


def last_line(out):
    return json.loads((out / "log.jsonl").read_text().splitlines()[-1])


def evaluate_again(fold, out, again, *more):
    """The checkpoint knows its task; no flag of the training is repeated."""
    argv = ["--eval", "--resume", str(out / checkpoint.LAST), "--data_path", str(fold),
            "--output_dir", str(again), "--device", "cpu", "--num_workers", "0", *more]  # fmt: skip
    return finetune(parse_flags(finetuning_parser(), argv))


def test_regression(videos, tmp_path, capsys):
    labels = [f"{0.1 * i:.1f} {1 - 0.1 * i:.1f}" for i in range(10)]
    names = LabelNames(task="regression", class_names=("valence", "arousal"))
    fold = make_fold(tmp_path / "fold", videos, labels, names)
    metrics = run(fold, tmp_path / "run", "--regression_loss", "mse+ccc",
                  "--head_activation_func", "sigmoid")  # fmt: skip
    assert "mse+ccc loss; mixup, cutmix and label smoothing are off" in capsys.readouterr().out
    predictions = read_predictions(tmp_path / "run" / "pred.csv")
    assert type(predictions) is Numbers and len(predictions) == 5
    assert ((predictions.predicted > 0) & (predictions.predicted < 1)).all()
    np.testing.assert_allclose(predictions.labels[0], [0.5, 0.5])
    assert metrics["per_dimension"]["valence"]["ccc"] == pytest.approx(
        concordance(predictions.labels[:, 0], predictions.predicted[:, 0]), abs=1e-6
    )
    assert {"val_ccc", "val_pcc", "val_mae", "val_loss"} <= last_line(tmp_path / "run").keys()
    content = checkpoint.read(tmp_path / "run" / checkpoint.LAST)
    assert content["task"] == "regression" and content["heads"] is None
    again = evaluate_again(fold, tmp_path / "run", tmp_path / "again")
    assert again["ccc"] == pytest.approx(metrics["ccc"], abs=1e-6)
    with pytest.raises(ValueError, match="--mixup: mixing and smoothing are for class labels"):
        run(fold, tmp_path / "mixed", "--mixup", "0.8")
    with pytest.raises(ValueError, match="is for regression .* --data_set DFEW is classification"):
        run(fold, tmp_path / "other", "--data_set", "DFEW")


def test_a_class_and_values_by_one_model(videos, tmp_path, capsys):
    labels = [f"{i % 2} {0.1 * i:.1f} {1 - 0.1 * i:.1f}" for i in range(10)]
    names = LabelNames(
        task="class_and_values",
        class_names=("expression", "valence", "arousal"),
        heads={"expression": ("right", "down")},
    )
    assert names.output_names == ("expression_right", "expression_down", "valence", "arousal")
    fold = make_fold(tmp_path / "fold", videos, labels, names)
    metrics = run(fold, tmp_path / "run", "--val_metric", "rmse")
    assert "cross-entropy + mse loss; mixup and cutmix are off" in capsys.readouterr().out
    classes = read_predictions(tmp_path / "run" / "pred.csv")
    values = read_predictions(tmp_path / "run" / "values.csv")
    assert type(classes) is ClassesAndNumbers and list(classes.names) == ["right", "down"]
    assert type(values) is Numbers and list(values.names) == ["valence", "arousal"]
    assert classes.labels.tolist() == [1, 0, 1, 0, 1]
    np.testing.assert_allclose(classes.scores.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(values.labels[:, 0], [0.5, 0.6, 0.7, 0.8, 0.9], atol=1e-6)
    assert metrics["war"] == (classes.labels == classes.predicted).mean()
    error = values.predicted - values.labels
    assert metrics["rmse"] == pytest.approx(np.sqrt((error**2).mean(0)).mean(), abs=1e-5)
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert stored["values"]["per_dimension"]["arousal"]["ccc"] == pytest.approx(
        concordance(values.labels[:, 1], values.predicted[:, 1]), abs=1e-5
    )
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    best = checkpoint.read(tmp_path / "run" / checkpoint.BEST)["position"]["best"]
    assert best == min(json.loads(line)["val_rmse"] for line in lines)  # lower is better
    assert {"val_uar", "val_ccc", "val_rmse"} <= last_line(tmp_path / "run").keys()
    again = evaluate_again(fold, tmp_path / "run", tmp_path / "again", "--save_feature")
    assert again["rmse"] == pytest.approx(metrics["rmse"], abs=1e-6)
    features = np.load(tmp_path / "again" / "features.npz")
    assert features["label"].shape == (5, 3) and features["score"].shape == (5, 4)
    assert features["name"].tolist() == ["right", "down", "valence", "arousal"]
    summarize([str(tmp_path / "run")])
    report = write_report(tmp_path / "run").read_text()
    assert "right" in report and "Confusion matrix" in report
    doctor.main([str(fold), "--output_dir", str(tmp_path / "doctor"), "--num_workers", "0",
                 "--no_faces"])  # fmt: skip
    assert "2 classes" in capsys.readouterr().out
    predictor = Predictor(
        tmp_path / "run" / checkpoint.LAST, PredictionOptions(crop=False), device="cpu"
    )
    answers = predictor.predict(videos[0]).tracks[0].answers()
    assert list(answers) == list(names.output_names)
    assert predictor.task.num_outputs == 4 and predictor.task.names == list(names.class_names)
    assert answers["expression_right"] + answers["expression_down"] == pytest.approx(1)
    with pytest.raises(ValueError, match="--mixup: mixing and smoothing"):
        run(fold, tmp_path / "mixed", "--mixup", "0.8")
    with pytest.raises(ValueError, match="would act on the class too"):
        run(fold, tmp_path / "tanh", "--head_activation_func", "tanh")
    (fold / "train.csv").write_text(f"{videos[0]} 2 0.1 0.2\n{videos[1]} 1 x 0.2\n")
    with pytest.raises(AnnotationError) as caught:
        run(fold, tmp_path / "wrong")
    assert "the labels count from 1 (1 to 2)" in str(caught.value)
    assert "label 'x' is not a finite number" in str(caught.value)


def test_names_of_a_class_and_values():
    heads = {"expression": ("a", "b")}
    for names in (("valence", "expression"), ("expression",)):
        with pytest.raises(ValueError, match="class_and_values"):
            LabelNames(task="class_and_values", class_names=names, heads=heads)
    with pytest.raises(ValueError, match="there must be none"):
        LabelNames(task="regression", class_names=("expression", "valence"), heads=heads)


def test_loss_of_a_class_and_values_is_the_sum():
    flags = parse_flags(finetuning_parser(), ["--regression_loss", "mse+ccc", "--smoothing", "0"])
    task = create_task("class_and_values", flags, ["e", "v", "a"], {"e": ["x", "y", "z"]})
    outputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([[i % 3, 0.1 * i, -0.2 * i] for i in range(6)], dtype=torch.float32)
    loss = task.training_loss(lambda clip: outputs, None, label, None)
    of_class = torch.nn.functional.cross_entropy(outputs[:, :3], label[:, 0].long())
    values, targets = outputs[:, 3:], label[:, 1:]
    of_values = ((values - targets) ** 2).mean() + ccc_loss(values, targets)
    assert loss.item() == pytest.approx((of_class + of_values).item(), rel=1e-6)
    scores = task.scores(outputs).double().numpy()
    assert task.loss(scores, label.numpy()) == pytest.approx(loss.item(), rel=1e-4)


def test_several_heads_averaged_by_group(videos, tmp_path, capsys):
    labels = [f"{i % 2} {i % 3}" for i in (0, 1, 2, 3, 4, 5, 0, 1, 0, 1)]
    names = LabelNames(task="multihead", class_names=tuple(HEADS), heads=HEADS)
    fold = make_fold(tmp_path / "fold", videos, labels, names)
    groups = [f"t{i}" for i in (0, 1, 2, 3, 4, 5, 6, 7, 6, 7)]
    rows = [f"{video},{group}" for video, group in zip(videos, groups)]
    (fold / "groups.csv").write_text("\n".join(["path,group", *rows]) + "\n")
    single = run(fold, tmp_path / "run")
    assert single["num_videos"] == 5 and single["heads"]["valence"] == list(HEADS["valence"])
    line = last_line(tmp_path / "run")
    assert {"val_weighted_f1", "val_uar"} <= line.keys()
    clips = read_predictions(tmp_path / "run" / "pred.csv")
    assert clips.heads == HEADS
    averaged = evaluate_again(
        fold, tmp_path / "run", tmp_path / "groups", "--average_by", "groups", "--save_feature"
    )
    by_group = read_predictions(tmp_path / "groups" / "pred.csv")
    assert list(by_group.ids) == ["t5", "t6", "t7"] and averaged["num_videos"] == 3
    np.testing.assert_allclose(by_group.scores[1], clips.scores[[1, 3]].mean(0), atol=1e-6)
    np.testing.assert_allclose(by_group.scores[0], clips.scores[0], atol=1e-6)
    assert averaged["weighted_f1"] == pytest.approx(
        np.mean([own["weighted_f1"] for own in averaged["per_head"].values()])
    )
    for head in HEADS:
        assert (tmp_path / "groups" / f"confusion_matrix_{head}.png").is_file()
    assert np.load(tmp_path / "groups" / "features.npz")["label"].shape == (3, 2)
    summarize([str(tmp_path / "groups")])
    assert "valence" in capsys.readouterr().out
    predictor = Predictor(
        tmp_path / "run" / checkpoint.LAST, PredictionOptions(crop=False), device="cpu"
    )
    answers = predictor.predict(videos[0]).tracks[0].answers()
    assert list(answers) == [f"{h}_{c}" for h, classes in HEADS.items() for c in classes]
    assert sum(answers.values()) == pytest.approx(2)


def test_labels_of_every_frame(videos, tmp_path):
    labels = []
    for number, video in enumerate(videos):
        length = 30 + 3 * number
        values = np.sin(np.arange(length) / 10 + number)
        np.savez(tmp_path / f"{video.stem}.npz", valence=values, arousal=-values)
        labels.append(tmp_path / f"{video.stem}.npz")
    names = LabelNames(task="regression_frames", class_names=("valence", "arousal"))
    fold = make_fold(tmp_path / "fold", videos, labels, names)
    out = tmp_path / "run"
    metrics = run(fold, out, "--regression_loss", "ccc", "--head_activation_func", "tanh")
    predictions = read_predictions(out / "pred.csv")
    lengths = [30 + 3 * n for n in range(5, 10)]
    assert len(predictions) == sum(lengths) == metrics["num_frames"]
    assert metrics["num_videos"] == 5
    assert predictions.frames[: lengths[0]].tolist() == list(range(lengths[0]))
    for column, name in enumerate(names.class_names):
        target, value = predictions.labels[:, column], predictions.predicted[:, column]
        own = metrics["per_dimension"][name]
        assert own["ccc"] == pytest.approx(concordance(target, value), abs=1e-6)
        assert own["pcc"] == pytest.approx(np.corrcoef(target, value)[0, 1], abs=1e-6)
    np.testing.assert_allclose(
        predictions.labels[: lengths[0], 0], np.sin(np.arange(lengths[0]) / 10 + 5), atol=1e-6
    )
    assert "val_ccc" in last_line(out)
    content = checkpoint.read(out / checkpoint.LAST)
    assert content["model_config"]["keep_temporal_dim"] is True
    again = evaluate_again(fold, out, tmp_path / "again", "--batch_size", "16")
    assert again["ccc"] == pytest.approx(metrics["ccc"], abs=1e-5)
    for argv, text in ((["--average_by", "groups"], "single frames"),
                       (["--save_feature"], "not for labels of frames")):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            run(fold, tmp_path / "no", *argv)


def test_a_head_that_was_loaded_keeps_its_scale(videos, tmp_path):
    """`--init_scale` is about a new head; one that comes with the weights is left as it is."""
    labels = [f"{0.1 * i:.1f}" for i in range(10)]
    names = LabelNames(task="regression", class_names=("valence",))
    fold = make_fold(tmp_path / "fold", videos, labels, names)
    run(fold, tmp_path / "first", "--epochs", "1", "--init_scale", "1")
    weights = str(tmp_path / "first" / checkpoint.LAST)
    for scale in ("1", "0.001"):
        out = tmp_path / scale
        run(fold, out, "--finetune", weights, "--epochs", "1", "--lr", "0", "--min_lr", "0",
            "--init_scale", scale)  # fmt: skip
        heads = [
            checkpoint.read(Path(p))["model"]["head.weight"]
            for p in (weights, out / checkpoint.LAST)
        ]
        assert torch.equal(*heads)
