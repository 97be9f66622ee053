import json

import numpy as np
import pytest

from svfap.datasets.clips import sampling
from svfap.datasets.rng import generator


@pytest.fixture(scope="module")
def golden(golden_dir):
    return json.loads((golden_dir / "frame_indices.json").read_text())


def test_fine_tuning_clips_are_the_released_ones(golden):
    rows = golden["train_clip"]
    assert len(rows) == 52
    for row in rows:
        indices = sampling.train_clip_indices(
            row["num_frames"], row["clip_frames"], row["sampling_rate"], row["clip_end"]
        )
        assert indices.tolist() == row["indices"], row


def test_pretraining_clips_are_the_released_ones(golden):
    rows = golden["pretrain_clip"]
    assert len(rows) == 50
    for row in rows:
        indices = sampling.pretrain_clip_indices(
            row["num_frames"],
            row["clip_frames"],
            row["sampling_rate"],
            row["first_frame_one_based"] - 1,
        )
        assert indices.tolist() == row["indices"], row


def test_views_are_the_released_ones(golden):
    rows = golden["test_views"]
    assert len(rows) == 56
    for row in rows:
        indices = sampling.eval_view_indices(
            row["num_frames"], row["clip_frames"], row["sampling_rate"], row["num_segments"]
        )
        assert indices.tolist() == row["indices"], row


def test_videos_shorter_than_a_step_show_all_their_frames():
    assert [sampling.bearable_rate(n, 4) for n in (1, 3, 4, 20)] == [1, 1, 4, 4]
    views = sampling.eval_view_indices(3, 16, sampling.bearable_rate(3, 4), 2)
    drawn = sampling.draw_train_clip(None, 3, 16, sampling.bearable_rate(3, 4))
    assert set(views.ravel()) == set(drawn) == {0, 1, 2}


def test_drawn_fine_tuning_clips_cover_the_released_range():
    # 100 frames, 16 x 4: the end is drawn from 64 .. 99
    drawn = [
        sampling.draw_train_clip(generator(0, 0, i, 0, "frames"), 100, 16, 4) for i in range(400)
    ]
    assert {clip[0] for clip in drawn} == set(range(36))
    assert all(clip.min() >= 0 and clip.max() <= 98 for clip in drawn)
    assert sampling.draw_train_clip(generator(0, 0, 0, 0, "frames"), 5, 4, 2).tolist() == [
        *(0, 4, 4, 4)
    ]


def test_drawn_pretraining_clips_cover_the_released_range():
    drawn = [
        sampling.draw_pretrain_clip(generator(0, 0, i, 0, "frames"), 100, 16, 4) for i in range(400)
    ]
    assert {clip[0] for clip in drawn} == set(range(37))
    assert all((np.diff(clip) == 4).all() for clip in drawn)


def test_middle_clip_is_half_way_and_fixed(golden):
    middle = {  # the rows whose end is the middle one
        (row["num_frames"], row["sampling_rate"]): row["indices"]
        for row in golden["train_clip"]
        if row["clip_end"] is None
        or row["clip_end"]
        == 16 * row["sampling_rate"] + (row["num_frames"] - 16 * row["sampling_rate"]) // 2
    }
    assert (200, 4) in middle and (31, 1) in middle and (5, 4) in middle
    for (num_frames, rate), indices in middle.items():
        assert sampling.middle_clip_indices(num_frames, 16, rate).tolist() == indices


def test_one_segment_is_the_middle_one():
    assert sampling.eval_view_indices(10, 4, 1, 1).tolist() == [[3, 4, 5, 6]]
    assert sampling.eval_view_indices(3, 4, 1, 1).tolist() == [[0, 1, 2, 2]]


def test_views_that_coincide_are_merged():
    views, counts = sampling.distinct_views(sampling.eval_view_indices(50, 16, 1, 2), 2)
    assert views[:, 0].tolist() == [0, 34] and counts.tolist() == [2, 2]
    views, counts = sampling.distinct_views(sampling.eval_view_indices(50, 16, 4, 2), 2)
    assert len(views) == 1 and counts.tolist() == [4]
    views, counts = sampling.distinct_views(sampling.eval_view_indices(17, 16, 1, 3), 1)
    assert views[:, 0].tolist() == [0, 1] and counts.tolist() == [2, 1]
    views, counts = sampling.distinct_views(np.array([[5, 6], [1, 2], [5, 6]]), 2)
    assert views.tolist() == [[5, 6], [1, 2]] and counts.tolist() == [4, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sampling.train_clip_indices(0, 16, 4), "num_frames is 0"),
        (lambda: sampling.train_clip_indices(100, 16, 4), "must be 64 to 99"),
        (lambda: sampling.train_clip_indices(100, 16, 4, 100), "clip_end is 100"),
        (lambda: sampling.pretrain_clip_indices(10, 16, 4, 10), "must be 0 to 9"),
        (lambda: sampling.eval_view_indices(10, 16, 4, 0), "num_segments is 0"),
        (lambda: sampling.distinct_views(np.zeros((1, 2), int), 0), "num_crops is 0"),
        (lambda: sampling.middle_clip_indices(10, 16, 0), "sampling_rate is 0"),
    ],
)
def test_impossible_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
