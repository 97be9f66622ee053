"""Everything on a GPU in eight minutes: does it run, how fast is it, what fell short of the goals.

    python -m benchmarks.gpu_check --output_dir results

First the tests that need a GPU and every command of the README in a small size, side by side; then
tables of speed, one after the other; at the end a verdict. What has no time left is said to be not
run; `--parts` runs a part by itself, with all of the time.
Writes `gpu_check.json`, and `gpu_check.md` with the tables for docs/benchmarks.md. With
`--device cpu` everything is tiny, to try the check itself. Ends with status 1 if something fell
short.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks import common, steps
from benchmarks.gpu_commands import Commands
from benchmarks.jobs import Budget, Job, Outcome, run_jobs
from svfap.engine.runtime import distributed
from svfap.engine.runtime.programs import tells_user

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 465  # of 480: what is killed at the end takes a moment, and so does the report
PARTS = ("tests", "commands", "tables", "levers")
# Of the time, as long as tables are to follow.
COMMANDS_SHARE = 0.45


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a number must reach."""

    name: str
    table: str
    row: Mapping[str, object]  # what the row says of itself
    column: str = "clips_per_second"
    least: float = 0.0  # what it must be; times the number of `beside` where that is given
    # (table, row) of a number that it is compared with, in the same column
    beside: tuple[str, Mapping[str, object]] | None = None

    def verdict(self, tables: Mapping[str, list[dict]]) -> dict[str, object]:
        """A line of the verdict; `reached` None: not measured."""
        found = _value(tables, self.table, self.row, self.column)
        other = _value(tables, *self.beside, self.column) if self.beside else 1.0
        known = found is not None and other is not None
        value = found / other if known else None
        return {"goal": self.name, "least": self.least, "found": value,
                "reached": None if value is None else value >= self.least}  # fmt: skip


def _value(tables: Mapping, table: str, row: Mapping[str, object], column: str) -> float | None:
    """The number of the row that holds these values."""
    for candidate in tables.get(table, ()):
        if all(candidate.get(key) == value for key, value in row.items()):
            return candidate.get(column)
    return None


def goals() -> list[Goal]:
    """What an H200 is expected to do in the default settings."""
    ours, fine = {"stage": "pretrain", "variant": "ours"}, {"stage": "finetune", "variant": "ours"}
    videomae = {"model": "videomae_base_patch16_160"}
    maedfer = {"model": "maedfer_base_patch16_160"}
    memory, store = {"case": "batch in memory"}, {"case": "store, jpeg q90"}
    share = {"table": "families", "column": "share_of_ceiling", "least": 0.35}
    return [
        Goal(name="pre-training, 256 clips: clips per second", table="pretrain", row=ours,
             least=4000),
        Goal(name="fine-tuning, 64 clips: clips per second", table="finetune", row=fine,
             least=1200),
        Goal(name="evaluation, 64 videos: videos per second", table="evaluate",
             row={"variant": "ours"}, least=2200),
        Goal(name="MAE-DFER, pre-training: share of the ceiling", row=maedfer, **share),
        Goal(name="VideoMAE, pre-training: share of the ceiling", row=videomae, **share),
        Goal(name="VideoMAE, pre-training: times transformers'", table="families", row=videomae,
             least=3, beside=("peer", {"compiled": True})),
        Goal(name="training from a packed store: share of the step's speed", table="loop",
             row=store, least=0.95, beside=("loop", memory)),
    ]  # fmt: skip


def test_job() -> Job:
    """The tests that need a GPU; on a machine without one they are skipped."""
    return Job(name="tests", command=[sys.executable, "-m", "pytest", "-m", "cuda", "-q"])


def table_jobs(folder: Path, device: torch.device) -> list[Job]:
    """The tables, the most important first."""
    on_gpu = device.type == "cuda"
    large = {"pretrain": 256, "finetune": 64, "evaluate": 64, "pretrain_64": 64, "families": 128,
             "peer": 128, "loop": 256}  # fmt: skip
    sizes, repeats = (large, 10) if on_gpu else (dict.fromkeys(large, 2), 1)
    model = "svfap_base_patch16_160" if on_gpu else "svfap_tiny_patch8_64"
    families = [model.replace("svfap", family) for family in ("maedfer", "videomae")]
    compiled = ["--compile"] if on_gpu else []
    loading = ["--num_workers", min(14, len(os.sched_getaffinity(0))), "--steps", 10,
               "--num_videos", 16] if on_gpu else ["--num_workers", 0, "--steps", 1,
               "--num_videos", 1, "--video_frames", 8]  # fmt: skip

    def job(name: str, *arguments, module: str) -> Job:
        given = [*arguments, "--device", device, "--repeats", repeats, *compiled]
        output = ["--batch_size", sizes[name], "--output", folder / f"{name}.json"]
        command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, [*given, *output])]
        return Job(name=name, command=command)

    steps_of = partial(job, module="train_step")
    jobs = [
        steps_of("pretrain", "--model", model, "--stage", "pretrain", "--no_baseline"),
        *(steps_of(stage, "--model", model, "--stage", stage) for stage in steps.STAGES[1:]),
        steps_of("pretrain_64", "--model", model, "--stage", "pretrain"),
        steps_of("families", "--model", *families, "--stage", "pretrain", "--no_baseline"),
    ]
    if importlib.util.find_spec("transformers"):
        jobs.append(job("peer", "--model", families[1], module="peer"))
    loop = ["--model", model, "--no_baseline", *loading]
    return [*jobs, job("loop", *loop, module="end_to_end")]


def lever_jobs(folder: Path, device: torch.device, seconds: float) -> list[Job]:
    """Every lever by itself, in both stages."""
    on_gpu = device.type == "cuda"
    small = [] if on_gpu else ["--model", "svfap_tiny_patch8_64", "--batch_size", "2",
                               "--repeats", "1"]  # fmt: skip
    compiled = ["--compile"] if on_gpu else []
    return [
        Job(name=f"levers_{stage}", command=[
            sys.executable, "-m", "benchmarks.levers", "--stage", stage, "--device", str(device),
            "--seconds", f"{seconds * share:.0f}", "--output",
            str(folder / f"levers_{stage}.json"), *small, *compiled])
        for stage, share in (("pretrain", 0.5), ("finetune", 0.35))
    ]  # fmt: skip


def check(flags: argparse.Namespace, device: torch.device) -> dict:
    """Run the parts that were asked for; returns the content of gpu_check.json."""
    budget, folder = Budget(flags.seconds), flags.output_dir.resolve()
    options = {"folder": folder / "logs", "cwd": ROOT}
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Outcome] = {}
    jobs = [test_job()] if "tests" in flags.parts else []
    if "commands" in flags.parts:
        # a folder of its own, so that nothing goes on with the runs of an earlier check
        runs = Path(tempfile.mkdtemp(prefix="runs_", dir=folder))
        jobs += Commands(runs, device.type).all()
    jobs = [job for job in jobs if not flags.only or job.name in flags.only]
    more_follows = {"tables", "levers"} & set(flags.parts)
    part = budget.part(COMMANDS_SHARE if more_follows else 1.0)
    outcomes |= run_jobs(jobs, budget=part, side_by_side=flags.side_by_side, **options)

    def timed(jobs: list[Job]) -> dict[str, Outcome]:
        for job in jobs:  # what an earlier check measured is no result of this one
            (folder / f"{job.name}.json").unlink(missing_ok=True)
        return run_jobs(jobs, budget=budget, side_by_side=1, **options)

    if "tables" in flags.parts:
        outcomes |= timed(table_jobs(folder, device))
    if "levers" in flags.parts:
        outcomes |= timed(lever_jobs(folder, device, budget.left))
    tables = read_tables(folder, outcomes)
    return {
        "machine": common.machine_facts(device),
        "seconds": flags.seconds - budget.left,
        "parts": list(flags.parts),
        "outcomes": {name: vars(outcome) for name, outcome in outcomes.items()},
        "tables": tables,
        # a CPU is measured to try the check, and cannot fall short
        "goals": [goal.verdict(tables) for goal in goals()] if device.type == "cuda" else [],
    }


def read_tables(folder: Path, outcomes: Mapping[str, Outcome]) -> dict[str, list[dict]]:
    """Rows of the benchmarks that ran, by name."""
    paths = {name: folder / f"{name}.json" for name in outcomes}
    return {n: json.loads(p.read_text())["rows"] for n, p in paths.items() if p.is_file()}


def fell_short(content: Mapping) -> list[str]:
    """What went wrong, was not reached or was not measured, in words."""
    lines = [
        f"{name}: {outcome['status']}" + f" ({outcome['last_lines']})" * bool(outcome["last_lines"])
        for name, outcome in content["outcomes"].items() if outcome["status"] != "ok"
    ]  # fmt: skip
    for goal in content["goals"] if "tables" in content["parts"] else ():
        if goal["reached"] is None:
            lines.append(f"{goal['goal']}: not measured")
        elif not goal["reached"]:
            found = f"{goal['found']:.4g}, at least {goal['least']:g} expected"
            lines.append(f"{goal['goal']}: {found}")
    return lines


def as_markdown(content: Mapping) -> str:
    """Verdict and tables as they go into docs/benchmarks.md."""
    machine, short = content["machine"], fell_short(content)
    blocks = [
        f"`python -m benchmarks.gpu_check --parts {' '.join(content['parts'])}`, commit "
        f"{machine['commit']}, {machine.get('gpu') or machine['cpu']}, PyTorch {machine['torch']}, "
        f"{content['seconds']:.0f} s.",
        "\n".join(["Fell short:", *(f"- {line}" for line in short)]) if short
        else "Nothing fell short.",
    ]  # fmt: skip
    if content["goals"]:
        blocks.append(common.markdown(content["goals"]))
    ran = [{"job": name, "status": outcome["status"], "seconds": outcome["seconds"]}
           for name, outcome in content["outcomes"].items()]  # fmt: skip
    for name, rows in (content["tables"] | {"what ran": ran}).items():
        blocks.append(f"### {name}\n\n{common.markdown(rows)}")
    return "\n\n".join(blocks) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.gpu_check`."""
    parser = argparse.ArgumentParser(
        "benchmarks.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", nargs="+", metavar="JOB", help="of the commands, only these")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all of it")
    parser.add_argument("--side_by_side", type=int, default=12, help="commands at a time")
    return parser


@tells_user()
def main(argv: Sequence[str] | None = None) -> int:
    """Check and report; returns the exit status."""
    flags = build_parser().parse_args(argv)
    device = distributed.start(flags.device).device  # says what to do without a GPU
    names = [test_job().name, *(job.name for job in Commands(Path(), device.type).all())]
    unknown = [name for name in flags.only or () if name not in names]
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)}: choose among {', '.join(names)}")
    content = check(flags, device)
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    (flags.output_dir / "gpu_check.json").write_text(json.dumps(content, indent=1) + "\n")
    text = as_markdown(content)
    (flags.output_dir / "gpu_check.md").write_text(text)
    print(text)
    return 1 if fell_short(content) else 0


if __name__ == "__main__":
    sys.exit(main())
