"""The wheel beside libraries whose names are ours in a checkout, away from any checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import svfap
from svfap.extras import LIBRARIES
from tests.conftest import ROOT
from tests.test_predict import save_checkpoint
from tests.tiny_data import write_video

OTHERS = ("datasets", "transformers", "models", "engine")
PREDICTION = """
import json, sys, svfap
clip = svfap.create_model("svfap_tiny_patch8_64", num_classes=2)
from svfap.engine.predict.predictor import PredictionOptions
predictor = svfap.Predictor(sys.argv[1], PredictionOptions(crop=False), device="cpu")
answers = predictor.predict(sys.argv[2]).tracks[0].answers()
from svfap.engine.runtime.log import commit_name
print(json.dumps([answers, commit_name(), svfap.__path__]))
"""


class Environment:
    """An environment that borrows the libraries of the one that tests run in, but nothing of ours.

    It lies in a git repository of somebody else.
    """

    def __init__(self, folder: Path):
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        (self.packages,) = (folder / "venv").glob("lib/python*/site-packages")
        (self.packages / "zz_borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def pip(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "-q", *arguments]
        subprocess.run(command, check=True, cwd=self.folder)

    def run(self, *arguments: object, status: int = 0) -> str:
        done = subprocess.run(
            [*map(str, arguments)], cwd=self.folder, capture_output=True, text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def whose(self) -> dict[str, str]:
        """Where the other libraries are imported from, with ours in between if it is there."""
        code = "import importlib.util as u\nif u.find_spec('svfap'): import svfap, svfap.engine\n"
        code += f"import json, {', '.join(OTHERS)}\n"
        code += f"print(json.dumps({{m.__name__: m.__file__ for m in ({', '.join(OTHERS)})}}))"
        return json.loads(self.run(self.python, "-c", code))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what is installed, since building leaves folders behind."""
    folder = tmp_path_factory.mktemp("source") / "project"
    for package in ("svfap", *svfap.PACKAGES):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("elsewhere"))
    for name in OTHERS:
        (made.packages / name).mkdir()
        (made.packages / name / "__init__.py").write_text("load_dataset = print\n")
    return made


def test_the_wheel_lives_beside_libraries_of_the_same_names(source, environment, tmp_path):
    before, own = environment.whose(), sorted(os.listdir(environment.packages))
    environment.pip("install", "--no-deps", "--no-build-isolation", str(source))
    added = set(os.listdir(environment.packages)) - set(own)
    assert {name for name in added if not name.endswith(".dist-info")} == {"svfap"}
    assert environment.whose() == before

    checkpoint = save_checkpoint(tmp_path / "checkpoint-best.pth")
    write_video(tmp_path / "a.mp4", num_frames=20, direction=0, seed=0)
    said = environment.run(environment.python, "-c", PREDICTION, checkpoint, tmp_path / "a.mp4")
    answers, commit, path = json.loads(said.splitlines()[-1])
    assert sum(answers.values()) == pytest.approx(1, abs=1e-5)
    assert commit is None  # not that of the repository around the environment
    assert path == [str(environment.packages / "svfap")]

    command = environment.python.parent / "svfap"
    assert "usage: svfap finetune" in environment.run(command, "finetune", "--help")
    assert "svfap.engine.report" in environment.run(command, "engine.report", "--help")
    assert "did you mean engine.report?" in environment.run(command, "engine.reprot", status=2)
    missing = environment.run(command, "predict", "a.mp4", "--checkpoint", checkpoint, status=1)
    assert "Traceback" not in missing and "no such file or folder: a.mp4" in missing

    environment.pip("uninstall", "-y", "svfap")
    assert environment.whose() == before
    assert sorted(os.listdir(environment.packages)) == own


def test_the_constraints_pin_what_pyproject_allows():
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    core = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    assert core <= set(pins)
    for text in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]:
        allowed = Requirement(text)
        for pin in pins.get(canonicalize_name(allowed.name), []):
            (only,) = pin.specifier
            assert only.operator == "==" and only.version in allowed.specifier, pin


def test_hints_name_the_libraries_of_extras():
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = stated["optional-dependencies"]
    names = {extra: tuple(Requirement(text).name for text in extras[extra]) for extra in extras}
    assert {extra: names[extra] for extra in names if not extra.startswith("test")} == LIBRARIES


def test_the_images_take_what_the_installation_needs():
    """Docker is not there to build it; at least its files are."""
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    assert set(kept) >= {"pyproject.toml", "setup.py", "constraints.txt", "svfap", *svfap.PACKAGES}
    assert all((ROOT / name).exists() for name in kept)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["ruff-check", "ruff-format"]


@pytest.mark.slow
def test_an_editable_install_beside_the_real_ones(source, tmp_path):
    """Needs an index of packages: Hugging Face's two libraries are installed."""
    environment = Environment(tmp_path / "elsewhere")
    for name in ("models", "engine"):
        (environment.packages / name).mkdir()
        (environment.packages / name / "__init__.py").touch()
    environment.pip("install", "datasets", "transformers")
    before = environment.whose()
    for options in (["-e"], []):
        environment.pip("install", "--no-deps", "--no-build-isolation", *options, str(source))
        assert environment.whose() == before
        code = "import svfap, transformers; svfap.create_model('svfap_tiny_patch8_64')"
        code += "; from datasets import Dataset; print(len(Dataset.from_dict({'a': [1, 2]})))"
        assert environment.run(environment.python, "-c", code).split()[-1] == "2"
        environment.pip("uninstall", "-y", "svfap")
        assert environment.whose() == before
