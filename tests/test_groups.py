"""Averaging clips by group, and frames of sliding windows, by hand."""

import numpy as np
import pytest

from svfap.engine.evaluate import Evaluated, interpolate_shown
from svfap.engine.results.groups import average_by_group, read_groups


def clips(labels):
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.0, 1.0]])
    return Evaluated(
        ids=["a1", "b1", "a2", "a3"], labels=np.array(labels), scores=scores,
        features={"feature": np.arange(4, dtype=np.float32)[:, None]},
    )  # fmt: skip


def test_scores_of_a_group_are_the_mean_over_its_clips():
    averaged = average_by_group(clips([0, 1, 0, 0]), ["a", "b", "a", "a"])
    assert averaged.ids == ["a", "b"] and averaged.labels.tolist() == [0, 1]
    np.testing.assert_allclose(averaged.scores, [[1.3 / 3, 1.7 / 3], [0.2, 0.8]])
    np.testing.assert_allclose(averaged.features["feature"], [[5 / 3], [1.0]])
    assert averaged.features["feature"].dtype == np.float32
    # Clip by clip a1 is right, a2 and a3 are wrong; their mean is wrong, too.
    heads = average_by_group(clips([[0, 1], [1, 1], [0, 1], [0, 1]]), ["a", "b", "a", "a"])
    assert heads.labels.tolist() == [[0, 1], [1, 1]]


def test_clips_of_a_group_must_agree():
    with pytest.raises(ValueError, match="1 groups have different labels, such as a"):
        average_by_group(clips([0, 1, 1, 0]), ["a", "b", "a", "a"])


def test_groups_file(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("path,group\nx/1.avi,t1\nx/2.avi,t1\ny/1.avi,t2\n")
    assert read_groups(path, ["y/1.avi", "x/2.avi"]) == ["t2", "t1"]
    with pytest.raises(ValueError, match="no group for 1 of 2 clips, such as z"):
        read_groups(path, ["x/1.avi", "z"])
    path.write_text("path,group\nx,t1\nx,t2\n")
    with pytest.raises(ValueError, match="line 3: 'x' needs one group"):
        read_groups(path, ["x"])
    path.write_text("clip,group\n")
    with pytest.raises(ValueError, match="needed: path and group"):
        read_groups(path, [])
    with pytest.raises(FileNotFoundError, match="--average_by groups needs"):
        read_groups(tmp_path / "none.csv", [])


def test_frames_between_those_shown_are_interpolated():
    # Shown: frame 1 twice (mean 2), frame 5 once (4); 0.5 per frame between, constant outside.
    sums = np.array([[0.0], [4.0], [0], [0], [0], [4.0], [0]])
    counts = np.array([0, 2, 0, 0, 0, 1, 0])
    assert interpolate_shown(sums, counts)[:, 0].tolist() == [2, 2, 2.5, 3, 3.5, 4, 4]
