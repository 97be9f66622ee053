"""Pre-training recipes side by side: cells, tables, kept probes; frames of the drawn faces."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch

import models
from datasets.classes import read_classes
from engine import probe_table
from engine.probe_table import Cell, find_recipes, format_table, scores_of
from preprocess import synthetic_images
from preprocess.common import PreparationError

SIZES = {"img_size": 16, "num_frames": 2, "depth": 1, "embed_dim": 16, "num_heads": 2}


def test_cell_is_mean_and_students_interval():
    cell = Cell.of([0.1, 0.2, 0.6])
    assert cell.mean == pytest.approx(0.3)
    error = np.std([0.1, 0.2, 0.6], ddof=1) / np.sqrt(3)
    assert cell.half_width == pytest.approx(4.302653 * error)  # t, 2 degrees of freedom
    assert str(cell) == "0.300 ± 0.657"
    assert str(Cell.of([0.25])) == "0.250"


def test_scores_of_both_kinds():
    classes = {"macro_f1": 0.4, "war": 0.5}
    content = {"task": "classification", "features": {"feature": {"linear": classes}}}
    assert scores_of("who", content) == {"who F1": 0.4, "who accuracy": 0.5}
    own = {"valence": {"ccc": 0.1, "rmse": 0.2}, "arousal": {"ccc": 0.3, "rmse": 0.4}}
    linear = {"linear": {"per_dimension": own}}
    content = {"task": "regression", "features": {"feature": linear}}
    assert scores_of("any", content) == {
        "valence CCC": 0.1, "valence RMSE": 0.2, "arousal CCC": 0.3, "arousal RMSE": 0.4,
    }  # fmt: skip


def test_tables():
    table = {"a": {"x": Cell.of([1, 2])}, "b": {"x": Cell.of([3, 3])}}
    text = format_table(table, "md")
    assert "| a      | 1.500 ± 6.353 |" in text
    assert "| b      | 3.000 ± 0.000 |" in text
    assert "mean over 2 seeds" in text
    rows = list(csv.reader(format_table(table, "csv").splitlines()))
    assert rows[0] == ["recipe", "seeds", "x", "x ±"]
    assert rows[2] == ["b", "2", "3.000000", "0.000000"]


def test_recipes_are_found_and_ordered(tmp_path):
    with pytest.raises(ValueError, match="found recipes: none"):
        find_recipes(tmp_path)
    for name in ("b/seed1", "b/seed0", "a/seed0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "checkpoint-last.pth").touch()
    found = find_recipes(tmp_path, ["b", "a"])
    assert list(found) == ["b", "a"]
    assert [path.parent.name for path in found["b"]] == ["seed0", "seed1"]
    with pytest.raises(ValueError, match="no checkpoint-last.pth of c; .*found recipes: a, b"):
        find_recipes(tmp_path, ["a", "c"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Stands for a folder of preprocess.synthetic: 4 people, 2 clips each, 2 folds."""
    root = tmp_path_factory.mktemp("drawn")
    (root / "synthetic.json").write_text("{}")
    labels = root / "dfew/annotation"
    labels.mkdir(parents=True)
    lists = root / "dfew/EmoLabel_DataSplit"
    subjects, rng = ["video_name,subject"], np.random.default_rng(0)
    for number in range(1, 9):
        name = f"{number:05d}"
        folder = root / "dfew/Clip/jpg_256" / name
        folder.mkdir(parents=True)
        for frame in range(1, 11):
            image = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{frame:05d}.jpg"), image)
        valence = np.full(10, 0.1 * number)
        valence[:4] = 0  # weak
        np.savez(labels / f"{name}.npz", valence=valence, arousal=-valence / 2)
        subjects.append(f"{name},p{number % 4}")
    (labels / "subjects.csv").write_text("\n".join(subjects) + "\n")
    for part in ("train", "test"):
        (lists / f"{part}(single-labeled)").mkdir(parents=True)
        for fold in (1, 2):
            inside = [n for n in range(1, 9) if (n % 2 == fold - 1) == (part == "test")]
            text = "".join(f"{n},{1 + n % 2}\n" for n in inside)
            path = lists / f"{part}(single-labeled)" / f"set_{fold}.csv"
            path.write_text("video_name,label\n" + text)
    return root


def lines(path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()]


def test_frames_of_drawn_faces(drawn, tmp_path):
    flags = ["--dataset_dir", str(drawn), "--output_dir", str(tmp_path), "--frames_per_clip", "3"]
    synthetic_images.main(flags)
    test = lines(tmp_path / "expression/split01/test.csv")
    assert [row[1] for row in test] == ["0"] * 12  # clips 2, 4, 6, 8, three frames each
    assert [row[0][-9:-4] for row in test[:3]] == ["00005", "00007", "00010"]  # the strong ones
    values = lines(tmp_path / "valence_arousal/split02/test.csv")
    assert values[3][1:] == ["0.300000", "-0.150000"]
    assert read_classes(tmp_path / "valence_arousal/split02").class_names == ("valence", "arousal")
    train, test = (lines(tmp_path / f"identity/{part}.csv") for part in ("train", "test"))
    clips = [{row[0].split("/")[-2] for row in rows} for rows in (train, test)]
    assert clips == [{"00001", "00002", "00003", "00004"}, {"00005", "00006", "00007", "00008"}]
    assert read_classes(tmp_path / "identity").class_names == ("p0", "p1", "p2", "p3")
    assert {row[1] for row in train} == {row[1] for row in test} == set("0123")


def test_strong_frames_are_spread():
    values = np.zeros((20, 2))
    values[5:15, 0] = -0.9
    assert synthetic_images.strong_frames(values, 3).tolist() == [5, 9, 14]
    assert synthetic_images.strong_frames(values[:7], 4).tolist() == [5, 6]


def test_what_is_missing_is_named(drawn, tmp_path):
    out = ["--output_dir", str(tmp_path / "out")]
    with pytest.raises(PreparationError, match="is not a folder of .*preprocess.synthetic"):
        synthetic_images.main(["--dataset_dir", str(tmp_path), *out])
    frame = drawn / "dfew/Clip/jpg_256/00003/00004.jpg"
    content = frame.read_bytes()
    frame.unlink()
    with pytest.raises(PreparationError, match="00003: 9 frames, 10 in"):
        synthetic_images.main(["--dataset_dir", str(drawn), *out])
    frame.write_bytes(content)


def test_probes_are_kept_and_made_again_for_new_weights(drawn, tmp_path, capsys):
    synthetic_images.main(["--dataset_dir", str(drawn), "--output_dir", str(tmp_path / "images")])
    for seed in range(2):
        torch.manual_seed(seed)
        model = models.create_model("videomae_tiny_patch8_64", num_classes=0, **SIZES)
        folder = tmp_path / f"runs/plain/seed{seed}"
        folder.mkdir(parents=True)
        content = {"model": model.state_dict(), "model_config": model.config}
        torch.save(content, folder / "checkpoint-last.pth")
    flags = [
        str(tmp_path / "runs"),
        "--probe", f"who={tmp_path / 'images/identity'}",
        "--probe", f"affect={tmp_path / 'images/valence_arousal/split01'}",
        "--picture", str(tmp_path / "table.png"), "--device", "cpu", "--num_workers", "0",
    ]  # fmt: skip
    out = tmp_path / "tables" / "table.md"

    def table(*more: str) -> str:
        assert probe_table.main([*flags, "--output", str(out), *more]) == 0
        return out.read_text()

    first = table()
    assert "who accuracy" in first and "arousal RMSE" in first and "| plain" in first
    assert (tmp_path / "table.png").stat().st_size > 1000
    kept = tmp_path / "runs/plain/seed1/probe_who.json"
    content = json.loads(kept.read_text())
    assert content["num_test"] == content["num_train"] == 16
    content["features"]["feature"]["linear"]["war"] = 0.0
    kept.write_text(json.dumps(content))
    assert table() != first  # what is kept was used
    weights = tmp_path / "runs/plain/seed1/checkpoint-last.pth"
    weights.write_bytes(weights.read_bytes())
    assert table() == first
    assert table("--format", "csv").startswith("recipe,seeds,who F1,who F1 ±,")
    assert probe_table.main([str(tmp_path / "runs"), "--probe", "who"]) == 1
    assert "give NAME=DIR" in capsys.readouterr().err
