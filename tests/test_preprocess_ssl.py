"""VoxCeleb1 and LFW: official layouts, planted faults, what is recorded beside the lists."""

import numpy as np
import pytest

from svfap.datasets.clips.lengths import read_lengths
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.video.frame_rate import FILE_NAME, read_frame_rate, write_frame_rate
from svfap.datasets.video.open_video import open_video
from svfap.engine.results.find import subjects_of
from svfap.preprocess import lfw, voxceleb1
from svfap.preprocess.shared.common import PreparationError
from tests.lab_trees import write_image


def write_frames(folder, numbers):
    for number in numbers:
        write_image(folder / f"{number}.jpg", number)


@pytest.fixture
def voxceleb(tmp_path):
    root = tmp_path / "vox1"
    faces = root / "unzippedFaces"
    write_frames(faces / "Aamir_Khan" / "1.6" / "5ablueV_1tw", range(1, 13))
    write_frames(faces / "Zulay_Henao" / "1.6" / "0AuT3VHwXm0" / "2", (6, 12, 18))
    write_frames(faces / "Zulay_Henao" / "1.6" / "0AuT3VHwXm0" / "10", (6, 12, 24))
    (faces / "Zulay_Henao" / "2.0").mkdir()
    return root


def prepare(root, out, *more):
    flags = ["--dataset_dir", str(root), "--output_dir", str(out), "--num_workers", "0"]
    voxceleb1.main([*flags, *more])
    return read_annotations(out / "info_clean.csv", task="pretrain")


def test_voxceleb1(voxceleb, tmp_path, caplog):
    with caplog.at_level("INFO"):
        rows = prepare(voxceleb, tmp_path / "out")
    ends = ["5ablueV_1tw", "0AuT3VHwXm0/2", "0AuT3VHwXm0/10"]
    assert [path.split("1.6/")[1] for path in rows.paths] == ends
    with open_video(rows.paths[0]) as video:
        assert video.num_frames == 12
        shades = video.read(range(12))[:, 4, 4, 0].tolist()
    assert shades == sorted(shades)  # 2 before 10
    assert subjects_of(tmp_path / "out" / "subjects.csv", rows.ids) == [
        "Aamir_Khan", "Zulay_Henao", "Zulay_Henao",
    ]  # fmt: skip
    lengths = read_lengths(rows)
    np.testing.assert_allclose(lengths.rates, 25 / 6)
    assert lengths.num_frames.tolist() == [12, 3, 3]
    np.testing.assert_allclose(read_lengths(rows, frame_rate=5.0).rates, 5)
    assert "2 people (published: 1251), 3 folders, 18 frames" in caplog.text
    assert "1 folders have gaps" in caplog.text and "0AuT3VHwXm0/10" in caplog.text


def test_voxceleb1_as_intervals_and_at_another_rate(voxceleb, tmp_path):
    (voxceleb / "unzippedIntervalFaces").mkdir()
    (voxceleb / "unzippedFaces").rename(voxceleb / "unzippedIntervalFaces" / "data")
    rows = prepare(voxceleb, tmp_path / "out", "--frame_rate", "25", "--no_probe")
    assert len(rows) == 3
    assert read_frame_rate(tmp_path / "out" / "info_clean.csv") == 25.0


def test_voxceleb1_faults(voxceleb, tmp_path):
    out = tmp_path / "out"
    empty = voxceleb / "unzippedFaces" / "Aamir_Khan" / "1.6" / "empty"
    empty.mkdir()
    mixed = voxceleb / "unzippedFaces" / "Zulay_Henao" / "1.6" / "0AuT3VHwXm0" / "1.jpg"
    mixed.write_bytes(b"x")
    with pytest.raises(PreparationError) as caught:
        prepare(voxceleb, out)
    assert "2 problem(s)" in str(caught.value)
    assert f"{empty}: no frames" in str(caught.value)
    assert "1 frames beside 2 folders" in str(caught.value)
    assert len(prepare(voxceleb, out, "--leave_out_wrong")) == 1
    with pytest.raises(PreparationError, match="--frame_rate 0: give"):
        prepare(voxceleb, out, "--frame_rate", "0")
    with pytest.raises(PreparationError, match="no folders <name>/1.6"):
        prepare(tmp_path / "out", out)


def test_irregular_numbers():
    assert not voxceleb1.is_irregular(["1.jpg", "7.jpg", "13.jpg"])
    assert voxceleb1.is_irregular(["a1_001.jpg", "a1_002.jpg", "a1_004.jpg"])
    assert not voxceleb1.is_irregular(["a.jpg", "b.jpg", "d.jpg"])


def test_frame_rate_file(tmp_path):
    csv = tmp_path / "train.csv"
    assert read_frame_rate(csv) is None
    write_frame_rate(tmp_path, 25 / 6)
    assert read_frame_rate(csv) == 25 / 6
    for text in ("{}", "[1]", "no", '{"frames_per_second": -2}', '{"frames_per_second": NaN}'):
        (tmp_path / FILE_NAME).write_text(text)
        with pytest.raises(ValueError, match="expected .*frames_per_second"):
            read_frame_rate(csv)


PAIRS = """2\t2
Ann_A\t1\t2
Bob_B\t1\t2
Ann_A\t1\tBob_B\t1
Ann_A\t2\tCy_C\t1
Ann_A\t2\t3
Bob_B\t2\t1
Cy_C\t1\tBob_B\t2
Ann_A\t3\tBob_B\t1
"""


@pytest.fixture
def faces(tmp_path):
    root = tmp_path / "lfw_home"
    for name, count in (("Ann_A", 3), ("Bob_B", 2), ("Cy_C", 1)):
        folder = root / "lfw_funneled" / name
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            (folder / f"{name}_{number:04d}.jpg").write_bytes(b"x")
    (root / "pairs.txt").write_text(PAIRS)
    return root


def pairs_of(faces, out):
    lfw.main(["--dataset_dir", str(faces), "--output_dir", str(out)])
    return [line.split(",") for line in (out / "pairs.csv").read_text().splitlines()]


def test_lfw(faces, tmp_path, caplog):
    rows = pairs_of(faces, tmp_path / "out")
    assert rows[0] == ["fold", "image_a", "image_b", "same"]
    assert [row[0] for row in rows[1:]] == list("11112222")
    assert [row[3] for row in rows[1:]] == list("11001100")
    assert rows[4][1:3] == [
        str(faces / "lfw_funneled/Ann_A/Ann_A_0002.jpg"),
        str(faces / "lfw_funneled/Cy_C/Cy_C_0001.jpg"),
    ]
    assert not (tmp_path / "out" / "dev_pairs.csv").exists()
    assert "not the published" in caplog.text


def test_lfw_without_all_images(faces, tmp_path, caplog):
    (faces / "lfw_funneled/Ann_A/Ann_A_0002.jpg").unlink()
    with pytest.raises(PreparationError, match="--leave_out_missing"):
        lfw.main(["--dataset_dir", str(faces), "--output_dir", str(tmp_path)])
    lfw.main(["--dataset_dir", str(faces), "--output_dir", str(tmp_path), "--leave_out_missing"])
    assert "left out (--leave_out_missing)" in caplog.text
    lines = (tmp_path / "pairs.csv").read_text().splitlines()
    assert len(lines) > 1
    assert not any("Ann_A_0002" in line for line in lines)


def test_lfw_development_lists(faces, tmp_path):
    (faces / "pairs.txt").unlink()
    with pytest.raises(PreparationError, match="no pairs.txt"):
        pairs_of(faces, tmp_path / "out")
    (faces / "pairsDevTrain.txt").write_text("1\nAnn_A\t1\t2\nAnn_A\t1\tCy_C\t1\n")
    (faces / "pairsDevTest.txt").write_text("1\nBob_B\t1\t2\nBob_B\t1\tCy_C\t1\n")
    lfw.main(["--dataset_dir", str(faces), "--output_dir", str(tmp_path)])
    rows = [line.split(",") for line in (tmp_path / "dev_pairs.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["fold", "train", "train", "test", "test"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("Ann_A\t1\t2", "Ann_A\t1\t9"), "line 2: no image .*Ann_A_0009.jpg"),
        (("Ann_A\t1\t2", "Ann_A\tx\t2"), "line 2: 'x' is not the number of an image"),
        (("Ann_A\t1\t2\n", "Ann_A\t1\n"), "line 2: expected 'name 1 2', found 'Ann_A 1'"),
        (("Ann_A\t1\t2\n", ""), "7 pairs, its first line says 2 x 2 x 2"),
        (("2\t2\n", "folds\n"), "line 1: expected '<folds> <pairs>'"),
    ],
)
def test_lfw_faults(faces, tmp_path, change, text):
    (faces / "pairs.txt").write_text(PAIRS.replace(*change, 1))
    with pytest.raises(PreparationError, match=text):
        pairs_of(faces, tmp_path / "out")
