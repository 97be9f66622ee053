"""Pre-training recipes side by side: cells, tables, kept probes."""

import csv
import json

import numpy as np
import pytest
import torch

from svfap import models
from svfap.engine import probe_table
from svfap.engine.probe import command as probe_command
from svfap.engine.probe_table import Cell, find_recipes, format_table, scores_of
from svfap.preprocess import synthetic_images
from tests.lab_trees import write_drawn

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


@pytest.fixture
def drawn(tmp_path):
    write_drawn(tmp_path / "drawn")
    return tmp_path / "drawn"


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
    both = table("--attentive")
    assert "| plain, linear " in both and "| plain, attentive " in both
    assert table("--format", "csv").startswith("recipe,seeds,who F1,who F1 ±,")
    picture = tmp_path / "pictures" / "tsne.png"
    argv = [str(weights), "--data_path", str(tmp_path / "images/identity"), "--tsne", str(picture)]
    assert probe_command.main([*argv, "--", "--device", "cpu", "--num_workers", "0"]) == 0
    assert picture.stat().st_size > 1000
    assert probe_table.main([str(tmp_path / "runs"), "--probe", "who"]) == 1
    assert "give NAME=DIR" in capsys.readouterr().err
