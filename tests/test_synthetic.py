"""The synthetic data set: what is drawn, where it lies, and that it cannot be solved by colour."""

import csv
import dataclasses
import hashlib
import json

import av
import cv2
import numpy as np
import pytest

from preprocess import synthetic
from preprocess.synthetic_face import FaceGeometry
from preprocess.synthetic_identity import draw_identity, draw_scene
from preprocess.synthetic_motion import (
    AU_NAMES,
    EMOTIONS,
    PROTOTYPES,
    Motion,
    au_index,
    draw_motion,
    valence_arousal,
)
from preprocess.synthetic_plan import (
    FIRST_PRETRAIN_SUBJECT,
    Settings,
    labelled_clip,
    labelled_renderer,
    make_renderer,
    pretrain_clip,
    subject_folds,
)
from preprocess.synthetic_render import FACE_CROP, VOXCELEB2, ClipRenderer

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


def calm_motion(action_units: np.ndarray) -> Motion:
    """Movement with given action units (T, A) and nothing else: frontal head, fixed light."""
    num_frames = len(action_units)
    valence, arousal = valence_arousal(action_units)
    light = np.array((-0.35, -0.5, 0.8))
    return Motion(
        action_units=np.asarray(action_units, dtype=np.float64),
        valence=valence,
        arousal=arousal,
        pose=np.zeros((num_frames, 3)),
        shift=np.zeros((num_frames, 2)),
        zoom=np.ones(num_frames),
        gaze=np.zeros((num_frames, 2)),
        light=np.tile(light / np.linalg.norm(light), (num_frames, 1)),
        gain=np.ones(num_frames),
    )


def calm_renderer(framing=FACE_CROP, subject=1, size=224, **units):
    """Frontal face whose action units are given as lists over time."""
    (num_frames,) = {len(values) for values in units.values()}
    table = np.zeros((num_frames, len(AU_NAMES)))
    for name, values in units.items():
        table[:, au_index(name)] = values
    return ClipRenderer(
        identity=draw_identity(0, subject),
        scene=draw_scene(0, 0, "test"),
        motion=calm_motion(table),
        framing=framing,
        size=size,
        rng=np.random.default_rng(0),
    )


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
    with pytest.raises(SystemExit, match="other settings"):
        synthetic.main([*flags, *out, "--seed", "5"])
    with pytest.raises(SystemExit):
        synthetic.main(["--seed", "5"])


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


# ---- movement and affect ----------------------------------------------------------------------


def affect_of(name):
    units = np.zeros(len(AU_NAMES))
    units[au_index(name)] = 1
    return valence_arousal(units)


def test_valence_and_arousal_signs():
    assert valence_arousal(np.zeros(len(AU_NAMES))) == (0, 0)
    assert affect_of("AU12")[0] > 0.5
    for name in ("AU04", "AU09", "AU15", "AU20"):
        assert affect_of(name)[0] < -0.3, name
    assert affect_of("AU05")[1] > 0.3
    assert affect_of("AU27")[1] > 0.2
    assert affect_of("AU15")[1] < -0.3


def test_emotions_stand_where_the_circumplex_has_them():
    centres = {}
    for emotion in EMOTIONS:
        apexes = []
        for index in range(40):
            rng = np.random.default_rng(index)
            motion = draw_motion(rng, emotion, 40, gain=np.ones(len(AU_NAMES)), rest=0)
            peak = np.argmax(np.hypot(motion.valence, motion.arousal))
            apexes.append((motion.valence[peak], motion.arousal[peak]))
        centres[emotion] = np.mean(apexes, axis=0)
    assert centres["happy"][0] > 0.5
    for emotion in ("sad", "angry", "disgust", "fear"):
        assert centres[emotion][0] < -0.3, emotion
    assert centres["sad"][1] < -0.1
    for emotion in ("angry", "fear", "surprise"):
        assert centres[emotion][1] > 0.3, emotion
    assert np.abs(centres["neutral"]).max() < 0.2


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_expression_has_its_action_units_for_a_third_of_the_clip(emotion):
    if emotion == "neutral":
        levels = [high for _, high, _ in PROTOTYPES["neutral"].values()]
        assert max(levels) <= 0.3
        return
    name = {"happy": "AU12", "sad": "AU15", "angry": "AU04", "surprise": "AU25"}.get(emotion)
    name = name or {"disgust": "AU10", "fear": "AU05"}[emotion]
    shown = []
    for index in range(30):
        motion = draw_motion(
            np.random.default_rng(index), emotion, 48, gain=np.ones(len(AU_NAMES)), rest=0
        )
        assert motion.action_units.min() >= 0
        assert motion.action_units.max() <= 1
        shown.append((motion.action_units[:, au_index(name)] > 0.25).mean())
    assert np.median(shown) > 1 / 3


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="AU12"):
        au_index("AU99")
    with pytest.raises(ValueError, match="surprise"):
        draw_motion(np.random.default_rng(0), "bored", 8, gain=np.ones(1), rest=0)


# ---- geometry ---------------------------------------------------------------------------------


def test_landmarks_follow_the_mouth():
    opening = np.linspace(0, 1, 5)
    points = calm_renderer(AU25=opening, AU26=opening).landmarks()
    gap = points[:, 66, 1] - points[:, 62, 1]
    assert np.all(np.diff(gap) > 2)
    assert gap[0] < 1
    assert gap[-1] > 12
    assert points[-1, 8, 1] > points[0, 8, 1] + 8  # the chin goes down with the jaw
    drawn = calm_renderer(AU25=opening, AU26=opening)
    x, y = np.round(points[-1, [62, 66]].mean(0)).astype(int)
    closed, wide = drawn.frame(0)[y, x].mean(), drawn.frame(4)[y, x].mean()
    assert wide < 0.75 * closed  # dark inside of the mouth exactly between the inner lips


def test_landmarks_follow_smile_brows_and_lids():
    smile = calm_renderer(AU12=[0, 1]).landmarks()
    assert smile[1, 54, 0] - smile[1, 48, 0] > 1.2 * (smile[0, 54, 0] - smile[0, 48, 0])
    assert smile[1, 48, 1] < smile[0, 48, 1] - 8
    brows = calm_renderer(AU01=[0, 1], AU02=[0, 1]).landmarks()
    assert np.all(brows[1, 17:27, 1] < brows[0, 17:27, 1] - 4)
    blink = calm_renderer(AU43=[0, 1]).landmarks()
    assert np.all(np.abs(blink[1, [37, 38, 43, 44], 1] - blink[1, [41, 40, 47, 46], 1]) < 2)


def test_landmark_order_is_ibug():
    points = calm_renderer(AU12=[0]).landmarks()[0]
    assert np.all(np.diff(points[:17, 0]) > 0)  # jaw, left to right in the picture
    assert points[8, 1] == points[:, 1].max()  # chin lowest
    assert np.all(np.diff(points[17:27, 0]) > 0)  # brows
    assert np.all(np.diff(points[27:31, 1]) > 0)  # bridge downwards
    assert np.all(np.diff(points[31:36, 0]) > 0)
    assert points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0]  # eye corners
    assert np.all(points[[37, 38, 43, 44], 1] < points[[41, 40, 47, 46], 1])
    assert points[48, 0] < points[51, 0] < points[54, 0]
    assert points[51, 1] < points[62, 1] <= points[66, 1] < points[57, 1]


@pytest.mark.parametrize("framing", [FACE_CROP, VOXCELEB2])
def test_landmarks_inside_the_frame(framing):
    settings = dataclasses.replace(Settings(), min_frames=24, max_frames=24)
    for index in range(14):
        renderer = make_renderer(
            settings,
            subject=index,
            scene=index,
            emotion=EMOTIONS[index % 7],
            index=index,
            stream="inside",
            framing=framing,
        )
        points = renderer.landmarks()
        top, left, side = (224 * value for value in framing.window)
        assert points[..., 0].min() > left
        assert points[..., 0].max() < left + side
        assert points[..., 1].min() > top
        assert points[..., 1].max() < min(224, top + 1.08 * side)


def test_voxceleb2_window_holds_the_face():
    crop = calm_renderer(AU12=[0, 1]).landmarks()
    window = calm_renderer(VOXCELEB2, AU12=[0, 1]).landmarks()
    np.testing.assert_allclose(((window + 0.5) - (32, 0)) / 160, (crop + 0.5) / 224, atol=1e-6)


def test_unproject_inverts_project():
    units = np.zeros((2, len(AU_NAMES)))
    pose = np.array([(0.3, -0.1, 0.1), (-0.2, 0.15, 0.0)])
    motion = dataclasses.replace(calm_motion(units), pose=pose)
    geometry = FaceGeometry(draw_identity(0, 2), motion)
    x, y = np.meshgrid(np.linspace(-0.8, 0.8, 9), np.linspace(-0.6, 1.3, 9))
    points = np.stack([x.ravel(), y.ravel()], 1)
    seen = geometry.unproject(geometry.project(points))
    assert np.abs(seen - points).max() < 0.06


def test_nose_turns_with_the_head():
    units = np.zeros((3, len(AU_NAMES)))
    pose = np.array([(-0.3, 0, 0), (0, 0, 0), (0.3, 0, 0)])
    geometry = FaceGeometry(draw_identity(0, 2), dataclasses.replace(calm_motion(units), pose=pose))
    nose = geometry.project(geometry.landmarks())[:, 30, 0]
    assert nose[0] < -0.2 < nose[1] < 0.2 < nose[2]


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
