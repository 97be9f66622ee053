"""`python -m svfap.engine.flags`: docs/flags.md, all flags of the two programs as tables."""

import math
from collections.abc import Mapping

from svfap.engine.flags.config import TABLES
from svfap.engine.flags.flag import FREE, PAIR, Flag
from svfap.terminal import as_program

PROGRAMS = {"pretraining": "run_pretrain.py", "finetuning": "run_finetune.py"}
HEAD = """# Flags

Made by `python -m svfap.engine.flags` from the tables in `engine/flags/`. `--config FILE.yaml`
takes the same names without dashes. A run goes on with the values that it was begun with; only
flags that decide no result are free to change, and files and folders may move.
"""


def allowed(flag: Flag) -> str:
    """Which values a flag takes, in words; empty where there is nothing to say."""
    if flag.kind == PAIR:
        return f"or `--no_{flag.name}`"
    if flag.choices or math.inf == flag.high == -flag.low:
        return ", ".join(flag.choices or ())
    return f"{flag.low} or more" if flag.high == math.inf else f"{flag.low} to {flag.high}"


def describe(flag: Flag, stage: str) -> str:
    """A row of the table."""
    default = flag.default[stage] if isinstance(flag.default, Mapping) else flag.default
    default = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else default
    shown = "" if default in (None, "", False) else default
    text = flag.text.replace("%%", "%").replace("|", "\\|")
    free = "free" if flag.goes_on == FREE else ""
    return f"| `--{flag.name}` | {allowed(flag)} | {shown} | {text} | {free} |"


def document() -> str:
    """The whole of docs/flags.md."""
    lines = [HEAD]
    for stage, table in TABLES.items():
        lines.append(f"## {PROGRAMS[stage]}\n")
        for group in table.groups:
            rows = [describe(flag, stage) for flag in group.flags if flag.text]
            lines += [f"### {group.title}\n", "| flag | values | default | what it does | |",
                      "|---|---|---|---|---|", *rows, ""]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    as_program()
    print(document(), end="")  # noqa: T201 - this is a command
