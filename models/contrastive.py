"""Contrastive learning: any encoder and a projection of its feature (SimCLR, SSL-FER Sec. 3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from svfap.models.encoder import check_positive


class ContrastiveModel(nn.Module):
    """An encoder whose features are projected to where they are compared.

    The projection is a perceptron of two layers, the first as wide as the feature (2048-2048-128
    for ResNet-50). It is left out after pre-training.

    Args:
        encoder: a fine-tuning model without head (`num_classes=0`).

    Raises:
        ValueError: projection_dim is not a whole number from 1.
    """

    def __init__(self, *, encoder: nn.Module, projection_dim: int):
        super().__init__()
        check_positive(projection_dim=projection_dim)
        self.encoder = encoder
        self.projection = nn.Sequential(
            nn.Linear(encoder.embed_dim, encoder.embed_dim),
            nn.ReLU(inplace=True),
            nn.Linear(encoder.embed_dim, projection_dim),
        )
        self.projection_dim = projection_dim
        for name in ("embed_dim", "num_frames", "img_size", "tubelet", "grid", "num_tokens"):
            setattr(self, name, getattr(encoder, name))

    def forward(self, clip: Tensor) -> Tensor:
        """Project clips (B, 3, T, H, W), normalised: (B, projection_dim), not of unit length."""
        return self.projection(self.encoder.forward_features(clip))

    def embed(self, clip: Tensor) -> Tensor:
        """Projections of unit length in float32: (B, projection_dim)."""
        return F.normalize(self(clip).float(), dim=1)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of the encoder in the backward pass."""
        self.encoder.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """What the encoder exempts."""
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()}

    def layer_groups(self) -> list[list[str]]:
        """Those of the encoder, the projection with the last one."""
        groups = [[f"encoder.{n}" for n in names] for names in self.encoder.layer_groups()]
        groups[-1] += [f"projection.{name}" for name, _ in self.projection.named_parameters()]
        return groups
