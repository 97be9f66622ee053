"""CREMA-D, RAVDESS, eNTERFACE05: folds by subject, planted faults."""

import json
import re
import shutil
import types
from collections import Counter
from pathlib import Path

import pytest

from svfap.datasets.catalog import SPECS, DatasetSpec, get_spec
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.labels.classes import LabelNames, read_classes
from svfap.preprocess import cremad, enterface, ravdess, werewolf_xl
from svfap.preprocess.doctor import command as doctor
from svfap.preprocess.shared.common import PreparationError, Problems
from svfap.preprocess.shared.labelled import Clip
from svfap.preprocess.shared.subject_folds import assign_folds, published_folds
from tests import lab_trees as trees
from tests.conftest import ROOT
from tests.preparation import OTHER, message, rows, run, subjects_of, table

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
    assert content["authors"] is True
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


AUTHORS = {
    "CREMA-D": ("1001 1018", "1019 1036", "1037 1054", "1055 1072", "1073 1091"),
    "RAVDESS": ("1 4", "5 8", "9 12", "13 16", "17 20", "21 24"),
    "eNTERFACE05": ("1 10", "11 19", "20 28", "29 37", "38 44"),
    "Werewolf-XL": ("1 6", "7 12", "13 18", "19 24", "25 30"),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_the_authors_folds_are_the_default(name, tmp_path):
    """Who is in which fold of the lists that MAE-DFER and HiCMAE released."""
    tree, command = {
        "CREMA-D": (trees.write_cremad, cremad),
        "RAVDESS": (trees.write_ravdess, ravdess),
        "eNTERFACE05": (trees.write_enterface, enterface),
        "Werewolf-XL": (trees.write_werewolf, werewolf_xl),
    }[name]
    tree(tmp_path / "data")
    run(command, tmp_path / "data", tmp_path / "o", *([OTHER] if name == "Werewolf-XL" else []))
    folds = {int(row["subject"]): int(row["fold"]) for row in table(tmp_path / "o" / "folds.csv")}
    for fold, ends in enumerate(AUTHORS[name], 1):
        first, last = map(int, ends.split())
        expected = set(range(first, last + 1)) - ({6} if name == "eNTERFACE05" else set())
        assert {subject for subject, own in folds.items() if own == fold} == expected
    assert get_spec(name).num_folds == len(AUTHORS[name]) == max(folds.values())


def test_folds_that_were_drawn_stay(tmp_path, caplog):
    trees.write_ravdess(tmp_path / "data")
    run(ravdess, tmp_path / "data", tmp_path / "o", "--fold_seed", "0")
    drawn = (tmp_path / "o/folds.csv").read_text()
    run(ravdess, tmp_path / "data", tmp_path / "o")
    assert (tmp_path / "o/folds.csv").read_text() == drawn
    assert "are kept, they are not the authors'" in caplog.text
    run(ravdess, tmp_path / "data", tmp_path / "new")
    assert (tmp_path / "new/folds.csv").read_text() != drawn


def test_folds_of_part_of_a_data_set_are_never_taken_for_the_authors(tmp_path, caplog):
    problems = Problems()
    assert published_folds(get_spec("RAVDESS"), {"25"}, problems) == {}
    assert "subject 25 is in none of the authors' folds" in problems.lines
    assert "the authors' fold 6, subjects 21 to 24, has no clips" in problems.lines
    trees.write_ravdess(tmp_path / "data", actors=range(1, 7))
    run(ravdess, tmp_path / "data", tmp_path / "o", OTHER)
    assert "the folds are not the authors', they are drawn as by --fold_seed 0" in caplog.text


def test_paths_from_a_checkout_with_spaces_are_relative(tmp_path):
    trees.write_cremad(tmp_path / "a b" / "data", 5)
    out = tmp_path / "a b" / "out"
    run(cremad, tmp_path / "a b" / "data", out, OTHER)
    test = read_annotations(out / "split01/test.csv", task="classification", check_paths=True)
    assert all(name.startswith("../../data/VideoFlash/") for name in test.ids)
    assert {row["path"] for row in table(out / "subjects.csv")} >= set(test.ids)


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
        tmp_path / "o/split01/test.csv", task="classification", names="abcdef", check_paths=True
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
    assert "01-01-09-01-01-01-07.mp4: emotion '09' is none of 01, 02" in text
    assert "01-01-03-01-01-01-25.mp4: actor '25' is none of 01, 02" in text


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
    assert "s6_an.avi (paths are subject N/EMOTION/sentence M/*.avi; subject 6" in caplog.text
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
    assert "emotion 'joy' is none of anger, disgust" in text
    assert "this sentence has another video" in text
    shutil.rmtree(root / "subject 2" / "joy")
    (root / "subject 2" / "fear" / "sentence 1" / "second.avi").unlink()
    moved = root / "subject 1/anger/sentence 1/s1_an_1.avi"
    moved.rename(moved.with_name("s1_di_1.avi"))
    run(enterface, root, tmp_path / "o", OTHER)
    assert "extra.avi (paths are subject N/EMOTION/sentence M/*.avi;" in caplog.text
    assert "its name says di, its folder anger" in caplog.text


# ---- a data set that is added


def test_the_documented_data_set_is_all_it_takes(tmp_path, monkeypatch):
    """docs/datasets_lab.md: an entry of the catalogue and a file of less than 60 lines."""
    text = (ROOT / "docs" / "datasets_lab.md").read_text()
    source = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1]
    assert len(source.splitlines()) < 60
    spec = DatasetSpec(
        name="SAVEE",
        task="classification",
        class_names=("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
        num_folds=4,
        counts={"all": 28, "subjects": 4},
    )
    monkeypatch.setitem(SPECS, "SAVEE", spec)
    module = types.ModuleType("savee", source.split("\n")[0].strip('"'))
    exec(source, module.__dict__)
    for speaker in ("DC", "JE", "JK", "KL"):
        for emotion in module.EMOTIONS:
            trees.touch(tmp_path / "data" / speaker / f"{speaker}_{emotion}01.avi")
    trees.touch(tmp_path / "data" / "poster.avi")
    run(module, tmp_path / "data", tmp_path / "o")
    for fold in range(1, 5):
        (speaker,) = subjects_of(tmp_path / f"o/split{fold:02d}/test.csv", lambda p: p.name[:2])
        train = subjects_of(tmp_path / f"o/split{fold:02d}/train.csv", lambda p: p.name[:2])
        assert train == {"DC", "JE", "JK", "KL"} - {speaker}
    assert read_classes(tmp_path / "o/split01").data_set == "SAVEE"
    assert (
        doctor.main(
            [str(tmp_path / "o"), "--output_dir", str(tmp_path), "--no_faces", "--num_workers", "0"]
        )
        == 1
    )  # the videos are none
    (tmp_path / "data/DC/DC_a01.avi").unlink()
    assert "clips: found 27, published 28" in message(module, tmp_path / "data", tmp_path / "o")
    trees.touch(tmp_path / "data/DC/DC_x01.avi")
    assert "emotion 'x' is none of" in message(module, tmp_path / "data", tmp_path / "o")
