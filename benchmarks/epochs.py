"""What loading costs a run beside the step: short and long epochs, with validation after each.

The step is a toy: the host waits as long as a device would be busy. Clips come from a packed store;
with `--clip_ms` they take that long without computing anything, so that loaders for a large GPU can
be tried on a small or busy machine. A run that never waits for data takes as long as its steps; the
table says how much longer it takes, per epoch and for the first batch.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from benchmarks import common, data, sample_data, steps
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.clips.training import EpochSampler, EvalViews, Loader, PretrainClips, Reading
from svfap.datasets.labels.annotations import Annotations

FRAMES, SIZE = 16, 160


def datasets_of(stored: Annotations) -> tuple[PretrainClips, EvalViews]:
    """Training clips and validation views of the same videos."""
    source = {"annotations": stored, "clip_frames": FRAMES, "stride": data.STRIDE, "size": SIZE}
    masking = make_masking("tube", (FRAMES // 2, SIZE // 16, SIZE // 16), steps.MASK_RATIO)
    train = PretrainClips(**source, masking=masking, seed=0, enlarge_later=True)
    return train, EvalViews(**source, middle=True)


class ToyClips(Dataset):
    """Clips that take a while."""

    item_bytes = 16 * 64 * 64 * 3

    def __init__(self, length: int, seconds: float):
        self.length, self.seconds = length, seconds

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: object) -> dict:
        time.sleep(self.seconds)
        return {"clip": np.zeros((1, 16, 64, 64, 3), np.uint8), "mask": np.zeros((1, 128), bool)}


def measure(
    datasets: tuple[Dataset, Dataset],
    flags: argparse.Namespace,
    *,
    steps_per_epoch: int,
    num_epochs: int,
) -> dict:
    """Row of one length of epochs."""
    train, val = datasets
    step = flags.step_ms / 1000
    sampler = EpochSampler(
        num_samples=len(train), batch_size=flags.batch_size, seed=0, accumulation=steps_per_epoch
    )
    validation = Reading(
        dataset=val,
        batches=lambda: (range(flags.batch_size) for _ in range(flags.val_steps)),
        num_batches=flags.val_steps,
        batch_size=flags.batch_size,
    )
    readings = []
    for epoch in range(num_epochs):
        readings += [Reading.of_epoch(train, sampler, epoch, 0, 1), validation]
    waits: list[list[float]] = []
    with Loader(readings, num_workers=flags.num_workers) as loader:
        for reading in readings:
            batches, waited = iter(loader.read(reading)), []
            for _ in range(reading.num_batches):
                asked = time.perf_counter()
                next(batches)
                waited.append(time.perf_counter() - asked)
                time.sleep(step)
            waits.append(waited)
    epochs = [sum(a) + sum(b) for a, b in zip(waits[::2], waits[1::2])]
    busy = (steps_per_epoch + flags.val_steps) * step
    return {
        "steps_per_epoch": steps_per_epoch,
        "epochs": num_epochs,
        "batch": flags.batch_size,
        "workers": flags.num_workers,
        "step_ms": flags.step_ms,
        "first_batch_s": waits[0][0],
        "first_epoch_lost": epochs[0] / (epochs[0] + busy),
        "later_epochs_lost": statistics.median(w / (w + busy) for w in epochs[1:]),
    }


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.epochs`."""
    parser = common.benchmark_parser("epochs", __doc__)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--step_ms", type=float, default=400.0, help="time of a step")
    parser.add_argument("--val_steps", type=int, default=3, help="batches of a validation")
    parser.add_argument("--num_workers", type=int, default=2, help="loader processes")
    parser.add_argument("--clip_ms", type=float, help="toy clips that take this long")
    parser.add_argument("--folder", type=Path, help="keeps sample videos (default: temporary)")
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Measure and report."""
    flags = build_parser().parse_args(argv)
    common.begin(flags)
    flags.clock = "wall"  # waiting takes no CPU time
    with tempfile.TemporaryDirectory() as temporary:
        if flags.clip_ms is None:
            folder = flags.folder or Path(temporary)
            mp4, _ = sample_data.make(folder, num_videos=flags.batch_size, num_folders=0)
            datasets = datasets_of(data.packed(mp4, folder / "store_jpeg", "--encoding", "jpeg"))
        else:
            datasets = (ToyClips(flags.batch_size, flags.clip_ms / 1000),) * 2
        rows = [
            measure(datasets, flags, steps_per_epoch=length, num_epochs=count)
            for length, count in ((10, 6), (40, 2))
        ]
    return common.report("epochs", rows, flags, torch.device("cpu"))


if __name__ == "__main__":
    main()
