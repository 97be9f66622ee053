import csv
import json
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.annotations import read_annotations
from datasets.catalog import SPECS, get_spec
from datasets.classes import LabelNames, read_classes, write_classes
from preprocess import (
    affectnet,
    avcaffe,
    chalearn,
    cremad,
    enterface,
    fer2013,
    rafdb,
    ravdess,
    werewolf_xl,
)
from preprocess.common import PreparationError
from preprocess.labelled import Clip
from preprocess.safe_pickle import UnsafePickleError, load_plain_pickle
from preprocess.subject_folds import assign_folds
from tests import lab_trees as trees

OTHER = "--allow_other_counts"


def run(command, root: Path, out: Path, *more: str) -> None:
    command.main(["--dataset_dir", str(root), "--output_dir", str(out), *map(str, more)])


def message(command, root: Path, out: Path, *more: str) -> str:
    with pytest.raises(PreparationError) as caught:
        run(command, root, out, *more)
    return str(caught.value)


def rows(path: Path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()]


def subjects_of(path: Path, subject) -> set[str]:
    return {subject(Path(row[0])) for row in rows(path)}


def table(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_published_class_counts_add_up():
    for spec in SPECS.values():
        for part, counts in spec.class_counts.items():
            assert sum(counts) == spec.counts[part], (spec.name, part)
            assert len(counts) == spec.num_classes


# ---- CREMA-D


@pytest.fixture(scope="module")
def cremad_full(tmp_path_factory):
    root = tmp_path_factory.mktemp("cremad")
    trees.write_cremad(root)
    return root


@pytest.fixture(scope="module")
def cremad_out(cremad_full, tmp_path_factory):
    out = tmp_path_factory.mktemp("cremad_out")
    (cremad_full / "VideoFlash" / "readme.mp4").write_bytes(b"x")
    run(cremad, cremad_full, out)
    return out


def test_cremad_has_the_published_counts_and_folds_by_subject(cremad_out):
    tested = []
    for fold in range(1, 6):
        folder = cremad_out / f"split{fold:02d}"
        train = subjects_of(folder / "train.csv", lambda p: p.name[:4])
        test = subjects_of(folder / "test.csv", lambda p: p.name[:4])
        assert not train & test
        assert len(train | test) == 91
        assert len(rows(folder / "train.csv")) + len(rows(folder / "test.csv")) == 7442
        assert 17 <= len(test) <= 19
        tested += sorted(test)
        labels = Counter(row[1] for row in rows(folder / "test.csv"))
        assert max(labels.values()) - min(labels.values()) < 0.25 * max(labels.values())
    assert sorted(tested) == [str(1001 + n) for n in range(91)]
    row = next(r for r in rows(cremad_out / "split01/train.csv") if "_IEO_HAP_LO" in r[0])
    assert row[1] == "3"
    assert read_classes(cremad_out / "split03") == LabelNames(
        task="classification", class_names=get_spec("CREMA-D").class_names, data_set="CREMA-D"
    )


def test_cremad_folds_are_written_out_and_repeat(cremad_full, cremad_out, tmp_path):
    content = json.loads((cremad_out / "folds.json").read_text())
    assert content["seed"] == 0
    assert content["data_set"] == "CREMA-D"
    assert sum(fold["test_clips"] for fold in content["folds"]) == 7442
    in_csv = {row["subject"]: int(row["fold"]) for row in table(cremad_out / "folds.csv")}
    for number, fold in enumerate(content["folds"], 1):
        assert {in_csv[subject] for subject in fold["test_subjects"]} == {number}
    run(cremad, cremad_full, tmp_path / "again")
    run(cremad, cremad_full, tmp_path / "seed", "--fold_seed", "1")
    run(cremad, cremad_full, tmp_path / "file", "--folds_file", cremad_out / "folds.json")
    texts = {
        name: (folder / "split02" / "test.csv").read_text()
        for name, folder in (("first", cremad_out), ("again", tmp_path / "again"),
                             ("seed", tmp_path / "seed"), ("file", tmp_path / "file"))
    }  # fmt: skip
    assert texts["first"] == texts["again"] == texts["file"] != texts["seed"]
    subjects = {row["path"]: row["subject"] for row in table(cremad_out / "subjects.csv")}
    assert len(subjects) == 7442
    assert all(Path(path).name.startswith(subject) for path, subject in subjects.items())


def test_cremad_names_wrong_emotions_missing_and_extra_clips(tmp_path, caplog):
    root = tmp_path / "cremad"
    trees.write_cremad(root, 5)
    assert "clips: found 410, published 7,442" in (text := message(cremad, root, tmp_path / "o"))
    assert "subjects: found 5, published 91" in text
    assert "missing: subject 1006: 0 of 82 clips" in text
    (root / "VideoFlash" / "1003_IEO_ANG_LO.flv").unlink()
    trees.touch(root / "VideoFlash" / "holiday.mp4")
    run(cremad, root, tmp_path / "o", OTHER)
    assert "missing: subject 1003: 81 of 82 clips" in caplog.text
    assert "holiday.mp4 (names are NNNN_SSS_EMO_XX)" in caplog.text
    assert "holiday" not in (tmp_path / "o/split01/train.csv").read_text()
    trees.touch(root / "VideoFlash" / "1002_IEO_JOY_XX.flv")
    text = message(cremad, root, tmp_path / "o", OTHER)
    assert "1002_IEO_JOY_XX.flv: emotion 'JOY' is none of ANG, DIS, FEA, HAP, NEU, SAD" in text


def test_cremad_uses_the_official_list_where_it_is(tmp_path, caplog):
    root = tmp_path / "cremad"
    trees.write_cremad(root, 5)
    listed = ["1001_IEO_ANG_LO", "1001_XYZ_SAD_XX"]
    text = '"","Filename"\n' + "".join(f'"{n}","{name}"\n' for n, name in enumerate(listed))
    (root / "SentenceFilenames.csv").write_text(text)
    run(cremad, root, tmp_path / "o", OTHER)
    assert "missing: 1001_XYZ_SAD_XX" in caplog.text
    assert "missing: 1001_IEO" not in caplog.text


def test_broken_files_are_named_before_anything_is_written(tmp_path, caplog):
    root = tmp_path / "cremad"
    trees.write_cremad(root, 5)
    clip = root / "VideoFlash" / "1002_TIE_SAD_XX.flv"
    clip.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (root / "VideoFlash" / "1002_TIE_HAP_XX.flv").write_bytes(b"")
    text = message(cremad, root, tmp_path / "o", OTHER)
    assert f"{clip}: only a pointer of git-lfs; fetch the files with `git lfs pull`" in text
    assert "1002_TIE_HAP_XX.flv: the file is empty" in text
    assert not (tmp_path / "o" / "split01").exists()
    run(cremad, root, tmp_path / "o", OTHER, "--leave_out_missing")
    written = sum(len(rows(tmp_path / "o/split01" / f"{p}.csv")) for p in ("train", "test"))
    assert written == 408
    assert not (tmp_path / "o" / "problems.txt").exists()


def test_a_clip_in_two_places_is_a_problem(tmp_path):
    root = tmp_path / "cremad"
    trees.write_cremad(root, 5)
    trees.touch(root / "VideoFlash" / "copy" / "1002_TIE_SAD_XX.mp4")
    text = message(cremad, root, tmp_path / "o", OTHER)
    assert "the same video is also at" in text
    assert "copy/1002_TIE_SAD_XX.mp4" in text


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_subject_in_two_folds_is_named(tmp_path, kind):
    root = tmp_path / "cremad"
    trees.write_cremad(root, 5)
    folds = [("1001", "1"), ("1002", "1"), ("1003", "2"), ("1002", "2"), ("1004", "2"),
             ("1099", "2")]  # fmt: skip
    path = tmp_path / f"folds.{kind}"
    if kind == "csv":
        path.write_text("subject,fold\n" + "".join(f"{s},{f}\n" for s, f in folds))
    else:
        entries = [
            {"name": f"split0{f}", "test_subjects": [s for s, g in folds if g == f]} for f in "12"
        ]
        path.write_text(json.dumps({"folds": entries}))
    text = message(cremad, root, tmp_path / "o", OTHER, "--folds_file", path)
    prefix = "" if kind == "csv" else "split0"
    assert f"subject 1002 is in fold {prefix}2 and in fold {prefix}1" in text
    assert "subject 1005 is in no fold" in text
    assert "subject 1099 has no clips" in text


def test_validation_by_subject(tmp_path):
    root = tmp_path / "cremad"
    trees.write_cremad(root, 10)
    run(cremad, root, tmp_path / "o", OTHER, "--val_fraction", "0.25")
    for fold in range(1, 6):
        sides = [
            subjects_of(tmp_path / f"o/split{fold:02d}/{part}.csv", lambda p: p.name[:4])
            for part in ("train", "val", "test")
        ]
        assert [len(side) for side in sides] == [6, 2, 2]
        assert len(set.union(*sides)) == 10


def test_frame_folders_take_the_place_of_videos(tmp_path):
    root = tmp_path / "crops"
    for subject in range(1001, 1006):
        trees.write_image(root / f"{subject}_IEO_SAD_LO" / "0001.jpg")
        trees.write_image(root / f"{subject}_TIE_SAD_XX" / "0001.jpg")
    run(cremad, root, tmp_path / "o", OTHER)
    test = read_annotations(
        tmp_path / "o/split01/test.csv", task="classification", num_classes=6, check_paths=True
    )
    assert len(test) == 2
    assert test.labels.tolist() == [5, 5]


def test_folds_balance_sizes_and_classes():
    clips = [
        Clip(path=Path(f"{subject}/{n}"), label=str(n % 3), subject=str(subject))
        for subject in range(12)
        for n in range(6 if subject < 6 else 30)
    ]
    folds = assign_folds(clips, 3, seed=4)
    sizes = Counter(folds[clip.subject] for clip in clips)
    assert sizes == {0: 72, 1: 72, 2: 72}
    assert folds == assign_folds(list(reversed(clips)), 3, seed=4)
    with pytest.raises(PreparationError, match="choose 2 to 12, the number of subjects"):
        assign_folds(clips, 13, seed=0)


# ---- RAVDESS


def test_ravdess_takes_each_speech_recording_once(tmp_path, caplog):
    caplog.set_level("INFO")
    root = tmp_path / "ravdess"
    trees.write_ravdess(root)
    run(ravdess, root, tmp_path / "o")
    everyone = set()
    for fold in range(1, 7):
        folder = tmp_path / f"o/split{fold:02d}"
        test = rows(folder / "test.csv")
        actors = subjects_of(folder / "test.csv", lambda p: p.stem[-2:])
        assert len(actors) == 4
        assert len(test) == 240
        assert Counter(row[1] for row in test) == {"0": 16, **{str(n): 32 for n in range(1, 8)}}
        assert all(Path(row[0]).name.startswith("01-01-") for row in test)
        assert not actors & subjects_of(folder / "train.csv", lambda p: p.stem[-2:])
        everyone |= actors
    assert len(everyone) == 24
    assert "192 recordings are there with and without sound" in caplog.text


def test_ravdess_video_only_files_do_as_well(tmp_path):
    root = tmp_path / "ravdess"
    trees.write_ravdess(root, actors=range(1, 7))
    for path in root.rglob("01-01-*.mp4"):
        path.rename(path.with_name("02" + path.name[2:]))
    run(ravdess, root, tmp_path / "o", OTHER)
    assert len(rows(tmp_path / "o/split01/test.csv")) == 60


def test_ravdess_faults_are_named(tmp_path):
    root = tmp_path / "ravdess"
    trees.write_ravdess(root)
    folder = root / "Video_Speech_Actor_07" / "Actor_07"
    (folder / "01-01-05-02-01-02-07.mp4").unlink()
    shutil.rmtree(root / "Video_Speech_Actor_09")
    text = message(ravdess, root, tmp_path / "o")
    assert "clips: found 1,379, published 1,440" in text
    assert "class angry: found 183, published 192" in text
    assert "missing: *-01-05-02-01-02-07" in text
    assert "missing: actor 09\n" in text
    trees.touch(folder / "01-01-09-01-01-01-07.mp4")
    trees.touch(folder / "01-01-03-01-01-01-25.mp4")
    text = message(ravdess, root, tmp_path / "o", OTHER)
    assert "01-01-09-01-01-01-07.mp4: emotion 09 is not one of 01..08" in text
    assert "01-01-03-01-01-01-25.mp4: actor 25 is not one of 01..24" in text


# ---- eNTERFACE05


@pytest.fixture(scope="module")
def enterface_tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("enterface")
    trees.write_enterface(root)
    return root


def test_enterface_as_released_passes(enterface_tree, tmp_path, caplog):
    run(enterface, enterface_tree, tmp_path / "o")
    train, test = (rows(tmp_path / f"o/split02/{part}.csv") for part in ("train", "test"))
    assert len(train) + len(test) == 1287
    row = next(row for row in train + test if "sadness__sentence_3__s1_sa_3" in row[0])
    assert row[1] == "4"
    linked = Path(row[0])
    assert linked.is_symlink()
    assert linked.resolve() == enterface_tree / "subject 1/sadness/sentence 3/s1_sa_3.avi"
    subjects = {r["path"]: r["subject"] for r in table(tmp_path / "o/subjects.csv")}
    assert len(set(subjects.values())) == 43
    assert "6" not in subjects.values()
    assert not {subjects[r[0]] for r in train} & {subjects[r[0]] for r in test}
    # Subject 11's files bear subject 12's names: both are there, under different links.
    twelve = [p for p in subjects if "fear__sentence_1__s12_fe_1" in p]
    assert sorted(subjects[p] for p in twelve) == ["11", "12"]
    assert "s6_an.avi (uncut)" in caplog.text
    assert "missing: subject 23/happiness/sentence 3 4 5" in caplog.text


def test_enterface_crops_with_underscores(tmp_path):
    root = tmp_path / "crops"
    for subject in range(1, 7):
        for emotion in trees.ENTERFACE_EMOTIONS:
            folder = root / f"subject_{subject}" / emotion / "sentence_1" / f"s{subject}_x"
            trees.write_image(folder / "00001.jpg")
    run(enterface, root, tmp_path / "o", OTHER)
    test = rows(tmp_path / "o/split01/test.csv")
    assert [row[1] for row in test] == list("012345") * (len(test) // 6)
    assert not Path(test[0][0]).is_symlink()


def test_enterface_faults_are_named(tmp_path, caplog):
    root = tmp_path / "enterface"
    trees.write_enterface(root, subjects=range(1, 11))
    shutil.rmtree(root / "subject 3" / "fear")
    shutil.rmtree(root / "subject 4")
    shutil.rmtree(root / "subject 5" / "anger" / "sentence 2")
    text = message(enterface, root, tmp_path / "o")
    assert "clips: found 234, published 1,287" in text
    for line in ("subject 3/fear", "subject 4", "subject 5/anger/sentence 2"):
        assert f"missing: {line}\n" in text
    trees.touch(root / "subject 2" / "joy" / "sentence 1" / "s2_ha_1.avi")
    trees.touch(root / "subject 2" / "fear" / "sentence 1" / "second.avi")
    trees.touch(root / "subject 1" / "fear" / "extra.avi")
    text = message(enterface, root, tmp_path / "o", OTHER)
    assert "emotion folder 'joy' is none of anger, disgust" in text
    assert "this sentence has another video" in text
    shutil.rmtree(root / "subject 2" / "joy")
    (root / "subject 2" / "fear" / "sentence 1" / "second.avi").unlink()
    moved = root / "subject 1/anger/sentence 1/s1_an_1.avi"
    moved.rename(moved.with_name("s1_di_1.avi"))
    run(enterface, root, tmp_path / "o", OTHER)
    assert "extra.avi (paths are subject N/EMOTION/sentence M/*.avi)" in caplog.text
    assert "its name says di, its folder anger" in caplog.text


# ---- Werewolf-XL


def test_werewolf_keeps_sessions_together(tmp_path):
    root = tmp_path / "werewolf"
    trees.write_werewolf(root)
    text = message(werewolf_xl, root, tmp_path / "o")
    assert "clips: found 120, published 14,632" in text
    assert "subjects" not in text
    run(werewolf_xl, root, tmp_path / "o", OTHER, "--val_fraction", "0.2")
    tested = []
    for fold in range(1, 6):
        folder = tmp_path / f"o/split{fold:02d}"
        parts = [
            subjects_of(folder / f"{part}.csv", lambda p: p.name[:2])
            for part in ("train", "val", "test")
        ]
        assert len(parts[2]) == 6
        assert sum(map(len, parts)) == 30
        assert len(parts[1]) == 5
        tested += parts[2]
    assert len(set(tested)) == 30
    test = read_annotations(folder / "test.csv", task="regression", num_labels=3)
    path, scores = test.ids[3], test.labels[3]
    session, clip = int(Path(path).name[:2]), int(Path(path).name[3]) - 1
    np.testing.assert_allclose(scores, [-0.2 * clip, 0.1 * clip, 0.01 * session], atol=1e-6)
    names = read_classes(folder)
    assert names.task == "regression"
    assert names.class_names == ("arousal", "valence", "dominance")


def test_werewolf_never_guesses_columns(tmp_path):
    root = tmp_path / "werewolf"
    trees.write_werewolf(root, num_sessions=5)
    path = root / "labels" / "PAD.csv"
    original = path.read_text()
    lines = original.splitlines()
    path.write_text("\n".join([lines[0] + ",Mean_A_1_2_3", *(f"{x},0.5" for x in lines[1:])]))
    text = message(werewolf_xl, root, tmp_path / "o", OTHER)
    assert "2 columns for arousal ['Mean_A_1_2', 'Mean_A_1_2_3']" in text
    columns = ["--columns", "Mean_A_1_2_3", "Mean_P_1_3", "Mean_D_1_2_4"]
    run(werewolf_xl, root, tmp_path / "o", OTHER, *columns)
    assert {row[1] for row in rows(tmp_path / "o/split01/test.csv")} == {"0.5"}
    columns[1] = "Mean_A"
    assert "no column ['Mean_A']" in message(werewolf_xl, root, tmp_path / "o", OTHER, *columns)


def test_werewolf_faults_are_named(tmp_path, caplog):
    root = tmp_path / "werewolf"
    trees.write_werewolf(root, num_sessions=5)
    path = root / "labels" / "PAD.csv"
    original = path.read_text()
    faults = "01_1_speech,1,0,0,0\n02_9_speech,2,0,high,0\nnoname,,0,0,0\n05_1_x,5,0,0,0,7\n"
    path.write_text(original + faults)
    text = message(werewolf_xl, root, tmp_path / "o", OTHER)
    assert "line 22: 01_1_speech is already in line 2" in text
    assert "line 23: Mean_A_1_2 'high' is not a finite number" in text
    assert "line 24: 'noname' does not start with its session's number" in text
    assert "line 25: more columns than the header: ['7']" in text
    path.write_text(original + "04_9_speech,4,0,0,0\n")
    trees.touch(root / "Speaker_Video" / "session9" / "09_9_speech.mp4")
    run(werewolf_xl, root, tmp_path / "o", OTHER)
    assert "missing: 04_9_speech" in caplog.text
    assert "09_9_speech.mp4 (no line in" in caplog.text
    trees.touch(root / "second.csv", b"VideoName,Session\n")
    assert "2 tables with a column VideoName" in message(werewolf_xl, root, tmp_path / "o", OTHER)


# ---- AVCAffe


def test_avcaffe_uses_the_official_participants(tmp_path):
    root = tmp_path / "avcaffe"
    trees.write_avcaffe(root)
    text = message(avcaffe, root, tmp_path / "o")
    assert "clips: found 424, published 58,112" in text
    assert "participants" not in text
    run(avcaffe, root, tmp_path / "o", OTHER)
    both = rows(tmp_path / "o/both/test.csv")
    assert len(both) == 20 * 4
    assert len(rows(tmp_path / "o/both/train.csv")) == 86 * 4
    assert subjects_of(tmp_path / "o/both/test.csv", lambda p: p.name[:7]) == {
        f"aiim{number:03d}" for number in range(5, 101, 5)
    }
    for index, head in enumerate(("arousal", "valence"), 1):
        single = rows(tmp_path / f"o/{head}/test.csv")
        assert single == [[row[0], row[index]] for row in both]
        assert read_classes(tmp_path / "o" / head).class_names == avcaffe.HEADS[head]
    path = next(row for row in both if "aiim015_task_2_001" in row[0])
    assert path[1:] == ["0", "2"]  # Excited; (15 + 2) % 5 = 2: Neutral
    names = read_classes(tmp_path / "o/both")
    assert names.task == "multihead"
    assert names.heads["valence"][4] == "Unpleasant"
    groups = {row["path"]: row["group"] for row in table(tmp_path / "o/both/groups.csv")}
    assert groups[path[0]] == "aiim015_task_2"
    assert len(set(groups.values())) == 212


def test_avcaffe_validation_is_the_same_for_all_targets(tmp_path):
    root = tmp_path / "avcaffe"
    trees.write_avcaffe(root)
    run(avcaffe, root, tmp_path / "o", OTHER, "--val_fraction", "0.1")
    chosen = {
        head: subjects_of(tmp_path / f"o/{head}/val.csv", lambda p: p.name[:7])
        for head in ("both", "arousal", "valence")
    }
    assert chosen["both"] == chosen["arousal"] == chosen["valence"]
    assert 5 <= len(chosen["both"]) <= 12
    assert not chosen["both"] & subjects_of(tmp_path / "o/both/train.csv", lambda p: p.name[:7])


def test_avcaffe_faults_are_named(tmp_path, caplog):
    root = tmp_path / "avcaffe"
    trees.write_avcaffe(root, num_participants=12)
    (root / "info/val.txt").write_text("aiim005\naiim001\naiim99\naiim077\n")
    reports = root / "ground_truths/valence.txt"
    reports.write_text(reports.read_text() + "aiim001_task_1, Glad\naiim002_task_1, Calm, 3\n")
    text = message(avcaffe, root, tmp_path / "o", OTHER)
    assert "participant aiim001 is in the train and in the test list" in text
    assert "'aiim99' is not a participant (aiimNNN)" in text
    assert "participant aiim010 has clips and is in neither list" in text
    assert "line 25: label 'Glad' is none of Pleasant, Pleased, Neutral" in text
    assert "line 26: expected `aiimNNN_task_K, class`" in text
    os.remove(root / "info/val.txt")
    text = message(avcaffe, root, tmp_path / "o", OTHER)
    assert "no list of test participants" in text
    assert "--test_subjects FILE" in text


def test_avcaffe_lists_from_files_and_unlabelled_tasks(tmp_path, caplog):
    root = tmp_path / "avcaffe"
    trees.write_avcaffe(root, num_participants=6)
    own = tmp_path / "mine.txt"
    own.write_text("aiim006, aiim005")
    (root / "info/train.txt").write_text("\n".join(f"aiim00{n}" for n in range(1, 5)))
    reports = root / "ground_truths/arousal.txt"
    reports.write_text(reports.read_text().replace("aiim001_task_1, Wide-awake\n", ""))
    run(avcaffe, root, tmp_path / "o", OTHER, "--test_subjects", own)
    assert "self-report of aiim001_task_1: its 2 clips are not used" in caplog.text
    assert len(rows(tmp_path / "o/both/train.csv")) == 14
    assert len(rows(tmp_path / "o/both/test.csv")) == 8


# ---- ChaLearn


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("scalar", [float, np.float64, np.float32])
def test_chalearn_reads_pickles_of_all_kinds(tmp_path, protocol, scalar):
    root = tmp_path / "chalearn"
    trees.write_chalearn(root, protocol=protocol, scalar=scalar)
    run(chalearn, root, tmp_path / "o", OTHER)
    parts = {p: rows(tmp_path / f"o/{p}.csv") for p in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [6, 2, 2]
    row = next(row for row in parts["train"] if row[0].endswith("training1aB-_.001.mp4"))
    # Trait t of video n is (t + n) % 10 / 10 in the order of the file: e n a c interview o.
    np.testing.assert_allclose([float(x) for x in row[1:]], [0.8, 0.6, 0.3, 0.5, 0.4], atol=1e-7)
    assert read_classes(tmp_path / "o").class_names[0] == "openness"
    speakers = {r["path"]: r["subject"] for r in table(tmp_path / "o/subjects.csv")}
    assert speakers[row[0]] == "training1aB-_"


def test_chalearn_wants_the_published_counts(tmp_path):
    root = tmp_path / "chalearn"
    trees.write_chalearn(root)
    text = message(chalearn, root, tmp_path / "o")
    assert "train: found 6, published 6,000" in text
    assert "val: found 2, published 2,000" in text


def test_chalearn_faults_are_named(tmp_path, caplog):
    root = tmp_path / "chalearn"
    trees.write_chalearn(root)
    path = root / "annotation_test.pkl"
    content = pickle.loads(path.read_bytes())
    content["openness"]["test0aB-_.000.mp4"] = 1.5
    content["neuroticism"].pop("test0aB-_.001.mp4")
    path.write_bytes(pickle.dumps(content))
    text = message(chalearn, root, tmp_path / "o", OTHER)
    assert "test0aB-_.000.mp4: no score in [0, 1]: openness 1.5" in text
    assert "test0aB-_.001.mp4: no score in [0, 1]: neuroticism None" in text
    path.write_bytes(pickle.dumps(content | {"luck": {}}))
    assert "unknown: ['luck']" in message(chalearn, root, tmp_path / "o", OTHER)
    trees.write_chalearn(root)
    next(root.rglob("training0aB-_.000.mp4")).unlink()
    trees.touch(root / "training80_01" / "stranger.mp4")
    run(chalearn, root, tmp_path / "o", OTHER)
    assert "missing: video of training0aB-_.000 (annotation_training.pkl)" in caplog.text
    assert "stranger.mp4 (in no annotation)" in caplog.text
    path.unlink()
    assert "0 files called annotation_test.pkl" in message(chalearn, root, tmp_path / "o", OTHER)


class Hostile:
    """Runs a command when unpickled by the ordinary reader."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def hostile_pickles(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}".encode()
    return {
        "reduce": pickle.dumps({"openness": Hostile(marker)}),
        "protocol 0": pickle.dumps([Hostile(marker)], protocol=0),
        "builtins": b"cbuiltins\neval\n(S'open(%r, \"w\")'\ntR." % str(marker).encode(),
        "python 2": b"c__builtin__\nexec\n(S'1'\ntR.",
        "inst": b"(S'" + command + b"'\nios\nsystem\n.",
        "dotted": b"\x80\x04\x8c\x0bcollections\x8c\x19OrderedDict.fromkeys.__self\x93.",
        "attribute": b"\x80\x04\x8c\x08builtins\x8c\x0cdict.__class__\x93.",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\ndict\nS'x'\ntR.",
        "persistent": b"Pos\n.",
        "object type": b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        "array": pickle.dumps(np.arange(3)),
        "change a function": b"cnumpy.core.multiarray\nscalar\n(NS'x'\nI1\nsS'__doc__'\ntb.",
        "truncated": pickle.dumps({"a": 1.5})[:-3],
        "text": b"these are not pickled scores",
    }


@pytest.mark.parametrize("kind", list(hostile_pickles(Path("x"))))
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path, kind):
    marker = tmp_path / "ran"
    path = tmp_path / "annotation_training.pkl"
    path.write_bytes(hostile_pickles(marker)[kind])
    with pytest.raises(UnsafePickleError, match=r"annotation_training\.pkl"):
        load_plain_pickle(path)
    assert not marker.exists()


def test_the_hostile_pickle_would_have_run(tmp_path):
    marker = tmp_path / "ran"
    pickle.loads(hostile_pickles(marker)["reduce"])
    assert marker.exists()


def test_plain_pickles_come_back_equal(tmp_path):
    path = tmp_path / "plain.pkl"
    content = {"a": [1, 2.5, "é", None, True], "b": {"c": (1, b"raw")}, "d": {1, 2}}
    for protocol in range(6):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        assert load_plain_pickle(path) == content
    numbers = {np.dtype(kind).name: np.dtype(kind).type(3) for kind in ("f4", "f8", "i4", "u1")}
    path.write_bytes(pickle.dumps(numbers))
    assert load_plain_pickle(path) == {"float32": 3, "float64": 3, "int32": 3, "uint8": 3}
    path.write_bytes(pickle.dumps(np.dtype(">f8").type(0.1)))
    assert load_plain_pickle(path) == 0.1


# ---- single images


def test_affectnet_writes_classes_and_values(tmp_path):
    root = tmp_path / "affectnet"
    trees.write_affectnet(root)
    text = message(affectnet, root, tmp_path / "o")
    assert "train: found 16, published 287,651" in text
    assert "train class contempt: found 2, published 3,750" in text
    run(affectnet, root, tmp_path / "o", OTHER)
    train = rows(tmp_path / "o/expression/train.csv")
    assert [row[1] for row in train] == [str(n % 9) for n in range(18) if n % 9 != 8]
    assert train[3][0] == str(root / "train_set/images/3.jpg")
    values = read_annotations(
        tmp_path / "o/valence_arousal/test.csv", task="regression", num_labels=2
    )
    np.testing.assert_allclose(values.labels[4], [0.2, -0.2])
    assert read_classes(tmp_path / "o/valence_arousal").class_names == ("valence", "arousal")
    both = read_classes(tmp_path / "o/both")
    assert both.task == "class_and_values"
    expression, affect = (
        dict(
            row.split(" ", 1) for row in (tmp_path / f"o/{name}/test.csv").read_text().splitlines()
        )
        for name in ("expression", "valence_arousal")
    )
    for line in (tmp_path / "o/both/test.csv").read_text().splitlines():
        path, label = line.split(" ", 1)
        assert label == f"{expression[path]} {affect[path]}"
    run(affectnet, root, tmp_path / "o7", OTHER, "--num_classes", "7")
    assert {row[1] for row in rows(tmp_path / "o7/expression/train.csv")} == set("0123456")
    assert len(read_classes(tmp_path / "o7/expression").class_names) == 7


def test_affectnet_counts_of_both_editions():
    full = {"train": 287_651, "test": 3_999}
    assert affectnet.published(8, full)["test"] == 3_999
    assert affectnet.published(8, full | {"test": 4_000})["test"] == 4_000
    seven = affectnet.published(7, full)
    assert (seven["train"], seven["test"]) == (283_901, 3_500)
    assert "train class contempt" not in seven


def test_affectnet_faults_are_named(tmp_path, caplog):
    root = tmp_path / "affectnet"
    trees.write_affectnet(root)
    folder = root / "train_set" / "annotations"
    np.save(folder / "1_exp.npy", np.array("12"))
    np.save(folder / "2_val.npy", np.array("1.25"))
    np.save(folder / "3_aro.npy", np.array([0.1, 0.2]))
    np.save(folder / "4_aro.npy", np.array([Hostile(tmp_path / "ran")]), allow_pickle=True)
    text = message(affectnet, root, tmp_path / "o", OTHER)
    assert "1.jpg: expression 12 is not one of 0..10" in text
    assert "2.jpg: valence 1.25 is not in [-1, 1]" in text
    assert "3_aro.npy: 2 values, expected one" in text
    assert "4_aro.npy: " in text
    assert not (tmp_path / "ran").exists()
    shutil.rmtree(root)
    trees.write_affectnet(root)
    (folder / "5_exp.npy").unlink()
    (root / "train_set/images/6.jpg").unlink()
    run(affectnet, root, tmp_path / "o", OTHER)
    assert "5_exp.npy" in caplog.text
    assert "missing: image 6 of" in caplog.text


@pytest.mark.parametrize("name", ["fer2013.csv", "icml_face_data.csv"])
def test_fer2013_pixels_become_images(tmp_path, name):
    root = tmp_path / "fer"
    trees.write_fer2013(root, name)
    if name.startswith("icml"):
        path = root / name
        path.write_text(path.read_text().replace("emotion,pixels,Usage", "emotion, pixels, Usage"))
    assert "train: found 7, published 28,709" in message(fer2013, root, tmp_path / "o")
    run(fer2013, root, tmp_path / "o", OTHER)
    parts = {p: rows(tmp_path / f"o/{p}.csv") for p in ("train", "val", "test")}
    assert {p: [row[1] for row in part] for p, part in parts.items()} == {
        p: list("0123456") for p in parts
    }
    image = cv2.imread(parts["val"][2][0], cv2.IMREAD_UNCHANGED)
    expected = ((9 + np.arange(48 * 48)) % 256).reshape(48, 48)
    np.testing.assert_array_equal(image, expected)


def test_fer2013_faults_are_named(tmp_path):
    root = tmp_path / "fer"
    trees.write_fer2013(root)
    path = root / "fer2013.csv"
    extra = [trees.fer_row(7, 0, "Training"), trees.fer_row(1, 0, "Test"), '2,"1 2 3",Training',
             trees.fer_row(3, 0, "Training") + ",x",
             trees.fer_row(3, 0, "Training").replace("255", "300", 1)]  # fmt: skip
    path.write_text(path.read_text() + "\n".join(extra) + "\n")
    text = message(fer2013, root, tmp_path / "o", OTHER)
    assert "line 23: emotion '7' is not one of 0..6" in text
    assert "line 24: Usage 'Test' is none of Training, PublicTest, PrivateTest" in text
    assert "line 25: 3 pixels, expected 48 x 48" in text
    assert "line 26: more columns than the header" in text
    assert "line 27: pixels from 0 to 300, expected 0 to 255" in text


def test_fer2013_and_rafdb_as_folders_per_class(tmp_path, caplog):
    for command, names in ((fer2013, fer2013.SPEC.class_names), (rafdb, "1234567")):
        root = tmp_path / command.__name__
        for part in ("train", "test"):
            for name in names:
                trees.write_image(root / part / name / "1.png")
        run(command, root, tmp_path / "o", OTHER)
        assert [row[1] for row in rows(tmp_path / "o/test.csv")] == list("0123456") or sorted(
            row[1] for row in rows(tmp_path / "o/test.csv")
        ) == list("0123456")
        shutil.rmtree(root / "train" / names[2])
        trees.write_image(root / "train" / "bored" / "1.png")
        text = message(command, root, tmp_path / "o", OTHER)
        assert "class folder 'bored' is none of" in text
        shutil.rmtree(root / "train" / "bored")
        caplog.clear()
        run(command, root, tmp_path / "o", OTHER)
        assert f"missing: folder {root / 'train' / names[2]}" in caplog.text


def test_rafdb_reads_the_official_list(tmp_path):
    root = tmp_path / "rafdb"
    trees.write_rafdb(root)
    assert "train: found 14, published 12,271" in message(rafdb, root, tmp_path / "o")
    run(rafdb, root, tmp_path / "o", OTHER, "--val_fraction", "0.5")
    parts = {p: rows(tmp_path / f"o/{p}.csv") for p in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [7, 7, 7]
    assert parts["test"][0] == [str(root / "Image/aligned/test_00001_aligned.jpg"), "1"]
    assert sorted(row[1] for row in parts["val"]) == list("0123456")


def test_rafdb_faults_are_named(tmp_path, caplog):
    root = tmp_path / "rafdb"
    trees.write_rafdb(root)
    path = root / "EmoLabel" / "list_patition_label.txt"
    original = path.read_text()
    path.write_text(
        original + "train_00001.jpg 3\ntest_00099.jpg 8\ntrain_00098.jpg 1 2\nx.jpg 1\n"
    )
    text = message(rafdb, root, tmp_path / "o", OTHER)
    assert "line 22: train_00001.jpg is already in line 1" in text
    assert "line 23: label '8' is not one of 1..7" in text
    assert "line 24: expected `train_NNNNN.jpg label`" in text
    path.write_text(original + "test_00099.jpg 2\n")
    trees.write_image(root / "Image/aligned/train_00097_aligned.jpg")
    run(rafdb, root, tmp_path / "o", OTHER)
    assert "missing: image of test_00099.jpg" in caplog.text
    assert "train_00097_aligned.jpg (not in list_patition_label.txt)" in caplog.text


# ---- classes.json


def test_classes_file_round_trip_and_errors(tmp_path):
    names = LabelNames(task="regression", class_names=("valence", "arousal"), data_set="mine")
    write_classes(tmp_path, names)
    assert read_classes(tmp_path) == names
    assert read_classes(tmp_path / "elsewhere") is None
    (tmp_path / "classes.json").write_text('{"task": "guess", "class_names": ["a"]}')
    with pytest.raises(ValueError, match=r"classes\.json: task 'guess': choose classification"):
        read_classes(tmp_path)
    with pytest.raises(ValueError, match="class names repeat: a"):
        LabelNames(task="classification", class_names=("a", "a"))
    with pytest.raises(ValueError, match="multihead needs one entry per name"):
        LabelNames(task="multihead", class_names=("a", "b"), heads={"a": ("x",)})
