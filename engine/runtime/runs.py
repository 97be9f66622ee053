"""Several trainings on this machine.

Each has a directory of its own, so it resumes, does nothing where it is finished, and refuses to
go on with other flags or data. One after another they write to the terminal, several at a time to
output.log in their directories.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from svfap.engine.results.find import FINISHED
from svfap.engine.runtime.stopping import STOPPED_STATUS, noted

logger = logging.getLogger(__name__)

COMMAND = ("-m", "svfap")
POLL_SECONDS = 0.5
SHARES = ("jobs", "processes", "gpus")  # flags that say how runs share the machine


@dataclass
class Run:
    """One run: its flags, its directory, and its process while it runs."""

    name: str
    flags: Sequence[str]
    run_dir: Path
    program: str = "finetune"
    process: subprocess.Popen | None = field(default=None, repr=False)
    slot: int = 0
    log: Path | None = None  # where its output goes; None: to this terminal

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.run_dir / FINISHED).is_file()


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line that also says how runs share the machine; see `SHARES`."""
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, default 1")
    parser.add_argument("--processes", type=int, default=1, help="processes per run, default 1")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs to divide among the runs")
    flags = parser.parse_args(arguments)
    for name in ("jobs", "processes"):
        if getattr(flags, name) < 1:
            parser.error(f"--{name} {getattr(flags, name)}: must be at least 1")
    if flags.gpus and flags.gpus < flags.jobs * flags.processes:
        parser.error(
            f"--jobs {flags.jobs} x --processes {flags.processes} need as many --gpus, not "
            f"{flags.gpus}"
        )
    return flags


def carry_out(
    runs: Sequence[Run],
    *,
    jobs: int,
    processes: int,
    gpus: int,
    go_on: bool = False,
) -> int:
    """Carry out all runs; those that are finished find nothing to do.

    Each has so many `processes` (torchrun if more than 1); `gpus` are divided among the jobs, 0
    leaves the choice to the runs. With `go_on` the others start although one has failed.

    Returns 0, or the status of the first run that failed or was stopped, after which none starts.
    """
    waiting, running, status, handed_on = list(runs), [], 0, 0
    with noted() as stop:
        while running or (waiting and not status and not stop.received):
            free = sorted(set(range(jobs)) - {run.slot for run in running})
            while waiting and free and not status and not stop.received:
                run = waiting.pop(0)
                run.log = run.run_dir / "output.log" if jobs > 1 else None
                _begin(run, free.pop(0), processes, gpus)
                running.append(run)
            time.sleep(POLL_SECONDS)
            if stop.count > handed_on:  # each signal once
                handed_on = stop.count
                for run in running:
                    run.process.terminate()
            for run in list(running):
                code = run.process.poll()
                if code is not None:
                    running.remove(run)
                    ended = _ended(run, code, asked=bool(stop.received))
                    if not go_on or ended == STOPPED_STATUS:
                        status = status or ended
    return STOPPED_STATUS if stop.received and not status else status


def _begin(run: Run, slot: int, processes: int, gpus: int) -> None:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        command += [str(processes)]
    command += [*COMMAND, run.program, *run.flags]
    command += ["--output_dir", str(run.run_dir), "--log_dir", str(run.run_dir)]
    environment = dict(os.environ)
    if gpus:
        mine = (str((slot * processes + turn) % gpus) for turn in range(processes))
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    logger.info("%s started%s", run.name, f", see {run.log}" if run.log else "")
    if run.log:
        run.log.parent.mkdir(parents=True, exist_ok=True)
    with open(run.log or os.devnull, "a") as log:  # the child keeps it open
        output = {"stdout": log, "stderr": subprocess.STDOUT} if run.log else {}
        # A session of its own: Ctrl-C reaches this command only, which hands it on.
        run.process = subprocess.Popen(command, env=environment, start_new_session=True, **output)
    run.slot = slot


def _ended(run: Run, code: int, *, asked: bool) -> int:
    """Exit status of a run's process, which may have been asked to stop."""
    if asked and code == -signal.SIGTERM:  # in its first or last instant, when nothing listens
        return STOPPED_STATUS
    if code == 0:
        logger.info("%s done", run.name)
        return 0
    if code != STOPPED_STATUS:
        lines = run.log.read_text(errors="replace").splitlines()[-5:] if run.log else []
        logger.error("%s", "\n".join([f"{run.name} failed with status {code}", *lines]))
    return code if code > 0 else 1
