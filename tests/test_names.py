"""Names of files that are not UTF-8, from the list of videos to the last report."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from svfap.datasets.files import utf8_path
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.video.open_video import open_video
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.predict import command as predict
from svfap.engine.pretext.view_pictures import views_figure
from svfap.engine.pretraining import pretrain
from svfap.engine.report.page import write_report
from svfap.engine.results.predictions import read_predictions
from svfap.preprocess import custom, pack, videos
from svfap.preprocess.doctor import command as doctor
from svfap.preprocess.shared.face_jobs import _write_mp4
from svfap.terminal import as_program
from tests.tiny_data import FINETUNE_FLAGS, PRETRAIN_FLAGS, write_video

NAMES = [os.fsdecode(b"caf\xe9 $x^%d.mp4" % n) for n in range(12)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder per class; the names hold a byte that is no UTF-8, a space and signs of formulas."""
    root = tmp_path_factory.mktemp("names") / os.fsdecode(b"d\xe9")
    for n, name in enumerate(NAMES):
        (root / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        drawn = root / "clip.mp4"
        write_video(drawn, num_frames=20 + n, direction=n % 2, seed=n)
        drawn.rename(root / "ab"[n % 2] / name)
    return root


@pytest.fixture(scope="module")
def fold(clips) -> Path:
    out = clips.parent / "fold"
    custom.main([str(clips), "--output_dir", str(out), "--test_fraction", "0.4"])
    return out


def test_they_are_opened(clips):
    for path in clips.rglob("*.mp4"):
        with open_video(path) as video:
            assert video.num_frames >= 20
    with utf8_path(clips / "a" / NAMES[0]) as name:
        assert name.isascii()
        assert os.path.samefile(name, clips / "a" / NAMES[0])
    assert not os.path.lexists(name)


def test_they_are_listed_probed_packed_and_trained_on(clips, tmp_path):
    for _ in range(2):  # the second time from the journal
        videos.main([str(clips), "--output_dir", str(tmp_path / "list"), "--num_workers", "0",
                     "--link_dir", str(tmp_path / "links")])  # fmt: skip
    assert len(read_annotations(tmp_path / "list/info_clean.csv", task="pretrain")) == 12
    pack.main(
        [str(tmp_path / "list"), "--output_dir", str(tmp_path / "store"), "--num_workers", "0"]
    )
    argv = [*PRETRAIN_FLAGS, "--data_path", str(tmp_path / "store/info_clean.csv"),
            "--output_dir", str(tmp_path / "run"), "--epochs", "1", "--warmup_epochs", "0",
            "--visualize", "1", "--max_steps", "1"]  # fmt: skip
    pretrain(parse_flags(pretraining_parser(), argv))
    assert len(list((tmp_path / "run").rglob("*.png"))) >= 1


def test_they_are_evaluated_reported_and_predicted(clips, fold, tmp_path):
    formats = ["npz", "parquet"] if find_spec("pyarrow") else ["npz"]
    argv = [*FINETUNE_FLAGS, "--data_set", "custom", "--data_path", str(fold), "--epochs", "1",
            "--warmup_epochs", "0", "--label_fraction", "0.5",
            "--save_feature", "--feature_format", *formats,
            "--output_dir", str(tmp_path / "run")]  # fmt: skip
    finetune(parse_flags(finetuning_parser(), argv))
    ids = read_predictions(tmp_path / "run/pred.csv").ids
    assert ids == list(read_annotations(fold / "test.csv", task="classification").ids)
    assert write_report(tmp_path / "run").is_file()
    for name in ("a", "b"):
        argv = [str(clips / name), "--checkpoint", str(tmp_path / "run/checkpoint-last.pth"),
                "--output_dir", str(tmp_path / "answers"), "--device", "cpu",
                "--no_crop"]  # fmt: skip
        assert predict.main(argv) in (0, None)
    lines = (tmp_path / "answers/predictions.csv").read_bytes().splitlines()
    assert b"caf\xe9" in lines[-1]


def test_the_doctor_names_them(fold, tmp_path):
    as_program()  # as the command itself does
    doctor.main([str(fold), "--output_dir", str(tmp_path), "--num_workers", "0", "--no_faces"])
    content = (tmp_path / "report.json").read_bytes().decode("utf-8", "surrogateescape")
    assert json.loads(content)["folds"]
    assert (tmp_path / "contact_sheet.png").is_file()


def test_pictures_and_videos_get_their_names(clips, tmp_path):
    views_figure([[np.zeros((2, 8, 8, 3), np.uint8)] * 2], NAMES[:1]).savefig(tmp_path / "p.png")
    out = tmp_path / os.fsdecode(b"\xe9")
    out.mkdir()
    _write_mp4(out / "face.mp4", iter([np.zeros((3, 32, 32, 3), np.uint8)]), 32, np.arange(3) / 25)
    with open_video(out / "face.mp4") as video:
        assert video.num_frames == 3


def test_broken_ones_are_named_in_tables(tmp_path):
    path = tmp_path / "d" / NAMES[0].replace(" ", "_")
    path.parent.mkdir()
    path.write_bytes(b"no video")
    with pytest.raises(ValueError, match="none of the 1 videos"):
        videos.main(
            [str(tmp_path / "d"), "--output_dir", str(tmp_path / "o"), "--num_workers", "0"]
        )
    content = (tmp_path / "o/broken.csv").read_bytes()
    assert b"caf\xe9" in content
