"""What README and docs say: their commands exist and parse, their links lead somewhere."""

import contextlib
import io
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_recipes import parse
from tests.test_recipes_models import DATA_SETS


def shell_blocks(path: Path) -> list[str]:
    """Commands in the ```bash blocks of a document, continuation lines joined."""
    text = path.read_text().replace("\\\n", " ")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = (line.split(" #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documented_commands_exist_and_parse(path):
    for command in shell_blocks(path):
        words = shlex.split(command)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        scripts = [word for word in words if word.endswith((".sh", ".sbatch"))]
        assert all((ROOT / script).is_file() for script in scripts), command
        if scripts and re.search(r"scripts/(finetune|evaluate)\.sh", scripts[-1]):
            data_set = words[words.index(scripts[-1]) + 2]
            assert data_set in DATA_SETS, command
        programs = [word for word in words if re.fullmatch(r"run_(pretrain|finetune)\.py", word)]
        if programs:
            parse(words[words.index(programs[0]) :])
        if "-m" in words:
            check_module(*words[words.index("-m") + 1 :])
        if "run_predict.py" in words:
            check_module("engine.predict.command", *words[words.index("run_predict.py") + 1 :])


def command_module(name: str):
    """What `python -m NAME` runs: a module, or `__main__` of a package."""
    module = import_module(name)
    return import_module(f"{name}.__main__") if hasattr(module, "__path__") else module


def parser_of(name: str):
    """Parser of a module that is a command; None where only its `main` has it."""
    module = command_module(name)
    makers = [getattr(module, maker, None) for maker in ("build_parser", "get_parser")]
    assert any(makers) or not name.startswith("preprocess."), name
    return next((make_parser() for make_parser in makers if make_parser), None)


def check_module(name: str, *arguments: str) -> None:
    """It can be imported, and takes the arguments, or at least knows the flags among them."""
    parser = parser_of(name)
    if parser:
        parser.parse_args(arguments)
    elif name.startswith(("engine.", "models.")):
        check_flags(name, *arguments)


def check_flags(name: str, *arguments: str) -> None:
    """The help of a command names the flags; those after `--` are for another one."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    parser, shown = parser_of(name), io.StringIO()
    if parser:
        parser.print_help(shown)
    else:
        with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
            command_module(name).main(["--help"])
    flags = {word for word in own if re.fullmatch(r"--\w+", word)}
    unknown = flags - set(re.findall(r"--\w+", shown.getvalue()))
    assert not unknown, f"{name} does not know {unknown}"


def test_commands_within_sentences_have_known_flags():
    """They may be incomplete."""
    found = []
    for path in DOCUMENTS:
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        found += re.findall(r"`python -m ((?:engine|preprocess|models)\.[^`]*)`", text)
    assert len(found) > 10
    for command in found:
        check_flags(*command.split())


def test_documents_link_to_what_exists():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
