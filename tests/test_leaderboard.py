"""The leader board: its table, its picture, what it measures; and scripts that users run."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from svfap import models
from svfap.engine import leaderboard
from svfap.engine.results.kinds.classes import Classes
from svfap.engine.results.predictions import write_metrics, write_predictions
from tests.conftest import ROOT


def write_result(folder: Path, share: float, *, fold: int, num_videos: int = 70) -> None:
    random = np.random.default_rng(fold)
    labels = np.arange(num_videos) % 7
    wrong = (labels + random.integers(1, 7, num_videos)) % 7
    predicted = np.where(random.random(num_videos) < share, labels, wrong)
    ids = [f"fold{fold}/{index:05}" for index in range(num_videos)]
    found = Classes.from_scores(ids, labels, np.eye(7)[predicted], list("abcdefg"))
    folder.mkdir(parents=True)
    write_predictions(folder / "pred.csv", found)
    write_metrics(folder / "metrics.json", found.metrics(), weights="last", split="test")


@pytest.fixture
def board(tmp_path):
    for name, share, cost in (("small", 0.4, 2e9), ("large", 0.7, 9e10)):
        for fold in (1, 2):
            for place in ("probes/split0{}/linear", "probes/split0{}/knn", "finetuned/split0{}"):
                if (name, fold) != ("small", 2) or "finetuned" not in place:
                    write_result(tmp_path / name / place.format(fold), share, fold=fold)
        content = {"model": f"videomae_{name}", "parameters": 3e6, "multiply_adds": cost,
                   "clips_per_second": 4.5, "measured_on": f"CPU of {name}"}  # fmt: skip
        (tmp_path / name / "cost.json").write_text(json.dumps(content))
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "failed.txt").write_text("cost: error: no weights at x\n")
    return tmp_path


def test_table_picture_and_notes(board, capsys):
    assert leaderboard.main([str(board)]) == 0
    text = (board / "leaderboard.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| small", "| large", "| gone"))]
    assert [row.split()[1] for row in rows] == ["large", "small", "gone"]
    for words in ("gone failed: cost: error: no weights at x", "do not compare them",
                  "fine-tuned: other videos than the 140 of the rest: small (70)",
                  "linear probe UAR"):  # fmt: skip
        assert words in text, words
    assert "attentive" not in text
    table = {row["encoder"]: row for row in csv.DictReader((board / "leaderboard.csv").open())}
    large = {
        name: float(table["large"][f"linear probe UAR{name}"]) for name in ("", " low", " high")
    }
    assert large[" low"] < large[""] < large[" high"] and abs(large[""] - 0.7) < 0.1
    assert table["gone"]["linear probe UAR"] == "" and table["large"]["multiply-adds, G"] == "90.00"
    assert (board / "leaderboard.png").stat().st_size > 5000
    assert leaderboard.main([str(board / "none")]) == 1
    assert "has no encoder" in capsys.readouterr().err


def tiny_weights(path: Path, name: str) -> Path:
    torch.manual_seed(0)
    model = models.create_model(f"pretrain_{name}_tiny_patch8_64", img_size=64, num_frames=8)
    torch.save({"model": model.state_dict(), "model_config": model.config}, path)
    return path


def test_cost_is_counted_and_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(leaderboard, "SECONDS", 0)
    path = tiny_weights(tmp_path / "w.pth", "videomae")
    argv = [str(tmp_path / "board"), "--measure", "tiny", str(path), "--device", "cpu"]
    assert leaderboard.main([*argv, "--batch_size", "1"]) == 0
    cost = json.loads((tmp_path / "board" / "tiny" / "cost.json").read_text())
    assert cost["model"] == "videomae_tiny_patch8_64" and cost["clip"] == [8, 64, 64]
    assert cost["multiply_adds"] > 1e8 and cost["clips_per_second"] > 0


# ---------------------------------------------------------------- the scripts


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Drawn faces: two folds, and the same clips in a folder per class."""
    folder = tmp_path_factory.mktemp("faces")
    python("-m", "preprocess.synthetic", "--num_pretrain_videos", 6, "--num_labelled_videos", 56,
           "--size", 64, "--num_identities", 14, "--num_folds", 2, "--min_frames", 18,
           "--max_frames", 20, "--output_dir", folder)  # fmt: skip
    python("-m", "preprocess.dfew", "--dataset_dir", folder / "dfew", "--output_dir",
           folder / "folds", "--allow_other_counts")  # fmt: skip
    for part in ("train", "test"):
        for line in (folder / "folds" / "split01" / f"{part}.csv").read_text().splitlines():
            path, label = line.split()
            (folder / "classes" / f"class{label}").mkdir(parents=True, exist_ok=True)
            (folder / "classes" / f"class{label}" / Path(path).name).symlink_to(path)
    return folder


def python(*arguments) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, check=True)


def run_script(name, *arguments, status=0, **variables) -> str:
    shared = {"PYTHON": sys.executable, "GPUS": "0", "NUM_WORKERS": "0", "SAMPLING_RATE": "2",
              "BATCH_SIZE": "8", **variables}  # fmt: skip
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / name), *map(str, arguments)],
        env=os.environ | shared, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_wrong_commands_are_explained(tmp_path):
    assert "bash scripts/adapt.sh --videos DIR" in run_script("adapt.sh", status=2)
    words = run_script("adapt.sh", "--videos", tmp_path / "no", "--weights", "x", status=1)
    assert f"no folder {tmp_path}/no" in words
    words = run_script("adapt.sh", "--videos", tmp_path, "--weights", "videomae-bas", status=2)
    assert "did you mean videomae-base?" in words and "crop" not in words
    words = run_script("adapt.sh", "--videos", tmp_path, "--weights", tmp_path / "w", status=1)
    assert "--weights is a file, hf://owner/repo or a name" in words
    assert "did you mean dfew" in run_script("leaderboard.sh", "dfwe", status=1)
    assert "bash scripts/leaderboard.sh DATASET" in run_script("leaderboard.sh", status=2)
    variables = {"OUTPUT_DIR": str(tmp_path / "board"), "PROTOCOLS": ""}
    (tmp_path / "train.csv").touch()
    words = run_script("leaderboard.sh", tmp_path, "a=x.pth", "a=y.pth", status=1, **variables)
    assert "holds results of x.pth, not of y.pth; call it LABEL=y.pth" in words


@pytest.mark.slow
def test_the_leader_board_of_drawn_faces(faces, tmp_path):
    names = [f"{name}={tiny_weights(tmp_path / f'{name}.pth', name)}"
             for name in ("svfap", "maedfer", "videomae")]  # fmt: skip
    variables = {"OUTPUT_DIR": str(tmp_path / "board"),
                 "FINETUNE_FLAGS": "--epochs 1 --warmup_epochs 0 --lr 1e-3"}  # fmt: skip
    argv = ["leaderboard.sh", faces / "folds", f"gone={tmp_path}/none.pth", *names, "--",
            "--nb_classes", "7"]  # fmt: skip
    text = run_script(*argv, status=1, **variables)
    assert "gone failed: cost: error: no weights at" in text
    rows = list(csv.DictReader((tmp_path / "board" / "leaderboard.csv").open()))
    assert {row["encoder"] for row in rows} == {"svfap", "maedfer", "videomae", "gone"}
    for row in rows:
        assert all(row.values()) == (row["encoder"] != "gone")
    before = (tmp_path / "board" / "leaderboard.csv").read_bytes()
    again = run_script(*argv, status=1, **variables)
    assert "probe of" not in again
    assert (tmp_path / "board" / "leaderboard.csv").read_bytes() == before


@pytest.mark.slow
def test_weights_are_adapted_to_videos(faces, tmp_path):
    weights = tiny_weights(tmp_path / "w.pth", "videomae")
    out = tmp_path / "out"
    argv = ["adapt.sh", "--videos", faces / "voxceleb2", "--weights", weights, "--labels",
            faces / "classes", "--output_dir", out, "--", "--visualize", "0"]  # fmt: skip
    variables = {"CROP": "0", "CLIPS": "60", "MASK_RATIO": "0.75", "PROBE_FLAGS": "--device cpu"}
    text = run_script(*argv, **variables)
    assert "| UAR" in text and "after (A) and before (B)" in text
    known = json.loads((out / "run" / "config.json").read_text())["origin"]
    assert known["weights"]["file"] == str(weights)
    assert known["model"]["name"] == "pretrain_videomae_tiny_patch8_64"
    assert "is finished: left alone" in run_script(*argv, **variables)
