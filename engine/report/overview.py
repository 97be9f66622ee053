"""`python -m svfap.engine.report.overview RUN [RUN_B] --output FILE`: a fine-tuning on one page.

Above, test videos with what was said of them; in the middle, how training went, beside that of a
run to compare with; below, reconstructions of the pre-training.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import imread
from matplotlib.ticker import MaxNLocator

from svfap.datasets.files import read_json
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.engine.report.plots import LINE_STYLES, OKABE_ITO, save_figure, short, spread
from svfap.engine.report.videos import read_data
from svfap.engine.results.find import find_results, read_log
from svfap.engine.results.intervals import bootstrap_intervals
from svfap.engine.results.kinds.classes import Classes
from svfap.terminal import as_program

WIDTH_INCHES = 11.0
PER_CLASS, MAX_CLASSES = 2, 8
LETTERS = 16  # of a class, over a face
RIGHT, WRONG = OKABE_ITO[2], OKABE_ITO[1]


def overview_figure(
    runs: Sequence[Path], names: Sequence[str], reconstructions: Sequence[Path]
) -> Figure:
    """Draw the page."""
    results = [find_results([run])[0] for run in runs]
    for run, result in zip(runs, results):
        if not isinstance(result.predictions, Classes) or result.predictions.names is None:
            raise ValueError(f"{run}: no pred.csv with classes of videos, so there is no overview")
    pictures = list(reconstructions)[:2]
    heights = [3.6, 2.2, *[7.0] * bool(pictures)]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained", facecolor="white")
    parts = np.ravel(figure.subfigures(len(heights), 1, height_ratios=heights))
    _draw_faces(parts[0], results[0].predictions, runs[0])
    _draw_learning(parts[1], runs, results, names)
    if pictures:
        parts[2].suptitle("Pre-training: a part of a face is hidden, and guessed from the rest")
        for axis, path in zip(np.ravel(parts[2].subplots(1, len(pictures))), pictures):
            axis.imshow(imread(path))
            axis.set_anchor("N")  # one has more text below than the other
            axis.axis("off")
    return figure


def _draw_faces(part: SubFigure, predictions, run: Path) -> None:
    """The first videos of each class, or of some of many classes, a class per column."""
    test = read_data(read_json(run / "config.json")["flags"]).get("test")
    path_of = dict(zip(test.ids, test.paths)) if test else {}
    classes = list(predictions.names)
    part.suptitle("People that no training has seen: middle frame, and what was said")
    shown = spread(len(classes), MAX_CLASSES)
    axes = part.subplots(PER_CLASS, len(shown), squeeze=False)
    for column, name in enumerate(classes[index] for index in shown):
        rows = np.flatnonzero(predictions.labels == shown[column])[:PER_CLASS].tolist()
        for axis in axes[:, column]:
            axis.axis("off")
        for axis, row in zip(axes[:, column], rows):
            said, video = classes[predictions.predicted[row]], predictions.ids[row]
            text = "\u2713" if said == name else f"{short(said, LETTERS)} \u2717"
            axis.set_title(f"{short(name, LETTERS)}:\n{text}", fontsize=8,
                           color=RIGHT if said == name else WRONG)  # fmt: skip
            try:
                with open_video(path_of.get(video, video)) as reader:
                    axis.imshow(reader.read([reader.num_frames // 2])[0])
            except UnreadableVideoError:
                axis.text(0.5, 0.5, "not here", ha="center", fontsize=8)


def _draw_learning(part: SubFigure, runs: Sequence[Path], results, names: Sequence[str]) -> None:
    """Curves of the training loss, and the scores on the test videos with their intervals."""
    loss, score = part.subplots(1, 2)
    scored = []
    for index, (run, result, name) in enumerate(zip(runs, results, names)):
        style = {"color": OKABE_ITO[index % len(OKABE_ITO)], "label": name}
        log = read_log(run / "log.jsonl")
        loss.plot([line["epoch"] + 1 for line in log], [line["train_loss"] for line in log],
                  linestyle=LINE_STYLES[index % len(LINE_STYLES)], **style)  # fmt: skip
        uar = 100 * result.metrics["uar"]
        low, high = (100 * v for v in bootstrap_intervals(result.predictions)["uar"])
        score.barh(index, uar, xerr=[[uar - low], [high - uar]], capsize=3, **style)
        scored.append(f"{name}\n{uar:.1f} [{low:.1f}, {high:.1f}]")
    chance = 100 / len(results[0].predictions.names)
    score.axvline(chance, color="black", linestyle=":", linewidth=1)
    score.set(xlim=(0, 100), xlabel=f"UAR on the test videos, % (dotted: chance, {chance:.1f})")
    score.set_yticks(range(len(names)), scored)
    score.invert_yaxis()
    loss.set(xlabel="epoch of fine-tuning", ylabel="training loss")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    loss.legend(frameon=False)
    for axis in (loss, score):
        axis.spines[["top", "right"]].set_visible(False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m svfap.engine.report.overview", description=__doc__
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="fine-tuning runs")
    parser.add_argument("--names", nargs="+", help="of the runs (default: of their folders)")
    parser.add_argument("--pretraining", type=Path, metavar="RUN", help="run with reconstructions")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png")
    flags = parser.parse_args(arguments)
    names = flags.names or [run.name for run in flags.runs]
    if len(names) != len(flags.runs):
        parser.error(f"--names: {len(names)} for {len(flags.runs)} runs; give one for each")
    folder = flags.pretraining and flags.pretraining / "reconstructions"
    pictures = sorted(folder.glob("*.png")) if folder else []
    try:
        save_figure(overview_figure(flags.runs, names, pictures), flags.output)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"overview: {flags.output}")


if __name__ == "__main__":
    as_program()
    main()
