"""`python -m engine.crossval`: train and evaluate the folds of a data set, then one table.

Each fold is a run of `run_finetune.py` in a directory of its own, so it resumes, and a finished one
(it has metrics.json) is left alone. Several of these commands, on one machine or on several that
share a disk, divide the folds among themselves: a fold is claimed by a file that its owner touches.
"""

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.files import write_text
from engine.report.page import write_report
from engine.results.find import find_results
from engine.runtime.errors import STOPPED_STATUS
from engine.runtime.log import set_up_logging
from engine.runtime.programs import split_arguments
from engine.summarize import crossval_table, format_summary

logger = logging.getLogger("engine.crossval")  # also when run as a command, as "__main__"

ROOT = Path(__file__).resolve().parent.parent
CLAIM = "claimed.txt"
POLL_SECONDS = 0.5
STALE_SECONDS = 300.0


@dataclass
class Fold:
    """One fold: its annotations, its run directory, and its process while it runs."""

    name: str
    data_path: Path
    run_dir: Path
    process: subprocess.Popen | None = field(default=None, repr=False)
    slot: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the final metrics are there."""
        return (self.run_dir / "metrics.json").is_file()

    def claim(self) -> bool:
        """Take the fold for this command; False if another one works on it."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.drop_stale_claim()
        path = self.run_dir / CLAIM
        try:
            with open(path, "x") as file:
                file.write(f"{socket.gethostname()} {os.getpid()}\n")
        except FileExistsError:
            return False
        return True

    def drop_stale_claim(self, *, stop_orphans: bool = True) -> None:
        """Remove the claim of a command that has died.

        Args:
            stop_orphans: a process of it that still trains here saves and stops first.
        """
        path = self.run_dir / CLAIM
        stale = _stale_text(path, stop_orphans=stop_orphans)
        if stale is None:
            return
        taken = path.with_name(f"{CLAIM}.{socket.gethostname()}.{os.getpid()}")
        try:
            os.rename(path, taken)  # of several commands that saw it stale, one gets it
            if taken.read_text() != stale:  # ... and it may be another's new claim by now
                os.rename(taken, path)
        except FileNotFoundError:
            return
        taken.unlink(missing_ok=True)

    def note_process(self) -> None:
        """Write which process trains into the claim, for whoever comes after this command."""
        text = f"{socket.gethostname()} {os.getpid()} {self.process.pid}\n"
        (self.run_dir / CLAIM).write_text(text)

    def release(self) -> None:
        """Give the fold back."""
        (self.run_dir / CLAIM).unlink(missing_ok=True)


def _stale_text(path: Path, *, stop_orphans: bool) -> str | None:
    """Text of a claim whose owner has died: its process here, or its touches elsewhere.

    A fold that still trains after the death of the command that started it saves and stops first,
    so that two processes never share a run directory.
    """
    try:
        text = path.read_text()
        host, owner, *process = text.split()
        age = time.time() - path.stat().st_mtime
        owner, processes = int(owner), [int(number) for number in process]
    except (OSError, ValueError):
        return None  # none there; or just being written or removed
    if host != socket.gethostname():
        return text if age > STALE_SECONDS else None
    if _is_alive(owner):
        return None
    if stop_orphans:
        _end_orphans(processes, path.parent)
    return text


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end_orphans(processes: Iterable[int], run_dir: Path) -> None:
    for process in processes:
        if not _trains_in(process, run_dir):
            continue
        logger.info("process %d still trains in %s: it is asked to save and stop", process, run_dir)
        os.kill(process, signal.SIGTERM)
        while _trains_in(process, run_dir):
            time.sleep(POLL_SECONDS)


def _trains_in(process: int, run_dir: Path) -> bool:
    """Whether a process is a run in this directory; numbers of processes are used again."""
    shown = subprocess.run(
        ["ps", "-o", "args=", "-ww", "-p", str(process)],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"--output_dir {run_dir} " in f"{shown.stdout.strip()} "


def find_folds(data_path: Path, names: Sequence[str] | None, output_dir: Path) -> list[Fold]:
    """The folds of a data set: sub-directories of `data_path` that hold a train.csv.

    Args:
        data_path: folder of fold folders, as preprocess writes them ("split01", ...).
        names: fold folders, or their numbers; None takes all.
        output_dir: a run directory per fold is made in it.

    Raises:
        FileNotFoundError: no fold there, or one that was named is missing.
    """
    found = {path.parent.name: path.parent for path in sorted(data_path.glob("*/train.csv"))}
    if not found:
        raise FileNotFoundError(
            f"--data_path {data_path} has no folders with a train.csv; it should be the folder of "
            "the folds (split01, split02, ...)"
        )
    by_number = {name.lstrip("abcdefghijklmnopqrstuvwxyz_-").lstrip("0"): name for name in found}
    chosen = [by_number.get(name, name) for name in names] if names else list(found)
    missing = [name for name in chosen if name not in found]
    if missing:
        raise FileNotFoundError(f"no fold {missing} in {data_path}; there are {list(found)}")
    return [Fold(name, found[name], output_dir / name) for name in chosen]


def run_folds(
    folds: Sequence[Fold], flags: Sequence[str], *, jobs: int, processes: int, devices: int
) -> int:
    """Run every fold that is neither finished nor claimed by another command.

    Args:
        folds: from `find_folds`.
        flags: flags of `run_finetune.py` that all folds share.
        jobs: folds at a time.
        processes: processes of one fold (torchrun if more than 1).
        devices: GPUs to divide among the jobs; 0 leaves the choice to the runs.

    Returns:
        0; or the status of the first fold that failed or was stopped, after which none starts.
    """
    waiting, running, status = list(folds), [], 0
    stop = _StopSignals()
    try:
        while running or (waiting and not status and not stop.received):
            free = sorted(set(range(jobs)) - {fold.slot for fold in running})
            while waiting and free and not status and not stop.received:
                fold = waiting.pop(0)
                if _begin(fold, flags, free[0], processes, devices):
                    free.pop(0)
                    running.append(fold)
            stop.pass_on(running)
            time.sleep(POLL_SECONDS)
            for fold in list(running):
                (fold.run_dir / CLAIM).touch()
                code = fold.process.poll()
                if code is not None:
                    running.remove(fold)
                    fold.release()
                    status = status or _ended(fold, code)
    finally:
        stop.restore()
    return STOPPED_STATUS if stop.received and not status else status


def _begin(fold: Fold, flags: Sequence[str], slot: int, processes: int, devices: int) -> bool:
    if fold.is_finished:
        fold.drop_stale_claim(stop_orphans=False)
        logger.info("%s is finished: left alone", fold.name)
        return False
    if not fold.claim():
        logger.info("%s is being run by another command", fold.name)
        return False
    if fold.is_finished:  # its owner ended between the two looks
        fold.release()
        return False
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        command += [str(processes)]
    command += [str(ROOT / "run_finetune.py"), *flags, "--data_path", str(fold.data_path)]
    command += ["--output_dir", str(fold.run_dir), "--log_dir", str(fold.run_dir)]
    environment = dict(os.environ)
    if devices:
        mine = (str((slot * processes + turn) % devices) for turn in range(processes))
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    log = open(fold.run_dir / "output.log", "a")  # noqa: SIM115 - the child keeps it
    # A session of its own: Ctrl-C reaches this command only, which hands it on.
    fold.process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )
    log.close()
    fold.note_process()
    fold.slot = slot
    logger.info("%s started, see %s", fold.name, fold.run_dir / "output.log")
    return True


def _ended(fold: Fold, code: int) -> int:
    if code == 0:
        logger.info("%s done", fold.name)
        return 0
    if code != STOPPED_STATUS:
        lines = (fold.run_dir / "output.log").read_text(errors="replace").splitlines()[-5:]
        logger.error("%s failed with status %d:\n%s", fold.name, code, "\n".join(lines))
    return code


class _StopSignals:
    """Hands SIGTERM and SIGINT on to the folds that run, once each."""

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.previous = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }

    def _note(self, number: int, frame: object) -> None:
        self.received += 1

    def pass_on(self, folds: Sequence[Fold]) -> None:
        if self.received > self.sent:
            self.sent = self.received
            for fold in folds:
                fold.process.terminate()

    def restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def write_table(folds: Sequence[Fold], output_dir: Path, subjects: str | None) -> str:
    """Write the table of all finished folds as summary.md, .csv and .tex, and report.html.

    Returns:
        The table as Markdown.
    """
    summary = crossval_table(find_results([fold.run_dir for fold in folds]), subjects)
    for ending, style in (("md", "md"), ("csv", "csv"), ("tex", "latex")):
        write_text(output_dir / f"summary.{ending}", format_summary(summary, style))
    write_report(output_dir, subjects)
    return format_summary(summary, "md")


def _own_flags(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m engine.crossval",
        description="Train and evaluate all folds of a data set; the same command resumes.",
        epilog="everything after -- goes to run_finetune.py, the same for every fold",
    )
    parser.add_argument("--data_path", required=True, metavar="DIR", help="folder of the folds")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="a run per fold in it")
    parser.add_argument("--folds", nargs="+", help="folder names or numbers (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="folds at a time, default 1")
    parser.add_argument("--processes", type=int, default=1, help="processes per fold, default 1")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs to divide among the folds")
    parser.add_argument("--subjects", metavar="CSV", help="intervals resample subjects, not videos")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    own, passed_on = split_arguments(arguments)
    flags = _own_flags(own)
    set_up_logging(is_main=True)
    output_dir = Path(flags.output_dir)
    try:
        folds = find_folds(Path(flags.data_path), flags.folds, output_dir)
    except FileNotFoundError as error:
        logger.error("%s", error)
        return 2
    status = run_folds(
        folds, passed_on, jobs=flags.jobs, processes=flags.processes, devices=flags.gpus
    )
    open_folds = [fold.name for fold in folds if not fold.is_finished]
    if open_folds:
        logger.info("no table yet, not finished: %s", ", ".join(open_folds))
        return status
    print(write_table(folds, output_dir, flags.subjects), end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
