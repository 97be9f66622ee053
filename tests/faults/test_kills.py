"""Commands killed at random moments until they end leave what undisturbed ones leave.

KILLS=50 (an hour on two cores) is how many kills each kind of command survives; 3 by default.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.runtime import lock
from tests.conftest import ROOT
from tests.tiny_data import FINETUNE_FLAGS, PRETRAIN_FLAGS, make_tiny_data

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "3"))
# What a moment or a machine decides, and nothing else.
TIMES = {"seconds", "clips_per_second", "data_wait", "memory_gib", "saved_at"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten videos: a list without labels, a fold, and two folds."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_data(folder)
    rows = (folder / "pretrain.csv").read_text().splitlines()
    for number in (1, 2):
        fold = folder / "folds" / f"split0{number}"
        fold.mkdir(parents=True)
        test = rows[5 * number - 5 : 5 * number]
        (fold / "test.csv").write_text("\n".join(test) + "\n")
        (fold / "train.csv").write_text("\n".join(row for row in rows if row not in test) + "\n")
    return folder


def pretraining(data: Path, out: Path) -> list[str]:
    flags = [flag for flag in PRETRAIN_FLAGS if flag != "--no_report"]
    return ["run_pretrain.py", *flags, "--data_path", str(data / "pretrain.csv"), "--output_dir",
            str(out), "--save_ckpt_freq", "1", "--visualize", "1", "--save_every_minutes", "0",
            "--num_workers", "1"]  # fmt: skip


def fine_tuning(data: Path, out: Path) -> list[str]:
    flags = [flag for flag in FINETUNE_FLAGS if flag != "--no_report"]
    return ["run_finetune.py", *flags, "--data_path", str(data / "fold"), "--output_dir", str(out),
            "--model_ema", "--test_weights", "best", "--save_every_minutes", "0"]  # fmt: skip


def cross_validation(data: Path, out: Path) -> list[str]:
    return ["-m", "engine.crossval", "--data_path", str(data / "folds"), "--output_dir", str(out),
            "--", *FINETUNE_FLAGS, "--save_every_minutes", "0"]  # fmt: skip


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def kill(process: subprocess.Popen, out: Path) -> None:
    """End a command and what it has started in run directories, at once, as a machine ends."""
    process.kill()
    process.communicate()
    for path in out.rglob(lock.NAME):
        words = path.read_text().split()
        number = int(words[1]) if len(words) > 1 else process.pid
        if number != process.pid and (Path("/proc") / str(number)).exists():
            os.kill(number, 9)
            while (Path("/proc") / str(number)).exists():
                time.sleep(0.05)


def content(path: Path) -> object:
    """What a file says, without times and places; None where it is only of its moment."""
    if path.suffix == ".pth":
        whole = torch.load(path, weights_only=True)
        named = whole["model"] | {
            f"{name}.{key}": value
            for name, state in whole["optimizer"]["state"].items()
            for key, value in state.items()
            if isinstance(value, torch.Tensor)
        }
        return {name: value.numpy().tobytes() for name, value in named.items()}
    if path.name == "log.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    if path.name == "metrics.json":
        return json.loads(path.read_text())
    if path.suffix in (".csv", ".md", ".tex", ".png") and path.parent.name != "figures":
        return path.name if path.name == "curves.png" else path.read_bytes()
    return path.name


def left(out: Path) -> dict[str, object]:
    """The files of a directory and what they say."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(out)): content(path)
        for path in files
        if "tfevents" not in path.name and path.name != "output.log"
    }


@pytest.mark.parametrize("command", [pretraining, fine_tuning, cross_validation])
def test_killed_commands_end_as_undisturbed_ones(data, tmp_path, command):
    begun = time.monotonic()
    whole = start(command(data, tmp_path / "run"))
    output, _ = whole.communicate(timeout=1200)
    assert whole.returncode == 0, output
    duration = time.monotonic() - begun
    expected = left(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "whole")
    moments, kills = random.Random(command.__name__), 0
    while kills < KILLS:
        process = start(command(data, tmp_path / "run"))
        deadline = time.monotonic() + moments.uniform(0, 1.2 * duration)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        if process.poll() is None:
            kill(process, tmp_path / "run")
            kills += 1
            continue
        output, _ = process.communicate()
        assert process.returncode == 0, output
        assert left(tmp_path / "run") == expected
        (tmp_path / "run").rename(tmp_path / f"done{kills}")
    last = start(command(data, tmp_path / "run"))
    output, _ = last.communicate(timeout=1200)
    assert last.returncode == 0, output
    assert left(tmp_path / "run") == expected
