"""The encoder contract: what TPSBT, ViT and LGI-Former have in common."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from svfap.models.patches import (
    Triple,
    TubeletEmbedding,
    interpolated_positions,
    sinusoid_table,
    token_grid,
)


class EncoderOutput(NamedTuple):
    """What an encoder hands on."""

    # one (B, V_i, D) tensor per stage; the first has all V visible tokens in the order they came in
    # (but see LGIFormer's `restore_order`), later ones may have fewer time steps of the same number
    # of tokens each
    stages: list[Tensor]
    steps: list[int]  # time steps of each stage (those of the grid where a stage keeps them all)
    # (B, R, D), the tokens whose mean represents the clip in fine-tuning; time-major, with all
    # tokens visible R / `Encoder.summary_steps` of each time step
    summary: Tensor


class Encoder(nn.Module):
    """Base of all encoders; the same class serves pre-training and fine-tuning.

    A subclass builds its `blocks` and implements `encode`. It may also narrow `check_mask` and
    `balanced_window`, and add to `no_weight_decay` and `resized`; embedding, positions, sizes and
    layer order are here.

    Args:
        img_size: height and width of a frame in pixels.
        patch_size: height and width of a tubelet in pixels.
        num_frames: frames of a clip.
        tubelet_size: frames of a tubelet.
        embed_dim: width D.
        num_heads: attention heads; divides D.
        mlp_ratio: MLP width in units of D.
        drop_path_rate: stochastic depth of the last block, 0 <= rate < 1.
        standardise_clip: whether each clip is brought to zero mean and unit variance per colour,
            over the tubelets that are embedded; see `TubeletEmbedding`.
        position_grid: token grid (t, h, w) whose position table is interpolated to this model's;
            None: the table is computed for this model's own grid.

    Raises:
        ValueError: a size does not fit another one.
    """

    positions_in_file = False  # whether position tables are in state dicts
    mixes_clips = False  # whether clips computed together decide about each other

    def __init__(
        self,
        *,
        img_size: int,
        patch_size: int,
        num_frames: int,
        tubelet_size: int,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path_rate: float,
        standardise_clip: bool = False,
        position_grid: Sequence[int] | None = None,
    ):
        super().__init__()
        sizes = {
            "img_size": img_size,
            "patch_size": patch_size,
            "num_frames": num_frames,
            "tubelet_size": tubelet_size,
            "embed_dim": embed_dim,
            "num_heads": num_heads,
        }
        check_positive(**sizes)
        check_heads(embed_dim, num_heads)
        check_rates(mlp_ratio, drop_path_rate)
        self.img_size, self.num_frames, self.embed_dim = img_size, num_frames, embed_dim
        self.num_heads, self.mlp_ratio, self.drop_path_rate = num_heads, mlp_ratio, drop_path_rate
        self.tubelet: Triple = (tubelet_size, patch_size, patch_size)
        self.grid: Triple = token_grid((num_frames, img_size, img_size), self.tubelet)
        self.num_tokens = self.grid[0] * self.grid[1] * self.grid[2]
        self.grad_checkpointing = False
        self.patch_embed = TubeletEmbedding(
            tubelet=self.tubelet, embed_dim=embed_dim, standardise=standardise_clip
        )
        self.position_grid = tuple(position_grid) if position_grid else self.grid
        check_positive(**{f"position_grid[{i}]": n for i, n in enumerate(self.position_grid)})
        table = self.positions(embed_dim)
        self.register_buffer("position_table", table, persistent=self.positions_in_file)

    def positions(self, dim: int) -> Tensor:
        """Position table (N, dim) of the grid, also for a decoder of another width."""
        t, h, w = self.position_grid
        table = sinusoid_table(t * h * w, dim)
        if self.position_grid == self.grid:
            return table
        return interpolated_positions(table, self.position_grid, self.grid)

    @property
    def summary_steps(self) -> int:
        """Time steps that the summary of a whole clip distinguishes."""
        return self.grid[0]

    def embed(self, clip: Tensor, indices: Tensor | None = None) -> Tensor:
        """Embed the tubelets at `indices` (all if None) and add their positions.

        Args:
            clip: (B, 3, T, H, W), normalised.
            indices: (B, V) int64, ascending, or None.

        Returns:
            (B, V, D).

        Raises:
            ValueError: the clip's shape is not the one the model was built for.
        """
        check_clip(clip, num_frames=self.num_frames, img_size=self.img_size)
        tokens = self.patch_embed(clip, indices)
        if self.position_table is None:  # the blocks know the places
            return tokens
        positions = self.position_table if indices is None else self.position_table[indices]
        return tokens + positions.to(tokens.dtype)

    def encode(self, tokens: Tensor, indices: Tensor | None = None) -> EncoderOutput:
        """Run the blocks on embedded tokens.

        Args:
            tokens: (B, V, D), with positions, in token order.
            indices: (B, V) int64, where the tokens are in the grid; None: all tokens, V = N.

        Returns:
            The stage outputs.
        """
        raise NotImplementedError

    def check_mask(self, mask: Tensor) -> None:
        """Raise ValueError for a mask (B, N) this encoder cannot use; reads it on the host."""
        if mask.shape[-1] != self.num_tokens:
            raise ValueError(
                f"mask has {mask.shape[-1]} tokens; this model has {self.num_tokens} (grid "
                f"{self.grid}). Build the mask for the model's grid."
            )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block's activations in the backward pass."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of parameters, beyond 1-D ones and biases, that get no weight decay."""
        return set()

    def resized(self, name: str, values: Tensor, source: Mapping | None = None) -> Tensor | None:
        """A checkpoint's entry of another clip size, interpolated to this model's; None: cannot.

        Args:
            name: of the parameter, without "encoder.".
            values: the checkpoint's entry.
            source: `config` of the model that it comes from, if known.
        """
        return None

    @property
    def balanced_window(self) -> tuple[int, int] | None:
        """(h, w) tokens of the blocks that must all show equally many tokens; None: no need."""
        return None

    def block_names(self) -> list[str]:
        """Names of the blocks from input to output, without prefix."""
        return [f"blocks.{i}" for i in range(len(self.blocks))]


def layer_groups(model: nn.Module, ordered: list[str]) -> list[list[str]]:
    """Group a model's parameter names by depth.

    Args:
        ordered: module names from input to output ("patch_embed", "blocks.0", ...).

    Returns:
        One list per module of `ordered`, then one with all remaining parameters.
    """
    groups: list[list[str]] = [[] for _ in range(len(ordered) + 1)]
    for name, _ in model.named_parameters():
        owners = (i for i, prefix in enumerate(ordered) if name.startswith(prefix + "."))
        groups[next(owners, len(ordered))].append(name)
    return groups


def check_clip(clip: Tensor, *, num_frames: int, img_size: int) -> None:
    """Raise ValueError unless clips are (B, 3, num_frames, img_size, img_size)."""
    expected = (3, num_frames, img_size, img_size)
    if tuple(clip.shape[1:]) != expected:
        raise ValueError(
            f"clip has shape {tuple(clip.shape)}; this model takes (B, 3, frames, height, "
            f"width) = (B, {', '.join(map(str, expected))}). Change the clip, or build the "
            "model with other num_frames or img_size."
        )


def check_positive(**sizes: int) -> None:
    """Raise ValueError unless all named sizes are whole numbers from 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number from 1; got {size!r}.")


def check_heads(dim: int, num_heads: int, prefix: str = "") -> None:
    """Raise ValueError unless the heads divide the width."""
    if dim % num_heads:
        divisors = [n for n in range(1, min(dim, 64) + 1) if dim % n == 0]
        raise ValueError(
            f"{prefix}num_heads = {num_heads} does not divide {prefix}embed_dim = {dim}; "
            f"possible: {divisors}."
        )


def check_rates(mlp_ratio: float, drop_path_rate: float) -> None:
    """Raise ValueError unless the MLP ratio is positive and the drop path rate in [0, 1)."""
    if not mlp_ratio > 0:
        raise ValueError(f"mlp_ratio must be positive (usually 4); got {mlp_ratio!r}.")
    if not 0.0 <= drop_path_rate < 1.0:
        raise ValueError(f"drop_path_rate must be 0 or more and below 1; got {drop_path_rate!r}.")
