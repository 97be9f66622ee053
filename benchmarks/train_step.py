"""Speed of training and evaluation steps: ours beside a plain PyTorch baseline, of several models.

Batches lie in the memory of the device. A step is what a run does with one: uint8 clip to loss,
gradients and optimizer; in evaluation, all views of the videos. Multiply-adds are of a forward
pass; TFLOP/s come from them (backward counts twice forward), the ceiling from square matrix
products in the same number format, by the same clock.
"""

import argparse
from collections.abc import Sequence

import torch

from benchmarks import common, steps

CPU_BATCH = {"pretrain": 8, "finetune": 2, "evaluate": 1}
CUDA_BATCH = {"pretrain": 128, "finetune": 64, "evaluate": 64}


def measure_stage(
    name: str, stage: str, flags: argparse.Namespace, device: torch.device
) -> list[dict]:
    """Rows of the baseline (unless left out) and of ours, measured in turns."""
    sizes = CUDA_BATCH if device.type == "cuda" else CPU_BATCH
    batch = flags.batch_size or sizes[stage]
    made = {}
    if flags.baseline and not name.startswith("maedfer"):  # LGI-Former has none
        made["baseline"] = steps.baseline_work(name, stage, batch=batch, device=device)
    made["ours"] = steps.our_work(
        name, stage, batch=batch, device=device, amp=flags.amp,
        levers=steps.levers_asked(flags, device),
    )  # fmt: skip
    for step in made.values():
        step.place_batch(device)
    timings = common.alternate(
        {variant: step.run for variant, step in made.items()}, repeats=flags.repeats, device=device
    )
    first = next(iter(timings.values())).median(flags.clock)
    return [
        {
            "model": name, "stage": stage, "variant": variant,
            "parameters_m": sum(p.numel() for p in step.model.parameters()) / 1e6,
            "multiply_adds_g": step.multiply_adds(stage) / 1e9,
            **step.measured(timings[variant], flags.clock, device),
            "ratio": first / timings[variant].median(flags.clock), "share_of_ceiling": None,
            "launches": common.count_launches(step.run, device),
        }
        for variant, step in made.items()
    ]  # fmt: skip


def add_ceilings(rows: list[dict], flags: argparse.Namespace, device: torch.device) -> dict:
    """Measure the ceiling of each number format and fill in the shares; returns the ceilings."""
    ceilings = {}
    for row in rows:
        name = row["precision"]
        if name not in ceilings:
            ceilings[name] = common.matmul_ceiling(
                device, getattr(torch, name), clock=flags.clock, repeats=flags.repeats
            )
        row["share_of_ceiling"] = row["tflops"] / ceilings[name]
    return ceilings


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.train_step`."""
    parser = steps.step_parser("train_step", __doc__, repeats=5)
    parser.add_argument(
        "--model", nargs="+", default=["svfap_base_patch16_160"], help="sizes, without pretrain_"
    )
    steps.add_compile_flags(parser)
    parser.add_argument("--no_baseline", action="store_false", dest="baseline", help="ours only")
    parser.add_argument(
        "--stage", choices=(*steps.STAGES, "all"), default="all", help="what to time"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Measure and report."""
    flags = build_parser().parse_args(argv)
    device, _ = steps.begin(flags)
    rows = []
    for stage in steps.STAGES if flags.stage == "all" else (flags.stage,):
        for name in flags.model:
            rows += measure_stage(name, stage, flags, device)
            common.release_memory(device)
    ceilings = add_ceilings(rows, flags, device)
    return common.report("train_step", rows, flags, device, ceiling_tflops=ceilings)


if __name__ == "__main__":
    main()
