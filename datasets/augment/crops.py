"""Cutting a box out of each clip of a batch, on its device: one by one, or all together."""

import torch
import torch.nn.functional as F


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
