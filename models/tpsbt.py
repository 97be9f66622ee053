"""TPSBT, the temporal pyramid and spatial bottleneck Transformer (SVFAP Sec. 3.1.3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from svfap.models.classifier import Classifier
from svfap.models.encoder import Encoder, EncoderOutput, check_positive
from svfap.models.layers import Block, CrossSelfBlock, LayerNorm, Mlp, drop_path_rates, run_block

_SCORE_DIM = 128


class TemporalDownsample(nn.Conv1d):
    """Convolution over time only, kernel = stride (SVFAP Eq. 4), as one matrix product."""

    def __init__(self, *, dim: int, kernel_size: int):
        super().__init__(dim, dim, kernel_size, stride=kernel_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Merge each `kernel_size` steps: (B, t, s, D) -> (B, t/kernel_size, s, D)."""
        merged = rearrange(tokens, "b (t k) s d -> b t s (k d)", k=self.kernel_size[0])
        weight = rearrange(self.weight, "out d k -> out (k d)")
        return F.linear(merged, weight, self.bias)


class SpatialAttention(nn.Module):
    """K weighted sums of each time step's tokens: its bottleneck tokens (SVFAP Eq. 5)."""

    def __init__(self, *, dim: int, num_bottleneck_tokens: int):
        super().__init__()
        self.norm = LayerNorm(dim)
        self.mlp = Mlp(dim=dim, hidden_dim=_SCORE_DIM, out_dim=num_bottleneck_tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Sum up (B, t, s, D) tokens to (B, t, K, D); the sums are of un-normalised tokens."""
        weights = self.mlp(self.norm(tokens)).softmax(dim=2)  # (B, t, s, K)
        return weights.transpose(2, 3).to(tokens.dtype) @ tokens


class TPSBT(Encoder):
    """Temporal pyramid and spatial bottleneck Transformer.

    Stage 1 is a plain ViT. Each later stage merges time steps, condenses every step to K
    bottleneck tokens, works on those, and in its last ("reverse") block lets the merged tokens
    read from them, which restores the spatial resolution.

    Args:
        stage_depths: blocks per stage; the last block of a stage after the first is its reverse
            block.
        num_bottleneck_tokens: K, one for all stages or one for each stage after the first; 0 makes
            a stage plain blocks on all its tokens (the paper's "temporal pyramid only").
        temporal_kernel_size: time steps merged before each stage after the first.
        sizes: those of `Encoder`.

    Raises:
        ValueError: a size is out of range or does not fit another one.
    """

    def __init__(
        self,
        *,
        stage_depths: Sequence[int],
        num_bottleneck_tokens: int | Sequence[int],
        temporal_kernel_size: int,
        **sizes,
    ):
        super().__init__(**sizes)
        self.stage_depths = _checked_depths(stage_depths)
        num_later = len(self.stage_depths) - 1
        self.num_bottleneck_tokens = _per_stage(num_bottleneck_tokens, num_later)
        check_positive(temporal_kernel_size=temporal_kernel_size)
        self.temporal_kernel_size = temporal_kernel_size
        self._check_steps()
        self.blocks = nn.ModuleList(self._make_blocks())
        dim, kernel = self.embed_dim, temporal_kernel_size
        self.temporal_downsamples = nn.ModuleList(
            TemporalDownsample(dim=dim, kernel_size=kernel) for _ in range(num_later)
        )
        self.spatial_downsamples = nn.ModuleList(
            SpatialAttention(dim=dim, num_bottleneck_tokens=k) if k else nn.Identity()
            for k in self.num_bottleneck_tokens
        )

    @property
    def stage_steps(self) -> list[int]:
        """Time steps of each stage."""
        stages = range(len(self.stage_depths))
        return [self.grid[0] // self.temporal_kernel_size**stage for stage in stages]

    @property
    def summary_steps(self) -> int:
        """Time steps of the last stage."""
        return self.stage_steps[-1]

    def encode(self, tokens: Tensor, indices: Tensor | None = None) -> EncoderOutput:
        """Run all stages; see `Encoder.encode`. Every time step needs the same number of tokens.

        Raises:
            ValueError: the number of tokens is not a multiple of the number of time steps.
        """
        steps = self.grid[0]
        if tokens.shape[1] == 0 or tokens.shape[1] % steps:
            raise ValueError(
                f"{tokens.shape[1]} visible tokens do not spread evenly over {steps} time steps; "
                f"TPSBT needs a multiple of {steps}, from {steps}. Use a tube mask (--mask_type "
                "tube) of a smaller --mask_ratio."
            )
        depth = self.stage_depths[0]
        for block in self.blocks[:depth]:
            tokens = run_block(block, tokens, recompute=self.grad_checkpointing)
        stages = [tokens]
        for stage, stage_depth in enumerate(self.stage_depths[1:]):
            blocks = self.blocks[depth : depth + stage_depth]
            stages.append(self._later_stage(stage, blocks, stages[-1]))
            depth += stage_depth
        return EncoderOutput(stages, self.stage_steps, summary=stages[-1])

    def _later_stage(self, stage: int, blocks: nn.ModuleList, previous: Tensor) -> Tensor:
        """One stage after the first: (B, t*s, D) -> (B, t/kernel*s, D)."""
        recompute = self.grad_checkpointing
        previous = rearrange(previous, "b (t s) d -> b t s d", t=self.stage_steps[stage])
        by_step = self.temporal_downsamples[stage](previous)
        merged = by_step.flatten(1, 2)  # (B, t*s, D)
        if self.num_bottleneck_tokens[stage] == 0:
            for block in blocks:
                merged = run_block(block, merged, recompute=recompute)
            return merged
        bottleneck = self.spatial_downsamples[stage](by_step).flatten(1, 2)  # (B, t*K, D)
        for block in blocks[:-1]:
            bottleneck = run_block(block, bottleneck, merged, recompute=recompute)
        return run_block(blocks[-1], merged, bottleneck, recompute=recompute)

    def check_mask(self, mask: Tensor) -> None:
        """Raise ValueError unless every time step of a sample shows the same number of tokens.

        The paper masks tubes, so that the steps a stage merges show the same places. Other masks
        of equal counts run, but merge whichever tokens stand at the same rank in their steps.
        """
        super().check_mask(mask)
        shown = (~mask).unflatten(1, (self.grid[0], -1)).sum(2)  # (B, t)
        if not bool((shown == shown[:, :1]).all()):
            raise ValueError(
                "TPSBT merges time steps token by token, so all steps must show the same number of "
                f"tokens; the first sample shows {shown[0].tolist()}. Use --mask_type tube."
            )

    @property
    def balanced_window(self) -> tuple[int, int]:
        """A time step: all steps must show equally many tokens."""
        return self.grid[1:]

    def _make_blocks(self) -> list[Block]:
        rates = drop_path_rates(self.drop_path_rate, sum(self.stage_depths))
        options = {"dim": self.embed_dim, "num_heads": self.num_heads, "mlp_ratio": self.mlp_ratio}
        later = zip(self.stage_depths[1:], self.num_bottleneck_tokens)
        kinds = [Block] * self.stage_depths[0]
        for depth, num_tokens in later:
            kinds += [CrossSelfBlock if num_tokens else Block] * depth
        return [kind(**options, drop_path_rate=rate) for kind, rate in zip(kinds, rates)]

    def _check_steps(self) -> None:
        """Raise ValueError unless the later stages can merge all time steps."""
        num_later, kernel = len(self.stage_depths) - 1, self.temporal_kernel_size
        multiple = self.tubelet[0] * kernel**num_later
        if self.num_frames % multiple:
            raise ValueError(
                f"num_frames = {self.num_frames} gives {self.grid[0]} time steps, which cannot be "
                f"merged {num_later} times by temporal_kernel_size = {kernel}; num_frames must be "
                f"a multiple of {multiple} "
                f"(tubelet_size * temporal_kernel_size ** {num_later})."
            )


class TPSBTClassifier(Classifier, TPSBT):
    """TPSBT for fine-tuning: mean of stage 3, norm, head."""


def _checked_depths(stage_depths: Sequence[int]) -> list[int]:
    depths = list(stage_depths) if isinstance(stage_depths, Sequence) else []
    valid = all(isinstance(d, int) and not isinstance(d, bool) and d >= 1 for d in depths)
    if not depths or not valid:
        raise ValueError(
            f"stage_depths must be a list of whole numbers from 1, one per stage (base: 12 6 3); "
            f"got {stage_depths!r}."
        )
    return depths


def _per_stage(num_bottleneck_tokens: int | Sequence[int], num_stages: int) -> list[int]:
    given = num_bottleneck_tokens
    tokens = list(given) if isinstance(given, Sequence) else [given]
    if len(tokens) == 1:
        tokens = tokens * num_stages
    if len(tokens) != num_stages:
        raise ValueError(
            f"num_bottleneck_tokens = {given!r} has {len(tokens)} values; give one for all stages "
            f"or {num_stages}, one for each stage after the first."
        )
    for value in tokens:
        if value != 0:
            check_positive(num_bottleneck_tokens=value)
    return tokens
