"""Fine-tuning: any encoder, the mean of its summary tokens, a norm and a head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svfap.models.encoder import layer_groups
from svfap.models.layers import LayerNorm, init_linear_and_norm

HEAD_ACTIVATIONS = {
    None: nn.Identity,
    "none": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}
HEAD_SCALE = 0.001
HEAD_NORMS = ("layer", "batch")


class Classifier(nn.Module):
    """Adds pooling and a head to an encoder; combined as `class X(Classifier, SomeEncoder)`.

    Inheritance rather than wrapping keeps the released parameter names ("blocks.0...").

    Args:
        num_classes: outputs of the head; 0: no head, the model returns its feature.
        head_activation: None or "none", "sigmoid", "relu" or "tanh", applied to the outputs.
        keep_temporal_dim: average over space only, so that every time step of the summary gets its
            feature and its outputs (see `output_steps`).
        head_norm: between pooling and head: "layer", as in the papers' models (timm's backbones
            end in their own), or "batch", a batch norm without weights of its own, as in MAE's
            linear probes. Pooled features of a young encoder differ little between clips; batch
            norm brings their differences to unit size, so that short trainings learn from them.

    Raises:
        ValueError: num_classes, head_activation or head_norm is not one of the allowed values.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        head_activation: str | None,
        keep_temporal_dim: bool,
        head_norm: str = "layer",
        **encoder_options,
    ):
        super().__init__(**encoder_options)
        if head_activation not in HEAD_ACTIVATIONS:
            raise ValueError(
                f"head_activation must be one of {list(HEAD_ACTIVATIONS)}; got {head_activation!r}."
            )
        if head_norm not in HEAD_NORMS:
            raise ValueError(f"head_norm must be one of {list(HEAD_NORMS)}; got {head_norm!r}.")
        self.keep_temporal_dim = bool(keep_temporal_dim)
        batch = head_norm == "batch"
        self.fc_norm = nn.BatchNorm1d(self.embed_dim, affine=False) if batch else self.make_norm()
        self.initialise()
        self.head = self._make_head(num_classes)
        self.head_activation = HEAD_ACTIVATIONS[head_activation]()

    def make_norm(self) -> nn.Module:
        """The norm between pooling and head of `head_norm="layer"`."""
        return LayerNorm(self.embed_dim)

    def initialise(self) -> None:
        """Set initial weights of all but the head."""
        init_linear_and_norm(self)

    @property
    def output_steps(self) -> int:
        """T': time steps that have their own outputs; 1 unless `keep_temporal_dim`."""
        return self.summary_steps if self.keep_temporal_dim else 1

    def forward_features(self, clip: Tensor) -> Tensor:
        """One pooled and normalised feature per clip, or per time step.

        Args:
            clip: (B, 3, T, H, W), normalised.

        Returns:
            (B, D); with `keep_temporal_dim` (B, T', D).
        """
        if self.keep_temporal_dim:
            return self.step_features(clip)
        return self.fc_norm(self.encode(self.embed(clip)).summary.mean(1))

    def step_features(self, clip: Tensor) -> Tensor:
        """A pooled and normalised feature per time step of the summary.

        Args:
            clip: (B, 3, T, H, W), normalised.

        Returns:
            (B, T', D), T' = `summary_steps`.
        """
        summary = self.encode(self.embed(clip)).summary
        by_step = summary.unflatten(1, (self.summary_steps, -1)).mean(2)
        return self.fc_norm(by_step.flatten(0, 1)).unflatten(0, by_step.shape[:2])

    def forward(self, clip: Tensor, *, per_frame: bool = False) -> Tensor:
        """Classify or rate clips.

        Args:
            clip: (B, 3, T, H, W), normalised.
            per_frame: interpolate the outputs over time to all T frames; needs
                `keep_temporal_dim`.

        Returns:
            Logits, or activated values if the model has a head activation: (B, num_classes), with
            `keep_temporal_dim` (B, T', num_classes), with `per_frame` (B, T, num_classes).

        Raises:
            ValueError: `per_frame` of a model without `keep_temporal_dim`.
        """
        outputs = self.head_activation(self.head(self.forward_features(clip)))
        if not per_frame:
            return outputs
        if not self.keep_temporal_dim:
            raise ValueError("per_frame needs a model created with keep_temporal_dim=True.")
        return to_frames(outputs, clip.shape[2])

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one; `config` follows."""
        self.head = self._make_head(num_classes).to(next(self.parameters()))
        self.config["num_classes"] = num_classes

    def layer_groups(self) -> list[list[str]]:
        """Parameter names by depth: patch embedding, each block, then everything else.

        Down-samplers, fc_norm and head make up the last group (facts of the released recipes).
        """
        return layer_groups(self, ["patch_embed", *self.block_names()])

    def _make_head(self, num_classes: int) -> nn.Module:
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
            raise ValueError(f"num_classes must be a whole number from 0; got {num_classes!r}.")
        self.num_classes = num_classes
        if num_classes == 0:
            return nn.Identity()
        head = nn.Linear(self.embed_dim, num_classes)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        with torch.no_grad():
            head.weight.mul_(HEAD_SCALE)
        return head


def to_frames(outputs: Tensor, num_frames: int) -> Tensor:
    """Interpolate outputs of time steps linearly to frames.

    A step stands for the middle of the num_frames / T' frames it covers; frames before the first
    and after the last middle take the value there.

    Args:
        outputs: (B, T', C).
        num_frames: T.

    Returns:
        (B, T, C).
    """
    by_time = outputs.transpose(1, 2)
    return F.interpolate(by_time, num_frames, mode="linear", align_corners=False).transpose(1, 2)
