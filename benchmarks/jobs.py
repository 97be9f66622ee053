"""Programs run side by side within a time that is kept whatever happens."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore

OK, NO_TIME = "ok", "not run: no time left"
TAIL_LINES = 3
POLL_SECONDS = 0.05


@dataclass
class Budget:
    """Seconds that are left of a whole."""

    seconds: float  # the whole, from the moment this is made
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left, not below 0."""
        return max(0.0, self.seconds - (time.monotonic() - self.started))

    def part(self, share: float) -> "Budget":
        """A share of what is left, as a budget of its own that begins now."""
        return Budget(self.left * share)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A program to run."""

    name: str  # of the job; its output goes to `<name>.log`
    command: Sequence[str]
    after: Sequence[str] = ()  # jobs that must have succeeded before
    # kill the program (SIGKILL) as soon as this file is there; that is its success
    kill_at: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    status: str  # "ok", or what went wrong, in words
    seconds: float = 0.0
    last_lines: str = ""  # of its output, where it went wrong

    @property
    def is_ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == OK


def run_jobs(
    jobs: Sequence[Job], *, folder: Path, cwd: Path, budget: Budget, side_by_side: int
) -> dict[str, Outcome]:
    """Run jobs, each as soon as those before it are done; what has not ended in time is killed.

    Args:
        jobs: in the order in which they should begin; those in `after` stand before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free, begun = Semaphore(side_by_side), {}

    def carry_out(job: Job) -> Outcome:
        for name in filter(begun.get, job.after):
            if not begun[name].result().is_ok:
                return Outcome(f"not run: {name} did not succeed")
        with free:
            return _run(job, folder, cwd, budget) if budget.left else Outcome(NO_TIME)

    with ThreadPoolExecutor(max(1, len(jobs))) as pool:
        for job in jobs:
            begun[job.name] = pool.submit(carry_out, job)
        try:
            return {name: future.result() for name, future in begun.items()}
        except BaseException:  # such as Ctrl-C: what runs is killed, nothing else begins
            budget.seconds = 0
            raise


def _run(job: Job, folder: Path, cwd: Path, budget: Budget) -> Outcome:
    """One program, in a process group of its own, so that nothing of it is left over."""
    begun, log = time.monotonic(), folder / f"{job.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(job.command), cwd=cwd, stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **job.environment},
        )  # fmt: skip
        status = _watch(process, job, budget)
    seconds = time.monotonic() - begun
    return Outcome(status, seconds, "" if status == OK else _last_lines(log))


def _watch(process: subprocess.Popen, job: Job, budget: Budget) -> str:
    """Wait for the program to end, to reach the point where it is killed, or to run out of time."""
    while process.poll() is None:
        if job.kill_at and job.kill_at.exists():
            _kill(process)
            return OK
        if not budget.left:
            _kill(process)
            return "timed out"
        time.sleep(POLL_SECONDS)
    _kill(process)  # what it may have left behind
    if job.kill_at:
        return f"ended (status {process.returncode}) before it could be killed"
    return OK if process.returncode == 0 else f"failed (status {process.returncode})"


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(line.strip() for line in lines[-TAIL_LINES:])[-600:]
