"""Classification: one class per video."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from svfap.datasets.augment.mixing import Mix, Mixer, mix_clips
from svfap.engine.results.kinds.classes import Classes
from svfap.engine.tasks.task import Task


@dataclass
class Classification(Task):
    """One class per video: cross-entropy, mixup and cutmix, label smoothing; UAR and WAR.

    `class_weights`, if set, scale each class's part of the loss; the mean stays one over clips.
    They are float32 and on the device of the training.
    """

    names: list[str]
    mixer: Mixer | None = None
    smoothing: float = 0.0
    class_weights: torch.Tensor | None = None

    default_metric = "uar"
    probabilities = True
    can_be_probed = True

    @classmethod
    def create(cls, flags, names, heads) -> "Classification":
        """See `Task`."""
        mixer = None
        if flags.mixup > 0 or flags.cutmix > 0 or flags.cutmix_minmax:
            mixer = Mixer(
                mixup_alpha=flags.mixup, cutmix_alpha=flags.cutmix, prob=flags.mixup_prob,
                cutmix_minmax=flags.cutmix_minmax, switch_prob=flags.mixup_switch_prob,
                mode=flags.mixup_mode, label_smoothing=flags.smoothing, num_classes=len(names),
            )  # fmt: skip
        return cls(names=names, mixer=mixer, smoothing=flags.smoothing)

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.names)

    def draw_mixes(self, draws, num_clips: int, size: int) -> list[Mix] | None:
        """As the mixer draws."""
        return self.mixer and self.mixer.draw(draws, num_clips, size, size)

    def training_loss(self, model, clip, label, mixes) -> torch.Tensor:
        """Cross-entropy against mixed or smoothed labels."""
        clip = clip if mixes is None else mix_clips(clip, mixes)
        return self.loss_of(model(clip).float(), label, mixes)

    def loss_of(self, logits: torch.Tensor, label: torch.Tensor, mixes=None) -> torch.Tensor:
        """The loss of logits (B, C) of clips that were mixed so, with classes (B,)."""
        label, smoothing = label.long(), self.smoothing
        if mixes is not None:
            label, smoothing = self.mixer.mix_labels(label, mixes), 0.0
        if self.class_weights is None:
            return F.cross_entropy(logits, label, label_smoothing=smoothing)
        if label.ndim == 1:  # for class indices, torch would divide by the sum of the weights
            label = F.one_hot(label, self.num_outputs) * (1 - smoothing)
            label = label + smoothing / self.num_outputs
        return F.cross_entropy(logits, label, weight=self.class_weights)

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Class probabilities."""
        return outputs.float().softmax(dim=-1)

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Negative log of the true class's mean probability."""
        chosen = scores[np.arange(len(labels)), np.asarray(labels, np.int64)]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    def predictions(self, ids, labels, scores, frames=None) -> Classes:
        """Predictions with the names of the classes."""
        return Classes.from_scores(ids, labels, scores, self.names)

    def answer(self, scores) -> str:
        """The most probable class."""
        return self.names[int(scores.argmax())]

    def balance(self, weights) -> None:
        """See `Task`."""
        self.class_weights = weights
