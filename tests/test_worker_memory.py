"""Loader processes: their memory does not grow with what they have read."""

import multiprocessing
from pathlib import Path

import pytest

from svfap.datasets.augment.masking import make_masking
from svfap.datasets.clips.training import Loader, PretrainClips, Reading
from svfap.datasets.labels.annotations import read_annotations
from svfap.preprocess import pack
from tests.video_files import write_video

NUM_VIDEOS, FRAMES, SIZE = 96, 16, 96
# A third of the decoded frames of all videos; a worker that kept what it reads would hold them.
LIMIT_MIB = NUM_VIDEOS * FRAMES * SIZE * SIZE * 3 / 2**20 / 3


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Annotation files of the same videos as files and in a store."""
    folder = tmp_path_factory.mktemp("videos")
    one = Path(write_video(folder / "one.mp4", num_frames=FRAMES, size=(SIZE, SIZE)))
    paths = [folder / f"{number}.mp4" for number in range(NUM_VIDEOS)]
    for path in paths:
        path.write_bytes(one.read_bytes())
    (folder / "files.csv").write_text("".join(f"{path} 0\n" for path in paths))
    store = folder / "store"
    pack.main([str(folder / "files.csv"), "--output_dir", str(store), "--num_workers", "0"])
    return {"files": folder / "files.csv", "store": store / "files.csv"}


def own_mib(process):
    """Memory that a process shares with no other, MiB."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no Private_Dirty")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["files", "store"])
def test_a_worker_that_has_read_all_videos_is_as_large_as_before(lists, kind):
    dataset = PretrainClips(
        annotations=read_annotations(lists[kind], task="pretrain"),
        clip_frames=FRAMES, stride=1, size=64, masking=make_masking("tube", (8, 8, 8), 0.5), seed=1,
    )  # fmt: skip
    known = [[(epoch, 4 * n + i, 0) for i in range(4)] for epoch in range(24) for n in range(4)]
    new = [[(0, index, 0)] for index in range(16, NUM_VIDEOS)]
    keys, sizes = known + new + known[:10], {}  # the process is ahead, and ends with its work
    reading = Reading(
        dataset=dataset, batches=lambda: iter(keys), num_batches=len(keys), batch_size=4
    )
    with Loader([reading], num_workers=1) as loader:
        (worker,) = multiprocessing.active_children()
        for number, _ in enumerate(loader.read(reading), 1):
            if number in (len(known), len(known + new)):
                sizes[number] = own_mib(worker.pid)
    # what is read first makes it grow: buffers, shared pages that are written to
    assert sizes[len(known + new)] - sizes[len(known)] < LIMIT_MIB, sizes
