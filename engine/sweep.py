"""`python -m svfap.engine.sweep FILE.yaml`: a run per setting of a grid, or as Optuna proposes.

FILE.yaml:

    stage: finetuning              # or pretraining
    flags: {data_path: saved/data/dfew/split01, epochs: 50}    # of every run
    grid: {lr: [1.0e-3, 3.0e-3], head_norm: [layer, batch]}    # all combinations; or:
    search: {lr: {low: 1.0e-4, high: 1.0e-2, log: true}, opt: [adamw, sgd]}    # with Optuna
    trials: 20                     # of search
    metric: val_uar                # of log.jsonl, its best epoch

Settings are chosen on the validation part, never on the test part. The same command goes on where
it was stopped; a run that failed is named in the table.
"""

import argparse
import itertools
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from svfap.engine.flags import config
from svfap.engine.flags.parsing import as_words
from svfap.engine.results.find import read_log
from svfap.engine.results.tables import render, write_tables
from svfap.engine.runtime import runs, stopping
from svfap.engine.runtime.lock import sole_use
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import tells_user
from svfap.engine.runtime.runs import Run
from svfap.extras import install
from svfap.suggest import did_you_mean

logger = logging.getLogger("svfap.engine.sweep")  # also when run as a command, as "__main__"

KEYS = ("stage", "flags", "grid", "search", "trials", "metric")
METRIC = {"finetuning": "val_uar", "pretraining": "train_loss"}
PROGRAMS = {"finetuning": "finetune", "pretraining": "pretrain"}
LEAST = ("loss", "mae", "error")  # of metrics with these in their names, less is better


def read_sweep(path: Path) -> dict:
    """Read and check a file as in the module's docstring."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(sweep, dict):
        raise ValueError(f"{path}: expected lines of `entry: value`; entries are {', '.join(KEYS)}")
    for name in sweep:
        if name not in KEYS:
            hint = did_you_mean(str(name), KEYS) or ";"
            raise ValueError(f"{path}: unknown entry {name!r}{hint} entries are {', '.join(KEYS)}")
    sweep = {"stage": "finetuning", "flags": {}, "grid": {}, "search": {}, "trials": 20} | sweep
    if sweep["stage"] not in METRIC:
        raise ValueError(f"{path}: stage {sweep['stage']!r} is not one of {', '.join(METRIC)}")
    if not (isinstance(sweep["trials"], int) and sweep["trials"] > 0):
        raise ValueError(f"{path}: trials {sweep['trials']!r} must be a number from 1")
    if bool(sweep["grid"]) == bool(sweep["search"]):
        raise ValueError(f"{path}: give either grid or search")
    known = getattr(config, f"{sweep['stage']}_parser")().table.by_name
    for part in ("flags", "grid", "search"):
        if not isinstance(sweep[part], dict):
            raise ValueError(f"{path}: {part} must be lines of `flag: value`")
        for name, value in sweep[part].items():
            if name not in known or name in ("output_dir", "log_dir"):
                hint = did_you_mean(str(name), known)
                raise ValueError(f"{path}: {part}: {name} is no flag that a sweep can set{hint}")
            ranged = part == "search" and isinstance(value, dict) and {"low", "high"} <= set(value)
            if part != "flags" and not ranged and not (isinstance(value, list) and value):
                raise ValueError(f"{path}: {part}: {name}: expected a list of values"
                                 + ", or low and high" * (part == "search"))  # fmt: skip
    return sweep | {"metric": sweep.get("metric", METRIC[sweep["stage"]])}


def make_run(sweep: Mapping, settings: Mapping[str, object], output_dir: Path) -> Run:
    """The run of these settings; its folder says what they are."""
    name = ",".join(f"{key}={_short(value)}" for key, value in settings.items())
    name = "".join(c if c.isalnum() or c in "=,.-_+" else "_" for c in name)
    words = as_words(sweep["flags"] | settings)
    return Run(name, words, output_dir / name, PROGRAMS[sweep["stage"]])


def score(run: Run, metric: str) -> float:
    """The best epoch's value of a finished run; NaN where it failed.

    ValueError: its log has no such metric.
    """
    lines = read_log(run.run_dir / "log.jsonl")
    values = [line[metric] for line in lines if isinstance(line.get(metric), (int, float))]
    if run.is_finished and not values:
        known = sorted({name for line in lines for name in line})
        raise ValueError(
            f"{run.run_dir / 'log.jsonl'} has no {metric}, it has {', '.join(known)}; a "
            "val_ metric needs a validation part (val.csv, or --val_fraction)"
        )
    return (min if _less_is_better(metric) else max)(values) if run.is_finished else math.nan


def _less_is_better(metric: str) -> bool:
    return any(part in metric for part in LEAST)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def grid(sweep: Mapping) -> Iterator[dict]:
    """All combinations."""
    for values in itertools.product(*sweep["grid"].values()):
        yield dict(zip(sweep["grid"], values))


def search(sweep: Mapping, output_dir: Path, carry_out) -> tuple[list, int]:
    """Let Optuna propose settings, one run after another; its proposals depend on scores alone.

    Proposals are seeded, so a command that goes on is proposed the same and finds them finished.

    Returns:
        (settings, run) of each trial, and the status of the first that was stopped.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ValueError(f"search needs Optuna: {install('sweep')}, or give a grid") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "minimize" if _less_is_better(sweep["metric"]) else "maximize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=0))
    tried: dict[str, tuple] = {}
    for _ in range(sweep["trials"]):
        trial = study.ask()
        settings = {name: _suggest(trial, name, space) for name, space in sweep["search"].items()}
        run = make_run(sweep, settings, output_dir)
        status = 0 if run.name in tried else carry_out([run])
        tried[run.name] = settings, run
        if status == stopping.STOPPED_STATUS:
            return list(tried.values()), status
        value = score(run, sweep["metric"])
        if math.isnan(value):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, value)
    return list(tried.values()), 0


def _suggest(trial, name: str, space):
    if isinstance(space, list):
        return trial.suggest_categorical(name, space)
    whole = isinstance(space["low"], int) and isinstance(space["high"], int)
    suggest = trial.suggest_int if whole else trial.suggest_float
    return suggest(name, space["low"], space["high"], log=bool(space.get("log")))


def table(sweep: Mapping, tried: Sequence[tuple[dict, Run]], style: str) -> str:
    """All settings, the best first."""
    metric = sweep["metric"]
    rows = [(score(run, metric), settings) for settings, run in tried]
    sign = 1 if _less_is_better(metric) else -1
    rows.sort(key=lambda row: (math.isnan(row[0]), sign * row[0]))
    names = list(sweep["grid"] or sweep["search"])
    cells = [
        [*(_short(settings[name]) for name in names),
         "failed" if math.isnan(value) else f"{value:.4f}"]
        for value, settings in rows
    ]  # fmt: skip
    note = f"{metric}: best epoch on the validation part; one seed each, so small differences are "
    return render([*names, metric], cells, style, notes=[note + "chance."],
                  num_text_columns=len(names))  # fmt: skip


@tells_user(ValueError, FileNotFoundError)
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m svfap.engine.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE.yaml")
    parser.add_argument("--output_dir", required=True, type=Path, help="a run per setting in it")
    flags = runs.parse(parser, argv)
    shares = {name: getattr(flags, name) for name in runs.SHARES}
    sweep = read_sweep(flags.file)
    set_up_logging(is_main=True)

    def carry_out(some: Sequence[Run]) -> int:
        return runs.carry_out(some, go_on=True, **shares)

    with sole_use(flags.output_dir):
        if sweep["grid"]:
            tried = [(own, make_run(sweep, own, flags.output_dir)) for own in grid(sweep)]
            status = carry_out([run for _, run in tried])
        else:
            tried, status = search(sweep, flags.output_dir, carry_out)
        if status == stopping.STOPPED_STATUS:
            return status
        text_of = partial(table, sweep, tried)
        print(write_tables(flags.output_dir / "sweep", text_of, ("md", "csv")), end="")
    return 0 if all(run.is_finished for _, run in tried) else 1


if __name__ == "__main__":
    stopping.listen()
    sys.exit(main())
