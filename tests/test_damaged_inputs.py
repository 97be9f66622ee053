"""Damaged files get the same treatment everywhere, and whatever goes wrong is told of that file."""

from pathlib import Path

import av
import numpy as np
import pytest

from svfap.datasets.clips.sliding import ClipMessage, SlidingClips, SlidingOptions, VideoMessage
from svfap.datasets.clips.views import EvalViews
from svfap.datasets.labels.annotations import read_annotations, write_annotations
from svfap.datasets.labels.listing import NamedVideo
from svfap.datasets.video import pyav
from svfap.datasets.video.frame_index import INDEX_FILE, FrameIndex, KnownFrames, write_index
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.preprocess import landmarks
from svfap.preprocess.shared.face_jobs import FaceSettings, process
from svfap.preprocess.shared.pack_frames import FrameSettings, pack_video
from svfap.preprocess.shared.probe import Probe, probe_video, write_results
from tests.face_drawings import BlobDetector, Scene
from tests.video_files import decode_everything, remux, write_video

NUM_FRAMES = 40


@pytest.fixture
def lossy(tmp_path):
    """A video of which fewer frames decode than its packets promise."""
    scene = Scene([{i: (100 + i, 90, 24) for i in range(NUM_FRAMES)}], NUM_FRAMES)
    path = write_video(
        tmp_path / "lossy.mp4", num_frames=NUM_FRAMES, gop=10, b_frames=0, frames=scene.frames(),
        size=next(scene.frames()).shape[:2], options={"crf": "10"},
    )  # fmt: skip
    with av.open(path) as container:
        places = [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size]
    data = bytearray(Path(path).read_bytes())
    for place, size in places[10:15]:  # a keyframe and what refers to it
        data[place : place + size] = bytes(size)
    Path(path).write_bytes(data)
    count = len(decode_everything(path))
    assert 20 < count < NUM_FRAMES
    return path, count


def test_videos_that_lose_frames_are_used_everywhere_with_a_note(lossy, tmp_path, monkeypatch):
    path, count = lossy
    said = f"truncated: {count} of about {NUM_FRAMES} frames decode"
    probe = probe_video(path)
    write_annotations(tmp_path / "list.csv", [(path, 0)])
    rows = read_annotations(tmp_path / "list.csv", task="pretrain")
    item = EvalViews(annotations=rows, clip_frames=8, stride=4, size=32)[0]
    assert [(note.status, note.reason) for note in item["notes"]] == [("truncated", said)]
    settings = FaceSettings(size=64, margin="dfew", min_face=0.15)
    outcome = process(NamedVideo(path, "v"), settings, tmp_path / "out", BlobDetector())
    assert (outcome.status, outcome.num_frames, outcome.note) == ("ok", count, said)
    packed = pack_video(path, "v", FrameSettings(encoding="raw", quality=None))
    assert len(packed.ends) == count
    monkeypatch.setattr(landmarks, "_detector", BlobDetector)
    found = landmarks.process(path, output_dir=None, above=str(tmp_path), fps=None, min_face=0.15)
    assert (found.num_frames, found.problem) == (count, "")
    for crop in (False, True):
        options = SlidingOptions(
            clip_frames=8, sampling_rate=2, size=32, window_stride=8, crop=crop, min_face=0.15
        )
        facts, clips = predicted(path, options)
        assert (facts.status, facts.num_frames, facts.note) == ("ok", count, said)
        assert clips == len(facts.spans[0].windows)
    assert probe.num_frames in (count, NUM_FRAMES)  # it decodes some frames only


def predicted(path, options):
    """Facts, and the number of clips since the facts were last said."""
    clips = 0
    for message in SlidingClips([str(path)], options, BlobDetector()):
        if isinstance(message, VideoMessage) and not message.done:
            clips = 0
        if isinstance(message, ClipMessage):
            clips += len(message.clips)
    return message.facts, clips


def test_an_edit_list_that_trims_the_end_is_no_truncation(tmp_path):
    data = bytearray(Path(write_video(tmp_path / "v.mp4", num_frames=50)).read_bytes())
    place = data.index(b"elst") + 12
    assert int.from_bytes(data[place : place + 4], "big") == 2000  # thousandths
    data[place : place + 4] = (1200).to_bytes(4, "big")
    (tmp_path / "trimmed.mp4").write_bytes(data)
    expected = decode_everything(tmp_path / "trimmed.mp4")
    assert len(expected) < 40
    with open_video(tmp_path / "trimmed.mp4") as video:
        assert (video.num_frames, video.problem) == (len(expected), None)
        np.testing.assert_array_equal(video.read(range(len(expected))), expected)
    cut = data[: len(data) * 7 // 10] if data.index(b"moov") < data.index(b"mdat") else None
    if cut:
        (tmp_path / "cut.mp4").write_bytes(cut)
        with open_video(tmp_path / "cut.mp4") as video:
            assert video.problem.startswith("truncated")


@pytest.mark.parametrize("container", ["mp4", "avi", "mkv", "webm", "flv", "mov"])
def test_titles_that_are_not_utf8_are_no_reason(tmp_path, container):
    codec = "libvpx" if container == "webm" else "mpeg4" if container == "avi" else "libx264"
    plain = write_video(tmp_path / f"v.{container}", codec, 10)
    titled = tmp_path / f"t.{container}"
    with av.open(plain) as reader, av.open(str(titled), "w") as writer:
        writer.metadata["title"] = "xTITLEx"
        copy = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(reader.streams.video[0]):
            if packet.size:
                packet.stream = copy
                writer.mux(packet)
    data = titled.read_bytes()
    assert b"xTITLEx" in data
    titled.write_bytes(data.replace(b"xTITLEx", "Müller\xff".encode("latin-1")))
    with open_video(titled) as video:
        assert (video.num_frames, video.problem) == (10, None)


class OddError(Exception):
    """Of a library that shares no base class with anything."""


@pytest.mark.parametrize(
    "error", [KeyError(-1), OverflowError("x"), MemoryError(), OddError("odd")]
)
def test_whatever_a_decoder_throws_is_of_the_file(tmp_path, monkeypatch, error):
    path = write_video(tmp_path / "v.mp4", num_frames=10)

    def throw(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(pyav.PyAVReader, "_survey", throw)
        with pytest.raises(UnreadableVideoError, match=type(error).__name__) as caught:
            open_video(path)
        assert caught.value.path == path
    monkeypatch.setattr(pyav.PyAVReader, "_to_rgb", throw)
    with open_video(path) as video:
        with pytest.raises(UnreadableVideoError, match=type(error).__name__):
            video.read([0])
        with pytest.raises(UnreadableVideoError, match=type(error).__name__):
            list(video.blocks())


def test_a_file_of_which_no_frame_decodes_after_all(tmp_path):
    path = write_video(tmp_path / "v.mp4", num_frames=10)
    with av.open(path) as container:
        places = [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size]
    data = bytearray(Path(path).read_bytes())
    for place, size in places:
        data[place : place + size] = bytes(size)
    Path(path).write_bytes(data)
    for use in (lambda video: video.read_chosen(np.arange), lambda video: list(video.blocks())):
        with (
            pytest.raises(UnreadableVideoError, match="no frame decodes"),
            open_video(path) as video,
        ):
            use(video)
    assert probe_video(path).broken


def test_remuxed_copies_of_a_damaged_file_are_alike(lossy, tmp_path):
    path, count = lossy
    with open_video(remux(path, tmp_path / "copy.mkv")) as video:
        assert len(video.read_chosen(np.arange)[0]) == count


def damaged_indices(data: bytes):
    yield data[: len(data) // 2]
    yield data[:10]
    yield b""
    yield b"text" * 50
    rng = np.random.default_rng(0)
    for _ in range(40):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        yield bytes(flipped)


def test_a_damaged_frame_index_is_not_used_and_made_anew(tmp_path, caplog):
    videos = [(f"{n}.mp4", KnownFrames(1000 + n, n + 1, "bad" * (n % 2) or None)) for n in range(9)]
    file = tmp_path / INDEX_FILE
    write_index(file, videos)
    data, unused = file.read_bytes(), 0
    for some in damaged_indices(data):
        file.write_bytes(some)
        caplog.clear()
        index = FrameIndex.beside(tmp_path / "list.csv")
        known = [index.get(name) for name, _ in videos]
        assert known in ([None] * 9, [found for _, found in videos])
        unused += known[0] is None
        assert (known[0] is None) == (f"{file} is damaged" in caplog.text)
    assert unused > 35
    old = np.load(file_of(tmp_path, data), mmap_mode="r")  # as older versions wrote it
    np.save(file, old)
    assert FrameIndex(file).get("3.mp4") == videos[3][1]
    file.write_bytes(data[:60])
    (tmp_path / "v.mkv").write_bytes(b"x" * 7)
    write_results(tmp_path, [Probe("v.mkv", 7, 5, "")])
    assert FrameIndex(file).get("v.mkv") == KnownFrames(7, 5)


def file_of(folder: Path, data: bytes) -> Path:
    (folder / "whole.npy").write_bytes(data)
    return folder / "whole.npy"
