"""Which frames become pairs, and what their views look like."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from svfap.datasets.augment.pair_views import PARTS, ViewAugmentation, cover_part
from svfap.datasets.clips.contrastive import NOT_SWAPPED, SWAP_FAILED, SWAPPED, ContrastiveClips
from svfap.datasets.clips.lengths import UNREADABLE, read_lengths
from svfap.datasets.clips.pairs import PairRule
from svfap.datasets.faces.landmarks import LandmarkError, write_landmarks
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.loading.order import SampleKey
from svfap.datasets.rng import generator
from svfap.preprocess import pack

PAPER_RATE = 25 / 6  # frames per second
HEIGHT, WIDTH = 40, 48


def draws(rule, num_frames, rate=PAPER_RATE, count=4000):
    rng = generator(0, 0, 0, 0, "test")
    return np.stack([rule.draw(rng, num_frames, rate) for _ in range(count)])


def shares(intervals):
    counts = Counter(np.abs(intervals).tolist())
    return {interval: counts[interval] / len(intervals) for interval in sorted(counts)}


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("falling", [5, 4, 3, 2, 1]), ("uniform", [3, 3, 3, 3, 3]), ("rising", [1, 2, 3, 4, 5])],
)
def test_intervals_at_the_papers_frame_rate(kind, weights):
    pairs = draws(PairRule(time_aug=kind), 30)
    assert pairs.shape == (4000, 1, 2) and pairs.min() >= 0 and pairs.max() <= 29
    intervals = pairs[:, 0, 1] - pairs[:, 0, 0]
    expected = {frames: weight / 15 for frames, weight in zip(range(2, 7), weights)}
    assert shares(intervals) == pytest.approx(expected, abs=0.025)
    assert np.mean(intervals > 0) == pytest.approx(0.5, abs=0.03)


def test_intervals_mean_seconds_at_any_frame_rate():
    for rate, low, high in ((25.0, 12, 35), (29.97, 15, 42), (60.0, 30, 84)):
        offsets, probabilities = PairRule(time_aug="falling").intervals(rate)
        assert (offsets[0], offsets[-1]) == (low, high)
        steps = np.arange(len(offsets), 0, -1)
        np.testing.assert_allclose(probabilities, steps / steps.sum())


def test_anchors_come_from_the_whole_video():
    pairs = draws(PairRule(time_aug="uniform", interval_seconds=(1, 1)), 12, rate=2.0)
    assert set(pairs[:, 0, 0].tolist()) == set(range(12))
    assert set(np.abs(pairs[:, 0, 1] - pairs[:, 0, 0]).tolist()) == {2}


@pytest.mark.parametrize("kind", ["none", "falling"])
@pytest.mark.parametrize("span", [1, 31])
def test_hard_negatives_are_at_least_the_gap_away(kind, span):
    rule = PairRule(time_aug=kind, hard_negatives=True, span_frames=span)
    for rate in (PAPER_RATE, 25.0):
        for num_frames in (rule.shortest(rate), rule.shortest(rate) + 7, 400):
            pairs = draws(rule, num_frames, rate, count=300)
            assert pairs.shape == (300, 2, 2)
            assert pairs.min() >= 0 and pairs.max() + span <= num_frames
            # from the last frame of one pair to the first of the other
            ends = np.sort(np.stack([pairs.min(2), pairs.max(2)], -1), axis=1)
            between = ends[:, 1, 0] - (ends[:, 0, 1] + span - 1)
            assert (between / rate >= 3).all()
            if num_frames == rule.shortest(rate):
                assert np.isclose(between.min(), np.ceil(3 * rate - 1e-6))
    first = draws(rule, 400, 25.0, count=300)[:, :, 0]
    assert 0.4 < np.mean(first[:, 0] < first[:, 1]) < 0.6  # either may be the earlier


def test_short_videos_use_the_intervals_that_fit():
    rule = PairRule(time_aug="falling")
    assert rule.shortest(PAPER_RATE) == 3
    assert shares(np.diff(draws(rule, 5)[:, 0])[:, 0]) == pytest.approx(
        {2: 5 / 12, 3: 4 / 12, 4: 3 / 12}, abs=0.03
    )
    with pytest.raises(ValueError, match="2 frames at 4.17 per second: pairs need 3"):
        rule.draw(generator(0, 0, 0, 0, "x"), 2, PAPER_RATE)


def test_without_time_any_video_will_do():
    rule = PairRule()
    assert not rule.needs_time and rule.shortest(PAPER_RATE) == 1
    assert draws(rule, 1, count=3).tolist() == [[[0, 0]]] * 3
    pairs = draws(rule, 9)
    assert (pairs[..., 0] == pairs[..., 1]).all() and set(pairs[:, 0, 0].tolist()) == set(range(9))
    long_clip = PairRule(span_frames=50)
    assert draws(long_clip, 9, count=2).tolist() == [[[0, 0]]] * 2


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"time_aug": "sideways"}, "--time_aug 'sideways': choose among none, uniform"),
        ({"interval_seconds": (2.0, 1.0)}, "--time_interval 2 1"),
        ({"interval_seconds": (0.0, 1.0)}, "0 < MIN <= MAX"),
        ({"gap_seconds": 0.0}, "--hard_negative_gap 0"),
    ],
)
def test_wrong_rules_say_what_is_allowed(setting, text):
    with pytest.raises(ValueError, match=text):
        PairRule(**setting)


# --- views -------------------------------------------------------------------------------------


def test_covered_part_is_an_ellipse_of_the_mean_colour():
    frames = np.zeros((2, 128, 128, 3), np.uint8)
    frames[:, :64] = (200, 100, 50)
    points = np.array([[[40.0, 60.0], [60.0, 60.0], [50.0, 56.0], [50.0, 64.0]]] * 2)
    points[1, 0, 0] = np.nan
    covered = cover_part(frames, points)
    assert np.array_equal(covered[1], frames[1])  # no face: nothing is covered
    changed = (covered[0] != frames[0]).any(-1)
    assert (covered[0][changed] == (100, 50, 25)).all()
    rows, columns = np.nonzero(changed)
    # half axes: half the box and a margin of 10 px
    assert (columns.min(), columns.max()) == pytest.approx((50 - 20, 50 + 20), abs=1)
    assert (rows.min(), rows.max()) == pytest.approx((60 - 14, 60 + 14), abs=1)
    assert changed.sum() == pytest.approx(np.pi * 20.5 * 14.5, rel=0.03)
    assert not changed[60 - 13, 50 - 18]  # the box's corners stay


def face_points(scale=1.0):
    rng = np.random.default_rng(5)
    points = rng.uniform(15, 30, (68, 2))
    points[48:68] = rng.uniform((15, 24), (30, 30), (20, 2))
    return (points * scale).astype(np.float32)


def test_parts_are_covered_as_often_as_asked_and_each_alike():
    frames = np.full((1, 128, 128, 3), 255, np.uint8)
    frames[0, 0] = 0  # so that the mean is not white
    points = np.full((1, 68, 2), np.nan)
    for place, part in enumerate(PARTS):
        points[0, part] = (64, 30 + 32 * place)
    plain = {"flip": 0.0, "grey": 0.0, "blur": 0.0, "jitter": 0.0}
    views = ViewAugmentation(size=112, part_mask=0.8, **plain)
    found = Counter()
    for number in range(600):
        rng = generator(0, 0, number, 0, "view")
        view = views(frames, points, rng, always_jitter=False)[0, :, :, 0]
        rows = np.nonzero((view[8:] < 255).any(1))[0] + 8
        found[None if not len(rows) else int(np.argmin(np.abs(rows.mean() + 8 - np.array(
            [30, 62, 94]))))] += 1  # fmt: skip
    assert found[None] / 600 == pytest.approx(0.2, abs=0.05)
    assert [found[i] / 600 for i in range(3)] == pytest.approx([0.8 / 3] * 3, abs=0.06)


def test_views_are_crops_of_the_resized_frame_flipped_half_the_time():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    views = ViewAugmentation(size=112, jitter=0.0, grey=0.0, blur=0.0)
    flipped, places = 0, set()
    for number in range(60):
        view = views(frames, None, generator(1, 0, number, 0, "view"), always_jitter=False)
        matches = [
            (turned, top, left)
            for turned, source in enumerate((view, view[:, :, ::-1]))
            for top in range(17)
            for left in range(17)
            if np.array_equal(source[:, ::40, ::40], frames[:, top : top + 112 : 40,
                                                            left : left + 112 : 40])
        ]  # fmt: skip
        assert len(matches) == 1
        flipped += matches[0][0]
        places.add(matches[0][1:])
    assert 15 < flipped < 45 and len(places) > 40


def test_first_view_is_always_jittered_and_grey_has_no_colour():
    frames = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    plain = ViewAugmentation(size=28, jitter=0.0, grey=0.0, blur=0.0)
    jittered = [
        not np.array_equal(
            plain(frames, None, generator(2, 0, n, 0, "v"), always_jitter=True),
            plain(frames, None, generator(2, 0, n, 0, "v"), always_jitter=False),
        )
        for n in range(20)
    ]
    assert all(jittered)
    grey = ViewAugmentation(size=28, grey=1.0)
    view = grey(frames, None, generator(2, 0, 0, 0, "v"), always_jitter=True).astype(int)
    assert np.ptp(view, axis=-1).max() == 0


# --- the dataset -------------------------------------------------------------------------------


def write_folder(folder, *, num_frames, shade, rate=None, points=None):
    """Frames whose red tells the frame and whose green tells the folder; landmarks if given."""
    folder.mkdir(parents=True)
    for number in range(num_frames):
        image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        image[:] = (5 * number, shade, 60)
        cv2.imwrite(str(folder / f"{number}.png"), image[:, :, ::-1])
    if points is not None:
        write_landmarks(folder / "landmarks.npz", points, rate)


@pytest.fixture
def folders(tmp_path):
    """Five folders of two persons; the frames' names sort naturally only (2 before 10)."""
    rows = []
    for number in range(5):
        folder = tmp_path / f"id1000{number % 2}" / f"{number:05d}"
        points = np.repeat(face_points()[None], 30 + number, axis=0)
        points[3] = np.nan
        write_folder(folder, num_frames=30 + number, shade=20 * number, rate=PAPER_RATE,
                     points=points)  # fmt: skip
        rows.append(f"{folder} 0")
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n")
    return read_annotations(tmp_path / "train.csv", task="pretrain")


PLAIN = {"flip": 0.0, "grey": 0.0, "blur": 0.0, "jitter": 0.0}


def make_dataset(annotations, *, rule=None, size=28, clip_frames=1, part_mask=0.0, **more):
    rule = rule or PairRule(time_aug="falling", hard_negatives=True)
    views = ViewAugmentation(size=size, part_mask=part_mask, **PLAIN)
    lengths = read_lengths(annotations) if rule.needs_time else None
    return ContrastiveClips(
        annotations=annotations, clip_frames=clip_frames, stride=2, rule=rule, lengths=lengths,
        augmentation=views, seed=4, **more,
    )  # fmt: skip


def test_lengths_come_with_the_rates_of_landmark_files(folders, tmp_path):
    lengths = read_lengths(folders)
    assert lengths.num_frames.tolist() == [30, 31, 32, 33, 34]
    np.testing.assert_allclose(lengths.rates, PAPER_RATE)
    write_folder(tmp_path / "plain", num_frames=2, shade=0)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "two.csv").write_text(f"{tmp_path / 'plain'} 0\n{tmp_path / 'bad.mp4'} 0\n")
    two = read_annotations(tmp_path / "two.csv", task="pretrain")
    with pytest.raises(ValueError, match="give --frame_rate"):
        read_lengths(two)
    lengths = read_lengths(two, frame_rate=10.0)
    assert lengths.num_frames.tolist() == [2, UNREADABLE]
    assert lengths.rates[0] == 10 and np.isnan(lengths.rates[1])


def test_pairs_stay_in_their_video_and_frames_are_in_order(folders):
    dataset = make_dataset(folders)
    for index in range(5):
        item = dataset[(0, index, 0)]
        assert item["clip"].shape == (4, 1, 28, 28, 3) and item["index"].tolist() == [index] * 4
        # view 1 is jittered: only the positives show the stored colours
        seen = item["clip"][1::2].reshape(2, -1, 3)
        assert (seen == seen[:, :1]).all()
        assert (seen[..., 1] == 20 * index).all() and (seen[..., 0] % 5 == 0).all()


def test_views_show_the_frames_that_were_drawn(folders):
    dataset = make_dataset(folders)
    for epoch in range(6):
        key = SampleKey(epoch, 2, 0)
        places = dataset.places(key, 2, 32)
        positives = dataset[key]["clip"][1::2, 0, 0, 0, 0] // 5
        assert positives.tolist() == places[:, 1].tolist()
        assert (np.abs(places[:, 0] - places[:, 1]) <= 6).all()


def test_pairs_are_drawn_anew_every_epoch_and_repeat_themselves(folders):
    dataset = make_dataset(folders)
    places = {tuple(dataset.places(SampleKey(e, 0, 0), 0, 30).ravel()) for e in range(8)}
    assert len(places) > 4
    one, other = dataset[(3, 1, 0)], make_dataset(folders)[(3, 1, 0)]
    assert np.array_equal(one["clip"], other["clip"])
    assert not np.array_equal(one["clip"], dataset[(4, 1, 0)]["clip"])


def test_clips_of_several_frames(folders):
    rule = PairRule(time_aug="uniform", interval_seconds=(0.5, 1), span_frames=7)
    item = make_dataset(folders, rule=rule, clip_frames=4)[(0, 4, 0)]
    assert item["clip"].shape == (2, 4, 28, 28, 3)
    numbers = item["clip"][1, :, 0, 0, 0] // 5
    assert np.diff(numbers).tolist() == [2, 2, 2]


def test_eyes_and_mouths_are_of_the_stored_frames(folders):
    dataset = make_dataset(folders, rule=PairRule(), describe=True, part_mask=1.0)
    for epoch in range(30):
        item = dataset[(epoch, 1, 0)]
        frame = item["clip"][1, 0, 0, 0, 0] // 5
        assert item["eyes"].shape == item["mouth"].shape == (2, 64, 64, 3)
        assert item["described"].tolist() == [frame != 3] * 2
        if frame != 3:
            assert (item["eyes"] == (5 * frame, 20, 60)).all()
        else:
            assert not item["eyes"].any()


def test_landmarks_of_other_frames_are_refused(folders):
    dataset = make_dataset(folders, describe=True)
    path = folders.paths[0]
    write_landmarks(f"{path}/landmarks.npz", np.repeat(face_points()[None], 7, axis=0), 4.0)
    with pytest.raises(LandmarkError, match="7 rows for the 30 frames"):
        dataset[(0, 0, 0)]


def test_landmarks_follow_the_face_window(folders):
    dataset = make_dataset(folders, describe=True, face_window=(4, 6, 30, 40))
    points = dataset._points(0, np.array([[0, 3]]), 30)
    np.testing.assert_allclose(points[0, 0], face_points() - (6, 4), rtol=1e-6)
    assert np.isnan(points[0, 1]).all()


@pytest.mark.parametrize("cut_by", ["run", "store"])
def test_landmarks_follow_the_window_of_packed_videos(folders, tmp_path, cut_by):
    window = ["4", "6", "30", "40"]
    packed = ["--face_window", *window] if cut_by == "store" else ["--whole_frames"]
    out = tmp_path / "packed"
    pack.main([folders.path, "--output_dir", str(out), "--num_workers", "0", *packed])
    rows = read_annotations(out / "train.csv", task="pretrain")
    dataset = make_dataset(
        rows, rule=PairRule(), describe=True, landmarks_root=str(tmp_path),
        face_window=tuple(map(int, window)) if cut_by == "run" else None,
    )  # fmt: skip
    points = dataset._points(0, np.array([[0, 3]]), 30)
    np.testing.assert_allclose(points[0, 0], face_points() - (6, 4), rtol=1e-6)
    assert dataset[(0, 0, 0)]["described"].any()


def paste(image, points, donor, donor_points):
    """A stand-in for the swap that shows who was given: red of the image, green of the donor."""
    assert points.shape == donor_points.shape == (68, 2)
    result = donor.copy()
    result[..., 0] = image[..., 0]
    return result


def test_positives_of_a_sample_get_one_other_persons_head(folders):
    persons = np.array([0, 1, 0, 1, 0])
    dataset = make_dataset(folders, face_swap=1.0, swap=paste, persons=persons)
    donors = set()
    for epoch in range(12):
        item = dataset[(epoch, 2, 0)]
        greens = item["clip"][1::2, 0, 0, 0, 1]
        swapped = item["swap"][1::2]
        assert item["swap"][::2].tolist() == [NOT_SWAPPED] * 2
        assert set(swapped.tolist()) <= {SWAPPED, SWAP_FAILED}
        found = {int(green) // 20 for green, state in zip(greens, swapped) if state == SWAPPED}
        assert len(found) <= 1 and found <= {1, 3}
        donors |= found
        kept = [int(g) // 20 for g, state in zip(greens, swapped) if state == SWAP_FAILED]
        assert set(kept) <= {2}  # unswapped: the own head
    assert donors == {1, 3}


def test_swaps_are_as_likely_as_asked_and_failures_are_counted(folders):
    persons = np.array([0, 1, 0, 1, 0])
    refuse = make_dataset(folders, face_swap=0.5, swap=lambda *_: None, persons=persons)
    states = np.concatenate([refuse[(e, 0, 0)]["swap"][1::2] for e in range(100)])
    assert set(states.tolist()) == {NOT_SWAPPED, SWAP_FAILED}
    assert np.mean(states == SWAP_FAILED) == pytest.approx(0.5, abs=0.12)


def test_video_that_became_too_short_is_passed_over(folders):
    lengths = read_lengths(folders)
    dataset = make_dataset(folders)
    dataset.lengths = replace(lengths, rates=lengths.rates.copy())
    dataset.lengths.rates[0] = 60.0
    item = dataset[(0, 0, 0)]
    assert item["index"].tolist() == [1] * 4 and "too short" in item["notes"][0].reason


def test_video_that_could_not_be_opened_before_training_is_passed_over(folders):
    lengths = read_lengths(folders)
    dataset = make_dataset(folders)
    dataset.lengths = replace(lengths, rates=lengths.rates.copy())
    dataset.lengths.rates[0] = np.nan
    item = dataset[(0, 0, 0)]
    assert item["index"].tolist() == [1] * 4
    assert item["notes"][0].reason == "could not be opened before training"


def test_landmarks_of_donors_are_of_the_frame_that_is_taken(folders):
    """Even where a donor has fewer frames than landmarks."""
    for donor in (1, 3):
        points = face_points() + np.arange(300)[:, None, None]
        write_landmarks(f"{folders.paths[donor]}/landmarks.npz", points, PAPER_RATE)

    def check(image, points, donor, donor_points):
        np.testing.assert_allclose(donor_points, face_points() + donor[0, 0, 0] // 5, rtol=1e-6)
        return donor

    persons = np.array([0, 1, 0, 1, 0])
    dataset = make_dataset(folders, face_swap=1.0, swap=check, persons=persons)
    states = [dataset[(epoch, 2, 0)]["swap"][1::2] for epoch in range(8)]
    assert (np.concatenate(states) == SWAPPED).sum() > 8
