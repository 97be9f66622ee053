"""Imports go one way, between the packages and between the rooms of each.

run_* -> engine -> {models, datasets}; preprocess -> datasets. A room (a module or folder right
below a package) sees only rooms that stand below it.
"""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

ALLOWED = {
    "models": {"models"},
    "datasets": {"datasets"},
    "engine": {"engine", "models", "datasets"},
    "preprocess": {"preprocess", "datasets"},
    "benchmarks": {"benchmarks", "engine", "models", "datasets", "preprocess"},
    "scripts": {"scripts", "engine"},
    "run_pretrain": {"engine"},
    "run_finetune": {"engine"},
    "run_predict": {"engine"},
}
# From the ground up; a name that is not listed stands on the last floor with the commands.
FLOORS = {
    "models": [
        {"batch_norm", "layers", "patches", "sizes"},
        {"encoder"},
        {"classifier", "contrastive", "masked_autoencoder"},
        {"image", "lgi_former", "tpsbt", "vit"},
        {"registry"},
        {"timm_names", "weights"},
    ],
    "datasets": [
        {"catalog", "checks", "files", "rng"},
        {"loading", "tables"},
        {"video"},
        {"labels"},
        {"faces"},
        {"augment"},
        {"clips"},
    ],
    "engine": [
        {"results"},
        {"flags"},
        {"build", "runtime", "summarize", "tasks"},
        {"compare"},
        {"compute", "identity", "report"},
        {"evaluate", "loop", "predict"},
        {"assembly", "pretext"},
        {"setting"},
        {"selection"},
        {"finetuning", "probe"},
        {"pretraining"},
    ],
    "preprocess": [{"shared"}, {"cremad", "ravdess", "synthetic"}],
}
COMMANDS = {path.stem for path in ROOT.glob("run_*.py")}


def top_names(path: Path, package: str) -> set[str]:
    """Top-level modules that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names |= {top_name(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "svfap":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else top_name(node.module))
        elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                names.add(top_name(target.value))
    return names


def top_name(module: str) -> str:
    """`svfap.models.tpsbt` and `models.tpsbt` are both of `models`."""
    return module.removeprefix("svfap.").split(".")[0]


def _is_import_call(function: ast.expr) -> bool:
    name = getattr(function, "id", getattr(function, "attr", ""))
    return name in {"__import__", "import_module"}


def sources() -> list[tuple[str, Path]]:
    files = [(path.stem, path) for path in ROOT.glob("run_*.py")]
    for package in ("models", "datasets", "engine", "preprocess", "benchmarks", "scripts"):
        files += [(package, path) for path in sorted((ROOT / package).rglob("*.py"))]
    return files


def test_there_is_something_to_check():
    packages = {package for package, _ in sources()}
    assert {"models", "datasets", "engine", "preprocess", "run_pretrain"} <= packages
    assert set(ALLOWED) >= packages


@pytest.mark.parametrize(
    ("package", "path"), sources(), ids=lambda value: getattr(value, "stem", value)
)
def test_imports_go_one_way(package, path):
    ours = top_names(path, package) & (set(ALLOWED) | COMMANDS | {"tests"})
    wrong = ours - ALLOWED[package]
    assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def room_of(module: str) -> str:
    """`svfap.engine.runtime.log` is in the room `runtime` of `engine`; a package is in none."""
    return [*module.split("."), ""][2]


def room_edges(source: str, room: str, package: str) -> set[tuple[str, str]]:
    """(room, imported room) within a package, for a file in `room`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"svfap.{package}."):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {room_of(module) for module in modules}
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {room_of(name) for name in names if name.startswith(f"svfap.{package}.")}
    return {(room, other) for other in found - {room, ""}}


def upward(edges: set[tuple[str, str]], package: str) -> set[tuple[str, str]]:
    """Edges that do not lead to a lower floor."""
    floors = {room: i for i, floor in enumerate(FLOORS[package]) for room in floor}
    top = len(FLOORS[package])
    return {
        (room, other) for room, other in edges if floors.get(other, top) >= floors.get(room, top)
    }


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_see_only_what_stands_below_them(package):
    edges, rooms = set(), set()
    for path in sorted((ROOT / package).rglob("*.py")):
        room = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        rooms.add(room)
        if room != "__init__":  # it shows the rooms to others
            edges |= room_edges(path.read_text(), room, package)
    assert set().union(*FLOORS[package]) <= rooms
    assert not upward({edge for edge in edges if edge[1] in rooms}, package)


def test_an_upward_import_would_be_seen():
    source = "from svfap.datasets.clips import loader\nfrom svfap.datasets import rng\n"
    edges = room_edges(source, "labels", "datasets")
    assert edges == {("labels", "clips"), ("labels", "rng")}
    assert upward(edges, "datasets") == {("labels", "clips")}


def test_every_import_is_absolute():
    for _, path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_every_import_of_ours_is_by_the_name_that_is_installed():
    """Once, under `svfap`: `datasets` alone may be another library's."""
    bare = re.compile(r"^\s*(from|import) (models|datasets|engine|preprocess)\b", re.MULTILINE)
    for _, path in sources():
        assert not bare.search(path.read_text()), path


def test_commands_are_named_as_they_can_be_started_everywhere():
    """`python -m svfap.engine.report` works installed, too; `python -m engine.report` does not."""
    short = re.compile(r"python -m (models|datasets|engine|preprocess)\.|python run_\w+\.py")
    for package, path in sources():
        if package in FLOORS:
            assert not short.search(path.read_text()), path


def test_every_folder_of_code_is_a_package():
    """Setuptools finds them by their __init__.py."""
    for package in FLOORS:
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def test_a_wrong_edge_would_be_seen(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "def f():\n    from svfap.engine.loop import train\n    import_module('models.x')\n"
    )
    assert top_names(path, "datasets") == {"engine", "models"}
    path.write_text("from . import rng\nfrom .clips import a\n")
    assert top_names(path, "datasets") == {"datasets"}


def test_few_functions_are_handed_all_flags():
    """What a function needs is passed by name; this number may fall, not rise."""
    found = []
    for path in sorted((ROOT / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                args = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                kinds = {ast.unparse(arg.annotation) for arg in args if arg.annotation}
                bare = any(arg.arg == "flags" and not arg.annotation for arg in args)
                if bare or kinds & {"Flags", "argparse.Namespace"}:
                    found.append(f"{path.name}:{node.name}")
    assert len(found) <= 27, found
