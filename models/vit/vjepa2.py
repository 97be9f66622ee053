"""V-JEPA 2's encoder: a ViT with rotary positions (arXiv 2506.09985)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svfap.models.classifier import Classifier
from svfap.models.encoder import EncoderOutput
from svfap.models.layers import Block, LayerNorm, SelfAttention, attention, run_block
from svfap.models.patches import Triple
from svfap.models.vit.vit import ViT


class RotaryAttention(SelfAttention):
    """Self-attention whose queries and keys are turned by their places; keys have a bias, too."""

    def __init__(self, *, dim: int, num_heads: int):
        super().__init__(dim=dim, num_heads=num_heads)
        self.k_bias = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Tensor, turns: Tensor) -> Tensor:
        """Let every token attend to all tokens of its row.

        Args:
            tokens: (B, N, D).
            turns: (2, B or 1, N, d) cosines and sines of `rotary_turns`.
        """
        bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
        query, key, value = self.by_head(F.linear(tokens, self.qkv.weight, bias))
        cosine, sine = turns.unsqueeze(2).to(query.dtype)  # (B or 1, 1, N, d)
        query, key = (x * cosine + _quarter_turn(x) * sine for x in (query, key))
        return self.join(attention(query, key, value))


def _quarter_turn(heads: Tensor) -> Tensor:
    """(-x1, x0, -x3, x2, ...) of the last axis; of an odd one the last value becomes 0."""
    even = heads.shape[-1] // 2 * 2
    first, second = heads[..., :even].unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-second, first), dim=-1).flatten(-2)
    return F.pad(turned, (0, heads.shape[-1] - even))


def rotary_turns(grid: Triple, head_dim: int, like: Tensor) -> Tensor:
    """Cosines and sines of the angles by which the channels of a head are turned.

    A third of the channels each is for step, row and column, the rest stays. As released, channels
    2m and 2m+1 are turned together but channel j has angle j modulo half the third.

    Args:
        grid: (t, h, w).
        like: gives device and number format, which is float32 at least.

    Returns:
        (2, t*h*w, d).
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    options = {"dtype": dtype, "device": like.device}
    width = head_dim // 3 // 2 * 2
    speed = 10000.0 ** -(torch.arange(width // 2, **options) * 2 / width).repeat(2)  # (width,)
    places = torch.cartesian_prod(*(torch.arange(size, **options) for size in grid))  # (N, 3)
    angles = F.pad((places[:, :, None] * speed).flatten(1), (0, head_dim - 3 * width))
    return torch.stack((angles.cos(), angles.sin()))


class RotaryBlock(Block):
    """A `Block` with `RotaryAttention`."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attn = RotaryAttention(dim=options["dim"], num_heads=options["num_heads"])

    def forward(self, tokens: Tensor, turns: Tensor) -> Tensor:
        """Transform (B, N, D) tokens."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), turns))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class VJEPA2(ViT):
    """V-JEPA 2's encoder, whose last norm is part of it."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.position_table = None
        for i in range(len(self.blocks)):
            self.blocks[i] = RotaryBlock(**self.block_options(i))
        self.norm = LayerNorm(self.embed_dim)

    def encode(self, tokens: Tensor, indices: Tensor | None = None) -> EncoderOutput:
        """Run all blocks and the norm; see `Encoder.encode`."""
        turns = rotary_turns(self.grid, self.embed_dim // self.num_heads, tokens)
        turns = turns[:, None] if indices is None else turns[:, indices]  # (2, B or 1, V, d)
        for block in self.blocks:
            tokens = run_block(block, tokens, turns, recompute=self.grad_checkpointing)
        tokens = self.norm(tokens)
        return EncoderOutput([tokens], [self.grid[0]], summary=tokens)


class VJEPA2Classifier(Classifier, VJEPA2):
    """V-JEPA 2 for fine-tuning: mean of the normalised tokens, head."""

    def make_norm(self) -> nn.Module:
        """None between pooling and head: the encoder ends with its norm."""
        return nn.Identity()
