"""The packed store: pixels, resuming, damage, annotation files, worker processes, many videos."""

import json
import multiprocessing
import os
import signal
import time
from io import BytesIO

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from svfap.datasets.augment.masking import make_masking
from svfap.datasets.clips.training import EpochSampler, EvalViews, PretrainClips
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.labels.classes import LabelNames, write_classes
from svfap.datasets.video.frame_rate import read_frame_rate
from svfap.datasets.video.hashing import hash_keys
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.datasets.video.store import (
    FORMAT,
    FORMAT_VERSION,
    TABLES,
    VIDEO,
    ClipStore,
    StoreError,
    open_store,
    paths_exist,
    stores_of,
)
from svfap.datasets.video.store_writer import PackedVideo, StoreWriter
from svfap.engine.results.find import subjects_of
from svfap.engine.results.groups import read_groups
from svfap.preprocess import pack
from svfap.preprocess.shared.common import PreparationError
from tests.batches import of_epoch
from tests.video_files import decode_everything, moving_frames, write_video

WINDOW = (8, 16, 48, 64)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Three videos and two frame folders in two annotation files."""
    folder = tmp_path_factory.mktemp("sources")
    rows = []
    for number, length in enumerate((40, 25, 3)):
        path = write_video(folder / f"{number}.mp4", num_frames=length)
        rows.append(f"{path} {number}")
    for suffix in (".jpg", ".png"):
        frames = folder / f"frames{suffix}"
        frames.mkdir()
        for number, image in enumerate(moving_frames(12)):
            cv2.imwrite(str(frames / f"{number}{suffix}"), image[..., ::-1])
        rows.append(f"{frames} 1")
    lists = folder / "lists"
    (lists / "fold").mkdir(parents=True)
    (lists / "train.csv").write_text("\n".join(rows[:4]) + "\n")
    (lists / "fold" / "test.csv").write_text("\n".join(rows[3:]) + "\n")
    (lists / "fold" / "classes.json").write_text("{}")
    (lists / "problems.csv").write_text("not an annotation file\n")
    return folder


def packed(sources, out, *flags):
    pack.main([str(sources / "lists"), "--output_dir", str(out), "--num_workers", "0", *flags])
    return out


@pytest.fixture(scope="module")
def store(sources, tmp_path_factory):
    return packed(sources, tmp_path_factory.mktemp("store") / "jpeg")


def source_frames(sources, name):
    with open_video(sources / name) as video:
        return video.read(range(video.num_frames))


def read_all(store, key):
    with open_video(f"{store}/manifest.json#{key}") as video:
        return video.read(range(video.num_frames))


def shard_bytes(store):
    return [path.read_bytes() for path in sorted((store / "shards").iterdir())]


@pytest.mark.parametrize("encoding", ["png", "raw"])
def test_lossless_frames_equal_the_source(sources, tmp_path, encoding):
    store = packed(sources, tmp_path / "s", "--encoding", encoding)
    for name in ("0.mp4", "2.mp4", "frames.jpg", "frames.png"):
        np.testing.assert_array_equal(read_all(store, name), source_frames(sources, name))
    np.testing.assert_array_equal(read_all(store, "1.mp4"), decode_everything(sources / "1.mp4"))


def test_jpeg_frames_equal_what_pil_decodes(sources, store):
    view, video = open_store(f"{store}/manifest.json"), "0.mp4"
    row = int(view.rows([video])[0])
    ends, start = view.frame_ends(row), int(view.videos["offset"][row])
    frames, original = read_all(store, video), source_frames(sources, video)
    for index, end in enumerate(ends):
        first = int(ends[index - 1]) if index else 0
        data = view.read_bytes(0, start + first, start + int(end))
        expected = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(frames[index], expected)
    assert np.abs(frames.astype(int) - original).mean() < 8
    assert view.manifest["quality"] == 90 and view.manifest["encoding"] == "jpeg"


def test_jpeg_files_are_copied(sources, store):
    np.testing.assert_array_equal(
        read_all(store, "frames.jpg"), source_frames(sources, "frames.jpg")
    )
    files = [(sources / "frames.jpg" / f"{n}.jpg").read_bytes() for n in range(12)]
    assert b"".join(files) in shard_bytes(store)[0]
    assert ClipStore(store / "manifest.json").manifest["num_copied"] == 1


def test_any_frames_in_any_order(store):
    everything = read_all(store, "0.mp4")
    with open_video(f"{store}/manifest.json#0.mp4") as video:
        assert (video.num_frames, video.fps, video.problem) == (40, 25.0, None)
        for wanted in ([39], [5, 5, 0], [30, 2, 17], list(range(0, 40, 4))):
            np.testing.assert_array_equal(video.read(wanted), everything[wanted])
        with pytest.raises(IndexError, match="frames 0 to 39"):
            video.read([40])
    with pytest.raises(UnreadableVideoError, match="no video 'nothing.mp4'"):
        open_video(f"{store}/manifest.json#nothing.mp4")


def test_frames_close_together_are_one_read(store, monkeypatch):
    everything = read_all(store, "0.mp4")
    reads, read = [], ClipStore.read_bytes
    monkeypatch.setattr(ClipStore, "read_bytes", lambda *place: reads.append(place) or read(*place))
    for wanted, num_reads in (([1, 30], 2), ([4, 5, 6], 1)):
        reads.clear()
        with open_video(f"{store}/manifest.json#0.mp4") as video:
            np.testing.assert_array_equal(video.read(wanted), everything[wanted])
        assert len(reads) == num_reads


def test_the_window_is_cut_once(sources, tmp_path):
    flags = ["--encoding", "raw", "--face_window", *map(str, WINDOW)]
    store = packed(sources, tmp_path / "s", *flags)
    top, left, height, width = WINDOW
    cut = source_frames(sources, "0.mp4")[:, top : top + height, left : left + width]
    np.testing.assert_array_equal(read_all(store, "0.mp4"), cut)

    def views(csv, window):
        annotations = read_annotations(csv, task="classification")
        return EvalViews(
            annotations=annotations, clip_frames=4, stride=2, size=32, face_window=window
        )[0]["clip"]

    from_videos = views(sources / "lists" / "train.csv", WINDOW)
    for window in (WINDOW, None):
        np.testing.assert_array_equal(views(store / "train.csv", window), from_videos)
    with pytest.raises(ValueError, match=r"holds the window .*\(8, 16, 48, 64\).*wants \(0, 0"):
        views(store / "train.csv", (0, 0, 48, 64))


def test_resized_frames_are_those_evaluation_makes(sources, tmp_path):
    store = packed(sources, tmp_path / "s", "--encoding", "png", "--resize", "32")
    one, other = (
        EvalViews(
            annotations=read_annotations(csv, task="classification"),
            clip_frames=8, stride=4, size=32,
        )[0]["clip"]
        for csv in (sources / "lists" / "train.csv", store / "train.csv")
    )  # fmt: skip
    np.testing.assert_array_equal(one, other)


def test_voxceleb2s_window_is_chosen_by_the_path(tmp_path):
    folder = tmp_path / "voxceleb2"
    folder.mkdir()
    write_video(folder / "a.mp4", num_frames=3, size=(224, 224))
    (folder / "info_clean.csv").write_text("a.mp4 0\n")
    pack.main([str(folder), "--output_dir", str(tmp_path / "s"), "--num_workers", "0"])
    whole = source_frames(folder, "a.mp4")
    kept = read_all(tmp_path / "s", "a.mp4")
    assert kept.shape == (3, 160, 160, 3)
    assert np.abs(kept.astype(int) - whole[:, :160, 32:192]).mean() < 8
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert manifest["face_window"] == [0, 32, 160, 160]


def test_annotation_files_move_with_the_store(store, tmp_path):
    assert (store / "train.csv").read_text().splitlines()[1] == "manifest.json#1.mp4 1"
    test = (store / "fold" / "test.csv").read_text().splitlines()
    assert test == ["../manifest.json#frames.jpg 1", "../manifest.json#frames.png 1"]
    assert (store / "fold" / "classes.json").read_text() == "{}"
    assert not (store / "problems.csv").exists()
    moved = tmp_path / "elsewhere"
    os.symlink(store, moved)
    annotations = read_annotations(moved / "fold" / "test.csv", task="classification")
    with open_video(annotations.paths[1]) as video:
        assert video.num_frames == 12
    (manifest,) = stores_of(annotations.paths).values()
    assert manifest["num_videos"] == 5 and manifest["num_frames"] == 92
    (tmp_path / "bad.csv").write_text(f"{store}/manifest.json#gone.mp4 0\nnowhere/x.mp4 0\n")
    with pytest.raises(ValueError, match=r"2 problems(.|\n)*gone.mp4(.|\n)*nowhere"):
        read_annotations(tmp_path / "bad.csv", task="classification")


def test_who_is_who_groups_and_rates_move_with_the_store(sources, tmp_path):
    """subjects.csv one folder up, groups.csv and frame_rate.json beside, folds.json on top."""
    lists = tmp_path / "lists"
    for fold, part in (("split01", "train"), ("split01", "test"), ("split02", "train")):
        (lists / fold).mkdir(parents=True, exist_ok=True)
        rows = [f"{sources}/{n}.mp4 {n}" for n in range(3)][:: -1 if part == "test" else 1][:2]
        (lists / fold / f"{part}.csv").write_text("\n".join(rows) + "\n")
        pairs = [f"{sources}/{n}.mp4,g{n}" for n in range(3)]
        (lists / fold / "groups.csv").write_text("\n".join(["path,group", *pairs]) + "\n")
        (lists / fold / "frame_rate.json").write_text('{"frames_per_second": 4.0}')
    people = [f"{sources}/{n}.mp4,p{n}" for n in range(3)]
    (lists / "subjects.csv").write_text("\n".join(["path,subject", *people]) + "\n")
    (lists / "folds.json").write_text("{}")
    for source in (lists, lists / "split01"):
        out = tmp_path / f"out_{source.name}"
        pack.main([str(source), "--output_dir", str(out), "--num_workers", "0"])
        fold = out if source != lists else out / "split01"
        for part in ("train", "test"):
            ids = read_annotations(fold / f"{part}.csv", task="classification").ids
            numbers = [name.split("#")[1][0] for name in ids]
            assert subjects_of(fold / "subjects.csv", ids) == [f"p{n}" for n in numbers]
            assert read_groups(fold / "groups.csv", ids) == [f"g{n}" for n in numbers]
        assert read_frame_rate(fold / "train.csv") == 4.0
    assert (tmp_path / "out_lists/folds.json").is_file()


def test_labels_of_frames_move_with_the_store(sources, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    for n in range(2):
        np.savez(lists / f"{n}.npz", valence=np.full(5, n / 10))
    (lists / "train.csv").write_text(
        "".join(f"{sources}/{n}.mp4 {lists}/{n}.npz\n" for n in (0, 1))
    )
    write_classes(lists, LabelNames(task="regression_frames", class_names=("valence",)))
    pack.main([str(lists), "--output_dir", str(tmp_path / "out"), "--num_workers", "0"])
    for n in range(2):
        (lists / f"{n}.npz").unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    rows = read_annotations(
        tmp_path / "moved/train.csv", task="regression_frames", names=("valence",)
    )
    assert rows.labels[1][:, 0].tolist() == pytest.approx([0.1] * 5)


def test_same_bytes_whatever_the_number_of_processes(sources, store, tmp_path):
    other = tmp_path / "parallel"
    pack.main([str(sources / "lists"), "--output_dir", str(other), "--num_workers", "2"])
    assert shard_bytes(other) == shard_bytes(store)
    pack.main([str(sources / "lists"), "--output_dir", str(other), "--num_workers", "0"])  # no-op
    with pytest.raises(StoreError, match="quality was 90, is 80"):
        packed(sources, other, "--quality", "80")


def test_a_killed_run_goes_on_to_the_same_store(tmp_path):
    for number in range(8):
        write_video(tmp_path / f"{number}.mp4", num_frames=10 + number, size=(96, 96))
    rows = [f"{number}.mp4 0\n" for number in range(8)]
    (tmp_path / "train.csv").write_text("".join(rows))
    small = ["--encoding", "png", "--num_workers", "0", "--shard_gib", str(3e5 / 2**30)]
    out = tmp_path / "killed"
    argv = [str(tmp_path / "train.csv"), "--output_dir", str(out), *small]
    process = multiprocessing.get_context("fork").Process(target=pack.main, args=(argv,))
    process.start()
    videos = out / "videos.bin"
    while not (videos.exists() and videos.stat().st_size >= 3 * 56) and process.is_alive():
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (out / "manifest.json").exists()
    with pytest.raises(StoreError, match="packing was not finished"):
        open_video(f"{out}/manifest.json#0.mp4")
    with open(out / "frames.bin", "ab") as file:  # a write that was cut short
        file.write(b"123")
    pack.main([str(tmp_path / "train.csv"), "--output_dir", str(out), *small])
    pack.main([str(tmp_path / "train.csv"), "--output_dir", str(tmp_path / "straight"), *small])
    assert len(shard_bytes(out)) >= 3
    assert shard_bytes(out) == shard_bytes(tmp_path / "straight")
    for name in ("videos.bin", "frames.bin", "keys.bin", "hashes.bin", "rows.bin"):
        assert (out / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    pack.main(["--verify", str(out)])


def test_lost_data_is_packed_again(tmp_path):
    settings = {"face_window": None, "encoding": "raw"}
    videos = [
        PackedVideo(f"v{n}", bytes([n]) * 12, np.array([12]), height=2, width=2) for n in range(4)
    ]
    for damage in (lambda data: data[:30], lambda data: data[:25] + b"x" + data[26:]):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with StoreWriter(folder, settings, shard_bytes=100) as writer:
            for video in videos:
                writer.add(video)
        shard = folder / "shards" / "00000.bin"
        shard.write_bytes(damage(shard.read_bytes()))
        with StoreWriter(folder, settings, shard_bytes=100) as writer:
            assert writer.num_videos == 2
            for video in videos[2:]:
                writer.add(video)
            writer.finish({})
        assert ClipStore(folder / "manifest.json").rows(["v3", "w"]).tolist() == [3, -1]
        assert shard.read_bytes() == b"".join(video.data for video in videos)


def test_checksums_name_what_is_damaged(sources, tmp_path):
    store = packed(sources, tmp_path / "s", "--shard_gib", str(2e4 / 2**30))
    pack.main(["--verify", str(store), "--num_workers", "0"])
    row = int(open_store(f"{store}/manifest.json").rows(["1.mp4"])[0])
    video = ClipStore(store / "manifest.json").videos[row]
    path = store / "shards" / f"{video['shard']:05d}.bin"
    data = bytearray(path.read_bytes())
    place = int(video["offset"]) + int(video["num_bytes"]) - 3  # in the last frame
    data[place] ^= 255
    path.write_bytes(data)
    with pytest.raises(PreparationError, match=r"1 problem(.|\n)*1\.mp4: .*damaged"):
        pack.main(["--verify", str(store), "--num_workers", "0"])
    path.write_bytes(data[: place - 2000])
    with (
        open_video(f"{store}/manifest.json#1.mp4") as reader,
        pytest.raises(UnreadableVideoError, match="frame 24 of the store is damaged"),
    ):
        reader.read([24])
    keys = store / "keys.bin"
    keys.write_bytes(keys.read_bytes().replace(b"1.mp4", b"7.mp4"))
    with pytest.raises(PreparationError, match="keys.bin: its checksum"):
        pack.main(["--verify", str(store), "--num_workers", "0"])
    keys.write_bytes(b"")
    with pytest.raises(StoreError, match="keys.bin has 0 bytes"):
        ClipStore(store / "manifest.json")


def test_unreadable_videos_stop_the_command_or_are_left_out(sources, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    (tmp_path / "train.csv").write_text(f"{sources}/0.mp4 0\n{bad} 1\n{sources}/1.mp4 0\n")
    argv = [str(tmp_path / "train.csv"), "--output_dir", str(tmp_path / "s"), "--num_workers", "0"]
    with pytest.raises(PreparationError, match=r"(?s)cannot be read.*bad\.mp4: cannot be opened"):
        pack.main(argv)
    assert not (tmp_path / "s" / "train.csv").exists()
    pack.main([*argv, "--leave_out_unreadable"])
    assert len(read_annotations(tmp_path / "s" / "train.csv", task="pretrain")) == 2
    key = next(key for key in map(ClipStore(tmp_path / "s/manifest.json").key, range(3))
               if key.endswith("bad.mp4"))  # fmt: skip
    with pytest.raises(UnreadableVideoError, match="unreadable when it was packed"):
        open_video(f"{tmp_path}/s/manifest.json#{key}")


def test_nothing_of_the_users_is_overwritten(sources, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and holds no store"):
        packed(sources, tmp_path)
    with pytest.raises(PreparationError, match="holds none"):
        pack.main([str(tmp_path), "--output_dir", str(tmp_path / "s")])
    with pytest.raises(FileNotFoundError, match="no such store"):
        ClipStore(tmp_path / "manifest.json")


def pretrain_batches(csv, **workers):
    dataset = PretrainClips(
        annotations=read_annotations(csv, task="pretrain"),
        clip_frames=4, stride=2, size=32, masking=make_masking("tube", (2, 4, 4), 0.5), seed=1,
    )  # fmt: skip
    sampler = EpochSampler(num_samples=4, batch_size=2, seed=1)
    return [batch["clip"] for batch in of_epoch(dataset, sampler, 0, **workers)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(store, method):
    expected = pretrain_batches(store / "train.csv")  # also opens shards in this process
    torch.multiprocessing.set_start_method(method, force=True)
    try:
        for one, other in zip(pretrain_batches(store / "train.csv", num_workers=1), expected):
            assert torch.equal(one, other)
    finally:
        torch.multiprocessing.set_start_method("fork", force=True)


def test_a_million_videos_open_at_once(tmp_path):
    """Memory and time grow with what is read, not with what there is: tables are mapped."""
    num_videos = 1_000_000
    folder = synthetic_index(tmp_path / "s", num_videos)
    started = time.process_time()
    store = ClipStore(folder / "manifest.json")
    rows = store.rows([f"id{n:07d}/clip.mp4" for n in (0, 7, num_videos - 1)])
    used = time.process_time() - started
    assert rows.tolist() == [0, 7, num_videos - 1]
    assert store.key(123_456) == "id0123456/clip.mp4"
    assert paths_exist([f"{folder}/manifest.json#id0000009/clip.mp4"]) == [True]
    assert store.frame_ends(5).tolist() == [10, 20]
    assert used < 5  # a thousand times what it takes


def synthetic_index(folder, num_videos):
    """The tables of a store of many videos of two frames, without shards."""
    folder.mkdir()
    keys = [f"id{number:07d}/clip.mp4" for number in range(num_videos)]
    videos = np.zeros(num_videos, VIDEO)
    videos["first_frame"], videos["num_frames"] = np.arange(num_videos) * 2, 2
    videos["key_end"] = (np.arange(num_videos) + 1) * len(keys[0])
    hashes = hash_keys(keys)
    order = np.argsort(hashes)
    tables = {"videos": videos, "frames": np.tile([10, 20], num_videos), "hashes": hashes[order],
              "keys": np.frombuffer("".join(keys).encode(), np.uint8), "rows": order}  # fmt: skip
    facts = {}
    for name, values in tables.items():
        file = f"{name}.bin"
        values.astype(TABLES[file]).tofile(folder / file)
        facts[file] = {"num_bytes": (folder / file).stat().st_size}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, "face_window": None,
                "encoding": "jpeg", "num_videos": num_videos, "tables": facts}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
