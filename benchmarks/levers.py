"""What every lever of `engine.compute.levers` brings by itself.

A step with all levers that suit the device, then without each (or with it, where it is off), not
compiled, and with CUDA graphs. Batches lie on the device. Each row is compiled anew. Rows for which
`--seconds` did not suffice stay "not measured".
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from benchmarks import common, steps
from svfap.engine.compute.levers import Levers, lever_names, levers_of

CPU_BATCH, CUDA_BATCH = {"pretrain": 4, "finetune": 1}, {"pretrain": 256, "finetune": 64}


def variants(device: torch.device, *, compile_mode: str | None) -> dict[str, Levers]:
    """Sets of levers by what they differ in from the set that suits the device."""
    best = levers_of(device, compile_mode=compile_mode)
    found = {"as chosen": best}
    for name in lever_names():
        is_on = getattr(best, name)
        found[f"{'without' if is_on else 'with'} {name}"] = replace(best, **{name: not is_on})
    if compile_mode:
        found["not compiled"] = replace(best, compile_mode=None)
        found["CUDA graphs"] = replace(best, compile_mode="reduce-overhead")
    return found


def measure(levers: Levers, flags: argparse.Namespace, device: torch.device) -> dict:
    """What a row says of a step."""
    sizes = CUDA_BATCH if device.type == "cuda" else CPU_BATCH
    torch.compiler.reset()
    work = steps.our_work(
        flags.model, flags.stage, batch=flags.batch_size or sizes[flags.stage], device=device,
        amp=flags.amp, levers=levers,
    )  # fmt: skip
    work.place_batch(device)
    timing = common.measure(work.run, repeats=flags.repeats, warmup=3, device=device)
    return work.measured(timing, flags.clock, device)


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.levers`."""
    parser = steps.step_parser("levers", __doc__, repeats=10)
    parser.add_argument("--model", default="svfap_base_patch16_160", help="size, without pretrain_")
    parser.add_argument("--stage", choices=("pretrain", "finetune"), default="pretrain")
    parser.add_argument("--seconds", type=float, default=400, help="no row begins after them")
    steps.add_compile_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> dict:
    """Measure and report; what is known is written after every row."""
    flags = build_parser().parse_args(argv)
    device, _ = steps.begin(flags)
    begun, rows, content = time.monotonic(), [], {}
    mode = flags.compile_mode if flags.compile else None
    for name, levers in variants(device, compile_mode=mode).items():
        row = {"levers": name, "stage": flags.stage, "clips_per_second": None, "spread": None,
               "against_chosen": None, "peak_gib": None}  # fmt: skip
        rows.append(row)
        if time.monotonic() - begun < flags.seconds:
            found = measure(levers, flags, device)
            row |= {name: found[name] for name in ("clips_per_second", "spread", "peak_gib")}
            row["against_chosen"] = row["clips_per_second"] / rows[0]["clips_per_second"]
            common.release_memory(device)
        content = common.report("levers", rows, flags, device, model=flags.model)
    return content


if __name__ == "__main__":
    main()
