"""Fine-tuning: any encoder, the mean of its summary tokens, a norm and a head."""

import torch
from torch import Tensor, nn

from models.encoder import layer_groups
from models.layers import LayerNorm, init_linear_and_norm

HEAD_ACTIVATIONS = {
    None: nn.Identity,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}
HEAD_SCALE = 0.001


class Classifier(nn.Module):
    """Adds pooling and a head to an encoder; combined as `class X(Classifier, SomeEncoder)`.

    Inheritance rather than wrapping keeps the released parameter names ("blocks.0...").

    Args:
        num_classes: outputs of the head; 0: no head, the model returns its feature.
        head_activation: None, "sigmoid", "relu" or "tanh", applied to the outputs.
        encoder_options: those of the encoder.

    Raises:
        ValueError: num_classes or head_activation is not one of the allowed values.
    """

    def __init__(self, *, num_classes: int, head_activation: str | None, **encoder_options):
        super().__init__(**encoder_options)
        if head_activation not in HEAD_ACTIVATIONS:
            raise ValueError(
                f"head_activation must be one of {list(HEAD_ACTIVATIONS)}; got {head_activation!r}."
            )
        self.fc_norm = LayerNorm(self.embed_dim)
        init_linear_and_norm(self, scheme="normal")
        self.head = self._make_head(num_classes)
        self.head_activation = HEAD_ACTIVATIONS[head_activation]()

    def forward_features(self, clip: Tensor) -> Tensor:
        """One pooled and normalised feature per clip.

        Args:
            clip: (B, 3, T, H, W), normalised.

        Returns:
            (B, D).
        """
        output = self.encode(self.embed(clip))
        return self.fc_norm(output.summary.mean(1))

    def forward(self, clip: Tensor) -> Tensor:
        """Classify or rate clips.

        Args:
            clip: (B, 3, T, H, W), normalised.

        Returns:
            (B, num_classes): logits, or activated values if the model has a head activation.
        """
        return self.head_activation(self.head(self.forward_features(clip)))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one; `config` follows."""
        self.head = self._make_head(num_classes).to(self.fc_norm.weight)
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
        init_linear_and_norm(head, scheme="normal")
        with torch.no_grad():
            head.weight.mul_(HEAD_SCALE)
        return head
