"""What the benchmarks share: timing with spread, machine facts, tables and JSON."""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from svfap.engine.build import synchronise
from svfap.engine.results.tables import render
from svfap.engine.runtime.log import commit_name

CLOCKS = ("auto", "wall", "cpu")


@dataclass(frozen=True)
class Timing:
    """Seconds of several repetitions."""

    wall: list[float]  # elapsed seconds of each
    cpu: list[float]  # CPU seconds of this process and its ended children, each

    def seconds(self, clock: str) -> list[float]:
        """The repetitions by one clock."""
        return self.cpu if clock == "cpu" else self.wall

    def median(self, clock: str) -> float:
        """Median of the repetitions, seconds."""
        return statistics.median(self.seconds(clock))

    def spread(self, clock: str) -> float:
        """(largest - smallest) / median."""
        values = self.seconds(clock)
        return (max(values) - min(values)) / statistics.median(values)


def cpu_seconds() -> float:
    """CPU time of this process, all threads, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def release_memory(device: torch.device) -> None:
    """Give back what the models before this took."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def measure(
    function: Callable[[], object],
    *,
    repeats: int,
    warmup: int = 1,
    device: torch.device | None = None,
) -> Timing:
    """Time a function."""
    device = device or torch.device("cpu")
    for _ in range(warmup):
        function()
    timing = Timing([], [])
    for _ in range(repeats):
        synchronise(device)
        wall, cpu = time.perf_counter(), cpu_seconds()
        function()
        synchronise(device)
        timing.wall.append(time.perf_counter() - wall)
        timing.cpu.append(cpu_seconds() - cpu)
    return timing


def alternate(
    functions: dict[str, Callable[[], object]], *, repeats: int, device: torch.device | None = None
) -> dict[str, Timing]:
    """Time several functions in turns, so that a change of the machine's load meets all."""
    timings = {name: Timing([], []) for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            once = measure(function, repeats=1, warmup=0, device=device)
            timings[name].wall.extend(once.wall)
            timings[name].cpu.extend(once.cpu)
    return timings


def matmul_ceiling(device: torch.device, dtype: torch.dtype, *, clock: str, repeats: int) -> float:
    """Best TFLOP/s of square matrix products, the most a model could reach."""
    best = 0.0
    for side in (4096, 8192) if device.type == "cuda" else (1024, 2048):
        one = torch.randn(side, side, device=device).to(dtype)
        other = torch.randn(side, side, device=device).to(dtype)
        timing = measure(lambda a=one, b=other: a @ b, repeats=repeats, warmup=2, device=device)
        best = max(best, 2 * side**3 / min(timing.seconds(clock)) / 1e12)
    return best


class PeakMemory:
    """Largest memory use of a block of code, GiB: of the CUDA device, or resident on the host."""

    def __init__(self, device: torch.device):
        self.device, self.gib = device, 0.0

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with suppress(OSError):  # Linux: forget the largest resident size
                Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(self, *exc_info) -> None:
        if self.device.type == "cuda":
            self.gib = torch.cuda.max_memory_allocated(self.device) / 2**30
        else:
            self.gib = _host_peak_gib()


def _host_peak_gib() -> float:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def count_launches(function: Callable[[], object], device: torch.device) -> int | None:
    """Kernels that a function launches on a CUDA device; None elsewhere."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        function()
        synchronise(device)
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())


def machine_facts(device: torch.device) -> dict:
    """What a number must be read with: processor, threads, versions, commit, load."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name if spec else Path(sys.argv[0]).stem
    facts = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "device": str(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit_name() or "unknown",
        "command": " ".join(["python -m", module, *sys.argv[1:]]),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _cpu_name() -> str:
    name, kinds = platform.processor(), set()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
            if line.startswith("flags"):
                kinds = {"amx_bf16", "avx512_bf16", "avx512f", "avx2"} & set(line.split())
    return f"{name} ({', '.join(sorted(kinds)) or platform.machine()})"


def benchmark_parser(
    name: str, description: str, *, repeats: int | None = None
) -> argparse.ArgumentParser:
    """Parser with the flags of all benchmarks.

    Args:
        repeats: default of `--repeats`; None: the benchmark repeats nothing and has no such flag.
    """
    parser = argparse.ArgumentParser(
        f"benchmarks.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    if repeats is not None:
        parser.add_argument("--repeats", type=int, default=repeats, help="repetitions that count")
    parser.add_argument("--threads", type=int, default=None, help="of PyTorch (default: its own)")
    parser.add_argument(
        "--clock",
        type=lambda name: "wall" if name == "auto" else name,
        choices=CLOCKS,
        default="auto",
        help="what times are made of; cpu (seconds of all threads together) is right on a machine "
        "that does other things; auto is wall",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="also write JSON")
    return parser


def begin(flags: argparse.Namespace) -> None:
    """Apply the flags of `benchmark_parser`."""
    if "repeats" in flags and flags.repeats < 1:
        raise ValueError(f"--repeats {flags.repeats}: it must be 1 or more")
    if flags.threads:
        torch.set_num_threads(flags.threads)


def settled(flags: argparse.Namespace, **values: object) -> argparse.Namespace:
    """The flags with other values, those that a benchmark does not leave open."""
    return argparse.Namespace(**{**vars(flags), **values})


def report(
    name: str, rows: Sequence[dict], flags: argparse.Namespace, device: torch.device, **facts
) -> dict:
    """Print rows as a table and write them as JSON.

    Args:
        rows: results; the keys of the first one are the columns.
    """
    machine = machine_facts(device)
    about = {"benchmark": name, "clock": flags.clock, "machine": machine}
    content = {**about, **facts, "rows": list(rows)}
    print(
        f"\n{name}, {flags.clock} time, {machine['cpu']}, {machine['threads']} threads, "
        f"load {machine['load_average']}"
    )
    print(markdown(rows))
    if flags.output:
        flags.output.parent.mkdir(parents=True, exist_ok=True)
        flags.output.write_text(json.dumps(content, indent=1) + "\n")
    return content


def markdown(rows: Sequence[dict]) -> str:
    """Rows as an aligned Markdown table; None becomes "not measured"."""
    if not rows:
        return "(no rows)"
    columns = list(rows[0])
    table = [[_shown(row.get(column)) for column in columns] for row in rows]
    return render(columns, table, "md", num_text_columns=len(columns)).rstrip()


def _shown(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
