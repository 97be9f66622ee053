import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from svfap.datasets.labels.annotations import write_annotations
from svfap.datasets.labels.classes import LabelNames, write_classes
from svfap.datasets.labels.kinds import KINDS
from svfap.preprocess.doctor import command as doctor
from svfap.preprocess.doctor import scan as doctor_scan
from svfap.preprocess.doctor.scan import face_share, scan_video
from svfap.preprocess.shared.common import PreparationError
from tests.clips_drawn import pattern, write_folder
from tests.conftest import ROOT

CLASSES = ("glad", "glum")


def make_data(folder: Path, *, train: int = 8, test: int = 4, num_frames: int = 20) -> Path:
    """Videos 0, 1, ... with labels 0, 1, 0, ...; subject is the number over two."""
    number = 0
    for part, count in (("train", train), ("val", 2), ("test", test)):
        rows = []
        for _ in range(count):
            path = write_folder(folder / "frames" / f"p{number // 2}_{number:03d}",
                                pattern(number, num_frames))  # fmt: skip
            rows.append((str(path), str(number % 2)))
            number += 1
        write_annotations(folder / f"{part}.csv", rows)
    write_classes(folder, LabelNames(task="classification", class_names=CLASSES))
    return folder


def examine(folder: Path, *more: str, faces: bool = False) -> tuple[int, dict]:
    out = folder / "doctor"
    flags = [] if faces else ["--no_faces"]
    status = doctor.main([str(folder), "--output_dir", str(out), "--num_workers", "0", *flags,
                          *map(str, more)])  # fmt: skip
    return status, json.loads((out / "report.json").read_text())


def found(report: dict, level: str) -> dict[str, list[str]]:
    """Items by check, the text in front."""
    return {f["check"]: [f["text"], *f["items"]] for f in report["findings"] if f["level"] == level}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def append(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line + "\n")


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "mine")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("clean"))


def test_clean_data_has_no_problems(clean, capsys):
    status, report = examine(clean)
    assert status == 0
    assert report["status"] == "ok"
    assert found(report, "problem") == found(report, "warning") == {}
    train = report["folds"][0]["splits"][0]
    assert train["videos"] == 8
    assert train["classes"] == {"glad": 4, "glum": 4}
    assert report["videos"]["frames"] == {"min": 20, "median": 20.0, "max": 20}
    assert report["videos"]["sizes"] == {"72x72": 14}
    text = capsys.readouterr().out
    assert "  train       8         ?     4     4" in text
    assert "frames per video: 20 to 20, median 20" in text
    assert "no problems, 0 warnings" in text
    assert "subjects are unknown" in text


def test_contact_sheet_shows_the_videos(clean):
    examine(clean)
    sheet = cv2.imread(str(clean / "doctor" / "contact_sheet.png"))
    # Middle frames of the first class stand in the first row, scaled: look for their colours.
    frame = pattern(0)[10].mean(axis=(0, 1))[::-1]
    tiles = cv2.resize(sheet, None, fx=1 / 24, fy=1 / 24, interpolation=cv2.INTER_AREA)
    assert sheet.shape[0] > 200 and sheet.shape[1] > 500 and (sheet != 255).mean() > 0.2
    assert np.abs(tiles.astype(float) - frame).max(axis=2).min() < 40


def test_several_files_and_folds(clean, tmp_path):
    files = [str(clean / f"{part}.csv") for part in ("test", "train", "val")]
    out = tmp_path / "report"
    flags = ["--output_dir", str(out), "--no_faces", "--num_workers", "0"]
    assert doctor.main([*files, *flags]) == 0
    report = json.loads((out / "report.json").read_text())
    assert [split["name"] for split in report["folds"][0]["splits"]] == ["train", "val", "test"]
    for fold in ("split01", "split02"):
        (tmp_path / fold).mkdir()
        for part in ("train", "test"):
            (tmp_path / fold / f"{part}.csv").write_text((clean / f"{part}.csv").read_text())
    status, report = examine(tmp_path)
    assert status == 0
    assert [Path(fold["folder"]).name for fold in report["folds"]] == ["split01", "split02"]
    assert report["videos"]["opened"] == 12


def test_shared_subjects_are_named_from_a_file_or_from_names(data):
    rows = [line.split()[0] for part in ("train", "val", "test") for line in
            lines(data / f"{part}.csv")]  # fmt: skip
    people = {row: f"p{int(Path(row).name[-3:]) // 2}" for row in rows}
    people[rows[-1]] = "p1"
    table = ["path,subject", *(f"{path},{name}" for path, name in people.items())]
    (data / "subjects.csv").write_text("\n".join(table) + "\n")
    status, report = examine(data)
    assert status == 1
    assert found(report, "problem")["subjects"] == [
        f"{data}: 1 of 3 subjects of test are also in train",
        "subject p1: 2 videos in train, 1 in test",
    ]
    other = data.parent / "by_name.csv"
    other.write_text("video_name,subject\n" + "\n".join(f"{Path(p).name},x" for p in rows) + "\n")
    _, report = examine(data, "--subjects", other)
    assert "subject x: 8 videos in train, 4 in test" in found(report, "problem")["subjects"]
    assert report["subjects_from"] == str(other)


def test_known_names_say_who_is_seen(tmp_path):
    for part, names in (("train", ("1001_IEO_SAD_XX", "1002_IEO_HAP_XX")),
                        ("test", ("1002_TIE_SAD_XX", "1003_TIE_HAP_XX"))):  # fmt: skip
        rows = []
        for n, name in enumerate(names):
            seed = n + 10 * (part == "test")
            rows.append((str(write_folder(tmp_path / name, pattern(seed))), n))
        write_annotations(tmp_path / f"{part}.csv", rows)
    status, report = examine(tmp_path)
    assert status == 1
    assert report["subjects_from"] == "file names as in cremad"
    assert found(report, "problem")["subjects"][1] == ("subject 1002: 1 videos in train, 1 in test")


def test_any_folder_the_documents_name_is_examined(clean, tmp_path):
    """Lists for pre-training, targets in folders, LFW's pairs, and videos without any list."""
    videos = sorted((clean / "frames").iterdir())[:4]
    rows = [(str(path), "0") for path in videos]
    write_annotations(tmp_path / "vox/info_clean.csv", rows)
    for target in ("both", "arousal"):
        write_annotations(tmp_path / f"avcaffe/{target}/train.csv", rows)
    (tmp_path / "lfw").mkdir()
    images = [next(path.iterdir()) for path in videos]
    table = f"fold,image_a,image_b,same\n1,{images[0]},{images[1]},1\n2,{images[0]},{images[2]},0\n"
    (tmp_path / "lfw/pairs.csv").write_text(table)
    (tmp_path / "raw").mkdir()
    for path in videos:
        (tmp_path / "raw" / path.name).symlink_to(path)
    for name, folds, count in (("vox", 1, 4), ("avcaffe", 2, 4), ("lfw", 1, 3), ("raw", 1, 4)):
        status, report = examine(tmp_path / name)
        assert status == 0
        assert [len(report["folds"]), report["videos"]["opened"]] == [folds, count]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreparationError, match="no annotation file .*, and no videos"):
        examine(tmp_path / "empty")


def test_labels_of_frames_without_names(clean, tmp_path):
    np.savez(tmp_path / "labels.npz", mood=np.arange(30) / 10)
    video = next((clean / "frames").iterdir())
    write_annotations(tmp_path / "train.csv", [(str(video), str(tmp_path / "labels.npz"))])
    status, report = examine(tmp_path)
    assert status == 0
    assert report["folds"][0]["task"] == "regression_frames"


FRAMES = "{data}/frames"


@pytest.mark.parametrize(
    ("part", "rows", "check", "expected"),
    [
        ("test", [f"{FRAMES}/p0_000 0"], "overlap",
         ["{data}: 1 video in train and in test", f"{FRAMES}/p0_000"]),
        ("train", [f"{FRAMES}/broken.mp4 0", f"{FRAMES}/absent 1"], "unreadable",
         ["2 of 16 videos cannot be read", f"{FRAMES}/broken.mp4: ",
          f"{FRAMES}/absent: no such file or folder"]),
        ("train", [f"{FRAMES}/x 7", f"{FRAMES}/y 1 1"], "annotations",
         ["{data}/train.csv: problems", "{data}/train.csv line 9: label 7 is out of range; allowed "
          "are 0 to 1", "{data}/train.csv line 10: expected 'path label', found 3 columns"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_lines_is_named(data, part, rows, check, expected):
    (data / "frames" / "broken.mp4").write_bytes(b"no video at all")
    for row in rows:
        append(data / f"{part}.csv", row.format(data=data))
    status, report = examine(data)
    assert status == 1
    found_items = found(report, "problem")[check]
    for text, item in zip(expected, found_items, strict=True):
        assert item.startswith(text.format(data=data))


def test_a_validation_part_that_is_the_test_part(data):
    (data / "val.csv").write_text((data / "test.csv").read_text())
    _, report = examine(data)
    assert "val.csv repeats test.csv" in found(report, "warning")["overlap"][0]


def test_clips_cut_to_16_frames_are_a_problem_in_dfew(tmp_path):
    folder = make_data(tmp_path / "cut", num_frames=16)
    status, report = examine(folder)
    assert status == 0
    assert "14 of 14 frame folders hold exactly 16 frames" in found(report, "warning")["lengths"][0]
    write_classes(folder, LabelNames(task="classification", class_names=CLASSES, data_set="DFEW"))
    status, report = examine(folder)
    assert status == 1
    assert "original length" in found(report, "problem")["lengths"][0]


def test_short_and_small_videos(tmp_path):
    folder = make_data(tmp_path / "short", num_frames=3)
    tiny = write_folder(folder / "frames" / "tiny", pattern(90, side=40))
    append(folder / "train.csv", f"{tiny} 0")
    status, report = examine(folder)
    assert status == 0
    text, *items = found(report, "note")["lengths"]
    assert text == (
        "14 videos with fewer than 16 frames, which repeat; 14 with fewer than 4: all their "
        "frames are shown"
    )
    assert items[0].endswith("p0_000: 3 frames")
    assert found(report, "warning")["sizes"][1] == f"{tiny}: 40 x 40"


def test_missing_classes_and_published_counts(data):
    write_classes(data, LabelNames(task="classification", class_names=("glad", "glum", "bored")))
    status, report = examine(data)
    assert status == 1
    assert found(report, "problem")["classes"] == [f"{data}: no train videos of bored"]
    assert found(report, "warning")["classes"] == [f"{data}: no test videos of bored"]
    (data / "classes.json").unlink()
    status, report = examine(data, "--data_set", "RAVDESS")
    text, *items = found(report, "warning")["published"]
    assert "differ from the published counts" in text
    assert "neutral: 7, published 96" in items
    status, report = examine(data, "--data_set", "MAFW")
    assert found(report, "warning")["published"] == [f"{data}: 14 videos in all, published 9,172"]


def test_regression(tmp_path, capsys):
    folder = make_data(tmp_path / "values")
    (folder / "classes.json").unlink()
    for part in ("train", "val", "test"):
        rows = [line.split()[0] for line in lines(folder / f"{part}.csv")]
        write_annotations(folder / f"{part}.csv", [(r, n / 4, 0.5) for n, r in enumerate(rows)])
    status, report = examine(folder)
    assert status == 0
    assert report["folds"][0]["task"] == "regression"
    assert "0.875 +- 0.57" in capsys.readouterr().out


@pytest.mark.parametrize("task", KINDS)
def test_every_kind_of_labels_is_told(clean, capsys, task):
    kind = KINDS[task]
    names = ("mood", "valence") if not kind.one_class else CLASSES
    heads = dict.fromkeys(names[kind.headed], CLASSES)
    write_classes(clean, LabelNames(task=task, class_names=names, heads=heads))
    np.savez(clean / "labels.npz", mood=np.arange(30) / 10, valence=np.full(30, 0.5))
    fields = {1: (1,), 2: (1, 1)}[len(kind.columns(names, heads))]
    fields = (clean / "labels.npz",) if "npz" in kind.line else fields
    for part in ("train", "val", "test"):
        rows = [line.split()[0] for line in lines(clean / f"{part}.csv")]
        write_annotations(clean / f"{part}.csv", [(row, *fields) for row in rows])
    examine(clean)
    text = capsys.readouterr().out
    told = {"regression_frames": "1.45 +- 0.87", "regression": "1 +- 0",
            "multihead": "train mood: glad 0  glum 8"}  # fmt: skip
    assert told.get(task, "glad") in text
    assert (clean / "doctor" / "contact_sheet.png").is_file()


def test_pretraining_lists(tmp_path):
    rows = [(str(write_folder(tmp_path / f"v{n}", pattern(n))), 0) for n in range(3)]
    rows.append((str(write_folder(tmp_path / "copy", pattern(1))), 0))
    write_annotations(tmp_path / "info_clean.csv", rows)
    status, report = examine(tmp_path)
    assert status == 0 and report["folds"][0]["task"] == "pretrain"
    assert f"{tmp_path / 'copy'}" in found(report, "warning")["duplicates"][1]
    assert (tmp_path / "doctor" / "contact_sheet.png").is_file()


def test_a_sample_opens_that_many(clean):
    _, report = examine(clean, "--sample", "3")
    assert report["videos"]["opened"] == 3 + 2 + 3
    assert report["folds"][0]["splits"][0]["videos"] == 8
    with pytest.raises(ValueError, match="--sample 0: open at least 1"):
        examine(clean, "--sample", "0")


def test_worker_processes_see_the_same(clean):
    first = {path: scan_video(str(path)) for path in sorted((clean / "frames").iterdir())}
    scans = doctor_scan.scan_all([str(p) for p in first], num_workers=2, with_faces=False)
    for path, scan in first.items():
        other = scans[str(path)]
        np.testing.assert_array_equal(scan.hashes, other.hashes)
        np.testing.assert_array_equal(scan.tiny, other.tiny)
        assert (scan.num_frames, scan.height) == (other.num_frames, other.height) == (20, 72)


class FixedDetector:
    """Finds a face of a fixed side, in pixels of the picture it is shown, or none."""

    def __init__(self, side: float | None):
        self.side = side

    def detect(self, grey):
        from svfap.datasets.faces import Detection

        return [] if self.side is None else [Detection(1.0, 1.0, self.side, 1.0)]


@pytest.mark.parametrize(
    ("side", "level", "words"),
    [
        (None, "problem", "no face in 100% of the frames looked at; none at all in 14 videos"),
        (80, "problem", "faces take 25% of the frame's shorter side (median)"),
        (112, "warning", "faces take 35% of the frame's shorter side (median)"),
        (256, None, ""),
    ],
)
def test_frames_without_faces_and_full_frames(clean, monkeypatch, side, level, words):
    monkeypatch.setattr(doctor_scan, "_detector", lambda: FixedDetector(side))
    status, report = examine(clean, faces=True)
    assert status == (1 if level == "problem" else 0)
    if level:
        assert words in found(report, level)["faces"][0]
    else:
        assert all("faces" not in found(report, level) for level in ("problem", "warning"))
        assert report["videos"]["faces"] == {
            "frames": 42, "share_without": 0.0, "median_share_of_side": 0.8,
        }  # fmt: skip


def test_without_the_extra_it_says_so(clean, monkeypatch):
    def missing():
        raise ImportError("pip install 'svfap[faces]'")

    monkeypatch.setattr(doctor_scan, "_detector", missing)
    status, report = examine(clean, faces=True)
    assert status == 0
    assert found(report, "note")["faces"] == [
        "faces were not looked for: pip install 'svfap[faces]'"
    ]


def test_real_faces_are_measured(real_videos):
    if doctor_scan.faces_available() is not None:
        pytest.skip("the extra `faces` is not installed")
    frames = sorted((real_videos / "frames_talker_jpg").iterdir())
    grey = cv2.imread(str(frames[0]), cv2.IMREAD_GRAYSCALE)
    assert 0.35 < face_share(grey) < 0.6
    height, width = grey.shape
    crop = grey[height // 2 - 110 : height // 2 + 110, width // 2 - 110 : width // 2 + 110]
    assert face_share(crop) > face_share(grey)
    assert face_share(np.full((100, 100), 90, np.uint8)) == 0


def test_exit_status_of_the_command(clean, data, tmp_path):
    append(data / "train.csv", f"{data / 'absent'} 0")
    expected = {str(clean): 0, str(data): 1, str(tmp_path / "nothing"): 2}
    for folder, status in expected.items():
        done = subprocess.run(
            [sys.executable, "-m", "preprocess.doctor", folder, "--no_faces", "--num_workers", "0",
             "--output_dir", str(tmp_path / "out")],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
    assert "no such annotation file" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ValueError, match="unknown data set 'nope'"):
        examine(clean, "--data_set", "nope")
    with pytest.raises(PreparationError, match="no such file"):
        examine(clean, "--subjects", "absent.csv")
