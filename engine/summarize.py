"""`python -m svfap.engine.summarize`: one table over the folds of a cross-validation.

Pooled scores are computed once from the predictions of all folds, as the SVFAP paper does;
the mean of the folds' own scores stands beside them because others report that. The two differ
where folds differ in size or in their share of rare classes.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from svfap.datasets.catalog import DatasetSpec, get_spec
from svfap.engine.results.chance import chance
from svfap.engine.results.find import Result, find_results, pool, subjects_of
from svfap.engine.results.intervals import (
    CONFIDENCE,
    NUM_RESAMPLES,
    add_bootstrap_flags,
    bootstrap_intervals,
)
from svfap.engine.results.metrics import METRICS
from svfap.engine.results.tables import add_output_flags, emit, render
from svfap.terminal import as_program

POOLED = "pooled"
PART = ": "  # between the name of a row and the head or dimension that it is about
MEAN = "mean of folds"
SEEDS = "mean of seeds"
FOLDS_NOTE = "± is the standard deviation over folds, not an error of the pooled score."


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str  # of the fold, `POOLED` or `MEAN`
    num_videos: int | None  # how many videos; None where not stated
    values: dict[str, float]  # metric -> value, fractions 0..1
    intervals: dict[str, tuple[float, float]]  # metric -> (low, high); empty where unknown
    deviations: dict[str, float]  # metric -> standard deviation over folds; only for `MEAN`
    weights: str  # which weights gave the values
    split: str  # which annotation file they were computed on
    is_part: bool = False  # about one head or dimension of the row above


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Rows of a cross-validation and what needs saying about them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def pooled(self) -> Row:
        """The row of all folds together, else of their mean or of the only one."""
        whole = [row for row in self.rows if not row.is_part]
        return next((row for row in whole if row.name == POOLED), whole[-1])


def crossval_table(
    results: Sequence[Result],
    subjects_csv: str | Path | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Summary:
    """Scores per fold, pooled, and the mean of folds.

    Args:
        results: the folds, from `engine.results.find_results`. Pooled scores and intervals need
            their predictions; without them only the mean of folds is given.
        subjects_csv: subject of each video (`engine.results.subjects_of`); the intervals then
            resample subjects instead of videos.

    Returns:
        A row per fold, then `POOLED` and, where there are several, a row for each of its heads or
        dimensions, then `MEAN` where there are two folds or more.

    Raises:
        ValueError: folds that cannot be pooled, or subjects that do not cover the videos.
    """
    subjects: dict[str, str] = {}
    complete = all(result.predictions is not None for result in results)
    pooled = pool(results) if complete else None
    if subjects_csv is not None:
        if pooled is None:
            raise ValueError("--subjects needs pred.csv files, not only metrics.json.")
        subjects = dict(zip(pooled.ids, subjects_of(subjects_csv, pooled.ids)))

    def intervals(predictions) -> dict[str, tuple[float, float]]:
        shown = [subjects[video] for video in predictions.ids] if subjects else None
        return bootstrap_intervals(predictions, shown, num_resamples=num_resamples, seed=seed)

    rows = []
    for result in results:
        own = intervals(result.predictions) if complete and len(results) > 1 else {}
        rows.append(_row(result.name, result.metrics, own, [result]))
    notes = _notes(results, bool(subjects), num_resamples if complete else 0)
    if pooled is not None:
        metrics = pooled.metrics()
        name = POOLED if len(results) > 1 else results[0].name
        pooled_row = _row(name, metrics, intervals(pooled), results)
        beside = chance(pooled, pooled_row.intervals)
        if beside and not beside.better:
            notes.append(beside.sentence)
        rows = [*rows, pooled_row] if len(results) > 1 else [pooled_row]
        rows += [
            _row(f"{name}{PART}{part}", own.metrics(), intervals(own), results, is_part=True)
            for part, own in pooled.parts().items()
        ]
        if metrics.get("absent_classes"):
            notes.append(f"No videos of {', '.join(metrics['absent_classes'])}: not part of UAR.")
    if len(results) > 1:
        rows.append(_mean_row(MEAN, [result.metrics for result in results], results))
    return Summary(rows=tuple(rows), notes=tuple(notes))


def beside_published(summary: Summary, spec: DatasetSpec) -> Summary:
    """The same with a row for each published result of a data set."""
    if not spec.published:
        raise ValueError(f"--published {spec.name}: no published results are known of it")
    rows = [
        Row(name=method, num_videos=None, values={"uar": uar / 100, "war": war / 100}, intervals={},
            deviations={}, weights="as published", split="test", is_part=True)
        for method, (uar, war) in spec.published.items()
    ]  # fmt: skip
    return Summary(rows=(*summary.rows, *rows), notes=summary.notes)


def seeds_table(seeds: Mapping[str, Sequence[Result]], subjects_csv=None, **options) -> Summary:
    """Scores per seed, pooled over its folds, and the mean of seeds; the rest as `crossval_table`.

    A row per seed with its interval, then `SEEDS` with deviations where there are several.

    Raises:
        ValueError: as in `crossval_table`.
    """
    rows, notes = [], []
    for name, results in seeds.items():
        found = crossval_table(results, subjects_csv, **options)
        rows.append(replace(found.pooled, name=name, deviations={}))
        notes += [note for note in found.notes if note != FOLDS_NOTE]
    if len(rows) > 1:
        rows.append(_mean_row(SEEDS, [row.values for row in rows], rows))
        notes.append("± is the standard deviation over seeds, intervals are of one seed's videos.")
    return Summary(rows=tuple(rows), notes=tuple(dict.fromkeys(notes)))


def format_summary(summary: Summary, table_format: str = "md") -> str:
    """Text of a summary.

    "md" and "latex": percent with two decimals (of numbers: three decimals, no percent), the
    interval in the pooled row, deviations over folds beside their mean. "csv": fractions with six
    decimals, all intervals in columns <metric>_low and _high.
    """
    if table_format == "csv":
        return render(*_csv_cells(summary), "csv")
    header, cells = summary_cells(summary)
    notes = [*unit_notes(_metrics(summary)), *summary.notes]
    return render(header, cells, table_format, notes=notes)


def summary_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a summary as text for people, as in `format_summary`'s "md"."""
    metrics = _metrics(summary)
    whole = sum(not row.is_part for row in summary.rows)
    of_seeds = summary.rows[-1].name == SEEDS
    cells = []
    for row in summary.rows:
        with_interval = row.is_part or row.name == POOLED or whole == 1 or of_seeds
        scores = [_cell(row, name, with_interval) for name in metrics]
        videos = "" if row.num_videos is None else str(row.num_videos)
        cells.append([row.name, videos, *scores, row.weights, row.split])
    return ["fold", "videos", *(METRICS[name].title for name in metrics), "weights", "split"], cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m svfap.engine.summarize", description=__doc__)
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="RUN_OR_PRED_CSV",
        help="run directory, pred.csv, metrics.json, or a directory of run directories",
    )
    parser.add_argument(
        "--published", metavar="DATA_SET", help="also what the methods' authors state for it"
    )
    add_output_flags(parser)
    add_bootstrap_flags(parser)
    flags = parser.parse_args(arguments)
    try:
        summary = crossval_table(
            find_results(flags.sources),
            flags.subjects,
            num_resamples=flags.num_resamples,
            seed=flags.seed,
        )
        if flags.published:
            summary = beside_published(summary, get_spec(flags.published))
        text = format_summary(summary, flags.format)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    emit(text, flags.output)


def unit_notes(metrics: Iterable[str]) -> list[str]:
    """Which of these scores the tables show in percent: those of classes; empty if none is one."""
    metrics = list(metrics)
    in_percent = [METRICS[name].title for name in metrics if METRICS[name].in_percent]
    if not in_percent:
        return []
    which = "Scores" if len(in_percent) == len(metrics) else ", ".join(in_percent)
    return [f"{which} in percent."]


def _row(
    name: str, metrics: dict, intervals: dict, results: Sequence[Result], *, is_part: bool = False
) -> Row:
    return Row(
        name=name,
        num_videos=metrics.get("num_videos"),
        values={key: metrics[key] for key in METRICS if metrics.get(key) is not None},
        intervals={key: value for key, value in intervals.items() if key in METRICS},
        deviations={},
        weights=_joined(result.weights for result in results),
        split=_joined(result.split for result in results),
        is_part=is_part,
    )


def _mean_row(name: str, scores: Sequence[Mapping], of: Sequence[Result | Row]) -> Row:
    columns = {
        metric: [own[metric] for own in scores]
        for metric in METRICS
        if all(own.get(metric) is not None for own in scores)
    }
    return Row(
        name=name,
        num_videos=None,
        values={metric: float(np.mean(values)) for metric, values in columns.items()},
        intervals={},
        deviations={metric: float(np.std(values, ddof=1)) for metric, values in columns.items()},
        weights=_joined(one.weights for one in of),
        split=_joined(one.split for one in of),
    )


def _notes(results: Sequence[Result], by_subject: bool, num_resamples: int) -> list[str]:
    notes = []
    if num_resamples:
        of_frames = any(r.predictions is not None and r.predictions.frames is not None
                        for r in results)  # fmt: skip
        unit = "videos with all their frames" if of_frames else "videos"
        unit = "subjects with all their videos" if by_subject else unit
        notes.append(
            f"Intervals: {CONFIDENCE:.0%}, percentile bootstrap over {unit}, "
            f"{num_resamples} resamples."
        )
    else:
        notes.append("No pred.csv for every fold: neither pooled scores nor intervals.")
    if len(results) > 1:
        notes.append(FOLDS_NOTE)
    for what in ("weights", "split"):
        if len({getattr(result, what) for result in results}) > 1:
            notes.append(f"Caution: the folds differ in their {what}.")
    for result in results:
        notes += [f"{result.name}: {note}" for note in result.notes]
    return notes


def _cell(row: Row, name: str, with_interval: bool) -> str:
    if name not in row.values:
        return "-"
    show = METRICS[name].text
    text = show(row.values[name])
    if with_interval and name in row.intervals:
        low, high = row.intervals[name]
        text += f" [{show(low)}, {show(high)}]"
    if name in row.deviations:
        text += f" ± {show(row.deviations[name])}"
    return text


def _metrics(summary: Summary) -> list[str]:
    return [name for name in METRICS if any(name in row.values for row in summary.rows)]


def _csv_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    metrics = _metrics(summary)
    columns = [f"{name}{suffix}" for name in metrics for suffix in ("", "_low", "_high")]
    cells = []
    for row in summary.rows:
        numbers = []
        for name in metrics:
            low_high = row.intervals.get(name, (None, None))
            numbers += [row.values.get(name), *low_high]
        texts = ["" if number is None else f"{number:.6f}" for number in numbers]
        videos = "" if row.num_videos is None else str(row.num_videos)
        cells.append([row.name, videos, *texts, row.weights, row.split])
    return ["fold", "videos", *columns, "weights", "split"], cells


def _joined(values) -> str:
    return " / ".join(dict.fromkeys(values))


if __name__ == "__main__":
    as_program()
    main()
