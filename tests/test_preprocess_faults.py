"""Planted faults in the official files of FERV39k and MAFW: each is found and named."""

import shutil

import pytest

from preprocess import ferv39k, mafw
from preprocess.common import PreparationError
from tests.test_preprocess import write_ferv39k, write_mafw


def complaints(command, root, out) -> str:
    argv = ["--dataset_dir", str(root), "--output_dir", str(out), "--allow_other_counts"]
    with pytest.raises(PreparationError) as caught:
        command.main(argv)
    assert not list(out.rglob("*.csv")), "files were written in spite of the problems"
    return str(caught.value)


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
    assert "Action/Fear/0001" in text and "train" in text and "test" in text
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
    assert f"{path} line 3" in text and "00001" in text
    path.write_text(original)
    shutil.rmtree(root / "data" / "frames" / "00007")
    text = complaints(mafw, root, tmp_path / "out")
    assert f"no such frame folder: {root / 'data' / 'frames' / '00007'}" in text
    shutil.rmtree(lists / "set_5")
    assert f"no such file: {lists / 'set_5' / 'train.txt'}" in complaints(
        mafw, root, tmp_path / "out"
    )
