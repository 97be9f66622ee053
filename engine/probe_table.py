"""`python -m svfap.engine.probe_table RUNS --probe NAME=DIR`: pre-training recipes side by side.

`RUNS` holds `<recipe>/<seed>/checkpoint-last.pth`. The frozen features of every checkpoint are
probed on every data set (`engine.probe`, kept as probe_<name>.json beside the checkpoint), and a
table says for each recipe the mean over its seeds and its 95 % interval (Student's t); with
`--attentive` in a row for each of the two probes.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svfap.datasets.files import read_json, write_text
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.probe.command import add_attentive_flags, run_probe, token_gib
from svfap.engine.report.plots import MARKERS, OKABE_ITO, new_figure, save_figure
from svfap.engine.results.intervals import half_width
from svfap.engine.results.tables import add_output_flags, emit, render
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import tells_user

logger = logging.getLogger("svfap.engine.probe_table")  # also where the module is __main__

CHECKPOINT = "checkpoint-last.pth"


@dataclass(frozen=True)
class Cell:
    """A score of a recipe."""

    values: tuple[float, ...]  # one per seed
    mean: float  # over them
    half_width: float | None  # of the interval of the mean; None with one seed

    @classmethod
    def of(cls, values: Sequence[float]) -> "Cell":
        """Mean and interval of some seeds' scores."""
        values = tuple(map(float, values))
        return cls(values, float(np.mean(values)), half_width(values))

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.half_width is None else f" ± {self.half_width:.3f}")


def find_recipes(root: Path, order: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Checkpoints by recipe: `<root>/<recipe>/<seed>/checkpoint-last.pth`."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.glob(f"*/*/{CHECKPOINT}")):
        found.setdefault(path.parent.parent.name, []).append(path)
    missing = [name for name in order if name not in found]
    if missing or not found:
        raise ValueError(
            f"{root}: no {CHECKPOINT} of {', '.join(missing) or 'any recipe'}; expected "
            f"<recipe>/<seed>/{CHECKPOINT}; found recipes: {', '.join(found) or 'none'}"
        )
    return {name: found[name] for name in order or found}


def probed(
    checkpoint: Path, name: str, folder: str, more: Sequence[str], token_gib: float = 0
) -> dict:
    """Content of probe_<name>.json beside a checkpoint, made if it is not there or older."""
    kept = checkpoint.parent / f"probe_{name}.json"
    stat = checkpoint.stat()
    key = {"size": stat.st_size, "time": stat.st_mtime_ns, "data": folder, "flags": list(more)}
    if token_gib:
        key["attentive"] = True
    if kept.is_file():
        with suppress(ValueError):  # of a damaged one a new one is made
            content = read_json(kept)
            if content.get("of") == key:
                return content
    flags = parse_flags(finetuning_parser(), ["--data_path", folder, *more])
    content = run_probe(checkpoint, flags, token_gib=token_gib) | {"of": key}
    write_text(kept, json.dumps(content, indent=2) + "\n")
    return content


def scores_of(name: str, content: Mapping, method: str = "linear") -> dict[str, float]:
    """What the table says about a probe: F1 and accuracy, or CCC and RMSE of each dimension."""
    found = content["features"]["feature"][method]
    if "per_dimension" not in found:
        return {f"{name} F1": found["macro_f1"], f"{name} accuracy": found["war"]}
    return {
        f"{dimension} {title}": own[metric]
        for dimension, own in found["per_dimension"].items()
        for title, metric in (("CCC", "ccc"), ("RMSE", "rmse"))
    }


def collect(
    recipes: Mapping[str, Sequence[Path]],
    probes: Mapping[str, str],
    more: Sequence[str],
    token_gib: float = 0,
) -> dict[str, dict[str, Cell]]:
    """Probe everything: recipe -> score -> cell; where there are two probes, row of each."""
    methods = {"linear": ", linear", "attentive": ", attentive"} if token_gib else {"linear": ""}
    table = {}
    for recipe, checkpoints in recipes.items():
        values: dict[str, dict[str, list[float]]] = {method: {} for method in methods}
        for checkpoint in checkpoints:
            for name, folder in probes.items():
                content = probed(checkpoint, name, folder, more, token_gib)
                for method, own in values.items():
                    scores = scores_of(name, content, method)
                    shown = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
                    logger.info("%s, %s: %s", checkpoint.parent, method, shown)
                    for score, value in scores.items():
                        own.setdefault(score, []).append(value)
        for method, own in values.items():
            table[recipe + methods[method]] = {k: Cell.of(v) for k, v in own.items()}
    return table


def format_table(table: Mapping[str, Mapping[str, Cell]], table_format: str) -> str:
    """The table as text; CSV has mean and half width in columns of their own."""
    titles = list(next(iter(table.values())))
    seeds = sorted({len(cell.values) for cells in table.values() for cell in cells.values()})
    if table_format == "csv":
        header = ["recipe", "seeds"] + [f"{t}{s}" for t in titles for s in ("", " ±")]
        rows = [
            [recipe, str(len(next(iter(cells.values())).values))]
            + [
                "" if number is None else f"{number:.6f}"
                for title in titles
                for number in (cells[title].mean, cells[title].half_width)
            ]
            for recipe, cells in table.items()
        ]
        return render(header, rows, "csv")
    rows = [[recipe, *(str(cells[title]) for title in titles)] for recipe, cells in table.items()]
    note = "probes of frozen features; "
    if seeds == [1]:
        note += "one seed, so no interval"
    else:
        note += f"mean over {' or '.join(map(str, seeds))} seeds ± half its 95 % interval"
        note += " (Student's t)"
    return render(["recipe", *titles], rows, table_format, notes=[note])


def draw(table: Mapping[str, Mapping[str, Cell]], path: Path) -> None:
    """A panel per score: every seed a mark, the mean and its interval a line."""
    titles = list(next(iter(table.values())))
    figure = new_figure(2.6 * len(titles) + 1.6, 0.42 * len(table) + 1.2)
    axes = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axis, title in zip(axes, titles):
        for place, cells in enumerate(table.values()):
            cell, colour = cells[title], OKABE_ITO[place % len(OKABE_ITO)]
            marker = MARKERS[place % len(MARKERS)]
            axis.errorbar(
                cell.mean, place, xerr=cell.half_width, color=colour, marker=marker, capsize=3
            )
            axis.plot(cell.values, [place + 0.25] * len(cell.values), "|", color=colour)
        axis.set_xlabel(title + (" (lower is better)" if title.endswith("RMSE") else ""))
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(table)), list(table))
    axes[0].invert_yaxis()
    save_figure(figure, path)


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.engine.probe_table`; flags it does not know go to the probe."""
    parser = argparse.ArgumentParser(
        "engine.probe_table", description=__doc__.split("\n")[0], allow_abbrev=False,
        epilog="Further flags are those of run_finetune.py (--device, --batch_size, ...).",
    )  # fmt: skip
    add = parser.add_argument
    add("runs", type=Path, metavar="RUNS", help="holds <recipe>/<seed>/checkpoint-last.pth")
    add("--probe", action="append", required=True, metavar="NAME=DIR", help="data, repeatable")
    add("--recipes", nargs="+", default=[], metavar="NAME", help="which, in this order")
    add_attentive_flags(parser)
    add_output_flags(parser)
    add("--picture", type=Path, metavar="FILE.png")
    return parser


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    set_up_logging(is_main=True)
    own, more = build_parser().parse_known_args(arguments)
    probes = dict(text.split("=", 1) for text in own.probe if "=" in text)
    if len(probes) != len(own.probe):
        raise ValueError(f"--probe {' '.join(own.probe)}: give NAME=DIR, names once")
    tokens = token_gib(own.attentive, own.token_memory)
    table = collect(find_recipes(own.runs, own.recipes), probes, more, tokens)
    emit(format_table(table, own.format), own.output)
    if own.picture:
        own.picture.parent.mkdir(parents=True, exist_ok=True)
        draw(table, own.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
