"""The run directory: made, described, and found again when the same command is started again.

config.json     flags, versions, commit, and what decides the results, as the run was begun
finished.json   written last of all; where it is, there is nothing left to do
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from svfap.datasets.files import read_json, remove_leftovers, write_text
from svfap.engine.results.find import FINISHED
from svfap.engine.runtime import checkpoint, origin
from svfap.engine.runtime.distributed import Workers
from svfap.engine.runtime.lock import sole_use
from svfap.engine.runtime.log import run_facts
from svfap.models.weights.hub import locate

logger = logging.getLogger(__name__)

CONFIG = "config.json"
RESULTS = ("log.jsonl", "metrics.json", FINISHED, "checkpoint-*.pth")


@contextmanager
def opened(
    output_dir: str, workers: Workers, config: dict, resume: Path | None
) -> Iterator[Path | None]:
    """Make `--output_dir`, keep others out of it and write `config` to config.json there.

    That of a run that goes on from a checkpoint in its directory stays as it is. None without
    `--output_dir`: nothing is written then. ValueError where another process works.
    """
    if not output_dir:
        logger.warning("no --output_dir: nothing of this run will be kept")
        yield None
        return
    folder = Path(workers.gather(output_dir)[0])  # dated folders may differ by a second
    with alone_in(folder, workers):
        if workers.is_main:
            remove_leftovers(folder)
            stays = resume and resume.parent.samefile(folder) and _read_config(folder)
            if not stays:
                text = json.dumps({**config, **run_facts()}, indent=2, default=str)
                write_text(folder / CONFIG, text + "\n")
        workers.barrier()
        yield folder


@contextmanager
def alone_in(folder: Path, workers: Workers) -> Iterator[None]:
    """Make a folder and keep processes of other runs out of it: ValueError, on every process."""
    refusal, lock = None, nullcontext()
    if workers.is_main:
        lock = sole_use(folder)
        try:
            lock.__enter__()
        except ValueError as error:
            refusal, lock = str(error), nullcontext()
    refusal = workers.gather(refusal)[0]
    if refusal:
        raise ValueError(refusal)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def find_checkpoint(output_dir: str, resume: str, auto_resume: bool) -> Path | None:
    """The checkpoint to go on from: `--resume`, or the last one in `--output_dir` if it is later.

    Raises:
        FileNotFoundError: `--resume` names no file.
        ValueError: `--output_dir` holds a run, which `--no_auto_resume` would overwrite.
    """
    last = Path(output_dir) / checkpoint.LAST if output_dir else None
    if last is not None and not last.exists():
        last = None
    if not resume:
        if last and not auto_resume:
            raise ValueError(
                f"{last} holds a run, and --no_auto_resume would overwrite it; choose another "
                "--output_dir or remove that one"
            )
        return last
    try:
        path = locate(resume).path
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--resume {resume} does not exist") from error
    if last and auto_resume and not last.samefile(path) and _is_later(last, path):
        logger.info(
            "%s is later than --resume %s: the run goes on from there; --no_auto_resume takes "
            "the latter", last, path,
        )  # fmt: skip
        return last
    return path


def origin_in(folder: str | Path) -> dict | None:
    """What decides the results of the run in a directory; None where there are no results."""
    folder = Path(folder)
    if not any(any(folder.glob(pattern)) for pattern in RESULTS):
        return None
    known = _read_config(folder).get("origin")
    last = folder / checkpoint.LAST
    if not isinstance(known, dict) and last.is_file():
        known = origin_of(checkpoint.read(last))
    return known if isinstance(known, dict) else None


def run_to_go_on(output_dir: str, resume: str, auto_resume: bool) -> dict | None:
    """What is known of a training that goes on: `model` (its `config`), `flags` and `clips`.

    None of a new one; `clips` is empty where there is no checkpoint. Errors as of
    `find_checkpoint`.
    """
    if path := find_checkpoint(output_dir, resume, auto_resume):
        content = checkpoint.read(path)
        named = {"model": "model_config", "flags": "flags", "clips": "clips"}
        return {name: content.get(key) or {} for name, key in named.items()}
    before = origin_in(output_dir) if output_dir else None
    if before is None:
        return None
    known = _read_config(Path(output_dir)).get("flags", {})
    return {"model": before.get("model", {}), "flags": known | before.get("flags", {}), "clips": {}}


def origin_of(content: Mapping) -> dict:
    """What decides the results of a checkpoint's run; earlier versions kept only its flags."""
    return content.get("origin") or {"flags": origin.plain(content["flags"])}


def refuse_other_run(
    output_dir: str, known: Mapping, resume: Path | None, named: Mapping[str, str | None]
) -> None:
    """Refuse to go on with something else, and name what differs.

    Args:
        known: what decides the results of this command (`engine.runtime.origin`).
        resume: checkpoint that it would go on from.
        named: its flags of `origin.NAMES`.

    Raises:
        ValueError: `--output_dir` holds another run, or `--resume` one of other data; names what
            differs.
    """
    before = origin_in(output_dir) if output_dir else None
    changed = origin.differences(before, known, named) if before else []
    if changed:
        raise ValueError(
            f"{output_dir} belongs to a run with other settings ({'; '.join(changed)}); use "
            "the same flags to go on with it, or another --output_dir for a new run"
        )
    if resume is None or (before and resume.parent.samefile(output_dir)):
        return
    before = origin_of(checkpoint.read(resume))
    changed = origin.differences(before, known, named)
    if "labels" in known and origin.data_differences(before, known):
        raise ValueError(
            f"--resume {resume} belongs to a run with other settings ({'; '.join(changed)}); a new "
            "run takes its weights by --finetune"
        )
    if changed:
        logger.warning("--resume %s was made otherwise: %s", resume, "; ".join(changed))


def is_finished(folder: Path, end: dict, files: tuple[str, ...], resume: Path | None) -> bool:
    """Whether the run in a folder, which is this one, has nothing left to do.

    Args:
        end: what finished.json has to say.
        files: that have to be there besides.
        resume: its last checkpoint, if it is still there; ValueError if it is damaged, which
            would be found out too late otherwise.
    """
    if not all((folder / name).is_file() for name in (*files, FINISHED)):
        return False
    if _read_json(folder / FINISHED) != origin.plain(end):
        return False
    if resume:
        checkpoint.read(resume)
    return True


def note_finished(folder: Path, end: dict) -> None:
    """Write down that everything has been done; see `is_finished`."""
    write_text(folder / FINISHED, json.dumps(end, indent=1, default=str) + "\n")


def _is_later(last: Path, path: Path) -> bool:
    """Whether the last checkpoint of a directory is a later one, and whole."""
    try:
        ends = [checkpoint.read(file)["position"] for file in (last, path)]
    except ValueError as error:
        logger.warning("%s", error)
        return False
    own, other = ((position["epoch"], position["step"]) for position in ends)
    return own > other


def _read_config(folder: Path) -> dict:
    return _read_json(folder / CONFIG)


def _read_json(path: Path) -> dict:
    """Content of a file that can be made anew; empty where it is absent or damaged."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        logger.warning("%s: not used", error)
        return {}
