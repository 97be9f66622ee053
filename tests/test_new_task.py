"""A task that nobody has heard of: one class each, and everything else works with it."""

import ast
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch.nn.functional as F

from svfap.datasets.labels.classes import LabelNames
from svfap.datasets.labels.kinds import KINDS, Column, LabelKind
from svfap.engine.compare import main as compare
from svfap.engine.constant import write_constant
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from svfap.engine.report.html import section
from svfap.engine.report.page import write_report
from svfap.engine.results import predictions as results
from svfap.engine.results.find import find_results
from svfap.engine.results.intervals import bootstrap_intervals
from svfap.engine.results.kinds.base import Predictions, Summands, checked_scores
from svfap.engine.results.metrics import METRICS, Metric
from svfap.engine.runtime import checkpoint
from svfap.engine.summarize import main as summarize
from svfap.engine.tasks.base import TASKS
from svfap.engine.tasks.task import Task
from svfap.preprocess.doctor import command as doctor
from tests.conftest import ROOT
from tests.test_imports import sources
from tests.test_task_runs import evaluate_again, last_line, make_fold, run
from tests.tiny_data import make_tiny_data

TAGS = ("smiles", "talks", "nods")


class YesOrNo(LabelKind):
    """Several answers per video: (n, T) int64, 0 or 1. `names` are the tags."""

    def columns(self, names, heads):
        return [Column(name, ("no", "yes")) for name in names]


@dataclass(frozen=True, kw_only=True)
class Tags(Predictions):
    """Several answers per video; `names` are the tags."""

    header = "id,label_<tag>...,pred_<tag>...,prob_<tag>..."
    guess_is = "what most training videos have"

    def metrics(self):
        right = self.labels == self.predicted
        return {"all_right": float(right.all(1).mean()), "wrong": float(1 - right.mean()),
                "num_videos": len(self)}  # fmt: skip

    @classmethod
    def summands(cls, systems):
        right = [own.labels == own.predicted for own in systems]
        rows = [np.stack([np.ones(len(r)), r.all(1), 1 - r.mean(1)], axis=1) for r in right]
        return [
            Summands(rows, lambda s: {"all_right": s[:, 1] / s[:, 0], "wrong": s[:, 2] / s[:, 0]})
        ]

    @staticmethod
    def guess(labels):
        return (labels.mean(0) > 0.5).astype(np.int64)

    def constant(self, training_labels):
        constant = super().constant(training_labels)
        return replace(constant, scores=constant.predicted.astype(float))

    def sections(self, page, title=""):
        return [section("Tags", ", ".join(self.names))]

    @classmethod
    def recognises(cls, table):
        return table.after("label_") == table.after("prob_") != []

    @classmethod
    def fields(cls, table, names):
        names = table.after("label_")
        labels, predicted = (
            np.stack([table.classes(f"{kind}_{name}", ("no", "yes")) for name in names], axis=1)
            for kind in ("label", "pred")
        )
        scores = table.numbers([f"prob_{name}" for name in names])
        return {"labels": labels, "predicted": predicted, "scores": scores, "names": names}


@dataclass
class Tagging(Task):
    """Several answers per video: binary cross-entropy."""

    names: list[str]
    remark = "binary cross-entropy"
    default_metric = "wrong"
    probabilities = True

    @classmethod
    def create(cls, flags, names, heads):
        return cls(names=names)

    @property
    def num_outputs(self):
        return len(self.names)

    def training_loss(self, model, clip, label, draws):
        return F.binary_cross_entropy_with_logits(model(clip).float(), label.float())

    def scores(self, outputs):
        return outputs.float().sigmoid()

    def loss(self, scores, labels):
        return float(-np.log(np.where(labels, scores, 1 - scores)).mean())

    def predictions(self, ids, labels, scores, frames=None):
        scores = checked_scores(scores)
        predicted = (scores > 0.5).astype(np.int64)
        return Tags(ids=ids, labels=labels, predicted=predicted, scores=scores, names=self.names)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(KINDS, "tags", YesOrNo())
    monkeypatch.setitem(TASKS, "tags", Tagging)
    monkeypatch.setitem(METRICS, "all_right", Metric("all right", in_percent=True, headline=True))
    monkeypatch.setitem(METRICS, "wrong", Metric("share wrong", lower_is_better=True))
    monkeypatch.setattr(results, "KINDS", [*results.KINDS, Tags])


def test_a_new_task_trains_evaluates_reports_predicts_and_gets_intervals(
    registered, tmp_path, capsys
):
    make_tiny_data(tmp_path)
    videos = sorted((tmp_path / "videos").iterdir())
    labels = [f"{i % 2} {i // 5} {int(i in (2, 6))}" for i in range(10)]
    names = LabelNames(task="tags", class_names=TAGS)
    fold, out = make_fold(tmp_path / "tags", videos, labels, names), tmp_path / "run"
    metrics = run(fold, out)
    assert "tags: smiles, talks, nods; binary cross-entropy" in capsys.readouterr().out
    line = last_line(out)
    assert {"val_all_right", "val_wrong", "val_loss"} <= line.keys()
    best = checkpoint.read(out / checkpoint.BEST)["position"]["best"]
    logged = [json.loads(text)["val_wrong"] for text in (out / "log.jsonl").open()]
    assert best == min(logged)  # lower is better

    [found] = find_results([out])
    assert type(found.predictions) is Tags and found.predictions.names == list(TAGS)
    assert found.predictions.labels[0].tolist() == [1, 1, 0]
    assert found.metrics == {name: metrics[name] for name in found.metrics}
    low, high = bootstrap_intervals(found.predictions)["wrong"]
    assert low <= metrics["wrong"] <= high

    again = evaluate_again(fold, out, tmp_path / "again")
    assert again["wrong"] == pytest.approx(metrics["wrong"])
    summarize([str(out)])
    assert "share wrong" in capsys.readouterr().out
    page = write_report(out).read_text()
    assert "all right" in page and "smiles, talks, nods" in page
    write_constant(out)
    [constant] = find_results([out / "constant"])
    assert constant.weights == "none (what most training videos have)"
    assert constant.predictions.predicted.tolist() == [[0, 0, 0]] * 5
    compare([str(out), str(out / "constant")])
    assert "all right" in capsys.readouterr().out

    predictor = Predictor(out / checkpoint.LAST, PredictionOptions(crop=False), device="cpu")
    track = predictor.predict(videos[5]).tracks[0]
    assert list(track.answers()) == list(TAGS) and track.label is None
    assert all(0 < score < 1 for score in track.scores)
    status = doctor.main([str(fold), "--output_dir", str(tmp_path / "doctor"), "--no_faces",
                          "--num_workers", "0"])  # fmt: skip
    assert status in (0, 1) and "train talks: no 5  yes 1" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no classes to balance"):
        run(fold, tmp_path / "no", "--class_balanced", "loss")


def test_nothing_is_compared_with_the_name_of_a_task():
    """Where tasks differ, their classes do; names stand in tables and in descriptions of data."""
    for _, path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                constants = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                named = [value for value in constants if value in KINDS]
                assert not named, f"{path.relative_to(ROOT)}:{node.lineno} compares with {named}"


def test_engine_names_no_task_outside_the_table_of_tasks():
    """What labels are of which nothing is said is known by their own room."""
    for path in (ROOT / "engine").rglob("*.py"):
        values = [node.value for node in ast.walk(ast.parse(path.read_text()))
                  if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
        named = KINDS.keys() & set(values)
        assert not named or path == ROOT / "engine" / "tasks" / "base.py", (path, named)
