"""Print the results of finished runs as a table, those of folds also pooled.

Pooled means: computed once over the predictions of all folds, as the published numbers are. Runs
without metrics.json are named and left out.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.metrics import classification_metrics

COLUMNS = {"uar": "UAR %", "war": "WAR %", "weighted_f1": "w. F1 %"}


def pooled(runs: Sequence[dict]) -> dict:
    """Scores of the predictions of all runs together, from their confusion matrices.

    Args:
        runs: contents of `metrics.json` files with the same classes.
    """
    counts = np.sum([run["confusion_matrix"] for run in runs], axis=0)
    labels, predictions = np.indices(counts.shape)
    labels, predictions = (
        np.repeat(axis.ravel(), counts.ravel()) for axis in (labels, predictions)
    )
    return classification_metrics(labels, predictions, runs[0].get("class_names"))


def summarize(run_dirs: Sequence[Path], *, pool: bool) -> str:
    """Table of the runs, scores in percent; with `pool` a line for all predictions together."""
    paths = {str(run_dir): run_dir / "metrics.json" for run_dir in run_dirs}
    runs = {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}
    width = max([len(name) for name in runs] + [20]) + 2
    header = "".join(f"{title:>10}" for title in COLUMNS.values())
    lines = [f"{'run':<{width}}{header}{'videos':>10}  weights, split"]
    scored = {name: run for name, run in runs.items() if "confusion_matrix" in run}
    for name, run in scored.items():
        lines.append(_line(name, run, width) + f"  {run['weights']}, {run['split']}")
    if pool and len(scored) > 1:
        lines.append(_line(f"pooled over {len(scored)}", pooled(list(scored.values())), width))
    for name, run in runs.items():
        if name not in scored:
            lines.append(f"{name}: " + json.dumps(run.get("mean", run)))
    lines += [f"{name}: not finished (no metrics.json)" for name in paths if name not in runs]
    return "\n".join(lines)


def _line(name: str, metrics: dict, width: int) -> str:
    scores = "".join(f"{100 * metrics[column]:10.2f}" for column in COLUMNS)
    return f"{name:<{width}}{scores}{metrics['num_videos']:10d}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser("scripts.summarize", description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--pool", action="store_true", help="the runs are folds: pool them")
    flags = parser.parse_args()
    print(summarize(flags.runs, pool=flags.pool))
