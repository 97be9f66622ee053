"""Tiny moving-square videos and annotation files for tests of whole runs."""

from pathlib import Path

import av
import numpy as np

SIZE_PX = 48
PRETRAIN_FLAGS = [
    "--model", "pretrain_svfap_tiny_patch8_64", "--input_size", "32", "--stage_depths", "1", "2",
    "2", "--num_bottleneck_tokens", "2", "--decoder_depth", "1", "--mask_ratio", "0.75",
    "--sampling_rate", "2", "--batch_size", "4", "--epochs", "2", "--warmup_epochs", "1",
    "--lr", "1e-2", "--num_workers", "0", "--device", "cpu", "--visualize", "0", "--seed", "3",
    "--drop_path", "0.1", "--no_report",
]  # fmt: skip
FINETUNE_FLAGS = [
    "--model", "svfap_tiny_patch8_64", "--input_size", "32", "--stage_depths", "1", "2", "2",
    "--num_bottleneck_tokens", "2", "--nb_classes", "2", "--sampling_rate", "2",
    "--batch_size", "4", "--epochs", "2", "--warmup_epochs", "1", "--lr", "1e-2",
    "--num_workers", "0", "--device", "cpu", "--seed", "3", "--no_report",
]  # fmt: skip


def write_video(path: Path, *, num_frames: int, direction: int, seed: int) -> None:
    """A bright square that moves right (direction 0) or down (1) over noise."""
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 120, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = SIZE_PX
        stream.pix_fmt = "yuv420p"
        start = int(rng.integers(0, 10))
        for number in range(num_frames):
            image = background.copy()
            along, across = (start + number) % (SIZE_PX - 12), 18
            top, left = (across, along) if direction == 0 else (along, across)
            image[top : top + 12, left : left + 12] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def make_tiny_data(folder: Path, *, num_videos: int = 10) -> Path:
    """Write videos, `pretrain.csv` and a fold with train, val and test CSVs.

    Returns:
        The fold's folder.
    """
    videos = folder / "videos"
    videos.mkdir(parents=True)
    rows = []
    for number in range(num_videos):
        path = videos / f"clip{number:02d}.mp4"
        write_video(path, num_frames=30 + 3 * number, direction=number % 2, seed=number)
        rows.append(f"{path} {number % 2}")
    (folder / "pretrain.csv").write_text("\n".join(rows) + "\n")
    fold = folder / "fold"
    fold.mkdir()
    (fold / "train.csv").write_text("\n".join(rows[:6]) + "\n")
    (fold / "val.csv").write_text("\n".join(rows[6:8]) + "\n")
    (fold / "test.csv").write_text("\n".join(rows[5:]) + "\n")
    return fold
