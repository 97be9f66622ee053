"""Drawn faces: movement, affect and geometry."""

import dataclasses

import numpy as np
import pytest

from svfap.preprocess.synthetic.face import FaceGeometry
from svfap.preprocess.synthetic.identity import draw_identity, draw_scene
from svfap.preprocess.synthetic.motion import (
    AU_NAMES,
    EMOTIONS,
    PROTOTYPES,
    Motion,
    au_index,
    draw_motion,
    valence_arousal,
)
from svfap.preprocess.synthetic.plan import Settings, make_renderer
from svfap.preprocess.synthetic.render import FACE_CROP, VOXCELEB2, ClipRenderer


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
