"""What a run directory holds that others should know, without what is the user's alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from svfap.datasets.files import read_json
from svfap.engine.flags.config import TABLES
from svfap.engine.flags.flag import FINETUNING, PRETRAINING, SAME
from svfap.engine.identity import Identity, identify
from svfap.engine.results.find import SUBJECTS_FILE, Result, find_results
from svfap.engine.runtime import checkpoint, rundir
from svfap.models.weights.weight_file import BEST, HEADER_FACTS

_PATH = re.compile(r"(?:~|\b[A-Za-z]:)?[\w.~@%+-]*[/\\][^\s,;:()'\"]*")
_ADDRESS = re.compile(r"(hf|https?)://")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A run, as others see it."""

    identity: Identity  # what the weights are
    facts: dict  # for the header of the file (`HEADER_FACTS`)
    config: dict  # content of config.json of the run
    result: Result | None  # evaluation on the test part; None of a pre-training
    subjects: Path | None  # file of the people in its videos, if there is one

    @property
    def flags(self) -> dict:
        """Flags that decide results, without paths."""
        return self.facts["flags"]

    @property
    def origin(self) -> dict:
        """See `engine.runtime.origin`."""
        return self.config.get("origin") or {}


def read_run(folder: str | Path) -> Published:
    """Read a finished run.

    Raises:
        FileNotFoundError: no run, or no weights of which its metrics are.
        ValueError: its metrics are of other weights than it has, or a file is damaged.
    """
    folder = Path(folder)
    if not (folder / rundir.CONFIG).is_file():
        raise FileNotFoundError(f"{folder} is no run: it has no {rundir.CONFIG}")
    config = read_json(folder / rundir.CONFIG)
    has_scores = (folder / "metrics.json").is_file() or (folder / "pred.csv").is_file()
    [result] = find_results([folder]) if has_scores else [None]
    weights = result.weights if result else "last"
    if weights not in ("last", "best", "ema"):
        raise ValueError(
            f"{folder}/metrics.json is an evaluation of {weights}, not the test of this run; start "
            "its training command again, which tests what it trained"
        )
    identity = identify(
        folder / (BEST if weights == "best" else checkpoint.LAST),
        averaged=True if weights == "ema" else None,
    )
    content = checkpoint.read(Path(identity.source))
    if result is None and not identity.config["name"].startswith(("pretrain_", "contrastive_")):
        raise ValueError(f"{folder} has not been tested yet: no metrics.json; finish it first")
    facts = {name: content[name] for name in HEADER_FACTS if content.get(name)}
    rows, flags = TABLES[FINETUNING if result else PRETRAINING].by_name, content.get("flags") or {}
    kept = {name: flags[name] for name in rows if name in flags and rows[name].goes_on == SAME}
    kept = {name: v for name, v in kept.items() if not (isinstance(v, str) and "/" in v)}
    return Published(
        identity=identity, config=config, result=result,
        facts=without_paths(facts | {"flags": kept, "model_config": identity.config}),
        subjects=_subjects(config["flags"]) if result else None,
    )  # fmt: skip


def without_paths(value: object) -> object:
    """A copy of plain values in whose texts paths are reduced to their last part."""
    if isinstance(value, str):
        return value if _ADDRESS.match(value) else _PATH.sub(_last_part, value)
    if isinstance(value, Mapping):
        return {key: without_paths(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(own) for own in value]
    return value


def _last_part(match: re.Match) -> str:
    text = match[0]
    rooted = text[0] in "/\\~." or ":" in text[:2]
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if rooted or text.count("/") > 1 else text


def _subjects(flags: Mapping) -> Path | None:
    """Where the run's people are named, as fine-tuning looks for them."""
    folder = Path(flags.get("eval_data_path") or flags["data_path"])
    places = (flags.get("subjects"), folder / SUBJECTS_FILE, folder.parent / SUBJECTS_FILE)
    return next((Path(place) for place in places if place and Path(place).is_file()), None)
