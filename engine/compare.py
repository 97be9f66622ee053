"""`python -m svfap.engine.compare A B`: are two systems different on the same videos?

A and B are each a run directory, a `pred.csv`, or a directory of fold runs, which is pooled. Every
score is compared by a paired bootstrap, which resamples videos (or subjects) and takes both
systems' predictions for each; WAR also by McNemar's exact test.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from svfap.engine.results.find import Result, align, find_results, pool, subjects_of
from svfap.engine.results.intervals import (
    CONFIDENCE,
    NUM_RESAMPLES,
    PairedTest,
    add_bootstrap_flags,
    paired_test,
)
from svfap.engine.results.metrics import METRICS
from svfap.engine.results.predictions import Predictions
from svfap.engine.results.tables import add_output_flags, emit, render
from svfap.engine.summarize import unit_notes
from svfap.terminal import as_program


def compare(
    first: Sequence[Result],
    second: Sequence[Result],
    subjects_csv: str | Path | None = None,
    *,
    common: bool = False,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> PairedTest:
    """Compare two systems on the same videos; folds are pooled and may be cut differently.

    Args:
        first: results of one system, from `engine.results.find_results`.
        subjects_csv: subject of each video; the bootstrap then resamples subjects.
        common: leave out what only one of them has; else ValueError says what that is.
    """
    one, two = pool(first), pool(second)
    if common:
        one, two = _those_of(one, two), _those_of(two, one)
    one, two = align(one, two)
    subjects = None if subjects_csv is None else subjects_of(subjects_csv, one.ids)
    return paired_test(one, two, subjects, num_resamples=num_resamples, seed=seed)


def _those_of(one: Predictions, other: Predictions) -> Predictions:
    """The rows that the other has as well; ValueError where there are none."""
    known = set(other.keys)
    rows = [row for row, key in enumerate(one.keys) if key in known]
    if not rows:
        raise ValueError(f"the two have no videos in common: {one.ids[0]} ... {other.ids[0]} ...")
    return one.taken(np.array(rows))


def format_comparison(test: PairedTest, table_format: str = "md", notes: Sequence[str] = ()) -> str:
    """A row per score: both values, difference A - B, its interval, p of bootstrap and McNemar.

    Scores of classes are in percent but in "csv", where all are as they are; McNemar's test is in
    the row of WAR.
    """
    header = ["score", "A", "B", "A - B", "low", "high", "bootstrap p"]
    with_mcnemar = test.mcnemar_p is not None
    header += ["McNemar p"] * with_mcnemar
    rows = []
    for name, value in test.first.items():
        in_percent = METRICS[name].in_percent and table_format != "csv"
        scale, digits = (100, 2) if in_percent else (1, 6 if table_format == "csv" else 3)
        low, high = test.intervals[name]
        numbers = [value, test.second[name], value - test.second[name], low, high]
        shown = [f"{scale * number:.{digits}f}" for number in numbers]
        rows.append([METRICS[name].title, *shown, _p(test.p_values[name])])
        if with_mcnemar:
            rows[-1].append(_p(test.mcnemar_p if name == "war" else None))
    return render(header, rows, table_format, notes=[*_explain(test), *notes])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m svfap.engine.compare", description=__doc__)
    parser.add_argument("first", metavar="A", help="run directory, pred.csv or folder of folds")
    parser.add_argument("second", metavar="B", help="the same for the other system")
    parser.add_argument(
        "--common",
        action="store_true",
        help="on the videos that both have, as while a cross-validation is unfinished",
    )
    add_output_flags(parser)
    add_bootstrap_flags(parser)
    flags = parser.parse_args(arguments)
    try:
        sides = [find_results([flags.first]), find_results([flags.second])]
        test = compare(
            *sides, flags.subjects, common=flags.common, num_resamples=flags.num_resamples,
            seed=flags.seed,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        parser.error(str(error))
    notes = [
        _origin("A", flags.first, sides[0]),
        _origin("B", flags.second, sides[1]),
        f"Bootstrap over {'subjects' if flags.subjects else 'videos'}, "
        f"{flags.num_resamples} resamples.",
        *([_common(*sides)] if flags.common else []),
    ]
    emit(format_comparison(test, flags.format, notes), flags.output)


def _origin(letter: str, source: str, results: Sequence[Result]) -> str:
    weights = " / ".join(dict.fromkeys(result.weights for result in results))
    split = " / ".join(dict.fromkeys(result.split for result in results))
    predictions: list[Predictions] = [r.predictions for r in results if r.predictions is not None]
    num_videos = sum(len(set(own.ids)) for own in predictions)
    frames = sum(len(own) for own in predictions if own.frames is not None)
    of_frames = f", {frames} frames" if frames else ""
    return f"{letter}: {source}; weights {weights}; split {split}; {num_videos} videos{of_frames}."


def _common(first: Sequence[Result], second: Sequence[Result]) -> str:
    one, two = ({video for r in side for video in r.predictions.ids} for side in (first, second))
    return (
        f"Compared on the {len(one & two)} videos that both have; left out are {len(one - two)} "
        f"that only A has, {len(two - one)} that only B has."
    )


def _explain(test: PairedTest) -> list[str]:
    notes = [*unit_notes(test.first)]
    notes.append(f"low and high: {CONFIDENCE:.0%} interval of the difference A - B.")
    if test.mcnemar_p is not None:
        notes.append(
            f"Right in A only: {test.only_first_right} videos; in B only: "
            f"{test.only_second_right}. McNemar's test takes videos as independent."
        )
    return notes


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.1e}"


if __name__ == "__main__":
    as_program()
    main()
