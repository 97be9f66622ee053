"""Classification tasks: one class per video, or one class per video and head."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from datasets.augment.mixing import Mix, Mixer, mix_clips
from engine.results.kinds.classes import Classes, ClassesOfHeads, split_heads
from engine.tasks.task import Task


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
        return cls(names=names, mixer=_mixer(flags, len(names)), smoothing=flags.smoothing)

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.names)

    def draw_mixes(self, draws, num_clips: int, size: int) -> list[Mix] | None:
        """As the mixer draws."""
        return self.mixer and self.mixer.draw(draws, num_clips, size, size)

    def training_loss(self, model, clip, label, mixes) -> torch.Tensor:
        """Cross-entropy against mixed or smoothed labels."""
        smoothing = self.smoothing
        if mixes is not None:
            clip, label = mix_clips(clip, mixes), self.mixer.mix_labels(label, mixes)
            smoothing = 0.0
        logits = model(clip).float()
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
        return _negative_log_likelihood(scores, labels)

    def predictions(self, ids, labels, scores, frames=None) -> Classes:
        """Predictions with the names of the classes."""
        return Classes.from_scores(ids, labels, scores, self.names)

    def answer(self, scores) -> str:
        """The most probable class."""
        return self.names[int(scores.argmax())]

    def balance(self, weights) -> None:
        """See `Task`."""
        self.class_weights = weights


@dataclass
class Multihead(Task):
    """Several classifications of the same video, such as arousal and valence of AVCAffe.

    The model has one head whose rows are the classes of all heads, block after block. The loss is
    the sum of the heads' cross-entropies; a clip is mixed once, its labels head by head.
    """

    heads: Mapping[str, Sequence[str]]
    mixers: Sequence[Mixer] = ()
    smoothing: float = 0.0

    default_metric = "weighted_f1"
    probabilities = True

    @classmethod
    def create(cls, flags, names, heads) -> "Multihead":
        """See `Task`."""
        mixers = [_mixer(flags, len(classes)) for classes in heads.values()]
        return cls(
            heads=dict(heads),
            mixers=[mixer for mixer in mixers if mixer is not None],
            smoothing=flags.smoothing,
        )

    @property
    def names(self) -> list[str]:
        """The heads."""
        return list(self.heads)

    @property
    def sizes(self) -> list[int]:
        """Number of classes of each head."""
        return [len(classes) for classes in self.heads.values()]

    @property
    def num_outputs(self) -> int:
        """Number of classes of all heads together."""
        return sum(self.sizes)

    def draw_mixes(self, draws, num_clips: int, size: int) -> list[Mix] | None:
        """As the first head's mixer draws."""
        return self.mixers[0].draw(draws, num_clips, size, size) if self.mixers else None

    def training_loss(self, model, clip, label, mixes) -> torch.Tensor:
        """Sum over heads of cross-entropy against mixed or smoothed labels (B, H)."""
        labels, smoothing = label.unbind(dim=1), self.smoothing
        if mixes is not None:
            clip = mix_clips(clip, mixes)
            labels = [
                mixer.mix_labels(of_head, mixes) for mixer, of_head in zip(self.mixers, labels)
            ]
            smoothing = 0.0
        blocks = model(clip).float().split(self.sizes, dim=-1)
        losses = [
            F.cross_entropy(block, of_head, label_smoothing=smoothing)
            for block, of_head in zip(blocks, labels, strict=True)
        ]
        return torch.stack(losses).sum()

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Class probabilities of each head, side by side."""
        blocks = outputs.float().split(self.sizes, dim=-1)
        return torch.cat([block.softmax(dim=-1) for block in blocks], dim=-1)

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Sum over heads of the negative log of the true class's mean probability."""
        return sum(map(_negative_log_likelihood, split_heads(scores, self.heads), labels.T))

    def predictions(self, ids, labels, scores, frames=None) -> ClassesOfHeads:
        """Predictions with the names of heads and classes."""
        return ClassesOfHeads.from_scores(ids, labels, scores, self.heads)


def _mixer(flags: argparse.Namespace, num_classes: int) -> Mixer | None:
    if not (flags.mixup > 0 or flags.cutmix > 0 or flags.cutmix_minmax):
        return None
    return Mixer(
        mixup_alpha=flags.mixup,
        cutmix_alpha=flags.cutmix,
        cutmix_minmax=flags.cutmix_minmax,
        prob=flags.mixup_prob,
        switch_prob=flags.mixup_switch_prob,
        mode=flags.mixup_mode,
        label_smoothing=flags.smoothing,
        num_classes=num_classes,
    )


def _negative_log_likelihood(scores: np.ndarray, labels: np.ndarray) -> float:
    chosen = scores[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())
