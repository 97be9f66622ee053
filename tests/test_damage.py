"""Packed stores that got damaged or were begun: what is whole is kept, the rest refused by name."""

import json
import random
import shutil

import numpy as np
import pytest

from svfap.datasets.video.store import ClipStore, StoreError
from svfap.datasets.video.store_writer import PackedVideo, StoreWriter


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
