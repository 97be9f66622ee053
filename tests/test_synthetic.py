"""The synthetic data set: what is drawn, where it lies, and that it cannot be solved by colour."""

import csv
import dataclasses
import hashlib
import json
import os

import av
import cv2
import numpy as np
import pytest

from svfap.preprocess import faces
from svfap.preprocess.shared.face_jobs import _write_mp4
from svfap.preprocess.synthetic import command as synthetic
from svfap.preprocess.synthetic.motion import AU_NAMES, EMOTIONS
from svfap.preprocess.synthetic.plan import (
    FIRST_PRETRAIN_SUBJECT,
    Settings,
    labelled_clip,
    labelled_renderer,
    make_renderer,
    pretrain_clip,
    subject_folds,
)
from svfap.preprocess.synthetic.render import FACE_CROP, ClipRenderer

SMALL = Settings(
    num_pretrain_videos=3,
    num_pretrain_identities=1,
    num_labelled_videos=6,
    num_identities=5,
    num_folds=2,
    size=64,
    min_frames=8,
    max_frames=10,
    seed=3,
)


def digests(folder):
    """Hash of every file below a folder, by relative name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_csv(path):
    with path.open() as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    synthetic.draw_data_set(folder, SMALL, num_workers=0)
    return folder


# ---- files ------------------------------------------------------------------------------------


def test_layout(drawn):
    frames = sorted((drawn / "dfew/Clip/jpg_256/00001").iterdir())
    assert [frame.name for frame in frames[:2]] == ["00001.jpg", "00002.jpg"]
    assert cv2.imread(str(frames[0])).shape == (64, 64, 3)
    assert len(list((drawn / "dfew/Clip/jpg_256").iterdir())) == 6
    mp4s = sorted((drawn / "voxceleb2/dev/mp4").glob("id10001/*/0000?.mp4"))
    assert len(mp4s) == 3
    with av.open(str(mp4s[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 25)
        assert (stream.width, stream.height) == (64, 64)
        num_frames = sum(1 for _ in container.decode(video=0))
    relative = mp4s[0].relative_to(drawn / "voxceleb2/dev/mp4")
    note = np.load(drawn / "voxceleb2/annotation" / relative.with_suffix(".npz"))
    assert len(note["valence"]) == num_frames
    assert not list(drawn.rglob("*.tmp"))


def test_annotation_matches_frames(drawn):
    for index in range(6):
        name = f"{index + 1:05d}"
        num_frames = len(list((drawn / "dfew/Clip/jpg_256" / name).iterdir()))
        note = np.load(drawn / "dfew/annotation" / f"{name}.npz")
        assert 8 <= num_frames <= 10
        assert note["landmarks"].shape == (num_frames, 68, 2)
        assert note["action_units"].shape == (num_frames, len(AU_NAMES))
        assert tuple(note["au_names"]) == AU_NAMES
        for affect in ("valence", "arousal"):
            assert note[affect].shape == (num_frames,)
            assert np.abs(note[affect]).max() <= 1


def test_split_files_are_official_style_and_subject_independent(drawn):
    subjects = {row[0]: row[1:] for row in read_csv(drawn / "dfew/annotation/subjects.csv")[1:]}
    assert len(subjects) == 6
    tested = []
    for fold in (1, 2):
        parts = {}
        for part in ("train", "test"):
            folder = drawn / "dfew/EmoLabel_DataSplit" / f"{part}(single-labeled)"
            rows = read_csv(folder / f"set_{fold}.csv")
            assert rows[0] == ["video_name", "label"]
            assert rows[1:]
            for video, label in rows[1:]:
                assert EMOTIONS[int(label) - 1] == subjects[f"{int(video):05d}"][1]
            parts[part] = {int(video) for video, _ in rows[1:]}
        assert parts["train"] | parts["test"] == set(range(1, 7))
        people = [{subjects[f"{v:05d}"][0] for v in parts[part]} for part in ("train", "test")]
        assert not people[0] & people[1]
        tested += sorted(parts["test"])
    assert sorted(tested) == list(range(1, 7))


def test_same_files_whatever_the_number_of_workers(drawn, tmp_path):
    synthetic.draw_data_set(tmp_path / "again", SMALL, num_workers=2)
    assert digests(tmp_path / "again") == digests(drawn)


@pytest.mark.parametrize(
    "write",
    [
        lambda path, frames: synthetic.write_mp4(path, frames, 64),
        lambda path, frames: _write_mp4(path, [np.stack(frames)], 64, np.arange(16) / 25),
    ],
    ids=["drawn", "crops"],
)
def test_same_frames_are_the_same_video(tmp_path, write):
    """With trees of macroblocks x264 makes two or more videos of these in nearly every run."""
    coarse = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 3), dtype=np.uint8)
    frames = [cv2.resize(frame, (64, 64), interpolation=cv2.INTER_CUBIC) for frame in coarse]
    found, junk = set(), []
    for number in range(40):
        junk.append(np.full(50_000 + 777 * number, number, np.uint8))  # memory is not the same
        write(tmp_path / "video.mp4", frames)
        found.add((tmp_path / "video.mp4").read_bytes())
    assert len(found) == 1


def test_other_seed_draws_others(drawn, tmp_path):
    other = dataclasses.replace(SMALL, seed=4, num_labelled_videos=1, num_pretrain_videos=0)
    synthetic.draw_data_set(tmp_path / "other", other, num_workers=0)
    frame = "dfew/Clip/jpg_256/00001/00001.jpg"
    assert (tmp_path / "other" / frame).read_bytes() != (drawn / frame).read_bytes()


def test_stopped_run_goes_on_and_keeps_what_is_complete(drawn, tmp_path, monkeypatch):
    folder, frame, calls = tmp_path / "stopped", ClipRenderer.frame, []

    def killed(self, t):
        calls.append(t)
        if len(calls) == 14:
            raise KeyboardInterrupt
        return frame(self, t)

    monkeypatch.setattr(ClipRenderer, "frame", killed)
    with pytest.raises(KeyboardInterrupt):
        synthetic.draw_data_set(folder, SMALL, num_workers=0)
    assert not list(folder.rglob("*.tmp"))
    left_over = folder / "dfew/Clip/jpg_256/.00002.1234.tmp"  # of a process that was killed
    left_over.mkdir()
    (left_over / "00001.jpg").write_bytes(b"half")
    (folder / "dfew/annotation/.00002.npz.1234.tmp").write_bytes(b"half")
    kept = folder / "dfew/Clip/jpg_256/00001/00001.jpg"
    written = kept.stat().st_mtime_ns
    assert not (folder / "dfew/Clip/jpg_256/00002").exists()
    monkeypatch.setattr(ClipRenderer, "frame", frame)
    synthetic.draw_data_set(folder, SMALL, num_workers=0)
    assert kept.stat().st_mtime_ns == written
    assert digests(folder) == digests(drawn)


def test_other_settings_are_refused(drawn, tmp_path):
    before = digests(drawn)
    with pytest.raises(ValueError, match="seed: 3 there, 9 asked for"):
        synthetic.draw_data_set(drawn, dataclasses.replace(SMALL, seed=9), num_workers=0)
    assert digests(drawn) == before
    (tmp_path / "dfew").mkdir()
    with pytest.raises(ValueError, match="not made by"):
        synthetic.draw_data_set(tmp_path, SMALL, num_workers=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 63}, "--size is 63; allowed: even"),
        ({"num_folds": 1}, "--num_folds is 1"),
        ({"num_identities": 1}, "--num_identities is 1"),
        ({"max_frames": 7}, "--max_frames is 7"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_command(tmp_path, capsys):
    flags = ["--num_videos", "1", "--num_identities", "5", "--size", "64", "--max_frames", "24"]
    sheet = tmp_path / "sheet.png"
    out = ["--output_dir", str(tmp_path / "set"), "--num_workers", "0", "--preview", str(sheet)]
    synthetic.main([*flags, *out])
    assert "1 clips for pre-training" in capsys.readouterr().out
    assert json.loads((tmp_path / "set/synthetic.json").read_text())["size"] == 64
    assert cv2.imread(str(sheet)).shape == (6 * 64 + 8, 7 * 64, 3)
    with pytest.raises(ValueError, match="other settings"):
        synthetic.main([*flags, *out, "--seed", "5"])
    with pytest.raises(ValueError, match="num_workers is -1: it must be 0 or more"):
        synthetic.main(
            ["--num_videos", "5", "--output_dir", str(tmp_path / "o"), "--num_workers=-1"]
        )
    with pytest.raises(SystemExit):
        synthetic.main(["--seed", "5"])


def test_as_many_processes_as_cores_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 4, 9}, raising=False)
    for command in (synthetic.get_parser, faces.build_parser):
        assert command().get_default("num_workers") == 3


# ---- plan -------------------------------------------------------------------------------------


def test_every_subject_shows_every_emotion_once():
    settings = Settings()
    clips = [labelled_clip(settings, index) for index in range(420)]
    assert len(set(clips)) == 60 * 7
    assert {clip[0] for clip in clips} == set(range(60))
    orders = {tuple(emotion for s, emotion in clips if s == subject) for subject in range(60)}
    assert len(orders) > 50


def test_folds_are_even_and_people_of_the_parts_differ():
    settings = Settings()
    assert np.bincount(subject_folds(settings)).tolist() == [12] * 5
    assert settings.num_identities < FIRST_PRETRAIN_SUBJECT
    files = {pretrain_clip(settings, index)[2] for index in range(400)}
    assert len(files) == 400
    person, video, path = pretrain_clip(settings, 100)
    assert (person, video, path.name) == (0, 0, "00002.mp4")
    assert path.parent == pretrain_clip(settings, 0)[2].parent


# ---- difficulty -------------------------------------------------------------------------------


def test_colour_says_nothing_about_the_emotion():
    """A subject-independent classifier on mean colours stays near chance (1 in 7)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings = Settings(size=32, min_frames=12, max_frames=12, num_identities=20)
    features, labels, subjects = [], [], []
    for index in range(140):
        subject, emotion = labelled_clip(settings, index)
        renderer = make_renderer(
            settings,
            subject=subject,
            scene=index,
            emotion=emotion,
            index=index,
            stream="colour",
            framing=FACE_CROP,
        )
        frame = renderer.frame(6).astype(float)
        features.append(np.concatenate([frame.mean((0, 1)), frame.std((0, 1))]))
        labels.append(EMOTIONS.index(emotion))
        subjects.append(subject)
    features, labels, subjects = map(np.array, (features, labels, subjects))
    hits = []
    for fold in range(5):
        train = subjects % 5 != fold
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        model.fit(features[train], labels[train])
        hits += (model.predict(features[~train]) == labels[~train]).tolist()
    assert np.mean(hits) < 0.25


def test_scenes_are_drawn_per_clip_or_per_person():
    def scenes(kind):
        settings = Settings(num_identities=5, min_frames=8, max_frames=8, size=32, scenes=kind)
        return [labelled_renderer(settings, index).scene for index in (0, 1, 5)]

    def same(first, second, part):
        return np.array_equal(getattr(first, part), getattr(second, part))

    films, sessions = scenes("clip"), scenes("subject")  # clips 0 and 5 show the same person
    for part in ("clothes", "background", "ambient", "gamma"):
        assert not same(films[0], films[2], part)
        assert same(sessions[0], sessions[2], part)
        assert not same(sessions[0], sessions[1], part)
    with pytest.raises(ValueError, match="--scenes is film; allowed: clip, subject"):
        Settings(scenes="film")
