"""Videos for the benchmarks: as large, long and costly to decode as those of VoxCeleb2 and DFEW.

VoxCeleb2's clips are H.264 at 224 px and 25 frames per second, 7.8 seconds and 230 KB on average.
The pictures here are a moving, lit texture with sensor noise; only their cost matters.
"""

from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg

SIZE_PX = 224
VIDEO_FRAMES = 194
FOLDER_FRAMES = 64
BITS_PER_SECOND = 240_000
JPEG_QUALITY = 90


def frames_of(seed: int, num_frames: int, size: int = SIZE_PX) -> np.ndarray:
    """(num_frames, size, size, 3) uint8."""
    rng = np.random.default_rng(seed)
    texture = np.zeros((2 * size, 2 * size, 3), np.float32)
    for cells in (6, 14, 40):
        coarse = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        texture += cv2.resize(coarse, texture.shape[1::-1], interpolation=cv2.INTER_CUBIC) * 25
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    for number in range(num_frames):
        phase = number / 25
        angle, scale = 6 * np.sin(phase), 1 + 0.1 * np.sin(1.7 * phase)
        turn = cv2.getRotationMatrix2D((float(size), float(size)), angle, scale)
        turn[:, 2] += (-size / 2 + 10 * np.sin(2.3 * phase), -size / 2 + 6 * np.cos(phase))
        view = cv2.warpAffine(texture, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
        noise = rng.normal(scale=2, size=(size, size, 1)).astype(np.float32)
        frames[number] = np.clip(view + 128 + 10 * np.sin(phase) + noise, 0, 255)
    return frames


def write_video(path: Path, frames: np.ndarray) -> None:
    """Encode frames as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.bit_rate = BITS_PER_SECOND
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def make(
    folder: Path,
    *,
    num_videos: int,
    num_folders: int,
    video_frames: int = VIDEO_FRAMES,
    size: int = SIZE_PX,
) -> tuple[Path, Path]:
    """Write videos and frame folders, unless they are there, and their annotation files.

    Returns:
        `voxceleb2/info_clean.csv` (its name chooses VoxCeleb2's window) and `dfew/train.csv`.
    """
    videos, labelled = folder / "voxceleb2" / "info_clean.csv", folder / "dfew" / "train.csv"
    for csv, count in ((videos, num_videos), (labelled, num_folders)):
        rows = []
        csv.parent.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            item = csv.parent / (f"{number}.mp4" if csv is videos else f"{number}")
            rows.append(f"{item.absolute()} {number % 7}\n")
            if not item.exists():
                length = video_frames if csv is videos else FOLDER_FRAMES
                _write_item(item, frames_of(number, length, size))
        csv.write_text("".join(rows))
    return videos, labelled


def _write_item(item: Path, frames: np.ndarray) -> None:
    if item.suffix:
        write_video(item, frames)
        return
    item.mkdir()
    for number, frame in enumerate(frames):
        data = simplejpeg.encode_jpeg(frame, quality=JPEG_QUALITY, colorsubsampling="420")
        (item / f"{number:05d}.jpg").write_bytes(data)
