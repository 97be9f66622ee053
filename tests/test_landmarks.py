"""Landmark files: where they are found, what is wrong with them, the boxes of eyes and mouth."""

import cv2
import numpy as np
import pytest

from svfap.datasets.faces.landmarks import (
    LandmarkError,
    Landmarks,
    eye_and_mouth,
    find_landmarks,
    landmarks_for,
    read_landmarks,
    write_landmarks,
)
from svfap.datasets.video.frame_rate import write_frame_rate
from svfap.preprocess import landmarks
from svfap.preprocess.shared.common import PreparationError
from tests.face_drawings import BlobDetector, Scene, drawn_landmarks, write_frames

FACE = drawn_landmarks(60, 50, 30)


def several(num_frames: int) -> np.ndarray:
    return FACE + np.arange(num_frames)[:, None, None]


def test_round_trip(tmp_path):
    points = several(4)
    points[2] = np.nan
    write_landmarks(tmp_path / "a" / "landmarks.npz", points, 25 / 6)
    read = landmarks_for(tmp_path / "a")
    np.testing.assert_array_equal(read.points, points.astype(np.float32))
    assert read.fps == 25 / 6
    assert read.has_face.tolist() == [True, True, False, True]
    assert read.check_length(4, "a") is read
    write_landmarks(tmp_path / "b.landmarks.npz", points)
    assert landmarks_for(tmp_path / "b.mp4").fps is None
    names = sorted(path.name for path in tmp_path.rglob("*"))
    assert names == ["a", "b.landmarks.npz", "landmarks.npz"]  # nothing partial is left


@pytest.mark.parametrize(
    ("video", "file"),
    [
        ("anna/clip/", "anna/clip/landmarks.npz"),
        ("anna/clip/face.mp4", "anna/clip/landmarks.npz"),
        ("anna/clip.mp4", "anna/clip.landmarks.npz"),
        ("anna/image.png", "anna/image.landmarks.npz"),
        ("voxceleb2/dev/mp4/p1/v1/00001.mp4", "voxceleb2/annotation/p1/v1/00001.npz"),
        ("dfew/Clip/jpg_256/00007/", "dfew/annotation/00007.npz"),
    ],
)
def test_places(tmp_path, video, file):
    path = tmp_path / video
    if video.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True)
        path.touch()
    assert find_landmarks(path) is None
    assert landmarks_for(path) is None
    write_landmarks(tmp_path / file, several(3))
    assert find_landmarks(path) == tmp_path / file
    assert len(landmarks_for(str(path))) == 3


def test_not_those_of_another_clip(tmp_path):
    for name in ("one.mp4", "other.mp4"):
        (tmp_path / name).touch()
    write_landmarks(tmp_path / "one.landmarks.npz", several(1))
    (tmp_path / "clip.1").mkdir()
    write_landmarks(tmp_path / "clip.landmarks.npz", several(1))
    write_landmarks(tmp_path / "landmarks.npz", several(1))
    assert find_landmarks(tmp_path / "other.mp4") is None
    assert find_landmarks(tmp_path / "clip.1") is None


def test_a_folder_of_their_own_comes_first_and_takes_the_longest_path(tmp_path):
    video = tmp_path / "videos" / "p1" / "clip"
    video.mkdir(parents=True)
    write_landmarks(video / "landmarks.npz", several(1))
    root = tmp_path / "root"
    write_landmarks(root / "clip.npz", several(2))
    assert len(landmarks_for(video, root)) == 2
    write_landmarks(root / "p1" / "clip" / "landmarks.npz", several(3))
    assert len(landmarks_for(video, root)) == 3
    assert len(landmarks_for("DIR/manifest.json#p1/clip", root)) == 3
    assert landmarks_for("DIR/manifest.json#p1/clip") is None


def test_wrong_files(tmp_path):
    (tmp_path / "landmarks.npz").write_bytes(b"no zip")
    with pytest.raises(LandmarkError, match="landmarks.npz is not an npz file"):
        landmarks_for(tmp_path)
    np.savez(tmp_path / "landmarks.npz", points=several(2))
    with pytest.raises(LandmarkError, match="holds the arrays points, not landmarks"):
        landmarks_for(tmp_path)
    np.savez(tmp_path / "landmarks.npz", landmarks=np.array([{}], object))
    with pytest.raises(LandmarkError, match="not an npz file of plain arrays"):
        landmarks_for(tmp_path)
    np.savez(tmp_path / "landmarks.npz", landmarks=np.zeros((2, 5, 2)))
    with pytest.raises(LandmarkError, match=r"shape \(2, 5, 2\); expected \(frames, 68, 2\)"):
        landmarks_for(tmp_path)
    np.savez(tmp_path / "landmarks.npz", landmarks=several(2).astype(int))
    with pytest.raises(LandmarkError, match="int64; expected floats"):
        read_landmarks(tmp_path / "landmarks.npz")
    half = several(3)
    half[0] = np.nan  # no face: allowed
    half[1, 3] = np.nan
    with pytest.raises(LandmarkError, match="frame 1 has some landmarks that are not finite"):
        Landmarks(half)
    np.savez(tmp_path / "landmarks.npz", landmarks=several(2), fps=np.array([1.0, 2.0]))
    with pytest.raises(LandmarkError, match="expected one number"):
        read_landmarks(tmp_path / "landmarks.npz")
    with pytest.raises(LandmarkError, match="fps is -1"):
        Landmarks(several(1), -1.0)
    with pytest.raises(LandmarkError, match="3 rows for the 5 frames of clip"):
        Landmarks(several(3)).check_length(5, "clip")


def test_eyes_and_mouth_are_the_boxes():
    points = FACE.copy()
    image = np.zeros((112, 112, 3), np.uint8)
    eyes, mouth = points[36:48], points[48:68]
    (left, top), (right, bottom) = eyes.min(0) - (0, 10), eyes.max(0) + (0, 10)
    image[round(top) : round(bottom) + 1, round(left) : round(right) + 1] = (200, 0, 0)
    (left, top), (right, bottom) = mouth.min(0), mouth.max(0)
    image[round(top) : round(bottom) + 1, round(left) : round(right) + 1] = (0, 0, 150)
    found_eyes, found_mouth = eye_and_mouth(image, points)
    assert found_eyes.shape == found_mouth.shape == (64, 64, 3)
    assert (found_eyes[4:-4, 4:-4] == (200, 0, 0)).all()
    assert (found_mouth[12:-12, 6:-6] == (0, 0, 150)).all()


def test_box_is_stretched_as_by_resize():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)
    points = np.zeros((68, 2))
    points[36:48] = [[20, 40], [51, 40], *[[30, 43]] * 10]
    points[48:68] = [[20, 60], [51, 75], *[[30, 65]] * 18]
    eyes, mouth = eye_and_mouth(image, points)
    for found, part in ((eyes, image[30:54, 20:52]), (mouth, image[60:76, 20:52])):
        expected = cv2.resize(part, (64, 64), interpolation=cv2.INTER_LINEAR).astype(int)
        inside = np.abs(expected - found.astype(int))[4:-4, 4:-4]
        assert inside.max() <= 6  # fixed-point coordinates of warpAffine


def test_no_face_has_no_eyes():
    with pytest.raises(LandmarkError, match="NaN"):
        eye_and_mouth(np.zeros((9, 9, 3), np.uint8), np.full((68, 2), np.nan))


# --- python -m preprocess.landmarks --------------------------------------------------------------


@pytest.fixture
def crops(tmp_path, monkeypatch):
    """Two frame folders and a video: one face, then two, then none; and a CSV of them."""
    monkeypatch.setattr(landmarks, "create_detector", BlobDetector)
    landmarks._detector.cache_clear()
    alone = Scene([dict.fromkeys(range(3), (150, 70, 40))], 3)
    second = {1: (60, 80, 30)}
    both = Scene([{0: (200, 80, 32), 1: (200, 80, 32)}, second], 3)
    paths = [write_frames(tmp_path / "data/a/one", alone)]
    paths.append(write_frames(tmp_path / "data/b/several", both))
    (tmp_path / "clips.csv").write_text("".join(f"{path} 0\n" for path in paths))
    write_frame_rate(tmp_path, 25 / 6)
    yield tmp_path
    landmarks._detector.cache_clear()


def test_landmarks_of_crops_beside_the_frames(crops, caplog):
    flags = [str(crops / "clips.csv"), "--num_workers", "0"]
    with caplog.at_level("INFO"):
        landmarks.main(flags)
    found = landmarks_for(crops / "data/a/one")
    assert found.has_face.all() and found.fps == 25 / 6
    assert np.abs(found.points - drawn_landmarks(150, 70, 40)).max() < 4
    assert landmarks_for(crops / "data/b/several").has_face.tolist() == [True, False, False]
    assert "6 frames: 4 with one face, 1 with several, 1 with none" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        landmarks.main(flags)
    assert "2 videos (2 were done)" in caplog.text
    (crops / "data/a/one/002.png").unlink()  # other frames: done again
    landmarks.main(flags)
    assert len(landmarks_for(crops / "data/a/one")) == 2


def test_landmarks_of_crops_in_a_folder_of_their_own(crops):
    out = crops / "points"
    landmarks.main([str(crops / "clips.csv"), "--output_dir", str(out), "--num_workers", "0"])
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.npz")) == [
        "a/one.landmarks.npz", "b/several.landmarks.npz",
    ]  # fmt: skip
    assert landmarks_for(crops / "data/a/one") is None
    assert len(landmarks_for(crops / "data/a/one", out)) == 3


def test_faults_of_crops(crops):
    csv = crops / "clips.csv"
    with pytest.raises(PreparationError, match="--min_face 0: allowed"):
        landmarks.main([str(csv), "--min_face", "0"])
    (crops / "broken.mp4").write_bytes(b"no video")
    csv.write_text(f"{crops / 'data/a/one'} 0\n{crops / 'broken.mp4'} 0\n")
    with pytest.raises(PreparationError, match="1 of 2 videos could not be done"):
        landmarks.main([str(csv), "--num_workers", "0"])
    blank = write_frames(crops / "data/c/none", Scene([], 2))
    csv.write_text(f"{blank} 0\n")
    with pytest.raises(PreparationError, match="none of the 2 frames shows exactly one face"):
        landmarks.main([str(csv), "--num_workers", "0"])
