"""How the cost of a step grows: with frames, resolution, mask ratio, batch, model, processes.

One thing is changed at a time; everything else is as in `benchmarks.train_step`. `--what workers`
and `--what processes` measure the loader with several workers, and training in several processes.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks import common, data, sample_data, steps
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.clips.training import EpochSampler, Loader, PretrainClips, Reading
from svfap.engine.compute.parallel import Replicated
from svfap.engine.runtime.distributed import Workers

# What is varied -> values, as options of `steps.our_work`.
VARIED = {
    "frames": [{"num_frames": n} for n in (8, 16, 32)],
    "resolution": [{"img_size": n} for n in (96, 128, 160, 224)],
    "mask_ratio": [{"mask_ratio": r} for r in (0.75, 0.8, 0.9, 0.95)],
    "batch": [{"batch": n} for n in (1, 2, 4, 8, 16)],
    "model": [
        {"name": name}
        for name in (
            *("svfap_small_patch16_160", "svfap_base_patch16_160", "maedfer_base_patch16_160"),
            *("videomae_small_patch16_160", "videomae_base_patch16_160"),
        )
    ],
}
COUNTS = {"workers": (0, 1, 2), "processes": (1, 2)}
CPU_BATCH, CUDA_BATCH = 2, 128


def vary(what: str, flags: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    """A row per value of one thing."""
    for change in VARIED[what]:
        options = {"name": flags.model, "batch": flags.batch_size} | change
        work = steps.our_work(stage=flags.stage, device=device, amp=flags.amp, **options)
        timing = common.measure(work.run, repeats=flags.repeats, device=device)
        seconds = timing.median(flags.clock)
        yield {
            "varied": what,
            "value": next(iter(change.values())),
            "ms_per_clip": 1000 * seconds / work.clips,
            "spread": timing.spread(flags.clock),
            "gflop_per_clip": work.flop / work.clips / 1e9,
            "tflops": work.flop / seconds / 1e12,
        }


def vary_workers(flags: argparse.Namespace, folder: Path) -> Iterator[dict]:
    """Clips per second of the loader alone, reading a packed store."""
    mp4, _ = sample_data.make(folder, num_videos=4, num_folders=0, video_frames=flags.video_frames)
    stored = data.packed(mp4, folder / "store", "--encoding", "jpeg")
    dataset = PretrainClips(
        annotations=stored, clip_frames=16, stride=4, size=160, seed=0,
        masking=make_masking("tube", (8, 10, 10), 0.9),
    )  # fmt: skip
    for count in COUNTS["workers"]:
        sampler = EpochSampler(num_samples=4, batch_size=8, seed=0, accumulation=16 * flags.repeats)
        epoch = Reading.of_epoch(dataset, sampler, 0)
        with Loader([epoch], num_workers=count) as loader:
            batches = iter(loader.read(epoch))
            next(batches)
            timing = common.measure(
                lambda batches=batches: [next(batches) for _ in range(8)],
                repeats=flags.repeats, warmup=0,
            )  # fmt: skip
        yield {
            "varied": "workers",
            "value": count,
            "ms_per_clip": 1000 * timing.median("wall") / (8 * 8),
            "spread": timing.spread("wall"),
            "gflop_per_clip": 0.0,
            "tflops": 0.0,
        }


def vary_processes(flags: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    """Training in several processes of this machine, the batch of each kept the same."""
    for count in COUNTS["processes"]:
        if device.type == "cuda" and count > torch.cuda.device_count():
            continue
        with TemporaryDirectory() as folder:
            arguments = (count, flags, device.type, folder)
            mp.spawn(_process, args=arguments, nprocs=count)
            seconds, spread = json.loads(Path(folder, "timing.json").read_text())
        yield {
            "varied": "processes",
            "value": count,
            "ms_per_clip": 1000 * seconds / (flags.batch_size * count),
            "spread": spread,
            "gflop_per_clip": 0.0,
            "tflops": 0.0,
        }


def _process(rank: int, count: int, flags, device_type: str, folder: str) -> None:
    """One process of `vary_processes`; wall time, since processes wait for each other."""
    torch.set_num_threads(max(1, (flags.threads or torch.get_num_threads()) // count))
    device = torch.device(device_type, rank if device_type == "cuda" else None)
    backend = "nccl" if device_type == "cuda" else "gloo"
    dist.init_process_group(
        backend, init_method=f"file://{folder}/store", rank=rank, world_size=count
    )
    workers = Workers(rank=rank, local_rank=rank, world_size=count, device=device)
    once = argparse.Namespace(update_freq=1)
    work = steps.our_work(
        flags.model, flags.stage, batch=flags.batch_size, device=device, amp=flags.amp,
        wrap=lambda step: Replicated(step, once, workers).wrapped,
    )  # fmt: skip
    timing = common.measure(work.run, repeats=flags.repeats, device=device)
    if rank == 0:
        facts = [timing.median("wall"), timing.spread("wall")]
        Path(folder, "timing.json").write_text(json.dumps(facts))
    dist.destroy_process_group()


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.scaling`."""
    parser = steps.step_parser("scaling", __doc__, repeats=3)
    parser.add_argument(
        "--what", choices=(*VARIED, *COUNTS), nargs="+", default=list(VARIED), help="is varied"
    )
    parser.add_argument("--model", default="svfap_base_patch16_160", help="size")
    parser.add_argument("--stage", choices=steps.STAGES, default="pretrain")
    parser.add_argument("--video_frames", type=int, default=sample_data.VIDEO_FRAMES)
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Measure and report."""
    flags = build_parser().parse_args(argv)
    device = steps.begin(flags)
    flags.batch_size = flags.batch_size or (CUDA_BATCH if device.type == "cuda" else CPU_BATCH)
    rows = []
    for what in flags.what:
        if what == "workers":
            with TemporaryDirectory() as folder:
                rows += vary_workers(flags, Path(folder))
        elif what == "processes":
            rows += vary_processes(flags, device)
        else:
            rows += vary(what, flags, device)
    return common.report("scaling", rows, flags, device, model=flags.model, stage=flags.stage)


if __name__ == "__main__":
    main()
