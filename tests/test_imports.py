"""Imports go one way: run_* -> engine -> {models, datasets}; preprocess -> datasets."""

import ast
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
COMMANDS = {path.stem for path in ROOT.glob("run_*.py")}


def top_names(path: Path, package: str) -> set[str]:
    """Top-level modules that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else node.module.split(".")[0])
        elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                names.add(target.value.split(".")[0])
    return names


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


def test_a_wrong_edge_would_be_seen(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from engine.loop import train\n    import_module('models.x')\n")
    assert top_names(path, "datasets") == {"engine", "models"}
    path.write_text("from . import rng\nfrom .clips import a\n")
    assert top_names(path, "datasets") == {"datasets"}
