"""Series over time: gaps bridged, jitter removed without lag."""

import numpy as np
from scipy.ndimage import convolve1d, median_filter

# Frames of the median that removes single outliers before smoothing.
MEDIAN_FRAMES = 5
# Half width of the smoothing window in standard deviations.
WINDOW = 3.0


def fill_gaps(series: np.ndarray) -> np.ndarray:
    """Bridge missing rows by straight lines.

    Args:
        series: (T, n); rows of NaN are missing. The first and last row must be there.

    Returns:
        (T, n) without NaN.
    """
    known = ~np.isnan(series).any(1)
    if known.all():
        return series.copy()
    time = np.arange(len(series))
    columns = [np.interp(time, time[known], column[known]) for column in series.T]
    return np.stack(columns, 1)


def smooth(series: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth by a median, then by Gaussian-weighted local straight lines.

    Lines instead of means: a face that moves evenly is not shortened at the clip's ends. The
    window is symmetric, so nothing lags behind.

    Args:
        series: (T, n) without NaN.
        sigma: standard deviation of the weights in frames; 0 leaves the series as it is.

    Returns:
        (T, n).

    Raises:
        ValueError: sigma is negative.
    """
    if sigma < 0:
        raise ValueError(f"smoothing over {sigma} frames: it must be 0 or more")
    if sigma == 0 or len(series) < 3:
        return series.copy()
    series = median_filter(series, size=(MEDIAN_FRAMES, 1), mode="nearest")
    offset = np.arange(-int(np.ceil(WINDOW * sigma)), int(np.ceil(WINDOW * sigma)) + 1)
    weight = np.exp(-0.5 * (offset / sigma) ** 2)
    ones = np.ones((len(series), 1))
    s0, s1, s2 = (_moment(ones, weight * offset**power) for power in range(3))
    y0, y1 = (_moment(series, weight * offset**power) for power in range(2))
    return (s2 * y0 - s1 * y1) / (s0 * s2 - s1**2)


def _moment(series: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum over the window of weight times series, nothing outside the series."""
    return convolve1d(series, weight[::-1], axis=0, mode="constant", cval=0.0)
