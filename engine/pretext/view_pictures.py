"""Pictures of the views that contrastive learning compares."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from svfap.datasets.tables import readable
from svfap.engine.report.plots import new_figure

COLUMNS = ("anchor", "positive", "second anchor", "its positive")
CELL_INCHES = 1.5
NAME_LETTERS = 30  # below a picture; more would push those beside it away


def views_figure(samples: Sequence[np.ndarray], names: Sequence[str]) -> Figure:
    """Views side by side, a row per sample; of clips the middle frame.

    Args:
        samples: (S, T, H, W, 3) uint8 each, as `datasets.contrastive` gives them; S is 2, or 4 with
            hard negatives.
    """
    count = len(samples[0])
    figure = new_figure(CELL_INCHES * count + 0.3, (CELL_INCHES + 0.2) * len(samples) + 0.2)
    axes = figure.subplots(len(samples), count, squeeze=False)
    for row, (views, name) in enumerate(zip(samples, names, strict=True)):
        for column, view in enumerate(views):
            axis = axes[row, column]
            axis.imshow(view[len(view) // 2])
            axis.set_axis_off()
            if row == 0:
                axis.set_title(COLUMNS[column], fontsize=8)
        look = {"fontsize": 6, "va": "top", "parse_math": False}
        axis, shown = axes[row, 0], readable(name[-NAME_LETTERS:])
        axis.text(0, -0.03, shown, transform=axis.transAxes, **look)
    return figure
