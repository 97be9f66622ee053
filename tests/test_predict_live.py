"""Prediction for a camera, on a page and behind a server."""

import importlib.util
import json
import tempfile
import time

import cv2
import numpy as np
import pytest

from svfap.datasets.catalog import get_spec
from svfap.datasets.video.open_video import open_video
from svfap.engine import app
from svfap.engine.predict import webcam
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from tests.conftest import ROOT
from tests.test_predict import NAMES, run, save_checkpoint


class FakeCapture:
    """Forty frames of noise, 200 per second."""

    opened: list = []

    def __init__(self, source):
        self.opened.append(source)
        self.left = 40
        self.numbers = np.random.default_rng(0)

    def isOpened(self):  # noqa: N802
        return self.opened[-1] != 7

    def get(self, what):
        return 0.0

    def read(self):
        time.sleep(0.005)
        self.left -= 1
        return self.left >= 0, self.numbers.integers(0, 255, (48, 800, 3), np.uint8)

    def release(self):
        pass


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint-best.pth")


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return Predictor(checkpoint, PredictionOptions(crop=False), device="cpu", amp="off")


@pytest.fixture
def camera(monkeypatch):
    def no_window(title):
        raise cv2.error("built without windows")

    monkeypatch.setattr(webcam.cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(webcam.cv2, "namedWindow", no_window)
    monkeypatch.setattr(FakeCapture, "opened", [])


def test_a_camera_is_answered_while_it_runs(checkpoint, camera, tmp_path, capsys):
    argv = ["--webcam", "2", "--no_crop", "--fps", "400", "--output_dir", tmp_path / "out"]
    assert run(checkpoint, *argv) == 0
    assert FakeCapture.opened == [2]
    lines = [json.loads(t) for t in (tmp_path / "out" / "webcam.jsonl").read_text().splitlines()]
    assert lines and all(line["status"] == "ok" for line in lines)
    assert set(lines[0]["tracks"][0]["scores"]) == set(NAMES)
    assert min(cv2.imread(str(tmp_path / "out" / "webcam.jpg")).shape[:2]) > 38  # and the answers
    said = capsys.readouterr().out
    assert "opens no windows" in said and f"{len(lines)} answers" in said


def test_a_window_shows_it_and_q_ends(predictor, camera, monkeypatch):
    shown, picture = [], np.zeros((48, 64, 3), np.uint8)
    monkeypatch.setattr(webcam.cv2, "namedWindow", lambda title: None)
    monkeypatch.setattr(webcam.cv2, "imshow", lambda title, picture: shown.append(picture.shape))
    monkeypatch.setattr(webcam.cv2, "waitKey", lambda wait: ord("q"))
    monkeypatch.setattr(FakeCapture, "read", lambda self: (not time.sleep(0.02), picture))
    assert webcam.watch(predictor, "rtsp://camera", None) == 1
    assert (FakeCapture.opened, len(shown)) == (["rtsp://camera"], 1)


def test_a_file_in_place_of_a_camera(predictor, clip):
    camera = webcam.Camera(str(clip), 1.0)
    frames, rate = next(camera.windows())
    camera.close()
    assert 2 <= len(frames) <= 40 and 0 < rate <= 30
    with open_video(clip) as video:
        assert frames.shape[1:] == video.read([0]).shape[1:]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--webcam", "7"], "--webcam 7: no camera or stream can be opened"),
        ([], "give either INPUTs or --webcam"),
        (["a.mp4", "--webcam"], "give either INPUTs or --webcam"),
        (["--webcam", "--timeline", "--output_dir", "x"], "are for files"),
    ],
)
def test_wrong_calls_are_told(checkpoint, camera, argv, words, capsys):
    assert run(checkpoint, *argv, "--no_crop") == 1
    assert words in capsys.readouterr().err


def test_the_page_answers_and_says_what_it_is_not_for(predictor, clip, tmp_path):
    answer = app.make_answer(predictor)
    words, scores, figure = answer(str(clip))
    assert "whole picture: **" in words
    assert set(scores) == set(NAMES)
    assert figure.axes
    assert "first" in answer(None)[0]
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    assert answer(str(tmp_path / "bad.mp4"))[0].startswith("No answer: unreadable")
    assert "work or in education" in app.WHAT_FOR


def test_the_page_is_built_or_says_what_it_needs(predictor, clip, checkpoint, capsys):
    if importlib.util.find_spec("gradio") is None:
        assert app.main([str(checkpoint), "--no_crop", "--device", "cpu"]) == 1
        assert "pip install gradio" in capsys.readouterr().err
        return
    page = app.build_app(predictor)
    kinds = [type(block).__name__ for block in page.blocks.values()]
    assert {"Video", "Label", "Plot", "Button"} <= set(kinds)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        client = pytest.importorskip("gradio_client")
        words, scores, _ = client.Client(address, verbose=False).predict(
            client.handle_file(str(clip)), api_name="/answer"
        )
    finally:
        page.close()
    assert "whole picture" in words
    assert {entry["label"] for entry in scores["confidences"]} == set(NAMES)


def test_the_server_of_the_example(checkpoint, predictor, clip, monkeypatch):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    monkeypatch.setenv("SVFAP_CHECKPOINT", str(checkpoint))
    monkeypatch.setattr("svfap.Predictor", lambda path: predictor, raising=False)
    spec = importlib.util.spec_from_file_location("serve", ROOT / "docs" / "serve.py")
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    with TestClient(serve.app) as client:
        answer = client.post("/predict", content=clip.read_bytes())
        assert answer.status_code == 200
        assert answer.json()["tracks"][0]["scores"].keys() == set(NAMES)
        broken = client.post("/predict", content=b"no video")
        assert broken.status_code == 422 and "no video that can be read" in broken.json()["detail"]
        serve.LARGEST = 10
        assert client.post("/predict", content=clip.read_bytes()).status_code == 413
    assert len((ROOT / "docs" / "serve.py").read_text().splitlines()) < 60


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    cells = json.loads((ROOT / "docs" / "quick_look.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells), "keep outputs out of the repository"
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "quick_look", "exec"), names)
    assert set(names["answer"].tracks[0].answers()) == set(get_spec("DFEW").class_names)
    assert (names["run"] / "report.html").is_file()
