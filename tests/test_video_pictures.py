"""What a picture looks like: colours, orientation, which stream, harmless and real damage."""

import io
from pathlib import Path

import av
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import simplejpeg

from svfap.datasets.video.images import decode_image, decode_into
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from tests.video_files import moving_frames, write_video

# Weights of red and blue in the luma of each matrix.
MATRICES = {"bt601": (5, 0.299, 0.114), "bt709": (1, 0.2126, 0.0722), "bt2020": (9, 0.2627, 0.0593)}
LUMA, BLUE_DIFFERENCE, RED_DIFFERENCE = 150, 100, 170


def rgb_of(red: float, blue: float, full: bool) -> np.ndarray:
    """The colour by the definition of the matrices (ITU-R BT.601, BT.709, BT.2020)."""
    luma = LUMA / 255 if full else (LUMA - 16) / 219
    b, r = ((c - 128) / (255 if full else 224) for c in (BLUE_DIFFERENCE, RED_DIFFERENCE))
    r, b = luma + 2 * (1 - red) * r, luma + 2 * (1 - blue) * b
    green = (luma - red * r - blue * b) / (1 - red - blue)
    return np.clip(255 * np.array([r, green, b]), 0, 255)


def write_colour(path, matrix: int, full: bool, bits: int, options: str) -> str:
    """A lossless video of one colour."""
    pix_fmt = {8: "yuv420p", 10: "yuv420p10le"}[bits]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"qp": "0", "x264-params": options}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 64, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 2 if full else 1
        for _ in range(4):
            frame = av.VideoFrame(64, 64, pix_fmt)
            for plane, value in zip(frame.planes, (LUMA, BLUE_DIFFERENCE, RED_DIFFERENCE)):
                value = np.full(plane.buffer_size * 8 // (16 if bits > 8 else 8), value << bits - 8)
                plane.update(value.astype("<u2" if bits > 8 else np.uint8).tobytes())
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


@pytest.mark.parametrize("options", ["", "interlaced=1"])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_are_those_of_the_matrix_and_range_in_the_file(
    tmp_path, matrix, full, bits, options
):
    number, red, blue = MATRICES[matrix]
    path = write_colour(tmp_path / "c.mp4", number, full, bits, options)
    with open_video(path) as video:
        seen = video.read(range(4))
    expected = rgb_of(red, blue, full)
    assert np.abs(seen.astype(float) - expected).max() < 3, (seen[0, 0, 0], expected)


def write_laid(folder, a: int, b: int, c: int, d: int) -> str:
    """A video whose pixels (x, y) are shown at (a x + c y, b x + d y), and v.mp4 without that."""
    data = bytearray(Path(write_video(folder / "v.mp4", num_frames=3)).read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 36  # the matrix stands before the size
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 16384], ">i4") * np.array(65536, ">i4")
    data[place : place + 36] = matrix.astype(">i4").tobytes()
    (folder / "laid.mp4").write_bytes(data)
    return str(folder / "laid.mp4")


@pytest.mark.parametrize("turned", range(8))
def test_display_matrices_turn_and_mirror_as_ffmpeg_does(tmp_path, turned):
    """All eight ways to lay a picture, by what a display matrix is defined to do."""
    transposed, up, left = turned & 4, turned & 2, turned & 1
    a, d = (0, 0) if transposed else (-1 if left else 1, -1 if up else 1)
    b, c = (-1 if up else 1, -1 if left else 1) if transposed else (0, 0)
    path = write_laid(tmp_path, a, b, c, d)
    with open_video(tmp_path / "v.mp4") as plain, open_video(path) as video:
        upright, seen = plain.read([0])[0], video.read([0])[0]
    height, width = (96, 64) if transposed else (64, 96)
    assert seen.shape == (height, width, 3)
    y, x = np.mgrid[:64, :96]
    to_x, to_y = a * x + c * y, b * x + d * y
    expected = np.empty_like(seen)
    expected[to_y - to_y.min(), to_x - to_x.min()] = upright
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("marked", [True, False])
def test_a_cover_picture_is_not_the_video(tmp_path, marked):
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 48, 48, "yuvj420p"
        if marked:
            cover.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 48, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        for image in moving_frames(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(cover.encode())
        container.mux(stream.encode())
    with open_video(tmp_path / "v.mkv") as video:
        assert video.num_frames == 12 and video.read([0]).shape == (1, 64, 96, 3)


def jpeg(image: np.ndarray, orientation: int | None = None, **options) -> bytes:
    exif = PIL.Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "jpeg", exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_photos_and_frame_folders(tmp_path, orientation):
    image = moving_frames(1)[0]
    data = jpeg(image, orientation)
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    expected = np.asarray(upright.convert("RGB"))
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(data)
    with open_video(tmp_path / "1.jpg") as photo, open_video(tmp_path) as folder:
        np.testing.assert_array_equal(photo.read([0])[0], expected)
        np.testing.assert_array_equal(folder.read([0, 1]), np.stack([expected] * 2))
    frame = np.empty_like(expected)
    assert decode_into(frame, data)
    np.testing.assert_array_equal(frame, expected)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(image).save(tmp_path / "x.png", exif=exif)
    with open_video(tmp_path / "x.png") as photo:
        assert photo.read([0])[0].shape == expected.shape


def test_surplus_bytes_are_no_damage():
    image = moving_frames(1)[0]
    data = jpeg(image)
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))
    padded = data[:-2] + bytes(100) + data[-2:]  # as some cameras write
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(padded)
    for some in (padded, data + b"\0" * 50, data + b"hello"):
        np.testing.assert_array_equal(decode_image(some), expected)
        frame = np.empty_like(expected)
        assert decode_into(frame, some)
        np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_named(tmp_path, progressive):
    data = jpeg(moving_frames(1)[0], 6, progressive=progressive)
    for length in range(len(data) - 2):
        assert decode_image(data[:length]) is None, length
    for length in (2, 20, 100, 300, len(data) // 2):
        (tmp_path / "0.jpg").write_bytes(data[:length])
        with (
            open_video(tmp_path) as video,
            pytest.raises(UnreadableVideoError, match="image 0.jpg is damaged"),
        ):
            video.read([0])


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 2)])
def test_pictures_too_small_to_show_anything_are_named(tmp_path, size):
    PIL.Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "p.png")
    with open_video(tmp_path / "p.png") as video:
        with pytest.raises(UnreadableVideoError, match=f"{size[0]} x {size[1]} px show nothing"):
            video.read([0])
        with pytest.raises(UnreadableVideoError, match="show nothing"):
            list(video.blocks())


def test_other_libraries_are_refused_where_they_show_another_picture(tmp_path):
    pytest.importorskip("decord")
    path = write_laid(tmp_path, -1, 0, 0, 1)
    with pytest.raises(UnreadableVideoError, match="another picture.*use the pyav reader"):
        open_video(path, backend="decord")
