"""Commands killed at random moments and started again end with what they would have made at once.

    .venv/bin/python -m pytest -m slow tests/faults

FAULT_KILLS is the number of kills (default 50), FAULT_SEED draws other moments.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.commands import GOES_ON, SEED, Running, make_data
from tests.faults.same import differences

KILLS = int(os.environ.get("FAULT_KILLS", "50"))
COMMANDS = ("pretraining", "finetuning", "packing", "faces", "crossval")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


def undisturbed(name: str, data: Path, out: Path) -> tuple[Path, float]:
    """What a command makes in a folder that is the same for all, and in how many seconds."""
    running = Running(name, data, out)
    assert running.end() == 0, running.said
    return out.rename(out.with_name("whole")), running.seconds


def disturb(name: str, data: Path, folder: Path, kills: int) -> dict[str, int]:
    """Kill a command again and again; returns how often what happened."""
    rng, out = random.Random(f"{SEED} {name}"), folder / "out"
    whole, seconds = undisturbed(name, data, out)
    counts = {"killed": 0, "stopped": 0, "ended": 0}
    while True:
        running = Running(name, data, out)
        how = rng.choice(("killed", "stopped"))
        moment = rng.uniform(0.02, 1.0) * seconds
        if sum(counts.values()) - counts["ended"] < kills:
            running.process.join(moment)
        if running.process.is_alive() and sum(counts.values()) - counts["ended"] < kills:
            running.kill() if how == "killed" else running.stop()
            counts[how] += 1
        status = running.end()
        said = running.said
        assert "Traceback" not in said, f"{counts}: {said}"
        assert status in (0, GOES_ON, -9, -15), f"{counts}: status {status}: {said}"
        if status:
            continue
        counts["ended"] += 1
        found = differences(whole, out)
        assert not found, f"{found}: {counts}: {said}"
        shutil.rmtree(out)
        if counts["killed"] + counts["stopped"] >= kills:
            return counts


@pytest.mark.parametrize("name", ("pretraining", "faces"))
def test_killed_twice(name, data, tmp_path):
    disturb(name, data, tmp_path, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_killed_command(number):
    code = "import os, time; from preprocess.shared.workers import worker_pool\n"
    code += "if __name__ == '__main__':\n"
    code += "    pool = worker_pool(1); print(pool.submit(os.getpid).result(), flush=True)\n"
    code += "    time.sleep(60)"
    command = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    worker = Path(f"/proc/{int(command.stdout.readline())}/cmdline")
    command.send_signal(number)
    command.wait()
    begun = time.monotonic()
    while worker.exists() and worker.read_bytes():  # a dead one nobody waits for has none
        assert time.monotonic() - begun < 20
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_many_times(name, data, tmp_path):
    counts = disturb(name, data, tmp_path, -(-KILLS // len(COMMANDS)))
    print(f"{name}: {counts}")
