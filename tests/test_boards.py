"""Loggers besides log.jsonl, against stand-ins, and the libraries where they are installed."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from svfap.datasets.files import CannotWriteError
from svfap.engine.runtime.boards import Boards

LINE = {"train_loss": 0.5, "note": "no number", "val_uar": 0.25}


class Recorder:
    """Stands for a module and a run: notes what is called."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*args, **options):
            self.calls.append((name, args, options))
            return self

        return call

    def of(self, name):
        return [(args, options) for called, args, options in self.calls if called == name]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_numbers_reach_the_library(name, tmp_path, monkeypatch):
    library = Recorder()
    monkeypatch.setitem(sys.modules, name, library)
    boards = Boards([name, "none"], tmp_path / "run7", {"lr": 0.1})
    boards.write(LINE, 3, "epoch")
    boards.close()
    (begun,) = library.of("start_run" if name == "mlflow" else "init")
    assert begun[1].get("run_name", begun[1].get("name")) == "run7"
    (sent,) = library.of("log_metrics" if name == "mlflow" else "log")
    numbers = {key: own for key, own in sent[0][0].items() if key != "epoch/index"}
    assert numbers == {"epoch/train_loss": 0.5, "epoch/val_uar": 0.25}
    assert sent[1].get("step", sent[0][0].get("epoch/index")) == 3
    assert library.of("end_run" if name == "mlflow" else "finish")


def test_a_service_that_fails_does_not_end_a_run(tmp_path, monkeypatch, caplog):
    def log(*_, **__):
        raise ConnectionError("no route")

    run = SimpleNamespace(log=log, finish=lambda: None)
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=lambda **_: run))
    boards = Boards(["trackio"], tmp_path, {})
    boards.write(LINE, 0, "epoch")
    boards.write(LINE, 1, "epoch")
    assert caplog.text.count("no route") == 1


def test_what_cannot_begin_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ValueError, match="--logger trackio: trackio is not installed; pip install"):
        Boards(["trackio"], tmp_path, {})

    def init(**_):
        raise RuntimeError("no key")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(ValueError, match="--logger wandb cannot begin: no key"):
        Boards(["wandb"], tmp_path, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError):
        Boards(["tensorboard"], tmp_path / "file", {})


def test_nothing_is_opened_without_a_folder():
    assert not Boards(["tensorboard"], None, {}).boards


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_the_library_itself_takes_them_offline(name, tmp_path, monkeypatch):
    if not find_spec(name):
        pytest.skip(f"{name} is absent")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    folder = tmp_path / "run"
    folder.mkdir()
    for step in range(2):  # the second goes on
        boards = Boards([name], folder, {"lr": 0.1, "explicit": ["lr"]})
        boards.write(LINE, step, "epoch")
        assert boards.boards
        boards.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"val_uar" in path.read_bytes() or "val_uar" in path.name for path in files)
