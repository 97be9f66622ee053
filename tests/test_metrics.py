"""Scores against published numbers, hand calculation and degenerate input."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from svfap.engine.results.metrics import classification_metrics, concordance, regression_metrics

# MAE-DFER on DFEW fold 1, as published; rows are true classes.
MAE_DFER_FOLD1 = [
    [454, 7, 10, 14, 2, 1, 1],
    [5, 292, 49, 15, 11, 1, 6],
    [19, 30, 403, 38, 33, 5, 6],
    [9, 9, 49, 336, 22, 3, 7],
    [4, 11, 58, 9, 194, 0, 18],
    [0, 0, 16, 4, 3, 3, 3],
    [1, 20, 23, 17, 48, 1, 71],
]


def expand(matrix):
    """Labels and predicted classes of a confusion matrix."""
    matrix = np.array(matrix)
    labels, predicted = np.indices(matrix.shape).reshape(2, -1)
    return np.repeat(labels, matrix.ravel()), np.repeat(predicted, matrix.ravel())


def test_published_confusion_matrix():
    labels, predicted = expand(MAE_DFER_FOLD1)
    metrics = classification_metrics(labels, predicted)
    assert round(100 * metrics["uar"], 2) == 62.59
    assert round(100 * metrics["war"], 2) == 74.88
    assert round(metrics["weighted_f1"], 4) == 0.7441
    assert round(metrics["micro_f1"], 4) == 0.7488
    assert round(metrics["macro_f1"], 4) == 0.6357
    assert metrics["confusion_matrix"] == MAE_DFER_FOLD1
    assert metrics["num_videos"] == 2341
    assert metrics["absent_classes"] == []
    assert metrics["per_class_recall"][5] == pytest.approx(3 / 29)


def test_class_without_videos_is_left_out_of_uar_and_named():
    metrics = classification_metrics([0, 0, 2, 2], [0, 1, 2, 2], ["calm", "happy", "sad"])
    assert metrics["absent_classes"] == ["happy"]
    assert metrics["per_class_recall"] == [0.5, None, 1.0]
    assert metrics["uar"] == 0.75
    assert metrics["war"] == 0.75
    # F1 of calm 2/3, of sad 1; happy was predicted once without having videos and counts 0.
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert metrics["weighted_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_scores_are_those_of_scikit_learn():
    labels, predicted = expand(MAE_DFER_FOLD1)
    metrics = classification_metrics(labels, predicted)
    assert metrics["uar"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert metrics["war"] == pytest.approx(accuracy_score(labels, predicted))
    for average in ("weighted", "micro", "macro"):
        expected = f1_score(labels, predicted, average=average)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)


def test_class_that_occurs_nowhere_does_not_lower_macro_f1():
    metrics = classification_metrics([0, 2], [0, 2], ["a", "b", "c"])
    assert metrics["macro_f1"] == 1.0
    assert metrics["uar"] == 1.0
    assert metrics["confusion_matrix"][1] == [0, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_an_error(bad):
    scores = np.ones((3, 2))
    scores[1, 0] = bad
    with pytest.raises(ValueError, match="predictions hold NaN"):
        regression_metrics(np.ones((3, 2)), scores)


@pytest.mark.parametrize("labels", [[0, 2], [0, -1], [0, 0.5]])
def test_labels_out_of_range_are_an_error(labels):
    with pytest.raises(ValueError, match=r"of video 1 .*0\.\.1"):
        classification_metrics(labels, [1, 1], "ab")


def test_wrong_shapes_are_an_error():
    with pytest.raises(ValueError, match="predicted classes of shape"):
        classification_metrics([0, 1], np.ones(3, int))
    with pytest.raises(ValueError, match="at least one video"):
        classification_metrics([], [])
    with pytest.raises(ValueError, match="number 0..1"):
        classification_metrics([0, 2], [0, 1], ["a", "b"])
    with pytest.raises(ValueError, match="both must be"):
        regression_metrics(np.ones((2, 3)), np.ones((2, 2)))


def test_regression_by_hand():
    targets = np.array([[0.0, 0.1], [0.5, 0.2], [1.0, 0.3]])
    values = np.array([[0.1, 0.3], [0.6, 0.2], [1.1, 0.1]])
    metrics = regression_metrics(targets, values, ["valence", "arousal"])
    valence, arousal = metrics["per_dimension"]["valence"], metrics["per_dimension"]["arousal"]
    # A constant offset of .1 keeps the correlation and costs concordance: 2/6 / (2/6 + .01).
    assert valence["pcc"] == pytest.approx(1.0)
    assert valence["ccc"] == pytest.approx((1 / 3) / (1 / 3 + 0.01))
    assert valence["mae"] == pytest.approx(0.1)
    assert valence["accuracy"] == pytest.approx(0.9)
    assert valence["rmse"] == pytest.approx(0.1)
    assert arousal["rmse"] == pytest.approx((0.08 / 3) ** 0.5)
    assert arousal["pcc"] == pytest.approx(-1.0)
    assert arousal["ccc"] == pytest.approx(-1.0)
    assert metrics["pcc"] == pytest.approx(0.0)
    assert metrics["mae"] == pytest.approx((0.1 + 0.4 / 3) / 2)
    assert metrics["notes"] == []


def test_constant_series_score_zero_and_are_noted():
    metrics = regression_metrics([0.1, 0.5, 0.9], [0.4, 0.4, 0.4], ["arousal"])
    assert (metrics["pcc"], metrics["ccc"]) == (0.0, 0.0)
    assert metrics["notes"] == ["arousal: predictions constant, pcc and ccc set to 0"]
    both = regression_metrics([0.4, 0.4], [0.4, 0.4])
    assert both["ccc"] == 0.0
    assert both["mae"] == 0.0
    assert "targets and predictions constant" in both["notes"][0]


def test_one_video_has_no_correlation_and_is_noted():
    metrics = regression_metrics([[0.5]], [[0.7]])
    assert metrics["ccc"] == 0.0
    assert metrics["accuracy"] == pytest.approx(0.8)
    assert metrics["notes"]


def test_concordance_against_its_definition():
    random = np.random.default_rng(3)
    a, b = random.normal(size=50), random.normal(1.0, 2.0, size=50)
    pearson = np.corrcoef(a, b)[0, 1]
    expected = 2 * pearson * a.std() * b.std() / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert concordance(a, b) == pytest.approx(expected)
