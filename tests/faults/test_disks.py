"""Disks that are full or read-only, and files that vanish: a sentence, and the command goes on.

    .venv/bin/python -m pytest -m slow tests/faults

The long form mounts small file systems in a namespace of its own, where the system allows it.
"""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.commands import SEED, Running, make_data
from tests.faults.same import differences

COMMANDS = ("pretraining", "finetuning", "packing", "faces")
MOUNTED = """
mount -t tmpfs -o size=$OPTIONS fault "$OUT"
head -c "$FILLED" /dev/zero > "$OUT/filler"
"$@" "$OUT/run"; echo "first status $?"
rm -f "$OUT/filler"
mount -o remount,rw,size=500m "$OUT"
"$@" "$OUT/run"; echo "second status $?"
cp -a "$OUT/run" "$KEPT"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """What a command makes undisturbed, in `place`/run."""
    known = {}

    def make(name: str) -> Path:
        if name not in known:
            place = tmp_path_factory.mktemp(name)
            (place / "mounted").mkdir()
            running = Running(name, data, place / "mounted" / "run")
            assert running.end() == 0, running.said
            known[name] = running.out.rename(place / "whole")
        return known[name]

    return make


def require_words(said: str, *any_of: str) -> None:
    """The end is an error in words that name one of these."""
    assert "Traceback" not in said, said
    _, error, words = said.rpartition("error: ")
    assert error and any(text in words for text in any_of), said


def full_at(limit: int, name: str, data: Path, whole: Path) -> int:
    """A disk that takes no larger files, then one that does; returns the first status."""
    out = whole.with_name("mounted") / "run"
    shutil.rmtree(out, ignore_errors=True)
    running = Running(name, data, out, limit=limit)
    status = running.end()
    if status:
        require_words(running.said, "cannot write", "videos could not be done")
        running = Running(name, data, out)
        assert running.end() == 0, running.said
    assert not differences(whole, out)
    return status


def test_files_that_are_too_large_for_the_disk(data, whole):
    for name, limit in (("pretraining", 100), ("pretraining", 500_000), ("faces", 2000)):
        assert full_at(limit, name, data, whole(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_files_of_any_size_that_are_too_large(name, data, whole):
    largest = max(path.stat().st_size for path in whole(name).rglob("*") if path.is_file())
    for share in (0.0001, 0.001, 0.01, 0.1, 0.3, 0.6, 0.9):
        full_at(max(1, int(share * largest)), name, data, whole(name))


def mounted(options: str, name: str, data: Path, whole: Path, *, filled: int = 0) -> None:
    """A disk that is small, full or read-only, then a large one."""
    out, kept = whole.with_name("mounted"), whole.with_name("kept")
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(kept, ignore_errors=True)
    out.mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNTED, "sh",
         sys.executable, "-m", "tests.faults.commands", name, str(data)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
        env=os.environ
        | {"OPTIONS": options, "OUT": str(out), "KEPT": str(kept), "FILLED": str(filled)},
    )  # fmt: skip
    first, second = done.stdout.split("first status ")
    if not second.startswith("0"):
        require_words(first, "cannot write", "cannot read or write")
    assert "second status 0" in second, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    assert not differences(whole, kept), done.stdout


def can_mount() -> bool:
    try:
        return not subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="unshare -rm is not allowed here")
@pytest.mark.parametrize("name", COMMANDS)
def test_small_and_read_only_disks(name, data, whole):
    size = sum(path.stat().st_size for path in whole(name).rglob("*") if path.is_file())
    for share in (0.05, 0.3, 0.8):
        mounted(f"{max(8192, int(share * size))}", name, data, whole(name))
    for room in (0, 4096, 12288):
        mounted("1m", name, data, whole(name), filled=2**20 - room)
    mounted("1m,ro", name, data, whole(name))


def vanish(what: str, data: Path, out: Path) -> None:
    """Remove the first video, all videos, the lists, or the output directory."""
    videos = sorted([*data.rglob("*.mp4")])
    if what == "lists":
        for path in data.rglob("*.csv"):
            path.unlink()
    elif what == "output":
        shutil.rmtree(out, ignore_errors=True)
    else:
        for path in videos[:1] if what == "video" else videos:
            path.unlink()


def lose(name: str, what: str, data: Path, folder: Path) -> None:
    """Let files vanish at a random moment of a command: it ends well, or in words."""
    rng = random.Random(f"{SEED} {name} {what}")
    running = Running(name, data, folder / "out")
    running.process.join(rng.uniform(0.2, 4))
    vanish(what, data, running.out)
    status = running.end()
    assert "Traceback" not in running.said, running.said
    if status:
        require_words(running.said, str(data), str(running.out), "--max_unreadable")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("what", ["video", "videos", "lists", "output"])
def test_files_that_vanish(name, what, tmp_path):
    for number in range(2):
        folder = tmp_path / str(number)
        lose(name, what, make_data(folder / "data"), folder)


def test_videos_that_vanish(tmp_path):
    lose("pretraining", "videos", make_data(tmp_path / "data"), tmp_path)
