"""Tasks with several answers about a video: the classes of heads, or a class and some numbers."""

from dataclasses import dataclass

import numpy as np
import torch

from svfap.datasets.augment.mixing import Mix, mix_clips
from svfap.engine.results.kinds.classes import ClassesOfHeads
from svfap.engine.results.kinds.numbers import ClassesAndNumbers
from svfap.engine.tasks.classification import Classification
from svfap.engine.tasks.regression import MIXING_FLAGS, Regression
from svfap.engine.tasks.task import Task


@dataclass
class Composite(Task):
    """Several tasks from one feature; their losses are added.

    The model has one head whose rows are the outputs of the parts, block after block. Labels have
    the parts' columns side by side: one of a class, L of numbers.
    """

    names: list[str]
    parts: list[Classification | Regression]

    @property
    def num_outputs(self) -> int:
        """Outputs of all parts together."""
        return sum(part.num_outputs for part in self.parts)

    def draw_mixes(self, draws, num_clips: int, size: int) -> list[Mix] | None:
        """As the first part mixes; a clip is mixed once, its labels part by part."""
        return self.parts[0].draw_mixes(draws, num_clips, size)

    def training_loss(self, model, clip, label, mixes) -> torch.Tensor:
        """Sum of the parts' losses over the batch."""
        clip = clip if mixes is None else mix_clips(clip, mixes)
        split = self._split(model(clip).float(), label)
        return torch.stack([part.loss_of(*both, mixes) for part, *both in split]).sum()

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Scores of each part, side by side."""
        blocks = outputs.split([part.num_outputs for part in self.parts], dim=-1)
        return torch.cat([part.scores(block) for part, block in zip(self.parts, blocks)], dim=-1)

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Sum of the parts' losses of averaged scores."""
        return sum(part.loss(*both) for part, *both in self._split(scores, np.asarray(labels)))

    def _split(self, outputs, labels) -> list[tuple]:
        """Each part with its outputs and its labels, from arrays or tensors."""
        found, row, column = [], 0, 0
        for part in self.parts:
            end = row + part.num_outputs
            is_class = isinstance(part, Classification)
            width = 1 if is_class else part.num_outputs
            own = labels[:, column] if is_class else labels[:, column : column + width]
            found.append((part, outputs[:, row:end], own))
            row, column = end, column + width
        return found


class Multihead(Composite):
    """Several classifications of the same video, such as arousal and valence of AVCAffe."""

    default_metric = "weighted_f1"
    probabilities = True

    @classmethod
    def create(cls, flags, names, heads) -> "Multihead":
        """See `Task`."""
        parts = [Classification.create(flags, list(classes), {}) for classes in heads.values()]
        return cls(names=list(heads), parts=parts)

    def predictions(self, ids, labels, scores, frames=None) -> ClassesOfHeads:
        """Predictions with the names of heads and classes."""
        heads = {name: part.names for name, part in zip(self.names, self.parts, strict=True)}
        return ClassesOfHeads.from_scores(ids, labels, scores, heads)


class ClassAndValues(Composite):
    """A class and some numbers: expression, valence and arousal. Clips are not mixed."""

    default_metric = "uar"

    @classmethod
    def create(cls, flags, names, heads) -> "ClassAndValues":
        """See `Task`; ValueError where flags ask for mixing of clips or an activation."""
        if flags.head_activation_func not in (None, "none"):
            raise ValueError(
                f"--head_activation_func {flags.head_activation_func}: would act on the class "
                "too; leave it out"
            )
        [(head, classes)] = heads.items()
        dimensions = [name for name in names if name not in heads]
        classifier = Classification(names=list(classes), smoothing=flags.smoothing)
        regressor = Regression.create(flags, dimensions, {}, refused=MIXING_FLAGS)
        return cls(names=[head, *dimensions], parts=[classifier, regressor])

    @property
    def remark(self) -> str:
        """What the plan says about the loss."""
        return f"cross-entropy + {self.parts[1].loss_kind} loss; mixup and cutmix are off"

    def predictions(self, ids, labels, scores, frames=None) -> ClassesAndNumbers:
        """Predictions of the class, which carry those of the values."""
        own, values = (
            part.predictions(ids, of_part, block)
            for part, block, of_part in self._split(scores, np.asarray(labels))
        )
        return ClassesAndNumbers(**vars(own), values=values)
