"""DFEW: what the official lists say, planted faults; white space, validation parts."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.labels.splits import carve_validation
from svfap.preprocess import dfew
from svfap.preprocess.shared.common import PreparationError, check_counts, without_spaces
from svfap.preprocess.shared.runner import published_counts
from tests.conftest import ROOT
from tests.preparation import lines_of, write_frames

NUM_FOLDS = 5


def write_dfew(root: Path, *, num_clips: int = 35, frames: bool = True) -> None:
    """DFEW's layout: clip i has label i % 7 + 1 and is tested in fold i % 5 + 1."""
    for fold in range(1, NUM_FOLDS + 1):
        for part in ("train", "test"):
            tested = [
                i for i in range(num_clips) if (i % NUM_FOLDS + 1 == fold) == (part == "test")
            ]
            path = root / "EmoLabel_DataSplit" / f"{part}(single-labeled)" / f"set_{fold}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = ["video_name,label", *(f"{i + 1},{i % 7 + 1}" for i in tested)]
            path.write_text("\n".join(lines) + "\n")
    for i in range(num_clips if frames else 0):
        write_frames(root / "Clip" / "jpg_256" / f"{i + 1:05d}")


def write_subjects(root: Path, lines: list[str]) -> None:
    (root / "annotation").mkdir()
    (root / "annotation" / "subjects.csv").write_text("\n".join(lines) + "\n")


def run_dfew(root: Path, out: Path, *more: str) -> None:
    dfew.main(["--dataset_dir", str(root), "--output_dir", str(out), "--allow_other_counts", *more])


@pytest.fixture(scope="module")
def dfew_tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("dfew")
    write_dfew(root)
    return root


@pytest.fixture
def dfew_copy(tmp_path) -> Path:
    write_dfew(tmp_path / "DFEW")
    return tmp_path / "DFEW"


def test_dfew_writes_what_the_official_lists_say(dfew_tree, tmp_path):
    run_dfew(dfew_tree, tmp_path)
    frames = dfew_tree / "Clip" / "jpg_256"
    for fold in range(1, NUM_FOLDS + 1):
        test = lines_of(tmp_path / f"split{fold:02d}" / "test.csv")
        assert test == [f"{frames}/{i + 1:05d} {i % 7}" for i in range(fold - 1, 35, 5)]
        train = lines_of(tmp_path / f"split{fold:02d}" / "train.csv")
        assert len(train) == 28
        assert not set(train) & set(test)
        assert lines_of(tmp_path / f"split{fold:02d}" / "val.csv") == test
    rows = read_annotations(
        tmp_path / "split01" / "train.csv", task="classification", names="abcdefg"
    )
    assert np.bincount(rows.labels).tolist() == [4] * 7


def test_dfew_says_loudly_that_validation_is_the_test_part(dfew_tree, tmp_path, caplog):
    run_dfew(dfew_tree, tmp_path / "a", "--folds", "1")
    assert "NO OFFICIAL VALIDATION PART" in caplog.text
    caplog.clear()
    run_dfew(dfew_tree, tmp_path / "b", "--folds", "1", "--val_fraction", "0.25")
    assert "NO OFFICIAL VALIDATION PART" not in caplog.text


def test_dfew_carves_a_stratified_validation_part(dfew_tree, tmp_path):
    for name in ("a", "b"):
        run_dfew(dfew_tree, tmp_path / name, "--folds", "2", "--val_fraction", "0.25")
    parts = {p: lines_of(tmp_path / "a" / "split02" / f"{p}.csv") for p in ("train", "val", "test")}
    assert [len(rows) for rows in parts.values()] == [21, 7, 7]
    assert sorted(row.split()[1] for row in parts["val"]) == list("0123456")
    assert len({row for rows in parts.values() for row in rows}) == 35
    assert lines_of(tmp_path / "b" / "split02" / "val.csv") == parts["val"]


def test_dfew_keeps_subjects_together(dfew_copy, tmp_path):
    # Fold 1 tests clips 0, 5, 10, ...; subject = clip % 5 is therefore on one side only.
    subjects = {i + 1: f"s{i % 5}" for i in range(35)}
    lines = ["video_name,subject", *(f"{name},{subject}" for name, subject in subjects.items())]
    write_subjects(dfew_copy, lines)
    run_dfew(dfew_copy, tmp_path / "out", "--folds", "1", "--val_fraction", "0.25")
    sides = {}
    for part in ("train", "val", "test"):
        rows = lines_of(tmp_path / "out" / "split01" / f"{part}.csv")
        sides[part] = {subjects[int(Path(row.split()[0]).name)] for row in rows}
    assert sides["test"] == {"s0"}
    assert len(sides["val"]) == 1
    assert sides["train"] | sides["val"] == {"s1", "s2", "s3", "s4"}
    assert not sides["train"] & sides["val"]


def test_dfew_names_a_subject_on_both_sides(dfew_copy, tmp_path):
    lines = ["video_name,subject", *(f"{i + 1},s{min(i, 3)}" for i in range(35))]
    write_subjects(dfew_copy, lines)
    with pytest.raises(PreparationError, match="split01: subject s3 is in train and in test"):
        run_dfew(dfew_copy, tmp_path / "out", "--folds", "1")


def test_published_counts_are_wanted(dfew_tree, tmp_path):
    with pytest.raises(PreparationError) as caught:
        dfew.main(["--dataset_dir", str(dfew_tree), "--output_dir", str(tmp_path)])
    text = str(caught.value)
    assert "split05 train: found 28, published 9,361" in text
    assert "split01 test: found 7, published 2,341" in text
    assert "--allow_other_counts" in text
    assert not (tmp_path / "split01").exists()


def test_other_counts_are_warned_about_when_allowed(dfew_tree, tmp_path, caplog):
    run_dfew(dfew_tree, tmp_path)
    assert "split01 train: found 28, published 9,356" in caplog.text


def test_official_dfew_counts_pass(tmp_path):
    sizes = {1: 9356, 2: 9356, 3: 9357, 4: 9358, 5: 9361}
    found = {f"split{f:02d} {p}": n for f, t in sizes.items() for p, n in
             (("train", t), ("test", 11697 - t))}  # fmt: skip
    published = published_counts(dfew.SPEC, [f"split{fold:02d}" for fold in sizes])
    check_counts(found | {"clips": 11697}, published, allow_other=False, name="DFEW")
    assert published_counts(dfew.SPEC, ["split02", "split05"]) == {
        "clips": 11697,
        "split02 train": 9356,
        "split02 test": 2341,
        "split05 train": 9361,
        "split05 test": 2336,
    }


def test_dfew_names_every_planted_fault(dfew_copy, tmp_path):
    lists = dfew_copy / "EmoLabel_DataSplit"
    train = lists / "train(single-labeled)" / "set_1.csv"
    lines = train.read_text().splitlines()
    lines[1], lines[2] = "2,8", "abc,1"
    lines[3] += ",7"
    train.write_text("\n".join(lines) + "\n")
    with pytest.raises(PreparationError) as caught:
        run_dfew(dfew_copy, tmp_path / "out")
    text = str(caught.value)
    assert f"{train} line 2: label '8' is not one of 1..7" in text
    assert f"{train} line 3: video_name 'abc' is not a number" in text
    assert f"{train} line 4: more columns than the header" in text
    assert "3 problem(s)" in text
    assert len(lines_of(tmp_path / "out" / "problems.txt")) == 3


def test_dfew_finds_videos_on_both_sides_and_tested_twice(dfew_copy, tmp_path):
    lists = dfew_copy / "EmoLabel_DataSplit"
    with (lists / "test(single-labeled)" / "set_1.csv").open("a") as file:
        file.write("2,2\n")
    with pytest.raises(PreparationError) as caught:
        run_dfew(dfew_copy, tmp_path / "out")
    text = str(caught.value)
    assert "set_1.csv line 9: 00002 is already in" in text
    assert "set_2.csv line 2: 00002 is also tested in" in text


def test_dfew_finds_labels_that_disagree_and_videos_never_tested(dfew_copy, tmp_path):
    lists = dfew_copy / "EmoLabel_DataSplit"
    test = lists / "test(single-labeled)" / "set_1.csv"
    test.write_text(test.read_text().replace("\n6,6\n", "\n"))
    train = lists / "train(single-labeled)" / "set_2.csv"
    train.write_text(train.read_text().replace("\n1,1\n", "\n1,3\n"))
    with pytest.raises(PreparationError) as caught:
        run_dfew(dfew_copy, tmp_path / "out")
    text = str(caught.value)
    assert "00001 has label 2, but 0 in" in text
    assert "00006 is in no fold's test part" in text


def test_dfew_names_missing_and_empty_frame_folders(dfew_copy, tmp_path, caplog):
    frames = dfew_copy / "Clip" / "jpg_256"
    for path in (frames / "00003").iterdir():
        path.unlink()
    (frames / "00003").rmdir()
    for path in (frames / "00004").iterdir():
        path.unlink()
    with pytest.raises(PreparationError) as caught:
        run_dfew(dfew_copy, tmp_path / "out")
    assert f"no such frame folder: {frames / '00003'}" in str(caught.value)
    assert f"frames in {frames / '00004'}" in str(caught.value)
    assert "--leave_out_missing" in str(caught.value)
    run_dfew(dfew_copy, tmp_path / "out", "--leave_out_missing")
    assert "left out (--leave_out_missing): no such frame folder" in caplog.text
    everything = "".join((tmp_path / "out" / "split01" / f"{p}.csv").read_text()
                         for p in ("train", "test"))  # fmt: skip
    assert "00003" not in everything
    assert "00004" not in everything
    assert everything.count("\n") == 33


def test_dfew_names_folders_that_no_list_mentions(dfew_copy, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_frames(dfew_copy / "Clip" / "jpg_256" / "12345")
    run_dfew(dfew_copy, tmp_path / "out")
    assert "1 folders that no list mentions (12345)" in caplog.text


def test_dfew_wrong_folder_and_header_are_explained(dfew_copy, tmp_path):
    with pytest.raises(PreparationError, match="the folder that holds EmoLabel_DataSplit"):
        run_dfew(tmp_path, tmp_path / "out")
    path = dfew_copy / "EmoLabel_DataSplit" / "train(single-labeled)" / "set_1.csv"
    path.write_text(path.read_text().replace("video_name", "clip"))
    with pytest.raises(PreparationError, match="no column .'video_name'.*header is .'clip'"):
        run_dfew(dfew_copy, tmp_path / "out")


def test_dfew_missing_fold_list(dfew_copy, tmp_path):
    (dfew_copy / "EmoLabel_DataSplit" / "test(single-labeled)" / "set_4.csv").unlink()
    with pytest.raises(PreparationError, match="have a training list"):
        run_dfew(dfew_copy, tmp_path / "out")


def test_white_space_in_paths(dfew_copy, tmp_path):
    spaced = tmp_path / "my data" / "DFEW"
    spaced.parent.mkdir()
    dfew_copy.rename(spaced)
    run_dfew(spaced, tmp_path / "beside", "--folds", "1")
    rows = read_annotations(tmp_path / "beside" / "split01" / "test.csv", task="classification")
    assert all(path.startswith(str(tmp_path / "beside" / "links")) for path in rows.paths)
    run_dfew(spaced, tmp_path / "out", "--folds", "1", "--link_dir", str(tmp_path / "links"))
    rows = read_annotations(tmp_path / "out" / "split01" / "test.csv", task="classification")
    assert all(path.startswith(str(tmp_path / "links")) for path in rows.paths)


def test_links_of_equal_names_differ_and_repeat(tmp_path):
    targets = [tmp_path / name / "x" / "y z" for name in ("a b", "a  b")]
    for target in targets:
        target.mkdir(parents=True)
    links = [without_spaces(target, tmp_path / "links") for target in targets]
    assert links[0] != links[1]
    assert [without_spaces(target, tmp_path / "links") for target in targets] == links
    assert [link.resolve() for link in links] == targets


def test_carving_by_subject_comes_close_to_the_share():
    rng = np.random.default_rng(0)
    subjects = [f"s{n}" for n in rng.integers(0, 40, 600)]
    labels = [str(n) for n in rng.integers(0, 7, 600)]
    chosen = carve_validation(labels, 0.2, seed=3, subjects=subjects)
    assert chosen == carve_validation(labels, 0.2, seed=3, subjects=subjects)
    assert chosen != carve_validation(labels, 0.2, seed=4, subjects=subjects)
    validation = {s for s, taken in zip(subjects, chosen, strict=True) if taken}
    training = {s for s, taken in zip(subjects, chosen, strict=True) if not taken}
    assert not validation & training
    assert 0.14 < np.mean(chosen) < 0.26


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2])
def test_carving_refuses_impossible_shares(fraction):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        carve_validation(["0", "1"], fraction, seed=0)


def test_command_line_tells_errors_without_traceback(tmp_path):
    command = [sys.executable, "-m", "preprocess.dfew", "--dataset_dir", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no set_N.csv in ")
    assert "Traceback" not in done.stderr
