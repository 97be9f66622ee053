import pickle

import numpy as np
import pytest

from svfap.datasets.augment.masking import make_masking
from svfap.datasets.rng import generator

GRID = (8, 10, 10)


def draws(masking, count=200):
    """(count, t, h, w) bool."""
    masks = [masking(generator(0, 0, index, 0, "mask")) for index in range(count)]
    return np.stack(masks).reshape(count, *masking.grid)


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 25), (0.85, 15), (0.9, 10), (0.95, 5)])
@pytest.mark.parametrize("kind", ["tube", "random"])
def test_every_step_keeps_the_same_number(kind, ratio, visible):
    masking = make_masking(kind, GRID, ratio)
    assert (masking.num_visible, masking.num_masked) == (8 * visible, 800 - 8 * visible)
    masks = draws(masking)
    assert masks.dtype == bool
    assert ((~masks).sum(axis=(2, 3)) == visible).all()


def test_number_hidden_is_rounded_down():
    assert make_masking("tube", (4, 8, 8), 0.9).num_masked == 4 * 57  # 57.6
    assert make_masking("tube", (1, 1, 100), 0.29).num_masked == 28  # int(28.999...) as released


def test_tube_is_the_same_in_all_steps_and_random_is_not():
    tube, random = draws(make_masking("tube", GRID, 0.9)), draws(make_masking("random", GRID, 0.9))
    assert (tube == tube[:, :1]).all()
    assert (random != random[:, :1]).any(axis=(1, 2, 3)).all()
    assert (tube[0] != tube[1]).any()


@pytest.mark.parametrize("kind", ["tube", "random"])
def test_every_place_is_equally_likely(kind):
    visible = (~draws(make_masking(kind, GRID, 0.9), 3000)).mean(axis=0)
    assert np.abs(visible - 0.1).max() < 6 * np.sqrt(0.1 * 0.9 / 3000)


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 13), (0.85, 8), (0.9, 5), (0.95, 3)])
@pytest.mark.parametrize("symmetry", [None, "global", "local"])
def test_windows_are_balanced(ratio, visible, symmetry):
    masking = make_masking("part_window", GRID, ratio, part_win_size=(2, 5, 10), symmetry=symmetry)
    assert masking.num_visible == 8 * 2 * visible
    masks = draws(masking)
    assert (masks == masks[:, :1]).all()
    regions = (~masks).reshape(200, 4, 2, 2, 5, 10)  # (count, t, 2, h, 5, 10)
    assert (regions.sum(axis=(2, 4, 5)) == 2 * visible).all()


def test_windows_side_by_side_lie_where_they_belong():
    masking = make_masking("part_window", (2, 4, 6), 0.5, part_win_size=(2, 2, 3))
    visible = (~draws(masking, 3000)).reshape(3000, 2, 2, 2, 2, 3)
    assert (visible.sum(axis=(3, 5)) == 3).all()
    assert np.abs(visible.mean(axis=0) - 0.5).max() < 6 * np.sqrt(0.25 / 3000)


def sides(masks):
    """(count, 2 windows): 0 where only the left half has visible tokens, 1 where only the right."""
    halves = (~masks[:, 0]).reshape(len(masks), 2, 5, 2, 5).any(axis=(2, 4))  # (count, 2, 2)
    assert (halves.sum(axis=2) == 1).all()
    return halves[:, :, 1].astype(int)


def test_global_symmetry_shows_one_half_of_the_face():
    masking = make_masking("part_window", GRID, 0.9, part_win_size=(2, 5, 10), symmetry="global")
    shown = sides(draws(masking, 2000))
    assert (shown[:, 0] == shown[:, 1]).all()
    assert abs(shown[:, 0].mean() - 0.5) < 6 * np.sqrt(0.25 / 2000)


def test_local_symmetry_chooses_a_half_for_each_window():
    masking = make_masking("part_window", GRID, 0.9, part_win_size=(2, 5, 10), symmetry="local")
    shown = sides(draws(masking, 2000))
    combinations = np.bincount(shown[:, 0] * 2 + shown[:, 1], minlength=4) / 2000
    assert np.abs(combinations - 0.25).max() < 6 * np.sqrt(0.25 * 0.75 / 2000)


def test_half_of_a_window_can_be_full():
    masking = make_masking("part_window", GRID, 0.5, part_win_size=(8, 5, 10), symmetry="global")
    assert sides(draws(masking, 4)).shape == (4, 2)


def test_mask_depends_on_the_generator_only():
    for kind, options in (("tube", {}), ("random", {}), ("part_window", {"part_win_size": GRID})):
        masking = make_masking(kind, GRID, 0.9, **options)
        first = masking(generator(1, 2, 3, 0, "mask"))
        np.random.seed(7)
        assert (first == masking(generator(1, 2, 3, 0, "mask"))).all()
        assert (first != masking(generator(1, 2, 4, 0, "mask"))).any()


def test_says_what_it_is():
    assert str(make_masking("tube", GRID, 0.9)) == "tube masking: 720 of 800 tokens hidden"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "cube"}, ["'cube'", "part_window, random, tube"]),
        ({"ratio": 1.0}, ["1.0", "100 of the 100", "0.01 <= ratio < 1"]),
        ({"ratio": 0.0}, ["0.0", "0.01 <= ratio < 1"]),
        ({"ratio": -0.5}, ["-0.5"]),
        ({"ratio": 0.001}, ["hides 0 of the 100"]),
        ({"ratio": 90}, ["90", "ratio < 1"]),
        ({"grid": (8, 10)}, ["(8, 10)", "(t, h, w)"]),
        ({"kind": "tube", "symmetry": "global"}, ["symmetry 'global'", "'part_window'"]),
        ({"kind": "part_window"}, ["part_win_size", "2 5 10"]),
        ({"kind": "part_window", "part_win_size": (2, 3, 10)}, ["(2, 3, 10)", "(8, 10, 10)"]),
        (
            {"kind": "part_window", "part_win_size": (2, 5, 5), "symmetry": "local"},
            ["(2, 5, 5)", "set its last number to 10"],
        ),
        (
            {"kind": "part_window", "part_win_size": (2, 5, 10), "symmetry": "both"},
            ["'both'", "'global', 'local'"],
        ),
        (
            {"kind": "part_window", "part_win_size": (2, 5, 10), "symmetry": "local", "ratio": 0.4},
            ["0.4", "30 tokens", "25", "at least 0.5"],
        ),
    ],
)
def test_errors_say_what_to_do(arguments, words):
    with pytest.raises(ValueError) as error:
        make_masking(**{"kind": "tube", "grid": GRID, "ratio": 0.9, **arguments})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("kind", ["tube", "random", "part_window"])
def test_masking_travels_to_spawned_workers(kind):
    options = {"part_win_size": (2, 5, 10)} if kind == "part_window" else {}
    masking = make_masking(kind, (8, 10, 10), 0.9, **options)
    copy = pickle.loads(pickle.dumps(masking))
    expected = masking(generator(0, 0, 0, 0, "mask"))
    np.testing.assert_array_equal(copy(generator(0, 0, 0, 0, "mask")), expected)
