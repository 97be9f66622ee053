"""Series over time: gaps bridged, jitter removed without lag."""

import numpy as np
from scipy.ndimage import convolve1d, median_filter

# Frames of the median that removes single outliers before smoothing.
MEDIAN_FRAMES = 5
# Half width of the smoothing window in standard deviations.
WINDOW = 3.0


# Frames whose times differ from even ones by less than this share of a frame are evenly spaced.
EVEN = 0.5


def fill_gaps(series: np.ndarray, ticks: np.ndarray | None = None) -> np.ndarray:
    """Bridge missing rows by straight lines.

    Args:
        series: (T, n); rows of NaN are missing. The first and last row must be there.
        ticks: (T,) times of the rows in frames of average length, increasing; None: evenly.

    Returns:
        (T, n) without NaN.
    """
    known = ~np.isnan(series).any(1)
    if known.all():
        return series.copy()
    time = np.arange(len(series)) if ticks is None else ticks
    columns = [np.interp(time, time[known], column[known]) for column in series.T]
    return np.stack(columns, 1)


def smooth(series: np.ndarray, sigma: float, ticks: np.ndarray | None = None) -> np.ndarray:
    """Smooth by a median, then by Gaussian-weighted local straight lines.

    Lines instead of means: a face that moves evenly is not shortened at the clip's ends. The
    window is symmetric, so nothing lags behind.

    Args:
        series: (T, n) without NaN.
        sigma: standard deviation of the weights in frames; 0 leaves the series as it is.
        ticks: as of `fill_gaps`.

    Returns:
        (T, n).
    """
    if sigma < 0:
        raise ValueError(f"smoothing over {sigma} frames: it must be 0 or more")
    if sigma == 0 or len(series) < 3:
        return series.copy()
    series = median_filter(series, size=(MEDIAN_FRAMES, 1), mode="nearest")
    if ticks is not None and np.abs(ticks - ticks[0] - np.arange(len(ticks))).max() >= EVEN:
        return _smooth_uneven(series, sigma, ticks)
    offset = np.arange(-int(np.ceil(WINDOW * sigma)), int(np.ceil(WINDOW * sigma)) + 1)
    weight = np.exp(-0.5 * (offset / sigma) ** 2)
    ones = np.ones((len(series), 1))
    s0, s1, s2 = (_moment(ones, weight * offset**power) for power in range(3))
    y0, y1 = (_moment(series, weight * offset**power) for power in range(2))
    return (s2 * y0 - s1 * y1) / (s0 * s2 - s1**2)


def _smooth_uneven(series: np.ndarray, sigma: float, ticks: np.ndarray) -> np.ndarray:
    """The same lines through rows at any times; a row without neighbours stays as it is."""
    smoothed = series.copy()
    reach = np.ceil(WINDOW * sigma)
    low = np.searchsorted(ticks, ticks - reach, "left")
    high = np.searchsorted(ticks, ticks + reach, "right")
    for row, (start, stop) in enumerate(zip(low, high)):
        offset = ticks[start:stop] - ticks[row]
        weight = np.exp(-0.5 * (offset / sigma) ** 2)
        s0, s1, s2 = (np.sum(weight * offset**power) for power in range(3))
        y0, y1 = ((weight * offset**power) @ series[start:stop] for power in range(2))
        spread = s0 * s2 - s1**2
        if spread > 1e-9 * s0**2:
            smoothed[row] = (s2 * y0 - s1 * y1) / spread
    return smoothed


def _moment(series: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum over the window of weight times series, nothing outside the series."""
    return convolve1d(series, weight[::-1], axis=0, mode="constant", cval=0.0)
