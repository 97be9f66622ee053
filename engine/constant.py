"""`python -m svfap.engine.constant RUN...`: what would score who never looks at a video.

Writes `RUN/constant/pred.csv` and `metrics.json` for the test videos of a run: the mean of the
training labels in a regression, the most frequent class in a classification (where a run has a
class and values: both, the values in `values.csv`). Then
`python -m svfap.engine.compare RUN RUN/constant` says whether the run is better than that.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from svfap.datasets.files import read_json
from svfap.engine.report.videos import read_data
from svfap.engine.results.find import find_results
from svfap.engine.results.predictions import write_metrics, write_predictions
from svfap.terminal import as_program

FOLDER = "constant"


def write_constant(run: str | Path) -> Path:
    """Write the constant prediction for the test videos of a run.

    Returns:
        The folder with `pred.csv`, `metrics.json` and, with a class and values, `values.csv`.
    """
    run = Path(run)
    if not (run / "pred.csv").is_file():
        raise FileNotFoundError(f"{run} has no pred.csv; evaluate it first")
    [result] = find_results([run])
    constant = result.predictions.constant(_training_labels(run))
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    for name, part in constant.files().items():
        write_predictions(folder / name, part)
    weights = f"none ({constant.guess_is})"
    write_metrics(folder / "metrics.json", constant.metrics(), weights=weights, split=result.split)
    return folder


def _training_labels(run: Path) -> np.ndarray:
    config = run / "config.json"
    content = read_json(config) if config.is_file() else {}
    data = read_data(content.get("flags", {}), content.get("resolved", {}), run)
    if "train" not in data:
        raise FileNotFoundError(
            f"the training labels of {run} are not at --data_path of its config.json any more"
        )
    labels = data["train"].labels
    return np.asarray(getattr(labels, "values", labels))  # of frames: those of all videos


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m svfap.engine.constant", description=__doc__)
    parser.add_argument("run", nargs="+", metavar="RUN", help="evaluated run directory")
    flags = parser.parse_args(arguments)
    for run in flags.run:
        try:
            print(write_constant(run))
        except (ValueError, OSError) as error:
            parser.error(str(error))
    return 0


if __name__ == "__main__":
    as_program()
    sys.exit(main())
