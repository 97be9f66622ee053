"""`python -m svfap.engine.side_by_side DIR`: systems against each other, several seeds each.

DIR holds runs as <system>/<condition>/<seed>, all tested on the same videos, for example
`svfap/10_percent/seed0`. A value is the mean over seeds. Its interval is a bootstrap that draws
seeds and videos (or subjects), the same for all systems, so that differences are paired.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from svfap.datasets.video.open_video import natural_key
from svfap.engine.report.plots import LINE_STYLES, MARKERS, OKABE_ITO, new_figure, save_figure
from svfap.engine.results.find import Result, align, find_results, subjects_of
from svfap.engine.results.intervals import (
    CONFIDENCE,
    NUM_RESAMPLES,
    add_bootstrap_flags,
    of_few,
    percentiles,
    resampled_metrics,
    two_sided_p,
)
from svfap.engine.results.metrics import METRICS
from svfap.engine.results.predictions import Predictions
from svfap.engine.results.tables import render, write_tables
from svfap.terminal import as_program

SYSTEM_NAMES = {"svfap": "SVFAP", "maedfer": "MAE-DFER", "videomae": "VideoMAE"}
FILE_STEM = "side_by_side"


@dataclass(frozen=True, kw_only=True)
class Score:
    """A system under one condition."""

    mean: dict[str, float]  # metric -> mean over seeds
    of_seeds: dict[str, tuple[float, ...]]  # metric -> value of each seed
    interval: dict[str, tuple[float, float]]  # metric -> (low, high) of the mean


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First system minus second under one condition: metric -> value, (low, high), bootstrap p."""

    mean: dict[str, float]
    interval: dict[str, tuple[float, float]]
    p: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """A comparison."""

    systems: tuple[str, ...]  # folder names, in the order of the table
    conditions: tuple[str, ...]  # likewise
    seeds: tuple[str, ...]  # likewise; every score has all of them
    scores: dict[tuple[str, str], Score]  # by (system, condition); runs that are missing leave gaps
    # by (first system, second system, condition)
    differences: dict[tuple[str, str, str], Difference]
    chance: float | None  # UAR of guessing; None in regression
    notes: tuple[str, ...]  # what needs saying


def read_runs(
    folder: str | Path, systems: Sequence[str] = (), conditions: Sequence[str] = ()
) -> dict[tuple[str, str], dict[str, Result]]:
    """Evaluated runs below <system>/<condition>/<seed>: (system, condition) -> seed -> result.

    Systems are in the order given, or by name.
    """
    folder = Path(folder)
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for path in sorted(folder.glob("*/*/*/pred.csv"), key=lambda p: natural_key(str(p))):
        system, condition, seed = path.parts[-4:-1]
        if (not systems or system in systems) and (not conditions or condition in conditions):
            [found.setdefault((system, condition), {})[seed]] = find_results([path.parent])
    missing = set(systems) - {system for system, _ in found}
    if missing or not found:
        raise FileNotFoundError(
            f"{folder} has no evaluated runs <system>/<condition>/<seed>/pred.csv"
            + (f" of {', '.join(sorted(missing))}" if missing else "")
        )

    order = systems or sorted({system for system, _ in found}, key=natural_key)
    return {cell: found[cell] for cell in sorted(found, key=lambda c: order.index(c[0]))}


def compare_systems(
    runs: dict[tuple[str, str], dict[str, Result]],
    subjects_csv: str | Path | None = None,
    *,
    conditions: Sequence[str] = (),
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> SideBySide:
    """Scores with intervals, and all differences.

    Seeds that some cell lacks are left out everywhere, so that all cells have the same; ValueError
    where none is left, or videos or labels differ. With a file of subjects the bootstrap draws
    subjects with all their videos.
    """
    seeds = [s for s in next(iter(runs.values())) if all(s in cell for cell in runs.values())]
    if not seeds:
        raise ValueError(
            "no seed has been evaluated for every system and condition: "
            + "; ".join(f"{'/'.join(cell)}: {', '.join(found)}" for cell, found in runs.items())
        )
    predictions = _aligned([cell[name] for cell in runs.values() for name in seeds])
    subjects = subjects_of(subjects_csv, predictions[0].ids) if subjects_csv else None
    resampled = resampled_metrics(predictions, subjects, num_resamples=num_resamples, seed=seed)
    # (R, S) how often each resample takes each seed, in shares
    random = np.random.Generator(np.random.Philox(seed + 1))
    draws = random.multinomial(len(seeds), [1 / len(seeds)] * len(seeds), num_resamples)
    draws = draws / len(seeds)
    scores, drawn = {}, {}
    for place, cell in enumerate(runs):
        part = slice(place * len(seeds), (place + 1) * len(seeds))
        scores[cell], drawn[cell] = _score(predictions[part], resampled[part], draws, subjects)
    known = {condition for _, condition in runs}
    ordered = tuple(name for name in conditions or sorted(known, key=natural_key) if name in known)
    return SideBySide(
        systems=tuple(dict.fromkeys(system for system, _ in runs)),
        conditions=ordered,
        seeds=tuple(seeds),
        scores=scores,
        differences=_differences(scores, drawn, ordered),
        chance=predictions[0].chance,
        notes=tuple(_notes(runs, seeds, predictions[0], subjects, num_resamples)),
    )


def score_rows(result: SideBySide, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the scores: per condition and metric mean and interval, in percent."""
    header = [
        "system",
        *(f"{METRICS[m].title}, {title(c)}" for c in result.conditions for m in metrics),
    ]
    rows = []
    for system in result.systems:
        cells = [result.scores.get((system, condition)) for condition in result.conditions]
        shown = [_shown(score, name) for score in cells for name in metrics]
        rows.append([title(system), *shown])
    return header, rows


def difference_rows(
    result: SideBySide, metrics: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the differences, in percent, with bootstrap p."""
    header = ["difference", "condition"]
    header += [f"{METRICS[m].title}{part}" for m in metrics for part in ("", ", p")]
    rows = []
    for (first, second, condition), found in result.differences.items():
        row = [f"{title(first)} - {title(second)}", title(condition)]
        for name in metrics:
            row += [_shown(found, name), f"{found.p[name]:.4f}"]
        rows.append(row)
    return header, rows


def format_side_by_side(result: SideBySide, table_format: str = "md") -> str:
    """Both tables as text, with notes ("md", "latex"), or a line per score and seed ("csv")."""
    if table_format == "csv":
        return render(*_csv_rows(result), "csv")
    metrics = _headline(result)
    scores = render(*score_rows(result, metrics), table_format, notes=result.notes)
    if not result.differences:
        return scores
    rows = difference_rows(result, metrics)
    return scores + "\n" + render(*rows, table_format, num_text_columns=2)


def draw(result: SideBySide, metric: str, path: str | Path) -> None:
    """A picture: per condition and system the mean, its interval, and each seed's value."""
    figure = new_figure(1.6 + 2.6 * len(result.conditions), 3.6)
    axis = figure.subplots()
    width = 0.7 / len(result.systems)
    for number, system in enumerate(result.systems):
        colour, marker = OKABE_ITO[number % len(OKABE_ITO)], MARKERS[number % len(MARKERS)]
        style = LINE_STYLES[number % len(LINE_STYLES)]
        known = [c for c in result.conditions if (system, c) in result.scores]
        for condition in known:
            place, score = result.conditions.index(condition), result.scores[system, condition]
            x = place + (number - (len(result.systems) - 1) / 2) * width
            interval = [100 * end for end in score.interval[metric]]
            axis.plot([x, x], interval, color=colour, linestyle=style, linewidth=1.8)
            axis.plot(x, 100 * score.mean[metric], marker, color=colour, markersize=7,
                      label=title(system) if condition == known[0] else None)  # fmt: skip
            of_seeds = 100 * np.array(score.of_seeds[metric])
            axis.plot([x + 0.28 * width] * len(of_seeds), of_seeds, "_", color=colour, alpha=0.8)
    if metric == "uar" and result.chance is not None:
        axis.axhline(100 * result.chance, color="black", linewidth=0.8, linestyle=":")
        axis.text(-0.48, 100 * result.chance, "chance", fontsize=8, va="bottom")
    axis.set_xticks(range(len(result.conditions)), [title(c) for c in result.conditions])
    axis.set(xlim=(-0.5, len(result.conditions) - 0.5), ylabel=f"{METRICS[metric].title}, %")
    axis.grid(axis="y", alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    save_figure(figure, path)


def title(name: str) -> str:
    """A folder name in words."""
    words = name.split("_")
    text = " ".join([SYSTEM_NAMES.get(words[0], words[0]), *words[1:]])
    return re.sub(r"(\d) percent\b", r"\1 %", text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m svfap.engine.side_by_side", description=__doc__
    )
    parser.add_argument("folder", metavar="DIR", help="with <system>/<condition>/<seed> in it")
    parser.add_argument("--systems", nargs="+", default=[], metavar="NAME", help="in this order")
    parser.add_argument(
        "--conditions", nargs="+", default=[], metavar="NAME", help="only these, in this order"
    )
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="default: DIR")
    parser.add_argument("--note", nargs="+", default=[], metavar="TEXT", help="below the table")
    add_bootstrap_flags(parser)
    flags = parser.parse_args(arguments)
    try:
        runs = read_runs(flags.folder, flags.systems, flags.conditions)
        result = compare_systems(
            runs, flags.subjects, conditions=flags.conditions, num_resamples=flags.num_resamples,
            seed=flags.seed,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        parser.error(str(error))
    output_dir = flags.output_dir or Path(flags.folder)

    def text_of(style: str) -> str:
        below = "".join(f"\n{text}\n" for text in flags.note) if style == "md" else ""
        return format_side_by_side(result, style) + below

    shown = write_tables(output_dir / FILE_STEM, text_of)
    draw(result, _headline(result)[0], output_dir / f"{FILE_STEM}.png")
    print(shown, end="")  # noqa: T201 - this is a command
    print(f"\npicture: {output_dir / FILE_STEM}.png")  # noqa: T201


def _aligned(results: Sequence[Result]) -> list[Predictions]:
    """Predictions of all runs, in the order of the first."""
    missing = [str(result.path) for result in results if result.predictions is None]
    if missing:
        raise ValueError(f"no predictions beside {', '.join(missing)}")
    first = results[0].predictions
    aligned = [first]
    for result in results[1:]:
        try:
            aligned.append(align(first, result.predictions)[1])
        except ValueError as error:
            raise ValueError(f"{results[0].path} and {result.path}: {error}") from error
    return aligned


def _score(
    predictions: Sequence[Predictions],
    resampled: Sequence[dict],
    draws: np.ndarray,
    subjects: Sequence[str] | None,
) -> tuple[Score, dict[str, np.ndarray]]:
    """The score of a cell, and metric -> (R,) its resampled means."""
    metrics = [own.metrics() for own in predictions]
    names = [name for name in resampled[0] if name in METRICS]
    of_seeds = {name: tuple(own[name] for own in metrics) for name in names}
    drawn = {
        name: (np.stack([own[name] for own in resampled], axis=1) * draws).sum(1) for name in names
    }
    intervals = {name: percentiles(values) for name, values in drawn.items()}
    # of each seed; where resamples of few videos cannot tell, the mean is no surer than these
    alone = [{name: percentiles(values) for name, values in own.items()} for own in resampled]
    few = [of_few(own, ends, subjects) for own, ends in zip(predictions, alone)]
    for name in names:
        if any(found.get(name) for found in few):
            low, high = np.mean([f.get(name) or a[name] for f, a in zip(few, alone)], axis=0)
            intervals[name] = min(low, intervals[name][0]), max(high, intervals[name][1])
    score = Score(
        mean={name: float(np.mean(values)) for name, values in of_seeds.items()},
        of_seeds=of_seeds,
        interval=intervals,
    )
    return score, drawn


def _differences(
    scores: dict, drawn: dict, conditions: Sequence[str]
) -> dict[tuple[str, str, str], Difference]:
    """Every system against every later one, condition by condition."""
    systems = list(dict.fromkeys(system for system, _ in scores))
    found = {}
    for condition in conditions:
        for first, second in combinations(systems, 2):
            one, two = (first, condition), (second, condition)
            if one not in scores or two not in scores:
                continue
            resampled = {name: drawn[one][name] - drawn[two][name] for name in drawn[one]}
            found[first, second, condition] = Difference(
                mean={name: scores[one].mean[name] - scores[two].mean[name] for name in resampled},
                interval={name: percentiles(values) for name, values in resampled.items()},
                p={name: two_sided_p(values) for name, values in resampled.items()},
            )
    return found


def _headline(result: SideBySide) -> list[str]:
    known = next(iter(result.scores.values())).mean
    return [name for name, metric in METRICS.items() if metric.headline and name in known]


def _shown(found: Score | Difference | None, name: str) -> str:
    if found is None:
        return "-"
    low, high = found.interval[name]
    return f"{100 * found.mean[name]:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def _csv_rows(result: SideBySide) -> tuple[list[str], list[list[str]]]:
    """A line per system, condition and metric, in fractions."""
    header = ["system", "condition", "metric", "mean", "low", "high", *result.seeds]
    rows = []
    for (system, condition), score in result.scores.items():
        for name, mean in score.mean.items():
            numbers = [mean, *score.interval[name], *score.of_seeds[name]]
            rows.append([system, condition, name, *(f"{number:.6f}" for number in numbers)])
    return header, rows


def _notes(runs, seeds, predictions: Predictions, subjects, num_resamples: int) -> list[str]:
    unit = f"{len(set(subjects))} subjects with all their videos" if subjects else "videos"
    drawn = f"draws {unit} and the {len(seeds)} seeds" if len(seeds) > 1 else f"draws {unit}"
    notes = [
        f"Scores times 100: mean over {len(seeds)} seeds, of {len(predictions)} test videos.",
        f"Intervals: {CONFIDENCE:.0%}, percentile bootstrap, {num_resamples} resamples; each "
        f"{drawn} with replacement, the same for all systems. Differences are paired; p is "
        "two-sided and not corrected for the number of comparisons.",
    ]
    if len(seeds) < 5:
        notes.append(f"{len(seeds)} seeds say little about how much seeds matter: intervals are "
                     "rather too narrow than too wide.")  # fmt: skip
    for what in ("weights", "split"):
        found: dict[str, set[str]] = {}  # of probes the method, not the encoder's file
        for (_, condition), cell in runs.items():
            values = {str(getattr(cell[seed], what)).partition(" of ")[0] for seed in seeds}
            found.setdefault(condition, set()).update(values)
        listed = ", ".join(sorted(set().union(*found.values())))
        notes.append(
            f"{what.capitalize()}: {listed}." if all(len(values) == 1 for values in found.values())
            else f"Caution: the runs differ in their {what}: {listed}."
        )  # fmt: skip
    left_out = {seed for cell in runs.values() for seed in cell} - set(seeds)
    if left_out:
        listed = ", ".join(sorted(left_out, key=natural_key))
        notes.append(f"Caution: not evaluated everywhere and left out: {listed}.")
    return notes


if __name__ == "__main__":
    as_program()
    main()
