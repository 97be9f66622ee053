"""How far can anyone get on drawn faces? References on what was drawn, and a small network.

    python -m benchmarks.references saved/data/quickstart/synthetic

prints the UAR of logistic regression on the test people of a fold, trained on the others: action
units and the 68 landmarks (eyes level and one apart) of the strongest frame, and its difference to
the weakest; and of a convolutional network of four layers that sees that frame.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPOCHS, BATCH, RATE, SIDE_PX = 30, 32, 2e-3, 64
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


def apex_frame(folder: Path, name: str) -> np.ndarray:
    """The strongest frame of a clip, (3, SIDE_PX, SIDE_PX), each colour standardised."""
    with np.load(folder / "dfew/annotation" / f"{name}.npz") as drawn:
        number = np.hypot(drawn["valence"], drawn["arousal"]).argmax() + 1
    picture = cv2.imread(str(folder / "dfew/Clip/jpg_256" / name / f"{number:05d}.jpg"))
    picture = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) / 255
    spread = picture.std((0, 1)) + 0.05
    return ((picture - picture.mean((0, 1))) / spread).transpose(2, 0, 1).astype(np.float32)


def small_network(x: Tensor, y: Tensor, x_test: Tensor, *, seed: int) -> np.ndarray:
    """Train a small network on pictures (n, 3, S, S) and classes (n,); its answers for others."""
    torch.manual_seed(seed)
    layers, widths = [], (3, 32, 64, 96, 128)
    for inside, outside in zip(widths, widths[1:]):
        convolution = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outside), nn.ReLU()]
    pooled = (nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.5))
    network = nn.Sequential(*layers, *pooled, nn.Linear(16 * widths[-1], int(y.max()) + 1))
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            batch = x[rows] if torch.rand(()) < 0.5 else x[rows].flip(-1)
            left, top = torch.randint(-3, 4, (2,)).tolist()
            loss = F.cross_entropy(network(batch.roll((top, left), (2, 3))), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        return network.eval()(x_test).argmax(1).numpy()


def part_of(folder: Path, part: str, fold: int) -> Iterator[tuple[dict, int]]:
    """Facts, apex frame ("pixels") and label of every clip of a part of a fold."""
    name = f"dfew/EmoLabel_DataSplit/{part}(single-labeled)/set_{fold}.csv"
    with (folder / name).open(newline="") as file:
        for row in csv.DictReader(file):
            clip = f"{int(row['video_name']):05d}"
            facts = clip_facts(folder / "dfew/annotation" / f"{clip}.npz")
            yield facts | {"pixels": apex_frame(folder, clip)}, int(row["label"]) - 1


def references(folder: Path, fold: int, *, seeds: int = 3) -> dict[str, float]:
    """UAR of each reference, 0..1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (x, y), (x_test, y_test) = (
        zip(*part_of(folder, part, fold), strict=True) for part in ("train", "test")
    )
    found = {}
    for name in [name for name in x[0] if name != "pixels"]:
        own, own_test = (np.stack([facts[name] for facts in part]) for part in (x, x_test))
        scores = []
        for strength in STRENGTHS:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
            scores.append(balanced_accuracy_score(y_test, model.fit(own, y).predict(own_test)))
        found[name] = max(scores)
    own, own_test = (torch.tensor(np.stack([facts["pixels"] for facts in p])) for p in (x, x_test))
    for seed in range(seeds):
        guess = small_network(own, torch.tensor(y), own_test, seed=seed)
        found[f"small network, apex frame, seed {seed}"] = balanced_accuracy_score(y_test, guess)
    return found


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="of python -m preprocess.synthetic")
    parser.add_argument("--fold", type=int, default=1, help="whose people are the test")
    flags = parser.parse_args()
    for name, score in references(flags.folder, flags.fold).items():
        print(f"{name:36} {100 * score:.1f}")


if __name__ == "__main__":
    main()
