import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.labels.classes import read_classes
from svfap.preprocess import custom
from tests.clips_drawn import pattern, write_video
from tests.conftest import ROOT
from tests.lab_trees import touch, write_image
from tests.preparation import rows

PEOPLE = ("anna", "ben", "cleo", "dan", "eve")


def write_classes_folder(root: Path, classes=("bored", "keen"), each: int = 10) -> Path:
    """Clips PERSON_NN.mp4 in a folder per class; each person has as many in every class."""
    for name in classes:
        for n in range(each):
            touch(root / name / f"{PEOPLE[n % len(PEOPLE)]}_{n:02d}.mp4")
    return root


def write_table(path: Path, rows: list[str], header: str = "path,label,subject") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    for row in rows:
        touch(path.parent / row.split(header[4])[0].strip())
    return path


def run(source: Path, out: Path, *more: str) -> None:
    custom.main([str(source), "--output_dir", str(out), *map(str, more)])


def message(source: Path, out: Path, *more: str) -> str:
    with pytest.raises(ValueError) as caught:
        run(source, out, *more)
    return str(caught.value)


def parts(folder: Path) -> dict[str, list[list[str]]]:
    return {part: rows(folder / f"{part}.csv") for part in ("train", "val", "test")}


def people(some: list[list[str]]) -> set[str]:
    return {Path(row[0]).name.split("_")[0] for row in some}


def test_folder_per_class(tmp_path, caplog):
    root = write_classes_folder(tmp_path / "clips")
    run(root, tmp_path / "out")
    found = parts(tmp_path / "out")
    assert {part: len(some) for part, some in found.items()} == {"train": 14, "val": 2, "test": 4}
    assert [Counter(row[1] for row in some) for some in found.values()] == [
        {"0": 7, "1": 7}, {"0": 1, "1": 1}, {"0": 2, "1": 2}]  # fmt: skip
    assert len({row[0] for some in found.values() for row in some}) == 20
    for some in found.values():
        assert all(Path(path).parent.name == ("bored", "keen")[int(n)] for path, n in some)
    names = read_classes(tmp_path / "out")
    assert (names.task, names.class_names, names.data_set) == (
        "classification", ("bored", "keen"), "custom")  # fmt: skip
    assert "no subjects are known" in caplog.text
    read_annotations(tmp_path / "out/test.csv", task="classification", names="ab")
    run(root, tmp_path / "again")
    assert parts(tmp_path / "again") == found
    run(root, tmp_path / "other", "--fold_seed", "3")
    assert parts(tmp_path / "other") != found


def test_subjects_from_file_names_stay_on_one_side(tmp_path, caplog):
    root = write_classes_folder(tmp_path / "clips")
    run(root, tmp_path / "out", "--subject_pattern", r"/([^/_]+)_[^/]*$")
    sides = [people(some) for some in parts(tmp_path / "out").values()]
    assert [len(side) for side in sides] == [3, 1, 1]
    assert set.union(*sides) == set(PEOPLE)
    assert "no subjects are known" not in caplog.text
    with (tmp_path / "out" / "subjects.csv").open() as file:
        assert {row["subject"] for row in csv.DictReader(file)} == set(PEOPLE)
    text = message(root, tmp_path / "out", "--subject_pattern", r"/(anna)_")
    assert "ben_01.mp4: --subject_pattern '/(anna)_' finds nothing in it" in text


def test_people_are_counted_and_a_pattern_that_takes_too_much_is_seen(tmp_path, caplog):
    caplog.set_level("INFO")
    root = tmp_path / "clips"
    for name in ("bored", "keen"):
        for n in range(10):
            touch(root / name / f"{PEOPLE[n % 5]}_{name}_{n:02d}_1.mp4")
    run(root, tmp_path / "out", "--subject_pattern", r"/([^/_]+)_[^/]*$")
    assert "5 people, 4 to 4 clips each: anna 4, ben 4, cleo 4" in caplog.text
    run(root, tmp_path / "greedy", "--subject_pattern", r"/(\w+)_\d+")
    assert "every clip is a person of its own, such as anna_bored_00" in caplog.text
    caplog.clear()
    run(root, tmp_path / "open")
    assert "looks as if --subject_pattern '/([^/_" in caplog.text.replace("look as", "looks as")
    run(root, tmp_path / "auto", "--subject_pattern", "auto")
    assert parts(tmp_path / "auto") == parts(tmp_path / "out")


@pytest.mark.parametrize(
    "names",
    [
        ["bored/clip_{n}.mp4", "keen/clip_{n}.mp4"],
        ["bored/bored_{n}.mp4", "keen/keen_{n}.mp4"],
        ["bored/{n}.mp4", "keen/{n}.mp4"],
        ["bored/{n}_a.mp4", "keen/1{n}_a.mp4"],
    ],
)
def test_names_without_people_are_not_taken_for_people(tmp_path, caplog, names):
    for n in range(5):
        for name in names:
            touch(tmp_path / "clips" / name.format(n=n))
    run(tmp_path / "clips", tmp_path / "out", "--subject_pattern", "auto")
    assert "no subjects are known" in caplog.text


LAYOUTS = {
    "ravdess": (
        [f"Actor_{a:02d}/0{m}-{c}-{e:02d}-01-01-01-{a:02d}.mp4"
         for a in range(1, 6) for e in range(1, 9) for c in ("01", "02") for m in (1, 2)],
        40, "calm", "03",
    ),
    "cremad": (
        [f"VideoFlash/{s}_IEO_{e}_XX.flv" for s in range(1001, 1006) for e in ("ANG", "SAD")],
        10, "angry", "1003",
    ),
    "mead": (
        [f"{s}/video/{v}/{e}/level_1/{n:03d}.mp4" for s in ("M003", "W009", "W011")
         for v in ("front", "left_30") for e in ("angry", "sad") for n in range(3)],
        18, "sad", "W009",
    ),
    "ckplus": (
        [f"{e}/S{s:03d}_001_000000{n}.png" for s in range(10, 15)
         for e in ("anger", "happy") for n in (15, 16, 17)],
        30, "anger", "S012",
    ),
    "fer2013": (
        [f"{p}/{e}/{n}.jpg" for p in ("train", "test") for e in ("fear", "sad") for n in range(6)],
        24, "fear", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_known_layouts_are_read_by_name(tmp_path, layout):
    names, count, class_name, person = LAYOUTS[layout]
    for name in names:
        write = write_image if name.endswith(("png", "jpg")) else touch
        write(tmp_path / "data" / name)
    run(tmp_path / "data", tmp_path / "out", "--layout", layout)
    assert sum(len(some) for some in parts(tmp_path / "out").values()) == count
    assert class_name in read_classes(tmp_path / "out").class_names
    if person:
        with (tmp_path / "out" / "subjects.csv").open() as file:
            assert person in {row["subject"] for row in csv.DictReader(file)}
    other = next(name for name in LAYOUTS if name != layout)
    assert f"--layout {other}: nothing in" in message(
        tmp_path / "data", tmp_path / "no", "--layout", other
    )


def test_original_sequences_of_ckplus_have_their_labels_in_files(tmp_path):
    for s in range(10, 16):
        for take in (1, 2, 3):
            name = f"S{s:03d}/{take:03d}"
            for n in range(3):
                write_image(tmp_path / "data/cohn-kanade-images" / name / f"{n}.png")
            if take < 3:
                text = f"   {take * 3:.7e}\n".encode()
                file = f"S{s:03d}_{take:03d}_00000010_emotion.txt"
                touch(tmp_path / "data/Emotion" / name / file, text)
    run(tmp_path / "data", tmp_path / "out", "--layout", "ckplus")
    assert read_classes(tmp_path / "out").class_names == ("disgust", "sadness")
    assert sum(len(some) for some in parts(tmp_path / "out").values()) == 12
    touch(tmp_path / "data/Emotion" / "S010/001" / "S010_001_00000010_emotion.txt", b"-1")
    said = message(tmp_path / "data", tmp_path / "no", "--layout", "ckplus")
    assert "S010_001_00000010_emotion.txt: '-1' is no emotion of CK+, which are 0 to 7" in said


def test_folds_by_subject_and_without(tmp_path, caplog):
    root = write_classes_folder(tmp_path / "clips")
    caplog.set_level("INFO")
    run(root, tmp_path / "out", "--num_folds", "5", "--subject_pattern", r"/([^/_]+)_[^/]*$")
    assert f"python -m svfap.engine.crossval --data_path {tmp_path / 'out'}" in caplog.text
    tested = []
    for fold in range(1, 6):
        found = parts(tmp_path / "out" / f"split{fold:02d}")
        (person,) = people(found["test"])
        assert person not in people(found["train"] + found["val"])
        assert Counter(row[1] for row in found["test"]) == {"0": 2, "1": 2}
        assert read_classes(tmp_path / "out" / f"split{fold:02d}") is not None
        tested.append(person)
    assert sorted(tested) == sorted(PEOPLE)
    folds = json.loads((tmp_path / "out" / "folds.json").read_text())
    assert [fold["test_subjects"] for fold in folds["folds"]] == [[person] for person in tested]
    run(root, tmp_path / "free", "--num_folds", "4", "--val_fraction", "0")
    pooled = []
    for fold in range(1, 5):
        found = parts(tmp_path / "free" / f"split{fold:02d}")
        assert found["val"] == found["test"]
        assert len(found["test"]) == 5
        assert set(Counter(row[1] for row in found["test"]).values()) <= {2, 3}
        pooled += [row[0] for row in found["test"]]
    assert len(set(pooled)) == 20
    assert not (tmp_path / "free" / "folds.json").exists()


def test_given_folders_train_val_test(tmp_path):
    root = tmp_path / "clips"
    for part, each in (("train", 6), ("valid", 2), ("Test", 3)):
        write_classes_folder(root / part, each=each)
    run(root, tmp_path / "out")
    found = parts(tmp_path / "out")
    assert {part: len(some) for part, some in found.items()} == {"train": 12, "val": 4, "test": 6}
    assert all("/Test/" in row[0] for row in found["test"])
    text = message(root, tmp_path / "out2", "--subject_pattern", r"/([^/_]+)_[^/]*$")
    assert "subject anna is in train and in test" in text
    assert "subject ben is in train and in val" in text
    (root / "notes").mkdir()
    text = message(root, tmp_path / "out3")
    assert "look like a split, but there are others beside them: notes" in text


def test_single_images_and_frame_folders(tmp_path):
    for name in ("no", "yes"):
        for n in range(5):
            write_image(tmp_path / "images" / name / f"{n}.png")
            write_image(tmp_path / "frames" / name / f"clip{n}" / "1.jpg")
    for kind, count in (("images", 1), ("frames", 0)):
        run(tmp_path / kind, tmp_path / f"out_{kind}")
        found = parts(tmp_path / f"out_{kind}")
        paths = [Path(row[0]) for some in found.values() for row in some]
        assert len(paths) == 10
        assert all(path.is_file() == bool(count) for path in paths)


def test_white_space_becomes_links(tmp_path):
    root = write_classes_folder(tmp_path / "my clips", classes=("very bored", "keen"))
    run(root, tmp_path / "out")
    paths = [Path(row[0]) for some in parts(tmp_path / "out").values() for row in some]
    assert all(" " not in str(path) and path.is_symlink() for path in paths)
    assert sum(path.resolve().parent.name == "very bored" for path in paths) == 10
    assert read_classes(tmp_path / "out").class_names == ("keen", "very bored")


TABLE = [f"clips/{n:02d}.mp4,{('bored', 'keen', 'lost')[n % 3]},{PEOPLE[n % 5]}" for n in range(30)]


def test_table_with_subjects(tmp_path, monkeypatch):
    table = write_table(tmp_path / "table.csv", TABLE)
    monkeypatch.chdir(tmp_path)
    run(Path("table.csv"), tmp_path / "out")
    found = parts(tmp_path / "out")
    with (tmp_path / "out" / "subjects.csv").open() as file:
        subject = {row["path"]: row["subject"] for row in csv.DictReader(file)}
    sides = [{subject[row[0]] for row in some} for some in found.values()]
    assert [len(side) for side in sides] == [3, 1, 1]
    assert read_classes(tmp_path / "out").class_names == ("bored", "keen", "lost")
    row = next(row for some in found.values() for row in some if row[0].endswith("/04.mp4"))
    assert row == [str(tmp_path / "clips" / "04.mp4"), "1"]
    for delimiter in (";", "\t"):
        other = tmp_path / "other.csv"
        other.write_text(table.read_text().replace(",", delimiter))
        run(other, tmp_path / "out2")
        assert parts(tmp_path / "out2") == found


def test_split_column_and_class_order(tmp_path):
    lines = [
        f"clips/{n}.mp4,{n % 2},{('train', 'train', 'Validation', 'test')[n % 8 // 2]}"
        for n in range(16)
    ]
    table = write_table(tmp_path / "table.csv", lines, header="path,label,split")
    run(table, tmp_path / "out", "--class_names", "keen", "bored")
    found = parts(tmp_path / "out")
    assert {part: len(some) for part, some in found.items()} == {"train": 8, "val": 4, "test": 4}
    assert read_classes(tmp_path / "out").class_names == ("keen", "bored")
    assert all(int(Path(row[0]).stem) % 2 == int(row[1]) for row in found["test"])
    table.write_text(table.read_text().replace("Validation", "train"))
    run(table, tmp_path / "out", "--val_fraction", "0.25")
    assert [len(some) for some in parts(tmp_path / "out").values()] == [8, 4, 4]
    assert read_classes(tmp_path / "out").class_names == ("0", "1")
    table.write_text(table.read_text().replace("test", "train"))
    assert "no clips for test" in message(table, tmp_path / "out")


def test_regression_of_one_and_several_numbers(tmp_path):
    lines = [f"clips/{n}.mp4,{n / 10},{-n / 20},{PEOPLE[n % 5]}" for n in range(20)]
    header = "path,valence,arousal,who"
    table = write_table(tmp_path / "table.csv", lines, header=header)
    run(table, tmp_path / "out", "--label", "valence", "arousal", "--subject", "who")
    names = read_classes(tmp_path / "out")
    assert (names.task, names.class_names) == ("regression", ("valence", "arousal"))
    test = read_annotations(tmp_path / "out/test.csv", task="regression", names="va")
    numbers = np.array([int(Path(path).stem) for path in test.ids])
    np.testing.assert_allclose(test.labels, np.stack([numbers / 10, -numbers / 20], 1), rtol=1e-6)
    run(table, tmp_path / "one", "--label", "arousal")
    assert read_classes(tmp_path / "one").class_names == ("arousal",)
    table.write_text(table.read_text().replace("1.5,", "high,"))
    text = message(table, tmp_path / "out", "--label", "valence", "arousal", "--subject", "who")
    assert "line 17: 'high' is not a finite number" in text


def test_whole_numbers_are_classes_unless_said_otherwise(tmp_path):
    lines = [f"clips/{n}.mp4,{n % 4 + 1}" for n in range(20)]
    table = write_table(tmp_path / "table.csv", lines, header="path,label")
    run(table, tmp_path / "out")
    assert read_classes(tmp_path / "out").class_names == ("1", "2", "3", "4")
    assert {row[1] for row in rows(tmp_path / "out/train.csv")} == set("0123")
    run(table, tmp_path / "out", "--task", "regression")
    assert read_classes(tmp_path / "out").task == "regression"
    assert {row[1] for row in rows(tmp_path / "out/train.csv")} == set("1234")


def test_faults_in_a_table_are_named_together(tmp_path):
    faults = [
        "clips/00.mp4,bored,anna",
        "clips/40.mp4,,ben",
        "clips/41.mp4,keen,cleo,left over",
        "clips/42.mp4,thrilled,dan",
    ]
    table = write_table(tmp_path / "table.csv", TABLE + faults)
    (tmp_path / "clips" / "07.mp4").unlink()
    touch(tmp_path / "clips" / "08.mp4", b"")
    classes = ["--class_names", "bored", "keen", "lost"]
    text = message(table, tmp_path / "out", *classes)
    assert "line 32: clips/00.mp4 is already in" in text
    assert "line 33: column 'label' is empty" in text
    assert "line 34: 4 columns, the header has 3" in text
    assert "line 35: label 'thrilled' is none of bored, keen, lost" in text
    assert not (tmp_path / "out" / "train.csv").exists()
    table.write_text("\n".join(["path,label,subject", *TABLE]) + "\n")
    text = message(table, tmp_path / "out", *classes)
    assert "clips/07.mp4: No such file or directory" in text
    assert "clips/08.mp4: the file is empty" in text
    run(table, tmp_path / "out", *classes, "--leave_out_missing")
    assert sum(len(some) for some in parts(tmp_path / "out").values()) == 28
    twice = write_table(tmp_path / "twice.csv", [*TABLE, "./clips/09.mp4,keen,anna"])
    text = message(twice, tmp_path / "out", *classes, "--leave_out_missing")
    assert "clips/09.mp4: it is listed twice" in text
    table.write_text(table.read_text().replace("path,label", "file,label"))
    assert "no column 'path'; its header is ['file', 'label', 'subject']" in message(
        table, tmp_path / "out"
    )


def test_what_cannot_work_is_explained(tmp_path):
    assert "no such folder or CSV" in message(tmp_path / "nothing", tmp_path / "out")
    write_classes_folder(tmp_path / "one", classes=("only",))
    assert "1 class folder(s) ['only']" in message(tmp_path / "one", tmp_path / "out")
    root = write_classes_folder(tmp_path / "clips")
    text = message(root, tmp_path / "out", "--test_fraction", "1.5")
    assert "--test_fraction 1.5: must lie between 0 and 1" in text
    text = message(root, tmp_path / "out", "--num_folds", "6", "--subject_pattern", r"/(\w+)_")
    assert "--num_folds 6: choose 2 to 5, the number of subjects" in text
    with pytest.raises(SystemExit):
        run(root, tmp_path / "out", "--subject_pattern", "no group")


# ---- the page for newcomers


def page_commands() -> list[list[str]]:
    text = (ROOT / "docs" / "custom_data.md").read_text().replace("\\\n", " ")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


def test_the_page_leads_from_a_folder_to_a_prediction(tmp_path):
    """Every command of docs/custom_data.md in order, but those that need GPUs or an extra."""
    for name, start in (("bored", 0), ("keen", 100)):
        for n in range(10):
            person = PEOPLE[n % 5]
            write_video(tmp_path / "my_clips" / name / f"{person}_{n:02d}.mp4", pattern(start + n))
    write_video(tmp_path / "new_video.mp4", pattern(7))
    done = []
    for words in page_commands():
        if "bash" in words or "preprocess.faces" in words:
            continue
        words = [re.sub(r"^(saved/|my_clips|new_video)", rf"{tmp_path}/\1", w) for w in words]
        words = [sys.executable if word == "python" else word for word in words]
        if "run_finetune.py" in words:
            words += ["--num_workers", "0", "--warmup_epochs", "0", "--epochs", "1"]
        if "preprocess.doctor" in words:
            words += [
                "--no_faces",
                "--num_workers",
                "0",
                "--output_dir",
                f"{tmp_path}/saved/doctor",
            ]
        if "run_predict.py" in words:
            words += ["--no_crop"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
        done.append(words)
    assert len(done) == 4
    assert "bored" in result.stdout
    assert "keen" in result.stdout
    assert len(list((tmp_path / "saved/predictions/mine").rglob("*.json"))) >= 1
    metrics = json.loads((tmp_path / "saved/model/mine/metrics.json").read_text())
    assert metrics["class_names"] == ["bored", "keen"]
    assert np.sum(metrics["confusion_matrix"]) == 4
    for name in ("confusion_matrix.png", "pred.csv", "curves.png", "checkpoint-last.pth"):
        assert (tmp_path / "saved/model/mine" / name).is_file(), name
    assert (tmp_path / "saved/doctor/contact_sheet.png").is_file()
