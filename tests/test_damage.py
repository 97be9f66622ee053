"""Small files of preparation that got damaged: caches are made anew, journals skip lines and name
them, everything else is an error that names the file. Nothing is believed that was not written."""

import json
import random
import shutil

import numpy as np
import pytest

from svfap.datasets.files import read_array, read_arrays
from svfap.datasets.video.frame_index import FrameIndex, KnownFrames, write_index
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.datasets.video.store import ClipStore, StoreError, open_store
from svfap.datasets.video.store_writer import PackedVideo, StoreWriter
from svfap.engine.predict import files as predictions
from svfap.preprocess.shared import face_journal, probe
from svfap.preprocess.shared.common import PreparationError
from svfap.preprocess.shared.face_jobs import FaceSettings, Outcome
from tests.preparation import write_frames


def mutants(data: bytes, count: int, seed: int = 0):
    """Copies with a flipped bit, a missing piece, other bytes, or an end cut off."""
    rng = random.Random(seed)
    for _ in range(count):
        place, kind = rng.randrange(len(data)), rng.randrange(5)
        if kind == 0:
            yield data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        elif kind == 1:
            yield data[:place]
        elif kind == 2:
            yield data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place + 4 :]
        elif kind == 3:
            yield data[:place] + data[place + rng.randrange(1, 20) :]
        else:
            yield data[:place] + bytes([rng.choice(b'0123456789"{}[],:- ')]) + data[place + 1 :]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage") / "store"
    rng = np.random.default_rng(0)
    with StoreWriter(folder, {"encoding": "raw", "face_window": None}, shard_bytes=2000) as writer:
        for n in range(6):
            frames = rng.integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)
            ends = 192 * np.arange(1, 4)
            note = "torn" if n == 2 else None
            writer.add(PackedVideo(f"{n}.mp4", frames.tobytes(), ends, 8, 8, fps=25, note=note))
        writer.finish({"source": "/data", "versions": {}})
    return folder


def read_all(folder):
    open_store.cache_clear()
    return [open_video(f"{folder}/manifest.json#{n}.mp4").read(range(3)) for n in range(6)]


FILES = ("manifest.json", "videos.bin", "frames.bin", "keys.bin", "hashes.bin", "rows.bin")


@pytest.mark.parametrize("name", [*FILES, "notes.jsonl"])
def test_a_damaged_store_is_read_right_or_refused_by_name(store, tmp_path, name):
    right, data = read_all(store), (store / name).read_bytes()
    shutil.copytree(store, tmp_path / "s")
    for mutant in mutants(data, 80):
        (tmp_path / "s" / name).write_bytes(mutant)
        try:
            frames = read_all(tmp_path / "s")
        except StoreError as error:
            assert name in str(error)
        except UnreadableVideoError as error:  # a length within a video
            assert name == "frames.bin" and "manifest.json#" in str(error)
        else:
            assert all(np.array_equal(a, b) for a, b in zip(frames, right, strict=True))


def test_stores_without_a_checksum_of_their_manifest_are_read(store, tmp_path):
    shutil.copytree(store, tmp_path / "s")
    manifest = json.loads((store / "manifest.json").read_text())
    del manifest["sha256"]
    (tmp_path / "s/manifest.json").write_text(json.dumps(manifest))
    assert len(ClipStore(tmp_path / "s/manifest.json")) == 6
    for name, value in (("encoding", "gif"), ("face_window", [1, 2]), ("tables", {})):
        (tmp_path / "s/manifest.json").write_text(json.dumps(manifest | {name: value}))
        with pytest.raises(StoreError, match="manifest.json is damaged"):
            ClipStore(tmp_path / "s/manifest.json")


def test_packing_goes_on_from_its_very_first_instant(tmp_path, monkeypatch):
    """Killed after the first file, or beside what a killed one left of it."""
    settings = {"encoding": "raw", "face_window": None}
    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "_take_over", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            StoreWriter(tmp_path / "s", settings, shard_bytes=2000)
    (tmp_path / "s/unfinished.json").rename(tmp_path / "s/.unfinished.json.71.tmp")
    shutil.rmtree(tmp_path / "s/shards")
    with StoreWriter(tmp_path / "s", settings, shard_bytes=2000) as writer:
        assert writer.num_videos == 0


def test_a_store_under_way_goes_on_behind_the_damage(store, tmp_path):
    settings = {"encoding": "raw", "face_window": None}
    for name in ("videos.bin", "frames.bin"):
        for mutant in mutants((store / name).read_bytes(), 25):
            shutil.rmtree(tmp_path / "s", ignore_errors=True)
            shutil.copytree(store, tmp_path / "s")
            for table in ("manifest.json", "hashes.bin", "rows.bin"):
                (tmp_path / "s" / table).unlink()
            (tmp_path / "s/unfinished.json").write_text(json.dumps(settings))
            (tmp_path / "s" / name).write_bytes(mutant)
            with StoreWriter(tmp_path / "s", settings, shard_bytes=2000) as writer:
                assert writer.num_videos <= 6
    (tmp_path / "s/unfinished.json").write_text("{")
    with pytest.raises(StoreError, match="unfinished.json is not JSON"):
        StoreWriter(tmp_path / "s", settings, shard_bytes=2000)


def test_a_damaged_index_of_frames_is_none(tmp_path, caplog):
    path = tmp_path / "frame_index.npy"
    known = {f"{n}.mp4": KnownFrames(100 + n, 20 + n, None) for n in range(5)}
    write_index(path, known.items())
    assert len(FrameIndex(path)) == 5
    for mutant in mutants(path.read_bytes(), 100):
        path.write_bytes(mutant)
        index = FrameIndex(path)
        assert all(index.get(name) in (right, None) for name, right in known.items())
    assert "is damaged" in caplog.text


def outcomes():
    track = dict.fromkeys(face_journal.TRACK_COLUMNS, 1) | {"output": "a"}
    return [Outcome(f"/v/{n}.mp4", "ok", fps=25.0, num_frames=9, tracks=[track]) for n in range(4)]


def test_damaged_lines_of_the_faces_journal_are_named(tmp_path, caplog):
    journal = face_journal.Journal(tmp_path, FaceSettings())
    for outcome in outcomes():
        journal.add(outcome)
    journal.close()
    path = tmp_path / face_journal.JOURNAL
    data = path.read_bytes()
    for mutant in mutants(data, 100):
        path.write_bytes(mutant)
        caplog.clear()
        try:
            found = face_journal.read_journal(tmp_path, FaceSettings())
        except PreparationError as error:
            assert str(tmp_path) in str(error)
            continue
        face_journal.write_table(tmp_path, found.values())
        assert len(found) == 4 or "damaged" in caplog.text or mutant.count(b"\n") < 5


def test_damaged_lines_of_other_journals_are_named(tmp_path, caplog):
    (tmp_path / "clip").mkdir()
    write_frames(tmp_path / "clip")
    journal = tmp_path / "probed.csv"
    probes = probe.probe_all([str(tmp_path / "clip")], journal=journal, num_workers=0)
    for mutant in mutants(journal.read_bytes(), 60):
        journal.write_bytes(mutant)
        again = probe.probe_all([str(tmp_path / "clip")], journal=journal, num_workers=0)
        assert [p.path for p in again] == [p.path for p in probes]
    assert "is probed again" in caplog.text
    tracks = [{"track": 1, "scores": {"a": 0.5}}]
    content = {"video": "a.mp4", "status": "ok", "note": "", "num_frames": 3, "fps": 25,
               "frames_without_face": 0, "tracks": tracks}  # fmt: skip
    answers = predictions.Journal(tmp_path / "out", {"crop": False})
    answers.add(content)
    answers.close()
    path = tmp_path / "out" / predictions.JOURNAL
    data = path.read_bytes()
    for mutant in mutants(data, 100):
        path.write_bytes(mutant)
        try:
            again = predictions.Journal(tmp_path / "out", {"crop": False})
        except ValueError as error:
            assert str(tmp_path / "out") in str(error)
            continue
        again.close()
        known = [entry["content"] for entry in again.done.values()]
        predictions.write_table(tmp_path / "out" / "t.csv", known, ["a"])


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_damaged_arrays_are_refused_by_name(tmp_path, kind):
    path = tmp_path / f"labels.{kind}"
    if kind == "npz":
        np.savez(path, a=np.arange(9), b=np.ones(4))
    else:
        np.save(path, np.arange(9))
    for mutant in mutants(path.read_bytes(), 200):
        path.write_bytes(mutant)
        try:
            read_arrays(path, ["a", "b"]) if kind == "npz" else read_array(path)
        except ValueError as error:
            assert str(path) in str(error)
