"""`python -m svfap.engine.crossval`: train and evaluate the folds of a data set, then one table.

Each fold is a run of `run_finetune.py` in a directory of its own, so it resumes, does nothing where
it is finished, and refuses to go on with other flags or data. Folds run on this machine; several
machines take a fold each (`--folds`), for example in an array of SLURM. `{fold}` in the flags after
`--` becomes the name of the fold. One after another they write to the terminal, several at a time
to output.log in their directories.
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

from svfap.datasets.files import write_text
from svfap.datasets.labels.annotations import read_annotations
from svfap.engine.results.find import find_results
from svfap.engine.runtime import stopping
from svfap.engine.runtime.distributed import one_process
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import split_arguments, tells_user
from svfap.engine.runtime.rundir import FINISHED, alone_in
from svfap.engine.runtime.stopping import STOPPED_STATUS, noted
from svfap.engine.summarize import crossval_table, format_summary

logger = logging.getLogger("svfap.engine.crossval")  # also when run as a command, as "__main__"

PROGRAM = ("-m", "svfap", "finetune")
POLL_SECONDS = 0.5


@dataclass
class Fold:
    """One fold: its annotations, its run directory, and its process while it runs."""

    name: str
    data_path: Path
    run_dir: Path
    process: subprocess.Popen | None = field(default=None, repr=False)
    slot: int = 0
    log: Path | None = None  # where its output goes; None: to this terminal

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.run_dir / FINISHED).is_file()


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


def check_folds(folds: Sequence[Fold]) -> None:
    """Refuse folds whose predictions could not be pooled, before any of them is trained.

    Raises:
        FileNotFoundError: a fold has no test.csv.
        ValueError: a video is tested in two folds.
    """
    tested: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for fold in folds:
        path = fold.data_path / "test.csv"
        for video in read_annotations(path, task="pretrain", check_paths=False).ids:
            other = tested.setdefault(video, fold.name)
            if other != fold.name:
                shared.setdefault((other, fold.name), []).append(video)
    if shared:
        listed = "; ".join(
            f"{one} and {other}: {len(videos)}, such as {videos[0]}"
            for (one, other), videos in shared.items()
        )
        raise ValueError(f"videos are tested in two folds, where each may be in one only: {listed}")


def run_folds(
    folds: Sequence[Fold], flags: Sequence[str], *, jobs: int, processes: int, devices: int
) -> int:
    """Run every fold; those that are finished find nothing to do.

    Args:
        folds: from `find_folds`.
        flags: flags of `run_finetune.py` that all folds share, but for `{fold}` in them.
        jobs: folds at a time.
        processes: processes of one fold (torchrun if more than 1).
        devices: GPUs to divide among the jobs; 0 leaves the choice to the runs.

    Returns:
        0; or the status of the first fold that failed or was stopped, after which none starts.
    """
    waiting, running, status, handed_on = list(folds), [], 0, 0
    with noted() as stop:
        while running or (waiting and not status and not stop.received):
            free = sorted(set(range(jobs)) - {fold.slot for fold in running})
            while waiting and free and not status and not stop.received:
                fold = waiting.pop(0)
                fold.log = fold.run_dir / "output.log" if jobs > 1 else None
                _begin(fold, flags, free.pop(0), processes, devices)
                running.append(fold)
            time.sleep(POLL_SECONDS)
            if stop.count > handed_on:  # each signal once
                handed_on = stop.count
                for fold in running:
                    fold.process.terminate()
            for fold in list(running):
                code = fold.process.poll()
                if code is not None:
                    running.remove(fold)
                    status = status or _ended(fold, code, asked=bool(stop.received))
    return STOPPED_STATUS if stop.received and not status else status


def _begin(fold: Fold, flags: Sequence[str], slot: int, processes: int, devices: int) -> None:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        command += [str(processes)]
    command += [*PROGRAM, *(flag.replace("{fold}", fold.name) for flag in flags)]
    command += ["--data_path", str(fold.data_path)]
    command += ["--output_dir", str(fold.run_dir), "--log_dir", str(fold.run_dir)]
    environment = dict(os.environ)
    if devices:
        mine = (str((slot * processes + turn) % devices) for turn in range(processes))
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    logger.info("%s started%s", fold.name, f", see {fold.log}" if fold.log else "")
    if fold.log:
        fold.log.parent.mkdir(parents=True, exist_ok=True)
    with open(fold.log or os.devnull, "a") as log:  # the child keeps it open
        output = {"stdout": log, "stderr": subprocess.STDOUT} if fold.log else {}
        # A session of its own: Ctrl-C reaches this command only, which hands it on.
        fold.process = subprocess.Popen(command, env=environment, start_new_session=True, **output)
    fold.slot = slot


def _ended(fold: Fold, code: int, *, asked: bool) -> int:
    """Exit status of a fold's process, which may have been asked to stop."""
    if asked and code == -signal.SIGTERM:  # in its first or last instant, when nothing listens
        return STOPPED_STATUS
    if code == 0:
        logger.info("%s done", fold.name)
        return 0
    if code != STOPPED_STATUS:
        lines = fold.log.read_text(errors="replace").splitlines()[-5:] if fold.log else []
        logger.error("%s", "\n".join([f"{fold.name} failed with status {code}", *lines]))
    return code if code > 0 else 1


def write_table(folds: Sequence[Fold], output_dir: Path, subjects: str | None) -> str:
    """Write the table of all finished folds as summary.md, .csv and .tex, and report.html.

    Returns:
        The table as Markdown.
    """
    summary = crossval_table(find_results([fold.run_dir for fold in folds]), subjects)
    for ending, style in (("md", "md"), ("csv", "csv"), ("tex", "latex")):
        write_text(output_dir / f"summary.{ending}", format_summary(summary, style))
    from svfap.engine.report.page import write_report  # slow, and not needed before

    write_report(output_dir, subjects)
    return format_summary(summary, "md")


def _own_flags(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m svfap.engine.crossval",
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


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    own, passed_on = split_arguments(arguments)
    flags = _own_flags(own)
    set_up_logging(is_main=True)
    output_dir = Path(flags.output_dir)
    try:
        folds = find_folds(Path(flags.data_path), flags.folds, output_dir)
        check_folds(folds)
    except (ValueError, FileNotFoundError) as error:
        logger.error("%s", error)
        return 2
    how = {"jobs": flags.jobs, "processes": flags.processes, "devices": flags.gpus}
    if "--dry_run" in passed_on:  # prints plans and writes nothing
        return run_folds(folds, passed_on, **{**how, "jobs": 1})
    with alone_in(output_dir, one_process()):
        status = run_folds(folds, passed_on, **how)
        open_folds = [fold.name for fold in folds if not fold.is_finished]
        if status or open_folds:
            logger.info("no table, not finished: %s", ", ".join(open_folds) or "see above")
            return status or 1
        print(write_table(folds, output_dir, flags.subjects), end="")
    return 0


if __name__ == "__main__":
    stopping.listen()
    sys.exit(main())
