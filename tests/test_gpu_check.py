"""The check of a GPU keeps its time and its word: tried without one."""

import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check, levers
from benchmarks.gpu_commands import Commands
from benchmarks.jobs import Budget, Job, run_jobs
from svfap.engine.compute.levers import lever_names
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from tests.conftest import ROOT


def python(name, text, **options):
    return Job(name=name, command=[sys.executable, "-c", text], **options)


def run(jobs, folder, seconds=60.0):
    return run_jobs(jobs, folder=folder, cwd=ROOT, budget=Budget(seconds), side_by_side=4)


def test_jobs_run_in_order_and_say_what_became_of_them(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    found = run(
        [
            python("writes", f"open({str(first)!r}, 'w')"),
            python("reads", f"open({str(first)!r})", after=["writes"]),
            python("fails", "print('before'); raise SystemExit(3)"),
            python("depends", "1", after=["fails"]),
            python("depends too", "1", after=["depends", "writes"]),
            python("is killed", f"import time; open({str(second)!r}, 'w'); time.sleep(99)",
                   kill_at=second),
            python("ends early", "1", kill_at=tmp_path / "never"),
        ],
        tmp_path / "logs",
    )  # fmt: skip
    assert {name: outcome.status for name, outcome in found.items()} == {
        "writes": "ok", "reads": "ok", "fails": "failed (status 3)",
        "depends": "not run: fails did not succeed",
        "depends too": "not run: depends did not succeed", "is killed": "ok",
        "ends early": "ended (status 0) before it could be killed",
    }  # fmt: skip
    assert found["fails"].last_lines == "before" and not found["writes"].last_lines
    assert (tmp_path / "logs" / "fails.log").read_text() == "before\n"


def test_the_time_is_kept_whatever_happens(tmp_path):
    """Children of a program, too, are gone."""
    seen, child = tmp_path / "seen", "import time; time.sleep(99)"
    text = (
        f"import subprocess as s, sys; p = s.Popen([sys.executable, '-c', {child!r}]); "
        f"open({str(seen)!r}, 'w').write(str(p.pid)); p.wait()"
    )
    begun = time.monotonic()
    found = run([python("hangs", text), python("late", "1", after=["hangs"])], tmp_path, seconds=2)
    assert time.monotonic() - begun < 20
    assert found["hangs"].status == "timed out"
    command = Path("/proc", seen.read_text(), "cmdline")
    assert not (command.exists() and b"sleep(99)" in command.read_bytes())
    assert found["late"].status.startswith("not run: ")
    assert run([python("late", "1")], tmp_path, seconds=0)["late"].status == "not run: no time left"


def test_an_interruption_ends_all_jobs(tmp_path):
    """Also those that wait for a free place."""
    jobs = [python(f"job{number}", "import time; time.sleep(5)") for number in range(8)]
    begun = time.monotonic()
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run(jobs, tmp_path)
    assert time.monotonic() - begun < 4.5


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--output_dir", str(tmp_path)]) == 1
    assert "sees no CUDA device; use --device cpu" in capsys.readouterr().err


def test_names_are_checked(tmp_path, capsys):
    wrong = ["--output_dir", str(tmp_path), "--device", "cpu", "--only", "draft"]
    assert gpu_check.main(wrong) == 1
    assert "--only draft: choose among tests, draw" in capsys.readouterr().err


def test_commands_stand_after_what_they_need():
    jobs = Commands(ROOT / "nowhere", "cuda").all()
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names) > 35
    for position, job in enumerate(jobs):
        assert set(job.after) <= set(names), job.name
        assert all(isinstance(part, str) for part in job.command), position


def test_the_flags_of_the_commands_and_tables_are_there():
    """A renamed flag is found here and not on the GPU."""
    parsers = {"run_pretrain.py": pretraining_parser(), "run_finetune.py": finetuning_parser()}
    parsed = 0
    for job in Commands(ROOT / "nowhere", "cuda").all():
        program, *arguments = job.command[1:]
        if program in parsers:
            parse_flags(parsers[program], arguments)
            parsed += 1
    assert parsed > 20
    jobs = gpu_check.table_jobs(ROOT, torch.device("cuda"))
    for job in [*jobs, *gpu_check.lever_jobs(ROOT, torch.device("cuda"), 100.0)]:
        module = importlib.import_module(job.command[2])
        module.build_parser().parse_args(job.command[3:])


def rows_of(pretrain, share, ours, store):
    row = {"stage": "pretrain", "tflops": share * 700, "precision": "bfloat16"}
    return {
        "pretrain": [{"stage": "pretrain", "variant": "baseline", "clips_per_second": 9e9},
                     {"stage": "pretrain", "variant": "ours", "clips_per_second": pretrain}],
        "families": [{**row, "model": "videomae_base_patch16_160", "clips_per_second": ours,
                      "share_of_ceiling": share}],
        "peer": [{"compiled": True, "clips_per_second": 1000.0}],
        "loop": [{"case": "store, jpeg q90", "clips_per_second": store},
                 {"case": "batch in memory", "clips_per_second": 100.0}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "short"),
    [((4100.0, 0.4, 3100.0, 96.0), []),
     ((3999.0, 0.34, 2900.0, 94.0), ["pre-training", "share of the ceiling", "transformers'",
                                     "packed store"])],
)  # fmt: skip
def test_the_verdict_names_what_fell_short_and_what_was_not_measured(numbers, short):
    tables = rows_of(*numbers)
    content = {
        "machine": {"commit": "abc", "gpu": "a GPU", "cpu": "", "torch": "2"}, "seconds": 5.0,
        "parts": ["tables"], "tables": tables,
        "outcomes": {"pretrain": {"status": "ok", "seconds": 1.0, "last_lines": ""},
                     "finetune": {"status": "timed out", "seconds": 1.0, "last_lines": "step 3"}},
        "goals": [goal.verdict(tables) for goal in gpu_check.goals()],
    }  # fmt: skip
    lines = gpu_check.fell_short(content)
    assert lines[0] == "finetune: timed out (step 3)"
    missing = [line for line in lines if line.endswith("not measured")]
    assert [line.split(":")[0] for line in missing] == [
        "fine-tuning, 64 clips", "evaluation, 64 videos", "MAE-DFER, pre-training"
    ]  # fmt: skip
    found = [line for line in lines if "expected" in line]
    assert len(found) == len(short) and all(word in line for word, line in zip(short, found))
    text = gpu_check.as_markdown(content)
    assert "commit abc, a GPU" in text and "### pretrain" in text and "not measured" in text


def test_tables_of_an_earlier_check_are_no_result(tmp_path):
    (tmp_path / "pretrain.json").write_text('{"rows": [{"stage": "pretrain"}]}')
    argv = ["--output_dir", str(tmp_path), "--device", "cpu", "--parts", "tables", "--seconds", "0"]
    assert gpu_check.main(argv) == 1
    content = json.loads((tmp_path / "gpu_check.json").read_text())
    assert content["tables"] == {} and len(content["outcomes"]) > 4
    assert {one["status"] for one in content["outcomes"].values()} == {"not run: no time left"}


def test_every_lever_is_changed_by_itself():
    found = levers.variants(torch.device("cuda"), compile_mode="default")
    best = found["as chosen"]
    for name in lever_names():
        word = "without" if getattr(best, name) else "with"
        changed = found[f"{word} {name}"]
        assert [key for key, value in vars(changed).items() if value != vars(best)[key]] == [name]
    assert found["not compiled"].compile_mode is None


def test_levers_that_have_no_time_are_not_measured(tmp_path):
    argv = ["--model", "svfap_tiny_patch8_64", "--device", "cpu", "--batch_size", "1", "--repeats",
            "1", "--seconds", "0", "--output", str(tmp_path / "levers.json")]  # fmt: skip
    rows = levers.main(argv)["rows"]
    assert len(rows) == 1 + len(lever_names())
    assert all(row["clips_per_second"] is None for row in rows)


@pytest.mark.slow
def test_a_part_of_it_on_a_cpu(tmp_path):
    argv = ["--output_dir", str(tmp_path), "--device", "cpu", "--side_by_side", "2", "--only",
            "draw", "list_unlabelled", "list_labelled", "pre", "fine", "evaluate", "killed",
            "resumed", "--seconds", "1200"]  # fmt: skip
    status = gpu_check.main(argv)
    content = json.loads((tmp_path / "gpu_check.json").read_text())
    assert status == 0, gpu_check.fell_short(content)
    assert {"pretrain", "families", "loop", "levers_pretrain"} <= content["tables"].keys()
    assert "Nothing fell short." in (tmp_path / "gpu_check.md").read_text()
