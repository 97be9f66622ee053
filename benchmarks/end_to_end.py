"""Loader and model together: clips per second and the share of time the device waits for data.

Trains for a number of steps from sample videos, a store of them, and without data (the batch lies
in memory), with the loader and the step of the runs. The baseline reads as the released recipe.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks import baseline, common, data, sample_data, steps
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.clips.training import EpochSampler, PretrainClips, Reading
from svfap.datasets.labels.annotations import Annotations, read_annotations
from svfap.engine.compute.prefetch import open_loader


class BaselineClips(Dataset):
    """Pre-training clips made as the released recipe makes them."""

    def __init__(self, paths: Sequence[str], size: int, length: int):
        self.paths, self.size, self.length = paths, size, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        path = self.paths[index % len(self.paths)]
        rng = np.random.default_rng(index)
        return baseline.pretraining_clip(path, rng, self.size, data.WINDOW)["clip"]


def our_batches(
    annotations: Annotations,
    model: torch.nn.Module,
    flags: argparse.Namespace,
    device: torch.device,
) -> Iterator[dict]:
    """As many batches of our loader as are needed, on the device."""
    dataset = PretrainClips(
        annotations=annotations,
        clip_frames=model.num_frames,
        stride=data.STRIDE,
        size=model.img_size,
        masking=make_masking("tube", model.grid, steps.MASK_RATIO),
        seed=0,
        face_window=data.WINDOW,
        enlarge_later=device.type == "cuda",  # as `--resize_on auto`
    )
    sampler = EpochSampler(
        num_samples=len(annotations), batch_size=flags.batch_size, seed=0,
        accumulation=flags.repeats * flags.steps + 2,
    )  # fmt: skip
    epochs = [Reading.of_epoch(dataset, sampler, epoch) for epoch in range(2)]
    loading = {"num_workers": flags.num_workers, "pin_memory": True}
    with open_loader(epochs, device, **loading) as loader:
        for epoch in epochs:
            yield from loader.read(epoch)


def baseline_batches(
    annotations: Annotations, model: torch.nn.Module, flags: argparse.Namespace
) -> Iterator[dict]:
    """Endless float32 batches of the baseline's loader."""
    length = flags.batch_size * (flags.repeats * flags.steps + 2)
    dataset = BaselineClips(list(annotations.paths), model.img_size, length)
    mask, _ = steps.masks(model, flags.batch_size, steps.MASK_RATIO)
    loader = DataLoader(dataset, flags.batch_size, num_workers=flags.num_workers)
    while True:
        for clip in loader:
            yield {"clip": clip, "mask": mask}


def measure_case(
    name: str,
    step_of: Callable[[dict], torch.Tensor],
    batches: Iterator[dict],
    flags: argparse.Namespace,
    device: torch.device,
) -> dict:
    """Row of one case: `--steps` training steps at a time, after one that does not count."""
    step_of(next(batches))
    waits = []

    def train() -> None:
        waits.append(0.0)
        for _ in range(flags.steps):
            asked = time.perf_counter()
            batch = next(batches)
            waits[-1] += time.perf_counter() - asked
            step_of(batch)

    timing = common.measure(train, repeats=flags.repeats, warmup=0, device=device)
    clips = flags.steps * flags.batch_size
    return {
        "case": name,
        "workers": flags.num_workers,
        "batch": flags.batch_size,
        "clips_per_second": clips / timing.median("wall"),
        "spread": timing.spread("wall"),
        "device_waits": statistics.median(w / s for w, s in zip(waits, timing.wall)),
        "main_process_cpu_ms_per_clip": 1000 * timing.median("cpu") / clips,
    }


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.end_to_end`."""
    parser = steps.step_parser("end_to_end", __doc__, repeats=3)
    parser.add_argument("--model", default="svfap_base_patch16_160", help="size")
    parser.add_argument("--steps", type=int, default=4, help="steps of a repetition")
    parser.add_argument("--num_workers", type=int, default=1, help="loader processes")
    parser.add_argument("--num_videos", type=int, default=6)
    parser.add_argument("--video_frames", type=int, default=sample_data.VIDEO_FRAMES)
    parser.add_argument("--folder", type=Path, help="keeps sample videos (default: temporary)")
    steps.add_compile_flags(parser)
    parser.add_argument("--no_baseline", action="store_false", dest="baseline")
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Measure and report."""
    flags = build_parser().parse_args(argv)
    device, batch = steps.begin(flags, cpu=4, cuda=128)
    flags = common.settled(flags, clock="wall", batch_size=batch)  # waiting takes no CPU time
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.folder or Path(temporary)
        mp4, _ = sample_data.make(
            folder, num_videos=flags.num_videos, num_folders=0, video_frames=flags.video_frames
        )
        videos = read_annotations(mp4, task="pretrain")
        stored = data.packed(mp4, folder / "store_jpeg", "--encoding", "jpeg")
        ours = steps.our_work(
            flags.model, "pretrain", batch=flags.batch_size, device=device, amp=flags.amp,
            levers=steps.levers_asked(flags, device),
        )  # fmt: skip
        ours.place_batch(device)
        if flags.baseline:
            work = steps.baseline_work(flags.model, "pretrain", batch=1, device=device)
            batches = baseline_batches(videos, ours.model, flags)
            rows.append(measure_case("baseline, mp4", work.of, batches, flags, device))
            del work, batches
        cases = {
            "mp4": our_batches(videos, ours.model, flags, device),
            "store, jpeg q90": our_batches(stored, ours.model, flags, device),
            "batch in memory": repeat(ours.batch),
        }
        for name, batches in cases.items():
            rows.append(measure_case(name, ours.of, batches, flags, device))
    return common.report("end_to_end", rows, flags, device, model=flags.model)


if __name__ == "__main__":
    main()
