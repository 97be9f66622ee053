"""Runs that go on: with what they were begun with and nothing else, to their very end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from svfap.engine import assembly, loop
from svfap.engine.runtime import checkpoint, lock, rundir
from svfap.engine.runtime.stopping import StoppedBySignalError
from tests.conftest import ROOT
from tests.test_runs import log_lines, pretrain_argv, run_finetuning, run_pretraining, weights
from tests.tiny_data import FINETUNE_FLAGS


def finetune_argv(data, out, *more):
    return [*FINETUNE_FLAGS, "--data_path", str(data / "fold"), "--output_dir", str(out),
            "--epochs", "1", "--warmup_epochs", "0", *more]  # fmt: skip


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """A pre-training run of two epochs, undisturbed."""
    out = tmp_path_factory.mktemp("pretrained")
    run_pretraining(pretrain_argv(data, out, "--save_ckpt_freq", "1"))
    return out


@pytest.fixture(scope="module")
def finetuned(data, pretrained, tmp_path_factory):
    """A fine-tuning run of one epoch from these weights, undisturbed."""
    out = tmp_path_factory.mktemp("finetuned")
    run_finetuning(finetune_argv(data, out, "--finetune", str(pretrained / checkpoint.LAST)))
    return out


@pytest.fixture
def argv(data, pretrained, run):
    """The command that made the run."""
    return finetune_argv(data, run, "--finetune", str(pretrained / checkpoint.LAST))


@pytest.fixture
def fold(data, tmp_path):
    """The fold in a folder of its own."""
    return Path(shutil.copytree(data / "fold", tmp_path / "other"))


@pytest.fixture
def run(finetuned, tmp_path):
    """The finished run in a folder of its own."""
    return Path(shutil.copytree(finetuned, tmp_path / "run"))


# ---------------------------------------------------------------- with something else


CHANGES = {
    "labels": lambda rows: [f"{row[:-1]}{1 - int(row[-1])}" for row in rows],
    "order": lambda rows: rows[::-1],
    "number": lambda rows: rows[1:],
}


def change(fold, part, what):
    path = fold / f"{part}.csv"
    path.write_text("".join(f"{row}\n" for row in CHANGES[what](path.read_text().splitlines())))


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("what", list(CHANGES))
def test_other_videos_or_labels_are_refused_and_named(run, fold, argv, what, part):
    """Another fold, a replaced file: whatever the list of videos of a part has become."""
    before = contents(run)
    change(fold, part, what)
    argv[argv.index("--data_path") + 1] = str(fold)
    with pytest.raises(ValueError, match=f"{part} was .* videos of .*, is .*{fold}/{part}.csv"):
        run_finetuning(argv)
    (run / "finished.json").unlink()
    (run / "metrics.json").unlink()
    with pytest.raises(ValueError, match=f"{part} was"):
        run_finetuning(argv)
    assert {name: before[name] for name in contents(run)} == contents(run)


def test_other_weights_are_refused_whatever_the_file_is_called(data, pretrained, run, tmp_path):
    own = pretrained / checkpoint.LAST
    with pytest.raises(ValueError, match=f"--finetune was {own}, is none"):
        run_finetuning(finetune_argv(data, run))
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        run_finetuning(finetune_argv(data, run, "--finetune", str(tmp_path / "gone.pth")))
    content = torch.load(own, weights_only=True)
    content["model"]["encoder.norm.weight"] *= 1.5
    other = tmp_path / "other.pth"
    torch.save(content, other)
    with pytest.raises(ValueError, match=f"--finetune was {own}, is {other}"):
        run_finetuning(finetune_argv(data, run, "--finetune", str(other)))
    config = json.loads((run / "config.json").read_text())
    assert config["flags"]["finetune"] == str(own)


def test_moved_data_and_weights_go_on(data, pretrained, finetuned, tmp_path):
    """Absolute paths in the lists, so a move rewrites them; the digest leaves folders out."""
    place = tmp_path / "moved"
    shutil.copytree(data, place)
    for path in place.rglob("*.csv"):
        path.write_text(path.read_text().replace(str(data), str(place)))
    start = str(shutil.copy(pretrained / checkpoint.LAST, tmp_path / "start.pth"))
    run = tmp_path / "run"
    shutil.copytree(finetuned, run)
    first = (run / "config.json").read_bytes()
    before = weights(run)
    (run / "finished.json").unlink()
    metrics = json.loads((run / "metrics.json").read_text())
    again = run_finetuning(finetune_argv(place, run, "--finetune", start))
    assert again["confusion_matrix"] == metrics["confusion_matrix"]
    assert all(torch.equal(before[name], value) for name, value in weights(run).items())
    assert (run / "config.json").read_bytes() == first


def test_weights_that_are_gone_since_are_those_the_run_was_begun_with(data, tmp_path, pretrained):
    start = str(shutil.copy(pretrained / checkpoint.LAST, tmp_path / "start.pth"))
    argv = finetune_argv(data, tmp_path / "run", "--finetune", start, "--max_steps", "1")
    run_finetuning(argv)
    Path(start).unlink()
    run_finetuning(argv[:-2])
    assert len(log_lines(tmp_path / "run")) == 1


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--test_num_segment", "3"), ("--test_weights", "best"), ("--val_metric", "war"),
     ("--reader", "decord"), ("--disable_eval_during_finetuning", None), ("--smoothing", "0.2")],
)  # fmt: skip
def test_flags_that_decide_a_result_have_to_stay(argv, flag, value):
    with pytest.raises(ValueError, match=f"{flag} was .*, is {value or True}"):
        run_finetuning([*argv, *filter(None, (flag, value))])


def test_flags_that_are_gone_do_not_matter_unless_they_were_used(data, pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    for value in (None, [8]):
        gone = {"short_clip_frames": value, "short_clip_epochs": value}
        flags = config["origin"]["flags"] | gone
        (run / "config.json").write_text(
            json.dumps(config | {"origin": config["origin"] | {"flags": flags}})
        )
        if value is None:
            run_pretraining(pretrain_argv(data, run, "--save_ckpt_freq", "1"))
    with pytest.raises(ValueError, match=r"--short_clip_frames was \[8\], and is gone"):
        run_pretraining(pretrain_argv(data, run, "--save_ckpt_freq", "1"))


def test_flags_that_decide_nothing_may_change(data, pretrained, run):
    more = ["--finetune", str(pretrained / checkpoint.LAST), "--print_freq", "1"]
    more += ["--save_ckpt_freq", "7", "--max_unreadable", "0.5", "--device", "auto"]
    (run / "metrics.json").unlink()
    smaller = ["--batch_size", "2", "--update_freq", "2"]
    with pytest.raises(ValueError, match="what batch norm .* see, was 4, is 2"):
        run_finetuning(finetune_argv(data, run, *more, *smaller))
    assert run_finetuning(finetune_argv(data, run, *more))["num_videos"] == 5


def test_a_finished_run_is_left_alone_and_a_killed_end_is_made_up_for(run, argv, monkeypatch):
    """Between metrics.json and the last picture."""
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    with monkeypatch.context() as patched:
        reads, whole = [], checkpoint.read
        patched.setattr(checkpoint, "read", lambda path: reads.append(path) or whole(path))
        metrics = run_finetuning(argv)
    assert metrics["num_videos"] == 5
    assert len(reads) == 2  # what it was begun with, and whether it is whole: both take long
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    for name in ("finished.json", "curves.png", "confusion_matrix.png"):
        (run / name).unlink()
    run_finetuning(argv)
    assert (run / "curves.png").is_file() and (run / "confusion_matrix.png").is_file()
    assert (run / "finished.json").is_file()
    with monkeypatch.context() as patched:  # asked for more than was made
        made = []
        patched.setattr("engine.report.page.write_report", made.append)
        argv.remove("--no_report")
        run_finetuning(argv)
        assert made == [run]


def test_a_run_of_an_earlier_version_goes_on_by_its_names(run, fold, argv):
    """It kept neither digests nor a mark of its end."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({"flags": config["flags"]}))
    for path in run.glob("checkpoint-*.pth"):
        content = torch.load(path, weights_only=True)
        del content["origin"], content["position"]["closed"]
        torch.save(content, path)
    (run / "finished.json").unlink()
    with pytest.raises(ValueError, match="--data_path was .*, is .*no digest"):
        run_finetuning([*argv, "--data_path", str(fold)])
    run_finetuning(argv)
    assert "origin" not in json.loads((run / "config.json").read_text())
    assert (run / "finished.json").is_file()


def test_other_pretraining_data_are_refused(data, pretrained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    rows = (data / "pretrain.csv").read_text().splitlines()
    (tmp_path / "pretrain.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(ValueError, match="train was 10 videos of .*, is 9 videos of"):
        run_pretraining(pretrain_argv(tmp_path, run))
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    run_pretraining(pretrain_argv(data, run))
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_results_of_other_videos_stay_out_of_a_runs_directory(data, run, fold, tmp_path):
    change(fold, "test", "number")
    argv = [*finetune_argv(data, run, "--eval"), "--data_path", str(fold)]
    before = contents(run)
    with pytest.raises(ValueError, match="whose test part is 5 videos .* these are 4 of .*another"):
        run_finetuning(argv)
    assert contents(run) == before
    more = ["--resume", str(run / checkpoint.LAST), "--output_dir", str(tmp_path / "elsewhere")]
    assert run_finetuning([*argv, *more])["num_videos"] == 4
    assert run_finetuning(finetune_argv(data, run, "--eval"))["num_videos"] == 5


def test_settings_of_a_start_that_failed_are_forgotten(data, tmp_path):
    """Nothing was made with them."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"origin": {"flags": {"lr": 5.0}, "data": {}}}))
    run_pretraining(pretrain_argv(data, out, "--max_steps", "1"))
    assert json.loads((out / "config.json").read_text())["origin"]["flags"]["lr"] == 0.01


# ---------------------------------------------------------------- which checkpoint


def test_a_later_checkpoint_of_the_same_run_wins_over_resume(data, pretrained, tmp_path):
    out = Path(shutil.copytree(pretrained, tmp_path / "run"))
    first = str(out / "checkpoint-0.pth")
    for resume, auto, found in (
        (first, True, checkpoint.LAST),  # as when a queue starts the same command again
        (first, False, "checkpoint-0.pth"),
        (str(out / checkpoint.LAST), True, checkpoint.LAST),
    ):
        assert rundir.find_checkpoint(str(out), resume, auto) == out / found
    (out / checkpoint.LAST).write_bytes(b"")  # damaged: what its error proposes has to work
    for folder in (out, tmp_path / "new"):
        assert rundir.find_checkpoint(str(folder), first, True) == Path(first)


def test_resume_with_other_data_is_refused_in_fine_tuning(run, fold, argv, tmp_path):
    change(fold, "train", "number")
    more = ["--resume", str(run / checkpoint.LAST), "--output_dir", str(tmp_path / "new")]
    with pytest.raises(ValueError, match="--resume .*train was 6 videos .*--finetune"):
        run_finetuning([*argv, "--data_path", str(fold), *more])
    assert not (tmp_path / "new").exists()


def test_an_epoch_to_begin_with(data, tmp_path):
    run_pretraining(pretrain_argv(data, tmp_path / "run", "--start_epoch", "1"))
    (line,) = log_lines(tmp_path / "run")
    assert line["epoch"] == 1
    content = checkpoint.read(tmp_path / "run" / checkpoint.LAST)
    assert content["position"]["epoch"] == 2


# ---------------------------------------------------------------- to the very end


class KilledError(Exception):
    """Stands for the end of the process."""


def undisturbed_log(pretrained):
    return [(line["epoch"], line["train_loss"]) for line in log_lines(pretrained)]


def same_end(pretrained, out, *names):
    """Whether a run ended like the undisturbed one, and its other checkpoints too."""
    assert undisturbed_log(out) == undisturbed_log(pretrained)
    for name in (checkpoint.LAST, *names):
        assert all(torch.equal(weights(pretrained)[k], v) for k, v in weights(out, name).items())


@pytest.mark.parametrize("steps", [3, 6])
def test_an_epoch_stopped_at_its_last_step_is_closed(
    data, pretrained, tmp_path, monkeypatch, steps
):
    """The last epoch too: 6 steps are the whole run."""
    out, argv = tmp_path / "run", pretrain_argv(data, tmp_path / "run", "--save_every_minutes", "0")
    step, closed = loop.optimizer_step, []

    def signalled(training, batches):
        result = step(training, batches)
        if training.position.epoch * 3 + training.position.step + 1 == steps and not closed:
            closed.append(steps)
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(loop, "optimizer_step", signalled)
    with pytest.raises(StoppedBySignalError):
        run_pretraining(argv)
    assert checkpoint.read(out / checkpoint.LAST)["position"]["closed"] is False
    run_pretraining(argv)
    same_end(pretrained, out, "checkpoint-1.pth")


def test_a_run_that_max_steps_cut_off_goes_on_with_whole_means(data, pretrained, tmp_path):
    out = tmp_path / "run"
    run_pretraining(pretrain_argv(data, out, "--max_steps", "2"))
    (line,) = log_lines(out)
    whole = undisturbed_log(pretrained)
    assert line["epoch"] == 0 and line["train_loss"] != whole[0][1]
    half = weights(out, "checkpoint-0.pth")
    with open(out / "log.jsonl", "a") as file:  # what a kill may leave
        file.write('{"epoch": 1, "tra')
    for name in (".config.json.71.tmp", ".checkpoint-last.pth.71.tmp"):
        (out / name).write_text("half")
    (out / "config.json").write_text("{")
    run_pretraining(pretrain_argv(data, out))
    same_end(pretrained, out)
    assert not list(out.glob(".*"))
    assert json.loads((out / "config.json").read_text())["origin"]
    after = weights(out, "checkpoint-0.pth")
    assert not all(torch.equal(half[k], v) for k, v in after.items())


def test_numbered_checkpoints_survive_a_kill_between_two_files(
    data, pretrained, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    argv = pretrain_argv(data, out, "--save_ckpt_freq", "2")
    write = checkpoint.write_atomically

    def stop(content, path):
        if path.name == checkpoint.LAST and content["position"]["epoch"] == 2:
            raise KilledError
        write(content, path)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_atomically", stop)
        with pytest.raises(KilledError):
            run_pretraining(argv)
    run_pretraining(argv)
    same_end(pretrained, out, "checkpoint-1.pth")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--test_weights", "best", "--disable_eval_during_finetuning"], "best needs a validation"),
        (["--test_weights", "best", "--no_save_ckpt"], "best needs checkpoints"),
        (["--test_weights", "best", "--output_dir", ""], "best needs an --output_dir"),
        (["--test_weights", "ema"], "ema needs --model_ema"),
        (["--val_metric", "ccc"], "--val_metric ccc: this task has .*uar.*war"),
        (["--average_by", "groups"], "--average_by groups needs .*groups.csv"),
    ],
)
def test_what_could_not_be_tested_at_the_end_is_refused_at_the_beginning(
    data, tmp_path, monkeypatch, more, message
):
    monkeypatch.setattr(assembly, "train", lambda *_: pytest.fail("it trains"))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_finetuning(finetune_argv(data, tmp_path / "run", *more))
    assert not (tmp_path / "run").exists()


def test_best_weights_need_a_validation_part(data, fold, tmp_path):
    (fold / "val.csv").unlink()
    argv = [*finetune_argv(data, tmp_path / "run", "--test_weights", "best"), "--data_path",
            str(fold)]  # fmt: skip
    with pytest.raises(ValueError, match="best needs a validation part: a val.csv"):
        run_finetuning(argv)


def test_two_runs_in_one_directory_are_refused(data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    code = "import sys; from pathlib import Path; from engine.runtime.lock import sole_use\n"
    code += "with sole_use(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout.readline() == b"held\n"
    for function, argv in (
        (run_pretraining, pretrain_argv(data, out)),
        (run_finetuning, finetune_argv(data, out)),
    ):
        with pytest.raises(ValueError, match=f"in use by process {holder.pid} on "):
            function(argv)
    assert [path.name for path in out.iterdir()] == [lock.NAME]
    holder.kill()  # the system gives the lock back, the file stays
    holder.wait()
    run_pretraining(pretrain_argv(data, out, "--max_steps", "1"))
    assert not (out / lock.NAME).exists()


@pytest.mark.parametrize(
    ("moment", "number"), [("import", signal.SIGTERM), ("report", signal.SIGINT)]
)
def test_a_signal_ends_a_run_with_75_from_the_first_import_to_the_report(
    data, tmp_path, moment, number
):
    """Where it does not train there is nothing to save."""
    marker = tmp_path / "there"
    place = {"import": "torch", "report": "svfap.engine.report.page"}[moment]
    waiting = (
        "import importlib.abc, pathlib, runpy, sys, time\n"
        "class Slow(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {place!r}:\n"
        f"            pathlib.Path({str(marker)!r}).touch()\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    argv = pretrain_argv(data, tmp_path / "run", "--max_steps", "1")
    argv.remove("--no_report")
    process = subprocess.Popen(
        [sys.executable, "-c", waiting, "run_pretrain.py", *argv], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    begun = time.monotonic()
    while not marker.exists():
        assert process.poll() is None and time.monotonic() - begun < 120
        time.sleep(0.02)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert "the same command goes on" in output and "Traceback" not in output
