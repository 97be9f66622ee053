"""RAVDESS and CREMA-D in one command each, from a local server, on drawn faces in their layouts."""

import os
import subprocess
import sys
from itertools import cycle

import pytest

from svfap.preprocess.synthetic.command import write_mp4
from svfap.preprocess.synthetic.plan import Settings, make_renderer
from svfap.preprocess.synthetic.render import VOXCELEB2
from tests.conftest import ROOT
from tests.test_fetch import serve_cremad, serve_ravdess, server

__all__ = ["server"]
TINY = [
    *("--model", "svfap_tiny_patch8_64", "--input_size", "64", "--short_side_size", "64"),
    *("--patch_size", "16", "--num_frames", "8", "--sampling_rate", "1", "--epochs", "1"),
    *("--stage_depths", "1", "1", "1", "--num_workers", "0", "--batch_size", "4"),
]
SHOWN = cycle(("happy", "sad", "angry", "surprise"))


def drawn(names: list[str], subjects: list[int], folder) -> dict[str, bytes]:
    """An H.264 video of a talking head for each name."""
    settings = Settings(size=160, min_frames=10, max_frames=10)
    videos = {}
    for index, (name, subject) in enumerate(zip(names, subjects, strict=True)):
        renderer = make_renderer(
            settings, subject=subject, scene=subject, emotion=next(SHOWN), index=index,
            stream="test", framing=VOXCELEB2,
        )  # fmt: skip
        path = folder / "video.mp4"
        write_mp4(path, (renderer.frame(t) for t in range(10)), 160)
        videos[name] = path.read_bytes()
    return videos


def run(dataset: str, address: str, place, *flags: str, status: int = 0, **more: str) -> str:
    variables = {
        "PYTHON": sys.executable, "GPUS": "0", "PLACE": str(place / "data"), "WORKERS": "0",
        "OUTPUT_DIR": str(place / "runs"), "ADDRESS": address, "FOLDS": "1 2",
        "LIST_FLAGS": "--allow_other_counts --num_folds 2", **more,
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(ROOT / f"scripts/{dataset}/all.sh"), *flags], capture_output=True, text=True,
        env={**os.environ, **variables}, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_ravdess_from_its_archives_to_the_table(server, tmp_path):
    pytest.importorskip("dlib")
    trials = [(actor, emotion) for actor in (1, 2) for emotion in range(1, 9)]
    names = [f"01-01-{emotion:02d}-01-01-01-{actor:02d}" for actor, emotion in trials]
    address = serve_ravdess(server, drawn(names, [actor for actor, _ in trials], tmp_path))
    server.faults["/files/Video_Speech_Actor_02.zip/content"] = [1000, 503]
    text = run("ravdess", address, tmp_path, "--weights", "none", *TINY)
    assert "| pooled" in text and "| SVFAP-B (paper)" in text and "75.15" in text
    assert (tmp_path / "runs/results.md").read_text() in text
    before = len(server.asked)
    assert "75.15" in run("ravdess", address, tmp_path, "--weights", "none", *TINY)
    assert len(server.asked) == before  # nothing is fetched, cropped or trained again
    own = str(tmp_path / "runs/split01/checkpoint-last.pth")  # and from weights of one's own
    other = str(tmp_path / "own")
    text = run("ravdess", address, tmp_path, "--weights", own, *TINY, FOLDS="1", OUTPUT_DIR=other)
    assert "75.15" in text and (tmp_path / "own/split01/metrics.json").is_file()


@pytest.mark.slow
def test_cremad_from_its_repository_to_the_table(server, tmp_path):
    pytest.importorskip("dlib")
    trials = [(s, e) for s in (1001, 1002) for e in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")]
    names = [f"{subject}_DFA_{emotion}_XX" for subject, emotion in trials]
    addresses = serve_cremad(server, drawn(names, [subject for subject, _ in trials], tmp_path))
    text = run("cremad", " ".join(addresses), tmp_path, "--weights", "none", *TINY)
    assert "| pooled" in text and "77.31" in text


def test_what_cannot_be_is_said_at_once(tmp_path):
    assert "give --weights released, none, or a file" not in run(
        "ravdess", "http://127.0.0.1:9/", tmp_path, "--help"
    )
    text = run("cremad", "http://127.0.0.1:9/", tmp_path, "--weights", "no.pth", status=1)
    assert "no.pth does not exist; give --weights released, none, or a file" in text
