"""How good are frozen features? A linear and an attentive probe and a k-nearest-neighbour vote.

All are fitted on the features of a fold's training part and scored on its test part; the encoder
stays as it is. `engine.probe` is the command, `--probe_every` does it during pre-training.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from svfap import models
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.labels.splits import carve_validation
from svfap.datasets.loading.loader import Batches, Loader, Reading
from svfap.engine import build
from svfap.engine.evaluate import evaluate
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.flag import Flags
from svfap.engine.flags.parsing import as_words, parse_flags
from svfap.engine.identity import Identity, identify
from svfap.engine.probe.attentive import attentive_probe
from svfap.engine.results.features import POOLED
from svfap.engine.results.metrics import classification_metrics, regression_metrics, require_finite
from svfap.engine.results.tokens import TokenCache, Tokens
from svfap.engine.runtime.distributed import Workers
from svfap.engine.selection import known_subjects
from svfap.engine.setting import Setting, settle
from svfap.engine.tasks.task import Task

logger = logging.getLogger(__name__)

# C of logistic regression, 1 / alpha of ridge
STRENGTHS = (1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0)
HELD_OUT = 0.2  # of the training part, to choose among them
NEIGHBOURS = 20
TEMPERATURE = 0.07  # of the vote, as in Wu et al. (arXiv 1805.01978)
SHOWN = ("uar", "war", "macro_f1", "ccc", "pcc", "rmse")  # as far as they are measured


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Features of the videos of one part."""

    features: dict[str, np.ndarray]  # name -> (n, D), see `engine.results.features`
    labels: np.ndarray  # (n,) int64 classes, or (n, L) numbers
    tokens: Tokens | None = None  # for the attentive probe, if there is to be one


def frozen_encoder(config: Mapping) -> nn.Module:
    """A model without head that has the encoder of `config`, pre-training or fine-tuning."""
    name = models.encoder_name(config["name"])
    known = models.default_config(name)
    sizes = {key: value for key, value in config.items() if key in known}
    fixed = {"name": name, "num_classes": 0, "drop_path_rate": 0.0, "head_activation": None}
    fixed["keep_temporal_dim"] = False
    fixed |= {key: known[key] for key in ("stats_mode",) if key in known}  # clip by clip
    return models.create_model(**(sizes | fixed))


def set_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take the encoder's weights from a state dict; heads are left out."""
    kept = {name: value for name, value in state.items() if not name.startswith("head.")}
    models.load_weights(model, kept)


def load_frozen(checkpoint: str | Path) -> tuple[nn.Module, Identity]:
    """The encoder of a checkpoint, pre-trained or fine-tuned, and what the checkpoint is.

    ValueError of weights that cannot be used.
    """
    identity = identify(checkpoint)
    model = frozen_encoder(identity.config)
    set_weights(model, identity.weights)
    return model, identity


def frozen_setting(
    flags: Flags,
    workers: Workers,
    model: nn.Module,
    identity: Identity | None = None,
) -> Setting:
    """Data set and encoder (`frozen_encoder`), which comes from `identity` if that is a file.

    Where flags do not say it, clips are as a fine-tuned checkpoint was trained; those of a pre-
    trained one, which come from other videos, as in the data set's recipe. ValueError of labels
    that are not classes or numbers per video, or of contradicting flags.
    """
    setting = settle(flags, workers, model=model)
    if not setting.task.can_be_probed:
        raise ValueError(f"a probe needs a class or numbers per video, not {setting.kind}.")
    trained = identity if identity and identity.labels else None
    recipe = trained or build.resolve_spec(flags.data_set, flags.data_path)
    if recipe and "sampling_rate" not in flags.explicit and recipe.sampling_rate:
        setting.sampling_rate = recipe.sampling_rate
    if trained and not flags.face_window:
        setting.window = trained.face_window
    return setting


def extract(
    setting: Setting,
    annotations: Annotations,
    batches: Batches,
    *,
    title: str,
    stages: bool = True,
    token_gib: float = 0,
) -> Frozen:
    """Features of all videos of a part, the mean over the views that are in the batches.

    Without `stages` only the pooled feature; tokens may take `token_gib` of memory, 0: none are
    kept.

    Raises:
        ValueError: a feature is not finite, or tokens take too much memory.
        UnreadableInEvaluationError: lists every video that could not be read.
    """
    cache = TokenCache(len(annotations), token_gib) if token_gib else None
    evaluated = evaluate(
        setting.model,
        batches,
        _Unscored(),
        annotations=annotations,
        workers=setting.workers,
        precision=setting.precision,
        title=title,
        with_features=True,
        cache=cache,
    )
    features = evaluated.features if stages else {POOLED: evaluated.features[POOLED]}
    for name, values in features.items():
        require_finite(values, f"features {name!r}")
    tokens = cache.gathered(setting.workers.gather) if cache else None
    return Frozen(features=features, labels=annotations.labels, tokens=tokens)


class _Unscored(Task):
    """In place of a task: the model's outputs are its features."""

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.flatten(1)


def probe(
    train: Frozen,
    test: Frozen,
    names: Sequence[str],
    *,
    subjects: Sequence[str] | None = None,
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep: dict[str, np.ndarray] | None = None,
) -> dict[str, dict[str, dict]]:
    """Score every kind of feature by all methods.

    Args:
        train: what the methods are fitted on; `test`: what they are scored on.
        subjects: subject of each training video; strengths are then chosen on subjects left out,
            else on a stratified part.
        seed: of that choice, and of the attentive probe, which is trained on `device`.
        keep: gets method -> (n, C) scores from the pooled feature.

    Returns:
        feature -> "linear", "knn" and, of the pooled one where there are tokens, "attentive" ->
        metrics as in metrics.json, beside what was chosen: `strength`, `weight_decay`.
    """
    held_out = _held_out(train.labels, subjects, seed)
    y, num_outputs = train.labels, len(names)
    results: dict[str, dict[str, dict]] = {}

    def measured(scores: np.ndarray, **chosen: float) -> dict:
        if y.ndim == 2:
            return regression_metrics(test.labels, scores, names) | chosen
        return classification_metrics(test.labels, scores.argmax(1), names) | chosen

    for name, x in train.features.items():
        x_test = test.features[name]
        linear, strength = linear_probe(x, y, x_test, held_out, num_outputs=num_outputs)
        scores = {"linear": linear}
        scores["knn"] = nearest_neighbours(x, y, x_test, neighbours, num_classes=num_outputs)
        chosen = {"linear": {"strength": strength}}
        if name == POOLED and train.tokens is not None:
            scores["attentive"], decay = attentive_probe(
                train.tokens, y, test.tokens, held_out, num_outputs=num_outputs, seed=seed,
                device=device,
            )  # fmt: skip
            chosen["attentive"] = {"weight_decay": decay}
        if name == POOLED and keep is not None:
            keep |= scores
        results[name] = {
            method: measured(own, **chosen.get(method, {})) for method, own in scores.items()
        }
    return results


def linear_probe(
    x: np.ndarray,
    y: np.ndarray,
    x_test: np.ndarray,
    held_out: np.ndarray | None,
    *,
    num_outputs: int,
) -> tuple[np.ndarray, float]:
    """Logistic regression (classes) or ridge (numbers) on standardised features.

    Args:
        x: (n, D) training features.
        y: (n,) classes or (n, L) numbers.
        x_test: (m, D).
        held_out: (n,) bool, training videos that choose the strength; None: strength 1.

    Returns:
        (m, num_outputs) probabilities or numbers for `x_test`, and the strength chosen.
    """
    from sklearn.metrics import balanced_accuracy_score

    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    strength = 1.0
    if held_out is not None:
        scores = []
        for candidate in STRENGTHS:
            guess = _fitted(x[~held_out], y[~held_out], candidate).predict(x[held_out])
            if y.ndim == 1:
                with warnings.catch_warnings():  # a class that is only predicted does not matter
                    warnings.simplefilter("ignore", UserWarning)
                    scores.append(balanced_accuracy_score(y[held_out], guess))
            else:
                scores.append(-np.square(guess.reshape(y[held_out].shape) - y[held_out]).mean())
        strength = STRENGTHS[int(np.argmax(scores))]
    return _answers(_fitted(x, y, strength), x_test, num_outputs), strength


def _fitted(x: np.ndarray, y: np.ndarray, strength: float):
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    if y.ndim == 2:
        return Ridge(alpha=1 / strength).fit(x, y)
    if len(np.unique(y)) == 1:
        return DummyClassifier().fit(x, y)
    with warnings.catch_warnings():  # a probe need not be at the last digit of its optimum
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=500).fit(x, y)


def nearest_neighbours(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, neighbours: int, *, num_classes: int
) -> np.ndarray:
    """Vote (classes) or mean (numbers) of the k most similar training videos.

    Similarity is the cosine after the training mean is taken off; votes weigh
    exp(cosine / temperature).

    Args:
        x: (n, D) training features.
        y: (n,) classes or (n, L) numbers.
        x_test: (m, D).

    Returns:
        (m, num_classes) shares of the votes, or (m, L) means.
    """
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    kind = KNeighborsClassifier if y.ndim == 1 else KNeighborsRegressor
    voters = kind(
        min(neighbours, len(x)), metric="cosine",
        weights=lambda distances: np.exp(-distances / TEMPERATURE),
    )  # fmt: skip
    mean = x.mean(0)
    return _answers(voters.fit(x - mean, y), x_test - mean, num_classes)


def _answers(fitted, x: np.ndarray, num_outputs: int) -> np.ndarray:
    """(n, num_outputs) probabilities, 0 of classes that were never seen; or numbers."""
    if not hasattr(fitted, "classes_"):
        return fitted.predict(x).reshape(len(x), num_outputs)
    scores = np.zeros((len(x), num_outputs))
    scores[:, fitted.classes_] = fitted.predict_proba(x)
    return scores


def _held_out(labels: np.ndarray, subjects: Sequence[str] | None, seed: int) -> np.ndarray | None:
    """Training videos that choose the strength; None where there are too few."""
    classes = [str(label) for label in labels] if labels.ndim == 1 else ["any"] * len(labels)
    try:
        chosen = carve_validation(classes, HELD_OUT, seed=seed, subjects=subjects)
    except ValueError:
        return None
    return np.array(chosen)


def flat(results: Mapping[str, Mapping[str, dict]]) -> dict[str, float]:
    """Scores of the pooled feature for a log line: probe_linear_uar, probe_knn_war, ..."""
    return {
        f"probe_{method}_{score}": metrics[score]
        for method, metrics in results[POOLED].items()
        for score in SHOWN
        if score in metrics
    }


class PretrainingProbe:
    """`--probe_every`: probes the encoder while it is pre-trained; training is not changed."""

    def __init__(self, flags: Flags, workers: Workers, config: Mapping):
        shared = ("reader", "batch_size", "amp", "seed", "data_root", "num_workers", "check_paths")
        settings = {name: getattr(flags, name) for name in shared}
        settings |= {"data_path": flags.probe_path, "data_set": flags.probe_data_set}
        own = parse_flags(finetuning_parser(), as_words(settings))
        self.every, self.seed = flags.probe_every, flags.seed
        self.setting = frozen_setting(own, workers, frozen_encoder(config))
        self.parts = [self.setting.read("train"), self.setting.read("test")]
        self._readings = [self.setting.reading(part, middle=True) for part in self.parts]
        self.subjects = known_subjects(self.setting, self.parts[0])

    def readings(self, epoch: int) -> list[Reading]:
        """What is read after 0-based `epoch`, empty where no scores are due."""
        return [] if (epoch + 1) % self.every else self._readings

    def __call__(
        self, loader: Loader, weights: Callable[[], Mapping[str, Tensor]]
    ) -> dict[str, float]:
        """Scores, where they are due; called on all processes."""
        set_weights(self.setting.model, weights())
        train, test = (
            extract(self.setting, part, loader.read(reading), title=f"probe, {name}", stages=False)
            for name, part, reading in zip(("training", "test"), self.parts, self._readings)
        )
        if not self.setting.workers.is_main:
            return {}
        names = self.setting.task.names
        results = probe(train, test, names, subjects=self.subjects, seed=self.seed)
        line = flat(results)
        logger.info("probe: %s", "  ".join(f"{k} {v:.4f}" for k, v in line.items()))
        return line
