"""`python -m svfap.engine.report RUN`: a self-contained report.html of a run or a cross-validation.

The page needs no network. Every figure is also written as PNG and PDF into `figures/`.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from svfap.datasets.files import read_arrays, read_json, write_text
from svfap.engine.compare import compare
from svfap.engine.report import html as html
from svfap.engine.report import plots
from svfap.engine.report import videos as report_videos
from svfap.engine.report.run import Run, configuration_section, facts_section
from svfap.engine.results.chance import AT_THE_MEAN, chance
from svfap.engine.results.features import MIN_EMBEDDED, tsne
from svfap.engine.results.find import ERRORS_FILE, Result, find_results, pool, subjects_of
from svfap.engine.results.intervals import bootstrap_intervals
from svfap.engine.results.metrics import METRICS, REGRESSION_METRICS
from svfap.engine.results.predictions import Predictions
from svfap.engine.summarize import Summary, crossval_table, summary_cells

logger = logging.getLogger(__name__)

RUN_FILES = ("config.json", "log.jsonl", "pred.csv", "metrics.json")
MAX_RECONSTRUCTIONS = 8
MAX_EMBEDDED = 2000
RECONSTRUCTION_PX = 1100


def write_report(
    folder: str | Path,
    subjects_csv: str | Path | None = None,
    beside: str | Path | None = None,
) -> Path:
    """Write `report.html` and `figures/` into a run directory or a folder of fold runs.

    Args:
        folder: one run (pre-training, fine-tuning or only evaluated), or a directory whose
            sub-directories are the folds of a cross-validation.
        subjects_csv: subject of each video (`engine.results.subjects_of`), for the intervals.
        beside: another run or cross-validation of the same videos, to be compared with.

    Returns:
        The page.

    Raises:
        FileNotFoundError: nothing to report there.
        ValueError: files that contradict each other.
    """
    folder = Path(folder)
    is_run = any((folder / name).is_file() for name in RUN_FILES)
    evaluated = not is_run or any((folder / name).is_file() for name in RUN_FILES[2:])
    results = find_results([folder]) if evaluated else []
    folders = [folder] if is_run else [result.path.parent for result in results]
    runs = [Run.read(path) for path in folders]
    data = [
        report_videos.read_data(run.flags, run.config.get("resolved", {}), run.folder)
        for run in runs
    ]
    names = [run.folder.resolve().name for run in runs]
    classes = runs[0].config.get("resolved", {}).get("class_names")
    figures = Page(folder=folder / "figures", data=data, subjects_csv=subjects_csv)
    sections = [
        *(_evaluation(results, figures, beside) if results else [_learning(runs[0])]),
        _curves(runs, figures),
        report_videos.data_section(data, names, classes),
        _features(runs[0], figures) if is_run else "",
        _reconstructions(runs[0]),
        _views(runs[0]),
        facts_section(runs),
        configuration_section(runs[0]),
    ]
    path = folder / "report.html"
    write_text(path, html.page(*_title(folder, runs, results), sections))
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m svfap.engine.report", description=__doc__)
    parser.add_argument("run", nargs="+", help="run directory, or folder of fold runs")
    parser.add_argument(
        "--subjects", metavar="CSV", help="columns video_name and subject, for the intervals"
    )
    parser.add_argument("--beside", metavar="RUN", help="compare with this run of the same videos")
    flags = parser.parse_args(arguments)
    for run in flags.run:
        try:
            print(write_report(run, flags.subjects, flags.beside))  # noqa: T201 - this is a command
        except (ValueError, OSError) as error:
            parser.error(str(error))


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the sections of predictions are made with."""

    folder: Path  # each figure is written there as PNG and PDF
    data: Sequence[dict]  # of `engine.report.videos.read_data`, for each run
    subjects_csv: str | Path | None = None  # subject of each video, for intervals

    def show(self, name: str, figure: Figure, alt: str, caption: str = "") -> str:
        """A figure, embedded as PNG."""
        self.folder.mkdir(exist_ok=True)
        name = "".join(letter if letter.isalnum() else "_" for letter in name)
        for suffix in (".png", ".pdf"):
            plots.save_figure(figure, self.folder / f"{name}{suffix}")
        data = (self.folder / f"{name}.png").read_bytes()
        return html.picture(data, "png", alt, caption)

    def intervals(self, pooled: Predictions) -> dict[str, tuple[float, float]]:
        """Of all metrics; of subjects where they are known."""
        subjects = None if self.subjects_csv is None else subjects_of(self.subjects_csv, pooled.ids)
        return bootstrap_intervals(pooled, subjects)

    def classes(self, pooled: Predictions, head: str = "") -> list[str]:
        """Sections on a class of each video: confusion, recall, and what is taken for what."""
        metrics = pooled.metrics()
        names = metrics["class_names"]
        intervals = self.intervals(pooled)
        per_class = [intervals.get(f"recall_{index}") for index in range(len(names))]
        many = len(names) > plots.MAX_NAMED
        matrices = [
            self.show(
                f"{head}_confusion_{panel}".lstrip("_"),
                plots.confusion_figure(metrics, [panel]),
                f"Confusion matrix, {panel}",
            )
            for panel in ("counts", "recall")
        ]
        recalls = metrics["per_class_recall"]
        figure = plots.recall_figure(names, recalls, per_class)
        drawn = self.show(
            f"{head}_recall".lstrip("_"), figure, "Recall of each class with 95 % intervals"
        )
        totals = np.sum(metrics["confusion_matrix"], axis=1)
        rows = [
            [name, str(total), _percent(recall), *map(_percent, interval or (None, None))]
            for name, total, recall, interval in zip(names, totals, recalls, per_class)
        ]
        listed = html.table(["class", "videos", "recall %", "low", "high"], rows)
        listed = html.fold_away("As a table", listed) if many else listed
        title = f"{head}: " if head else ""
        kind = "figures wide" if many else "figures"
        return [
            html.section(f"{title}Confusion matrix", html.figures(matrices, kind)),
            html.section(f"{title}Recall per class", html.figures([drawn, listed])),
            report_videos.confused_section(pooled, metrics, self.data, title),
        ]

    def numbers(self, pooled: Predictions) -> list[str]:
        """A section on numbers: metrics of each dimension, and predicted over true values."""
        per_dimension = pooled.metrics()["per_dimension"]
        rows = [
            [name, *(f"{scores[key]:.3f}" for key in REGRESSION_METRICS)]
            for name, scores in per_dimension.items()
        ]
        header = ["dimension", *(METRICS[key].title for key in REGRESSION_METRICS)]
        listed = html.table(header, rows)
        drawn = []
        for column, name in enumerate(per_dimension):
            pair = pooled.labels[:, column], pooled.predicted[:, column]
            figure = plots.agreement_figure(*pair, name)
            alt = f"Predicted over true {name}; the line is agreement"
            drawn.append(self.show(f"agreement_{name}", figure, alt))
        return [html.section("Dimensions", listed, html.figures(drawn))]


def _title(folder: Path, runs: Sequence[Run], results: Sequence[Result]) -> tuple[str, str]:
    flags = runs[0].flags
    name = folder.resolve().name
    what = " on ".join(str(flags[k]) for k in ("model", "data_set") if flags.get(k))
    kind = f"{len(results)} folds" if len(results) > 1 else "evaluation" if results else "training"
    return f"{what} · {name}" if what else name, f"Report of {kind}"


def _evaluation(results: Sequence[Result], page: Page, beside) -> list[str]:
    summary = crossval_table(results, page.subjects_csv)
    predictions = pool(results) if all(r.predictions is not None for r in results) else None
    first, found = _headline(predictions, page) if predictions else ([], "")
    cautions = [
        html.paragraph(note, "caution")
        for note in summary.notes
        if not note.startswith(("Intervals", "±")) and note != found
    ]
    remarks = [
        html.paragraph(note, "soft")
        for note in summary.notes
        if note.startswith(("Intervals", "±"))
    ]
    header, cells = summary_cells(summary)
    # With one label per video micro F1 is WAR: not worth the room.
    shown = [index for index, title in enumerate(header) if title != METRICS["micro_f1"].title]
    header, *cells = [[row[index] for index in shown] for row in (header, *cells)]
    sections = [
        html.section("Result", *first, html.cards(_cards(summary)), *cautions, *remarks),
        _comparison(results, beside, page.subjects_csv) if beside else "",
        html.section("Folds", html.table(header, cells)) if len(results) > 1 else "",
    ]
    return sections + (predictions.sections(page) if predictions else [])


def _headline(pooled: Predictions, page: Page) -> tuple[list[str], str]:
    """The result in a sentence, beside chance, and what to look at first; and that sentence."""
    found = chance(pooled, page.intervals(pooled))
    if found is None:
        return [], ""
    said = [html.paragraph(found.sentence, "headline")]
    metrics = pooled.metrics()
    recalls, dimensions = metrics.get("per_class_recall"), metrics.get("per_dimension", {})
    if not recalls and len(dimensions) > 1:
        worst = min(dimensions, key=lambda name: dimensions[name]["ccc"])
        lowest = f"its CCC, {dimensions[worst]['ccc']:.3f}, is the lowest"
        said.append(html.paragraph(f"Look first at {worst}: {lowest}."))
    if not recalls or found.value == 1:
        return said, found.sentence
    counts, names = np.array(metrics["confusion_matrix"]), metrics["class_names"]
    known = [index for index, recall in enumerate(recalls) if recall is not None]
    worst = min(known, key=lambda index: recalls[index])
    wrong = counts * (1 - np.eye(len(names), dtype=int))
    look = f"Look first at {names[worst]}: {100 * recalls[worst]:.0f} % of its videos are right"
    if wrong[worst].any():
        other = int(wrong[worst].argmax())
        look += f", {wrong[worst, other]} of {counts[worst].sum()} are taken for {names[other]}"
    if not counts.sum(axis=0).all():
        never = [name for name, total in zip(names, counts.sum(axis=0)) if not total]
        look += f". Never answered: {', '.join(never)}"
    return [*said, html.paragraph(f"{look}.")], found.sentence


def _learning(run: Run) -> str:
    """What pre-training came to."""
    last = run.log[-1] if run.log else {}
    relative = last.get("relative_loss")
    items = [("epochs", str(len(run.log)), "")] if run.log else []
    for key, title, remark in (
        ("train_loss", "loss", "last epoch"),
        ("relative_loss", "loss / that of the mean", "1 is a prediction of the mean alone"),
        ("feature_rank", "effective rank of features", "near 1: they have collapsed"),
        ("feature_variance", "variance of features between clips", "share of the total"),
    ):
        if last.get(key) is not None:
            items.append((title, f"{last[key]:.3f}", remark))
    first = []
    if relative is not None:
        said = (
            f"Hidden parts are predicted with {100 * relative:.0f} % of the error of a flat guess"
        )
        said += "." if relative < AT_THE_MEAN else ": nothing is learnt."
        first = [html.paragraph(said, "headline")]
    return html.section("Result", *first, html.cards(items))


def _comparison(results: Sequence[Result], beside, subjects_csv) -> str:
    """Differences to another run on the videos of both."""
    test = compare(results, find_results([beside]), subjects_csv, common=True)
    intervals = {k: ends for k, ends in test.intervals.items() if k in METRICS and k != "micro_f1"}
    rows = []
    for name, (low, high) in intervals.items():
        show = METRICS[name].text
        own, other = test.first[name], test.second[name]
        p = f"{test.p_values[name]:.4f}"
        difference = f"{show(own - other)} [{show(low)}, {show(high)}]"
        rows.append([METRICS[name].title, show(own), show(other), difference, p])
    name = Path(beside).resolve().name
    header = ["metric", "this run", name, "difference [95 %]", "p"]
    title, own, other, difference, _ = rows[0]
    low, high = next(iter(intervals.values()))
    verdict = "which may be chance" if low <= 0 <= high else "beyond chance"
    first = f"{title}: {own} here, {other} in {name}; difference {difference}, {verdict}."
    said = "Paired bootstrap over the videos of both."
    listed = html.table(header, rows)
    return html.section("Comparison", html.paragraph(first), listed, html.paragraph(said, "soft"))


def _cards(summary: Summary) -> list[tuple[str, str, str]]:
    """Headline scores."""
    row = summary.pooled

    def show(name: str, value: float) -> str:
        return METRICS[name].text(value, 1) + " %" * METRICS[name].in_percent

    items = []
    for name, value in row.values.items():
        if name == "micro_f1":
            continue  # with one label per video it is WAR
        low, high = row.intervals.get(name, (None, None))
        remark = "" if low is None else f"95 %: {show(name, low)} to {show(name, high)}"
        items.append((METRICS[name].title, show(name, value), remark))
    videos = "" if row.num_videos is None else str(row.num_videos)
    return [*items, ("videos", videos or "-", f"{row.weights} weights, split {row.split}")]


def _curves(runs: Sequence[Run], page: Page) -> str:
    drawn = []
    for run in runs:
        own = run.folder.resolve().name
        for title, _, _ in plots.curve_panels(run.log):
            name = title.lower().replace(" ", "_") + (f"_{own}" if len(runs) > 1 else "")
            figure = plots.curves_figure(run.log, [title], **plots.curve_facts(run.config))
            caption = own if len(runs) > 1 else ""
            drawn.append(page.show(name, figure, f"{title} over epochs", caption))
    if len(runs) > 1:
        return html.section("Curves", html.fold_away("Curves of each fold", html.figures(drawn)))
    return html.section("Curves", html.figures(drawn))


def _features(run: Run, page: Page) -> str:
    """t-SNE of the pooled features, where evaluation saved them."""
    path = run.folder / "features.npz"
    if not path.is_file():
        return ""
    features, labels = read_arrays(path, ["feature", "label"]).values()
    step = max(1, len(features) // MAX_EMBEDDED)
    features, labels = features[::step], labels[::step]
    if len(features) < MIN_EMBEDDED or labels.ndim != 1:
        return ""
    points, perplexity = tsne(features)
    names = run.config.get("resolved", {}).get("class_names")
    names = names or [str(index) for index in range(int(labels.max()) + 1)]
    figure = plots.scatter_figure(points, {"": [names[label] for label in labels]})
    caption = f"t-SNE of {len(points)} videos, perplexity {perplexity}; distances between "
    caption += "groups mean nothing."
    shown = page.show("features", figure, "t-SNE of features", caption)
    return html.section("Features", html.figures([shown]))


def _reconstructions(run: Run) -> str:
    """The best first, as far as errors are known; all but two fold away."""
    folder = run.folder / "reconstructions"
    errors = read_json(folder / ERRORS_FILE) if (folder / ERRORS_FILE).is_file() else {}
    files = sorted(folder.glob("*.png"))[:MAX_RECONSTRUCTIONS]
    explained = files[:1]  # the first that was drawn says how the rows are made
    files = explained + sorted(files[1:], key=lambda file: errors.get(file.name, 0))
    shown = [
        html.photo(file, RECONSTRUCTION_PX, f"reconstruction {file.stem}", _error(errors, file))
        for file in files
    ]
    worse = sum(error >= 1 for error in errors.values())
    return html.section(
        "Reconstructions",
        html.paragraph(f"{worse} of {len(errors)} are worse than the mean.", "caution")
        if worse
        else "",
        html.figures(shown[:2], "figures wide"),
        html.fold_away(f"{len(shown) - 2} more", html.figures(shown[2:], "figures wide"))
        if shown[2:]
        else "",
    )


def _error(errors: dict, file: Path) -> str:
    error = errors.get(file.name)
    return "" if error is None else f"{error:.2f} of the error of the mean"


def _views(run: Run) -> str:
    """What contrastive learning compares."""
    path = run.folder / "views.png"
    if not path.is_file():
        return ""
    shown = [html.photo(path, RECONSTRUCTION_PX, "views of some videos")]
    return html.section("Views that are compared", html.figures(shown, "figures wide"))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
