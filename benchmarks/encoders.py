"""All encoders side by side: parameters, multiply-adds, clips per second, memory.

Training steps of pre-training and fine-tuning as in `benchmarks.train_step`, each model with the
masks and the target of its recipe, one model at a time, all with the same number of clips.
Multiply-adds are of a forward pass. Memory is the largest that a step takes, on a CPU that of the
whole process.
"""

import argparse
import gc
from collections.abc import Sequence

import torch

from benchmarks import common, steps

MODELS = (
    *("svfap_base_patch16_160", "maedfer_base_patch16_160", "videomae_base_patch16_160"),
    *("svfap_small_patch16_160", "videomae_small_patch16_160"),
)
STAGES = ("pretrain", "finetune")
CPU_BATCH = {"pretrain": 4, "finetune": 1}
CUDA_BATCH = {"pretrain": 128, "finetune": 64}


def measure(name: str, stage: str, flags: argparse.Namespace, device: torch.device) -> dict:
    """The row of a model.

    Args:
        name: size.
        stage: one of `STAGES`.
        flags: of `build_parser`.
        device: where it runs.
    """
    batch = flags.batch_size or (CUDA_BATCH if device.type == "cuda" else CPU_BATCH)[stage]
    work = steps.our_work(
        name, stage, batch=batch, device=device, amp=flags.amp,
        levers=steps.levers_asked(flags, device),
    )  # fmt: skip
    work.place_batch(device)
    timing = common.measure(work.run, repeats=flags.repeats, warmup=2, device=device)
    seconds = timing.median(flags.clock)
    with common.PeakMemory(device) as memory:
        work.run()
    return {
        "model": name,
        "stage": stage,
        "parameters_m": sum(p.numel() for p in work.model.parameters()) / 1e6,
        "multiply_adds_g": work.flop / work.clips / (2 * steps.TRAINING_PASSES) / 1e9,
        "precision": work.precision,
        "batch": batch,
        "clips_per_second": work.clips / seconds,
        "spread": timing.spread(flags.clock),
        "tflops": work.flop / seconds / 1e12,
        "peak_gib": memory.gib,
        "launches": common.count_launches(work.run, device),
    }


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.encoders`."""
    parser = steps.step_parser("encoders", __doc__, repeats=5)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="sizes, no pretrain_")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    steps.add_compile_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Measure and report."""
    flags = build_parser().parse_args(argv)
    device = steps.begin(flags)
    rows = []
    for stage in flags.stages:
        for name in flags.models:
            rows.append(measure(name, stage, flags, device))
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return common.report("encoders", rows, flags, device)


if __name__ == "__main__":
    main()
