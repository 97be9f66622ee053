"""The data doctor: videos that look alike, copies among them."""

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

from svfap.datasets.labels.annotations import write_annotations
from svfap.preprocess.doctor.pairs import count_bits, find_pairs, similarity
from svfap.preprocess.doctor.scan import perceptual_hash, scan_video
from tests.clips_drawn import pattern, write_folder, write_video
from tests.test_doctor import append, examine, found, make_data


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "mine")


def test_copies_across_parts_and_with_other_labels_are_found(data):
    source = pattern(3)  # train, label 1
    copies = data / "frames"
    coded = write_video(copies / "coded.mp4", source)
    small = write_folder(
        copies / "small", np.stack([cv2.resize(frame, (48, 48)) for frame in source])
    )
    bright = write_folder(copies / "bright", np.clip(source[1:] * 1.1 + 8, 0, 255).astype(np.uint8))
    append(data / "test.csv", f"{coded} 1")
    append(data / "test.csv", f"{small} 0")
    append(data / "train.csv", f"{bright} 1")
    status, report = examine(data)
    assert status == 1
    problems = found(report, "problem")
    original = str(data / "frames/p1_003")
    across = problems["duplicates"][1:]
    paths = {original, str(coded), str(small), str(bright)}
    named = {frozenset(path for path in paths if f"{path} " in line) for line in across}
    sides = product((original, str(bright)), (str(coded), str(small)))
    assert named == {frozenset(pair) for pair in sides}
    assert all("(train)" in line and "(test)" in line for line in across)
    assert any(str(small) in line and "labels 1 and 0" in line for line in problems["labels"])
    within = found(report, "warning")["duplicates"]
    assert any(str(bright) in line and original in line for line in within)


def acted(number: int, smile: int) -> np.ndarray:
    """One of many people before a still camera; the mouth moves as the expression asks."""
    frames = np.repeat(pattern(number, 1), 20, axis=0).copy()
    for n, frame in enumerate(frames):
        cv2.ellipse(frame, (32, 46), (12, 1 + n * smile // 4), 0, 0, 360, (250, 40, 40), -1)
    return frames


def test_one_person_with_two_expressions_is_no_copy(tmp_path):
    """As in acted data sets: same subject, setting and light, other labels."""
    rows = []
    for person in range(4):
        for label, smile in enumerate((0, 1, 2)):
            path = write_folder(tmp_path / f"p{person}_{label}", acted(person, smile))
            rows.append((str(path), str(label)))
    write_annotations(tmp_path / "train.csv", rows)
    status, report = examine(tmp_path)
    assert status == 0
    assert not {"labels", "duplicates"} & {f["check"] for f in report["findings"]}
    assert len(found(report, "note")["alike"]) > 1
    copy = write_video(tmp_path / "copy.mp4", acted(2, 1))
    append(tmp_path / "train.csv", f"{copy} 2")
    status, report = examine(tmp_path)
    assert status == 1
    assert any("copy.mp4" in line for line in found(report, "problem")["labels"])


def test_real_copies_are_found_and_others_are_not(real_videos):
    names = ("broken_truncated.mkv", "signing_again.mkv", "signing_thanks.mkv",
             "smiling_man.gif", "smiling_man_mpeg4.avi", "talker_bbaf2n.mpg",
             "talker_brbk7n.mpg", "talker_sbia1a.mpg", "talker_8_frames.mp4")  # fmt: skip
    pairs = find_pairs([scan_video(str(real_videos / name)) for name in names])
    assert {(Path(p.first).name, Path(p.second).name) for p in pairs} == {
        ("talker_sbia1a.mpg", "talker_8_frames.mp4"),
        ("smiling_man.gif", "smiling_man_mpeg4.avi"),
        ("broken_truncated.mkv", "signing_again.mkv"),
    }


def test_hashes_and_similarity(monkeypatch):
    picture = cv2.cvtColor(pattern(5)[0], cv2.COLOR_RGB2GRAY)
    value = perceptual_hash(picture)
    assert 0 <= value < 2**63
    assert bin(value).count("1") == 31  # half of 63 frequencies are above their median
    assert perceptual_hash(cv2.resize(picture, (150, 90))) == pytest.approx(value, rel=1)
    other = perceptual_hash(cv2.cvtColor(pattern(6)[0], cv2.COLOR_RGB2GRAY))
    same = perceptual_hash((picture * 0.8 + 20).astype(np.uint8))
    assert bin(value ^ same).count("1") <= 4 < 15 < bin(value ^ other).count("1")
    values = np.array([0, 1, 2**63 + 5, 2**64 - 1], np.uint64)
    assert count_bits(values).tolist() == [0, 1, 3, 64]
    monkeypatch.delattr(np, "bitwise_count", raising=False)  # as before numpy 2
    assert count_bits(values).tolist() == [0, 1, 3, 64]
    one = np.arange(2 * 256, dtype=np.uint8).reshape(2, 16, 16)
    assert similarity(one, one) == pytest.approx(1)
    assert similarity(one, 255 - one) == pytest.approx(-1)
    flat = np.full((2, 16, 16), 40, np.uint8)
    assert similarity(flat, flat) == 1
    assert similarity(flat, flat + 30) == 0
