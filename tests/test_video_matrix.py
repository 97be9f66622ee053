"""Videos of every kind, whole and damaged, are read as FFmpeg decodes them or refused by name."""

import av
import numpy as np
import pytest

from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from tests.video_files import count_intact, decode_everything
from tests.video_matrix import (
    NUM_FRAMES,
    Kind,
    damaged,
    differences,
    kinds,
    shown_numbers,
    write_kind,
    write_packed,
)

# Their muxers or decoders lose pictures, in plain decoding as well.
LOSSY = {"wmv2.wtv", "huffyuv.wtv"}
# Where frames are stored in another order than they are shown in and no time tells.
ORDERS_WITHOUT_TIMES = {"avi", "wmv"}


def short(kind: Kind, number: int) -> bool:
    """Whether the normal test run has this kind."""
    return number % 9 == 0 or (
        "_b." in kind.name and kind.name.rpartition(".")[2] in ORDERS_WITHOUT_TIMES
    )


@pytest.fixture(autouse=True)
def silent():
    """FFmpeg says of each damaged file what is wrong."""
    av.logging.set_level(av.logging.PANIC)
    yield
    av.logging.set_level(None)


def check(some: list[Kind], folder) -> int:
    """Number of kinds that FFmpeg writes; fails with all that are read differently."""
    wrong, count = {}, 0
    for kind in some:
        path = write_kind(folder, kind)
        if path is None:
            continue
        count += 1
        found = differences(path)
        size = kind.options.get("size", (64, 96))
        numbers = shown_numbers(decode_everything(path), size)
        if kind.name not in LOSSY and numbers != list(range(NUM_FRAMES)):
            found.append(f"shows {numbers}")
        if found:
            wrong[kind.name] = found
    assert not wrong
    return count


def test_videos_of_many_kinds(tmp_path):
    assert (
        check([kind for number, kind in enumerate(kinds()) if short(kind, number)], tmp_path) > 60
    )


@pytest.mark.slow
def test_videos_of_every_kind(tmp_path):
    assert check(kinds(), tmp_path) > 450


def test_packed_bitstreams(tmp_path):
    path = write_packed(tmp_path / "packed.avi")
    assert differences(path) == []
    assert shown_numbers(decode_everything(path), (64, 96)) == list(range(NUM_FRAMES))
    with open_video(path) as video:
        np.testing.assert_allclose(video.times(), np.arange(NUM_FRAMES) / 25)


def check_damaged(some: list[Kind], folder) -> int:
    """Number of damaged files; fails with all that are read differently."""
    wrong, count = {}, 0
    for kind in some:
        whole = write_kind(folder, kind)
        for path in damaged(whole, folder) if whole else ():
            count += 1
            try:
                found = _damaged_differences(path)
            except UnreadableVideoError as error:
                found = [] if error.path == path and error.reason else [f"says {error}"]
            if found:
                wrong[path] = found
    assert not wrong
    return count


def _damaged_differences(path: str) -> list[str]:
    """What a decoder makes of damage is arbitrary: only the frames before it are compared."""
    with open_video(path) as video:
        _, frames = video.read_chosen(np.arange)
        in_order = np.concatenate(list(video.blocks()))
    expected = decode_everything(path)
    if frames.shape[1:] == (*expected.shape[2:0:-1], 3):
        return []  # the damage turned the picture
    if not len(frames) == len(in_order) == len(expected):
        return [f"{len(frames)} and {len(in_order)} frames, decoding gives {len(expected)}"]
    same = np.arange(len(expected)) < count_intact(path)
    same &= (expected == decode_everything(path, keep=True)).all((1, 2, 3))
    equal = np.array_equal(frames[same], expected[same])
    return [] if equal and np.array_equal(in_order[same], expected[same]) else ["pictures differ"]


def test_damaged_videos_of_many_kinds(tmp_path):
    some = [kind for number, kind in enumerate(kinds()) if number % 41 == 0]
    assert check_damaged(some, tmp_path) > 80


@pytest.mark.slow
def test_damaged_videos_of_every_kind(tmp_path):
    assert check_damaged(kinds(), tmp_path) > 4000
