"""Sweeps: grids and proposals, resumed, with settings that fail and files that are wrong."""

import json
import re
from importlib.util import find_spec

import pytest

from svfap.engine import sweep
from svfap.engine.runtime import runs
from svfap.engine.runtime.stopping import STOPPED_STATUS

needs_optuna = pytest.mark.skipif(not find_spec("optuna"), reason="Optuna is absent")


@pytest.fixture
def started(monkeypatch):
    """What was started; a run's best val_uar is 1 - |lr - .3|, lr 9 fails, it stops at "stop"."""
    found = []

    def carry_out(some, *, go_on, **shares):
        assert go_on
        for run in some:
            if run.is_finished:
                continue
            if found and found[-1] == "stop":
                found.pop()
                return STOPPED_STATUS
            words = run.flags
            rate = float(words[words.index("--lr") + 1])
            found.append(words)
            run.run_dir.mkdir(parents=True, exist_ok=True)
            if rate == 9:
                continue
            best = 1 - abs(rate - 0.3)
            lines = [{"epoch": i, "val_uar": best - 0.1 * i, "train_loss": 2} for i in range(2)]
            (run.run_dir / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
            (run.run_dir / "finished.json").write_text("{}")
        return 0

    monkeypatch.setattr(runs, "carry_out", carry_out)
    return found


def write(tmp_path, text: str) -> list[str]:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return [str(path), "--output_dir", str(tmp_path / "out")]


def test_a_grid_is_every_combination_with_the_best_first(tmp_path, started, capsys):
    command = write(
        tmp_path,
        "flags: {epochs: 3, report: false}\ngrid: {lr: [0.1, 0.25, 9], stage_depths: [[1, 1, 1], "
        "[2, 2, 2]]}\n",
    )
    assert sweep.main(command) == 1  # some failed
    assert len(started) == 6
    assert started[0] == ["--epochs", "3", "--no_report", "--lr", "0.1", "--stage_depths", *"111"]
    rows = (tmp_path / "out/sweep.csv").read_text().splitlines()
    assert rows[0] == "lr,stage_depths,val_uar"
    assert (
        rows[1] == '0.25,"[1, 1, 1]",0.9500' and rows[-1].startswith("9,") and "failed" in rows[-1]
    )
    assert "| 0.25" in capsys.readouterr().out
    assert sweep.main(command) == 1
    assert len(started) == 8  # only those that failed again


@needs_optuna
def test_proposals_are_the_same_when_a_search_goes_on(tmp_path, started):
    text = "search: {lr: {low: 0.01, high: 1.0, log: true}}\ntrials: 12\n"
    command = write(tmp_path, text)
    assert sweep.main(command) == 0
    whole = (tmp_path / "out/sweep.csv").read_text()
    assert len(started) == 12 and float(whole.splitlines()[1].split(",")[1]) > 0.9
    again = tmp_path / "again"
    again.mkdir()
    command = write(again, text)
    assert sweep.main([*write(again, text.replace("12", "5"))]) == 0
    started.append("stop")
    assert sweep.main(write(again, text)) == STOPPED_STATUS
    assert sweep.main(command) == 0
    assert (again / "out/sweep.csv").read_text() == whole


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid: {lr: [1]", "not YAML"),
        ("- lr", "entries are stage"),
        ("grids: {lr: [1]}", "'grids', did you mean grid.*entries are"),
        ("grid: {lr: 1}", "expected a list"),
        ("grid: {rl: [1]}", "rl is no flag"),
        ("grid: {layer_decy: [1]}", "did you mean layer_decay"),
        ("grid: {output_dir: [a]}", "output_dir is no flag"),
        ("search: {lr: {low: 1}}", "or low and high"),
        ("grid: {lr: [1]}\nsearch: {lr: [1]}", "either grid or search"),
        ("grid: {lr: [1]}\ntrials: 0", "trials 0"),
        ("stage: probing\ngrid: {lr: [1]}", "probing.*finetuning"),
    ],
)
def test_wrong_files_are_explained(tmp_path, started, capsys, text, words):
    assert sweep.main(write(tmp_path, text)) == 1
    assert not started
    assert re.search(words, capsys.readouterr().err.replace("\n", " "))


def test_a_metric_that_is_not_there_is_named(tmp_path, started, capsys):
    command = write(tmp_path, "grid: {lr: [0.1]}\nmetric: val_ccc\n")
    assert sweep.main(command) == 1
    assert "has no val_ccc, it has epoch, train_loss, val_uar" in capsys.readouterr().err
