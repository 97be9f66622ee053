"""Bootstrap intervals cover the truth as often as they say; paired tests see what is there."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from svfap.engine.results.intervals import (
    bootstrap_intervals,
    paired_test,
)
from svfap.engine.results.kinds.classes import Classes
from svfap.engine.results.kinds.numbers import Numbers
from svfap.engine.results.metrics import (
    HEADLINE_METRICS,
    REGRESSION_METRICS,
    classification_from_counts,
    regression_from_sums,
    regression_summands,
)

CLASS_SHARES = np.array([0.5, 0.3, 0.2])
CLASS_RECALLS = np.array([0.8, 0.6, 0.4])


def classified(labels, predicted, names=None):
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    ids = [str(index) for index in range(len(labels))]
    names = names or [str(i) for i in range(int(max(labels.max(), predicted.max())) + 1)]
    return Classes(ids=ids, labels=labels, predicted=predicted, names=names)


def draw(random, labels, right_probability):
    """Predictions that are right with a given probability per video, else any other class."""
    wrong = (labels + random.integers(1, 3, size=len(labels))) % 3
    return np.where(random.random(len(labels)) < right_probability, labels, wrong)


def test_metrics_of_counts_and_sums_are_those_of_the_metrics_module():
    random = np.random.default_rng(0)
    # Class 3 is predicted but has no videos, class 4 occurs nowhere.
    predictions = classified(random.integers(0, 3, 60), random.integers(0, 4, 60), list("abcde"))
    metrics = predictions.metrics()
    batch = classification_from_counts(np.array([metrics["confusion_matrix"]] * 2))
    for name in HEADLINE_METRICS:
        assert batch[name] == pytest.approx([metrics[name]] * 2)
    assert batch["recall_1"][0] == pytest.approx(metrics["per_class_recall"][1])
    assert np.isnan(batch["recall_3"]).all()

    x, y = random.normal(size=(2, 40, 2))
    y[:, 1] = 0.3
    metrics = Numbers.from_scores([str(i) for i in range(40)], x, y).metrics()
    batch = regression_from_sums(regression_summands(x, y).sum(axis=0)[None])
    for name in REGRESSION_METRICS:
        assert batch[name] == pytest.approx([metrics[name]])


def test_interval_of_war_is_that_of_the_binomial():
    labels = np.zeros(400, int)
    labels[100:] = 1
    predicted = labels.copy()
    predicted[::4] = 1 - predicted[::4]
    low, high = bootstrap_intervals(classified(labels, predicted), num_resamples=20000)["war"]
    assert low == pytest.approx(binom.ppf(0.025, 400, 0.75) / 400, abs=0.0026)
    assert high == pytest.approx(binom.ppf(0.975, 400, 0.75) / 400, abs=0.0026)


def test_intervals_repeat_and_name_classes_with_videos_only():
    predictions = classified([0, 0, 1, 1, 1] * 5, [0, 1, 1, 1, 0] * 5, list("abc"))
    one, two = (bootstrap_intervals(predictions, num_resamples=500) for _ in range(2))
    assert one == two
    assert one != bootstrap_intervals(predictions, num_resamples=500, seed=1)
    assert set(one) == {*HEADLINE_METRICS, "recall_0", "recall_1"}
    assert one["micro_f1"] == one["war"]


def test_few_videos_that_are_all_right_are_not_certain():
    """Resampling sees no error there: three of three are Wilson's, and two of two persons."""
    labels = [0, 0, 0, 1, 1, 1]
    intervals = bootstrap_intervals(classified(labels, labels, list("ab")))
    assert intervals["recall_0"] == pytest.approx((0.4385, 1), abs=1e-4)
    assert intervals["war"] == intervals["micro_f1"] == pytest.approx((0.6097, 1), abs=1e-4)
    assert intervals["uar"] == pytest.approx((1 - 0.5615 / 2**0.5, 1), abs=1e-4)
    assert "macro_f1" not in intervals
    two_of_five = bootstrap_intervals(
        classified([0] * 5 + [1] * 20, [0, 0, 1, 1, 1] + [1] * 20, list("ab"))
    )
    assert two_of_five["recall_0"] == pytest.approx((0.1176, 0.7693), abs=1e-4)
    subjects = ["x", "x", "y", "x", "y", "y"]
    of_persons = bootstrap_intervals(classified(labels, labels, list("ab")), subjects)
    assert of_persons["recall_0"] == pytest.approx((0.3424, 1), abs=1e-4)
    halves = bootstrap_intervals(
        classified([0] * 6 + [1] * 6, [0, 0, 0, 1, 1, 1] + [1] * 6, list("ab")), list("xxyyzz") * 2
    )
    assert sum(halves["recall_0"]) == pytest.approx(1)  # of three persons, half of the videos right
    wrong = bootstrap_intervals(classified(labels, [1, 1, 1, 1, 1, 0], list("ab")))
    assert wrong["recall_0"] == pytest.approx((0, 0.5615), abs=1e-4)
    assert 0 <= wrong["uar"][0] < 1 / 3 < wrong["uar"][1] < 1


def coverage(num_simulations, num_videos, num_resamples, truth, simulate):
    """Share of simulated data sets whose interval holds the true value, per metric."""
    hits = dict.fromkeys(truth, 0)
    for seed in range(num_simulations):
        predictions, subjects = simulate(np.random.default_rng(seed), num_videos)
        intervals = bootstrap_intervals(predictions, subjects, num_resamples=num_resamples)
        for name, value in truth.items():
            hits[name] += intervals[name][0] <= value <= intervals[name][1]
    return {name: count / num_simulations for name, count in hits.items()}


def simulate_videos(random, num_videos):
    labels = random.choice(3, size=num_videos, p=CLASS_SHARES)
    return classified(labels, draw(random, labels, CLASS_RECALLS[labels]), list("abc")), None


TRUTH = {"uar": CLASS_RECALLS.mean(), "war": CLASS_SHARES @ CLASS_RECALLS}


def test_coverage_by_video_is_about_95_percent():
    covered = coverage(600, 300, 500, TRUTH, simulate_videos)
    # Three standard errors of 600 simulations are .027.
    for share in covered.values():
        assert 0.92 <= share <= 0.98


@pytest.mark.slow
def test_coverage_by_video_in_detail():
    covered = coverage(5000, 600, 2000, TRUTH, simulate_videos)
    for share in covered.values():
        assert 0.94 <= share <= 0.96


def simulate_subjects(random, num_videos):
    """Ten videos per subject; a subject is easy (.9 right) or hard (.5 right)."""
    subjects = np.repeat(np.arange(num_videos // 10), 10)
    ease = np.where(random.random(num_videos // 10) < 0.5, 0.9, 0.5)[subjects]
    labels = random.choice(3, size=num_videos, p=CLASS_SHARES)
    return classified(labels, draw(random, labels, ease), list("abc")), subjects.astype(str)


def test_subjects_need_to_be_resampled_whole():
    truth = {"war": 0.7}
    by_subject = coverage(400, 500, 500, truth, simulate_subjects)["war"]

    def without_subjects(random, num_videos):
        return simulate_subjects(random, num_videos)[0], None

    by_video = coverage(400, 500, 500, truth, without_subjects)["war"]
    assert 0.90 <= by_subject <= 0.98
    assert by_video < 0.90


def test_subjects_must_fit():
    predictions = classified([0, 1], [0, 1])
    with pytest.raises(ValueError, match="1 subjects for 2 videos"):
        bootstrap_intervals(predictions, ["a"])
    with pytest.raises(ValueError, match="at least two subjects"):
        paired_test(predictions, predictions, ["a", "a"])
    assert bootstrap_intervals(predictions, ["a", "a"]) == {}
    with pytest.raises(ValueError, match="num_resamples 0 must be"):
        bootstrap_intervals(predictions, num_resamples=0)


def test_regression_intervals_are_those_of_fisher():
    random = np.random.default_rng(5)
    x = random.normal(size=400)
    y = 0.6 * x + 0.8 * random.normal(size=400)
    predictions = Numbers.from_scores([str(i) for i in range(400)], x[:, None], y[:, None])
    low, high = bootstrap_intervals(predictions, num_resamples=4000)["pcc"]
    middle = np.arctanh(predictions.metrics()["pcc"])
    reach = norm.ppf(0.975) / np.sqrt(397)
    assert low == pytest.approx(np.tanh(middle - reach), abs=0.02)
    assert high == pytest.approx(np.tanh(middle + reach), abs=0.02)


def test_paired_test_of_a_system_with_itself():
    predictions = classified([0, 1, 2, 0], [0, 1, 1, 2])
    test = paired_test(predictions, predictions, num_resamples=200)
    assert test.p_values["uar"] == 1.0
    assert test.intervals["war"] == (0.0, 0.0)
    assert test.mcnemar_p == 1.0
    assert (test.only_first_right, test.only_second_right) == (0, 0)


def test_paired_test_by_hand():
    labels = np.zeros(100, int)
    labels[50:] = 1
    better, worse = labels.copy(), labels.copy()
    better[:2] = 1
    worse[5:17] = 1
    test = paired_test(classified(labels, better), classified(labels, worse))
    assert (test.only_first_right, test.only_second_right) == (12, 2)
    # Exact binomial: 2 * P(X <= 2), X ~ B(14, 1/2), is 2 * (1 + 14 + 91) / 2**14.
    assert test.mcnemar_p == pytest.approx(2 * 106 / 2**14)
    assert test.first["war"] - test.second["war"] == pytest.approx(0.10)
    low, high = test.intervals["war"]
    # The difference has the variance (12 + 2) / 100^2 - .1^2 / 100.
    reach = 1.96 * np.sqrt(14 / 100**2 - 0.01 / 100)
    assert low == pytest.approx(0.10 - reach, abs=0.015)
    assert high == pytest.approx(0.10 + reach, abs=0.015)
    assert test.p_values["war"] < 0.05


def test_pairing_beats_two_separate_intervals():
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 500)
    worse = draw(random, labels, 0.6)
    better = np.where(random.random(500) < 0.08, labels, worse)
    one, two = classified(labels, better), classified(labels, worse)
    assert bootstrap_intervals(one)["uar"][0] < bootstrap_intervals(two)["uar"][1]
    assert paired_test(one, two).p_values["uar"] < 0.01


def test_p_values_are_uniform_without_a_difference():
    small = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        labels = random.choice(3, size=300, p=CLASS_SHARES)
        one, two = (classified(labels, draw(random, labels, 0.6), list("abc")) for _ in "ab")
        small += paired_test(one, two, num_resamples=400).p_values["uar"] < 0.05
    assert 0.02 <= small / 200 <= 0.09


def test_paired_test_by_subject_is_more_careful():
    random = np.random.default_rng(4)
    subjects = np.repeat(np.arange(20), 10)
    labels = random.integers(0, 3, 200)
    worse = draw(random, labels, 0.5)
    # The first system is better for three subjects only.
    better = np.where(subjects < 3, labels, worse)
    one, two = classified(labels, better), classified(labels, worse)
    assert paired_test(one, two).p_values["war"] < paired_test(one, two, subjects).p_values["war"]


def test_different_videos_or_labels_are_refused():
    one = classified([0, 1], [0, 1])
    other_ids = Classes(ids=["0", "x"], labels=one.labels, predicted=one.predicted, names=one.names)
    with pytest.raises(ValueError, match="different videos"):
        paired_test(one, other_ids)
    with pytest.raises(ValueError, match="labels disagree"):
        paired_test(one, classified([1, 1], [0, 1]))
