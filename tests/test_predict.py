"""Prediction: time, windows, answers per face, files, errors."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from matplotlib.text import Text

from svfap import models
from svfap.datasets.augment import transforms
from svfap.datasets.clips.sampling import eval_view_indices
from svfap.datasets.clips.sliding import SlidingClips, SlidingOptions, VideoMessage
from svfap.datasets.clips.timeline import even_frames, frame_times, window_indices
from svfap.datasets.video.open_video import open_video
from svfap.engine.predict import command as predict_command
from svfap.engine.predict import draw as predict_draw
from svfap.engine.predict import predictor as predict
from svfap.engine.predict.files import as_dict
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from svfap.engine.runtime.checkpoint import write_atomically
from tests.face_drawings import BlobDetector, Scene, face_video, write_frames
from tests.tiny_data import write_video

NAMES = ["calm", "glad", "sad"]


def save_checkpoint(path: Path, *, names=NAMES, flags=None, keep_temporal_dim=False, **more):
    torch.manual_seed(0)
    model = models.create_model(
        "svfap_tiny_patch8_64", img_size=32, stage_depths=[1, 2, 2], num_classes=len(names),
        keep_temporal_dim=keep_temporal_dim,
    )  # fmt: skip
    torch.nn.init.normal_(model.head.weight)
    content = {
        "model": model.state_dict(), "model_config": model.config, "class_names": list(names),
        "flags": {"sampling_rate": 2} | (flags or {}),
    }  # fmt: skip
    write_atomically(content | more, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint-best.pth")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A face, two faces, none; 25 frames per second."""
    folder = tmp_path_factory.mktemp("videos")
    one = {i: (100 + i, 90, 24) for i in range(60)}
    two = [dict.fromkeys(range(40), (70, 90, 24)), dict.fromkeys(range(40), (220, 90, 28))]
    face_video(folder / "one.mp4", Scene([one], 60))
    face_video(folder / "two.mp4", Scene(two, 40))
    write_frames(folder / "none", Scene([], 8))
    return folder


@pytest.fixture
def drawn_faces(monkeypatch):
    monkeypatch.setattr(predict, "create_detector", BlobDetector)


def make_predictor(checkpoint, **options):
    return Predictor(checkpoint, PredictionOptions(**options), device="cpu", amp="off")


# ---- time -----------------------------------------------------------------------------------


def test_windows_slide_and_end_with_the_video():
    windows = window_indices(100, 16, 4, 16)
    assert windows.shape == (4, 16)
    assert windows[:, 0].tolist() == [0, 16, 32, 36]
    assert windows[0].tolist() == list(range(0, 64, 4))
    assert windows[-1, -1] == 96


@pytest.mark.parametrize("num_frames", [1, 7, 16, 63, 64, 65, 200])
def test_short_videos_and_the_test_protocol(num_frames):
    views = eval_view_indices(num_frames, 16, 4, 2)
    slid = window_indices(num_frames, 16, 4, 16)
    np.testing.assert_array_equal(slid[[0, -1]], views)
    protocol = window_indices(num_frames, 16, 4, 0)
    np.testing.assert_array_equal(protocol, np.unique(views, axis=0))
    assert slid.max() < num_frames


def test_other_frame_rates_are_brought_to_that_of_training():
    assert even_frames(np.arange(50) / 25, 25.0).tolist() == list(range(50))
    assert even_frames(np.arange(50) / 25.3, 25.0)[:10].tolist() == list(range(10))
    slow = even_frames(np.arange(5) / 12.5, 25.0)
    assert slow.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    fast = even_frames(np.arange(9) / 50, 25.0)
    assert fast.tolist() == [0, 2, 4, 6, 8]
    uneven = even_frames(np.array([0, 0.04, 0.4, 0.44]), 25.0)
    assert uneven.tolist() == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
    assert even_frames(np.arange(5) / 12.5, None).tolist() == [0, 1, 2, 3, 4]
    assert even_frames(np.zeros(1), 25.0).tolist() == [0]


def test_frame_times_come_from_time_stamps(tmp_path):
    stamps = [0, 40, 80, 400, 440]
    with av.open(str(tmp_path / "vfr.mkv"), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), stamp % 256, np.uint8))
            frame.pts, frame.time_base = stamp // 40, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with open_video(tmp_path / "vfr.mkv") as video:
        assert frame_times(video) == pytest.approx(np.array(stamps) / 1000, abs=0.002)


# ---- answers --------------------------------------------------------------------------------


def test_three_lines(checkpoint, videos, drawn_faces):
    predictor = Predictor(checkpoint, device="cpu")
    prediction = predictor.predict(videos / "one.mp4")
    answers = prediction.tracks[0].answers()
    assert list(answers) == NAMES
    assert sum(answers.values()) == pytest.approx(1, abs=1e-5)
    assert prediction.tracks[0].label == max(answers, key=answers.get)


def test_scores_are_those_of_the_model_on_the_test_clips(checkpoint, tmp_path):
    write_video(tmp_path / "a.mp4", num_frames=50, direction=0, seed=0)
    predictor = make_predictor(checkpoint, crop=False, window_stride=0)
    prediction = predictor.predict(tmp_path / "a.mp4")
    with open_video(tmp_path / "a.mp4") as video:
        frames = transforms.resize_square(video.read(range(50)), 32)
    clips = frames[eval_view_indices(50, 16, 2, 2)]
    with torch.inference_mode():
        pixels = transforms.normalize(transforms.to_float(torch.from_numpy(clips)))
        expected = predictor.model(pixels).softmax(-1).mean(0).double().numpy()
    np.testing.assert_allclose(prediction.tracks[0].scores, expected, atol=1e-6)
    assert prediction.tracks[0].seconds[:, 0] == pytest.approx([0, 18 / 25])


def test_every_face_is_a_track(checkpoint, videos, drawn_faces):
    prediction = make_predictor(checkpoint).predict(videos / "two.mp4")
    assert len(prediction.tracks) == 2
    for track in prediction.tracks:
        assert track.span.num_frames == 40
        assert track.window_scores.shape == (2, 3)
    # the crops differ, so do the answers; the larger face is first
    assert not np.allclose(*[track.scores for track in prediction.tracks], atol=1e-5)
    left = [track.span.corners[0, 0, 0] for track in prediction.tracks]
    assert left[0] > left[1]
    largest = make_predictor(checkpoint, faces="largest").predict(videos / "two.mp4")
    assert len(largest.tracks) == 1
    np.testing.assert_allclose(largest.tracks[0].scores, prediction.tracks[0].scores, atol=0.02)


def test_no_face_is_said(checkpoint, videos, drawn_faces):
    prediction = make_predictor(checkpoint).predict(videos / "none")
    assert (prediction.status, prediction.tracks) == ("no_face", ())
    assert prediction.facts.frames_without_face == 8
    whole = make_predictor(checkpoint, crop=False).predict(videos / "none")
    assert (whole.status, len(whole.tracks)) == ("ok", 1)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_many_videos_have_the_answers_of_one_by_one(checkpoint, videos, drawn_faces, batch_size):
    bad = videos.parent / "bad.mp4"
    bad.write_bytes(b"no video")
    paths = [videos / "two.mp4", bad, videos / "none", videos / "one.mp4"]
    predictor = Predictor(checkpoint, device="cpu", amp="off", batch_size=batch_size)
    many = {p.path: p for p in predictor.predict_many(paths)}
    assert {Path(p).name: many[p].status for p in many} == {
        "two.mp4": "ok", "bad.mp4": "unreadable", "none": "no_face", "one.mp4": "ok",
    }  # fmt: skip
    alone = predictor.predict(videos / "one.mp4")
    np.testing.assert_allclose(
        many[str(videos / "one.mp4")].tracks[0].window_scores,
        alone.tracks[0].window_scores,
        atol=1e-6,
    )


def test_workers_give_the_same(checkpoint, tmp_path):
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", num_frames=40, direction=0, seed=number)
    predictor = make_predictor(checkpoint, crop=False)
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    here = {p.path: p.tracks[0].scores for p in predictor.predict_many(paths)}
    there = {p.path: p.tracks[0].scores for p in predictor.predict_many(paths, num_workers=2)}
    assert here.keys() == there.keys()
    for path in here:
        np.testing.assert_allclose(here[path], there[path], atol=1e-6)


def test_a_video_that_breaks_on_the_way_is_not_half_answered(checkpoint, tmp_path):
    folder = tmp_path / "clip"
    write_frames(folder, Scene([], 40))
    (folder / "020.png").write_bytes(b"damaged")
    prediction = make_predictor(checkpoint, crop=False).predict(folder)
    assert (prediction.status, prediction.tracks) == ("unreadable", ())
    assert "020.png" in prediction.facts.note


def test_unforeseen_errors_end_one_video_only(tmp_path):
    class Broken(BlobDetector):
        def detect(self, grey, threshold=0.0):
            raise RuntimeError("boom")

    write_frames(tmp_path / "a", Scene([], 3))
    options = SlidingOptions(clip_frames=16, sampling_rate=1, size=32, window_stride=4)
    (message,) = SlidingClips([str(tmp_path / "a")], options, Broken())
    assert isinstance(message, VideoMessage)
    assert (message.facts.status, message.facts.note) == ("failed", "RuntimeError: boom")


def test_face_window_is_cut_from_crops(checkpoint, videos, drawn_faces):
    options = make_predictor(checkpoint, face_window=(0, 32, 160, 160)).options
    assert options.face_window == (0, 32, 160, 160)
    clips = [
        message.clips
        for window in ((0, 32, 160, 160), (64, 32, 160, 160))
        for message in SlidingClips(
            [str(videos / "one.mp4")],
            SlidingOptions(
                clip_frames=4, sampling_rate=1, size=32, window_stride=0, face_window=window
            ),
            BlobDetector(),
        )
        if not isinstance(message, VideoMessage)
    ]
    assert clips[0].shape == clips[1].shape == (2, 4, 32, 32, 3)
    assert not np.array_equal(*clips)


# ---- checkpoints ----------------------------------------------------------------------------


def test_data_set_decides_crops_and_rate(tmp_path):
    path = save_checkpoint(
        tmp_path / "a.pth", names=list("abcdef"), flags={"data_set": "CREMA-D", "sampling_rate": 1}
    )
    predictor = make_predictor(path, crop=False)
    assert (predictor.options.align, predictor.options.sampling_rate) == ("similarity", 1)
    assert predictor.options.style.side == 2.5
    assert predictor.kind == "classification"


def test_regression_has_values_and_no_label(tmp_path, videos):
    path = save_checkpoint(tmp_path / "a.pth", task="regression")
    (track,) = make_predictor(path, crop=False).predict(videos / "one.mp4").tracks
    assert track.label is None
    assert sum(track.answers().values()) != pytest.approx(1)
    assert (
        "label" not in as_dict(make_predictor(path, crop=False).predict(videos / "none"))["tracks"]
    )


def test_wrong_checkpoints_are_told(tmp_path, checkpoint):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Predictor(tmp_path / "nowhere.pth")
    encoder = models.create_model("pretrain_svfap_tiny_patch8_64")
    write_atomically(
        {"model": encoder.state_dict(), "model_config": encoder.config}, tmp_path / "p"
    )
    with pytest.raises(ValueError, match="without a head"):
        Predictor(tmp_path / "p", PredictionOptions(crop=False))
    with pytest.raises(ValueError, match="3 outputs, but there are 2 names"):
        Predictor(checkpoint, PredictionOptions(crop=False), class_names=["a", "b"])
    with pytest.raises(ValueError, match="averaged"):
        Predictor(checkpoint, PredictionOptions(crop=False), averaged=True)
    model = models.create_model("svfap_tiny_patch8_64", num_classes=7)
    torch.save({"module": model.state_dict()}, tmp_path / "bare.pth")
    bare = Predictor(
        tmp_path / "bare.pth", PredictionOptions(crop=False), device="cpu", data_set="DFEW"
    )
    assert (bare.names[0], bare.model.embed_dim) == ("happy", model.embed_dim)
    torch.save({"model": {"x": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="none of our models"):
        Predictor(tmp_path / "other.pth", PredictionOptions(crop=False))


def test_answers_per_time_step_become_answers_per_frame(tmp_path, videos, capsys):
    path = save_checkpoint(tmp_path / "a.pth", task="regression", keep_temporal_dim=True)
    predictor = make_predictor(path, crop=False)
    (track,) = predictor.predict(videos / "one.mp4").tracks
    assert track.frames.tolist() == list(range(0, 60, 2))
    assert track.frame_scores.shape == (30, 3)
    rows = {frame: [] for frame in track.frames.tolist()}
    with open_video(videos / "one.mp4") as video:
        frames = transforms.resize_square(video.read(range(60)), 32)
    for window in track.span.frames:
        with torch.inference_mode():
            pixels = transforms.normalize(
                transforms.to_float(torch.from_numpy(frames[window])[None])
            )
            outputs = predictor.model(pixels, per_frame=True)[0].numpy()
        for frame, output in zip(window.tolist(), outputs, strict=True):
            rows[frame].append(output)
    expected = np.stack([np.mean(some, 0) for some in rows.values()])
    np.testing.assert_allclose(track.frame_scores, expected, atol=1e-5)
    out = tmp_path / "out"
    assert run(path, videos / "one.mp4", "--no_crop", "--output_dir", out, "--timeline") == 0
    with (out / "one" / "frames.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in table] == track.frames.tolist()
    assert float(table[3]["sad"]) == pytest.approx(track.frame_scores[3, 2], abs=1e-5)


# ---- the command ----------------------------------------------------------------------------


def run(checkpoint, *argv) -> int:
    return predict_command.main(
        [*map(str, argv), "--checkpoint", str(checkpoint), "--device", "cpu", "--num_workers", "0"]
    )


def test_command_writes_everything_and_goes_on(checkpoint, videos, tmp_path, drawn_faces, capsys):
    out = tmp_path / "out"
    argv = [videos, "--output_dir", out, "--annotate", "--timeline"]
    assert run(checkpoint, *argv) == 0
    said = capsys.readouterr().out
    assert "no face in 8 frames" in said
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["video"]).name, row["track"]) for row in rows] == [
        ("one.mp4", "1"), ("two.mp4", "1"), ("two.mp4", "2"), ("none", ""),
    ]  # fmt: skip
    last = [line.split("/")[-1] for line in said.splitlines()[-3:]]
    assert last == [f"{name}.mp4: {row['label']}" for name, row in zip(("one", "two", "two"), rows)]
    content = json.loads((out / "two" / "prediction.json").read_text())
    track = content["tracks"][0]
    assert float(rows[1][track["label"]]) == pytest.approx(track["scores"][track["label"]])
    mean = np.mean([window["scores"] for window in track["windows"]], 0)
    assert mean == pytest.approx(list(track["scores"].values()), abs=1e-5)
    with (out / "two" / "timeline.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == sum(t["num_windows"] for t in content["tracks"])
    with open_video(out / "two" / "annotated.mp4") as video:
        assert video.num_frames == 40
    assert (out / "one" / "timeline.png").stat().st_size > 1000
    before = (out / "predictions.csv").read_text()
    assert run(checkpoint, *argv) == 0
    assert "3 of 3 videos are answered" in capsys.readouterr().out
    assert (out / "predictions.csv").read_text() == before


def test_command_goes_on_where_it_was_killed(checkpoint, videos, tmp_path, drawn_faces):
    out = tmp_path / "out"
    assert run(checkpoint, videos, "--output_dir", out) == 0
    journal = (out / "predictions.jsonl").read_text().splitlines()
    (out / "predictions.jsonl").write_text("\n".join(journal[:2]) + '\n{"stamp": [1')
    assert run(checkpoint, videos, "--output_dir", out) == 0
    with (out / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_command_tells_what_is_wrong(checkpoint, videos, tmp_path, drawn_faces, capsys):
    out = tmp_path / "out"
    assert run(checkpoint, videos / "one.mp4", "--annotate") == 1
    assert "give an --output_dir" in capsys.readouterr().err
    assert run(checkpoint, tmp_path / "nothing") == 1
    assert "no such file" in capsys.readouterr().err
    assert run(checkpoint, videos, "--output_dir", videos / "out") == 1
    assert "lie in one another" in capsys.readouterr().err
    assert run(checkpoint, videos / "one.mp4", "--output_dir", out) == 0
    assert run(checkpoint, videos / "one.mp4", "--output_dir", out, "--window_stride", "3") == 1
    assert "window_stride was 16, is 3" in capsys.readouterr().err
    (tmp_path / "bad.mp4").write_bytes(b"x")
    assert run(checkpoint, tmp_path / "bad.mp4") == 1
    assert "unreadable" in capsys.readouterr().out


def test_answers_that_are_no_numbers_end_the_command(checkpoint, videos, tmp_path, capsys):
    content = models.read_checkpoint(checkpoint)
    content["model"]["head.weight"].fill_(3e38)
    write_atomically(content, tmp_path / "broken.pth")
    out = tmp_path / "out"
    argv = [videos / "one.mp4", "--no_crop", "--output_dir", out]
    assert run(tmp_path / "broken.pth", *argv) == 1
    error = capsys.readouterr().err
    assert f"{videos / 'one.mp4'}: the model answers NaN or infinity" in error
    assert not (out / "one").exists() and not (out / "predictions.csv").exists()


# ---- pictures -------------------------------------------------------------------------------


def test_timeline_shows_every_class(checkpoint, videos, drawn_faces):
    prediction = make_predictor(checkpoint).predict(videos / "two.mp4")
    figure = predict_draw.timeline_figure(prediction)
    frames, panel, _ = figure.axes
    assert len(frames.get_images()) == 1 and figure.get_suptitle() == "two.mp4"
    lines = {line.get_label(): line for line in panel.get_lines() if line.get_label()[0] != "_"}
    assert list(lines) == [*NAMES, "chance"]
    assert not any(text.get_parse_math() for text in figure.findobj(Text))  # drawn by others, too
    assert lines["chance"].get_ydata()[0] == pytest.approx(1 / len(NAMES))
    np.testing.assert_allclose(
        lines[NAMES[1]].get_ydata(), prediction.tracks[0].window_scores[:, 1]
    )
    with pytest.raises(ValueError, match="no face"):
        predict_draw.plot_timeline(make_predictor(checkpoint).predict(videos / "none"), "never.png")


def test_annotated_video_shows_the_box_where_the_face_is(checkpoint, videos, tmp_path, drawn_faces):
    """Above left the video, enlarged; right of it bars, below it the time that the mark is at."""
    prediction = make_predictor(checkpoint).predict(videos / "one.mp4")
    predict_draw.annotate_video(prediction, tmp_path / "a.mp4")
    height, width = prediction.facts.height, prediction.facts.width
    scale = predict_draw.enlargement(height, width)
    with open_video(tmp_path / "a.mp4") as drawn, open_video(videos / "one.mp4") as plain:
        early, frame, late = drawn.read([5, 30, 55])
        assert drawn.num_frames == plain.num_frames
        original = cv2.resize(plain.read([30])[0], None, fx=scale, fy=scale)
    tall, wide = (round(side * scale) // 2 * 2 for side in (height, width))
    assert frame.shape[0] > tall and frame.shape[1] > wide
    changed = np.abs(frame[:tall, :wide].astype(int) - original[:tall, :wide]).max(-1) > 60
    corners = prediction.tracks[0].span.corners[30] * scale
    (x, y), edge = corners.mean(0), corners.astype(int)
    assert changed[int(y), edge[0, 0] - 2 : edge[0, 0] + 3].any()
    assert not changed[int(y), int(x)]
    mark = [int(np.argmax(part[tall + 40 : -30].min((0, 2)))) for part in (early, frame, late)]
    assert mark[0] < mark[1] < mark[2]
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]
