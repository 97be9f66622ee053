"""Cross-validation: folds found, divided, killed, and still the same table."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from svfap.engine import crossval
from svfap.engine.crossval import check_folds, find_folds
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.report import page
from svfap.engine.runtime import checkpoint, lock
from tests.conftest import ROOT
from tests.tiny_data import FINETUNE_FLAGS, make_tiny_data

SHARED = [*FINETUNE_FLAGS, "--batch_size", "2", "--save_every_minutes", "0"]
TABLES = ("summary.md", "summary.csv", "summary.tex")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten videos in five folds: each two are tested once."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_data(folder)
    rows = (folder / "pretrain.csv").read_text().splitlines()
    for fold in range(5):
        path = folder / "folds" / f"split{fold + 1:02d}"
        path.mkdir(parents=True)
        test = rows[2 * fold : 2 * fold + 2]
        (path / "test.csv").write_text("\n".join(test) + "\n")
        (path / "train.csv").write_text("\n".join(r for r in rows if r not in test) + "\n")
    return folder / "folds"


def arguments(data: Path, out: Path, *own: str) -> list[str]:
    return ["--data_path", str(data), "--output_dir", str(out), *own, "--", *SHARED]


def start(data: Path, out: Path, *own: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "engine.crossval", *arguments(data, out, *own)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, output
    return output


def wait_for_mid_fold(is_running, run_dir: Path, *, saves: int) -> None:
    """Return once a fold has saved so many times from now on; it does so after every step."""
    path, begun, seen = run_dir / checkpoint.LAST, time.monotonic(), None
    before = path.stat().st_mtime_ns if path.exists() else None
    while saves:
        assert is_running(), "the command ended before it could be killed"
        assert time.monotonic() - begun < 600
        time.sleep(0.005)
        now = path.stat().st_mtime_ns if path.exists() else None
        if now not in (before, seen):
            seen, saves = now, saves - 1
    assert not (run_dir / "metrics.json").exists()


def kill_everything(command: int, run_dir: Path) -> None:
    """End a command and a fold that it runs the way a machine ends: at once."""
    os.kill(command, signal.SIGKILL)
    os.kill(int((run_dir / lock.NAME).read_text().split()[1]), signal.SIGKILL)


def tables(out: Path) -> dict[str, str]:
    return {name: (out / name).read_text() for name in TABLES}


def test_two_folds_killed_in_the_first_one(data, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(page, "write_report", lambda *_: None)  # takes long, tested elsewhere
    groups = crossval.groups_of_runs(find_folds(data, ["1", "2"]), tmp_path / "whole", None, SHARED)
    for [run] in zip(*groups.values()):
        argv = [*run.flags, "--output_dir", str(run.run_dir)]
        finetune(parse_flags(finetuning_parser(), argv))
    crossval.write_tables(groups, tmp_path / "whole", None)
    out = tmp_path / "killed"
    command = multiprocessing.get_context("fork").Process(
        target=crossval.main, args=[arguments(data, out, "--folds", "1", "2")]
    )
    command.start()
    wait_for_mid_fold(command.is_alive, out / "split01", saves=2)
    kill_everything(command.pid, out / "split01")
    command.join()
    assert not (out / "summary.md").exists()
    assert crossval.main(arguments(data, out, "--folds", "1", "2", "--jobs", "2")) == 0
    assert tables(out) == tables(tmp_path / "whole")
    assert tables(out)["summary.md"] in capfd.readouterr().out
    for name in ("split01/pred.csv", "split02/pred.csv"):
        assert (out / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert "resumed from" in (out / "split01" / "output.log").read_text()
    # what is finished is found to be, and not taken for something else
    wanted = ["--folds", "1"]
    other = [*arguments(data, out, *wanted), "--lr", "0.02"]
    assert crossval.main(other) == 1
    shown = "".join(capfd.readouterr())
    assert "--lr was 0.01, is 0.02" in shown and "| split01 |" not in shown


@pytest.mark.slow
def test_five_folds_killed_twice(data, tmp_path):
    finish(start(data, tmp_path / "whole"))
    out = tmp_path / "killed"
    for fold, saves, jobs in (("split02", 2, "2"), ("split04", 6, "1")):
        command = start(data, out, "--jobs", jobs)
        wait_for_mid_fold(lambda: command.poll() is None, out / fold, saves=saves)  # noqa: B023
        kill_everything(command.pid, out / fold)
        command.communicate()
    assert not (out / "summary.md").exists()
    assert "resumed from" in finish(start(data, out))
    assert tables(out) == tables(tmp_path / "whole")
    assert (out / "report.html").stat().st_size < 10_000_000
    rows = [row.split(",")[:2] for row in tables(out)["summary.csv"].splitlines()[1:]]
    folds = [[f"split{fold:02d}", "2"] for fold in range(1, 6)]
    assert rows == [*folds, ["pooled", "10"], ["mean of folds", ""]]
    assert finish(start(data, out)).count("left alone") == 5


@pytest.fixture
def quick_runs(tmp_path, monkeypatch):
    """A stand-in for fine-tuning that takes half a second and notes when it ran."""
    program = tmp_path / "finetune.py"
    program.write_text(
        "import json, os, sys, time\n"
        "from pathlib import Path\n"
        "out = Path(sys.argv[sys.argv.index('--output_dir') + 1])\n"
        "out.mkdir(parents=True, exist_ok=True)\n"
        "begun = time.time()\n"
        "time.sleep(0.5)\n"
        "if out.name in os.environ.get('FAIL', ''):\n"
        "    sys.exit('error: it went wrong')\n"
        "devices = os.environ.get('CUDA_VISIBLE_DEVICES')\n"
        "note = [begun, time.time(), devices, os.getppid()]\n"
        "with open(out / 'noted.jsonl', 'a') as file:\n"
        "    file.write(json.dumps(note) + '\\n')\n"
        "(out / 'finished.json').write_text('{}')\n"
    )
    monkeypatch.setattr(crossval.runs, "COMMAND", [str(program)])
    monkeypatch.setattr(crossval.runs, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(
        crossval, "write_tables", lambda groups, out, _: f"table of {len(groups[out])}\n"
    )


def noted(out: Path) -> dict[str, list]:
    """Begin, end, devices and command of each fold; each ran exactly once."""
    return {
        path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/noted.jsonl"))
    }


def test_jobs_run_at_the_same_time_on_their_own_devices(data, tmp_path, quick_runs, capsys):
    own = ("--jobs", "2", "--gpus", "4")
    assert crossval.main(arguments(data, tmp_path / "runs", *own)) == 0
    assert capsys.readouterr().out.endswith("\ntable of 5\n")
    runs = noted(tmp_path / "runs")
    assert len(runs) == 5 and {run[2] for run in runs.values()} == {"0", "1"}
    for begin, *_ in runs.values():
        at_once = [other for other in runs.values() if other[0] <= begin < other[1]]
        assert len(at_once) <= 2
        assert len({run[2] for run in at_once}) == len(at_once)
    assert runs["split02"][0] < runs["split01"][1]


def test_a_fold_that_fails_ends_the_command_and_is_shown(
    data, tmp_path, quick_runs, monkeypatch, capfd
):
    """Its output is on the terminal; of several at a time its last lines are."""
    out = tmp_path / "runs"
    monkeypatch.setenv("FAIL", "split02")
    assert crossval.main(arguments(data, tmp_path / "two", "--jobs", "2")) == 1
    shown = capfd.readouterr()
    assert "split02 failed with status 1\nerror: it went wrong" in shown.out and not shown.err
    assert crossval.main(arguments(data, out)) == 1
    shown, errors = capfd.readouterr()
    assert "split02 failed with status 1\n" in shown and "error: it went wrong" in errors
    assert "not finished: split02, split03, split04, split05" in shown
    monkeypatch.setenv("FAIL", "")
    assert crossval.main(arguments(data, out, "--folds", "2", "3", "4", "5")) == 0
    assert len(noted(out)) == 5


def test_dry_runs_make_no_table(data, tmp_path, quick_runs, capsys):
    own = ("--folds", "1", "2", "--jobs", "2")
    assert crossval.main([*arguments(data, tmp_path / "runs", *own), "--dry_run"]) == 0
    assert "table" not in capsys.readouterr().out
    assert not [*tmp_path.glob("runs/*.log"), *tmp_path.glob("runs/*/*.log")]


def test_a_directory_in_use_is_named_with_its_user(data, tmp_path, quick_runs, capsys):
    """By another command, or by a fold that outlived its own."""
    out = tmp_path / "runs"
    held = "import time; from pathlib import Path; from engine.runtime.lock import sole_use\n"
    held += f"with sole_use(Path({str(out)!r})):\n    print('held', flush=True); time.sleep(60)"
    out.mkdir()
    user = subprocess.Popen(
        [sys.executable, "-c", held], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert user.stdout.readline() == "held\n"
        assert crossval.main(arguments(data, out)) == 1
        message = capsys.readouterr().err
        assert f"{out} is in use by process {user.pid} on {socket.gethostname()}" in message
    finally:
        user.kill()
        user.wait()
    assert crossval.main(arguments(data, out, "--folds", "1")) == 0
    assert not (out / lock.NAME).exists()


def test_videos_tested_in_two_folds_are_named_before_any_training(data, tmp_path, capsys):
    folds = tmp_path / "folds"
    shutil.copytree(data, folds)
    rows = (data / "split01" / "test.csv").read_text()
    with open(folds / "split03" / "test.csv", "a") as file:
        file.write(rows)
    assert crossval.main(arguments(folds, tmp_path / "runs")) == 2
    shown = capsys.readouterr().out
    assert "split01 and split03: 2, such as " in shown and rows.split()[0] in shown
    assert not (tmp_path / "runs").exists()
    check_folds(find_folds(folds, ["1", "2"]))
    (folds / "split02" / "test.csv").unlink()
    with pytest.raises(FileNotFoundError, match="split02/test.csv"):
        check_folds(find_folds(folds, ["1", "2"]))


def test_folds_are_found_by_name_and_number(data, tmp_path):
    assert list(find_folds(data)) == [f"split{number:02d}" for number in range(1, 6)]
    assert list(find_folds(data, ["3", "split01"])) == [
        "split03",
        "split01",
    ]
    with pytest.raises(FileNotFoundError, match=r"no fold \['7'\].*split05"):
        find_folds(data, ["7"])
    with pytest.raises(FileNotFoundError, match="no folders with a train.csv"):
        find_folds(tmp_path)


def test_wrong_commands_are_explained(data, tmp_path, capsys):
    own = ["--data_path", str(data), "--output_dir", str(tmp_path)]
    for more, text in (
        (["--jobs", "0"], "at least 1"),
        (["--gpus", "1", "--jobs", "2"], "as many"),
    ):
        with pytest.raises(SystemExit):
            crossval.main([*own, *more])
        assert text in capsys.readouterr().err
    assert crossval.main(["--data_path", str(tmp_path), "--output_dir", str(tmp_path)]) == 2


def test_seeds_are_runs_of_their_own_with_one_table(data, tmp_path, capsys, monkeypatch):
    """Mean and spread over seeds; subjects.csv beside the folds decides what is resampled."""
    folds = tmp_path / "folds"
    shutil.copytree(data, folds)
    videos = [row.split()[0] for row in (data / "split01/train.csv").read_text().splitlines()]
    videos += [row.split()[0] for row in (data / "split01/test.csv").read_text().splitlines()]
    lines = [f"{video},{number // 2}" for number, video in enumerate(sorted(videos))]
    (folds / "subjects.csv").write_text("\n".join(["path,subject", *lines]) + "\n")
    started = []

    def carry_out(found, **shares):
        for number, run in enumerate(found):
            started.append((run.name, run.flags[-1]))
            run.run_dir.mkdir(parents=True)
            (run.run_dir / "finished.json").write_text("{}")
            test = (folds / run.run_dir.name / "test.csv").read_text().splitlines()
            rows = [f"{row.split()[0]},{i % 2},{int(number == 3)}" for i, row in enumerate(test)]
            (run.run_dir / "pred.csv").write_text("\n".join(["id,label,pred", *rows]) + "\n")
        return 0

    monkeypatch.setattr(crossval.runs, "carry_out", carry_out)
    monkeypatch.setattr(page, "write_report", lambda *_: None)
    own = ["--data_path", str(folds), "--output_dir", str(tmp_path / "out"), "--folds", "1", "2"]
    own += ["--seeds", "4", "7"]
    assert crossval.main(own) == 0
    assert started == [("seed4/split01", "4"), ("seed4/split02", "4"), ("seed7/split01", "7"),
                       ("seed7/split02", "7")]  # fmt: skip
    shown = (tmp_path / "out/summary.md").read_text()
    assert shown in capsys.readouterr().out
    assert "| mean of seeds |" in shown and "50.00 ± 0.00" in shown and "over subjects" in shown
    assert "| pooled" in (tmp_path / "out/seed4/summary.md").read_text()
    assert crossval.main([*own, "--", "--seed", "1"]) == 2


def test_subjects_are_looked_at_before_any_training(data, tmp_path, caplog):
    videos = check_folds(find_folds(data))
    assert crossval.subjects_file(None, tmp_path, videos) is None
    path = tmp_path / "subjects.csv"
    path.write_text("\n".join(["path,subject", *(f"{video},one" for video in videos)]) + "\n")
    assert crossval.subjects_file(None, tmp_path, videos) is None and "one person" in caplog.text
    with pytest.raises(ValueError, match="one person"):
        crossval.subjects_file(str(path), tmp_path, videos)
    path.write_text(f"path,subject\n{videos[0]},one\n")
    assert crossval.subjects_file(None, tmp_path, videos) is None
    own = ["--data_path", str(data), "--output_dir", str(tmp_path / "out"), "--subjects", str(path)]
    assert crossval.main(own) == 2 and not (tmp_path / "out").exists()
