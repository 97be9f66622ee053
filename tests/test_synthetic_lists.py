"""Lists of the drawn faces: values per video and per frame, single frames, identity."""

import shutil

import numpy as np
import pytest

from svfap.datasets.labels.classes import read_classes
from svfap.engine.results.find import subjects_of
from svfap.preprocess import synthetic_affect, synthetic_images
from tests.lab_trees import write_drawn
from tests.preparation import lines_of, message, rows, run, table


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    write_drawn(root)
    return root


def test_values_of_videos_and_of_frames(drawn, tmp_path):
    run(synthetic_affect, drawn, tmp_path)
    folders, annotations = drawn / "dfew/Clip/jpg_256", drawn / "dfew/annotation"
    # The mean over ten frames, of which six are not 0.
    assert lines_of(tmp_path / "videos/split01/test.csv") == [
        f"{folders}/00002 0.120000 -0.060000",
        f"{folders}/00004 0.240000 -0.120000",
        f"{folders}/00006 0.360000 -0.180000",
        f"{folders}/00008 0.480000 -0.240000",
    ]
    assert lines_of(tmp_path / "frames/split02/test.csv")[1] == (
        f"{folders}/00003 {annotations}/00003.npz"
    )
    for folder, task in (("videos", "regression"), ("frames", "regression_frames")):
        names = read_classes(tmp_path / folder / "split02")
        assert (names.task, names.class_names) == (task, ("valence", "arousal"))
        train, test = (
            {path for path, *_ in rows(tmp_path / folder / f"split02/{part}.csv")}
            for part in ("train", "test")
        )
        assert len(train) == len(test) == 4 and not train & test
    subjects = {row["path"]: row["subject"] for row in table(tmp_path / "subjects.csv")}
    assert len(subjects) == 8 and subjects[f"{folders}/00007"] == "p3"


def test_validation_takes_whole_people(drawn, tmp_path):
    run(synthetic_affect, drawn, tmp_path, "--val_fraction", "0.5")
    people = [
        {int(path[-5:]) % 4 for path, *_ in rows(tmp_path / f"videos/split01/{part}.csv")}
        for part in ("train", "val", "test")
    ]
    assert sorted(map(sorted, people[:2])) == [[1], [3]] and people[2] == {0, 2}


def test_frames_of_drawn_faces(drawn, tmp_path):
    run(synthetic_images, drawn, tmp_path, "--frames_per_clip", "3")
    test = rows(tmp_path / "expression/split01/test.csv")
    assert [row[1] for row in test] == ["0"] * 12  # clips 2, 4, 6, 8, three frames each
    assert [row[0][-9:-4] for row in test[:3]] == ["00005", "00007", "00010"]  # the strong ones
    # nobody's frames choose the strength of a probe that was trained on others of the same clip
    who = subjects_of(tmp_path / "expression/split01/subjects.csv", [row[0] for row in test])
    assert who[::3] == ["p2", "p0", "p2", "p0"]
    values = rows(tmp_path / "valence_arousal/split02/test.csv")
    assert values[3][1:] == ["0.300000", "-0.150000"]
    assert read_classes(tmp_path / "valence_arousal/split02").class_names == ("valence", "arousal")
    both = rows(tmp_path / "both/split02/test.csv")
    assert both[3] == [values[3][0], "1", "0.300000", "-0.150000"]
    assert read_classes(tmp_path / "both/split02").task == "class_and_values"


def test_identity_has_everybody_in_both_parts_with_other_clips(drawn, tmp_path):
    run(synthetic_images, drawn, tmp_path, "--frames_per_clip", "3", "--val_fraction", "0.25")
    parts = [rows(tmp_path / f"identity/{part}.csv") for part in ("train", "val", "test")]
    clips = [{row[0].split("/")[-2] for row in some} for some in parts]
    assert clips[0] == {"00001", "00002", "00003", "00004"}
    assert clips[1] <= clips[0] and len(parts[1]) == 4
    assert clips[2] == {"00005", "00006", "00007", "00008"}
    assert read_classes(tmp_path / "identity").class_names == ("p0", "p1", "p2", "p3")
    for some in parts:
        assert {(row[0].split("/")[-2][-1], row[1]) for row in some} <= {
            (str(n), str(n % 4)) for n in range(1, 9)
        }
        assert {row[1] for row in some} == set("0123")


def test_strong_frames_are_spread():
    values = np.zeros((20, 2))
    values[5:15, 0] = -0.9
    assert synthetic_images.strong_frames(values, 3).tolist() == [5, 9, 14]
    assert synthetic_images.strong_frames(values[:7], 4).tolist() == [5, 6]


@pytest.mark.parametrize("command", [synthetic_affect, synthetic_images])
def test_what_is_missing_is_named(tmp_path, command):
    out = tmp_path / "out"
    assert "is not a folder of `python -m svfap.preprocess.synthetic" in message(
        command, tmp_path, out
    )
    drawn = tmp_path / "drawn"
    write_drawn(drawn)
    (drawn / "dfew/Clip/jpg_256/00003/00004.jpg").unlink()
    (drawn / "dfew/annotation/00005.npz").unlink()
    shutil.rmtree(drawn / "dfew/Clip/jpg_256/00006")
    text = message(command, drawn, out)
    assert "00003: 9 frames, 10 in" in text
    for name in ("00005", "00006"):
        assert f"{name}.npz is missing; draw the data set to its end" in text
    assert not list(out.rglob("*.csv"))
    write_drawn(tmp_path / "theirs")
    (tmp_path / "theirs/synthetic.json").unlink()
    assert "is not a folder of" in message(command, tmp_path / "theirs", out)


@pytest.mark.parametrize("command", [synthetic_affect, synthetic_images])
def test_a_test_part_that_also_validates_is_said(drawn, tmp_path, command, caplog):
    run(command, drawn, tmp_path / "with", "--val_fraction", "0.5")
    assert "val.csv" not in caplog.text
    run(command, drawn, tmp_path / "without")
    assert "val.csv" in caplog.text
