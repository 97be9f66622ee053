"""`python -m svfap.engine.leaderboard DIR`: encoders side by side, accuracy beside cost.

DIR is what scripts/leaderboard.sh fills: for each encoder a folder with cost.json,
probes/<fold>/<method> and finetuned/<fold>. Scores are pooled over folds, with bootstrap intervals.
Writes leaderboard.md, .csv and .png there.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from matplotlib.ticker import LogLocator, NullLocator

from svfap import models
from svfap.datasets.files import read_json, write_text
from svfap.engine import build
from svfap.engine.compute.levers import levers_of, set_up_levers
from svfap.engine.compute.precision import choose_precision
from svfap.engine.probe.probing import load_frozen
from svfap.engine.report.plots import MARKERS, OKABE_ITO, new_figure, save_figure
from svfap.engine.results.find import find_results
from svfap.engine.results.metrics import METRICS
from svfap.engine.results.tables import render, write_tables
from svfap.engine.runtime import distributed, plan
from svfap.engine.runtime.programs import tells_user
from svfap.engine.summarize import Row, crossval_table

STEM = "leaderboard"
FAILED = "failed.txt"  # in an encoder's folder: what did not work
PROTOCOLS = {
    "finetuned": "fine-tuned", "attentive": "attentive probe", "linear": "linear probe",
    "knn": "k-NN",
}  # fmt: skip
SECONDS = 3  # that speed is measured for, at least


@dataclass(kw_only=True)
class Entry:
    """An encoder."""

    name: str  # of its folder
    cost: dict  # content of cost.json; empty where it failed
    scores: dict[str, Row] = field(default_factory=dict)  # protocol -> pooled row
    # protocol -> the videos it was tested on
    ids: dict[str, frozenset] = field(default_factory=dict)
    failed: str = ""  # what did not work


@torch.inference_mode()
def measure(source: str, *, device: str = "auto", batch_size: int = 8) -> dict:
    """What an encoder costs: parameters, multiply-adds and how many clips it reads in a second.

    `source` as `models.weights.hub.locate` takes it; ValueError of weights that cannot be used.
    """
    workers = distributed.start(device)
    model, identity = load_frozen(source)
    cost = plan.clip_cost(model)
    build.place(model, workers.device).eval()
    set_up_levers(levers_of(workers.device), workers.device, model)
    precision = choose_precision("auto", workers.device, width=model.embed_dim)
    size = (batch_size, 3, model.num_frames, model.img_size, model.img_size)
    clip, passes, begun = torch.randn(size, device=workers.device), -1, 0.0
    while passes < 3 or time.perf_counter() - begun < SECONDS:
        with precision.autocast():
            model(clip)
        build.synchronise(workers.device)
        passes += 1
        begun = begun if passes else time.perf_counter()  # the first pass only warms up
    threads = torch.get_num_threads()
    kind = torch.cuda.get_device_name() if workers.device.type == "cuda" else "CPU"
    return {
        "source": identity.source,
        "model": models.encoder_name(identity.config["name"]),
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "clips_per_second": passes * batch_size / (time.perf_counter() - begun),
        "measured_on": f"{kind}, {precision}, batches of {batch_size}, {threads} threads",
        "clip": list(size[2:]),
    }


def read_board(folder: str | Path) -> list[Entry]:
    """All encoders below a folder, by name."""
    folders = sorted({path.parent for name in ("cost.json", FAILED)
                      for path in Path(folder).glob(f"*/{name}")})  # fmt: skip
    if not folders:
        raise FileNotFoundError(f"{folder} has no encoder; scripts/leaderboard.sh measures them")
    return [_entry(path) for path in folders]


def _entry(folder: Path) -> Entry:
    cost = folder / "cost.json"
    entry = Entry(name=folder.name, cost=read_json(cost) if cost.is_file() else {})
    if (folder / FAILED).is_file():
        entry.failed = " ".join((folder / FAILED).read_text().split())
    for protocol in PROTOCOLS:
        pattern = "finetuned/*" if protocol == "finetuned" else f"probes/*/{protocol}"
        runs = [path for path in sorted(folder.glob(pattern)) if (path / "pred.csv").is_file()]
        if runs:
            results = find_results(runs)
            entry.scores[protocol] = crossval_table(results).pooled
            entry.ids[protocol] = frozenset(
                video for result in results for video in result.predictions.ids
            )
    return entry


def headline(entries: Sequence[Entry]) -> list[str]:
    """The metrics that are shown."""
    known = {name for entry in entries for row in entry.scores.values() for name in row.values}
    return [name for name, metric in METRICS.items() if metric.headline and name in known]


def notes(entries: Sequence[Entry]) -> list[str]:
    """What a reader must know."""
    found = ["Scores in percent where they are shares, pooled over folds; 95 % bootstrap intervals "
             "over videos. Multiply-adds of one clip, forward."]  # fmt: skip
    devices = {entry.cost["measured_on"] for entry in entries if entry.cost}
    found += [f"Clips per second: {', '.join(sorted(devices))}."] if devices else []
    if len(devices) > 1:
        found.append("They were not measured alike: do not compare them.")
    for protocol, words in PROTOCOLS.items():
        ids = {entry.name: entry.ids[protocol] for entry in entries if protocol in entry.ids}
        most = max(ids.values(), key=len, default=frozenset())
        odd = [f"{name} ({len(own)})" for name, own in ids.items() if own != most]
        if odd:
            found.append(
                f"{words}: other videos than the {len(most)} of the rest: {', '.join(odd)}."
            )
    found += [f"{entry.name} failed: {entry.failed}" for entry in entries if entry.failed]
    return found


def board_table(entries: Sequence[Entry], table_format: str) -> str:
    """The table, best first: "md", "latex", or "csv" with a column for each end of an interval."""
    metrics, as_csv = headline(entries), table_format == "csv"
    header = ["encoder", "model", "parameters, M", "multiply-adds, G", "clips/s"]
    protocols = [name for name in PROTOCOLS if any(name in entry.scores for entry in entries)]
    for protocol in protocols:
        for name in metrics:
            title = f"{PROTOCOLS[protocol]} {METRICS[name].title}"
            header += [title, f"{title} low", f"{title} high"] if as_csv else [title]
    rows = []

    def rank(entry: Entry) -> list[float]:
        found = [entry.scores.get(protocol) for protocol in protocols]
        return [-row.values.get(metrics[0], -1.0) if row else 1.0 for row in found]

    for entry in sorted(entries, key=rank):
        cost = entry.cost
        row = [entry.name, cost.get("model", "-")]
        row += [f"{cost['parameters'] / 1e6:.2f}", f"{cost['multiply_adds'] / 1e9:.2f}",
                f"{cost['clips_per_second']:.2f}"] if cost else ["-"] * 3  # fmt: skip
        for protocol in protocols:
            for name in metrics:
                row += _cells(entry.scores.get(protocol), name, as_csv)
        rows.append(row)
    return render(header, rows, table_format, notes=notes(entries), num_text_columns=2)


def _cells(row: Row | None, name: str, as_csv: bool) -> list[str]:
    known = row is not None and name in row.values
    ends = row.intervals.get(name) if known else None
    values = [row.values[name], *(ends or ())] if known else []
    if as_csv:
        return [f"{value:.6f}" for value in values] + [""] * (3 - len(values))
    shown = [METRICS[name].text(value) for value in values]
    return [f"{shown[0]} [{shown[1]}, {shown[2]}]" if ends else shown[0] if shown else "-"]


def draw(entries: Sequence[Entry], path: str | Path) -> None:
    """A picture: accuracy against multiply-adds, a panel for each protocol."""
    name = headline(entries)[0]
    shown = [entry for entry in entries if entry.cost and entry.scores]
    protocols = [one for one in PROTOCOLS if any(one in entry.scores for entry in shown)]
    figure = new_figure(1.8 + 2.7 * len(protocols), 3.4)
    panels = figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
    scale, named = 100 if METRICS[name].in_percent else 1, set()
    for axis, protocol in zip(panels, protocols):
        for number, entry in enumerate(shown):
            if protocol not in entry.scores:
                continue
            row, x = entry.scores[protocol], entry.cost["multiply_adds"] / 1e9
            colour = OKABE_ITO[number % len(OKABE_ITO)]
            if interval := row.intervals.get(name):
                axis.plot([x, x], [scale * end for end in interval], color=colour, linewidth=1.4)
            axis.plot(x, scale * row.values[name], MARKERS[number % len(MARKERS)], color=colour,
                      markersize=7, label=None if entry.name in named else entry.name)  # fmt: skip
            named.add(entry.name)
        axis.set(xscale="log", title=PROTOCOLS[protocol], xlabel="multiply-adds per clip, G")
        axis.margins(x=0.15)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(METRICS[name].title + ", %" * METRICS[name].in_percent)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    save_figure(figure, path)


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser("python -m svfap.engine.leaderboard", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--measure", nargs=2, metavar=("NAME", "SOURCE"),
        help="only measure the cost of these weights, for DIR/NAME/cost.json",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="as for run_finetune.py")
    parser.add_argument("--batch_size", type=int, default=8, help="clips per pass, default 8")
    flags = parser.parse_args(arguments)
    if flags.measure:
        name, source = flags.measure
        cost = measure(source, device=flags.device, batch_size=flags.batch_size)
        (flags.folder / name).mkdir(parents=True, exist_ok=True)
        write_text(flags.folder / name / "cost.json", json.dumps(cost, indent=2) + "\n")
        return 0
    entries = read_board(flags.folder)
    print(write_tables(flags.folder / STEM, partial(board_table, entries), ("md", "csv")), end="")
    if any(entry.scores for entry in entries):
        draw(entries, flags.folder / f"{STEM}.png")
        print(f"\npicture: {flags.folder / STEM}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
