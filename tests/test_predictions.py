"""pred.csv and metrics.json: what is written is what is read, and bad files are named by line."""

import json

import numpy as np
import pytest

from svfap.engine.results.kinds.classes import Classes, ClassesOfHeads
from svfap.engine.results.kinds.numbers import Numbers
from svfap.engine.results.predictions import (
    PredictionFileError,
    read_metrics,
    read_predictions,
    write_metrics,
    write_predictions,
)


def test_classification_round_trip(tmp_path):
    scores = np.random.default_rng(0).dirichlet(np.ones(3), size=4).astype(np.float32)
    ids = ["a/1.mp4", 'odd, "name".mp4', "ünï.avi", "0007"]
    written = Classes.from_scores(ids, [0, 1, 2, 1], scores, ["happy", "sad", "neutral"])
    write_predictions(tmp_path / "pred.csv", written)
    header, first = (tmp_path / "pred.csv").read_text().splitlines()[:2]
    assert header == "id,label,pred,prob_happy,prob_sad,prob_neutral,truth,answer"
    answer = ["happy", "sad", "neutral"][scores[0].argmax()]
    assert first.startswith("a/1.mp4,0,") and first.endswith(f",happy,{answer}")
    read = read_predictions(tmp_path / "pred.csv")
    assert read.ids == ids
    assert read.names == ["happy", "sad", "neutral"]
    assert type(read) is Classes
    np.testing.assert_array_equal(read.labels, [0, 1, 2, 1])
    np.testing.assert_array_equal(read.predicted, scores.argmax(axis=1))
    np.testing.assert_array_equal(read.scores.astype(np.float32), scores)
    assert read.metrics() == written.metrics()
    assert [path.name for path in tmp_path.iterdir()] == ["pred.csv"]


def test_regression_round_trip(tmp_path):
    targets = np.array([[0.25, 1.0], [0.5, 0.0]])
    written = Numbers.from_scores(["a", "b"], targets, targets + 0.1, ["valence", "arousal"])
    write_predictions(tmp_path / "pred.csv", written)
    header = (tmp_path / "pred.csv").read_text().splitlines()[0]
    assert header == "id,label_valence,label_arousal,pred_valence,pred_arousal"
    read = read_predictions(tmp_path / "pred.csv")
    assert type(read) is Numbers
    np.testing.assert_array_equal(read.labels, targets)
    np.testing.assert_allclose(read.predicted, targets + 0.1, rtol=1e-8)
    assert read.metrics()["mae"] == pytest.approx(0.1)


def test_other_programs_files(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text("\ufeffpred,id,label\r\n1,a,0\r\n1,b,1\r\n", encoding="utf-8")
    plain = read_predictions(path)
    assert plain.scores is None
    assert plain.metrics()["war"] == 0.5
    path.write_text("id,label,pred\na,sad,sad\nb,happy,sad\n")
    named = read_predictions(path, class_names=["happy", "sad"])
    assert named.labels.tolist() == [1, 0]
    assert named.metrics()["per_class_recall"] == [0.0, 1.0]


def test_all_problems_are_listed_with_their_lines(tmp_path):
    path = tmp_path / "pred.csv"
    path.write_text(
        "id,label,pred,prob_x,prob_y\na,0,1,.4,.6\nb,2,0,.4,.6\na,1,1,.4,.6\nc,1,1,.4\n"
        "d,1,1,nan,.6\ne,one,1,.4,.6\n"
    )
    with pytest.raises(PredictionFileError) as caught:
        read_predictions(path)
    message = str(caught.value)
    assert "5 problem(s)" in message
    assert "line 3: label '2', allowed: 0..1" in message
    assert "line 4: 'a' is already on line 2" in message
    assert "line 5: 4 columns, expected 5" in message
    assert "line 6: prob_x 'nan' is not a finite number" in message
    assert "line 7: label 'one'" in message


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no column 'id'"),
        ("a,0,1\nb,1,1\n", "no column 'id'"),
        ("id,label,pred\n", "no videos"),
        ("id,label,pred,label\n", "'label' twice"),
        ("id,label\na,0\n", "expected 'label' and 'pred'"),
        ("id,label_v,pred_a\na,0,1\n", "expected id,label,pred"),
        ("id,label,pred,extra\na,0,1,2\n", "unknown columns"),
    ],
)
def test_wrong_headers(tmp_path, text, match):
    (tmp_path / "pred.csv").write_text(text)
    with pytest.raises(PredictionFileError, match=match):
        read_predictions(tmp_path / "pred.csv")


def test_expected_classes_are_compared(tmp_path):
    (tmp_path / "pred.csv").write_text("id,label,pred,prob_x,prob_y\na,0,1,.4,.6\n")
    with pytest.raises(PredictionFileError, match="expected"):
        read_predictions(tmp_path / "pred.csv", class_names=["y", "x"])


def test_missing_files_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="evaluation writes pred.csv"):
        read_predictions(tmp_path / "pred.csv")
    with pytest.raises(FileNotFoundError, match="evaluation writes metrics.json"):
        read_metrics(tmp_path / "metrics.json")
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        read_metrics(tmp_path / "metrics.json")


def test_videos_count_once():
    with pytest.raises(ValueError, match="more than once, such as \\['a'\\]"):
        Classes.from_scores(["a", "a"], [0, 1], np.eye(2))
    with pytest.raises(ValueError, match="one entry per video"):
        Classes(ids=["a"], labels=np.zeros(2, int), predicted=np.zeros(2, int))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("kind", "labels", "names"),
    [
        (Classes, [0, 1], None),
        (Numbers, [[0.1, 0.2], [0.3, 0.4]], None),
        (ClassesOfHeads, [[0], [1]], {"mood": ("low", "high")}),
    ],
)
def test_scores_that_are_not_finite_give_no_predictions(kind, labels, names, bad):
    scores = np.array([[0.4, 0.6], [bad, 0.5]])
    with pytest.raises(ValueError, match=r"scores hold NaN or infinity for 1 of 2 .* rows: \[1\]"):
        kind.from_scores(["a", "b"], labels, scores, names)


def test_metrics_file(tmp_path):
    predictions = Classes.from_scores(["a", "b", "c"], [0, 1, 1], np.eye(3)[[0, 1, 0]])
    write_metrics(tmp_path / "m.json", predictions.metrics(), weights="last", split="test")
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics == read_metrics(tmp_path / "m.json")
    assert metrics["weights"] == "last"
    assert metrics["split"] == "test"
    assert metrics["num_videos"] == 3
    assert metrics["war"] == pytest.approx(2 / 3)
    assert metrics["uar"] == pytest.approx(0.75)
    assert metrics["absent_classes"] == ["2"]
    assert metrics["per_class_recall"] == [1.0, 0.5, None]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_metrics(tmp_path / "m.json", {"uar": 0.5}, weights="last", split="test")
    with pytest.raises(ValueError):
        write_metrics(tmp_path / "m.json", {"uar": float("nan")}, weights="last", split="test")
    assert read_metrics(tmp_path / "m.json")["uar"] == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]
