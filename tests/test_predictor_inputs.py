"""What `Predictor` takes, in every form the same video; and its features."""

import cv2
import numpy as np
import pytest
import torch

from svfap.datasets.augment import transforms
from svfap.datasets.video.open_video import open_video
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from tests.face_drawings import BlobDetector, Scene, face_video
from tests.test_predict import predict, save_checkpoint


@pytest.fixture(scope="module")
def frames(clip):
    with open_video(clip) as video:
        return video.read(range(40))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    path = save_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint-best.pth")
    return Predictor(path, PredictionOptions(crop=False), device="cpu", amp="off", batch_size=3)


def test_every_form_of_a_video_has_the_same_answer(predictor, clip, frames):
    forms = [clip, str(clip), clip.read_bytes(), frames, iter(frames), list(frames)]
    answers = sorted(predictor.predict_many(forms), key=lambda answer: answer.number)
    assert [a.path for a in answers] == [*[str(clip)] * 2, *(f"video {n}" for n in range(3, 7))]
    for answer in answers:
        assert answer.status == "ok"
        np.testing.assert_allclose(
            answer.tracks[0].window_scores, answers[0].tracks[0].window_scores, atol=1e-6
        )
    alone = predictor.predict(frames)
    assert (alone.path, alone.number, alone.facts.num_frames) == ("video 1", 0, 40)


def test_frames_have_the_rate_that_is_said(predictor, frames):
    assert predictor.predict(frames).facts.times[-1] == pytest.approx(39 / 25)  # of training
    slow = predictor.predict(frames, frame_rate=12.5)
    assert slow.facts.times[-1] == pytest.approx(39 / 12.5)
    assert len(slow.tracks[0].seconds) > len(predictor.predict(frames).tracks[0].seconds)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp"])
def test_bytes_of_a_picture(predictor, frames, tmp_path, ending):
    data = cv2.imencode(ending, frames[0][..., ::-1])[1].tobytes()
    assert predictor.predict(data).facts.num_frames == 1
    broken = predictor.predict(data[: len(data) // 3])
    assert (broken.status, broken.path) == ("unreadable", "video 1")
    assert "damaged" in broken.facts.note


def test_faces_are_found_in_arrays_and_by_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "create_detector", BlobDetector)
    face_video(tmp_path / "face.mp4", Scene([{i: (100 + i, 90, 24) for i in range(30)}], 30))
    with open_video(tmp_path / "face.mp4") as video:
        frames = video.read(range(30))
    predictor = Predictor(save_checkpoint(tmp_path / "a.pth"), device="cpu", amp="off")
    one = predictor.predict(tmp_path / "face.mp4").tracks
    for workers in (0, 1):
        (there,) = predictor.predict_many([frames], num_workers=workers)
        np.testing.assert_allclose(there.tracks[0].scores, one[0].scores, atol=1e-6)


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"array of 3 x 8 x 8 uint8; it must be \(T, H, W, 3\)"),
        (np.zeros((4, 8, 8, 3)), "float64"),
        (np.zeros((0, 8, 8, 3), np.uint8), "0 x 8 x 8 x 3"),
        (["a.mp4", "b.mp4"], "video 1 gives str"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], r"\(8, 8, 3\), \(9, 8"),
        ([], "gives nothing"),
        (torch.zeros(2, 8, 8, 3), "one size. Possible are a path"),
        (7, "is int; give a path"),
    ],
)
def test_other_things_are_refused_in_words(predictor, video, words):
    with pytest.raises(ValueError, match=words):
        predictor.predict(video)


def test_wrong_calls_are_refused_in_words(predictor, frames, clip):
    with pytest.raises(ValueError, match="give a list of videos"):
        next(predictor.predict_many(str(clip)))
    with pytest.raises(ValueError, match="frames per second"):
        predictor.predict(frames, frame_rate=-1)
    with pytest.raises(ValueError, match="choose one of video, stage, step"):
        predictor.features(clip, "clip")
    lost = predictor.predict(b"no video at all")
    assert (lost.status, lost.tracks) == ("unreadable", ())


def test_features_are_those_of_the_model(predictor, clip, frames):
    track = predictor.features(clip).tracks[0]
    windows = transforms.resize_square(frames, 32)[track.span.frames]
    model = predictor.model
    with torch.inference_mode():
        pixels = transforms.normalize(transforms.to_float(torch.from_numpy(windows)))
        wanted = model.forward_features(pixels).numpy()
        stages = model.encode(model.embed(pixels)).stages
    np.testing.assert_allclose(track.values, wanted, atol=1e-5)
    assert track.seconds.shape == (len(wanted), 2)
    by_stage = predictor.features(frames, "stage").tracks[0].values
    assert by_stage.shape == (len(wanted), 3, model.embed_dim)
    np.testing.assert_allclose(by_stage[:, 1], stages[1].mean(1).numpy(), atol=1e-5)
    by_step = predictor.features(frames, "step").tracks[0].values
    assert by_step.shape == (len(wanted), model.summary_steps, model.embed_dim)
    np.testing.assert_allclose(by_step.mean(1), wanted, atol=0.5)  # the norm comes before the mean
    both = list(predictor.features_many([frames, clip]))
    np.testing.assert_allclose(both[0].tracks[0].values, both[1].tracks[0].values, atol=1e-5)
