"""VoxCeleb2 and folders of any videos: listing and probing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.video.frame_index import FrameIndex, KnownFrames
from svfap.preprocess import videos, voxceleb2
from svfap.preprocess.shared import probe
from svfap.preprocess.shared.common import PreparationError
from tests.clips_drawn import write_video
from tests.conftest import ROOT
from tests.preparation import lines_of, table, write_frames


def write_clip(path: Path, num_frames: int = 8) -> None:
    grey = (20 * np.arange(num_frames)).astype(np.uint8)
    write_video(path, np.broadcast_to(grey[:, None, None, None], (num_frames, 32, 32, 3)))


@pytest.fixture(scope="module")
def vox_tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("vox")
    for name in ("id1/a/00002.mp4", "id1/a/00010.mp4", "id2/b/00001.mp4"):
        write_clip(root / "dev" / "mp4" / name)
    (root / "dev" / "mp4" / "id2" / "b" / "00003.mp4").write_bytes(b"not a video" * 50)
    return root


@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_voxceleb2_lists_good_and_broken_clips(vox_tree, tmp_path, num_workers):
    argv = ["--dataset_dir", str(vox_tree), "--output_dir", str(tmp_path)]
    argv += ["--num_workers", num_workers]
    with pytest.raises(PreparationError, match="dev clips: found 4, published 1,092,009"):
        voxceleb2.main(argv)
    voxceleb2.main([*argv, "--allow_other_counts"])
    clips = vox_tree / "dev" / "mp4"
    assert lines_of(tmp_path / "info_clean.csv") == [
        f"{clips}/id1/a/00002.mp4 0",
        f"{clips}/id1/a/00010.mp4 0",
        f"{clips}/id2/b/00001.mp4 0",
    ]
    index = FrameIndex.beside(tmp_path / "info_clean.csv")
    size = (clips / "id1/a/00002.mp4").stat().st_size
    assert len(index) == 3
    assert index.get(f"{clips}/id1/a/00002.mp4") == KnownFrames(size, 8)
    broken = table(tmp_path / "broken.csv")
    assert [row["path"] for row in broken] == [f"{clips}/id2/b/00003.mp4"]
    assert broken[0]["reason"]


def test_probing_goes_on_where_it_stopped(vox_tree, tmp_path, monkeypatch):
    clips = voxceleb2.find_clips(vox_tree)
    journal = tmp_path / "probed.csv"
    probe.probe_all(clips[:2], journal=journal, num_workers=0)
    opened = []
    real = probe.probe_video
    monkeypatch.setattr(probe, "probe_video", lambda path: opened.append(path) or real(path))
    probes = probe.probe_all(clips, journal=journal, num_workers=0)
    assert opened == clips[2:]
    assert [item.num_frames for item in probes] == [8, 8, 8, 0]
    opened.clear()
    with journal.open("a") as file:
        file.write("half a li")  # killed while writing
    assert probe.probe_all(clips, journal=journal, num_workers=0) == probes
    assert opened == []


def test_a_replaced_file_is_probed_again(tmp_path):
    path = tmp_path / "v" / "a.mp4"
    write_clip(path, num_frames=4)
    journal = tmp_path / "probed.csv"
    assert probe.probe_all([str(path)], journal=journal, num_workers=0)[0].num_frames == 4
    write_clip(path, num_frames=9)
    assert probe.probe_all([str(path)], journal=journal, num_workers=0)[0].num_frames == 9


def test_no_probe_lists_everything(vox_tree, tmp_path):
    argv = ["--dataset_dir", str(vox_tree), "--output_dir", str(tmp_path)]
    voxceleb2.main([*argv, "--allow_other_counts", "--no_probe"])
    assert len(lines_of(tmp_path / "info_clean.csv")) == 4
    assert not (tmp_path / "broken.csv").exists()


def test_videos_finds_files_and_frame_folders(tmp_path, caplog):
    root = tmp_path / "footage"
    write_clip(root / "b.mp4")
    write_clip(root / "sub" / "with space.AVI".replace("AVI", "mp4"))
    write_frames(root / "frames_10", ".png")
    write_frames(root / "frames_9", ".jpg")
    write_frames(root / "sub", ".jpg", num_frames=1)  # a thumbnail beside a video
    (root / "notes.txt").write_text("no video")
    (root / ".hidden").mkdir()
    write_clip(root / ".hidden" / "c.mp4")
    out = tmp_path / "out"
    with pytest.raises(PreparationError, match="white space"):
        videos.main([str(root), "--output_dir", str(out)])
    videos.main([str(root), "--output_dir", str(out), "--link_dir", str(tmp_path / "links"),
                 "--num_workers", "0"])  # fmt: skip
    rows = read_annotations(out / "info_clean.csv", task="pretrain")
    assert list(rows.paths) == [
        f"{root}/b.mp4",
        f"{root}/frames_9",
        f"{root}/frames_10",
        f"{tmp_path}/links/footage__sub__with_space.mp4",
    ]
    assert "1 pictures beside videos (sub/00001.jpg)" in caplog.text


def test_videos_without_any_video(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        videos.main([str(tmp_path / "nowhere"), "--output_dir", str(tmp_path)])
    (tmp_path / "a").mkdir()
    with pytest.raises(PreparationError, match=r"no videos in .*looked for"):
        videos.main([str(tmp_path / "a"), "--output_dir", str(tmp_path)])
    (tmp_path / "a" / "x.mp4").write_bytes(b"junk")
    with pytest.raises(PreparationError, match="none of the 1 videos can be read"):
        videos.main([str(tmp_path / "a"), "--output_dir", str(tmp_path), "--num_workers", "0"])
    assert "x.mp4" in (tmp_path / "broken.csv").read_text()


def test_videos_on_real_footage(real_videos, tmp_path):
    videos.main([str(real_videos), "--output_dir", str(tmp_path), "--num_workers", "2"])
    used = {Path(row.split()[0]).name for row in lines_of(tmp_path / "info_clean.csv")}
    assert "broken_unopenable.mp4" not in used
    assert {"broken_truncated.mkv", "talker_bbaf2n.mpg", "frames_woman_png"} <= used
    damaged = {Path(row["path"]).name: row for row in table(tmp_path / "truncated.csv")}
    assert damaged["broken_truncated.mkv"]["num_frames"] == "40"
    broken = [Path(row["path"]).name for row in table(tmp_path / "broken.csv")]
    assert broken == ["broken_unopenable.mp4"]


@pytest.mark.slow
def test_a_killed_probe_goes_on(tmp_path):
    root = tmp_path / "v"
    for index in range(200):
        write_clip(root / f"{index}.mp4", num_frames=100)
    command = [sys.executable, "-m", "preprocess.videos", str(root)]
    command += ["--output_dir", str(tmp_path / "out"), "--num_workers", "1"]
    journal = tmp_path / "out" / "probed.csv"
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while not (journal.is_file() and journal.stat().st_size):
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = lines_of(journal)
    assert 0 < len(kept) < 200
    subprocess.run(command, cwd=ROOT, check=True)
    probed = lines_of(journal)
    assert probed[: len(kept)] == kept and len(probed) == 200  # each of them once
    assert len(lines_of(tmp_path / "out" / "info_clean.csv")) == 200


def test_a_checkout_whose_path_has_spaces(tmp_path, monkeypatch):
    """Lists name videos from their own folder on; nothing below the checkout needs links."""
    (tmp_path / "my checkout").mkdir()
    monkeypatch.chdir(tmp_path / "my checkout")
    write_clip(Path("saved/vox/dev/mp4/id1/a/1.mp4"))
    voxceleb2.main(["--dataset_dir", "saved/vox", "--output_dir", "saved/list",
                    "--allow_other_counts", "--num_workers", "0"])  # fmt: skip
    rows = read_annotations("saved/list/info_clean.csv", task="pretrain")
    assert list(rows.ids) == ["../vox/dev/mp4/id1/a/1.mp4"]
    assert FrameIndex.beside("saved/list/info_clean.csv").get(rows.ids[0]).num_frames == 8
    videos.main(["saved/vox", "--output_dir", "saved/list2", "--num_workers", "0"])
    monkeypatch.chdir(tmp_path)
    assert os.path.exists(
        read_annotations("my checkout/saved/list2/info_clean.csv", task="pretrain").paths[0]
    )


def test_links_are_to_folders_with_white_space_not_to_every_video(tmp_path):
    root = tmp_path / "my disk" / "VoxCeleb2"
    for n in range(3):
        write_clip(root / f"dev/mp4/id1/a/{n}.mp4")
    voxceleb2.main(["--dataset_dir", str(root), "--output_dir", str(tmp_path / "list"),
                    "--no_probe", "--allow_other_counts",
                    "--link_dir", str(tmp_path / "links")])  # fmt: skip
    rows = read_annotations(tmp_path / "list/info_clean.csv", task="pretrain")
    assert len(rows) == 3
    (link,) = (tmp_path / "links").iterdir()
    assert link.resolve() == tmp_path / "my disk"
