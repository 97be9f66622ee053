"""MiRA: a ViT whose attention weighs time steps by how much they matter (arXiv 2606.30611).

The attention of the last blocks has no further parameters. From its own map ("exact") or from its
keys ("flashLite") it reads how much every time step is attended to and how concentrated that is,
makes of both a share of each step, and raises or lowers the weights of its keys accordingly.
"""

import torch
from torch import Tensor

from svfap.models.classifier import Classifier
from svfap.models.encoder import EncoderOutput, check_positive
from svfap.models.layers import Block, SelfAttention, attention, run_block
from svfap.models.vit.vit import ViT

STATS_MODES = ("instance", "batch", "batch_ema")
# Of the released code, which all its scripts leave as they are.
SHARPNESS, EVEN_SHARE, LEAST, MOST = 1.5, 0.1, 0.7, 1.4
EVEN_ATTENTION, MIXED_IN, MEMORY = 0.001, 0.5, 0.9


class StepWeightedAttention(SelfAttention):
    """Self-attention, (B, t*n, D) -> (B, t*n, D), that weighs its time steps.

    Args:
        dim: D.
        flash_lite: statistics of the keys instead of the map: any kernel can compute it.
        stats_mode: "instance": of each clip; "batch": mean over the clips computed together;
            "batch_ema": so, and in training the attention to each step is a moving average.
        residual: mix the reweighted map with the plain one (exact only).
        tau: sharpness of the shares (flashLite only).
    """

    def __init__(
        self, *, dim: int, num_heads: int, steps: int, flash_lite: bool, stats_mode: str,
        residual: bool, tau: float,
    ):  # fmt: skip
        super().__init__(dim=dim, num_heads=num_heads)
        self.flash_lite, self.stats_mode = flash_lite, stats_mode
        self.residual, self.tau = residual, tau
        self.register_buffer("c_buf", torch.full((1, steps), 1 / steps))

    def forward(self, tokens: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            tokens: (B, t*n, D), time-major.
            kept: (1, t) moving average of the attention to the steps.

        Returns:
            (B, t*n, D), and the next moving average.
        """
        query, key, value = self.split(tokens)
        if self.flash_lite:
            full = torch.promote_types(key.dtype, torch.float32)
            energy = key.detach().to(full).square().mean((1, 3))  # (B, t*n)
            share, kept = self._share(*self._statistics(energy), kept)
            factor = (share * share.shape[1]).clamp(LEAST, MOST)
            bias = self._by_token(factor.log(), tokens)
            return self.join(attention(query, key, value, bias)), kept
        scale = query.shape[-1] ** -0.5
        plain = ((query * scale) @ key.transpose(-2, -1)).softmax(-1)  # (B, heads, t*n, t*n)
        attended, concentrated = self._statistics(plain.mean(1).sum(1))
        share, kept = self._share(attended, concentrated, kept)
        factor = (share / attended.detach().clamp(min=1e-5)).clamp(LEAST, MOST)
        factor = self._by_token(factor, tokens)[:, None, None]  # (B, 1, 1, t*n)
        weighted = (1 - EVEN_ATTENTION) * plain * factor + EVEN_ATTENTION / plain.shape[-1]
        weighted = weighted / weighted.sum(-1, keepdim=True)
        mixed = plain + MIXED_IN * (weighted - plain) if self.residual else weighted
        return self.join(mixed.to(value.dtype) @ value), kept

    def _statistics(self, energy: Tensor) -> tuple[Tensor, Tensor]:
        """Attention to each step, of sum 1, and how concentrated it is there: (B, t) both."""
        by_step = energy.unflatten(1, (self.c_buf.shape[1], -1))  # (B, t, n)
        total = by_step.sum(2)
        within = by_step / total[:, :, None]
        entropy = torch.special.entr(within).sum(2)
        return total / total.sum(1, keepdim=True), 1 / (entropy + 1e-6)

    def _share(self, attended: Tensor, concentrated: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Share of each step, (B or 1, t) of sum 1, and the next moving average."""
        if self.stats_mode != "instance":
            attended = attended.mean(0, keepdim=True)
            concentrated = concentrated.mean(0, keepdim=True)
        if self.stats_mode == "batch_ema" and self.training:
            attended = kept = (MEMORY * kept + (1 - MEMORY) * attended).detach()
        score = 0.5 * attended + 0.5 * concentrated
        if self.flash_lite:
            spread = score.std(1, keepdim=True, correction=0).clamp(min=1e-6)
            share = (self.tau * (score - score.mean(1, keepdim=True)) / spread).softmax(1)
        else:
            low, high = score.amin(1, keepdim=True), score.amax(1, keepdim=True)
            share = ((score - low) / (high - low + 1e-12) + 1e-6) ** SHARPNESS
            share = share / share.sum(1, keepdim=True)
        return (1 - EVEN_SHARE) * share + EVEN_SHARE / share.shape[1], kept

    def _by_token(self, by_step: Tensor, tokens: Tensor) -> Tensor:
        """(B or 1, t) as (B, t*n)."""
        size, steps = tokens.shape[1], by_step.shape[1]
        return by_step.repeat_interleave(size // steps, dim=1).expand(len(tokens), size)


class StepWeightedBlock(Block):
    """A `Block` with `StepWeightedAttention`, which takes and hands on the moving average."""

    def __init__(self, block: dict, **options):
        super().__init__(**block)
        self.attn = StepWeightedAttention(dim=block["dim"], num_heads=block["num_heads"], **options)

    def forward(self, tokens: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Transform (B, t*n, D) tokens."""
        mixed, kept = self.attn(self.norm1(tokens), kept)
        tokens = tokens + self.drop_path(mixed)
        return tokens + self.drop_path(self.mlp(self.norm2(tokens))), kept


class MiRA(ViT):
    """ViT with `StepWeightedAttention` in its last blocks; options as the released code has them.

    Deviation: the moving average is of the clips that a process computes together, and is not used
    in evaluation (as released); with `batch` and `batch_ema` outputs depend on the batch.

    Args:
        use_fmp_flashlite: see `StepWeightedAttention.flash_lite`.
        fmp_num_last_layers: blocks that have it; None: all.
        fmp_use_residual: see there.
        stats_mode: see there.
        flash_tau: see there.
        sizes: those of `ViT`.

    Raises:
        ValueError: a size is out of range or does not fit another one.
    """

    def __init__(
        self, *, use_fmp_flashlite: bool, fmp_num_last_layers: int | None, fmp_use_residual: bool,
        stats_mode: str, flash_tau: float, **sizes,
    ):  # fmt: skip
        super().__init__(**sizes)
        depth = len(self.blocks)
        count = depth if fmp_num_last_layers is None else fmp_num_last_layers
        check_positive(fmp_num_last_layers=count)
        if count > depth:
            raise ValueError(f"fmp_num_last_layers is {count}, but there are {depth} blocks.")
        if stats_mode not in STATS_MODES:
            raise ValueError(f"stats_mode is one of {', '.join(STATS_MODES)}; got {stats_mode!r}.")
        self.stats_mode = stats_mode
        self.mixes_clips = stats_mode != "instance"
        for i in range(depth - count, depth):
            self.blocks[i] = StepWeightedBlock(
                self.block_options(i), steps=self.grid[0], flash_lite=use_fmp_flashlite,
                stats_mode=stats_mode, residual=fmp_use_residual, tau=flash_tau,
            )  # fmt: skip

    def encode(self, tokens: Tensor, indices: Tensor | None = None) -> EncoderOutput:
        """Run all blocks; every time step must have as many tokens (see `check_mask`)."""
        if tokens.shape[1] % self.grid[0]:
            raise ValueError(
                f"{tokens.shape[1]} tokens are not the same number of each of {self.grid[0]} time "
                "steps; MiRA takes tube masks (--mask_type tube)."
            )
        for block in self.blocks:
            if not isinstance(block, StepWeightedBlock):
                tokens = run_block(block, tokens, recompute=self.grad_checkpointing)
                continue
            # a copy, so that activations can be computed again after the buffer has moved on
            before = block.attn.c_buf.clone()
            tokens, kept = run_block(block, tokens, before, recompute=self.grad_checkpointing)
            if self.training and self.stats_mode == "batch_ema":
                with torch.no_grad():
                    block.attn.c_buf.copy_(kept)
        return EncoderOutput([tokens], [self.grid[0]], summary=tokens)

    def check_mask(self, mask: Tensor) -> None:
        """Refuse masks that do not show as many tokens of each time step."""
        super().check_mask(mask)
        counts = (~mask).unflatten(1, (self.grid[0], -1)).sum(2)
        if len(counts) and counts.amin() != counts.amax():
            raise ValueError(
                f"time steps show {int(counts.amin())} to {int(counts.amax())} tokens; MiRA needs "
                "the same number of each: use tube masks (--mask_type tube)."
            )

    def resized(self, name: str, values: Tensor, source=None) -> Tensor | None:
        """The moving average of another number of time steps starts afresh, even."""
        if not name.endswith(".c_buf"):
            return super().resized(name, values, source)
        return torch.full((1, self.grid[0]), 1 / self.grid[0])


class MiRAClassifier(Classifier, MiRA):
    """MiRA for fine-tuning: mean of all tokens, norm, head."""
