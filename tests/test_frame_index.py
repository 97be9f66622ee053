"""Known numbers of frames: the counting pass is left out, and what is read stays the same."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from svfap.datasets.clips.lengths import read_lengths
from svfap.datasets.clips.training import EvalViews
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.video.frame_index import INDEX_FILE, FrameIndex, KnownFrames, write_index
from svfap.datasets.video.open_video import open_video
from svfap.datasets.video.pyav import PyAVReader
from svfap.preprocess.shared.probe import Probe, probe_video, write_results
from tests.video_files import write_video


@pytest.fixture
def irregular(tmp_path, monkeypatch):
    """A video whose packets are not trusted to be frames, and a list of the files counted."""
    path = write_video(tmp_path / "v.mkv", "mpeg4", num_frames=20)
    monkeypatch.setattr("datasets.video.packets.REORDERED", frozenset())
    counted, count = [], PyAVReader._count_by_decoding

    def spy(self, expected):
        counted.append(self.path)
        count(self, expected)

    monkeypatch.setattr(PyAVReader, "_count_by_decoding", spy)
    return path, counted


def test_known_files_are_not_counted(irregular):
    path, counted = irregular
    with open_video(path) as video:
        expected, known = video.read([0, 7, 19]), video.counted
    assert counted == [path] and known.num_frames == 20 and known.problem is None
    with open_video(path, known=known) as video:
        assert video.num_frames == 20 and video.counted is None
        np.testing.assert_array_equal(video.read([0, 7, 19]), expected)
    assert counted == [path]
    with open_video(path, known=known._replace(size_bytes=1)) as video:  # another file
        assert video.num_frames == 20
    assert counted == [path, path]


def test_regular_files_need_no_index(tmp_path):
    path = write_video(tmp_path / "v.mp4", num_frames=12)
    with open_video(path, known=KnownFrames(1, 3)) as video:
        assert video.num_frames == 12 and video.counted is None


def test_datasets_remember_and_use_what_is_beside_the_csv(irregular, tmp_path):
    path, counted = irregular
    csv = tmp_path / "train.csv"
    csv.write_text(f"{path} 0\n")

    def views():
        annotations = read_annotations(csv, task="classification")
        return EvalViews(annotations=annotations, clip_frames=4, stride=2, size=16)

    dataset = views()
    first = dataset[0]["clip"]
    np.testing.assert_array_equal(dataset[0]["clip"], first)
    assert counted == [path]
    with open_video(path) as video:
        known = video.counted
    write_index(tmp_path / INDEX_FILE, [(path, known), ("other.mp4", KnownFrames(5, 6, "bad"))])
    counted.clear()
    np.testing.assert_array_equal(views()[0]["clip"], first)
    assert counted == []


def test_probing_writes_the_index_wherever_the_data_lie(irregular, tmp_path):
    path, counted = irregular
    out = tmp_path / "lists"
    write_results(out, [probe_video(path), Probe("bad.mp4", 5, 0, "no frame decodes")])
    index = FrameIndex.beside(out / "info_clean.csv")
    assert len(index) == 1 and index.get(path) == KnownFrames(Path(path).stat().st_size, 20)
    counted.clear()
    (out / "info_clean.csv").write_text("v.mkv 0\n")
    write_index(out / INDEX_FILE, [("v.mkv", index.get(path))])
    annotations = read_annotations(
        out / "info_clean.csv", task="pretrain", data_root=Path(path).parent
    )
    EvalViews(annotations=annotations, clip_frames=4, stride=2, size=16)[0]
    assert read_lengths(annotations).num_frames.tolist() == [20]
    assert counted == []


def test_index_files(tmp_path):
    videos = {f"id/{n}.mp4": KnownFrames(100 + n, n + 1) for n in range(50)}
    videos["id/7.mp4"] = KnownFrames(9, 8, "truncated: 8 of about 20 frames decode")
    write_index(tmp_path / INDEX_FILE, videos.items())
    index = FrameIndex.beside(tmp_path / "train.csv")
    assert len(index) == 50
    assert {path: index.get(path) for path in videos} == videos
    assert index.get("id/50.mp4") is None
    index.add("new.mp4", KnownFrames(1, 2))
    copy = pickle.loads(pickle.dumps(index))
    assert copy.get("new.mp4") == KnownFrames(1, 2) and copy.get("id/3.mp4") == videos["id/3.mp4"]
    shutil.rmtree(tmp_path)
    assert len(FrameIndex.beside(tmp_path / "train.csv")) == 0
