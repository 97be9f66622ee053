"""What a run directory says about itself, and the sections of a report on that."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svfap.datasets.files import read_json
from svfap.datasets.tables import read_table
from svfap.engine.report import html as html
from svfap.engine.results.find import read_log
from svfap.engine.runtime.log import duration


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run directory says about itself."""

    folder: Path  # the directory
    config: dict  # content of config.json, empty if there is none
    log: list[dict]  # lines of log.jsonl, empty if there is none

    @property
    def flags(self) -> dict:
        """Flags of the command."""
        return self.config.get("flags", {})

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Of this directory."""
        config = folder / "config.json"
        return cls(
            folder=folder,
            config=read_json(config) if config.is_file() else {},
            log=read_log(folder / "log.jsonl"),
        )


def facts_section(runs: Sequence[Run]) -> str:
    """How long it took, on what and with which code; unreadable videos."""
    config, log = runs[0].config, [line for run in runs for line in run.log]
    # A line's seconds are those of the whole run so far.
    seconds = sum(max((line.get("seconds", 0) for line in run.log), default=0) for run in runs)
    rows = [
        ("epochs, all folds" if len(runs) > 1 else "epochs", str(len(log))),
        ("training time", duration(seconds)),
        ("clips per second, median", _median(log, "clips_per_second", ".1f")),
        ("time waiting for data, %", _median(log, "data_wait", ".1f", 100)),
    ]
    if memory := [line["memory_gib"] for line in log if line.get("memory_gib")]:
        rows.append(("peak memory, GiB", f"{max(memory):.2f}"))
    rows = rows if log else []
    if begun := (config.get("origin") or {}).get("weights"):
        licence = f"; licence: {begun['licence']}" if "licence" in begun else ""
        rows.append(("training began with", f"{begun['file']}{licence}"))
    if config.get("commit"):
        rows.append(("commit", config["commit"]))
    for name in ("versions", "machine"):
        rows += [(key, str(value)) for key, value in config.get(name, {}).items() if value]
    rows += [(f"unreadable: {r.folder.name}", text) for r in runs if (text := _unreadable(r))]
    command = html.table([], [[config["command"]]], "facts") if config.get("command") else ""
    return html.section(
        "Run",
        html.table([], rows, "facts") if rows else "",
        command and html.fold_away("Command", command),
    )


def _unreadable(run: Run) -> str:
    path = run.folder / "unreadable.csv"
    if not path.is_file():
        return ""
    rows = [row for _, row in read_table(path, ("path", "status", "reason"))]
    listed = "; ".join(f"{row['path']} ({row['status']}: {row['reason']})" for row in rows[:5])
    return f"{len(rows)} videos with problems: {listed}{' ...' if len(rows) > 5 else ''}"


def configuration_section(run: Run) -> str:
    """Flags and what followed from them, folded away."""
    explicit = set(run.flags.get("explicit") or ())
    rows = [(f"--{name}", _text(value)) for name, value in run.flags.items() if name != "explicit"]
    given = [row for row in rows if row[0][2:] in explicit]
    resolved = [(name, _text(value)) for name, value in run.config.get("resolved", {}).items()]
    if not rows:
        return ""
    folded = {"Flags that were given": given, "All flags": rows, "Resolved settings": resolved}
    return html.section(
        "Configuration",
        *(html.fold_away(k, html.table([], v, "facts")) for k, v in folded.items() if v),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _median(log: Sequence[dict], name: str, form: str, times: int = 1) -> str:
    values = [line[name] for line in log if line.get(name) is not None]
    return format(times * float(np.median(values)), form) if values else "-"
