"""Every benchmark with settings that fit the machine, into one folder; the table of the docs.

    python -m benchmarks.all --output_dir results

Takes less than 20 minutes on two cores. Close other programs, or add `--clock cpu --threads 1`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import common, data, encoders, end_to_end, epochs, losses, scaling, train_step


def plan(flags: argparse.Namespace, folder: Path) -> list[tuple[str, object, list[str]]]:
    """(name, module, arguments) of every benchmark."""
    timing = ["--clock", flags.clock]
    if flags.threads:
        timing += ["--threads", str(flags.threads)]
    tiny = ["--model", "svfap_tiny_patch8_64", "--batch_size", "16", *timing]
    quick = ["--repeats", "3", *timing]
    rows = [
        ("data", data, ["--folder", str(folder)]),
        ("index", data, ["--index", "1000000"]),
        ("train_step", train_step, timing),
        ("train_step_float32", train_step, ["--amp", "off", "--no_baseline", *quick]),
        ("train_step_tiny", train_step, tiny),
        ("train_step_videomae", train_step, ["--model", "videomae_base_patch16_160",
                                             "--stage", "pretrain", *quick]),
        ("encoders", encoders, quick),
        ("end_to_end", end_to_end, ["--folder", str(folder), *timing]),
        ("epochs", epochs, ["--clip_ms", "10", "--batch_size", "64", "--num_workers", "4"]),
        ("scaling", scaling, quick),
        ("scaling_workers", scaling, ["--what", "workers", "processes", "--model",
                                      "svfap_small_patch16_160", *quick]),
        ("losses", losses, ["--batch_size", "2", *timing]),
    ]  # fmt: skip
    if torch.cuda.is_available():
        compiled = ["--compile", "--no_baseline", *quick]
        rows.append(("train_step_compiled", train_step, compiled))
        graphs = [*compiled, "--compile_mode", "reduce-overhead"]
        rows.append(("train_step_cuda_graphs", train_step, graphs))
        rows.append(("encoders_compiled", encoders, ["--compile", *quick]))
    return rows


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.all`."""
    parser = argparse.ArgumentParser(
        "benchmarks.all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clock", choices=common.CLOCKS, default="auto", help="see the others")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own)")
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of them")
    parser.add_argument("--list", action="store_true", help="show what would run")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run one benchmark after the other; one that fails does not stop the others.

    Raises:
        ValueError: `--only` names a benchmark that is not there.
    """
    flags = build_parser().parse_args(argv)
    planned = plan(flags, flags.output_dir / "sample_data")
    names = [name for name, _, _ in planned]
    unknown = [name for name in flags.only or [] if name not in names]
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)}: choose among {', '.join(names)}")
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, module, arguments in planned:
        if flags.only and name not in flags.only:
            continue
        print(f"\n== {name}: python -m {module.__name__} {' '.join(arguments)}", flush=True)
        if flags.list:
            continue
        started = time.monotonic()
        try:
            module.main([*arguments, "--output", str(flags.output_dir / f"{name}.json")])
        except Exception as error:  # the others are still worth having
            failed.append(name)
            print(f"{name} failed: {error!r}", file=sys.stderr)
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
