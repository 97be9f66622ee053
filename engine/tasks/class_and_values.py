"""A class and some numbers of the same video by one model: expression, valence and arousal."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from engine.results.kinds.numbers import ClassesAndNumbers
from engine.tasks.classification import Classification
from engine.tasks.regression import MIXING_FLAGS, Regression
from engine.tasks.task import Task


@dataclass
class ClassAndValues(Task):
    """Cross-entropy of a class plus a regression loss of some dimensions, from one feature.

    The model has one head whose rows are the classes, then the dimensions. Labels are (B, 1 + L):
    the class, then the numbers. Clips are not mixed.
    """

    head: str
    classifier: Classification
    regressor: Regression

    default_metric = "uar"

    @classmethod
    def create(cls, flags, names, heads) -> "ClassAndValues":
        """See `Task`.

        Raises:
            ValueError: flags ask for mixing of clips or an activation.
        """
        if flags.head_activation_func not in (None, "none"):
            raise ValueError(
                f"--head_activation_func {flags.head_activation_func}: would act on the class "
                "too; leave it out"
            )
        [(head, classes)] = heads.items()
        dimensions = [name for name in names if name not in heads]
        return cls(
            head=head,
            classifier=Classification(names=list(classes), smoothing=flags.smoothing),
            regressor=Regression.create(flags, dimensions, {}, refused=MIXING_FLAGS),
        )

    @property
    def names(self) -> list[str]:
        """The head, then the dimensions."""
        return [self.head, *self.regressor.names]

    @property
    def num_classes(self) -> int:
        """Outputs that are about the class."""
        return self.classifier.num_outputs

    @property
    def num_outputs(self) -> int:
        """Classes and dimensions."""
        return self.num_classes + self.regressor.num_outputs

    @property
    def remark(self) -> str:
        """What the plan says about the loss."""
        return f"cross-entropy + {self.regressor.loss_kind} loss; mixup and cutmix are off"

    def training_loss(self, model, clip, label, mixes) -> torch.Tensor:
        """Sum of both losses over the batch."""
        outputs = model(clip).float()
        classes, values = outputs[:, : self.num_classes], outputs[:, self.num_classes :]
        smoothing = self.classifier.smoothing
        loss = F.cross_entropy(classes, label[:, 0].long(), label_smoothing=smoothing)
        return loss + self.regressor.loss_of(values, label[:, 1:])

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Class probabilities, then the values."""
        outputs = outputs.float()
        classes = outputs[..., : self.num_classes].softmax(dim=-1)
        return torch.cat([classes, outputs[..., self.num_classes :]], dim=-1)

    def loss(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """Sum of both tasks' losses of averaged scores."""
        labels, place = np.asarray(labels), self.num_classes
        of_class = self.classifier.loss(scores[:, :place], labels[:, 0].astype(np.int64))
        return of_class + self.regressor.loss(scores[:, place:], labels[:, 1:])

    def predictions(self, ids, labels, scores, frames=None) -> ClassesAndNumbers:
        """Predictions of the class, which carry those of the values."""
        labels, place = np.asarray(labels), self.num_classes
        own = self.classifier.predictions(ids, labels[:, 0], scores[:, :place])
        values = self.regressor.predictions(ids, labels[:, 1:], scores[:, place:])
        return ClassesAndNumbers(**vars(own), values=values)
