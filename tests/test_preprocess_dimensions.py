"""Werewolf-XL, AVCAffe, ChaLearn: dimensions and several heads, planted faults."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.labels.classes import read_classes
from svfap.preprocess import avcaffe, chalearn, werewolf_xl
from tests import lab_trees as trees
from tests.preparation import OTHER, message, rows, run, subjects_of, table

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
    test = read_annotations(folder / "test.csv", task="regression", names="vad")
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
