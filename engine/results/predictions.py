"""Files of an evaluation: `pred.csv`, one line per video, and `metrics.json`.

`pred.csv` of a classification: `id,label,pred,prob_<class>,...,truth,answer`; `label` and `pred`
are class indices, which `truth` and `answer` say by name; the probability columns stand in label
order. Files of other programs may leave probabilities and names out. Of a regression:
`id,label_<dimension>,...,pred_<dimension>,...`; where every frame has labels, a line is about one
frame: `id,frame,label_<dimension>,...`. Of several heads:
`id,label_<head>,...,pred_<head>,...,prob_<head>_<class>,...,truth_<head>,answer_<head>,...`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from svfap.datasets.files import read_json, write_text
from svfap.datasets.tables import write_table
from svfap.engine.results.kinds.base import Predictions
from svfap.engine.results.kinds.classes import Classes, ClassesOfHeads
from svfap.engine.results.kinds.numbers import ClassesAndNumbers, Numbers
from svfap.engine.results.kinds.table import PredictionFileError, PredictionTable

__all__ = [
    "KINDS",
    "PredictionFileError",
    "Predictions",
    "read_metrics",
    "read_predictions",
    "write_metrics",
    "write_predictions",
]

# In this order a file is tried.
KINDS: list[type[Predictions]] = [ClassesAndNumbers, Classes, ClassesOfHeads, Numbers]


def write_predictions(csv_path: str | Path, predictions: Predictions) -> None:
    """Write `pred.csv`, at once or not at all.

    Numbers keep nine significant digits, enough for float32.
    """
    columns = {"id": predictions.ids}
    if predictions.frames is not None:
        columns["frame"] = predictions.frames.tolist()
    for name, values in predictions.columns().items():
        real = np.issubdtype(values.dtype, np.floating)
        columns[name] = [f"{value:.9g}" for value in values] if real else values.tolist()
    write_table(csv_path, list(columns), zip(*columns.values(), strict=True))


def read_predictions(csv_path: str | Path, class_names: Sequence[str] | None = None) -> Predictions:
    """Read and check a `pred.csv`, ours or another program's.

    Args:
        csv_path: file with a header; columns in any order, others than the known are refused.
        class_names: names in label order for files without probability columns; `label` and
            `pred` may be class names instead of indices where the names are known.

    Raises:
        PredictionFileError: all problems of the file, with line numbers.
    """
    table = PredictionTable(csv_path)
    kind = next((kind for kind in KINDS if kind.recognises(table)), None)
    if kind is None:
        forms = " or ".join(dict.fromkeys(kind.header for kind in KINDS))
        table.problems.append(f"line 1: columns {table.header}; expected {forms}")
        table.check()
    return kind.read(table, class_names)


def write_metrics(json_path: str | Path, metrics: dict, *, weights: str, split: str) -> None:
    """Write `metrics.json`, at once or not at all.

    `weights` are "last", "best", "ema" or a path, `split` the annotation file, such as "test".
    """
    text = json.dumps({**metrics, "weights": weights, "split": split}, indent=2, allow_nan=False)
    write_text(json_path, text + "\n")


def read_metrics(json_path: str | Path) -> dict:
    """Read a `metrics.json`; ValueError where it is not a JSON object."""
    json_path = Path(json_path)
    if not json_path.is_file():
        raise FileNotFoundError(f"no metrics file {json_path}; evaluation writes metrics.json.")
    try:
        return read_json(json_path)
    except ValueError as error:
        raise ValueError(f"{error}; evaluate again.") from error
