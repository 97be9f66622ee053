"""AffectNet, FER2013, RAF-DB: single images, planted faults."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.labels.classes import read_classes
from svfap.preprocess import affectnet, fer2013, rafdb
from tests import lab_trees as trees
from tests.hostile import Hostile
from tests.preparation import OTHER, lines_of, message, rows, run


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
        tmp_path / "o/valence_arousal/test.csv", task="regression", names="va"
    )
    np.testing.assert_allclose(values.labels[4], [0.2, -0.2])
    assert read_classes(tmp_path / "o/valence_arousal").class_names == ("valence", "arousal")
    both = read_classes(tmp_path / "o/both")
    assert both.task == "class_and_values"
    test = lines_of(tmp_path / "o/both/test.csv")
    assert len(test) == 8
    assert test[4] == f"{root}/val_set/images/4.jpg 4 0.2 -0.2"
    run(affectnet, root, tmp_path / "o7", OTHER, "--num_classes", "7")
    assert {row[1] for row in rows(tmp_path / "o7/expression/train.csv")} == set("0123456")
    assert len(read_classes(tmp_path / "o7/expression").class_names) == 7
    targets = ("expression", "valence_arousal", "both")  # values of contempt are values, too
    assert [len(rows(tmp_path / f"o7/{name}/train.csv")) for name in targets] == [14, 16, 14]


def test_affectnet_counts_of_both_editions():
    assert affectnet.published(8, 3_999)["test"] == 3_999
    assert affectnet.published(8, 4_000)["test"] == 4_000
    assert affectnet.published(8, 12)["test"] == 3_999
    seven = affectnet.published(7, 3_999)
    sums = [sum(n for k, n in seven.items() if k.startswith(part)) for part in ("train", "test")]
    assert (sums, len(seven)) == ([283_901, 3_500], 14)
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
    assert "4_aro.npy is not a plain npy file" in text
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
        labels = {Path(path).parent.name: label for path, label in rows(tmp_path / "o/test.csv")}
        assert labels == dict(zip(names, "0123456", strict=True))
        shutil.rmtree(root / "train" / names[2])
        trees.write_image(root / "train" / "bored" / "1.png")
        text = message(command, root, tmp_path / "o", OTHER)
        assert "class folder 'bored' is none of" in text
        shutil.rmtree(root / "train" / "bored")
        caplog.clear()
        run(command, root, tmp_path / "o", OTHER)
        assert f"missing: folder {root / 'train' / names[2]}" in caplog.text


def test_fer2013_in_folders_keeps_its_validation_part(tmp_path):
    root = tmp_path / "fer"
    for n, name in enumerate(fer2013.SPEC.class_names):
        trees.write_image(root / "train" / name / f"Training_{n}.png")
        trees.write_image(root / "test" / name / f"PublicTest_{n}.png")
        trees.write_image(root / "test" / name / f"PrivateTest_{n}.png")
    text = message(fer2013, root, tmp_path / "o")
    assert "val: found 7, published 3,589" in text
    run(fer2013, root, tmp_path / "o", OTHER)
    for part, start in (("train", "Train"), ("val", "Public"), ("test", "Private")):
        names = [Path(row[0]).name for row in rows(tmp_path / f"o/{part}.csv")]
        assert len(names) == 7 and all(name.startswith(start) for name in names)
    trees.write_image(root / "test" / "sad" / "other.png")
    assert "neither PublicTest_... nor PrivateTest_" in message(
        fer2013, root, tmp_path / "o", OTHER
    )


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
