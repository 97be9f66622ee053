"""`python -m engine.probe CHECKPOINT --data_path FOLD`: how good are frozen features?

A linear probe (logistic regression, ridge in regression) and a k-nearest-neighbour vote on the
features of a checkpoint, pre-trained or fine-tuned; see `engine.probe.probing`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from svfap.datasets.files import write_text
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.probe.probing import (
    NEIGHBOURS,
    SHOWN,
    extract,
    frozen_setting,
    load_frozen,
    probe,
)
from svfap.engine.results.metrics import METRICS
from svfap.engine.results.tables import render
from svfap.engine.runtime import distributed
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import split_arguments, tells_user
from svfap.engine.selection import known_subjects


def run_probe(
    checkpoint: str | Path, flags: argparse.Namespace, *, neighbours: int = NEIGHBOURS
) -> dict:
    """Probe a file of weights.

    Args:
        checkpoint: pre-trained or fine-tuned weights, ours or released.
        flags: of run_finetune.py: data, device, loading.
        neighbours: k.

    Returns:
        The content of probe.json.

    Raises:
        ValueError: weights or data that cannot be used.
    """
    workers = distributed.start(flags.device)
    model, identity = load_frozen(checkpoint)
    setting = frozen_setting(flags, workers, model, identity)
    parts = setting.read("train"), setting.read("test", flags.eval_data_path)
    subjects = known_subjects(flags, parts[0])
    readings = [setting.reading(part, middle=middle) for part, middle in zip(parts, (True, False))]
    with setting.open_loader(*readings) as loader:
        train, test = (
            extract(setting, part, loader.read(reading), title=f"{name} part")
            for part, reading, name in zip(parts, readings, ("training", "test"))
        )
    results = probe(
        train, test, setting.task.names, subjects=subjects, neighbours=neighbours, seed=flags.seed
    )
    return {
        "checkpoint": str(checkpoint),
        "model": identity.config["name"],
        "data_path": flags.data_path,
        "task": setting.kind,
        "class_names": list(setting.task.names),
        "num_train": len(train.labels),
        "num_test": len(test.labels),
        "neighbours": neighbours,
        "features": results,
    }


def format_probe(content: dict) -> str:
    """A table of feature x method, in Markdown."""
    measured = next(iter(content["features"].values()))
    columns = [(m, s) for m in ("linear", "knn") for s in SHOWN if s in measured[m]]
    titles = {"linear": "linear", "knn": "k-NN"}
    header = [f"{titles[method]} {s.upper().replace('_', ' ')}" for method, s in columns]
    rows = [
        [name, *(METRICS[s].text(found[method][s]) for method, s in columns)]
        for name, found in content["features"].items()
    ]
    note = f"{content['num_train']} training and {content['num_test']} test videos, frozen encoder"
    return render(["feature", *header], rows, "md", notes=[note])


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    arguments, passed_on = split_arguments(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m engine.probe",
        description="Linear probe and k-NN on frozen features of a checkpoint.",
        epilog="everything after -- is read like flags of run_finetune.py (--device, ...)",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="pre-trained or fine-tuned")
    parser.add_argument("--data_path", required=True, metavar="DIR", help="train.csv, test.csv")
    parser.add_argument("--data_set", metavar="NAME", help="as for run_finetune.py")
    parser.add_argument("--nb_classes", type=int, help="where nothing else says it")
    parser.add_argument("--neighbours", type=int, default=NEIGHBOURS, help="k, default 20")
    parser.add_argument("--output", metavar="FILE", help="write all metrics as JSON")
    own = parser.parse_args(arguments)
    if own.neighbours < 1:
        parser.error(f"--neighbours {own.neighbours}: must be at least 1")
    passed_on = ["--data_path", own.data_path, *passed_on]
    for name in ("data_set", "nb_classes"):
        value = getattr(own, name)
        passed_on += [f"--{name}", str(value)] if value is not None else []
    set_up_logging(is_main=True)
    flags = parse_flags(finetuning_parser(), passed_on)
    content = run_probe(own.checkpoint, flags, neighbours=own.neighbours)
    if own.output:
        write_text(own.output, json.dumps(content, indent=2) + "\n")
    print(format_probe(content), end="")
    return 0
