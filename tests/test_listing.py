"""What lies in people's folders besides videos: used, or counted and named, never in silence."""

import errno
import os
import unicodedata
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest

from svfap.datasets.labels import listing
from svfap.datasets.labels.listing import (
    Unused,
    find_pictures,
    find_videos,
    list_videos,
    walk_folders,
)
from svfap.preprocess import chalearn, cremad, custom, faces, videos, voxceleb1, voxceleb2
from svfap.preprocess.shared.common import PreparationError, frame_folder_problem
from tests.lab_trees import touch, write_chalearn, write_image
from tests.preparation import rows


def names(found: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in found]


def listed(out: Path) -> list[str]:
    """Paths in all parts that preprocess.custom wrote."""
    return sorted(
        {row[0] for part in ("train", "val", "test") for row in rows(out / f"{part}.csv")}
    )


def write_two_classes(root: Path) -> None:
    for name in ("happy", "sad"):
        for n in range(4):
            touch(root / name / f"{name}{n}.mp4")


def test_a_link_back_up_brings_nothing_twice(tmp_path, caplog):
    root = tmp_path / "d"
    write_two_classes(root)
    (root / "happy" / "all").symlink_to("..")
    (root / "happy" / "others").symlink_to(root / "sad")
    (root / "sad" / "self").symlink_to(".")
    custom.main([str(root), "--output_dir", str(tmp_path / "o")])
    assert len(listed(tmp_path / "o")) == 8
    assert all("all" not in path and "others" not in path for path in listed(tmp_path / "o"))
    assert "3 links to folders that are listed anyway (happy/all, happy/others, sad" in caplog.text
    assert len(find_videos(root)) == 8
    below = names(find_videos(root / "happy"), root / "happy")
    assert below == [f"happy{n}.mp4" for n in range(4)] + [f"others/sad{n}.mp4" for n in range(4)]


def test_a_link_to_a_folder_elsewhere_is_followed_once(tmp_path, caplog):
    touch(tmp_path / "disk" / "a.mp4")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "disk")
    root = tmp_path / "d"
    root.mkdir()
    for name in ("one", "two"):
        (root / name).symlink_to(tmp_path / "disk")
    (root / "three.mp4").symlink_to(tmp_path / "disk" / "a.mp4")
    assert names(find_videos(root), root) == ["three.mp4", "one/a.mp4"]
    assert "2 links to folders that are listed anyway (one/back, two)" in caplog.text
    (root / "round").symlink_to("round")
    assert len(find_videos(root)) == 2


def test_one_file_under_two_labels_is_a_problem(tmp_path):
    root = tmp_path / "d"
    write_two_classes(root)
    (root / "sad" / "again.mp4").symlink_to(root / "happy" / "happy1.mp4")
    with pytest.raises(PreparationError, match="again.mp4: label 'sad', but the same file is"):
        custom.main([str(root), "--output_dir", str(tmp_path / "o")])


SYSTEM = ("@eaDir", "#recycle", "#snapshot", "@Recycle", "$RECYCLE.BIN", "lost+found", "__MACOSX",
          "System Volume Information", ".@__thumb", ".AppleDouble", ".Trashes")  # fmt: skip


@pytest.mark.parametrize("folder", SYSTEM)
def test_folders_of_systems_are_neither_classes_nor_videos(tmp_path, caplog, folder):
    root = tmp_path / "d"
    write_two_classes(root)
    write_image(root / folder / "happy" / "SYNOPHOTO_THUMB_M.jpg")
    write_image(root / "happy" / folder / "happy0.mp4" / "SYNOVIDEO_VIDEO_SCREENSHOT.jpg")
    touch(root / "happy" / "._happy0.mp4")
    touch(root / "Thumbs.db")
    custom.main([str(root), "--output_dir", str(tmp_path / "o")])
    assert len(listed(tmp_path / "o")) == 8
    assert folder in caplog.text
    assert "._happy0.mp4" in caplog.text
    assert {row[1] for row in rows(tmp_path / "o" / "train.csv")} == {"0", "1"}


def test_every_kind_that_is_not_used_is_counted_and_named(tmp_path, caplog):
    root = tmp_path / "d"
    for name in ("a.asf", "b.VOB", "c.mxf", "d.f4v", "e.qt", "f.mpe", "g.mp4", "h.m2v"):
        touch(root / name)
    for name in ("noext", "x.bin", "y.bin", "z.txt", "clip/1.tif", "clip/2.tif", "empty/.keep"):
        touch(root / name)
    write_image(root / "clip" / "thumb.jpg")
    write_image(root / "poster.jpg")
    (root / "nothing").mkdir()
    os.mkfifo(root / "pipe.mp4")
    found = find_videos(root)
    assert len(found) == 9
    assert found[-1].name == "clip"
    for text in ("1 files without an ending (noext)", "2 .bin files (x.bin, y.bin)", "1 .txt files",
                 "2 .tif files (clip/1.tif, clip/2.tif)", "1 pictures beside videos (poster.jpg)",
                 "1 pipes, sockets or devices (pipe.mp4)", "1 empty folders (nothing)",
                 "1 hidden files or folders (empty/.keep)"):  # fmt: skip
        assert text in caplog.text
    caplog.clear()
    find_pictures(root)
    assert "videos among pictures" in caplog.text


def test_folders_that_cannot_be_read_are_named(tmp_path, caplog, monkeypatch):
    touch(tmp_path / "d" / "a.mp4")
    touch(tmp_path / "d" / "secret" / "b.mp4")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(listing.os, "scandir", scandir)
    assert len(find_videos(tmp_path / "d")) == 1
    assert "1 folders that cannot be read: Permission denied (secret)" in caplog.text
    with pytest.raises(PermissionError):
        find_videos(tmp_path / "d" / "secret")


def test_class_folders_without_videos_are_named(tmp_path, caplog):
    root = tmp_path / "d"
    write_two_classes(root)
    touch(root / "bored" / "clip.docx")
    touch(root / "stray.mp4")
    custom.main([str(root), "--output_dir", str(tmp_path / "o")])
    assert "1 class folders without videos or pictures (bored)" in caplog.text
    assert "1 files beside the class folders (stray.mp4)" in caplog.text


def test_every_command_that_lists_says_what_it_leaves_out(tmp_path, caplog):
    touch(tmp_path / "list" / "a.mp4")
    touch(tmp_path / "list" / "b.xyz")
    with pytest.raises(PreparationError):
        videos.main([str(tmp_path / "list"), "--output_dir", str(tmp_path / "o"),
                     "--num_workers", "0"])  # fmt: skip
    assert "1 .xyz files (b.xyz)" in caplog.text
    caplog.clear()
    list_videos([tmp_path / "list"])  # preprocess.faces and run_predict.py
    assert faces.list_videos is list_videos
    assert "1 .xyz files (b.xyz)" in caplog.text
    for name in ("id1/a/1.mp4", "id1/a/2.avi", "id1/3.mp4"):
        touch(tmp_path / "vox2/dev/mp4" / name)
    assert [Path(path).name for path in voxceleb2.find_clips(tmp_path / "vox2")] == ["1.mp4"]
    assert "2 files that are not <identity>/<video>/<clip>.mp4 (id1/3.mp4, id1/a/2" in caplog.text
    write_image(tmp_path / "vox1/unzippedFaces/Ann/1.6/video/1.jpg")
    write_image(tmp_path / "vox1/unzippedFaces/Ann/1.6/video/@eaDir/1.jpg/THUMB.jpg")
    touch(tmp_path / "vox1/unzippedFaces/Ann/1.6/video/1.webp")
    voxceleb1.main(["--dataset_dir", str(tmp_path / "vox1"), "--output_dir", str(tmp_path / "o1"),
                    "--no_probe"])  # fmt: skip
    assert len(rows(tmp_path / "o1/info_clean.csv")) == 1
    assert "1 .webp files" in caplog.text
    assert "1 files or folders of the system" in caplog.text
    touch(tmp_path / "cremad/VideoFlash/1001_IEO_SAD_LO.flv")
    touch(tmp_path / "cremad/VideoFlash/1001_IEO_SAD_LO.wav")
    assert len(cremad.read(Namespace(dataset_dir=tmp_path / "cremad")).every) == 1
    assert "1 .wav files" in caplog.text


def test_class_folders_that_differ_in_unicode_form_only_are_one(tmp_path):
    root = tmp_path / "d"
    for part, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("fröhlich", "müde"):
            for n in range(3):
                touch(root / part / unicodedata.normalize(form, name) / f"{part}{n}.mp4")
    custom.main([str(root), "--output_dir", str(tmp_path / "o"), "--val_fraction", "0"])
    assert {row[1] for row in rows(tmp_path / "o" / "test.csv")} == {"0", "1"}


def test_tables_are_not_looked_for_in_folders_of_systems(tmp_path):
    write_chalearn(tmp_path)
    for path in list(tmp_path.glob("*.pkl")):
        touch(tmp_path / "@eaDir" / path.name / "SYNOINDEX_MEDIA_INFO")
        touch(tmp_path / "__MACOSX" / path.name)
    found = chalearn.read(Namespace(dataset_dir=tmp_path))
    assert len(found.every) == 10


def write_pictures(folder: Path, seeds, side=32) -> Path:
    """One picture per seed: noise in large spots, another for each seed."""
    folder.mkdir(parents=True)
    for number, seed in enumerate(seeds):
        spots = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
        picture = cv2.resize(spots, (side, side), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture)
    return folder


def test_pictures_of_a_class_are_told_from_frames_of_a_video(tmp_path, caplog):
    root = tmp_path / "d"
    write_pictures(root / "happy", range(20))
    write_pictures(root / "sequences", np.repeat(range(10), 3))  # three of each, as in CK+
    write_pictures(root / "film", [0] * 15 + [1] * 15)  # one cut
    found = names(find_videos(root, "auto"), root)
    assert found[0] == "film" and len(found) == 1 + 20 + 30
    assert "2 folders (happy, sequences) are items of their own" in caplog.text
    assert names(find_videos(root), root) == ["film", "happy", "sequences"]
    assert len(find_videos(root, "single")) == 30 + 20 + 30
    sizes = write_pictures(tmp_path / "e" / "all", [0] * 4)
    cv2.imwrite(str(sizes / "001.png"), np.zeros((9, 9, 3), np.uint8))
    assert len(find_videos(tmp_path / "e", "auto")) == 4


def test_pretraining_lists_pictures_knowingly(tmp_path, caplog):
    write_pictures(tmp_path / "d" / "happy", range(8))
    videos.main([str(tmp_path / "d"), "--output_dir", str(tmp_path / "o"), "--num_workers", "0"])
    assert len(rows(tmp_path / "o" / "info_clean.csv")) == 8
    assert "--pictures frames takes them for one" in caplog.text
    more = ["--pictures", "frames", "--output_dir", str(tmp_path / "f"), "--num_workers", "0"]
    videos.main([str(tmp_path / "d"), *more])
    assert len(rows(tmp_path / "f" / "info_clean.csv")) == 1


def test_class_folders_with_documents_only_say_what_is_in_them(tmp_path):
    for name in ("happy", "sad"):
        touch(tmp_path / "d" / name / "notes.docx")
    with pytest.raises(PreparationError, match=r"There are .*2 \.docx files \(happy/notes.docx"):
        custom.main([str(tmp_path / "d"), "--output_dir", str(tmp_path / "o")])


def test_what_preprocess_faces_writes_is_known(tmp_path):
    crops = tmp_path / "crops" / "a" / "face0"
    crops.mkdir(parents=True)
    for name in ("00001.jpg", "frame_rate.json", "landmarks.npz", "../../faces.csv",
                 "../../faces.jsonl", "../b.landmarks.npz", "../b.mp4"):  # fmt: skip
        (crops / name).touch()
    unused = Unused(tmp_path)
    assert frame_folder_problem(crops, unused) is None
    assert len(list(walk_folders(tmp_path / "crops", unused))) == 2 and not unused.by_kind
    (crops / "notes.txt").touch()
    frame_folder_problem(crops, unused)
    assert list(unused.by_kind) == [".txt files among frames"]
