"""Exported models answer as the model does."""

import json

import numpy as np
import pytest
import torch

from svfap.engine import export
from svfap.engine.predict.predictor import PredictionOptions, Predictor
from tests.model_cases import FINETUNE_NAMES, small_model
from tests.test_predict import save_checkpoint

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
FAMILIES = [name for name in FINETUNE_NAMES if "tiny" in name]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    path = save_checkpoint(tmp_path_factory.mktemp("model") / "a.pth")
    return Predictor(path, PredictionOptions(crop=False), device="cpu", amp="off")


def test_onnx_file_takes_pixels_and_describes_itself(predictor, tmp_path):
    path = tmp_path / "model.onnx"
    assert export.export(predictor, path) <= export.TOLERANCE
    clips = np.random.default_rng(0).integers(0, 255, (1, 16, 32, 32, 3), dtype=np.uint8)
    scores = export.run_onnx(path, clips)
    np.testing.assert_allclose(scores, predictor.scores(clips), atol=1e-5)
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert facts["names"] == ["calm", "glad", "sad"]
    assert facts["sampling_rate"] == 2
    assert list(tmp_path.iterdir()) == [path]


def test_torch_program_takes_any_batch(predictor, tmp_path):
    path = tmp_path / "model.pt2"
    assert export.export(predictor, path, raw=True) <= export.TOLERANCE
    program = torch.export.load(path).module()
    clip = torch.randn(5, 3, 16, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(program(clip), predictor.model(clip), atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_exported(name, tmp_path):
    depth = {"stage_depths": [1, 2, 2]} if "svfap" in name else {"depth": 2}
    model = small_model(name, num_classes=3, **depth).eval()
    example = export.example_clips(model, raw=True, count=2)
    export.write_onnx(model, example, tmp_path / "a.onnx", {}, 18)
    difference = export.largest_difference(model, tmp_path / "a.onnx", raw=True, model=model)
    assert difference <= export.TOLERANCE


@pytest.mark.parametrize(("kind", "ending"), [("frames", ".onnx"), ("heads", ".pt2")])
def test_models_of_frames_and_of_several_heads(kind, ending, tmp_path):
    more = {"task": "regression_frames", "keep_temporal_dim": True}
    if kind == "heads":
        heads = {"mood": ["calm"], "face": ["glad", "sad"]}
        more = {"task": "multihead", "heads": heads, "class_names": list(heads)}
    checkpoint = save_checkpoint(tmp_path / "a.pth", **more)
    predictor = Predictor(checkpoint, PredictionOptions(crop=False), device="cpu", amp="off")
    path = tmp_path / f"model{ending}"
    assert export.export(predictor, path) <= export.TOLERANCE
    clips = np.random.default_rng(0).integers(0, 255, (1, 16, 32, 32, 3), dtype=np.uint8)
    if ending == ".onnx":
        scores = export.run_onnx(path, clips)
    else:
        with torch.inference_mode():
            scores = torch.export.load(path).module()(torch.from_numpy(clips)).numpy()
    np.testing.assert_allclose(scores, predictor.scores(clips), atol=1e-5)
    assert scores.shape == ((1, 16, 3) if kind == "frames" else (1, 3))
    if kind == "heads":
        np.testing.assert_allclose([scores[0, 0], scores[0, 1:].sum()], 1, atol=1e-6)
    described = export.describe(predictor, raw=False)["output"]
    assert described.endswith(", a frame each") == (kind == "frames")


def test_wrong_outputs_are_noticed(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "write_onnx", lambda *arguments: None)
    monkeypatch.setattr(export, "run_onnx", lambda path, clip: np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match="do not use it"):
        export.export(predictor, tmp_path / "model.onnx")


def test_command(tmp_path, capsys):
    checkpoint = save_checkpoint(tmp_path / "a.pth")
    argv = ["--checkpoint", str(checkpoint), "--output"]
    assert export.main([*argv, str(tmp_path / "a.txt")]) == 1
    assert ".onnx, .pt2" in capsys.readouterr().err
    assert export.main([*argv, str(tmp_path / "new" / "a.pt2")]) == 0
    assert "largest difference" in capsys.readouterr().out
