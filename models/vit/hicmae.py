"""The video encoder of HiCMAE, which pools all its blocks (Information Fusion 2024)."""

import torch
from torch import Tensor, nn

from svfap.models.classifier import Classifier
from svfap.models.encoder import EncoderOutput
from svfap.models.layers import LayerNorm, run_block
from svfap.models.vit.vit import ViT


class HiCMAE(ViT):
    """ViT whose summary is a learnt mixture of the normalised outputs of its blocks."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.norm = LayerNorm(self.embed_dim)
        self.video_layer_weights = nn.Parameter(torch.zeros(len(self.blocks)))

    def encode(self, tokens: Tensor, indices: Tensor | None = None) -> EncoderOutput:
        """Run all blocks; see `Encoder.encode`. Any number of tokens will do."""
        summary = 0.0
        for block, share in zip(self.blocks, self.video_layer_weights.softmax(0)):
            tokens = run_block(block, tokens, recompute=self.grad_checkpointing)
            summary = summary + share * self.norm(tokens)
        return EncoderOutput([tokens], [self.grid[0]], summary=summary)


class HiCMAEClassifier(Classifier, HiCMAE):
    """HiCMAE's video encoder for fine-tuning: mean of the mixture, head."""

    def make_norm(self) -> nn.Module:
        """None between pooling and head: the outputs of the blocks have been normalised."""
        return nn.Identity()
