"""Files that are whole or not there, journals, arrays of npz files; which errors are told."""

import errno
import os
import pickle
import subprocess

import numpy as np
import pytest
import torch
from torch._utils import ExceptionWrapper

from svfap.datasets.clips.source import cut_window
from svfap.datasets.files import (
    TEMPORARY,
    CannotWriteError,
    GrowingFile,
    MissingArraysError,
    read_arrays,
    read_journal,
    read_json,
    remove_leftovers,
    replacing,
    write_text,
)
from svfap.datasets.labels.classes import read_classes
from svfap.engine.flags.config import pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.runtime.errors import explain, is_for_user
from tests.conftest import ROOT


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "list.txt"
    with replacing(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "clips" / "1"
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "1.jpg").write_bytes(b"1")
        assert list(path.parent.glob(TEMPORARY)) == [temporary]
        raise RuntimeError
    assert not list(path.parent.iterdir())
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "1.jpg").write_bytes(b"1")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path] and list(path.iterdir()) == [path / "1.jpg"]


def test_arrays_of_an_npz_file(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, one=np.arange(3), two=np.ones(2), three=np.zeros(1))
    arrays = read_arrays(path, ["two", "one"], optional=["four", "three"])
    assert list(arrays) == ["two", "one", "three"] and arrays["one"].tolist() == [0, 1, 2]
    with pytest.raises(
        MissingArraysError, match="a.npz holds the arrays one, two, three, not four"
    ):
        read_arrays(path, ["four"])
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz", ["one"])


def damaged(path):
    """Compressed arrays with one byte of their content changed."""
    np.savez_compressed(path, one=np.random.default_rng(0).normal(size=500))
    content = bytearray(path.read_bytes())
    content[600] ^= 255
    return bytes(content)


def plain(path):
    np.save(path.with_suffix(".npy"), np.arange(3))
    return path.with_suffix(".npy").read_bytes()


def pickled(path):
    np.savez(path, one=np.array([{}]))
    return path.read_bytes()


@pytest.mark.parametrize(
    "content", [lambda _: b"", lambda _: b"text", lambda _: b"PK\x03\x04", damaged, plain, pickled]
)
def test_what_is_no_npz_file_of_plain_arrays(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content(path))
    with pytest.raises(ValueError, match="a.npz is not an npz file of plain arrays"):
        read_arrays(path, ["one"])


def test_a_disk_that_takes_no_more_is_named_with_the_file(tmp_path, monkeypatch):
    """Full, over its quota, read-only: one sentence, and the old file stays."""
    path = tmp_path / "list.txt"
    write_text(path, "old")
    for number, remedy in ((errno.ENOSPC, "make room"), (errno.EROFS, "make it writable")):

        def refuse(*_, number=number):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", refuse)
            with pytest.raises(CannotWriteError, match=f"list.txt .*{remedy}.*goes on") as found:
                write_text(path, "new")
        assert found.value.errno == number
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_seen_through_what_torch_makes_of_it(tmp_path):
    """torch.save turns "no space left" into "unexpected pos"."""
    path = tmp_path / "weights.pth"
    expected = pytest.raises(CannotWriteError, match=r"weights.pth \(No space left on device\)")
    with expected, replacing(path), open("/dev/full", "wb") as full:
        torch.save({"model": torch.zeros(10_000)}, full)
    assert not list(tmp_path.iterdir())


def test_other_errors_while_writing_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "a"):
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a"):
        1 / 0  # noqa: B018


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(CannotWriteError, match=r"runs/one/list.txt \(Not a directory\)"):
        write_text(tmp_path / "runs" / "one" / "list.txt", "text")


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    for name in (".config.json.17.tmp", ".checkpoint-last.pth.17.934.tmp", "figures/.a.png.3.tmp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    (tmp_path / ".crops.17.tmp").mkdir()
    for name in ("config.json", ".hidden", "notes.tmp"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".hidden", "config.json", "figures", "notes.tmp"]
    assert not list((tmp_path / "figures").iterdir())


@pytest.mark.parametrize("damage", [b'{"epoch": 2, "tr', b"\xff\xfe", b"[1]", b'{"step": 1}', b"7"])
def test_damaged_lines_of_a_journal_are_named_and_left_out(tmp_path, caplog, damage):
    path = tmp_path / "log.jsonl"
    assert read_journal(path) == []
    path.write_bytes(b'{"epoch": 0}\n' + damage + b'\n\n{"epoch": 1}')
    assert read_journal(path, {"epoch": int}) == [{"epoch": 0}, {"epoch": 1}]
    assert f"{path}: line 2 is damaged" in caplog.text


def test_a_line_added_to_a_torn_journal_stands_alone(tmp_path):
    path = tmp_path / "log.jsonl"
    for before in ("", '{"a": 1}\n', '{"a": 1}\n{"b'):
        path.write_text(before)
        with GrowingFile(path) as file:
            file.write('{"c": 3}\n')
        assert read_journal(path)[-1] == {"c": 3}
        assert len(read_journal(path)) == 1 + bool(before)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe{", b"[" * 100_000, b'{"a":' * 100_000, b"NaNs"]
)
def test_what_is_no_json_object_is_refused_by_name(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"classes\.json (is|holds)"):
        read_json(path)
    with pytest.raises(ValueError, match=r"classes\.json"):
        read_classes(tmp_path)


def test_a_growing_file_names_itself_and_keeps_nothing_back(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    with GrowingFile(path) as file:
        file.write('{"a": 1}\n')
        assert path.read_bytes() == b'{"a": 1}\n'
        file._file.close()
        file._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        with pytest.raises(CannotWriteError, match=r"cannot write .*log\.jsonl \(No space left"):
            file.write("more\n")
    assert path.read_bytes() == b'{"a": 1}\n'


def test_a_refusal_of_the_disk_goes_through_processes():
    error = CannotWriteError("/a/b", OSError(errno.ENOSPC, "No space left on device"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.errno) == (str(error), errno.ENOSPC)


def test_only_errors_raised_on_purpose_are_sentences():
    def explanation(function):
        try:
            function()
        except Exception as error:
            return explain(error)
        raise AssertionError

    assert "must be at least 1" in explanation(
        lambda: parse_flags(pretraining_parser(), ["--epochs", "0"])
    )
    # called in a line of ours, inside a library, and in a file that is not ours
    assert explanation(lambda: np.ones(2).reshape(3)) is None
    assert explanation(lambda: (ROOT / "docs" / "figures").joinpath("x").write_text(3)) is None
    path = ROOT / "tests" / "golden"
    assert str(path) in explanation(lambda: path.read_text())
    dead = RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. ")
    assert "a process that loads videos has died" in explain(dead)
    assert explain(RuntimeError("shapes differ")) is None


def test_an_error_of_decoding_in_a_line_of_ours_is_no_sentence(tmp_path, monkeypatch):
    """It names no file; its place in the code is what is wanted."""
    from svfap.datasets.labels import classes

    monkeypatch.chdir(ROOT)
    path = tmp_path / "frames.json"
    path.write_bytes(b"\xff\xfe\x00")
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        assert not is_for_user(error)
    path = tmp_path / classes.FILE_NAME
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=classes.FILE_NAME) as found:
        classes.read_classes(tmp_path)
    assert is_for_user(found.value)


def test_naming_the_commit_takes_no_lock_of_the_checkout(tmp_path, monkeypatch):
    """A run that is killed meanwhile would leave it behind."""
    from svfap.engine.runtime import log

    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("a")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(log, "ROOT", tmp_path)
    os.utime(tmp_path / "file", (1, 1))  # what makes git refresh its index
    index = tmp_path / ".git" / "index"
    before = index.stat().st_mtime_ns
    clean = log.commit_name()
    assert len(clean) >= 7 and "dirty" not in clean
    assert index.stat().st_mtime_ns == before
    (tmp_path / "file").write_text("other")
    assert log.commit_name() == f"{clean}-dirty"


def test_what_loader_processes_say_is_told_without_their_traceback():
    """Their errors come as text; only those raised on purpose are for users."""

    def of_worker(function, *arguments):
        try:
            function(*arguments)
        except ValueError:
            wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
        with pytest.raises(ValueError) as found:
            wrapped.reraise()
        return explain(found.value)

    said = of_worker(cut_window, np.zeros((1, 8, 8, 3)), (0, 0, 9, 9), "a.mp4")
    assert said.startswith("a.mp4: the face window (top 0") and said.endswith("to one size")
    assert of_worker(int, "x") is None
