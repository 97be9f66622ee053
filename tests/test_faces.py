"""Faces: geometry, smoothing, tracking with a made-up detector, crops."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from svfap.datasets import faces
from svfap.datasets.faces import crops, detector, follow, geometry, smoothing, tracker
from svfap.datasets.faces.detector import Detection
from svfap.datasets.video import base
from svfap.datasets.video.open_video import open_video
from tests.face_drawings import BlobDetector, Scene, drawn_landmarks, face_video, write_frames

HAS_DLIB = all(find_spec(name) for name in ("dlib", "face_recognition_models"))
needs_dlib = pytest.mark.skipif(not HAS_DLIB, reason="the extra `faces` is not installed")
VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"
needs_videos = pytest.mark.skipif(
    not (HAS_DLIB and VIDEOS.is_dir()), reason="dlib or the face clips are absent"
)


def track_of(landmarks: np.ndarray, how=None) -> faces.Track:
    how = np.zeros(len(landmarks), np.int8) if how is None else how
    return faces.Track(0, landmarks, how, 1.0)


# ---- geometry -------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 30, -75, 160])
def test_place_of_drawn_landmarks(degrees):
    landmarks = drawn_landmarks(100.0, 80.0, 40.0, np.radians(degrees))
    assert geometry.places(landmarks) == pytest.approx([100, 80, 40, np.radians(degrees)])
    assert geometry.eye_roll(landmarks) == pytest.approx(np.radians(degrees))


def test_size_of_face_keeps_when_the_head_turns_or_nods():
    landmarks = drawn_landmarks(0.0, 0.0, 40.0)
    turned = landmarks * [0.6, 1.0]
    nodded = landmarks * [1.0, 0.7]
    assert geometry.places(turned)[2] == pytest.approx(40)
    assert geometry.places(nodded)[2] == pytest.approx(40)


def test_box_and_place_are_inverse():
    place = np.array([50.0, 60.0, 20.0, 0.7])
    x, y = geometry.box_centres(place)
    side = geometry.BOX_SIDE * 20
    assert geometry.place_of_box(x, y, side, 0.7) == pytest.approx(place)
    assert geometry.overlap(place, place) == pytest.approx(1)
    beside = place + [side / 2, 0, 0, 0]
    assert geometry.overlap(place, beside) == pytest.approx(1 / 3)


def test_similarity_turns_upright_and_inverts():
    matrix = geometry.similarity(np.array([10.0, 20.0]), np.array(2.0), np.pi / 2, (5.0, 5.0))
    points = np.array([[10.0, 20.0], [10.0, 23.0]])  # from the centre downwards: along the eyes
    moved = geometry.transform(matrix, points)
    np.testing.assert_allclose(moved, [[5, 5], [11, 5]], atol=1e-12)
    np.testing.assert_allclose(geometry.transform(geometry.invert(matrix), moved), points)


# ---- smoothing ------------------------------------------------------------------------------


def test_gaps_are_bridged_by_lines():
    series = np.array([[0.0, 1.0], [np.nan, np.nan], [np.nan, 3.0], [6.0, 4.0]])
    np.testing.assert_allclose(smoothing.fill_gaps(series)[:, 0], [0, 2, 4, 6])


def test_even_movement_is_not_changed_and_jitter_is_removed():
    time = np.arange(60.0)[:, None]
    line = np.concatenate([3 * time, 100 - time], 1)
    np.testing.assert_allclose(smoothing.smooth(line, 5)[3:-3], line[3:-3], atol=0.6)
    jitter = np.random.default_rng(0).normal(0, 2, (60, 2))
    steady = smoothing.smooth(line + jitter, 5)
    assert (
        np.abs(np.diff(steady - line, axis=0)).mean()
        < 0.05 * np.abs(np.diff(jitter, axis=0)).mean()
    )
    assert np.abs(steady - line).max() < 3
    np.testing.assert_array_equal(smoothing.smooth(line, 0), line)
    with pytest.raises(ValueError, match="0 or more"):
        smoothing.smooth(line, -1)


def test_single_outlier_has_no_effect():
    series = np.zeros((30, 1))
    series[12] = 50
    assert np.abs(smoothing.smooth(series, 2)).max() == 0


# ---- tracking -------------------------------------------------------------------------------


def run_tracker(scene: Scene, **options) -> list[faces.Track]:
    options = {"min_face": (0.15,), "max_gap": 20} | options
    following = tracker.FaceTracker(BlobDetector(), faces.TrackingOptions(**options))
    for frame in scene.frames():
        following.feed(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
    return following.finish()


def test_moving_face_is_one_track():
    path = [(60 + 2 * i, 90 + i, 16) for i in range(40)]
    (track,) = run_tracker(Scene([dict(enumerate(path))], 40))
    assert (track.first, track.last) == (0, 39)
    assert (track.how == faces.INTERPOLATED).sum() == 0
    expected = np.array(path, float)
    assert np.abs(track.places()[:, :3] - expected).max() < 4


def test_two_faces_are_two_tracks_of_their_own():
    one = {i: (70, 80 + i, 16) for i in range(30)}
    other = {i: (230, 110 - i, 16) for i in range(30)}
    tracks = run_tracker(Scene([one, other], 30), all_faces=True)
    assert [len(track) for track in tracks] == [30, 30]
    for track in tracks:
        x = track.places()[:, 0]
        assert np.ptp(x) < 4


def test_face_that_appears_between_searches_is_followed_back():
    scene = Scene([{i: (100 + i, 90, 16) for i in range(11, 40)}], 40)
    (track,) = run_tracker(scene)
    assert (track.first, track.last) == (11, 39)


def test_short_gap_is_interpolated_and_landmarks_are_not_invented():
    seen = [i for i in range(40) if not 12 <= i < 20]
    (track,) = run_tracker(Scene([dict.fromkeys(seen, (100, 90, 16))], 40))
    assert (track.first, track.last) == (0, 39)
    gap = np.flatnonzero(track.how == faces.INTERPOLATED)
    assert set(range(12, 20)) <= set(gap) <= set(range(11, 24))
    assert np.isnan(track.landmarks[gap]).all()
    assert not np.isnan(np.delete(track.landmarks, gap, 0)).any()


def test_long_gap_makes_two_tracks():
    seen = [i for i in range(70) if not 15 <= i < 50]
    tracks = run_tracker(Scene([dict.fromkeys(seen, (100, 90, 16))], 70))
    assert len(tracks) == 2
    assert tracks[0].last in (13, 14)
    assert 50 <= tracks[1].first <= 51
    assert tracks[1].last == 69


def test_cut_ends_a_track_although_the_next_face_is_at_the_same_place():
    scene = Scene([dict.fromkeys(range(40), (100, 90, 16))], 40, cut_at=21)
    tracks = run_tracker(scene)
    assert [(track.first, track.last) for track in tracks] == [(0, 20), (21, 39)]


def test_no_face_no_track():
    assert run_tracker(Scene([], 20)) == []


def test_weak_and_short_tracks_are_not_believed():
    scene = Scene([dict.fromkeys(range(40), (100, 90, 16))], 40)
    assert run_tracker(scene, track_score=5.0) == []
    flash = Scene([dict.fromkeys(range(16, 19), (100, 90, 16))], 40)
    assert run_tracker(flash) == []
    assert len(run_tracker(flash, min_frames=2)) == 1


def test_options_are_checked():
    for wrong in ({"search_every": 0}, {"max_gap": -1}, {"min_face": (0.0,)}, {"min_frames": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            faces.TrackingOptions(**wrong)


def test_search_finds_small_faces_by_enlarging():
    scene = Scene([{0: (100, 90, 16)}], 1)
    grey = cv2.cvtColor(next(scene.frames()), cv2.COLOR_RGB2GRAY)
    assert BlobDetector().detect(grey) == []  # below its smallest size
    (found,) = detector.search_picture(grey, BlobDetector(), min_face=0.15)
    place = geometry.place_of_box(found.x, found.y, found.side)
    assert place[:3] == pytest.approx([100, 90, 16], abs=1.5)


def test_follow_gives_up_where_nothing_matches():
    scene = Scene([{0: (100, 90, 16)}], 1)
    grey = cv2.cvtColor(next(scene.frames()), cv2.COLOR_RGB2GRAY)
    landmarks = drawn_landmarks(100, 90, 16)
    noise = np.random.default_rng(1).integers(0, 255, grey.shape, dtype=np.uint8)
    assert follow.follow(grey, noise, landmarks, BlobDetector()) is None
    same = follow.follow(grey, grey, landmarks, BlobDetector())
    assert np.abs(same - landmarks).max() < 2


# ---- crops ----------------------------------------------------------------------------------


def test_eyes_lie_where_the_style_says():
    landmarks = np.stack([drawn_landmarks(100 + i, 80, 20.0) for i in range(20)])
    style = faces.CropStyle(side=4.0, eye_height=0.35)
    plan = faces.plan_crops(track_of(landmarks), style=style, size=80, smooth_frames=2)
    place = geometry.places(plan.landmarks(track_of(landmarks)))
    np.testing.assert_allclose(place[4:-4, 0], 39.5, atol=0.1)
    np.testing.assert_allclose(place[:, 1], 0.35 * 80 - 0.5, atol=0.1)
    np.testing.assert_allclose(place[:, 2], 20, rtol=1e-3)  # 80 px / 4


def test_alignment_makes_the_eyes_level():
    rolls = np.radians(np.linspace(-30, 30, 41))
    landmarks = np.stack([drawn_landmarks(100, 80, 20.0, roll) for roll in rolls])
    style = faces.STYLES["dfew"]
    plan = faces.plan_crops(track_of(landmarks), style=style, size=160, align="similarity")
    aligned = geometry.eye_roll(plan.landmarks(track_of(landmarks)))
    assert np.abs(np.degrees(aligned[5:-5])).max() < 0.5
    upright = faces.plan_crops(track_of(landmarks), style=style, size=160)
    kept = geometry.eye_roll(upright.landmarks(track_of(landmarks)))
    np.testing.assert_allclose(kept, rolls, atol=1e-6)


def test_constant_box_stands_still_and_holds_the_movement():
    landmarks = np.stack([drawn_landmarks(60 + 3 * i, 80, 20.0) for i in range(20)])
    plan = faces.plan_crops(
        track_of(landmarks), style=faces.STYLES["dfew"], size=100, box="constant"
    )
    assert np.ptp(plan.matrices, axis=0).max() == 0
    inside = plan.landmarks(track_of(landmarks))
    assert inside.min() > 0
    assert inside.max() < 99


def test_gap_in_a_track_is_cropped_by_interpolation():
    landmarks = np.stack([drawn_landmarks(60 + 4 * i, 80, 20.0) for i in range(11)])
    how = np.zeros(11, np.int8)
    landmarks[3:8], how[3:8] = np.nan, faces.INTERPOLATED
    plan = faces.plan_crops(
        track_of(landmarks, how), style=faces.STYLES["dfew"], size=64, smooth_frames=0
    )
    centre = geometry.transform(geometry.invert(plan.matrices), np.full((11, 1, 2), 31.5))[:, 0, 0]
    np.testing.assert_allclose(centre, 60 + 4 * np.arange(11), atol=1e-6)


def test_border_inside_keeps_the_crop_in_the_frame():
    landmarks = np.stack([drawn_landmarks(20, 30, 20.0)] * 5)
    options = {"style": faces.CropStyle(4.0, 0.4), "size": 80}
    outside = faces.plan_crops(track_of(landmarks), **options, border="black")
    assert outside.outside(120, 160) > 0.2
    inside = faces.plan_crops(
        track_of(landmarks), **options, border="inside", frame_size=(120, 160)
    )
    assert inside.outside(120, 160) == 0
    corner = geometry.transform(geometry.invert(inside.matrices), np.full((5, 1, 2), -0.5))[:, 0]
    np.testing.assert_allclose(corner, -0.5, atol=1e-9)
    small = faces.plan_crops(track_of(landmarks), **options, border="inside", frame_size=(60, 160))
    assert small.matrices[0, 0, 0] == pytest.approx(80 / 60)


def test_crop_pixels_and_their_way_back():
    frame = np.zeros((200, 200, 3), np.uint8)
    frame[:, :, 0] = np.arange(200)[None]
    frame[:, :, 1] = np.arange(200)[:, None]
    landmarks = drawn_landmarks(100, 90, 20.0)[None]
    plan = faces.plan_crops(track_of(landmarks), style=faces.CropStyle(4.0, 0.5), size=80)
    crop = faces.cut_crops(frame[None], plan)[0]
    assert crop[40, 40, :2].tolist() == pytest.approx([100, 90], abs=1)
    assert int(crop[0, 79, 0]) - int(crop[0, 0, 0]) == pytest.approx(79, abs=1)


def test_large_faces_are_averaged_down():
    frame = np.zeros((800, 800, 3), np.uint8)
    frame[::2] = 200  # stripes of one pixel
    landmarks = drawn_landmarks(400, 400, 160.0)[None]
    plan = faces.plan_crops(track_of(landmarks), style=faces.CropStyle(4.0, 0.5), size=80)
    crop = faces.cut_crops(frame[None], plan)[0]
    assert np.abs(crop.astype(int) - 100).max() <= 26
    # and lies where the small crop of the whole frame lies
    frame = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 255, (800, 800, 3), np.uint8), (0, 0), 20
    )
    exact = cv2.resize(frame[80:720, 80:720], (80, 80), interpolation=cv2.INTER_AREA)
    assert np.abs(faces.cut_crops(frame[None], plan)[0].astype(int) - exact).max() <= 3


@pytest.mark.parametrize(
    ("text", "side"), [("dfew", 3.2), ("voxceleb", 5.0), ("0", 2.2), ("0.5", 4.4)]
)
def test_margins(text, side):
    assert faces.parse_style(text).side == pytest.approx(side)


def test_wrong_crop_settings_are_told():
    track = track_of(drawn_landmarks(50, 50, 10.0)[None])
    style = faces.STYLES["dfew"]
    for wrong in ({"size": 4}, {"align": "x"}, {"box": "x"}, {"border": "x"}, {"border": "inside"}):
        with pytest.raises(ValueError, match=r"size|align|box|border"):
            faces.plan_crops(track, **({"style": style, "size": 80} | wrong))
    for text in ("tight", "-1", "nan"):
        with pytest.raises(ValueError, match="voxceleb"):
            faces.parse_style(text)


# ---- videos ---------------------------------------------------------------------------------


def test_blocks_give_every_frame_once(tmp_path, monkeypatch):
    video = face_video(tmp_path / "a.mp4", Scene([{i: (60 + i, 90, 16) for i in range(30)}], 30))
    with open_video(video) as reader:
        whole = reader.read(range(0, 30, 3))
    monkeypatch.setattr(base, "BLOCK_BYTES", 4 * whole[0].nbytes)
    with open_video(video) as reader:
        blocks = list(reader.blocks(every=3))
        assert [len(block) for block in blocks] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
        again = np.concatenate(list(reader.blocks(every=3, first=12)))
    np.testing.assert_array_equal(again, whole[4:])


def test_every_nth_frame(tmp_path):
    scene = Scene([{i: (60 + i, 90, 16) for i in range(40)}], 40)
    write_frames(tmp_path / "clip", scene)
    with open_video(tmp_path / "clip") as video:
        found = faces.find_faces(
            video, BlobDetector(), faces.TrackingOptions(min_face=(0.15,)), every=2
        )
        track = found.largest()
        plan = faces.plan_crops(track, style=faces.STYLES["dfew"], size=48)
        cut = faces.cut_track(video, track, plan, every=2)
    assert (found.num_frames, len(track), cut.shape) == (20, 20, (20, 48, 48, 3))
    np.testing.assert_allclose(track.places()[:, 0], 60 + 2 * np.arange(20), atol=3)


def test_missing_extra_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    with pytest.raises(faces.MissingExtraError, match="pip install"):
        faces.create_detector()
    with pytest.raises(ValueError, match="dlib"):
        faces.create_detector("yunet")
    assert Detection(1, 2, 3, 4).side == 3
    assert crops.BORDERS[0] == "inside"


# ---- the real detector ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def dlib_detector():
    return faces.create_detector()


@needs_videos
@pytest.mark.parametrize(
    ("name", "count", "frames"),
    [
        ("two_faces_head_roll.gif", 2, 56),
        ("talker_8_frames.mp4", 1, 8),
        ("talker_portrait_216x288.mp4", 1, 75),
        ("frames_woman_png", 1, 23),
        ("broken_truncated.mkv", 1, 40),
    ],
)
def test_real_videos(dlib_detector, name, count, frames):
    with open_video(VIDEOS / name) as video:
        found = faces.find_faces(video, dlib_detector, faces.TrackingOptions(all_faces=True))
    assert [(track.first, len(track)) for track in found.tracks] == [(0, frames)] * count
    for track in found.tracks:
        plan = faces.plan_crops(track, style=faces.STYLES["voxceleb"], size=100)
        place = geometry.places(plan.landmarks(track))
        assert np.abs(place[:, 0] - 49.5).max() < 20
        assert np.abs(place[:, 1] - 32.5).max() < 20
        corner = geometry.transform(geometry.invert(plan.matrices), np.zeros((frames, 1, 2)))[:, 0]
        jerk = np.abs(np.diff(corner, n=2, axis=0))
        assert jerk.mean() < 0.5  # pixels of the frame: no jitter


@needs_dlib
def test_dlib_finds_no_face_in_noise(dlib_detector):
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(0, 255, (240, 320), np.uint8), (0, 0), 3)
    assert detector.search_picture(noise, dlib_detector, min_face=0.2) == []
