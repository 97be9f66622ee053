"""Whole runs on tiny videos: resuming, several processes, what a run writes."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from svfap.engine import loop
from svfap.engine.compute import merging
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.pretext.objectives import MaskedReconstruction
from svfap.engine.pretraining import pretrain
from svfap.engine.runtime import checkpoint
from tests.conftest import ROOT
from tests.processes import free_port
from tests.tiny_data import FINETUNE_FLAGS, PRETRAIN_FLAGS


def pretrain_argv(data, out, *more):
    return [*PRETRAIN_FLAGS, "--data_path", str(data / "pretrain.csv"), "--output_dir", str(out),
            *more]  # fmt: skip


def finetune_argv(data, out, *more):
    return [*FINETUNE_FLAGS, "--data_path", str(data / "fold"), "--output_dir", str(out), *more]


def carry_out(stage, flags):
    """A whole run, which leaves the flags as they were given."""
    given = copy.deepcopy(vars(flags))
    try:
        return stage(flags)
    finally:
        assert vars(flags) == given


def run_pretraining(argv):
    carry_out(pretrain, parse_flags(pretraining_parser(), argv))


def run_finetuning(argv):
    return carry_out(finetune, parse_flags(finetuning_parser(), argv))


def weights(out, name=checkpoint.LAST):
    return torch.load(out / name, weights_only=True)["model"]


def log_lines(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def start(program, argv, processes=1, torchrun=()):
    command = [sys.executable, program, *argv]
    if processes > 1:
        command[1:1] = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes),
                        "--master_port", free_port(), *torchrun]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process, timeout_seconds=240):
    output, _ = process.communicate(timeout=timeout_seconds)
    return process.returncode, output


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """A pre-training run of four epochs that nothing interrupts, in a process of its own."""
    out = tmp_path_factory.mktemp("undisturbed")
    status, output = finish(start("run_pretrain.py", pretrain_argv(data, out, "--epochs", "4")))
    assert status == 0, output
    return out


def wait_for_mid_epoch(process, out, *, epoch, timeout_seconds=120):
    """Return once the run has saved a position inside epoch `epoch`."""
    path, begun = out / checkpoint.LAST, time.monotonic()
    while time.monotonic() - begun < timeout_seconds:
        if path.exists():
            position = torch.load(path, weights_only=True)["position"]
            if position["epoch"] >= epoch and position["step"] >= 1:
                return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    raise AssertionError("the run never saved in mid-epoch")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75)])
def test_interrupted_run_ends_bitwise_like_an_undisturbed_one(
    data, undisturbed, tmp_path, number, status
):
    out = tmp_path / "run"
    argv = pretrain_argv(data, out, "--epochs", "4", "--save_every_minutes", "0")
    process = start("run_pretrain.py", argv)
    wait_for_mid_epoch(process, out, epoch=1)
    process.send_signal(number)
    ended, output = finish(process)
    assert ended == status, output
    again, output = finish(start("run_pretrain.py", argv))
    assert again == 0 and "resumed from" in output, output
    assert_equal_weights(weights(out), weights(undisturbed))
    for name in ("epoch", "train_loss", "loss_of_mean", "relative_loss", "feature_rank"):
        logged = [line.get(name) for line in log_lines(out)]
        assert logged == [line.get(name) for line in log_lines(undisturbed)], name
    assert [line["epoch"] for line in log_lines(out)] == [0, 1, 2, 3] and logged[-1] is not None


def test_workers_do_not_change_a_run(data, undisturbed, tmp_path):
    out = tmp_path / "run"
    argv = pretrain_argv(data, out, "--epochs", "4", "--num_workers", "2")
    status, output = finish(start("run_pretrain.py", argv))
    assert status == 0, output
    assert_equal_weights(weights(out), weights(undisturbed))


def test_two_processes_train_like_one_with_the_same_global_batch(data, undisturbed, tmp_path):
    flags = pretrain_argv(data, tmp_path / "two", "--epochs", "4", "--batch_size", "2",
                          "--drop_path", "0")  # fmt: skip
    status, output = finish(start("run_pretrain.py", flags, processes=2))
    assert status == 0, output
    run_pretraining(pretrain_argv(data, tmp_path / "one", "--epochs", "4", "--drop_path", "0"))
    two, one = log_lines(tmp_path / "two"), log_lines(tmp_path / "one")
    np.testing.assert_allclose(
        [line["train_loss"] for line in two], [line["train_loss"] for line in one], rtol=2e-5
    )


def test_accumulated_batches_equal_one_large_batch(data, tmp_path):
    run_pretraining(
        pretrain_argv(data, tmp_path / "a", "--batch_size", "2", "--update_freq", "2",
                      "--drop_path", "0")
    )  # fmt: skip
    run_pretraining(pretrain_argv(data, tmp_path / "b", "--drop_path", "0"))
    np.testing.assert_allclose(
        [line["train_loss"] for line in log_lines(tmp_path / "a")],
        [line["train_loss"] for line in log_lines(tmp_path / "b")],
        rtol=2e-5,
    )


@pytest.mark.parametrize("share", ["1", "0.5"])
def test_merged_batches_and_crops_enlarged_on_the_device_change_no_run(
    data, tmp_path, monkeypatch, share
):
    plain = ["--batch_size", "1", "--update_freq", "4", "--drop_path", "0", "--epochs", "1",
             "--decoder_mask_share", share]  # fmt: skip
    run_pretraining(pretrain_argv(data, tmp_path / "plain", *plain))
    sizes, prepare = [], MaskedReconstruction.prepare

    def noted(objective, batch, draws):
        sizes.append(len(batch["clip"]))
        assert "crop_box" in batch
        return prepare(objective, batch, draws)

    monkeypatch.setattr(MaskedReconstruction, "prepare", noted)
    more = ["--merge_batches", "always", "--resize_on", "device"]
    run_pretraining(pretrain_argv(data, tmp_path / "merged", *plain, *more))
    assert set(sizes) == {4}
    one, other = (weights(tmp_path / way) for way in ("plain", "merged"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=2e-5, msg=name)
    with pytest.raises(ValueError, match="always with --drop_path 0.2.*another run"):
        run_pretraining(pretrain_argv(data, tmp_path / "x", *plain, *more, "--drop_path", "0.2"))


@pytest.mark.parametrize(
    ("how", "memory", "batch"),
    [
        ("auto", 100, (24, 1)), ("auto", 20, (12, 2)), ("auto", 12, (8, 3)), ("auto", 1, (4, 6)),
        ("always", 0, (24, 1)), ("never", 100, (4, 6)),
    ],
)  # fmt: skip
def test_as_many_batches_are_merged_as_memory_holds(monkeypatch, how, memory, batch):
    """A clip of one GiB: 24, 12 or 8 clips have to fit into 80 % of it."""
    monkeypatch.setattr(merging, "_memory_gib", lambda device: memory)
    together = merging.batches_together(
        how, accumulation=6, drop_path=0.0, bytes_for=lambda number: number * 4 * 2**30,
        device=torch.device("cpu"),
    )  # fmt: skip
    assert (4 * together, 6 // together) == batch


def test_two_processes_evaluate_like_one(data, tmp_path):
    metrics = run_finetuning(finetune_argv(data, tmp_path / "run", "--save_feature"))
    argv = finetune_argv(data, tmp_path / "again", "--eval", "--resume",
                         str(tmp_path / "run" / checkpoint.LAST))  # fmt: skip
    status, output = finish(start("run_finetune.py", argv, processes=2))
    assert status == 0, output
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["confusion_matrix"] == metrics["confusion_matrix"]
    assert again["uar"] == metrics["uar"] and again["num_videos"] == 5
    first = (tmp_path / "run" / "pred.csv").read_text().splitlines()
    second = (tmp_path / "again" / "pred.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in first] == [row.split(",")[:3] for row in second]
    scores, others = (
        [[float(v) for v in row.split(",")[3:5]] for row in rows[1:]] for rows in (first, second)
    )
    np.testing.assert_allclose(scores, others, atol=1e-6)
    np.testing.assert_allclose(np.sum(scores, axis=1), 1, atol=1e-6)
    features = np.load(tmp_path / "run" / "features.npz")
    assert features["feature"].shape == (5, 128) and np.isfinite(features["feature"]).all()


@pytest.mark.parametrize(
    "more", [[], pytest.param(["--shard"], marks=pytest.mark.slow)], ids=["replicated", "sharded"]
)
def test_scores_of_two_processes_are_those_of_the_saved_batch_norms(data, tmp_path, more):
    """Of one process with the same global batch, too: every process normalises by all clips."""
    plain = ["--model", "timm/test_resnet", "--input_size", "32", "--num_frames", "2", "--aa",
             "none", "--reprob", "0", "--mixup", "0", "--cutmix", "0", "--lr", "1e-2", "--epochs",
             "2", "--warmup_epochs", "0", "--nb_classes", "2", "--num_workers", "0", "--device",
             "cpu", "--no_report", "--amp", "off", "--sampling_rate", "2",
             "--data_path", str(data / "fold")]  # fmt: skip
    out = tmp_path / "two"
    argv = [*plain, "--batch_size", "3", "--output_dir", str(out), *more]
    status, output = finish(start("run_finetune.py", argv, processes=2))
    assert status == 0, output
    again, one = tmp_path / "again", tmp_path / "one"
    run_finetuning([*plain, "--eval", "--resume", str(out / checkpoint.LAST), "--output_dir",
                    str(again)])  # fmt: skip
    run_finetuning([*plain, "--batch_size", "6", "--output_dir", str(one)])
    scores = [
        [[float(value) for value in row.split(",")[3:5]] for row in rows[1:]]
        for rows in ((run / "pred.csv").read_text().splitlines() for run in (out, again, one))
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    np.testing.assert_allclose(scores[0], scores[2], atol=2e-4)


def test_finetuning_writes_what_the_documentation_promises(data, tmp_path):
    out = tmp_path / "run"
    run_pretraining(pretrain_argv(data, tmp_path / "pre", "--visualize", "2"))
    assert len(list((tmp_path / "pre" / "reconstructions").glob("*.png"))) == 2
    more = ["--finetune", str(tmp_path / "pre" / checkpoint.LAST), "--model_ema", "--log_dir",
            str(out / "board"), "--save_ckpt_freq", "1"]  # fmt: skip
    run_finetuning(finetune_argv(data, out, *more))
    for name in ("config.json", "log.jsonl", "metrics.json", "pred.csv", "checkpoint-0.pth",
                 "checkpoint-1.pth", "checkpoint-last.pth", "checkpoint-best.pth",
                 "confusion_matrix.png", "curves.png"):  # fmt: skip
        assert (out / name).is_file(), name
    assert list((out / "board").glob("events*"))
    line = log_lines(out)[-1]
    assert {"train_loss", "val_loss", "val_uar", "val_war", "train_lr"} <= line.keys()
    config = json.loads((out / "config.json").read_text())
    assert config["flags"]["lr"] == 0.01 and config["versions"]["av"] == av.__version__
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["weights"], metrics["split"], metrics["num_videos"]) == ("last", "test", 5)
    assert metrics["chance"]["level"] == 0.5
    assert metrics["chance"]["better"] == (metrics["chance"]["interval"][0] > 0.5)
    content = checkpoint.read(out / checkpoint.LAST)
    assert content["epoch"] == 2 and content["model_ema"] is not None
    ema_moved = any(
        not torch.equal(content["model_ema"][k], v) for k, v in content["model"].items()
    )
    assert ema_moved


def test_dry_run_prints_the_plan_and_writes_nothing(data, tmp_path):
    out = tmp_path / "run"
    status, output = finish(start("run_pretrain.py", pretrain_argv(data, out, "--dry_run")))
    assert status == 0 and not out.exists()
    for text in ("parameters", "10 in ", "3 per epoch, 2 epochs", "0.000156 at its peak",
                 "4 clips", "GiB per process", str(out)):  # fmt: skip
        assert text in output, text


def test_validation_that_is_the_test_part_is_said(data, tmp_path, caplog):
    fold = tmp_path / "fold"
    fold.mkdir()
    for name in ("train", "test"):
        (fold / f"{name}.csv").write_text((data / "fold" / f"{name}.csv").read_text())
    (fold / "val.csv").write_text((fold / "test.csv").read_text())
    argv = [*FINETUNE_FLAGS, "--data_path", str(fold), "--output_dir", str(tmp_path / "run"),
            "--test_weights", "best"]  # fmt: skip
    metrics = run_finetuning(argv)
    assert any("test part" in note for note in metrics["notes"])


def test_saving_takes_a_twentieth_of_the_time_between_short_epochs():
    """Where writing takes seconds; what is quick, or wanted anyway, is always saved."""
    for save_seconds, since, worth in ((0.0, 0, True), (0.4, 0, True), (2.0, 39, False),
                                       (2.0, 41, True)):  # fmt: skip
        run = SimpleNamespace(saved_at=100.0, save_seconds=save_seconds)
        assert loop._is_worth_saving(run, 100.0 + since) == worth


@pytest.mark.parametrize("flags", [("--save_ckpt_freq", "1"), ("--save_every_minutes", "0"), ()])
def test_a_run_that_writes_slowly_ends_the_same(data, undisturbed, tmp_path, monkeypatch, flags):
    written = []
    monkeypatch.setattr(loop, "QUICK_SAVE_SECONDS", -1)  # nothing is quick,
    monkeypatch.setattr(loop, "SAVING_SHARE", 0.0)  # and no time long enough
    write = checkpoint.write_atomically
    monkeypatch.setattr(
        checkpoint, "write_atomically",
        lambda content, path: (written.append(path.name), write(content, path)),
    )  # fmt: skip
    run_pretraining(pretrain_argv(data, tmp_path, "--epochs", "4", *flags))
    assert_equal_weights(weights(undisturbed), weights(tmp_path))
    count = written.count(checkpoint.LAST)
    assert count >= 4 if flags else count == 1


def test_tiny_models_have_batch_norm_before_the_head_but_in_runs_begun_without(data, tmp_path):
    """Runs of earlier versions have a layer norm and do not say so."""
    run, other = tmp_path / "run", tmp_path / "other"
    argv = finetune_argv(data, run, "--epochs", "1", "--max_steps", "1", "--head_norm")
    run_finetuning([*argv, "layer"])
    content = torch.load(run / checkpoint.LAST, weights_only=True)
    assert content["model_config"].pop("head_norm") == "layer"
    del content["origin"]["model"]["head_norm"], content["origin"]["flags"]["head_norm"]
    torch.save(content, run / checkpoint.LAST)
    (run / "config.json").write_text(json.dumps({"origin": content["origin"]}))
    (run / "finished.json").unlink()
    with pytest.raises(ValueError, match="--head_norm batch: the run .* has layer"):
        run_finetuning([*argv, "batch"])
    run_finetuning([*argv, "auto"])
    assert (run / "finished.json").is_file()

    alone = finetune_argv(data, other, "--epochs", "1", "--max_steps", "1", "--batch_size", "1")
    with pytest.raises(ValueError, match="--batch_size 1: a batch norm"):
        run_finetuning([*alone, "--head_norm", "batch"])
    run_finetuning(finetune_argv(data, other, "--epochs", "1", "--max_steps", "1"))
    assert weights(other)["fc_norm.num_batches_tracked"] == 1
