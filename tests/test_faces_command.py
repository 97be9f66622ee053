"""The command preprocess.faces, with a made-up detector."""

import csv
import errno
import json
from pathlib import Path

import numpy as np
import pytest

from svfap.datasets.faces import geometry
from svfap.datasets.files import CannotWriteError
from svfap.datasets.labels.listing import NamedVideo, list_videos, stamp_of
from svfap.datasets.video.open_video import open_video
from svfap.preprocess import faces as command
from svfap.preprocess.shared import face_jobs, face_journal
from svfap.preprocess.shared.common import PreparationError
from svfap.preprocess.shared.face_jobs import FaceSettings, Outcome
from tests.face_drawings import BlobDetector, Scene, face_video, write_frames


@pytest.fixture
def no_dlib(monkeypatch):
    monkeypatch.setattr(face_jobs, "create_detector", BlobDetector)
    monkeypatch.setattr(command, "create_detector", BlobDetector)


def read_table(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def make_inputs(folder: Path) -> Path:
    face = {i: (100 + i, 90, 16) for i in range(20)}
    write_frames(folder / "one face", Scene([face], 20))
    both = Scene([dict.fromkeys(range(20), (x, 90, unit)) for x, unit in ((70, 16), (230, 20))], 20)
    face_video(folder / "sub" / "two.mp4", both)
    write_frames(folder / "empty", Scene([], 10))
    return folder


def test_command_crops_reports_and_goes_on(tmp_path, no_dlib, caplog):
    caplog.set_level("INFO")
    source, out = make_inputs(tmp_path / "in"), tmp_path / "out"
    argv = [str(source), "--output_dir", str(out), "--num_workers", "0", "--faces", "all"]
    argv += ["--landmarks", "--size", "64", "--margin", "dfew", "--min_face", "0.15"]
    command.main(argv)
    table = {row["output"]: row for row in read_table(out / "faces.csv")}
    assert set(table) == {"one_face/face_1", "sub/two/face_1", "sub/two/face_2", ""}
    assert table[""]["status"] == "no_face"
    assert "no face in 10 frames" in caplog.text
    with open_video(out / "one_face/face_1") as video:
        crop = video.read([0, 19])
        assert (video.num_frames, crop.shape) == (20, (2, 64, 64, 3))
    side = np.load(out / "one_face/face_1/landmarks.npz")
    eyes = geometry.places(side["landmarks"].astype(float))
    assert eyes[:, :2] == pytest.approx(np.tile([31.5, 0.37 * 64 - 0.5], (20, 1)), abs=3)
    back = geometry.transform(geometry.invert(side["matrix"]), side["landmarks"].astype(float))
    assert geometry.places(back)[:, 0] == pytest.approx(100 + np.arange(20), abs=3)
    assert side["frame"].tolist() == list(range(20))
    # the larger of two faces comes first
    assert float(table["sub/two/face_1"]["eye_distance_px"]) > 18
    caplog.clear()
    command.main(argv)
    assert "3 of 3 videos are done" in caplog.text


def test_unreadable_videos_are_listed_and_tried_again(tmp_path, no_dlib, caplog):
    source, out = make_inputs(tmp_path / "in"), tmp_path / "out"
    (source / "sub" / "bad.mp4").write_bytes(b"not a video")
    argv = [str(source), "--output_dir", str(out), "--num_workers", "0", "--min_face", "0.15"]
    with pytest.raises(PreparationError, match="1 of 4 videos could not be done"):
        command.main(argv)
    assert "bad.mp4" in caplog.text
    assert (out / "one_face/00001.jpg").exists()
    status = {Path(row["source"]).name: row["status"] for row in read_table(out / "faces.csv")}
    assert status["bad.mp4"] == "unreadable"
    (source / "sub" / "bad.mp4").unlink()
    command.main(argv)


def test_interrupted_run_leaves_nothing_half(tmp_path, no_dlib, monkeypatch):
    source, out = make_inputs(tmp_path / "in"), tmp_path / "out"
    argv = [str(source), "--output_dir", str(out), "--num_workers", "0", "--min_face", "0.15"]

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(face_jobs, "_write_landmarks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.main([*argv, "--landmarks"])
    assert not (out / "one_face").exists()
    journal = out / "faces.jsonl"
    journal.write_text(journal.read_text() + '{"source": "cut o')
    command.main([*argv, "--landmarks"])
    assert len(list((out / "one_face").glob("*.jpg"))) == 20
    assert not (out / ".partial").exists()
    assert all(json.loads(line) for line in journal.read_text().splitlines()[-2:])


def test_settings_and_folders_are_protected(tmp_path, no_dlib):
    source, out = make_inputs(tmp_path / "in"), tmp_path / "out"
    argv = [str(source), "--output_dir", str(out), "--num_workers", "0", "--min_face", "0.15"]
    command.main(argv)
    with pytest.raises(PreparationError, match="size was 224, is 112"):
        command.main([*argv, "--size", "112"])
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(PreparationError, match="nothing of yours is overwritten"):
        command.main([str(source), "--output_dir", str(mine)])
    with pytest.raises(ValueError, match="lie in one another"):
        command.main([str(source), "--output_dir", str(source)])
    with pytest.raises(PreparationError, match="even number"):
        command.main([*argv, "--format", "mp4", "--size", "111"])
    with pytest.raises(PreparationError, match="--align similarity"):
        command.main([*argv, "--align", "similarity", "--box", "constant"])


def test_mp4_crops_keep_the_frame_rate(tmp_path, no_dlib):
    source, out = make_inputs(tmp_path / "in"), tmp_path / "out"
    argv = [str(source / "sub"), "--output_dir", str(out), "--num_workers", "0"]
    command.main([*argv, "--format", "mp4", "--min_face", "0.15", "--every", "2"])
    with open_video(out / "two" / "face.mp4") as video:
        assert (video.num_frames, video.fps) == (10, 12.5)
        assert video.read([0]).shape == (1, 224, 224, 3)


def test_names_are_told_apart(tmp_path):
    for name in ("a.mp4", "a.avi", "b c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    jobs = {Path(job.source).name: job.name for job in list_videos([tmp_path])}
    assert jobs == {"a.mp4": "a.mp4", "a.avi": "a.avi", "b c.mp4": "b_c"}
    with pytest.raises(FileNotFoundError, match="no such file"):
        list_videos([tmp_path / "nowhere"])


def test_a_full_disk_ends_the_run_not_every_video(tmp_path, no_dlib, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(face_jobs, "_write_pictures", full)
    source, out = make_inputs(tmp_path / "in"), tmp_path / "out"
    argv = [str(source), "--output_dir", str(out), "--num_workers", "0", "--min_face", "0.15"]
    with pytest.raises(CannotWriteError, match=r"cannot write .*out/.*No space left"):
        command.main(argv)


def test_errors_of_the_program_end_one_video_only(tmp_path, monkeypatch):
    class Broken(BlobDetector):
        def detect(self, grey, threshold=0.0):
            raise RuntimeError("boom")

    write_frames(tmp_path / "clip", Scene([], 3))
    monkeypatch.setattr(face_jobs, "create_detector", Broken)
    job = NamedVideo(str(tmp_path / "clip"), "clip")
    outcome = face_jobs.do_video(job, FaceSettings(), tmp_path)
    assert (outcome.status, outcome.note) == ("failed", "RuntimeError: boom")
    assert not face_journal.is_done(outcome, tmp_path)
    assert face_journal.is_done(Outcome("x", "no_face", stamp=stamp_of("x")), tmp_path)


def test_pictures_of_classes_are_cropped_one_by_one(tmp_path, no_dlib):
    for name, shift in (("happy", 0), ("sad", 7)):
        for n in range(4):
            face = {0: (60 + 40 * n + shift, 60 + 20 * n, 16 + 2 * n)}
            write_frames(tmp_path / "in" / "x", Scene([face], 1))
            target = tmp_path / "in" / name / f"{n}.png"
            target.parent.mkdir(exist_ok=True)
            (tmp_path / "in" / "x" / "000.png").rename(target)
            (tmp_path / "in" / "x").rmdir()
    out = tmp_path / "out"
    argv = [str(tmp_path / "in"), "--output_dir", str(out), "--num_workers", "0", "--size", "64",
            "--min_face", "0.15", "--pictures", "single"]  # fmt: skip
    command.main(argv)
    crops = sorted(str(path.relative_to(out)) for path in out.rglob("*.jpg"))
    assert crops == [f"{name}/{n}.jpg" for name in ("happy", "sad") for n in range(4)]
    assert {row["output"] for row in read_table(out / "faces.csv")} == set(crops)


def test_faces_that_cannot_be_followed_are_not_called_absent(tmp_path, no_dlib, caplog):
    places = {0: (60, 60, 16), 1: (230, 120, 20), 2: (70, 120, 18), 3: (200, 60, 16)}
    write_frames(tmp_path / "in" / "sparse", Scene([places], 4))
    argv = [str(tmp_path / "in"), "--output_dir", str(tmp_path / "out"), "--num_workers", "0",
            "--min_face", "0.15", "--pictures"]  # fmt: skip
    with pytest.raises(PreparationError, match="a face was found and followed"):
        command.main([*argv, "frames"])
    assert "but could not be followed from frame to frame" in caplog.text
    assert "no face in" not in caplog.text
    command.main([*argv[:2], str(tmp_path / "single"), *argv[3:], "single"])
    assert len(list((tmp_path / "single" / "sparse").glob("*.jpg"))) == 4
