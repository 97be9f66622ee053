"""scripts/train_on.sh: from class folders to a report and the command for prediction."""

import json
import os
import subprocess
import sys

import cv2
import pytest

from tests.clips_drawn import pattern, write_video
from tests.conftest import ROOT

QUICK = ("--max_steps", "2", "--epochs", "1", "--input_size", "32", "--stage_depths", "1", "2", "2",
         "--num_workers", "0", "--device", "cpu")  # fmt: skip


def train_on(folder, out, *more):
    environment = {**os.environ, "VENV": "none", "PYTHON": sys.executable, "FACES": "0",
                   "OUTPUT_DIR": str(out), "OMP_NUM_THREADS": "1"}  # fmt: skip
    return subprocess.run(
        ["bash", ROOT / "scripts" / "train_on.sh", folder, *more],
        cwd=folder.parent, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["videos", pytest.param("pictures", marks=pytest.mark.slow)])
def test_class_folders_become_a_report(tmp_path, kind):
    for name, start in (("bored", 0), ("keen", 100)):
        for n in range(10):
            path = tmp_path / "my clips" / name / f"p{n % 5}_{n:02d}"
            if kind == "videos":
                write_video(path.with_suffix(".mp4"), pattern(start + n))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(f"{path}.png", pattern(start + n)[0])
    done = train_on(tmp_path / "my clips", tmp_path / "out", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 people, 4 to 4 clips each" in done.stderr
    assert "small (12 training clips and a tiny model)" in done.stdout
    assert "than chance" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert "run_predict.py VIDEO --checkpoint" in last and last.endswith("--no_crop")
    run = tmp_path / "out" / "run"
    assert (run / "report.html").is_file()
    config = json.loads((run / "config.json").read_text())
    assert config["resolved"]["preset"]["values"]["mixup"] == 0
    if kind == "pictures":
        again = train_on(tmp_path / "my clips", tmp_path / "out", *QUICK)
        assert again.returncode == 0 and "is finished: left alone" in again.stdout


def test_wrong_folders_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    done = train_on(tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 1 and "no folder" in done.stderr
    for flags, said in (
        (["--weights", "missing.pth"], "--finetune missing.pth does not exist"),
        (["--epoch", "3"], "--epoch, did you mean --epochs?"),
    ):
        done = train_on(tmp_path / "empty", tmp_path / "out", *flags)
        assert done.returncode == 2 and said in done.stderr and "== " not in done.stdout
    done = train_on(tmp_path / "empty", tmp_path / "out")
    assert done.returncode == 1 and "expected one folder per class" in done.stderr + done.stdout
