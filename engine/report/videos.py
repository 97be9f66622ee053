"""Parts of a report that look at the data: how many videos, and which are confused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from svfap.datasets.labels.annotations import AnnotationError, Annotations, read_annotations
from svfap.datasets.labels.kinds import PRETRAIN, UNNAMED
from svfap.datasets.labels.splits import take_rows
from svfap.datasets.tables import read_text
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.engine.report import html as html
from svfap.engine.report.plots import MAX_NAMED, spread
from svfap.engine.results.find import CARVED_FILE, LABELLED_FILE
from svfap.engine.results.predictions import Predictions

SPLITS = ("train", "val", "test")
MAX_PAIRS = 6
MAX_EXAMPLES = 4
THUMBNAIL_PX, MOVING_PX = 112, 224
MOVING_FRAMES = 12  # of an example's whole time


def read_data(
    flags: dict, resolved: dict | None = None, run: Path | None = None
) -> dict[str, Annotations]:
    """The annotation files of a run, as far as they are still there and unbroken.

    Args:
        resolved: the facts there; `task` and `class_names` say how to read the labels.
        run: the run directory; where it says that it carved a validation part from the training
            part, or trained on a share of it, so do the rows.

    Returns:
        Part ("train", "val", "test"; "videos" of a pre-training run) -> its rows.
    """
    place = flags.get("data_path")
    if not place:
        return {}
    if Path(place).is_file():
        files = {"videos": Path(place)}
    else:
        tested = Path(flags.get("eval_data_path") or place)
        files = {
            name: (tested if name == "test" else Path(place)) / f"{name}.csv" for name in SPLITS
        }
    resolved = resolved or {}
    task = PRETRAIN if "videos" in files else resolved.get("task", UNNAMED)
    found = {}
    for name, path in files.items():
        if not path.is_file():
            continue
        try:
            found[name] = read_annotations(
                path,
                task=task,
                names=resolved.get("class_names") or (),
                data_root=flags.get("data_root"),
                check_paths=False,
            )
        except AnnotationError:
            continue  # changed since the run: nothing to say about it
    return _as_used(found, run) if run and "train" in found else found


def _as_used(found: dict[str, Annotations], run: Path) -> dict[str, Annotations]:
    """Take out of the training part what the run did not train on."""
    train = found["train"]
    validation, labelled = (_ids_in(run / name) for name in (CARVED_FILE, LABELLED_FILE))
    if validation:
        taken = np.array([video in validation for video in train.ids])
        found = found | {
            "val": take_rows(train, np.flatnonzero(taken)),
            "train": take_rows(train, np.flatnonzero(~taken)),
        }
    if labelled:
        kept = [row for row, video in enumerate(found["train"].ids) if video in labelled]
        found = found | {"train": take_rows(found["train"], np.array(kept, np.int64))}
    return found


def _ids_in(path: Path) -> set[str]:
    lines = read_text(path).split("\n") if path.is_file() else []
    return {line.split(" ")[0] for line in lines}


def data_section(data: Sequence[dict[str, Annotations]], runs: Sequence[str], classes) -> str:
    """Numbers of videos: per class and part for one run, per fold and part for several.

    Args:
        data: from `read_data`, one per run.
        classes: class names, or None.
    """
    parts = [name for name in ("videos", *SPLITS) if any(name in own for own in data)]
    if not parts:
        return ""
    totals = [[str(len(own[part])) if part in own else "-" for part in parts] for own in data]
    rows = [[name, *cells] for name, cells in zip(runs, totals)]
    first = "run"
    if len(data) == 1:
        rows, first = [["all", *totals[0]]], "class"
        labels = [data[0][part].labels if part in data[0] else np.zeros(0) for part in parts]
        if classes and all(getattr(values, "ndim", 0) == 1 for values in labels):
            rows += [
                [name, *(str((values == index).sum()) for values in labels)]
                for index, name in enumerate(classes)
            ]
    tables = [html.table([first, *parts], rows)]
    if len(rows) > MAX_NAMED:
        folded = html.fold_away(f"Videos of each {first}", tables[0])
        tables = [html.table(["", *parts], rows[:1]), folded] if first == "class" else [folded]
    return html.section("Data", html.paragraph("Videos", "soft"), *tables)


def confused_section(
    pooled: Predictions,
    metrics: dict,
    data: Sequence[dict[str, Annotations]],
    title: str = "",
) -> str:
    """The pairs of classes that take the largest share of a true class, with examples.

    Args:
        data: from `read_data`; says where the videos lie.
    """
    counts = np.array(metrics["confusion_matrix"])
    names = metrics["class_names"]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:MAX_PAIRS]
    path_of: dict[str, str] = {}
    for own in data:
        if "test" in own:
            path_of |= dict(zip(own["test"].ids, own["test"].paths))
    blocks = []
    for true, predicted in zip(*np.unravel_index(order, shares.shape)):
        if not shares[true, predicted]:
            continue
        pair = (
            f"{names[true]} taken for {names[predicted]}: {counts[true, predicted]} of "
            f"{counts[true].sum()} videos ({100 * shares[true, predicted]:.0f}\u00a0%)"
        )
        rows = np.flatnonzero((pooled.labels == true) & (pooled.predicted == predicted))
        if pooled.scores is not None:
            rows = rows[np.argsort(-pooled.scores[rows, predicted], kind="stable")]
        examples = [_example(pooled, row, path_of) for row in rows[:MAX_EXAMPLES].tolist()]
        blocks.append(html.block(pair, html.figures(examples, "thumbs")))
    return html.section(f"{title}Most confused", html.figures(blocks))


def _example(pooled: Predictions, row: int, path_of: dict[str, str]) -> str:
    video = pooled.ids[row]
    caption = Path(video).stem
    if pooled.scores is not None:
        caption += f" ({100 * pooled.scores[row, pooled.predicted[row]]:.0f}\u00a0%)"
    try:
        with open_video(path_of.get(video, video)) as reader:
            frames = reader.read(spread(reader.num_frames, MOVING_FRAMES))
    except UnreadableVideoError:
        return html.no_picture(f"{caption}: the video is not here")
    return html.clip(frames, THUMBNAIL_PX, MOVING_PX, f"middle frame of {video}", caption)
