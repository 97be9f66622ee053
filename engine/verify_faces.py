"""`python -m svfap.engine.verify_faces CHECKPOINT --pairs FILE`: is it still known who is who?

Two images are of one person if the cosine of their frozen features is above a threshold, which is
chosen on the other folds (LFW's protocol: ten folds, mean accuracy). For encoders of expression
less is better: what identifies a face is not its expression.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from svfap.datasets.augment import transforms
from svfap.datasets.clips.source import cut_window
from svfap.datasets.files import write_text
from svfap.datasets.loading.loader import Loader, Reading
from svfap.datasets.tables import table_rows
from svfap.datasets.video.open_video import open_video
from svfap.engine import build
from svfap.engine.probe.probing import load_frozen
from svfap.engine.results.intervals import half_width
from svfap.engine.results.metrics import require_finite
from svfap.engine.runtime import distributed
from svfap.engine.runtime.log import Progress, set_up_logging
from svfap.engine.runtime.programs import tells_user

HEADER = ["fold", "image_a", "image_b", "same"]
TRAINING_FOLD = "train"  # chooses thresholds and is not scored


@dataclass(frozen=True)
class Pairs:
    """Pairs of images (`preprocess.lfw`)."""

    folds: list[str]  # n names
    images: list[tuple[str, str]]  # n times two files
    same: np.ndarray  # (n,) bool, of one person


def read_pairs(path: str | Path) -> Pairs:
    """Read a pairs.csv; ValueError if it is none, or has one fold or pairs of one kind only."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no pairs {path}: `python -m svfap.preprocess.lfw` writes them")
    header, *rows = [row for _, row in table_rows(path)] or [[]]
    wrong = [n for n, row in enumerate(rows, 2) if len(row) != 4 or row[3] not in ("0", "1")]
    if header != HEADER or wrong or not rows:
        where = f"line {wrong[0]}" if wrong else f"header {header}"
        raise ValueError(
            f"{path}: {where}: expected columns {', '.join(HEADER)}, same being 0 or 1"
        )
    pairs = Pairs(
        folds=[row[0] for row in rows],
        images=[(row[1], row[2]) for row in rows],
        same=np.array([row[3] == "1" for row in rows]),
    )
    if len(set(pairs.folds)) < 2:
        raise ValueError(f"{path}: one fold only; the threshold needs others to be chosen on")
    if len(set(pairs.same.tolist())) < 2:
        raise ValueError(f"{path}: same is the same everywhere; pairs of both kinds are needed")
    return pairs


def best_threshold(similarity: np.ndarray, same: np.ndarray) -> float:
    """The threshold above which pairs are of one person with most right, in the middle of a gap.

    Args:
        similarity: (n,) of pairs.
        same: (n,) bool.
    """
    order = np.argsort(similarity, kind="stable")
    values, truth = similarity[order], same[order]
    # right with k pairs below the threshold: different ones below, same ones above
    right = (
        np.concatenate([[0], np.cumsum(~truth)])
        + truth.sum()
        - np.concatenate([[0], np.cumsum(truth)])
    )
    edges = np.concatenate([[values[0] - 1e-6], values, [values[-1] + 1e-6]])
    middles = (edges[:-1] + edges[1:]) / 2
    possible = np.concatenate([[True], np.diff(values) > 0, [True]])
    return float(middles[np.where(possible, right, -1).argmax()])


def verify(similarity: np.ndarray, pairs: Pairs) -> dict:
    """Accuracy of every fold at the threshold that is best on the others.

    Returns:
        accuracy (mean over folds), half_width of its 95 % interval (Student's t; None with one
        fold), per_fold (fold -> accuracy and threshold), auc, num_pairs.
    """
    from sklearn.metrics import roc_auc_score

    names = np.array(pairs.folds)
    scored = [name for name in dict.fromkeys(pairs.folds) if name != TRAINING_FOLD]
    per_fold = {}
    for name in scored:
        own = names == name
        threshold = best_threshold(similarity[~own], pairs.same[~own])
        right = (similarity[own] > threshold) == pairs.same[own]
        per_fold[name] = {"accuracy": float(right.mean()), "threshold": threshold}
    accuracies = [fold["accuracy"] for fold in per_fold.values()]
    inside = np.isin(names, scored)
    return {
        "accuracy": float(np.mean(accuracies)),
        "half_width": half_width(accuracies),
        "auc": float(roc_auc_score(pairs.same[inside], similarity[inside])),
        "num_pairs": int(inside.sum()),
        "per_fold": per_fold,
    }


class _Images(torch.utils.data.Dataset):
    """Images as clips that repeat them, `clip` (1, T, S, S, 3) uint8."""

    def __init__(self, paths: Sequence[str], model: nn.Module, window: tuple | None):
        self.paths, self.window = paths, window
        self.num_frames, self.size = model.num_frames, model.img_size
        self.item_bytes = self.num_frames * self.size**2 * 3

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        with open_video(self.paths[index]) as video:
            image = cut_window(video.read([0]), self.window, self.paths[index])
        square = transforms.resize_square(image, self.size)
        return {"clip": np.repeat(square, self.num_frames, axis=0)[None]}


@torch.inference_mode()
def features_of(
    model: nn.Module,
    paths: Sequence[str],
    *,
    device: torch.device,
    window: tuple[int, int, int, int] | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
) -> np.ndarray:
    """Unit features of images, (n, D) float32.

    Args:
        window: (top, left, height, width) in pixels that is used of each image; None: all.
    """
    build.place(model, device).eval()
    images = Reading.in_order(_Images(paths, model, window), batch_size)
    total = images.num_batches
    progress = Progress("faces", total=total, done=0, clips_per_step=batch_size, enabled=True)
    found = []
    with Loader([images], num_workers=num_workers) as loader:
        for batch in loader.read(images):
            pixels = transforms.normalize(transforms.to_float(batch["clip"].to(device)))
            feature = model.forward_features(pixels).float()
            found.append(nn.functional.normalize(feature.flatten(1), dim=1).cpu().numpy())
            progress.step(0.0)
    progress.close()
    features = np.concatenate(found)
    require_finite(features, "features")
    return features


def run(checkpoint: str, pairs_file: str, **options) -> dict:
    """Score a checkpoint; options are those of `features_of`, the device by name."""
    pairs = read_pairs(pairs_file)
    workers = distributed.start(options.pop("device", "auto"))
    model, identity = load_frozen(checkpoint)
    paths = sorted({image for pair in pairs.images for image in pair})
    absent = [path for path in paths if not Path(path).exists()]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} of {len(paths)} images of {pairs_file} are not there, such as "
            f"{absent[0]}; run preprocess.lfw again where they are now"
        )
    features = features_of(model, paths, device=workers.device, **options)
    place = {path: number for number, path in enumerate(paths)}
    first, second = (features[[place[pair[side]] for pair in pairs.images]] for side in range(2))
    result = verify((first * second).sum(1).astype(np.float64), pairs)
    return result | {
        "checkpoint": checkpoint,
        "model": identity.config["name"],
        "pairs": pairs_file,
    }


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.engine.verify_faces`."""
    parser = argparse.ArgumentParser("engine.verify_faces", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("checkpoint", help="pre-trained or fine-tuned weights, ours or released")
    add("--pairs", required=True, metavar="FILE", help="pairs.csv of preprocess.lfw")
    add(
        "--face_window", type=int, nargs=4, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
        help="part of each image that is used, pixels",
    )  # fmt: skip
    add("--batch_size", type=int, default=64)
    add("--num_workers", type=int, default=0)
    add("--device", default="auto")
    add("--output", metavar="FILE.json", help="write everything as JSON")
    return parser


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    flags = build_parser().parse_args(arguments)
    set_up_logging(is_main=True)
    result = run(
        flags.checkpoint,
        flags.pairs,
        device=flags.device,
        window=tuple(flags.face_window) if flags.face_window else None,
        batch_size=flags.batch_size,
        num_workers=flags.num_workers,
    )
    if flags.output:
        Path(flags.output).parent.mkdir(parents=True, exist_ok=True)
        write_text(flags.output, json.dumps(result, indent=2) + "\n")
    spread = "" if result["half_width"] is None else f" ± {100 * result['half_width']:.2f}"
    sys.stdout.write(
        f"accuracy {100 * result['accuracy']:.2f}{spread} % of {result['num_pairs']} pairs in "
        f"{len(result['per_fold'])} folds, area under the ROC curve {result['auc']:.4f}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
