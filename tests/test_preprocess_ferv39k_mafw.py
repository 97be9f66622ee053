"""FERV39k and MAFW: what the official lists say; planted faults are found and named."""

import shutil
import unicodedata
from pathlib import Path

from svfap.preprocess import ferv39k, mafw
from tests.preparation import OTHER, lines_of, message, run, write_frames

NUM_FOLDS = 5


def complaints(command, root: Path, out: Path) -> str:
    text = message(command, root, out, OTHER)
    assert not list(out.rglob("*.csv")), "files were written in spite of the problems"
    return text


def write_ferv39k(root: Path, test_label: str = "Happy") -> None:
    lists = root / "4_setups" / "All_scenes"
    lists.mkdir(parents=True)
    clips = {"train": ["Action/Fear/0001 Fear", "Crime/Sad/0002 Sad"],
             "test": [f"Action/Happy/0003 {test_label}"]}  # fmt: skip
    for part, lines in clips.items():
        (lists / f"{part}_All.csv").write_text("\n".join(lines) + "\n")
        for line in lines:
            write_frames(root / "2_ClipsforFaceCrop" / line.split()[0])


def test_ferv39k(tmp_path):
    write_ferv39k(tmp_path / "FERV39k")
    text = message(ferv39k, tmp_path / "FERV39k", tmp_path / "out")
    assert "all_scenes train: found 2, published 31,088" in text
    assert "all_scenes test: found 1, published 7,847" in text
    run(ferv39k, tmp_path / "FERV39k", tmp_path / "out", OTHER)
    frames = tmp_path / "FERV39k" / "2_ClipsforFaceCrop"
    out = tmp_path / "out" / "all_scenes"
    assert lines_of(out / "train.csv") == [
        f"{frames}/Action/Fear/0001 6",
        f"{frames}/Crime/Sad/0002 1",
    ]
    assert lines_of(out / "test.csv") == [f"{frames}/Action/Happy/0003 0"]


def test_ferv39k_never_guesses_a_label(tmp_path):
    write_ferv39k(tmp_path / "FERV39k", test_label="happiness")
    text = complaints(ferv39k, tmp_path / "FERV39k", tmp_path / "out")
    assert "line 1: label 'happiness' is none of Happy, Sad" in text


def write_mafw(root: Path) -> None:
    labels = ["anger", "contempt", "disappointment", "surprise", "neutral"]
    for fold in range(1, NUM_FOLDS + 1):
        folder = root / "Train & Test Set" / "single" / "no_caption" / f"set_{fold}"
        folder.mkdir(parents=True)
        for part in ("train", "test"):
            chosen = [i for i in range(10) if (i % NUM_FOLDS + 1 == fold) == (part == "test")]
            lines = [f"{i + 1:05d}.mp4 {labels[i % 5]}" for i in chosen]
            (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")
    for i in range(10):
        write_frames(root / "data" / "frames" / f"{i + 1:05d}", ".png")


def test_mafw(tmp_path):
    write_mafw(tmp_path / "MAFW")
    text = message(mafw, tmp_path / "MAFW", tmp_path / "out")
    assert "split03 test: found 2, published 1,833" in text
    run(mafw, tmp_path / "MAFW", tmp_path / "out", OTHER)
    frames = tmp_path / "MAFW" / "data" / "frames"
    expected = {1: 0, 2: 7, 3: 10, 4: 6, 5: 4}
    for fold, label in expected.items():
        test = lines_of(tmp_path / "out" / f"split{fold:02d}" / "test.csv")
        assert test == [f"{frames}/{n:05d} {label}" for n in (fold, fold + 5)]


def test_mafw_names_lines_that_are_not_name_and_label(tmp_path):
    write_mafw(tmp_path / "MAFW")
    path = tmp_path / "MAFW" / "Train & Test Set" / "single" / "no_caption" / "set_2" / "train.txt"
    with path.open("a") as file:
        file.write("00077.mp4 anger extra\n00078 anger\n")
    text = complaints(mafw, tmp_path / "MAFW", tmp_path / "out")
    assert "line 9: expected `NAME.mp4 label-name`, got '00077.mp4 anger extra'" in text
    assert "line 10: expected `NAME.mp4 label-name`, got '00078 anger'" in text


def test_ferv39k_faults_are_named_together(tmp_path):
    root = tmp_path / "FERV39k"
    write_ferv39k(root)
    lists = root / "4_setups" / "All_scenes"
    with (lists / "test_All.csv").open("a") as file:
        file.write("Action/Fear/0001 Fear\nAction/Sad/0009 Sad\nAction/Happy/0003 Happy 1\n")
        file.write("Action/Happy/0010 7\n")
    shutil.rmtree(root / "2_ClipsforFaceCrop" / "Crime" / "Sad" / "0002")
    text = complaints(ferv39k, root, tmp_path / "out")
    test = lists / "test_All.csv"
    assert f"{test} line 4: expected `path label-name`, got 'Action/Happy/0003 Happy 1'" in text
    assert f"{test} line 5: label '7' is none of Happy, Sad" in text
    lines = test.read_text().splitlines()
    test.write_text("\n".join(lines[:3]) + "\n")
    text = complaints(ferv39k, root, tmp_path / "out")
    assert f"{test} line 2: Action/Fear/0001 is already in {lists / 'train_All.csv'}" in text
    test.write_text("\n".join([lines[0], lines[2]]) + "\n")
    text = complaints(ferv39k, root, tmp_path / "out")
    for folder in ("Crime/Sad/0002", "Action/Sad/0009"):
        assert f"no such frame folder: {root / '2_ClipsforFaceCrop' / folder}" in text


def test_mafw_faults_are_named(tmp_path):
    root = tmp_path / "MAFW"
    write_mafw(root)
    lists = root / "Train & Test Set" / "single" / "no_caption"
    path = lists / "set_4" / "test.txt"
    original = path.read_text()
    path.write_text(original + "00078.mp4 angry\n")
    text = complaints(mafw, root, tmp_path / "out")
    assert f"{path} line 3: label 'angry' is none of anger, disgust" in text
    path.write_text(original + "00001.mp4 anger\n")  # trained on in fold 4, tested in fold 1
    text = complaints(mafw, root, tmp_path / "out")
    assert f"{path} line 3: 00001 is already in {lists / 'set_4' / 'train.txt'}" in text
    path.write_text(original)
    shutil.rmtree(root / "data" / "frames" / "00007")
    text = complaints(mafw, root, tmp_path / "out")
    assert f"no such frame folder: {root / 'data' / 'frames' / '00007'}" in text


def test_mafw_folds(tmp_path, caplog):
    root, absent = tmp_path / "MAFW", "no lists of fold(s) [9]; there are [1, 2, 3, 4, 5]"
    write_mafw(root)
    assert absent in message(mafw, root, tmp_path / "nine", OTHER, "--folds", "1", "9")
    run(mafw, root, tmp_path / "two", OTHER, "--folds", "4", "2")
    assert sorted(path.name for path in (tmp_path / "two").glob("split*")) == ["split02", "split04"]
    shutil.rmtree(root / mafw.LISTS / "set_5")
    absent = "no lists of fold(s) [5]; there are [1, 2, 3, 4]"
    assert absent in message(mafw, root, tmp_path / "four")
    run(mafw, root, tmp_path / "four", OTHER)
    assert absent in caplog.text and len(list((tmp_path / "four").glob("split*"))) == 4
    shutil.rmtree(root / mafw.LISTS)
    assert "no lists of fold(s) [1, 2, 3, 4, 5]; there are []" in complaints(
        mafw, root, tmp_path / "none"
    )


def test_lists_name_folders_in_any_unicode_form(tmp_path):
    root = tmp_path / "FERV39k"
    write_ferv39k(root)
    name = "Action/Sad/écran"
    with (root / "4_setups" / "All_scenes" / "test_All.csv").open("a") as file:
        file.write(unicodedata.normalize("NFC", f"{name} Sad\n"))
    write_frames(root / "2_ClipsforFaceCrop" / unicodedata.normalize("NFD", name))
    run(ferv39k, root, tmp_path / "out", OTHER)
    listed = lines_of(tmp_path / "out/all_scenes/test.csv")
    assert len(listed) == 2
    assert Path(listed[1].split()[0]).is_dir()
