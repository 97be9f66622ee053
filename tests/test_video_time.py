"""Time: the stamps of a file decide, whatever its header says, wherever seconds matter."""

import av
import numpy as np
import pytest

from svfap.datasets.clips.contrastive import ContrastiveClips
from svfap.datasets.clips.lengths import read_lengths, typical_rate
from svfap.datasets.clips.pairs import PairRule
from svfap.datasets.clips.sliding import SlidingClips, SlidingOptions, VideoMessage
from svfap.datasets.clips.timeline import frame_times
from svfap.datasets.faces import smoothing
from svfap.datasets.labels.annotations import read_annotations, write_annotations
from svfap.datasets.labels.listing import NamedVideo
from svfap.datasets.rng import generator
from svfap.datasets.video.frame_index import INDEX_FILE, write_index
from svfap.datasets.video.frame_rate import write_frame_rate
from svfap.datasets.video.open_video import open_video
from svfap.preprocess import pack
from svfap.preprocess.shared.face_jobs import FaceSettings, process
from tests.face_drawings import BlobDetector, Scene
from tests.video_files import write_video

NUM_FRAMES = 60


def jitter(count: int = NUM_FRAMES, step_ms: int = 33) -> np.ndarray:
    """Milliseconds of frames as a browser records them."""
    rng = np.random.default_rng(0)
    return np.concatenate([[0], np.cumsum(rng.integers(step_ms - 8, step_ms + 9, count - 1))])


@pytest.fixture
def browser(tmp_path):
    """A recording whose header says nothing but the resolution of the clock."""
    return write_video(
        tmp_path / "browser.webm",
        "libvpx",
        NUM_FRAMES,
        rate=1000,
        stamps_ms=jitter(),
        options={"deadline": "realtime", "cpu-used": "8"},
    )


def list_of(folder, paths, labels=None):
    write_annotations(folder / "list.csv", [(path, 0) for path in paths])
    return read_annotations(folder / "list.csv", task="pretrain")


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "libx264"])
@pytest.mark.parametrize("container", ["webm", "mkv", "mp4"])
def test_uneven_stamps_are_the_times(tmp_path, codec, container):
    fast = {} if codec == "libx264" else {"deadline": "realtime", "cpu-used": "8"}
    path = tmp_path / f"v.{container}"
    try:
        write_video(path, codec, NUM_FRAMES, rate=1000, stamps_ms=jitter(), options=fast)
    except (av.error.FFmpegError, ValueError):
        pytest.skip("FFmpeg does not write this")
    seconds = jitter() / 1000
    with open_video(path) as video:
        assert video.num_frames == NUM_FRAMES
        assert video.fps == pytest.approx((NUM_FRAMES - 1) / seconds[-1], rel=0.03)
        np.testing.assert_allclose(video.times(), seconds, atol=2e-3)
        counted = video.counted
    with open_video(path, known=counted) as video:  # counted earlier
        np.testing.assert_allclose(video.times(), seconds, atol=2e-3)


def test_a_clock_is_no_frame_rate_and_it_is_said(browser, tmp_path):
    with open_video(browser) as video:
        assert video.fps == pytest.approx(30, rel=0.05)
        assert video.problem is None
    absurd = write_video(tmp_path / "fast.avi", "mpeg4", 30, rate=1000)
    with open_video(absurd) as video:
        assert video.fps is None and video.times() is None
        assert "1000 frames per second are not credible" in video.remark
        assert frame_times(video)[1] == pytest.approx(1 / 25)


@pytest.mark.parametrize("container", ["avi", "mkv", "mp4", "ts", "flv", "wmv"])
@pytest.mark.parametrize("rate", [12, 25, 30])
def test_even_videos_keep_their_exact_rate(tmp_path, container, rate):
    with open_video(write_video(tmp_path / f"v.{container}", num_frames=30, rate=rate)) as video:
        assert video.fps == rate and video.remark is None
        np.testing.assert_allclose(video.times(), np.arange(30) / rate, atol=2e-3)


def test_prediction_windows_go_by_the_stamps(browser):
    options = SlidingOptions(
        clip_frames=8, sampling_rate=4, size=32, window_stride=8, fps=30.0, crop=False
    )
    messages = [m for m in SlidingClips([browser], options) if isinstance(m, VideoMessage)]
    facts = messages[-1].facts
    assert facts.status == "ok"
    first, last = facts.times[facts.spans[0].windows[0]]
    assert last - first == pytest.approx(7 * 4 / 30, abs=0.05)
    assert len(facts.spans[0].windows) > 2  # of two seconds, not of 60 thousandths


def test_smoothing_goes_by_the_time():
    rng = np.random.default_rng(0)
    series = rng.normal(size=(40, 2)).cumsum(0)
    even = smoothing.smooth(series, 3.0)
    np.testing.assert_array_equal(smoothing.smooth(series, 3.0, np.arange(40.0)), even)
    np.testing.assert_allclose(smoothing._smooth_uneven(series, 3.0, np.arange(40.0)), np.stack(
        smoothing._smooth_uneven(series, 3.0, np.arange(40.0) + 7)))  # fmt: skip
    ticks = np.sort(rng.uniform(0, 60, 40))
    line = np.stack([2 * ticks, 5 - ticks], 1)
    np.testing.assert_allclose(smoothing._smooth_uneven(line, 3.0, ticks), line)
    paused = np.concatenate([np.arange(20.0), np.arange(20.0) + 500])
    step = np.repeat([[0.0], [1.0]], 20, 0)  # the face moved while nothing was recorded
    np.testing.assert_allclose(smoothing.smooth(step, 3.0, paused), step, atol=1e-9)
    gap = np.array([[0.0], [np.nan], [10.0]])
    assert smoothing.fill_gaps(gap, np.array([0.0, 1.0, 10.0]))[1, 0] == pytest.approx(1)


@pytest.mark.parametrize("kind", ["jpg", "mp4"])
def test_crops_keep_the_times_of_uneven_videos(tmp_path, kind):
    count = 24
    stamps = np.concatenate([np.arange(12), np.arange(12) + 40]) * 40  # a pause of a second
    scene = Scene([{i: (100 + i, 90, 24) for i in range(count)}], count)
    source = write_video(
        tmp_path / "v.mp4", num_frames=count, rate=25, stamps_ms=stamps, frames=scene.frames(),
        size=next(scene.frames()).shape[:2], options={"crf": "10"},
    )  # fmt: skip
    settings = FaceSettings(size=64, margin="dfew", format=kind, min_face=0.15)
    outcome = process(NamedVideo(source, "v"), settings, tmp_path / "out", BlobDetector())
    assert outcome.status == "ok", outcome.note
    with open_video(tmp_path / "out" / outcome.tracks[0]["output"]) as crops:
        first = outcome.tracks[0]["first_frame"]
        wanted = stamps[first : first + crops.num_frames] / 1000
        np.testing.assert_allclose(crops.times(), wanted - wanted[0], atol=2e-3)


def test_contrastive_intervals_are_seconds(tmp_path):
    stamps = np.concatenate([np.arange(30) * 20, 600 + np.arange(60) * 100])  # 50, then 10 a second
    video = write_video(tmp_path / "v.mkv", num_frames=90, rate=1000, stamps_ms=stamps)
    rows = list_of(tmp_path, [video])
    lengths = read_lengths(rows)
    rule = PairRule(time_aug="uniform", interval_seconds=(1.0, 1.2))
    clips = object.__new__(ContrastiveClips)
    clips.rule, clips.lengths, clips.annotations = rule, lengths, rows
    clips._generator = lambda key, clip, stream: generator(0, key, 0, 0, stream)
    pairs = np.concatenate([clips.places(key, 0, 90) for key in range(200)])
    seconds = np.abs(np.diff(stamps[pairs] / 1000, axis=1))
    assert seconds.min() > 0.85 and seconds.max() < 1.35


def test_the_rate_of_a_list(tmp_path, caplog):
    videos = [write_video(tmp_path / f"{n}.mp4", num_frames=12, rate=30) for n in range(3)]
    assert typical_rate(list_of(tmp_path, videos)) == 30
    other = write_video(tmp_path / "slow.mp4", num_frames=12, rate=10)
    (broken := tmp_path / "broken.mp4").write_bytes(b"no video")
    assert typical_rate(list_of(tmp_path, [*videos, other, broken])) == 30
    assert "10 to 30 frames per second" in caplog.text
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.png").write_bytes(b"")
    assert typical_rate(list_of(tmp_path, [tmp_path / "frames"])) is None
    write_frame_rate(tmp_path, 25 / 6)
    assert typical_rate(list_of(tmp_path, [tmp_path / "frames"])) == pytest.approx(25 / 6)
    write_frame_rate(tmp_path / "frames", 12.5)
    assert typical_rate(list_of(tmp_path, [tmp_path / "frames"])) == 12.5


def test_lengths_use_the_index_of_what_was_counted(tmp_path):
    video = write_video(tmp_path / "v.avi", "mpeg4", 20)
    rows = list_of(tmp_path, [video])
    with open_video(video) as opened:
        write_index(tmp_path / INDEX_FILE, [(rows.ids[0], opened.counted)])
    lengths = read_lengths(rows)
    assert lengths.num_frames.tolist() == [20] and lengths.rates.tolist() == [25.0]


def test_packed_videos_keep_their_times(browser, tmp_path):
    even = write_video(tmp_path / "even.mp4", num_frames=20)
    list_of(tmp_path, [browser, even])
    argv = [tmp_path / "list.csv", "--output_dir", tmp_path / "store", "--num_workers", 0]
    pack.main(list(map(str, argv)))
    manifest = tmp_path / "store" / "manifest.json"
    for key in ("browser.webm", "even.mp4"):
        with open_video(f"{manifest}#{key}") as packed, open_video(tmp_path / key) as video:
            assert packed.fps == pytest.approx(video.fps)
            np.testing.assert_allclose(packed.times(), video.times(), atol=1e-5)
    assert (tmp_path / "store" / "times.jsonl").read_text().count("\n") == 1
