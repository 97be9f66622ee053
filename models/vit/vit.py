"""Plain ViT with joint space-time attention (VideoMAE, arXiv 2203.12602)."""

from torch import Tensor, nn

from svfap.models.classifier import Classifier
from svfap.models.encoder import Encoder, EncoderOutput, check_positive
from svfap.models.layers import Block, drop_path_rates, run_block


class ViT(Encoder):
    """Plain vision Transformer over all visible tokens at once; sizes are those of `Encoder`.

    Raises:
        ValueError: a size is out of range or does not fit another one.
    """

    def __init__(self, *, depth: int, **sizes):
        super().__init__(**sizes)
        check_positive(depth=depth)
        self._rates = drop_path_rates(self.drop_path_rate, depth)
        self.blocks = nn.ModuleList(Block(**self.block_options(i)) for i in range(depth))

    def block_options(self, i: int) -> dict:
        """Arguments of block i."""
        return {
            "dim": self.embed_dim,
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "drop_path_rate": self._rates[i],
        }

    def encode(self, tokens: Tensor, indices: Tensor | None = None) -> EncoderOutput:
        """Run all blocks; see `Encoder.encode`. Any number of tokens will do."""
        for block in self.blocks:
            tokens = run_block(block, tokens, recompute=self.grad_checkpointing)
        return EncoderOutput([tokens], [self.grid[0]], summary=tokens)


class ViTClassifier(Classifier, ViT):
    """Plain ViT for fine-tuning: mean of all tokens, norm, head."""
