"""Face verification by thresholds of other folds."""

import json

import cv2
import numpy as np
import pytest
import torch

from svfap import models
from svfap.engine import verify_faces
from svfap.engine.verify_faces import Pairs, best_threshold, features_of, read_pairs, verify


def test_threshold_lies_in_the_best_gap():
    similarity = np.array([0.9, 0.8, 0.3, 0.5, 0.2, 0.45])
    same = np.array([True, True, True, False, False, False])
    assert best_threshold(similarity, same) == pytest.approx(0.65)
    assert best_threshold(similarity, ~same) < 0.2 or best_threshold(similarity, ~same) > 0.9
    assert best_threshold(np.array([0.1, 0.2]), np.array([True, True])) < 0.1


def test_threshold_equals_trying_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        similarity = rng.integers(0, 8, 30) / 8
        same = rng.random(30) < 0.3 + 0.5 * similarity
        found = ((similarity > best_threshold(similarity, same)) == same).mean()
        tried = [((similarity > t) == same).mean() for t in np.arange(-0.5, 9) / 8]
        assert found == max(tried)


def test_every_fold_uses_the_thresholds_of_the_others():
    pairs = Pairs(
        folds=["1", "1", "2", "2"], images=[("a", "b")] * 4, same=np.array([1, 0, 1, 0], bool)
    )
    result = verify(np.array([0.9, 0.7, 0.6, 0.1]), pairs)
    # fold 1 at 0.35 (from fold 2): 0.9 right, 0.7 wrong; fold 2 at 0.8: 0.6 wrong, 0.1 right
    assert result["per_fold"]["1"] == {"accuracy": 0.5, "threshold": pytest.approx(0.35)}
    assert result["per_fold"]["2"] == {"accuracy": 0.5, "threshold": pytest.approx(0.8)}
    assert result["accuracy"] == 0.5 and result["half_width"] == 0.0
    assert result["auc"] == 0.75 and result["num_pairs"] == 4
    development = Pairs(folds=["train"] * 2 + ["test"] * 2, images=pairs.images, same=pairs.same)
    result = verify(np.array([0.9, 0.7, 0.6, 0.1]), development)
    assert list(result["per_fold"]) == ["test"] and result["half_width"] is None
    assert result["num_pairs"] == 2


@pytest.fixture
def people(tmp_path):
    """Two images each of six people who differ in where they are bright."""
    rng = np.random.default_rng(0)
    for person in range(6):
        base = cv2.resize(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), (32, 32))
        for number in range(2):
            noise = rng.integers(0, 6, base.shape, dtype=np.uint8)
            cv2.imwrite(str(tmp_path / f"{person}_{number}.png"), base // 2 + noise)
    lines = ["fold,image_a,image_b,same"]
    for person in range(6):
        fold, other = 1 + person % 2, (person + 2) % 6
        for partner, same in ((person, 1), (other, 0)):
            images = f"{tmp_path}/{person}_0.png,{tmp_path}/{partner}_1.png"
            lines.append(f"{fold},{images},{same}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    model = models.create_model("timm/test_resnet", img_size=32, num_classes=0)
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": model.state_dict(), "model_config": model.config}, path)
    return path


def test_command(people, checkpoint, capsys):
    out = people / "results" / "lfw.json"
    flags = [str(checkpoint), "--pairs", str(people / "pairs.csv"), "--device", "cpu"]
    assert verify_faces.main([*flags, "--output", str(out)]) == 0
    assert "of 12 pairs in 2 folds" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["model"] == "timm/test_resnet"
    assert result["accuracy"] >= 0.75  # other pictures of the same pattern are most alike
    assert verify_faces.main([*flags, "--face_window", "0", "0", "99", "9"]) == 1
    assert "does not fit its frames of 32 x 32" in capsys.readouterr().err
    assert verify_faces.main([str(checkpoint), "--pairs", "none.csv"]) == 1
    assert "preprocess.lfw" in capsys.readouterr().err
    (people / "0_0.png").unlink()
    assert verify_faces.main(flags) == 1
    assert "1 of 12 images of" in capsys.readouterr().err


def test_features_are_those_of_the_model(people, checkpoint):
    model = models.create_model("timm/test_resnet", img_size=16, num_frames=2, num_classes=0)
    paths = [str(people / f"{person}_0.png") for person in range(3)]
    cpu = torch.device("cpu")
    found = features_of(model, paths, device=cpu, window=(0, 0, 16, 16), batch_size=2)
    image = cv2.imread(paths[2])[:16, :16, ::-1].astype(np.float32) / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.tensor((image - mean) / std, dtype=torch.float32).permute(2, 0, 1)
    with torch.no_grad():
        expected = model.forward_features(pixels[None, :, None].repeat(1, 1, 2, 1, 1))
    expected = torch.nn.functional.normalize(expected.flatten(1))
    np.testing.assert_allclose(found[2:], expected, atol=1e-5)


def test_wrong_tables(tmp_path):
    path = tmp_path / "pairs.csv"
    for text, message in (
        ("a,b\n", "header"),
        ("fold,image_a,image_b,same\n1,a,b,2\n", "line 2"),
        ("fold,image_a,image_b,same\n1,a,b,1\n", "one fold only"),
        ("fold,image_a,image_b,same\n1,a,b,1\n2,a,b,1\n", "pairs of both kinds"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_pairs(path)
