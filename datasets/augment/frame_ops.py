"""Picture operations on all frames of a clip at once, equal to PIL's but much faster.

All take and return C-contiguous uint8 (T, H, W, 3) RGB and leave their input as it is. Statistics
(histograms, mean brightness) are per frame, as if PIL had worked frame by frame. All are bit-equal
to PIL except `hue` and `blur`, which it has in no such form, and the geometric ones: PIL cuts
fractions off, so a sum that is a whole number up to rounding errors may come out 1 smaller or
larger (about one value in 1,000).
"""

import math

import cv2  # before any decord: cv2 reads no PNG when it is imported after it
import numpy as np
import torch
import torch.nn.functional as F

FILL = 128  # grey level of what comes from outside the frame
_LEVELS = np.arange(256)
_GREY = np.array([19595, 38470, 7471], dtype=np.float32)  # PIL's weights of R, G, B, in 1/65536


def auto_contrast(frames: np.ndarray) -> np.ndarray:
    """Stretch each colour of each frame to the full range."""
    return _apply_tables(frames, _stretch_tables(_histograms(frames)))


def equalize(frames: np.ndarray) -> np.ndarray:
    """Make the histogram of each colour of each frame flat."""
    return _apply_tables(frames, _equalize_tables(_histograms(frames)))


def invert(frames: np.ndarray) -> np.ndarray:
    """Negative."""
    return _apply_table(frames, 255 - _LEVELS)


def posterize(frames: np.ndarray, bits: int) -> np.ndarray:
    """Keep the `bits` highest bits (1..8) of each value."""
    return _apply_table(frames, _LEVELS & ~(2 ** (8 - bits) - 1))


def solarize(frames: np.ndarray, threshold: int) -> np.ndarray:
    """Invert the values from `threshold` on."""
    return _apply_table(frames, np.where(np.less(_LEVELS, threshold), _LEVELS, 255 - _LEVELS))


def solarize_add(frames: np.ndarray, amount: int) -> np.ndarray:
    """Add `amount` to the values below 128."""
    return _apply_table(frames, np.where(_LEVELS < 128, _LEVELS + amount, _LEVELS))


def brightness(frames: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black; factor 1 changes nothing."""
    return _apply_table(frames, _blend(np.zeros(256, np.uint8), _LEVELS, factor))


def contrast(frames: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the mean grey of each frame; factor 1 changes nothing."""
    means = (_grey(frames).mean(axis=(1, 2), dtype=np.float64) + 0.5).astype(np.uint8)
    tables = _blend(means[:, None, None], _LEVELS, factor)  # (T, 1, 256)
    return _apply_tables(frames, np.broadcast_to(tables, (len(frames), 3, 256)))


def color(frames: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the grey picture; factor 1 changes nothing."""
    return _blend(grey(frames), frames, factor)


def grey(frames: np.ndarray) -> np.ndarray:
    """The grey picture in three equal colours."""
    values = cv2.cvtColor(_grey(frames).reshape(-1, frames.shape[2]), cv2.COLOR_GRAY2RGB)
    return values.reshape(frames.shape)


def hue(frames: np.ndarray, shift: float) -> np.ndarray:
    """Turn the colour circle by `shift` (-0.5..0.5 of it), in steps of 1/256; no match in PIL."""
    tall = np.ascontiguousarray(frames).reshape(-1, *frames.shape[2:])
    values = cv2.cvtColor(tall, cv2.COLOR_RGB2HSV_FULL)
    values[..., 0] += np.uint8(round(shift * 256) % 256)
    return cv2.cvtColor(values, cv2.COLOR_HSV2RGB_FULL).reshape(frames.shape)


def blur(frames: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `sigma` pixels over a window of 3 x 3; no match in PIL."""
    blurred = np.empty_like(frames, order="C")
    for out, frame in zip(blurred, frames):
        cv2.GaussianBlur(np.ascontiguousarray(frame), (3, 3), sigma, dst=out)
    return blurred


def sharpness(frames: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the smoothed picture (its outermost pixels left as they are)."""
    kernel = np.ones((3, 3), np.float32)
    kernel[1, 1] = 5
    kernel /= 13
    smooth = np.empty_like(frames, order="C")
    for out, frame in zip(smooth, frames):
        cv2.filter2D(frame, -1, kernel, dst=out)
    for edge in (0, -1):
        smooth[:, edge], smooth[:, :, edge] = frames[:, edge], frames[:, :, edge]
    return _blend(smooth, frames, factor)


def rotate(frames: np.ndarray, degrees: float) -> np.ndarray:
    """Turn counter-clockwise about the centre."""
    if degrees == 0:
        return frames
    angle = -math.radians(degrees)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = frames.shape[2] / 2, frames.shape[1] / 2
    return affine(frames, (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y))


def shear_x(frames: np.ndarray, factor: float) -> np.ndarray:
    """Shift each row to the left by `factor` times its height from the top."""
    return affine(frames, (1, factor, 0, 0, 1, 0))


def shear_y(frames: np.ndarray, factor: float) -> np.ndarray:
    """Shift each column up by `factor` times its distance from the left."""
    return affine(frames, (1, 0, 0, factor, 1, 0))


def translate_x(frames: np.ndarray, share: float) -> np.ndarray:
    """Shift to the left by a share of the width."""
    return affine(frames, (1, 0, share * frames.shape[2], 0, 1, 0))


def translate_y(frames: np.ndarray, share: float) -> np.ndarray:
    """Shift up by a share of the height."""
    return affine(frames, (1, 0, 0, 0, 1, share * frames.shape[1]))


def affine(frames: np.ndarray, matrix: tuple[float, ...]) -> np.ndarray:
    """Move pixels by an affine map, bicubic, grey from outside.

    The weights of the source pixels are worked out once and applied to all frames and colours as
    one sparse product. They are those of PIL's bicubic transform (cubic with a = -1, fractions cut
    off), not of OpenCV's or torch's (a = -0.75), which differ by tens of grey levels at edges.

    Args:
        frames: (T, H, W, 3) uint8.
        matrix: (a, b, c, d, e, f): the pixel at (x, y) is taken from
            (a x + b y + c, d x + e y + f), pixel centres at halves.

    Returns:
        Same shape.
    """
    num_frames, height, width, _ = frames.shape
    pixels, weights, outside = _taps(matrix, height, width)
    # (T, H*W) to (H*W, T): OpenCV moves whole pixels
    pixel_rows = cv2.transpose(np.ascontiguousarray(frames).reshape(num_frames, -1, 3))
    pixel_rows = torch.from_numpy(pixel_rows).reshape(height * width, num_frames * 3)
    moved = F.embedding_bag(pixels, pixel_rows.float(), mode="sum", per_sample_weights=weights)
    # whole numbers come out a rounding error too small; PIL cuts off fractions
    moved = moved.add_(2e-4).clamp_(0, 255).numpy().astype(np.uint8)
    moved[outside] = FILL
    moved = cv2.transpose(moved.reshape(height * width, num_frames, 3))
    return moved.reshape(frames.shape)


def _taps(
    matrix: tuple[float, ...], height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Source pixels and their weights for every pixel, and which pixels come from outside.

    Returns:
        Flat source positions (H*W, n) int32, weights (H*W, n) float32, outside (H*W,) bool; n is 4
        where the map moves pixels along one axis only, else 16.
    """
    a, b, c, d, e, f = matrix
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    x, y = (a * x + b * y + c).ravel(), (d * x + e * y + f).ravel()
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    columns, column_weights = _cubic(x - 0.5, width)
    rows, row_weights = _cubic(y - 0.5, height)
    # all pairs of a row and a column, in long runs over the pixels, turned round at the end
    pixels = (rows[:, None] * np.int32(width) + columns).reshape(-1, len(x))
    weights = (row_weights[:, None] * column_weights).reshape(-1, len(x))
    pixels, weights = (torch.from_numpy(cv2.transpose(v)) for v in (pixels, weights))
    return pixels, weights, outside


def _cubic(position: np.ndarray, extent: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights (4, n) of cubic interpolation at positions (n,); (1, n) if all whole."""
    whole = np.floor(position)
    start = whole.astype(np.int32)
    d = (position - whole).astype(np.float32)
    if not d.any():
        indices, weights = start[None], np.ones((1, len(d)), np.float32)
    else:
        indices = start + np.arange(-1, 3, dtype=np.int32)[:, None]
        d2, d3 = d * d, d * d * d
        weights = np.stack([-d + 2 * d2 - d3, 1 - 2 * d2 + d3, d + d2 - d3, d3 - d2])
    return indices.clip(0, extent - 1), weights


def _apply_table(frames: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Look every value up in a table (256,), cut to 0..255."""
    table = table.clip(0, 255).astype(np.uint8)
    flat = np.ascontiguousarray(frames).reshape(-1, frames.shape[2], 3)
    return cv2.LUT(flat, table).reshape(frames.shape)


def _apply_tables(frames: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Look values up in a table per frame and colour (T, 3, 256), all within 0..255."""
    per_frame = np.ascontiguousarray(tables.transpose(0, 2, 1)[:, None]).astype(np.uint8)
    result = np.empty_like(frames, order="C")
    for frame, table, out in zip(frames, per_frame, result):
        cv2.LUT(frame, table, dst=out)
    return result


def _histograms(frames: np.ndarray) -> np.ndarray:
    """Counts (T, 3, 256) of the values of each colour of each frame."""
    counts = [
        [cv2.calcHist([frame], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
        for frame in frames
    ]
    return np.array(counts).astype(np.int64)


def _stretch_tables(counts: np.ndarray) -> np.ndarray:
    """Tables (T, 3, 256) that stretch what histograms (T, 3, 256) use to 0..255."""
    used = counts > 0
    low = used.argmax(axis=2, keepdims=True)
    high = 255 - used[..., ::-1].argmax(axis=2, keepdims=True)
    scale = 255.0 / np.maximum(high - low, 1)
    stretched = (_LEVELS * scale + -low * scale).clip(0, 255).astype(np.uint8)
    return np.where(low == high, _LEVELS, stretched)


def _equalize_tables(counts: np.ndarray) -> np.ndarray:
    """Tables (T, 3, 256) that make histograms (T, 3, 256) flat."""
    used = counts > 0
    high = 255 - used[..., ::-1].argmax(axis=2, keepdims=True)
    most = counts.sum(axis=2, keepdims=True) - np.take_along_axis(counts, high, axis=2)
    step = most // 255
    below = counts.cumsum(axis=2) - counts
    table = ((step // 2 + below) // np.maximum(step, 1)).clip(0, 255)
    return np.where(step == 0, _LEVELS, table)


def _grey(frames: np.ndarray) -> np.ndarray:
    """Brightness (T, H, W) uint8 with PIL's weights and rounding (all sums are exact)."""
    flat = frames.reshape(-1, frames.shape[2], 3).astype(np.float32)
    weighted = cv2.transform(flat, _GREY[None])
    weighted += 32768
    weighted /= 65536
    return weighted.astype(np.uint8).reshape(frames.shape[:3])


def _blend(low: np.ndarray, high: np.ndarray, factor: float) -> np.ndarray:
    """Blend: low + factor * (high - low), cut to 0..255, fractions cut off, float32 as in PIL."""
    low, blended = low.astype(np.float32), high.astype(np.float32)
    blended = np.subtract(blended, low, out=blended if low.shape == high.shape else None)
    blended *= np.float32(factor)
    blended += low
    return np.clip(blended, 0, 255, out=blended).astype(np.uint8)
