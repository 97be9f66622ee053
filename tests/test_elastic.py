"""torchrun starts a run again when one of its processes is killed."""

import os
import signal
from pathlib import Path

import pytest

from tests.test_runs import (
    assert_equal_weights,
    finish,
    log_lines,
    pretrain_argv,
    start,
    wait_for_mid_epoch,
    weights,
)
from tests.tiny_data import make_tiny_data

LIMIT_SECONDS = 900


def worker_of(torchrun, rank):
    """Process number of a worker that a torchrun process has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is not ours
            continue
        if parent == torchrun.pid and f"RANK={rank}".encode() in variables:
            return int(entry.name)
    raise AssertionError(f"torchrun {torchrun.pid} has no worker {rank}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds workers in /proc")
@pytest.mark.parametrize("rank, rendezvous", [(0, ()), (1, ()), (0, ("--standalone",))])
def test_killed_worker_is_started_again_and_the_run_ends_as_if_undisturbed(
    tmp_path, rank, rendezvous
):
    make_tiny_data(tmp_path / "data")
    ways = ("undisturbed", "killed")
    argv = {
        way: pretrain_argv(tmp_path / "data", tmp_path / way, "--epochs", "8", "--batch_size", "2",
                           "--print_freq", "1", "--save_every_minutes", "0")
        for way in ways
    }  # fmt: skip
    status, output = finish(
        start("run_pretrain.py", argv["undisturbed"], processes=2), LIMIT_SECONDS
    )
    assert status == 0, output
    torchrun = start(
        "run_pretrain.py",
        argv["killed"],
        processes=2,
        torchrun=("--max_restarts", "1", *rendezvous),
    )
    wait_for_mid_epoch(torchrun, tmp_path / "killed", epoch=1, timeout_seconds=LIMIT_SECONDS)
    os.kill(worker_of(torchrun, rank), signal.SIGKILL)
    status, output = finish(torchrun, LIMIT_SECONDS)
    assert status == 0 and "resumed from" in output, output
    assert_equal_weights(*(weights(tmp_path / way) for way in ways))
    losses = [[line["train_loss"] for line in log_lines(tmp_path / way)] for way in ways]
    assert losses[0] == losses[1] and len(losses[0]) == 8
    assert not list((tmp_path / "killed").glob(".checkpoint-*"))
