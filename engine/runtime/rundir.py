"""The run directory: made, described, and found again when the same command is started again."""

import argparse
import json
import logging
from pathlib import Path

from datasets.files import remove_leftovers
from engine.flags import parsing
from engine.flags.config import table_of
from engine.flags.flag import SAME
from engine.runtime import checkpoint
from engine.runtime.distributed import Workers
from engine.runtime.log import run_facts

logger = logging.getLogger(__name__)


def open_run(flags: argparse.Namespace, workers: Workers, facts: dict) -> Path | None:
    """Make `--output_dir` and write `config.json` there.

    Args:
        flags: the run's flags.
        workers: only the main process writes.
        facts: resolved settings to record beside flags, versions and commit.

    Returns:
        The directory; None without `--output_dir` (nothing is written then).
    """
    if not flags.output_dir:
        logger.warning("no --output_dir: nothing of this run will be kept")
        return None
    folder = Path(flags.output_dir)
    if workers.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        parsing.save_flags(flags, folder / "config.json", {"resolved": facts, **run_facts()})
    workers.barrier()
    return folder


def find_checkpoint(flags: argparse.Namespace) -> Path | None:
    """The checkpoint to go on from: `--resume`, or the last one in `--output_dir`.

    Raises:
        FileNotFoundError: `--resume` names no file.
        ValueError: `--output_dir` holds another run, which would be overwritten.
    """
    if flags.resume:
        path = Path(flags.resume)
        if not path.is_file():
            raise FileNotFoundError(f"--resume {path} does not exist")
        return path
    last = Path(flags.output_dir) / checkpoint.LAST if flags.output_dir else None
    if last is None or not last.exists():
        return None
    if not flags.auto_resume:
        raise ValueError(
            f"{last} holds a run, and --no_auto_resume would overwrite it; choose another "
            "--output_dir or remove that one"
        )
    _refuse_other_run(flags, last)
    return last


def _refuse_other_run(flags: argparse.Namespace, last: Path) -> None:
    """Raise where the checkpoint was made with other settings.

    Raises:
        ValueError: names flags with both values.
    """
    before = checkpoint.read(last)["flags"]
    now = json.loads(json.dumps(vars(flags), default=str))
    before = json.loads(json.dumps(before, default=str))
    changed = [
        f"--{name} was {before[name]}, is {now[name]}"
        for name, flag in sorted(table_of(flags).by_name.items())
        if flag.goes_on == SAME and name in before and now[name] != before[name]
    ]
    if changed:
        raise ValueError(
            f"{last} belongs to a run with other settings ({'; '.join(changed)}); use the same "
            "flags to go on with it, or another --output_dir for a new run"
        )
