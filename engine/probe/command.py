"""`python -m svfap.engine.probe CHECKPOINT --data_path FOLD`: how good are frozen features?

A linear probe (logistic regression, ridge in regression) and a k-nearest-neighbour vote on the
features of a checkpoint, pre-trained or fine-tuned; with `--attentive` also a query that reads its
tokens. See `engine.probe.probing`.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from svfap.datasets.files import write_text
from svfap.datasets.labels.annotations import Annotations
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.flag import Flags
from svfap.engine.flags.parsing import as_words, parse_flags
from svfap.engine.probe.probing import (
    NEIGHBOURS,
    SHOWN,
    Frozen,
    extract,
    frozen_setting,
    load_frozen,
    probe,
)
from svfap.engine.report.plots import save_figure, scatter_figure
from svfap.engine.results.features import POOLED, tsne
from svfap.engine.results.metrics import METRICS
from svfap.engine.results.predictions import write_metrics, write_predictions
from svfap.engine.results.tables import render
from svfap.engine.results.tokens import MEMORY_GIB
from svfap.engine.runtime import distributed
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import split_arguments, tells_user
from svfap.engine.selection import Parts, known_subjects, read_parts
from svfap.engine.setting import Setting

logger = logging.getLogger(__name__)

TITLES = {"linear": "linear", "attentive": "attentive", "knn": "k-NN"}


def run_probe(
    checkpoint: str | Path,
    flags: Flags,
    *,
    neighbours: int = NEIGHBOURS,
    token_gib: float = 0,
    output_dir: Path | None = None,
    picture: Path | None = None,
) -> dict:
    """Probe a file of weights; returns the content of probe.json.

    Args:
        checkpoint: pre-trained or fine-tuned weights, ours or released.
        flags: of run_finetune.py: data, share of labels, device, loading.
        token_gib: memory that tokens of a part may take; 0: no attentive probe.
        output_dir: gets a folder per method with pred.csv and metrics.json, as an evaluation.
        picture: file that gets a t-SNE of the test part's pooled features.

    Raises:
        ValueError: weights or data that cannot be used.
    """
    workers = distributed.start(flags.device)
    model, identity = load_frozen(checkpoint)
    setting = frozen_setting(flags, workers, model, identity)
    chosen = read_parts(setting)
    parts = chosen.train, chosen.test
    subjects = known_subjects(setting, chosen.train)
    readings = [setting.reading(part, middle=middle) for part, middle in zip(parts, (True, False))]
    with setting.open_loader(*readings) as loader:
        train, test = (
            extract(setting, part, loader.read(reading), title=f"{name} part", token_gib=token_gib)
            for part, reading, name in zip(parts, readings, ("training", "test"))
        )
    scores: dict[str, np.ndarray] = {}
    results = probe(
        train, test, setting.task.names, subjects=subjects, neighbours=neighbours,
        seed=flags.seed, device=workers.device, keep=scores,
    )  # fmt: skip
    if picture and workers.is_main:
        _draw_embedding(picture, setting, chosen.test, test)
    if output_dir and workers.is_main:
        for method, own in scores.items():
            _write_answers(output_dir / method, setting, chosen, own, f"{method} of {checkpoint}")
    return {
        "checkpoint": identity.source,
        "model": identity.config["name"],
        "data_path": flags.data_path,
        "task": setting.kind,
        "class_names": list(setting.task.names),
        "num_train": len(train.labels),
        "num_test": len(test.labels),
        "neighbours": neighbours,
        "features": results,
    }


def _draw_embedding(path: Path, setting: Setting, part: Annotations, frozen: Frozen) -> None:
    """The test videos by t-SNE, coloured by class and, where subjects are known, by who it is."""
    if frozen.labels.ndim != 1:
        raise ValueError(f"--tsne: needs classes, not {setting.kind}; leave it out")
    names = setting.task.names
    panels: dict[str, Sequence[str]] = {"expression": [names[label] for label in frozen.labels]}
    if subjects := known_subjects(setting, part):
        panels["identity"] = subjects
    points, _ = tsne(frozen.features[POOLED])
    save_figure(scatter_figure(points, panels), path)
    logger.info("wrote %s", path)


def _write_answers(
    folder: Path, setting: Setting, parts: Parts, scores: np.ndarray, weights: str
) -> None:
    """What a method answers for the test part, as an evaluation writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    predictions = setting.task.predictions(parts.test.ids, parts.test.labels, scores)
    for name, part in predictions.files().items():
        write_predictions(folder / name, part)
    write_metrics(folder / "metrics.json", predictions.metrics(), weights=weights, split="test")


def format_probe(content: dict) -> str:
    """A table of feature x method, in Markdown."""
    measured = content["features"][POOLED]
    columns = [(m, s) for m in TITLES if m in measured for s in SHOWN if s in measured[m]]
    header = [f"{TITLES[method]} {s.upper().replace('_', ' ')}" for method, s in columns]
    rows = [
        [name, *(METRICS[s].text(found[m][s]) if m in found else "-" for m, s in columns)]
        for name, found in content["features"].items()
    ]
    note = f"{content['num_train']} training and {content['num_test']} test videos, frozen encoder"
    return render(["feature", *header], rows, "md", notes=[note])


def add_attentive_flags(parser: argparse.ArgumentParser) -> None:
    """Whether there is an attentive probe, and what it may take."""
    parser.add_argument(
        "--attentive", action="store_true", help="also a learnt query that reads the tokens"
    )
    parser.add_argument(
        "--token_memory", type=float, default=MEMORY_GIB, metavar="GIB",
        help=f"main memory for the tokens of a part, default {MEMORY_GIB:g}",
    )  # fmt: skip


def token_gib(attentive: bool, memory: float) -> float:
    """Memory for tokens by the flags; 0 without an attentive probe.

    Raises:
        ValueError: no memory at all.
    """
    if not memory > 0:
        raise ValueError(f"--token_memory {memory:g}: must be above 0 GiB")
    return memory if attentive else 0


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    arguments, passed_on = split_arguments(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m svfap.engine.probe",
        description="Linear probe, k-NN and attentive probe of a frozen checkpoint.",
        epilog="everything after -- is read like flags of run_finetune.py (--device, ...)",
    )
    # fmt: off
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="pre-trained or fine-tuned")
    add("--data_path", required=True, metavar="DIR", help="train.csv, test.csv")
    add("--data_set", metavar="NAME", help="as for run_finetune.py")
    add("--nb_classes", type=int, help="where nothing else says it")
    add("--neighbours", type=int, default=NEIGHBOURS, help="k, default 20")
    add_attentive_flags(parser)
    add("--output", metavar="FILE", help="write all metrics as JSON")
    add("--output_dir", type=Path, metavar="DIR", help="pred.csv and metrics.json of each method")
    add("--tsne", type=Path, metavar="FILE.png",
        help="picture of the test part's features, coloured by class and by subject")
    # fmt: on
    own = parser.parse_args(arguments)
    if own.neighbours < 1:
        parser.error(f"--neighbours {own.neighbours}: must be at least 1")
    settings = {name: getattr(own, name) for name in ("data_path", "data_set", "nb_classes")}
    set_up_logging(is_main=True)
    flags = parse_flags(finetuning_parser(), [*as_words(settings), *passed_on])
    tokens = token_gib(own.attentive, own.token_memory)
    content = run_probe(
        own.checkpoint, flags, neighbours=own.neighbours, token_gib=tokens,
        output_dir=own.output_dir, picture=own.tsne,
    )  # fmt: skip
    if own.output:
        write_text(own.output, json.dumps(content, indent=2) + "\n")
    print(format_probe(content), end="")
    return 0
