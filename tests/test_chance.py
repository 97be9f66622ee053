"""Results that are not better than guessing are called so."""

import numpy as np

from svfap.engine.results.chance import chance, is_chance
from svfap.engine.results.intervals import bootstrap_intervals
from svfap.engine.results.kinds.classes import Classes
from svfap.engine.results.kinds.numbers import Numbers


def beside(predictions):
    return chance(predictions, bootstrap_intervals(predictions, num_resamples=1000))


def test_classes_are_better_than_chance_when_their_interval_is():
    labels = np.arange(60) % 3
    ids = [str(i) for i in range(60)]
    constant = beside(Classes(ids=ids, labels=labels, predicted=np.zeros(60, int), names="abc"))
    assert not constant.better and constant.level == 1 / 3
    assert "not better than chance: UAR 33.33 %" in constant.text
    assert is_chance({"chance": constant.as_dict()})
    right = np.where(np.arange(60) < 45, labels, 0)
    good = beside(Classes(ids=ids, labels=labels, predicted=right, names="abc"))
    assert good.better and good.text.startswith("better than chance")
    assert not is_chance({"chance": good.as_dict()}) and not is_chance({})


def test_numbers_are_chance_when_they_do_not_follow_the_labels():
    random = np.random.default_rng(0)
    x, noise = random.normal(size=(2, 50, 1))
    ids = [str(i) for i in range(50)]
    assert not beside(Numbers.from_scores(ids, x, noise)).better
    assert beside(Numbers.from_scores(ids, x, x + 0.3 * noise)).better


def test_without_an_interval_nothing_is_better():
    predictions = Numbers.from_scores(["a"], [[0.5]], [[0.5]])
    assert not chance(predictions, {}).better
