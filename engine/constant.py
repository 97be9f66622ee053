"""`python -m engine.constant RUN...`: what a prediction that never looks at a video would score.

Writes `RUN/constant/pred.csv` and `metrics.json` for the test videos of a run: the mean of the
training labels in a regression, the most frequent class in a classification (where a run has a
class and values: both, the values in `values.csv`). Then
`python -m engine.compare RUN RUN/constant` says whether the run is better than that.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.report.videos import read_data
from engine.results.find import find_results
from engine.results.predictions import (
    VALUES_FILE,
    Predictions,
    PredictionsWithValues,
    write_metrics,
    write_predictions,
)

FOLDER = "constant"
MEAN = "none (mean of the training labels)"
FREQUENT = "none (most frequent training class)"


def constant_prediction(predictions: Predictions, training_labels: np.ndarray) -> Predictions:
    """The same prediction for every row.

    Args:
        predictions: of a model; its videos, labels and names are taken over.
        training_labels: (m,) classes, (m, H) classes of several heads, or (m, L) numbers.

    Returns:
        The mean of the training labels for a regression, else their most frequent class (the
        first of equally frequent ones).

    Raises:
        ValueError: other dimensions or heads than the predictions have.
    """
    labels = np.asarray(training_labels)
    if labels.shape[1:] != predictions.labels.shape[1:]:
        raise ValueError(
            f"training labels of shape {labels.shape} do not belong to predictions of labels of "
            f"shape {predictions.labels.shape}"
        )
    if predictions.task == "regression":
        constant = labels.astype(np.float64).mean(axis=0)
    else:
        columns = labels.reshape(len(labels), -1).astype(np.int64).T
        constant = np.array([np.bincount(column).argmax() for column in columns])
    shape = predictions.labels.shape
    predicted = np.broadcast_to(constant.reshape(1, *shape[1:]), shape).copy()
    return replace(predictions, predicted=predicted, scores=None)


def write_constant(run: str | Path) -> Path:
    """Write the constant prediction for the test videos of a run.

    Args:
        run: an evaluated run directory, whose CSVs are still where they were.

    Returns:
        The folder with `pred.csv`, `metrics.json` and, with a class and values, `values.csv`.

    Raises:
        FileNotFoundError: no evaluation, or no training labels any more.
        ValueError: broken files.
    """
    run = Path(run)
    if not (run / "pred.csv").is_file():
        raise FileNotFoundError(f"{run} has no pred.csv; evaluate it first")
    [result] = find_results([run])
    predictions, labels = result.predictions, _training_labels(run)
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    if isinstance(predictions, PredictionsWithValues):  # labels are the class, then the values
        values = constant_prediction(predictions.values, labels[:, 1:])
        write_predictions(folder / VALUES_FILE, values)
        constant = replace(constant_prediction(predictions, labels[:, 0]), values=values)
    else:
        constant = constant_prediction(predictions, labels)
    write_predictions(folder / "pred.csv", constant)
    weights = MEAN if constant.task == "regression" else FREQUENT
    write_metrics(folder / "metrics.json", constant.metrics(), weights=weights, split=result.split)
    return folder


def _training_labels(run: Path) -> np.ndarray:
    config = run / "config.json"
    content = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    data = read_data(content.get("flags", {}), content.get("resolved", {}), run)
    if "train" not in data:
        raise FileNotFoundError(
            f"the training labels of {run} are not at --data_path of its config.json any more"
        )
    labels = data["train"].labels
    return np.asarray(getattr(labels, "values", labels))  # of frames: those of all videos


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m engine.constant", description=__doc__)
    parser.add_argument("run", nargs="+", metavar="RUN", help="evaluated run directory")
    flags = parser.parse_args(arguments)
    for run in flags.run:
        try:
            print(write_constant(run))
        except (ValueError, FileNotFoundError) as error:
            parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
