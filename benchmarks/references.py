"""How far can anyone get on drawn faces? Linear references on what was drawn, no pixels.

    python -m benchmarks.references saved/data/quickstart/synthetic

prints the UAR of logistic regression on the test people of a fold, trained on the others: action
units and the 68 landmarks (eyes level and one apart) of the strongest frame, and its difference to
the weakest. A network that sees the faces has less than that to go by, and noise.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

STRENGTHS = (0.003, 0.03, 0.3)  # C; the best on the test people, so these are upper references


def aligned(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (T, 68, 2) with the eyes level, one apart, their middle at 0: (T, 136)."""
    left, right = (landmarks[:, eye].mean(1) for eye in (slice(36, 42), slice(42, 48)))
    to_right = right - left
    x, y = (to_right / np.square(to_right).sum(1, keepdims=True)).T
    turn = np.stack([np.stack([x, y], 1), np.stack([-y, x], 1)], 1)  # (T, 2, 2)
    centred = landmarks - (left + right)[:, None] / 2
    return np.einsum("tij,tnj->tni", turn, centred).reshape(len(landmarks), -1)


def clip_facts(path: Path) -> dict[str, np.ndarray]:
    """What the references are given of a clip."""
    with np.load(path) as drawn:
        points, units = aligned(drawn["landmarks"]), drawn["action_units"]
        strength = np.hypot(drawn["valence"], drawn["arousal"])
    apex, rest = strength.argmax(), strength.argmin()
    return {
        "action units, apex": units[apex],
        "landmarks, apex": points[apex],
        "landmarks, apex and change": np.concatenate([points[apex], points[apex] - points[rest]]),
        "landmarks, mean and deviation": np.concatenate([points.mean(0), points.std(0)]),
    }


def part_of(folder: Path, part: str, fold: int) -> Iterator[tuple[dict, int]]:
    """Facts and label of every clip of a part of a fold."""
    name = f"dfew/EmoLabel_DataSplit/{part}(single-labeled)/set_{fold}.csv"
    with (folder / name).open(newline="") as file:
        for row in csv.DictReader(file):
            path = folder / "dfew/annotation" / f"{int(row['video_name']):05d}.npz"
            yield clip_facts(path), int(row["label"])


def references(folder: Path, fold: int) -> dict[str, float]:
    """UAR of each reference, 0..1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (x, y), (x_test, y_test) = (
        zip(*part_of(folder, part, fold), strict=True) for part in ("train", "test")
    )
    found = {}
    for name in x[0]:
        own, own_test = (np.stack([facts[name] for facts in part]) for part in (x, x_test))
        scores = []
        for strength in STRENGTHS:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
            scores.append(balanced_accuracy_score(y_test, model.fit(own, y).predict(own_test)))
        found[name] = max(scores)
    return found


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="of python -m preprocess.synthetic")
    parser.add_argument("--fold", type=int, default=1, help="whose people are the test")
    flags = parser.parse_args()
    for name, score in references(flags.folder, flags.fold).items():
        print(f"{name:32} {100 * score:.1f}")


if __name__ == "__main__":
    main()
