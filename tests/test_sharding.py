"""`--shard`: FSDP2 in two processes trains, saves and evaluates as without."""

import json

import pytest
import torch

from svfap.engine.compute.parallel import check_sharding
from svfap.engine.compute.precision import Precision
from svfap.engine.runtime import checkpoint
from svfap.engine.runtime.distributed import Workers
from tests.test_runs import (
    finetune_argv,
    finish,
    log_lines,
    pretrain_argv,
    run_pretraining,
    start,
)
from tests.tiny_data import make_tiny_data

ALONE = ("--drop_path", "0")
TWO = (*ALONE, "--batch_size", "2")
EMA = ("--model_ema", "--epochs", "3", "--batch_size", "1", "--update_freq", "2",
       "--test_weights", "best")  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of runs "stage_way": plain, sharded, and changed from one to the other in between.

    In "to_plain" and "to_sharded" the plain part is one process with the batches of two.
    """
    folder = tmp_path_factory.mktemp("sharding")
    data = folder / "data"
    fold = make_tiny_data(data)
    classes = {"task": "classification", "class_names": ["right", "down"]}
    (fold / "classes.json").write_text(json.dumps(classes))
    pre = {way: pretrain_argv(data, folder / f"pre_{way}")
           for way in ("plain", "sharded", "to_plain", "to_sharded")}  # fmt: skip
    weights = str(folder / "pre_plain" / checkpoint.LAST)
    fine = {way: finetune_argv(data, folder / f"fine_{way}", *EMA, "--finetune", weights)
            for way in ("plain", "mixed")}  # fmt: skip
    middle = ("--max_steps", "4")
    extras = ("--visualize", "1", "--probe_every", "2", "--probe_path", str(fold))
    in_two = [
        [*pre["plain"], *TWO],
        [*pre["sharded"], *TWO, "--shard", "--use_checkpoint", *extras],
        [*pre["to_plain"], *TWO, "--shard", *middle],
        [*pre["to_sharded"], *TWO, "--shard"],
        fine["plain"],
        [*fine["mixed"], "--shard", "--max_steps", "2"],
        [*fine["mixed"], "--max_steps", "4"],
        [*fine["mixed"], "--shard"],
    ]
    (folder / "runs.json").write_text(json.dumps(in_two))
    run_pretraining([*pre["to_sharded"], *ALONE, *middle])
    argv = ["tests.sharded_runs", str(folder / "runs.json")]
    status, output = finish(start("-m", argv, processes=2), timeout_seconds=1800)
    assert status == 0, output
    run_pretraining([*pre["to_plain"], *ALONE])
    return folder


def contents(folder, stage, way):
    """Last checkpoints of the plain run of a stage and of another."""
    runs = (folder / f"{stage}_{name}" for name in ("plain", way))
    return [torch.load(run / checkpoint.LAST, weights_only=True) for run in runs]


@pytest.mark.parametrize(
    ("stage", "way"),
    [("pre", "sharded"), ("pre", "to_plain"), ("pre", "to_sharded"), ("fine", "mixed")],
)
def test_sharded_runs_end_like_plain_ones(runs, stage, way):
    plain, other = contents(runs, stage, way)
    for part in ("model", "model_ema") if stage == "fine" else ("model",):
        assert list(plain[part]) == list(other[part])
        for name, value in plain[part].items():
            torch.testing.assert_close(other[part][name], value, rtol=1e-5, atol=2e-6, msg=name)
    lines = [log_lines(runs / f"{stage}_{name}")[-1] for name in ("plain", way)]
    for name in {"train_loss", "train_grad_norm", "val_loss"} & set(lines[0]):
        # a run that stopped in mid-epoch has the mean of the steps after that
        if way in ("sharded", "mixed"):
            assert lines[1][name] == pytest.approx(lines[0][name], rel=1e-4), name


def test_files_of_sharded_runs_are_those_of_plain_ones(runs):
    def kinds(value):
        if isinstance(value, torch.Tensor):
            return tuple(value.shape), value.dtype, value.device.type
        if isinstance(value, dict):
            return {key: kinds(part) for key, part in value.items()}
        return [kinds(part) for part in value] if isinstance(value, list) else type(value)

    for stage, way in (("pre", "sharded"), ("fine", "mixed")):
        plain, sharded = contents(runs, stage, way)
        assert plain.keys() == sharded.keys()
        for part in ("model", "model_ema", "optimizer"):
            assert kinds(plain[part]) == kinds(sharded[part]), part


def test_evaluation_pictures_and_probes_of_sharded_runs(runs):
    plain, sharded = (
        json.loads((runs / f"fine_{way}" / "metrics.json").read_text())
        for way in ("plain", "mixed")
    )
    assert plain["weights"] == sharded["weights"] == "best" and plain["num_videos"] == 5
    assert sharded["confusion_matrix"] == plain["confusion_matrix"]
    assert len(list((runs / "pre_sharded" / "reconstructions").glob("*.png"))) == 1
    assert 0 <= log_lines(runs / "pre_sharded")[-1]["probe_linear_uar"] <= 1


def workers(world_size):
    return Workers(rank=0, local_rank=0, world_size=world_size, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("processes", "opt", "dtype", "message"),
    [
        (1, "adamw", None, "torchrun --nproc_per_node"),
        (2, "lamb", None, "--opt lamb with --shard: take one of adamw, sgd"),
        (2, "adamw", torch.float16, "--amp auto means fp16 here"),
    ],
)
def test_what_sharding_cannot_do_is_refused(processes, opt, dtype, message):
    precision = Precision("cuda" if dtype else "cpu", dtype)
    with pytest.raises(ValueError, match=message):
        check_sharding(workers(processes), precision, opt=opt, amp="auto")
