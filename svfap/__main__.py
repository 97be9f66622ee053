"""All commands of the project by one name: `svfap`, or `python -m svfap`.

svfap pretrain|finetune|predict FLAGS    what run_pretrain.py and its neighbours do in a checkout
svfap engine.report RUN                  any other command, by its module
svfap                                    lists them
"""

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

import svfap
from svfap.suggest import did_you_mean
from svfap.terminal import as_program

STAGES = {"pretrain": "pretraining", "finetune": "finetuning"}
GUARD = 'if __name__ == "__main__":'


def run(command: str) -> None:
    """Run pretrain, finetune or predict with the arguments of this process, and leave."""
    as_program(goes_on=command in STAGES)
    if command in STAGES:
        from svfap.engine.runtime import stopping

        stopping.listen()
        from svfap.engine.command import run_command  # late, so that signals are heard before it

        run_command(STAGES[command])
    from svfap.engine.predict.command import main as predict

    sys.exit(predict())


def modules() -> dict[str, Path]:
    """Commands by module, such as "engine.report", and their files."""
    found = {}
    for folder in map(Path, svfap.__path__):
        for package in svfap.PACKAGES:
            for file in sorted((folder / package).rglob("*.py")):
                if GUARD in file.read_text(encoding="utf-8"):
                    parts = file.relative_to(folder).with_suffix("").parts
                    found[".".join(parts).removesuffix(".__main__")] = file
    return found


def overview() -> str:
    """The docstring above, and a line per command."""
    lines = [__doc__]
    for name, file in modules().items():
        first = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))).splitlines()[0]
        lines.append(f"  {name:30} {first.split('`: ', 1)[-1]}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    command, *rest = [*(sys.argv[1:] if arguments is None else arguments), ""]
    if command in ("", "-h", "--help"):
        as_program()
        print(overview())
        return
    me = "svfap" if Path(sys.argv[0]).stem == "svfap" else "python -m svfap"
    if command in (*STAGES, "predict"):
        sys.argv = [f"{me} {command}", *rest[:-1]]
        run(command)
    name = command.removeprefix("svfap.")
    known = modules()
    if name not in known:
        tails = {module.rpartition(".")[2]: module for module in known}
        hint = did_you_mean(name, [*STAGES, "predict", *known]) or did_you_mean(name, tails)
        print(
            f"{me}: error: no command {command!r}{hint or ';'} `{me}` alone lists all",
            file=sys.stderr,
        )
        sys.exit(2)
    import runpy

    sys.argv = [f"{me} {name}", *rest[:-1]]
    runpy.run_module(f"svfap.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
