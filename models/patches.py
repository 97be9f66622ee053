"""Clips to tokens and back: tubelets, their embedding and positions, and selection by a mask."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Triple = tuple[int, int, int]


def token_grid(clip_shape: Triple, tubelet: Triple) -> Triple:
    """Size of the token grid of a clip.

    Args:
        clip_shape: (T, H, W) in frames and pixels.
        tubelet: (frames, height_px, width_px).

    Returns:
        (t, h, w).

    Raises:
        ValueError: T, H or W is not a multiple of the tubelet.
    """
    if any(size < 1 or size % part for size, part in zip(clip_shape, tubelet)):
        raise ValueError(
            f"a clip of (frames, height, width) = {tuple(clip_shape)} does not divide into "
            f"tubelets of {tuple(tubelet)}: each number must be a multiple of the one below it. "
            "Change num_frames, img_size, tubelet_size or patch_size."
        )
    return tuple(size // part for size, part in zip(clip_shape, tubelet))


def patchify(clip: Tensor, tubelet: Triple) -> Tensor:
    """Split a clip into flattened tubelets (SVFAP Sec. 3.1.1).

    Args:
        clip: (B, C, T, H, W), any float range.
        tubelet: (frames, height_px, width_px).

    Returns:
        (B, N, P), time-major tokens; values ordered frame, row, column, colour.

    Raises:
        ValueError: T, H or W is not a multiple of the tubelet.
    """
    t, h, w = token_grid(clip.shape[2:], tubelet)
    pattern = "b c (t dt) (h dh) (w dw) -> b (t h w) (dt dh dw c)"
    return rearrange(clip, pattern, t=t, h=h, w=w)


def unpatchify(tokens: Tensor, tubelet: Triple, grid: Triple) -> Tensor:
    """Put flattened tubelets back together; the inverse of `patchify`.

    Args:
        tokens: (B, N, P), values ordered frame, row, column, colour.
        tubelet: (frames, height_px, width_px).
        grid: (t, h, w) with t*h*w = N.

    Returns:
        (B, C, T, H, W).

    Raises:
        ValueError: N is not t*h*w, or P is not a multiple of the tubelet's volume.
    """
    (t, h, w), (dt, dh, dw) = grid, tubelet
    if tokens.shape[1] != t * h * w or tokens.shape[2] % (dt * dh * dw):
        raise ValueError(
            f"tokens of shape {tuple(tokens.shape)} do not fit a grid of {tuple(grid)} tubelets of "
            f"{tuple(tubelet)}: expected (B, {t * h * w}, colours * {dt * dh * dw})."
        )
    pattern = "b (t h w) (dt dh dw c) -> b c (t dt) (h dh) (w dw)"
    return rearrange(tokens, pattern, t=t, h=h, w=w, dt=dt, dh=dh, dw=dw)


def gather_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """Select tokens by index.

    Args:
        tokens: (B, N, D).
        indices: (B, V) int64.

    Returns:
        (B, V, D).
    """
    return tokens.gather(1, indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def split_mask(mask: Tensor, num_visible: int | None = None) -> tuple[Tensor, Tensor]:
    """Indices of the visible and of the masked tokens, each in token order.

    Args:
        mask: (B, N) bool, True = hidden, the same number in each row.
        num_visible: visible tokens per row. If given, the mask's counts are trusted and nothing
            synchronises with the host; if None, they are read from the mask and checked.

    Returns:
        visible indices (B, V) and masked indices (B, M), int64.

    Raises:
        ValueError: the mask is not a 2-D bool tensor, or (num_visible None) rows differ in count.
    """
    if mask.dtype != torch.bool or mask.dim() != 2:
        raise ValueError(
            f"mask must be a bool tensor (B, N), True = hidden; got {mask.dtype} of shape "
            f"{tuple(mask.shape)}. Use mask.flatten(1).bool()."
        )
    if num_visible is None:
        counts = (~mask).sum(1).tolist()
        if len(set(counts)) > 1:
            raise ValueError(
                f"every row of the mask must show the same number of tokens; got {counts}."
            )
        num_visible = counts[0] if counts else mask.shape[1]
    elif not 0 <= num_visible <= mask.shape[1]:
        raise ValueError(f"num_visible must be 0 to {mask.shape[1]}; got {num_visible}.")
    order = torch.argsort(mask.to(torch.uint8), dim=1, stable=True)
    return order[:, :num_visible], order[:, num_visible:]


def sinusoid_table(num_positions: int, dim: int) -> Tensor:
    """Fixed position embedding over the flattened token index (Vaswani et al. 2017, Sec. 3.5).

    Args:
        num_positions: N.
        dim: D; sines in the even columns, cosines in the odd ones.

    Returns:
        (N, D) float32 on the default device; computed in float64 on the CPU, so it is the same
        on every machine.
    """
    position = torch.arange(num_positions, dtype=torch.float64, device="cpu").unsqueeze(1)
    column = torch.arange(dim, dtype=torch.float64, device="cpu")
    angle = position / 10000 ** (2 * (column // 2) / dim)
    table = torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()
    return table.to(torch.get_default_device())


def interpolated_positions(table: Tensor, grid_from: Triple, grid: Triple) -> Tensor:
    """A position table for another grid, by the rule of VideoMAE V2's fine-tuning code.

    Args:
        table: (N, D) of the old grid.
        grid_from: the old grid, (t, h, w) with t*h*w = N.

    Returns:
        (N', D): bicubic over rows and columns of each time step, then linear over time.
    """
    (t, h, w), (new_t, new_h, new_w) = grid_from, grid
    values = rearrange(table, "(t h w) d -> t d h w", t=t, h=h, w=w)
    if (new_h, new_w) != (h, w):
        values = F.interpolate(values, (new_h, new_w), mode="bicubic", align_corners=False)
    values = rearrange(values, "t d h w -> (h w) d t")
    if new_t != t:
        values = F.interpolate(values, new_t, mode="linear", align_corners=False)
    return rearrange(values, "(h w) d t -> (t h w) d", h=new_h, w=new_w)


def standardise_colours(tubelets: Tensor, *, num_colours: int) -> Tensor:
    """Zero mean and unit variance per clip and colour over all given tubelets.

    Args:
        tubelets: (B, V, P), values ordered colour first.
        num_colours: C.

    Returns:
        The same shape. The variance is raised by 0.0025 (in units of the input), so that a clip
        of one colour stays finite.
    """
    values = tubelets.unflatten(-1, (num_colours, -1))  # (B, V, C, P/C)
    centred = values - values.mean(dim=(1, 3), keepdim=True)
    variance = centred.square().mean(dim=(1, 3), keepdim=True)  # faster than torch.var
    return (centred * (variance + 0.0025).rsqrt()).flatten(2)


class TubeletEmbedding(nn.Module):
    """Linear embedding of tubelets; given indices, of those tubelets only.

    The weight keeps the shape (D, C, frames, height_px, width_px) of the released 3-D convolution,
    but is applied as a matrix product, which is exact, cheaper and safe in bf16.

    Args:
        tubelet: (frames, height_px, width_px).
        embed_dim: D.
        num_colours: C.
        standardise: bring each clip to zero mean and unit variance per colour before. Only the
            embedded tubelets count, so that masked pixels keep having no influence. Takes skin
            tone, light and contrast out of the input; not in the paper.
    """

    def __init__(
        self, *, tubelet: Triple, embed_dim: int, num_colours: int = 3, standardise: bool = False
    ):
        super().__init__()
        self.standardise = standardise
        self.tubelet = tubelet
        self.proj = nn.Conv3d(num_colours, embed_dim, kernel_size=tubelet, stride=tubelet)

    def forward(self, clip: Tensor, indices: Tensor | None = None) -> Tensor:
        """Embed all or some tubelets.

        Args:
            clip: (B, C, T, H, W).
            indices: (B, V) int64 token indices, or None for all tokens in order.

        Returns:
            (B, V, D), or (B, N, D) without indices.

        Raises:
            ValueError: T, H or W is not a multiple of the tubelet.
        """
        t, h, w = token_grid(clip.shape[2:], self.tubelet)
        pattern = "b c (t dt) (h dh) (w dw) -> b t h w c dt dh dw"
        tubelets = rearrange(clip, pattern, t=t, h=h, w=w)  # a view
        if indices is None:
            values = tubelets.reshape(clip.shape[0], t * h * w, -1)
        else:
            sample = torch.arange(clip.shape[0], device=clip.device).unsqueeze(1)
            step, place = indices // (h * w), indices % (h * w)
            values = tubelets[sample, step, place // w, place % w].flatten(2)
        if self.standardise:
            values = standardise_colours(values, num_colours=clip.shape[1])
        return F.linear(values, self.proj.weight.flatten(1), self.proj.bias)
