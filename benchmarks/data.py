"""Cost of making clips: CPU milliseconds per clip from disk to batch, ours and the baseline's.

One process with one thread makes batches of pre-training and fine-tuning clips from videos,
frame folders and packed stores.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks import baseline, common, sample_data
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.augment.randaugment import RandAugment
from svfap.datasets.clips.training import FinetuneClips, PretrainClips, SampleKey, collate
from svfap.datasets.labels.annotations import Annotations, read_annotations
from svfap.datasets.loading.memory import keep_freed_memory
from svfap.datasets.video.store import stores_of
from svfap.preprocess import pack

SIZE, FRAMES, STRIDE = 160, 16, 4
WINDOW = (0, 32, 160, 160)
BATCH = 8


def pretraining_batches(
    annotations: Annotations, window: tuple | None, **options: bool
) -> Callable[[], dict]:
    """Function that makes the next batch of our pre-training clips; `options` of the dataset."""
    dataset = PretrainClips(
        annotations=annotations,
        clip_frames=FRAMES,
        stride=STRIDE,
        size=SIZE,
        masking=make_masking("tube", (8, 10, 10), 0.9),
        seed=0,
        face_window=window,
        **options,
    )
    return _batches(dataset)


def finetuning_batches(annotations: Annotations) -> Callable[[], dict]:
    """Function that makes the next batch of our fine-tuning clips."""
    dataset = FinetuneClips(
        annotations=annotations,
        clip_frames=FRAMES,
        stride=STRIDE,
        size=SIZE,
        seed=0,
        randaugment=RandAugment.parse(baseline.RANDAUGMENT),
    )
    return _batches(dataset)


def _batches(dataset: PretrainClips | FinetuneClips) -> Callable[[], dict]:
    numbers = count()

    def batch() -> dict:
        keys = [
            (n // len(dataset), n % len(dataset)) for n in (next(numbers) for _ in range(BATCH))
        ]
        return collate([dataset[SampleKey(*key, 0)] for key in keys])

    return batch


def baseline_batches(make_clip: Callable, items: Sequence, *more: object) -> Callable[[], dict]:
    """Function that makes the next float32 batch of the baseline."""
    numbers = count()

    def batch() -> dict:
        clips = []
        for _ in range(BATCH):
            number = next(numbers)
            rng = np.random.default_rng(number)
            clips.append(make_clip(items[number % len(items)], rng, SIZE, *more)["clip"])
        return {"clip": torch.stack(clips)}

    return batch


def packed(csv: Path, folder: Path, *flags: str) -> Annotations:
    """Annotations of a store made of `csv`."""
    if not (folder / "manifest.json").exists():
        pack.main([str(csv), "--output_dir", str(folder), "--num_workers", "0", *flags])
    return read_annotations(folder / csv.name, task="pretrain")


def video_bytes(annotations: Annotations) -> float:
    """Mean size of a video on disk, bytes."""
    manifests = stores_of(annotations.paths)
    if manifests:
        (manifest,) = manifests.values()
        return manifest["num_bytes"] / manifest["num_videos"]
    files = [
        file.stat().st_size
        for path in map(Path, annotations.paths)
        for file in (path.iterdir() if path.is_dir() else [path])
    ]
    return sum(files) / len(annotations)


def sources(folder: Path, *, num_videos: int, **sizes: int) -> dict[str, list]:
    """Every case of both stages: stage -> [(name, bytes per video, function making a batch)].

    Args:
        folder: where sample videos and stores are made, or are from an earlier call.
    """
    mp4, folders = sample_data.make(folder, num_videos=num_videos, num_folders=num_videos, **sizes)
    videos, labelled = (read_annotations(csv, task="pretrain") for csv in (mp4, folders))
    files = [sorted(map(str, Path(path).iterdir())) for path in labelled.paths]
    jpeg, raw = (
        packed(mp4, folder / f"store_{kind}", "--encoding", kind) for kind in ("jpeg", "raw")
    )
    copied = packed(folders, folder / "store_copied")
    small = packed(folders, folder / "store_small", "--resize", str(SIZE))
    small_raw = packed(folders, folder / "store_small_raw", "--resize", str(SIZE),
                       "--encoding", "raw")  # fmt: skip
    plain = baseline_batches(baseline.pretraining_clip, list(videos.paths), WINDOW)
    plain_finetuning = baseline_batches(baseline.finetuning_clip, files)
    pretraining = [
        ("baseline: mp4, decord and PIL", videos, plain),
        ("mp4", videos, pretraining_batches(videos, WINDOW)),
        ("store, jpeg q90 of the face window", jpeg, pretraining_batches(jpeg, WINDOW)),
        ("store, raw face window", raw, pretraining_batches(raw, WINDOW)),
        (
            "store, jpeg, enlarged on the device",
            jpeg,
            pretraining_batches(jpeg, WINDOW, enlarge_later=True),
        ),
        (
            "store, raw, enlarged on the device",
            raw,
            pretraining_batches(raw, WINDOW, enlarge_later=True),
        ),
    ]
    finetuning = [
        ("baseline: jpg folder, PIL", labelled, plain_finetuning),
        ("jpg folder", labelled, finetuning_batches(labelled)),
        ("store, jpg files as they are", copied, finetuning_batches(copied)),
        ("store, resized, jpeg q90", small, finetuning_batches(small)),
        ("store, resized, raw", small_raw, finetuning_batches(small_raw)),
    ]
    return {"pretrain": pretraining, "finetune": finetuning}


def measure_sources(stages: dict[str, list], repeats: int) -> list[dict]:
    """A row per case; ratios are to the first case of the stage."""
    rows = []
    for stage, cases in stages.items():
        timings = common.alternate({name: batch for name, _, batch in cases}, repeats=repeats)
        first = next(iter(timings.values())).median("cpu")
        for name, annotations, _ in cases:
            seconds = timings[name].median("cpu")
            rows.append(
                {
                    "stage": stage,
                    "source": name,
                    "cpu_ms_per_clip": 1000 * seconds / BATCH,
                    "spread": timings[name].spread("cpu"),
                    "clips_per_core_second": BATCH / seconds,
                    "ratio": first / seconds,
                    "kib_per_video": video_bytes(annotations) / 1024,
                }
            )
    return rows


def measure_parts(repeats: int) -> list[dict]:
    """CPU milliseconds of RandAugment alone, which no store makes cheaper."""
    augment = RandAugment.parse(baseline.RANDAUGMENT)
    frames = sample_data.frames_of(0, FRAMES, SIZE)
    rng = np.random.default_rng(0)

    def apply() -> None:
        for _ in range(BATCH):
            augment.apply(frames, augment.draw(rng))

    timing = common.measure(apply, repeats=repeats)
    return [{"part": "RandAugment", "cpu_ms_per_clip": 1000 * timing.median("cpu") / BATCH,
             "spread": timing.spread("cpu")}]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.data`."""
    parser = common.benchmark_parser("data", __doc__, repeats=7)
    parser.add_argument("--num_videos", type=int, default=6, help="sample videos of each kind")
    parser.add_argument("--video_frames", type=int, default=sample_data.VIDEO_FRAMES)
    parser.add_argument("--folder", type=Path, help="keeps sample videos (default: temporary)")
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Measure and report."""
    flags = build_parser().parse_args(argv)
    flags = common.settled(flags, threads=flags.threads or 1, clock="cpu")
    common.begin(flags)
    cv2.setNumThreads(0)
    keep_freed_memory()  # as loader processes do
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.folder or Path(temporary)
        stages = sources(folder, num_videos=flags.num_videos, video_frames=flags.video_frames)
        rows = measure_sources(stages, flags.repeats)
        parts = measure_parts(flags.repeats)
    content = common.report("data", rows, flags, device, parts=parts)
    print(common.markdown(parts))
    return content


if __name__ == "__main__":
    main()
