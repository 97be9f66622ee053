"""Augmentation of whole clips: the same draw for all frames (settings of the published runs).

Worker side: uint8 (T, H, W, 3) in and out. Device side: (B, 3, T, H, W) float. Whatever is random
is drawn into plain numbers first (`draw_finetune`) and applied afterwards, so that what a
clip went through depends on its generator only.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ERASE_MODES = ("pixel", "const")


class Box(NamedTuple):
    """Part of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


def resize_square(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize frames to a square, the aspect ratio not kept, bilinear.

    Bit-equal to PIL's `Image.resize(..., BILINEAR)` when enlarging. When shrinking it smooths as
    PIL does, with coarser weights: a few values in 100 differ, by 1, very rarely by 2 grey levels.

    Args:
        frames: (T, H, W, 3) uint8.
        size: side in pixels.

    Returns:
        (T, size, size, 3) uint8; `frames` itself if it has that size.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(
            f"frames are {frames.dtype} {frames.shape}; expected uint8 (T, H, W, 3) as readers give"
        )
    if frames.shape[1:3] == (size, size):
        return frames
    contiguous = np.ascontiguousarray(frames)
    if not contiguous.flags.writeable:
        contiguous = contiguous.copy()  # torch warns of read-only (memory-mapped) arrays
    channels_last = torch.from_numpy(contiguous).permute(0, 3, 1, 2)
    resized = F.interpolate(channels_last, (size, size), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous().numpy()


def to_float(clips: torch.Tensor) -> torch.Tensor:
    """Clips as models take them, not yet normalised.

    Args:
        clips: (B, T, H, W, 3) uint8, any device.

    Returns:
        (B, 3, T, H, W) float32 in [0, 1], contiguous, same device. On a CPU bit-equal to a division
        by 255; a GPU's last bit may differ, far below what its models compute with.
    """
    moved = clips.permute(0, 4, 1, 2, 3)
    return moved.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def enlarge(clips: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Resize a box of each clip to the clip's size, bilinear; on the clips' device.

    Columns, then rows, as matrix products, each rounded to whole grey levels, as PIL and
    `resize_square` do, with the same grey levels as these for the crops of 160 px: the shares of
    pixels there are multiples of 1/64, which TF32 holds exactly. In other sizes a GPU's levels may
    differ by one.

    Args:
        clips: (B, T, S, S, 3) uint8.
        boxes: (B, 4) top, left, height, width in pixels, same device.

    Returns:
        As `to_float`: (B, 3, T, S, S) float32 in [0, 1].
    """
    size = clips.shape[2]
    rows, columns = (_enlarging_weights(boxes[:, i], boxes[:, i + 2], size) for i in (0, 1))
    frames = clips.permute(0, 4, 1, 2, 3).flatten(1, 2).float()  # (B, 3T, S, S)
    frames = torch.einsum("bnhw,bjw->bnhj", frames, columns).add_(0.5).floor_()
    frames = torch.einsum("bih,bnhj->bnij", rows, frames).add_(0.5).floor_()
    return frames.contiguous().unflatten(1, (3, -1)).div_(255)


def _enlarging_weights(start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    """Shares (B, size, size) of source pixels (last axis) in the pixels of an enlarged line.

    Args:
        start: (B,) first pixel of the part that is enlarged.
        length: (B,) its pixels, at most `size`.
        size: pixels of the line.
    """
    places = torch.arange(size, device=start.device)
    centres = (places + 0.5) * (length / size)[:, None] - 0.5  # (B, size), within the part
    within = places - start[:, None]
    weights = (1 - (centres[:, :, None] - within[:, None]).abs()).clamp_(min=0)
    weights *= ((within >= 0) & (within < length[:, None]))[:, None]
    return weights / weights.sum(2, keepdim=True)


def _mean_and_std(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """ImageNet's mean and standard deviation, (3, 1, 1, 1) each; made on the device itself."""
    with torch.inference_mode(False):  # training, too, takes what an evaluation left here
        return tuple(
            torch.cat([torch.full((1, 1, 1, 1), v, device=device, dtype=dtype) for v in values])
            for values in (IMAGENET_MEAN, IMAGENET_STD)
        )  # fmt: skip


_kept_mean_and_std = lru_cache(_mean_and_std)


def _statistics_for(clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`_mean_and_std` for these clips; made only once, except where they become compiled code.

    Tensors that stand for others (without values, for example) get some of their own kind.
    """
    stand_in = torch.compiler.is_compiling() or type(clips) is not torch.Tensor
    make = _mean_and_std if stand_in else _kept_mean_and_std
    return make(clips.device, clips.dtype)


def normalize(clips: torch.Tensor) -> torch.Tensor:
    """Subtract ImageNet's mean and divide by its standard deviation, per colour.

    Args:
        clips: (B, 3, T, H, W) or (3, T, H, W), values in [0, 1].

    Returns:
        Same shape, a new tensor.
    """
    return normalize_(clips.clone())


def normalize_(clips: torch.Tensor) -> torch.Tensor:
    """As `normalize`, in place: for clips that nothing else needs."""
    mean, std = _statistics_for(clips)
    return clips.sub_(mean).div_(std)


# Of random erasing: share of the frame, and height / width.
_ERASE_AREA, _ERASE_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)


def draw_finetune(
    rng: np.random.Generator,
    size: int,
    *,
    crop_scale: tuple[float, float] | None = (0.08, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip_prob: float = 0.5,
    erase_prob: float = 0.25,
) -> dict[str, torch.Tensor]:
    """Draw what `apply_draws` does to one fine-tuning clip.

    Args:
        size: side of the square frames, in pixels.
        crop_scale: area of the random resized crop as a share of the frame; None: no crop.
        crop_ratio: height / width of it, drawn on a logarithmic scale.
        flip_prob: probability of mirroring left and right.
        erase_prob: probability of erasing a box.

    Returns:
        CPU tensors `crop_box` (4,) and `erase_box` (4,) (top, left, height, width in pixels; an
        erase box of zeros erases nothing), `flip` () bool, `noise_seed` () int64. Stack those of B
        clips for `apply_draws`.
    """
    whole, nothing = Box(0, 0, size, size), Box(0, 0, 0, 0)
    crop = whole
    if crop_scale is not None:
        crop = _draw_box(rng, size, crop_scale, crop_ratio, largest=size, tries=10) or whole
    flip = rng.random() < flip_prob
    erase = nothing
    if rng.random() < erase_prob:
        drawn = _draw_box(rng, size, _ERASE_AREA, _ERASE_RATIO, largest=size - 1, tries=100)
        erase = drawn or nothing
    return {
        "crop_box": torch.tensor(crop),
        "flip": torch.tensor(bool(flip)),
        "erase_box": torch.tensor(erase),
        "noise_seed": torch.tensor(int(rng.integers(2**62))),
    }


def _draw_box(
    rng: np.random.Generator,
    size: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    *,
    largest: int,
    tries: int,
) -> Box | None:
    """Box of drawn area and height / width anywhere in the square; None if no try fits."""
    for _ in range(tries):
        pixels = size * size * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        height, width = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < height <= largest and 0 < width <= largest:
            top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
            return Box(int(top), int(left), height, width)
    return None


def apply_draws(
    clips: torch.Tensor,
    draws: dict[str, torch.Tensor],
    size: int,
    *,
    erase_mode: str = "pixel",
    together: bool = False,
) -> torch.Tensor:
    """Random resized crop, flip and random erasing of a batch, in this order, on its device.

    The crop is resized bilinearly without antialiasing, as the published runs did on tensors.
    Nothing waits for the device.

    Args:
        clips: (B, 3, T, H, W) float, normalised.
        draws: as `draw_finetune` gives them, stacked to (B, ...), on the CPU.
        size: side of the result in pixels; `erase_box` refers to it.
        erase_mode: as `erase_` takes it.
        together: `crop_together` rather than `crop_each`.

    Returns:
        (B, 3, T, size, size), a new tensor.
    """
    boxes, flips = draws["crop_box"], draws["flip"]
    if together:
        boxes, flips = (to_device(values, clips.device) for values in (boxes, flips))
    crop = crop_together if together else crop_each
    return erase_(crop(clips, boxes, flips, size), draws, erase_mode)


def augment_together(
    clips: torch.Tensor, boxes: torch.Tensor, flips: torch.Tensor, size: int
) -> torch.Tensor:
    """From (B, T, H, W, 3) uint8 to what `crop_together` gives, normalised; can be compiled."""
    return crop_together(normalize_(to_float(clips)), boxes, flips, size)


def erase_(clips: torch.Tensor, draws: dict[str, torch.Tensor], mode: str) -> torch.Tensor:
    """Fill the drawn boxes of those clips that have one, in place.

    Args:
        clips: (B, 3, T, H, W).
        draws: `erase_box` and `noise_seed`, on the CPU.
        mode: "pixel": normal noise, fresh for every pixel and frame, from a generator on the clips'
            device seeded with `noise_seed` (so CPU and CUDA differ); "const": zero, which is the
            mean colour.

    Returns:
        The clips.
    """
    if mode not in ERASE_MODES:
        raise ValueError(f"unknown erase mode {mode!r}; known: {', '.join(ERASE_MODES)}")
    boxes, seeds = draws["erase_box"].tolist(), draws["noise_seed"].tolist()
    for clip, box, seed in zip(clips, boxes, seeds, strict=True):
        if box[2]:
            _erase(clip, Box(*box), mode, seed)
    return clips


def _erase(clip: torch.Tensor, box: Box, mode: str, seed: int) -> None:
    """Fill a box of all frames of a clip (3, T, H, W) in place."""
    region = clip[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
    if mode == "const":
        region.zero_()
        return
    generator = torch.Generator(clip.device).manual_seed(seed)
    region.copy_(torch.randn(region.shape, generator=generator, device=clip.device))


def crop_each(
    clips: torch.Tensor, boxes: torch.Tensor, flips: torch.Tensor, size: int
) -> torch.Tensor:
    """Resize a box of each clip to a square and mirror some; clip by clip, quickest on a CPU.

    Args:
        clips: (B, 3, T, H, W) float.
        boxes: (B, 4) top, left, height, width in pixels, on the CPU.
        flips: (B,) bool, on the CPU.
        size: side of the square in pixels.

    Returns:
        (B, 3, T, size, size), a new tensor.
    """
    result = clips.new_empty((*clips.shape[:3], size, size))
    for clip, out, box, flip in zip(clips, result, boxes.tolist(), flips.tolist(), strict=True):
        top, left, height, width = box
        cropped = clip[:, :, top : top + height, left : left + width]
        if (height, width) != (size, size):
            cropped = F.interpolate(cropped, (size, size), mode="bilinear", align_corners=False)
        out.copy_(cropped.flip(-1) if flip else cropped)
    return result


def crop_together(
    clips: torch.Tensor, boxes: torch.Tensor, flips: torch.Tensor, size: int
) -> torch.Tensor:
    """As `crop_each`, for the whole batch at once: a few kernels on a GPU instead of hundreds.

    Boxes and flips are on the clips' device. Places of pixels are rounded: values differ from
    those of `crop_each` by less than 2e-4 of the range of a clip's values.
    """
    height, width = clips.shape[-2:]
    rows = _sampled_places(boxes[:, 0], boxes[:, 2], size)
    columns = _sampled_places(boxes[:, 1], boxes[:, 3], size)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    rows, columns = (2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1
    grid = torch.stack(
        (columns[:, None].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)), dim=-1
    )  # (B, size, size, 2)
    frames = clips.flatten(1, 2)  # (B, 3*T, H, W)
    sampled = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
    return sampled.unflatten(1, clips.shape[1:3])


def _sampled_places(start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    """Where in a line (B,) parts of it are sampled to get `size` pixels: (B, size), in pixels.

    Within the part, so that a crop's edge does not see what lies beside it.
    """
    centres = (torch.arange(size, device=start.device) + 0.5) * (length / size)[:, None] - 0.5
    return start[:, None] + centres.clamp(min=0).minimum(length[:, None] - 1)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor that was just made on the host; the host goes on at once.

    Copies from ordinary memory wait until the device has taken them, so on CUDA the values are put
    into page-locked memory first. For what a step draws on the host; batches are page-locked by
    their loader.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
