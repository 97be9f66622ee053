"""LGI-Former: local-global interaction over regions of the token grid (MAE-DFER, Sec. 3.3)."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from svfap.models.classifier import Classifier
from svfap.models.encoder import Encoder, EncoderOutput, check_positive
from svfap.models.layers import (
    CrossAttention,
    DropPath,
    LayerNorm,
    Mlp,
    drop_path_rates,
    run_block,
    scaled,
)
from svfap.models.patches import gather_tokens

POOLED_TOKENS = ("region", "org", "all")
_ATTENTION_TYPES = ("self", "cross")


class LGIBlock(nn.Module):
    """One local-global block: within regions, among representatives, back to the tokens, MLP.

    Representatives and tokens stay separate tensors, so nothing is written in place and only the
    normalised input of the first attention is concatenated.

    Deviation: stochastic depth drops whole samples; the released code drops single regions in the
    first attention and the MLP.

    Args:
        dim: width D.
        mlp_ratio: MLP width in units of D.
        first_attn_type: "self": representative and tokens of a region attend to each other;
            "cross": only the representative reads from the tokens.
        third_attn_type: "cross": tokens read from all representatives; "self": as the first.
        attn_param_sharing_first_third: the third attention uses the first one's weights.
        attn_param_sharing_all: so does the second.
        no_second: leave the attention among representatives out.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path_rate: float,
        first_attn_type: str,
        third_attn_type: str,
        attn_param_sharing_first_third: bool,
        attn_param_sharing_all: bool,
        no_second: bool,
        no_third: bool,
    ):
        super().__init__()
        self.first_attn_type = first_attn_type
        self.third_attn_type = None if no_third else third_attn_type
        self.has_second = not no_second
        self.first_attn_norm0 = LayerNorm(dim)
        if first_attn_type == "cross":
            self.first_attn_norm1 = LayerNorm(dim)
        self.first_attn = CrossAttention(dim=dim, num_heads=num_heads)
        if self.has_second:
            self.second_attn_norm0 = LayerNorm(dim)
            own = not attn_param_sharing_all
            new = CrossAttention(dim=dim, num_heads=num_heads) if own else self.first_attn
            self.second_attn = new
        if not no_third:
            self.third_attn_norm0 = LayerNorm(dim)
            if third_attn_type == "cross":
                self.third_attn_norm1 = LayerNorm(dim)
            own = not (attn_param_sharing_first_third or attn_param_sharing_all)
            new = CrossAttention(dim=dim, num_heads=num_heads) if own else self.first_attn
            self.third_attn = new
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim=dim, hidden_dim=int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, representatives: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Transform both kinds of tokens.

        Args:
            representatives: (B, R, D), one per region.
            tokens: (B, R*S, D), region by region.

        Returns:
            The same two, transformed.
        """
        if self.first_attn_type == "self":
            norms = self.first_attn_norm0
            representatives, tokens = self._local(self.first_attn, norms, representatives, tokens)
        else:
            representatives = representatives + self._read_region(representatives, tokens)
        if self.has_second:
            normed = self.second_attn_norm0(representatives)
            residual = self.second_attn(normed, normed)
            representatives = representatives + self.drop_path(residual)
        if self.third_attn_type == "cross":
            context = self.third_attn_norm1(representatives)
            tokens = tokens + self.drop_path(
                self.third_attn(self.third_attn_norm0(tokens), context)
            )
        elif self.third_attn_type == "self":
            norms = self.third_attn_norm0
            representatives, tokens = self._local(self.third_attn, norms, representatives, tokens)
        keep = self.drop_path.draw(tokens)
        representatives = representatives + scaled(self.mlp(self.norm2(representatives)), keep)
        return representatives, tokens + scaled(self.mlp(self.norm2(tokens)), keep)

    def _local(
        self, attn: CrossAttention, norm: nn.Module, representatives: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Self-attention in each region over its representative and its tokens, with residual."""
        num_regions = representatives.shape[1]
        by_region = norm(tokens).unflatten(1, (num_regions, -1))  # (B, R, S, D)
        region = torch.cat((norm(representatives).unsqueeze(2), by_region), dim=2)
        region = region.flatten(0, 1)  # (B*R, 1+S, D)
        mixed = attn(region, region).unflatten(0, (-1, num_regions))  # (B, R, 1+S, D)
        mixed = scaled(mixed, self.drop_path.draw(mixed))
        # Added region by region: flattening the tokens' part of `mixed` first would copy it.
        tokens = tokens.unflatten(1, (num_regions, -1)) + mixed[:, :, 1:]
        return representatives + mixed[:, :, 0], tokens.flatten(1, 2)

    def _read_region(self, representatives: Tensor, tokens: Tensor) -> Tensor:
        """What each representative reads from its region's tokens; (B, R, D)."""
        num_regions = representatives.shape[1]
        query = self.first_attn_norm0(representatives).flatten(0, 1).unsqueeze(1)  # (B*R, 1, D)
        context = self.first_attn_norm1(tokens)
        context = rearrange(context, "b (r s) d -> (b r) s d", r=num_regions)
        read = self.first_attn(query, context).squeeze(1)
        return self.drop_path(read.unflatten(0, (-1, num_regions)))


class LGIFormer(Encoder):
    """LGI-Former: the grid is cut into regions, each with a learnt representative token.

    Args:
        region_size: (t, h, w) tokens of a region; divides the grid.
        pooled_tokens: what fine-tuning pools: "region" representatives, "org" tokens or "all".
        first_attn_type: ablation, see `LGIBlock`.
        third_attn_type: ablation, see `LGIBlock`.
        attn_param_sharing_first_third: ablation, see `LGIBlock`.
        attn_param_sharing_all: ablation, see `LGIBlock`.
        no_second: ablation, see `LGIBlock`.
        no_third: ablation, see `LGIBlock`.
        restore_order: hand tokens on in token order. The released pre-training leaves them region
            by region while its decoder adds positions in token order, so a part of the visible
            tokens gets a neighbour's position; False keeps that, for parity with its weights.
        sizes: those of `Encoder`.

    Raises:
        ValueError: a size is out of range or does not fit another one.
    """

    def __init__(
        self,
        *,
        depth: int,
        region_size: Sequence[int],
        pooled_tokens: str,
        first_attn_type: str,
        third_attn_type: str,
        attn_param_sharing_first_third: bool,
        attn_param_sharing_all: bool,
        no_second: bool,
        no_third: bool,
        restore_order: bool,
        **sizes,
    ):
        super().__init__(**sizes)
        check_positive(depth=depth)
        _check_choice("pooled_tokens", pooled_tokens, POOLED_TOKENS)
        _check_choice("first_attn_type", first_attn_type, _ATTENTION_TYPES)
        _check_choice("third_attn_type", third_attn_type, _ATTENTION_TYPES)
        self.pooled_tokens, self.restore_order = pooled_tokens, restore_order
        self.no_third = no_third
        self.region_size = tuple(region_size)
        self.region_grid = _region_grid(self.grid, self.region_size)
        self.num_regions = math.prod(self.region_grid)
        self.lg_region_tokens = nn.Parameter(torch.zeros(self.num_regions, self.embed_dim))
        nn.init.trunc_normal_(self.lg_region_tokens, std=0.02)
        self.blocks = nn.ModuleList(
            LGIBlock(
                dim=self.embed_dim,
                num_heads=self.num_heads,
                mlp_ratio=self.mlp_ratio,
                drop_path_rate=rate,
                first_attn_type=first_attn_type,
                third_attn_type=third_attn_type,
                attn_param_sharing_first_third=attn_param_sharing_first_third,
                attn_param_sharing_all=attn_param_sharing_all,
                no_second=no_second,
                no_third=no_third,
            )
            for rate in drop_path_rates(self.drop_path_rate, depth)
        )
        region_of_token = self._region_of_token()
        self.register_buffer("region_of_token", region_of_token, persistent=False)

    @property
    def summary_steps(self) -> int:
        """Regions in time: tokens, too, stand region by region."""
        return self.region_grid[0]

    def encode(self, tokens: Tensor, indices: Tensor | None = None) -> EncoderOutput:
        """Run all blocks; see `Encoder.encode`. Every region needs the same number of tokens.

        Raises:
            ValueError: the number of tokens is not a multiple of the number of regions.
        """
        if tokens.shape[1] % self.num_regions:
            raise ValueError(
                f"{tokens.shape[1]} visible tokens do not spread evenly over {self.num_regions} "
                f"regions of {self.region_size} tokens; LGI-Former needs the same number in each. "
                "Use --mask_type part_window with --part_win_size equal to the region size."
            )
        regions = self.region_of_token if indices is None else self.region_of_token[indices]
        order = regions.expand(tokens.shape[0], -1).argsort(dim=1, stable=True)
        by_region = gather_tokens(tokens, order)
        representatives = self.lg_region_tokens.to(tokens.dtype).repeat(tokens.shape[0], 1, 1)
        for block in self.blocks:
            representatives, by_region = run_block(
                block, representatives, by_region, recompute=self.grad_checkpointing
            )
        if self.no_third:
            by_region = _tied(by_region, representatives)
        summary = self._summary(representatives, by_region)
        if self.restore_order:
            by_region = gather_tokens(by_region, order.argsort(dim=1))
        return EncoderOutput([by_region], [self.grid[0]], summary=summary)

    def check_mask(self, mask: Tensor) -> None:
        """Raise ValueError unless every region of a sample shows the same number of tokens."""
        super().check_mask(mask)
        member = F.one_hot(self.region_of_token, self.num_regions).float()  # (N, R)
        counts = (~mask).float() @ member.to(mask.device)
        if not bool((counts == counts[:, :1]).all()):
            raise ValueError(
                f"LGI-Former needs the same number of visible tokens in each region of "
                f"{self.region_size} tokens; the first sample shows {counts[0].int().tolist()}. "
                "Use --mask_type part_window with --part_win_size equal to the region size."
            )

    def no_weight_decay(self) -> set[str]:
        """The representative tokens get none."""
        return {"lg_region_tokens"}

    @property
    def balanced_window(self) -> tuple[int, int]:
        """A region: all must show equally many tokens."""
        return self.region_size[1:]

    def resized(self, name: str, values: Tensor, source: Mapping | None = None) -> Tensor | None:
        """Interpolate the representative tokens of another number of regions to this one's."""
        if name != "lg_region_tokens" or values.shape[1:] != (self.embed_dim,):
            return None
        grid = _stated_grid(source) or _likely_grid(values.shape[0], self.region_grid)
        if grid is None or math.prod(grid) != values.shape[0]:
            return None
        volume = values.float().T.reshape(1, self.embed_dim, *grid)
        volume = F.interpolate(volume, self.region_grid, mode="trilinear", align_corners=False)
        return volume.flatten(2)[0].T.to(values.dtype)

    def _summary(self, representatives: Tensor, tokens: Tensor) -> Tensor:
        if self.pooled_tokens == "org":
            return tokens
        if self.pooled_tokens == "all":
            both = [t.unflatten(1, (self.summary_steps, -1)) for t in (representatives, tokens)]
            return torch.cat(both, dim=2).flatten(1, 2)
        # The last block's third attention does not reach the representatives.
        return _tied(representatives, tokens)

    def _region_of_token(self) -> Tensor:
        """Region number of each token, (N,)."""
        regions = torch.arange(self.num_regions).reshape(self.region_grid)
        for axis, size in enumerate(self.region_size):
            regions = regions.repeat_interleave(size, dim=axis)
        return regions.flatten()


class LGIFormerClassifier(Classifier, LGIFormer):
    """LGI-Former for fine-tuning: mean of the representatives, norm, head."""


def _tied(used: Tensor, unused: Tensor) -> Tensor:
    """`used` as it is, with `unused` in its graph: parameters behind that get zero gradients.

    Data-parallel training waits for a gradient of every parameter. A token that is joined and cut
    off again gives one, and unlike a product with zero it passes no NaN on.
    """
    return torch.cat((used, unused[:, :1]), dim=1)[:, : used.shape[1]]


def _region_grid(grid: tuple[int, int, int], region_size: tuple[int, ...]) -> tuple[int, int, int]:
    if len(region_size) != 3:
        raise ValueError(f"region_size must be three numbers (t, h, w); got {region_size!r}.")
    check_positive(region_size_t=region_size[0], region_size_h=region_size[1])
    check_positive(region_size_w=region_size[2])
    if any(size % part for size, part in zip(grid, region_size)):
        raise ValueError(
            f"regions of {region_size} tokens do not divide the token grid {grid} (t, h, w); "
            "each number of region_size must divide the grid's. Set region_size (--lg_region_size)."
        )
    return tuple(size // part for size, part in zip(grid, region_size))


def following_regions(config: Mapping, default: Mapping) -> list[int]:
    """Region size for another clip size than the named model's.

    As many regions side by side, in height and in width, as the named model has, and as long ones
    in time as fit up to its own; where that does not come out even, the named model's size stays.

    Args:
        config: the model, with the clip size wanted.

    Returns:
        (t, h, w) tokens of a region.
    """
    sizes = list(default["region_size"])
    grid, named = _grid_of(config), _grid_of(default)
    sizes[0] = math.gcd(sizes[0], grid[0])
    for axis in (1, 2):
        count = named[axis] // sizes[axis]
        if grid[axis] % count == 0:
            sizes[axis] = grid[axis] // count
    return sizes


def _grid_of(config: Mapping) -> tuple[int, int, int]:
    """Token grid (t, h, w) of the model that a config describes."""
    side = config["img_size"] // config["patch_size"]
    return (config["num_frames"] // config["tubelet_size"], side, side)


def _stated_grid(config: Mapping | None) -> tuple[int, int, int] | None:
    """Region grid of the model that a config describes; None if it does not say."""
    names = ("num_frames", "img_size", "patch_size", "tubelet_size", "region_size")
    if config is None or any(name not in config for name in names):
        return None
    return _region_grid(_grid_of(config), tuple(config["region_size"]))


def _likely_grid(num_regions: int, grid: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Region grid of a checkpoint that states no clip size: the aspect of `grid`, least change."""
    _, h, w = grid
    candidates = [
        (steps, rows, num_regions // steps // rows)
        for steps in range(1, num_regions + 1)
        for rows in range(1, num_regions // steps + 1)
        if num_regions % (steps * rows) == 0 and rows * w * steps * rows == num_regions * h
    ]

    def change(candidate: tuple[int, int, int]) -> tuple[float, float]:
        factors = [max(a / b, b / a) for a, b in zip(candidate, grid)]
        return max(factors), sum(factors)

    return min(candidates, key=change, default=None)


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")
