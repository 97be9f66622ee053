import importlib.util
import io
import pickle
from pathlib import Path

import av
import cv2
import numpy as np
import PIL.Image
import pytest

from svfap.datasets.video import open_video as readers
from svfap.datasets.video import pyav as readers_pyav
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from tests.video_files import decode_everything, moving_frames, remux, write_video

KINDS = {
    "h264_b_frames.mp4": {"gop": 12, "b_frames": 3, "num_frames": 50},
    "h264_b_frames.mkv": {"options": {"g": "12", "bf": "3"}, "num_frames": 50},
    "open_gop.mp4": {"options": {"x264-params": "open-gop=1:keyint=10"}, "num_frames": 50},
    "intra_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=10"}},
    "variable_rate.mp4": {"variable_rate": True, "gop": 10, "b_frames": 2},
    "variable_rate.mkv": {"variable_rate": True, "gop": 10, "b_frames": 2},
    "mpeg4.avi": {"codec": "mpeg4", "gop": 10},
    "mpeg4_b_frames.mp4": {"codec": "mpeg4", "gop": 10, "b_frames": 2},
    "mpeg1.mpg": {"codec": "mpeg1video", "gop": 12, "b_frames": 2},
    "mpeg2.ts": {"codec": "mpeg2video", "gop": 10, "b_frames": 2},
    "vp8_hidden_frames.webm": {
        "codec": "libvpx",
        "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k"},
    },
    "full_colour.mp4": {"pix_fmt": "yuv444p", "size": (66, 98)},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Path of each generated file; kinds this build of FFmpeg cannot encode are left out."""
    folder = tmp_path_factory.mktemp("videos")
    paths = {}
    for name, options in KINDS.items():
        try:
            paths[name] = write_video(folder / name, **options)
        except (av.error.FFmpegError, ValueError):
            continue
    assert {"h264_b_frames.mp4", "mpeg4.avi", "mpeg1.mpg", "variable_rate.mkv"} <= set(paths)
    return paths


def choices(num_frames, trials=6):
    """Index lists: all kinds of subsets, unordered, with repeats."""
    rng = np.random.default_rng(0)
    yield np.arange(16) * 4 % num_frames
    yield [num_frames - 1]
    yield [num_frames - 1, 0, num_frames - 1]
    for _ in range(trials):
        yield rng.integers(0, num_frames, rng.integers(1, 17))


def assert_reads_like_decoding_everything(path, backend="pyav", tolerance=0, trials=6):
    expected = decode_everything(path)
    with open_video(path, backend=backend) as video:
        assert video.num_frames == len(expected)
        for indices in choices(len(expected), trials):
            frames = video.read(indices)
            assert frames.dtype == np.uint8
            difference = np.abs(frames.astype(int) - expected[indices])
            assert difference.max() <= tolerance, (path, indices)


@pytest.mark.parametrize("name", KINDS)
def test_frames_equal_those_of_decoding_everything(videos, name):
    if name not in videos:
        pytest.skip(f"no encoder for {name}")
    assert_reads_like_decoding_everything(videos[name])


@pytest.mark.parametrize("name", ["h264_b_frames.mp4", "variable_rate.mkv", "mpeg1.mpg"])
def test_large_files_are_read_by_seeking(videos, name, monkeypatch):
    monkeypatch.setattr(readers_pyav, "HELD_BYTES", 0)
    assert_reads_like_decoding_everything(videos[name])


def test_real_videos_equal_those_of_decoding_everything(real_videos):
    counts = {"neutral_happy_neutral.mp4": 72, "sad_worried_happy.mp4": 472, "talker_*.mpg": 75}
    counts |= {"broken_truncated.mkv": 40, "talker_8_frames.mp4": 8}
    for pattern, count in counts.items():
        paths = sorted(real_videos.glob(pattern))
        assert paths
        for path in paths:
            with open_video(path) as video:
                assert video.num_frames == count, path
    for path in sorted(real_videos.iterdir()):
        if path.is_file() and path.name not in ("broken_unopenable.mp4", "README.md"):
            assert_reads_like_decoding_everything(path, trials=2)


def test_only_what_is_needed_is_decoded(videos, monkeypatch):
    with open_video(videos["h264_b_frames.mp4"]) as video:
        packets = video._scan.held
        disposable = {
            number
            for number, packet in enumerate(packets)
            if readers_pyav.is_disposable(packet, video._nal_length_bytes)
        }
        assert len(disposable) > 10  # b-frames nobody refers to
        fed = []
        original = video._packets

        def spy(start):
            for number, packet in original(start):
                fed.append(number)
                yield number, packet

        monkeypatch.setattr(video, "_packets", spy)
        decoded = []
        monkeypatch.setattr(
            readers_pyav,
            "is_disposable",
            lambda packet, _: decoded.append(packet.pts) or packet.pts in disposable,
        )
        video.read([30])
        assert min(fed) == 24  # the keyframe before, at a distance of 12
        assert max(fed) <= 24 + 12


def test_formats_with_doubtful_packets_are_counted_by_decoding(videos):
    with open_video(videos["h264_b_frames.mp4"]) as video:
        assert video._order is not None and video.fps == 25 and video.problem is None
    if "vp8_hidden_frames.webm" in videos:
        with open_video(videos["vp8_hidden_frames.webm"]) as video:
            assert video._order is None and video.num_frames == 40


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_other_backends_give_identical_frames(videos, backend, real_videos):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    try:
        open_video(videos["h264_b_frames.mp4"], backend=backend).close()
    except ImportError as error:
        pytest.skip(str(error))
    for name in ("h264_b_frames.mp4", "h264_b_frames.mkv", "variable_rate.mp4", "mpeg4.avi"):
        # decord's FFmpeg rounds a few values of MPEG-4 Part 2 differently
        tolerance = 1 if backend == "decord" and name == "mpeg4.avi" else 0
        assert_reads_like_decoding_everything(videos[name], backend, tolerance)
    for name in ("talker_portrait_216x288.mp4", "broken_truncated.mkv", "smiling_man_mpeg4.avi"):
        assert_reads_like_decoding_everything(real_videos / name, backend)
    with open_video(real_videos / "broken_truncated.mkv", backend=backend) as video:
        assert video.problem.startswith("truncated: 40 of about")


def test_opencv_gives_identical_frames(videos):
    for name in ("h264_b_frames.mp4", "mpeg4.avi", "mpeg1.mpg"):
        capture, frames = cv2.VideoCapture(videos[name]), []
        while True:
            more, image = capture.read()
            if not more:
                break
            frames.append(image[..., ::-1])
        with open_video(videos[name]) as video:
            assert np.array_equal(video.read(range(video.num_frames)), np.stack(frames))


def test_decord_refuses_what_it_reads_wrongly(videos):
    pytest.importorskip("decord")
    with pytest.raises(UnreadableVideoError, match="drops the first frames.*use the pyav reader"):
        open_video(videos["mpeg1.mpg"], backend="decord")


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_rotation_in_the_file_is_applied(tmp_path, rotation, turns):
    turned = write_video(tmp_path / "turned.mp4", num_frames=5, rotation=rotation)
    assert decode_everything(turned).shape == (5, 64, 96, 3)  # not rotated
    expected = np.rot90(decode_everything(turned), turns, (1, 2))
    with open_video(turned) as video:
        assert np.array_equal(video.read(range(5)), expected)
    if importlib.util.find_spec("decord"):
        with open_video(turned, backend="decord") as video:
            assert np.array_equal(video.read(range(5)), expected)


def test_edit_lists_hide_frames(videos, tmp_path):
    cut = remux(
        videos["h264_b_frames.mp4"],
        tmp_path / "cut.mp4",
        shift_frames=-10,
        options={"avoid_negative_ts": "0"},
    )
    with open_video(cut) as video:
        assert video.num_frames == 40
    assert_reads_like_decoding_everything(cut)


def test_truncated_files_are_used_as_far_as_they_go(videos, tmp_path, real_videos):
    with open_video(real_videos / "broken_truncated.mkv") as video:
        assert video.num_frames == 40
        assert video.problem == "truncated: 40 of about 76 frames decode"
    whole = remux(
        videos["h264_b_frames.mp4"], tmp_path / "f.mp4", options={"movflags": "faststart"}
    )
    data = Path(whole).read_bytes()
    half = tmp_path / "half.mp4"
    half.write_bytes(data[: len(data) * 6 // 10])
    assert_reads_like_decoding_everything(half)
    with open_video(half) as video:
        count = video.num_frames
        assert 10 < count < 50
        assert video.problem == f"truncated: {count} of about 50 frames decode"


def test_longer_sound_is_no_truncation(videos, tmp_path):
    with open_video(remux(videos["h264_b_frames.mp4"], tmp_path / "s.mkv", silence_seconds=9)) as v:
        assert (v.num_frames, v.problem) == (50, None)


def test_damage_in_the_middle_is_noticed_when_it_is_met(videos, tmp_path):
    data = bytearray(Path(videos["h264_b_frames.mp4"]).read_bytes())
    for place in np.random.default_rng(0).integers(len(data) // 4, len(data) // 2, 30):
        data[place] ^= 0xFF
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    expected = decode_everything(path)
    with open_video(path) as video:
        indices, frames = video.read_chosen(lambda count: np.arange(count))
        assert video.problem.startswith("damaged") or video.problem.startswith("truncated")
        assert video.num_frames == len(expected) == len(indices)
        assert np.array_equal(frames, expected)


def test_what_cannot_be_read_says_why(tmp_path, real_videos):
    (tmp_path / "text.mp4").write_text("no video" * 100)
    (tmp_path / "empty.mp4").touch()
    for name, reason in (("text.mp4", "Invalid data"), ("empty.mp4", "the file is empty")):
        path = tmp_path / name
        with pytest.raises(UnreadableVideoError, match=reason) as caught:
            open_video(path)
        assert caught.value.path == str(path)
    with pytest.raises(UnreadableVideoError, match="broken_unopenable.mp4: cannot be opened"):
        open_video(real_videos / "broken_unopenable.mp4")
    with pytest.raises(UnreadableVideoError, match="no such file or folder"):
        open_video(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UnreadableVideoError, match="no video stream"):
        open_video(tmp_path / "sound.mp4")


def test_wrong_requests_are_refused(videos):
    with open_video(videos["mpeg4.avi"]) as video:
        with pytest.raises(IndexError, match="frames 0 to 39"):
            video.read([40])
        with pytest.raises(IndexError):
            video.read([-1])
        with pytest.raises(ValueError, match="at least one"):
            video.read([])
    with pytest.raises(ValueError, match="choose auto, pyav, decord, torchcodec"):
        open_video(videos["mpeg4.avi"], backend="magic")


def test_unreadable_video_errors_survive_worker_processes():
    error = pickle.loads(pickle.dumps(UnreadableVideoError("a.mp4", "because")))
    assert (error.path, error.reason, str(error)) == ("a.mp4", "because", "a.mp4: because")


@pytest.fixture
def images():
    return moving_frames(12)


def save(folder, images, pattern, **options):
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        PIL.Image.fromarray(image).save(folder / pattern.format(number), **options)


def test_frame_folders_are_read_in_natural_order(tmp_path, images):
    save(tmp_path / "png", images, "frame{}.png")  # frame10 comes after frame9
    (tmp_path / "png" / "notes.txt").touch()
    (tmp_path / "png" / "._frame0.png").touch()  # macOS leaves such files behind
    with open_video(tmp_path / "png") as video:
        assert (video.num_frames, video.fps, video.problem) == (12, None, None)
        assert np.array_equal(video.read([11, 2, 2, 10]), images[[11, 2, 2, 10]])
    assert sorted(["b10", "b9", "a2", "a10", "1", "b"], key=readers.natural_key) == [
        *("1", "a2", "a10", "b", "b9", "b10")
    ]


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpegs_are_bit_equal_to_pil(tmp_path, images, subsampling):
    save(tmp_path / "jpg", images, "{:03d}.JPG", quality=90, subsampling=subsampling)
    expected = [
        np.asarray(PIL.Image.open(path).convert("RGB"))
        for path in sorted((tmp_path / "jpg").iterdir())
    ]
    with open_video(tmp_path / "jpg") as video:
        assert np.array_equal(video.read(range(12)), np.stack(expected))


def test_real_frames_are_bit_equal_to_pil(real_videos):
    for name in ("frames_talker_jpg", "frames_woman_png"):
        paths = sorted((real_videos / name).iterdir())[:4]
        expected = np.stack([np.asarray(PIL.Image.open(path).convert("RGB")) for path in paths])
        with open_video(real_videos / name) as video:
            assert np.array_equal(video.read(range(4)), expected)


def test_a_single_image_is_a_video_of_one_frame(tmp_path, images):
    PIL.Image.fromarray(images[0]).save(tmp_path / "face.png")
    with open_video(tmp_path / "face.png") as video:
        assert video.num_frames == 1 and video.path == str(tmp_path / "face.png")
        assert np.array_equal(video.read([0, 0]), images[[0, 0]])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_other_kinds_of_images_become_rgb(tmp_path, images, mode):
    image = PIL.Image.fromarray(images[0])
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        grey = np.asarray(image.convert("L"))
        PIL.Image.fromarray(grey.astype(np.uint16) * 257).save(path)
        expected = np.repeat(grey[..., None], 3, axis=2)
    else:
        image.convert(mode).save(path)
        expected = np.asarray(PIL.Image.open(path).convert("RGB"))
    frame = readers.decode_image(path.read_bytes())
    assert frame.shape == (64, 96, 3)
    tolerance = 3 if mode == "CMYK" else 0
    assert np.abs(frame.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_image_is_named(tmp_path, images, kind, damage):
    save(tmp_path / "f", images[:3], "{}." + kind)
    path = tmp_path / "f" / f"1.{kind}"
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"hello"}[damage])
    with open_video(tmp_path / "f") as video:
        video.read([0, 2])
        with pytest.raises(UnreadableVideoError, match=f"image 1.{kind} is damaged"):
            video.read([0, 1])


def test_folders_that_are_no_video_are_named(tmp_path, images):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableVideoError, match="empty: the folder holds no frames"):
        open_video(tmp_path / "empty")
    save(tmp_path / "mixed", [images[0], images[1][:32]], "{}.png")
    video = open_video(tmp_path / "mixed")
    with pytest.raises(UnreadableVideoError, match="differ in size.*32 x 96, 64 x 96"):
        video.read([0, 1])


def test_grey_jpegs(images):
    buffer = io.BytesIO()
    PIL.Image.fromarray(images[0]).convert("L").save(buffer, "jpeg")
    frame = readers.decode_image(buffer.getvalue())
    expected = np.asarray(PIL.Image.open(buffer).convert("RGB"))
    assert np.array_equal(frame, expected)
