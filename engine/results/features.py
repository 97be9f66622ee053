"""Features of videos: recorded while a model runs, written to documented files.

Names: `feature` is the pooled and normalised feature that the head sees; `stage1`, `stage2`, ...
the mean over the tokens of each encoder stage (TPSBT has three, ViT and LGI-Former one).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

from svfap.datasets.files import replacing
from svfap.datasets.tables import readable
from svfap.extras import install

FORMATS = ("npz", "parquet")
POOLED = "feature"
MIN_EMBEDDED = 10


class StageRecorder:
    """While entered, keeps the mean tokens of every stage that a model's encoder returns.

    `tokens` are those of the last stage, (B, V, D), of the batch that was just run.

    Args:
        model: of `models.create_model`, fine-tuning or pre-training.
    """

    def __init__(self, model: "nn.Module"):
        self.encoder = getattr(model, "encoder", model)
        self.stages: list[Tensor] = []
        self.widths: dict[str, int] = {}

    def __enter__(self) -> "StageRecorder":
        whole = self.encoder.encode

        def encode(tokens: "Tensor", indices: "Tensor | None" = None):
            output = whole(tokens, indices)
            self.tokens = output.stages[-1].detach()
            self.stages = [stage.detach().float().mean(1) for stage in output.stages]
            return output

        self.encoder.encode = encode
        return self

    def __exit__(self, *_) -> None:
        del self.encoder.encode

    def take(self, pooled: "Tensor") -> "Tensor":
        """Features of the batch that was just run.

        Args:
            pooled: (B, D), or (B, T', D) of a model with a feature per time step, which is
                averaged.

        Returns:
            (B, sum of widths) float32, all side by side; `split` takes them apart.
        """
        import torch  # late: tables and reports do without

        pooled = pooled.float()
        named = {POOLED: pooled.mean(1) if pooled.ndim == 3 else pooled}
        named |= {f"stage{i}": stage for i, stage in enumerate(self.stages, 1)}
        self.widths = {name: value.shape[1] for name, value in named.items()}
        return torch.cat(list(named.values()), dim=1)

    def split(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """Take (n, sum of widths) features apart: name -> (n, D) float32."""
        ends = np.cumsum(list(self.widths.values()))[:-1]
        parts = np.split(features.astype(np.float32), ends, axis=1)
        return dict(zip(self.widths, parts, strict=True))


def tsne(features: np.ndarray) -> tuple[np.ndarray, int]:
    """t-SNE of (n, D) features: (n, 2) points, and the perplexity that so many allow.

    Raises:
        ValueError: fewer than `MIN_EMBEDDED` videos.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(features) < MIN_EMBEDDED:
        raise ValueError(f"t-SNE of {len(features)} videos: needs at least {MIN_EMBEDDED}")
    reduced = PCA(min(50, *features.shape), random_state=0).fit_transform(features)
    perplexity = min(30, (len(features) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced)
    return points, round(perplexity)


def write_features(
    folder: Path,
    *,
    ids: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    label_names: Sequence[str] | None = None,
    features: dict[str, np.ndarray],
    formats: Sequence[str] = ("npz",),
) -> list[Path]:
    """Write `features.npz` and/or `features.parquet`, each completely or not at all.

    npz: arrays `id` (n,), `label` (n,) or (n, L), `score` (n, C), `name` (C,), and every feature
    (n, D) float32. Parquet: a row per video with columns `id`, `label` (or `label_<name>`...),
    `score_<name>`..., and a list of numbers per feature.

    Args:
        folder: run directory; it must exist.
        ids: n videos.
        labels: (n,) classes, (n, L) numbers or (n, H) classes of several heads.
        scores: (n, C) probabilities or predicted values.
        names: C class or dimension names.
        label_names: names of the labels' columns; default: `names`.
        features: name -> (n, D).
        formats: of `FORMATS`; parquet needs pandas and pyarrow.

    Raises:
        ValueError: an unknown format, or parquet without pyarrow.
    """
    check_formats(formats)
    written = []
    for suffix in formats:
        path = folder / f"features.{suffix}"
        with replacing(path) as temporary:
            if suffix == "npz":
                _write_npz(temporary, ids, labels, scores, names, features)
            else:
                columns = label_names or names
                _write_parquet(temporary, ids, labels, scores, names, columns, features)
        written.append(path)
    return written


def check_formats(formats: Sequence[str]) -> None:
    """Raise ValueError where a format is unknown or lacks its library; for the start of a run."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"feature format {unknown}: choose among {', '.join(FORMATS)}")
    if "parquet" not in formats:
        return
    try:
        import pyarrow  # noqa: F401 - asked whether it is there
    except ImportError as error:
        raise ValueError(
            f"--feature_format parquet needs pyarrow: {install('parquet')}, or take npz"
        ) from error


def _write_npz(path: Path, ids, labels, scores, names, features) -> None:
    with path.open("wb") as file:
        np.savez(
            file,
            id=np.array(list(ids)),
            label=np.asarray(labels),
            score=np.asarray(scores, dtype=np.float32),
            name=np.array(list(names)),
            **{name: value.astype(np.float32) for name, value in features.items()},
        )


def _write_parquet(path: Path, ids, labels, scores, names, label_names, features) -> None:
    import pandas

    columns: dict[str, object] = {"id": [readable(name) for name in ids]}  # it takes UTF-8 only
    labels = np.asarray(labels)
    if labels.ndim == 1:
        columns["label"] = labels
    else:
        columns |= {f"label_{name}": labels[:, i] for i, name in enumerate(label_names)}
    columns |= {f"score_{n}": np.asarray(scores)[:, i] for i, n in enumerate(names)}
    columns |= {name: list(value.astype(np.float32)) for name, value in features.items()}
    pandas.DataFrame(columns).to_parquet(path, index=False)
