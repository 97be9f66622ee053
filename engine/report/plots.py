"""Figures of a run: curves of the log and confusion matrices.

Figures are built on `matplotlib.figure.Figure` directly, without pyplot's global state, so they
can be drawn from any thread. Colours are Okabe and Ito's, which colour-blind readers tell apart;
line styles and printed numbers carry the same information in black and white.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import colormaps, font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from svfap.datasets.files import read_json, replacing
from svfap.engine.results.find import read_log

# It warns of weights that a font of another script lacks.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "^", "s", "v", "D", "P", "X")
LINE_STYLES = ("-", "--", "-.", ":")
OTHER_SCRIPTS = (  # fonts that have Chinese, Japanese or Korean letters
    "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "Microsoft YaHei", "SimHei", "Malgun Gothic", "PingFang SC", "Hiragino Sans",
)  # fmt: skip
DOTS_PER_INCH = 150
MAX_POINTS = 3000
MAX_NAMED = 14  # in a legend, or in a confusion matrix with numbers everywhere
MAX_LETTERS = 24
CHANCE = {"color": "#888888", "linestyle": (0, (1, 2)), "label": "chance"}
LEGEND = {"fontsize": "small", "framealpha": 0.8, "edgecolor": "none"}

# Panels of the curves: title, unit of the vertical axis, keys of a log line in drawing order.
# A panel is drawn when the log has at least one of its keys.
PANELS = (
    ("Loss", "loss", ("train_loss", "val_loss", "test_loss")),
    ("Learning", "fraction", ("relative_loss", "feature_variance")),
    ("Features", "effective rank", ("feature_rank",)),
    ("Contrast", "fraction of views", ("train_accuracy", "train_face_swap_failed")),
    ("Validation recall", "fraction of videos", ("val_uar", "val_war")),
    ("Validation correlation", "correlation", ("val_ccc", "val_pcc")),
    ("Probe of frozen features", "UAR", ("probe_linear_uar", "probe_knn_uar")),
    ("Learning rate", "learning rate", ("train_lr", "lr")),
)
BEST = ("Validation recall", "Validation correlation")  # panels that show where it was highest
NAMES = {
    "train_loss": "training",
    "relative_loss": "loss / that of the mean",
    "feature_variance": "variance of features between clips",
    "feature_rank": "effective rank of features",
    "train_accuracy": "nearest is the partner",
    "train_face_swap_failed": "face swaps that failed",
    "val_loss": "validation",
    "test_loss": "test",
    "val_uar": "UAR (mean per-class recall)",
    "val_war": "WAR (accuracy)",
    "val_ccc": "CCC",
    "val_pcc": "PCC",
    "probe_linear_uar": "linear",
    "probe_knn_uar": "k-NN",
    "train_lr": "learning rate",
    "lr": "learning rate",
}


def plot_training(run_dir: Path) -> None:
    """Draw `curves.png` of a run directory: what its `log.jsonl` has over the epochs, if any."""
    records = read_log(run_dir / "log.jsonl")
    config = run_dir / "config.json"
    about = curve_facts(read_json(config) if config.is_file() else {})
    if curve_panels(records):
        save_figure(curves_figure(records, **about), run_dir / "curves.png")


def curve_facts(config: Mapping) -> dict:
    """What `curves_figure` is told of a run besides its log, from its config.json."""
    names = config.get("resolved", {}).get("class_names")
    return {
        "chance": 1 / len(names) if names else None,
        "smoothing": config.get("flags", {}).get("smoothing") or 0.0,
    }


def curve_panels(records: Sequence[dict]) -> list[tuple[str, str, list[str]]]:
    """The entries of `PANELS` that a log has numbers for, with only those keys."""
    panels = []
    for title, unit, keys in PANELS:
        drawn = [key for key in keys if any(_is_number(record.get(key)) for record in records)]
        if drawn:
            panels.append((title, unit, drawn))
    return panels


def curves_figure(
    records: Sequence[dict],
    titles: Sequence[str] | None = None,
    *,
    chance: float | None = None,
    smoothing: float = 0.0,
) -> Figure:
    """Loss, validation scores and learning rate over the epochs, from the lines of a log.

    Args:
        records: dicts with `epoch` and some keys of `PANELS`, at least one; others are ignored.
        titles: which panels to draw; None draws all that occur.
        chance: UAR of guessing, drawn beside recalls.
        smoothing: of the labels that the training loss is about; others are about plain ones.

    Returns:
        One panel per kind of quantity that occurs; epochs count from 1, as in what a run says.
    """
    panels = [p for p in curve_panels(records) if titles is None or p[0] in titles]
    figure = new_figure(4.2 * len(panels), 3.2)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, unit, keys) in zip(axes, panels):
        _draw_panel(axis, records, keys)
        axis.set(title=title, xlabel="epoch", ylabel=unit)
        if title in BEST:
            _mark_best(axis, records, keys[0])
        if title == "Validation recall" and chance:
            axis.axhline(chance, **CHANCE)
            axis.legend(**LEGEND)
        if title == "Loss" and smoothing and len(keys) > 1:
            axis.set_xlabel(
                f"epoch (labels are smoothed by {smoothing:g} in training only)", fontsize="small"
            )
        if title == "Learning rate":
            axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return figure


def _mark_best(axis: Axes, records: Sequence[dict], key: str) -> None:
    value, epoch = max((r[key], -r["epoch"]) for r in records if _is_number(r.get(key)))
    axis.plot(1 - epoch, value, "*", color=OKABE_ITO[0], markersize=11, label=f"best {value:.3g}")
    axis.legend(**LEGEND)


def plot_confusion_matrices(metrics: dict, folder: str | Path) -> None:
    """Draw what there is: `confusion_matrix.png`, or one file per head; nothing in regression.

    Args:
        folder: gets `confusion_matrix.png` or `confusion_matrix_<head>.png`.
    """
    of_heads = {f"_{head}": own for head, own in metrics.get("per_head", {}).items()}
    for ending, own in {"": metrics, **of_heads}.items():
        if "confusion_matrix" in own:
            save_figure(confusion_figure(own), Path(folder) / f"confusion_matrix{ending}.png")


def confusion_figure(metrics: dict, panels: Sequence[str] = ("counts", "recall")) -> Figure:
    """The confusion matrix of an evaluation.

    Args:
        metrics: of `engine.results.metrics.classification_metrics`.
        panels: "counts" (videos), "recall" (each row divided by its sum, in percent) or both.

    Returns:
        The panels side by side; with both, UAR and WAR above.
    """
    counts, names = np.asarray(metrics["confusion_matrix"]), metrics["class_names"]
    cell = 0.48 if len(names) <= MAX_NAMED else 0.27
    side = max(3.6, 1.2 + cell * len(names))
    figure = new_figure((side + 0.5) * len(panels), side)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels):
        if panel == "counts":
            most = max(1, counts.max())
            image = _draw_matrix(axis, counts / most, counts.astype(str), names)
            bar = figure.colorbar(image, ax=axis, fraction=0.046, pad=0.03)
            bar.set_ticks([0, most // 2 / most, 1], labels=["0", str(most // 2), str(most)])
            bar.set_label("videos")
            axis.set_title(f"Videos ({counts.sum():,})")
        else:
            _draw_recall(figure, axis, counts, names)
    if len(panels) > 1:
        figure.suptitle(f"UAR {100 * metrics['uar']:.2f} %   WAR {100 * metrics['war']:.2f} %")
    return figure


def recall_figure(
    class_names: Sequence[str],
    recalls: Sequence[float | None],
    intervals: Sequence[tuple[float, float] | None],
) -> Figure:
    """Recall of each class with its interval, as dots and bars.

    Args:
        class_names: C names, drawn from top to bottom.
        recalls: C values 0..1, None for a class without videos.
        intervals: C pairs (low, high), or None where unknown.

    Returns:
        The figure; vertical lines mark the mean of the recalls, which is UAR, and chance.
    """
    figure = new_figure(5.2, 0.8 + 0.34 * len(class_names))
    axis = figure.subplots()
    for row, (recall, interval) in enumerate(zip(recalls, intervals)):
        if recall is None:
            axis.text(0.5, row, "no videos", ha="center", va="center", fontsize=8)
            continue
        if interval is not None:
            axis.plot(interval, (row, row), color=OKABE_ITO[0], linewidth=2.2)
        axis.plot(recall, row, "o", color=OKABE_ITO[0], markersize=6)
    known = [recall for recall in recalls if recall is not None]
    axis.axvline(np.mean(known), color=OKABE_ITO[1], linestyle="--", linewidth=1, label="UAR")
    axis.axvline(1 / len(class_names), **CHANCE)
    axis.set_yticks(range(len(class_names)), map(short, class_names))
    axis.set(xlim=(-0.02, 1.02), ylim=(len(class_names) - 0.5, -0.5), xlabel="recall")
    axis.grid(axis="x", alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


def scatter_figure(points: np.ndarray, panels: Mapping[str, Sequence[str]]) -> Figure:
    """Videos as points in the plane, told apart by colour and marker.

    Args:
        points: (n, 2).
        panels: title -> what each video is, such as its class; the same points in each, side by
            side. What is numerous has colours from one end of the rainbow to the other.
    """
    figure = new_figure(5.6 * len(panels), 4.4)
    for axis, (title, labels) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items()
    ):
        names = list(dict.fromkeys(sorted(labels)))
        many = len(names) > MAX_NAMED
        for index, name in enumerate(names):
            turn, place = divmod(index, len(OKABE_ITO))
            colour = colormaps["turbo"](index / len(names)) if many else OKABE_ITO[place]
            axis.scatter(
                *points[np.array(labels) == name].T,
                s=14,
                marker=MARKERS[(place + turn) % len(MARKERS)],
                color=colour,
                alpha=0.75,
                linewidths=0.7,
                label=short(name),
            )
        axis.set(xticks=[], yticks=[], title=f"{title} ({len(names)})" if many else title)
        if not many:
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")
    return figure


def agreement_figure(labels: np.ndarray, values: np.ndarray, name: str) -> Figure:
    """Predicted over true values of a dimension, with the line on which they agree.

    Args:
        labels: (n,) true values, of videos or frames.
        values: (n,) predicted ones.
    """
    figure = new_figure(4.4, 4.0)
    axis = figure.subplots()
    low, high = np.min([labels, values]), np.max([labels, values])
    room = 0.05 * (high - low) or 0.5
    limits = (low - room, high + room)
    axis.plot(limits, limits, color=OKABE_ITO[1], linestyle="--", linewidth=1, label="agreement")
    if len(labels) <= MAX_POINTS:
        axis.scatter(labels, values, s=12, color=OKABE_ITO[0], alpha=0.6, linewidths=0)
    else:  # dots would cover each other
        axis.hexbin(labels, values, gridsize=40, cmap="Blues", bins="log", mincnt=1)
    axis.set(xlim=limits, ylim=limits, xlabel=f"true {name}", ylabel=f"predicted {name}")
    axis.set_aspect("equal")
    axis.legend(frameon=False, fontsize="small")
    return figure


def spread(total: int, count: int) -> list[int]:
    """Up to `count` numbers of 0 .. total - 1, evenly far apart, the ends among them."""
    return np.unique(np.linspace(0, total - 1, count).round().astype(int)).tolist()


def short(name: str, letters: int = MAX_LETTERS) -> str:
    """A name with at most so many letters; of a longer one, the beginning and the end."""
    half = letters // 2
    return name if len(name) <= letters else f"{name[: half - 1]}\u2026{name[-half:]}"


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Empty figure in the house style: constrained layout, white, no pyplot."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained", facecolor="white")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure, at once or not at all; the suffix of the path chooses the format.

    Args:
        path: .png, .pdf or .svg; its folder is made if necessary.
    """
    as_they_are(figure)
    # Type 42 embeds TrueType fonts, which journals ask for.
    settings = rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "text.parse_math": False})
    with replacing(path) as temporary, settings:
        figure.savefig(
            temporary,
            format=Path(path).suffix[1:] or "png",
            dpi=DOTS_PER_INCH,
            bbox_inches="tight",  # equal aspects can push labels over the edge
        )


def as_they_are(figure: Figure) -> None:
    """Draw texts as they are: a class may be called `$x^{`, which is no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_fontfamily(families(text.get_text()))


@cache
def families(text: str) -> list[str]:
    """Fonts for a text: Matplotlib's own, and for letters that it lacks those of the machine."""
    own = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_char_index
    if all(own(ord(letter)) for letter in text if letter.isprintable()):
        return ["DejaVu Sans"]
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


def _draw_panel(axis: Axes, records: Sequence[dict], keys: Sequence[str]) -> None:
    for index, key in enumerate(keys):
        points = [(r["epoch"] + 1, r[key]) for r in records if _is_number(r.get(key))]
        epochs, values = zip(*points)
        axis.plot(
            epochs,
            values,
            color=OKABE_ITO[index],
            linestyle=LINE_STYLES[index],
            linewidth=1.5 + 1.5 * index,  # two that coincide are both seen
            alpha=1 - 0.35 * (index > 0),
            # A single point has no line.
            marker="o" if len(points) < 3 else None,
            label=NAMES[key],
        )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.grid(alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if len(keys) > 1:
        axis.legend(**LEGEND)


def _draw_recall(figure: Figure, axis: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    totals = counts.sum(axis=1, keepdims=True)
    # A class without test videos has no recall: its row stays empty.
    recall = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    percent = np.where(totals > 0, np.char.mod("%.0f", 100 * np.nan_to_num(recall)), "")
    image = _draw_matrix(axis, recall, percent, names)
    bar = figure.colorbar(image, ax=axis, fraction=0.046, pad=0.03)
    bar.set_ticks([0, 0.5, 1], labels=["0", "50", "100"])
    bar.set_label("% of the true class")
    axis.set_title("Recall, %")


def _draw_matrix(axis: Axes, shade: np.ndarray, texts: np.ndarray, names: Sequence[str]):
    image = axis.imshow(shade, cmap="Blues", vmin=0, vmax=1)
    size = 9 if len(names) <= 8 else 7 if len(names) <= MAX_NAMED else 5.5
    for (row, column), text in np.ndenumerate(texts):
        if text == "0" and len(names) > MAX_NAMED:
            continue  # the colour says it
        # Light to dark in one hue: readable in print and for every kind of colour vision.
        colour = "white" if shade[row, column] > 0.55 else "black"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    names = [short(name) for name in names]
    slant = {"rotation": 45 if len(names) <= MAX_NAMED else 90, "ha": "right", "va": "center"}
    axis.set_xticks(range(len(names)), names, rotation_mode="anchor", **slant)
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0, labelsize="medium" if len(names) <= MAX_NAMED else 6.5)
    axis.set(xlabel="predicted", ylabel="true")
    for row in np.flatnonzero(np.isnan(shade).all(axis=1)):
        axis.text((len(names) - 1) / 2, row, "no videos", ha="center", va="center", fontsize=size)
    return image


def _is_number(value: object) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and bool(np.isfinite(value))
