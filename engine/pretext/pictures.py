"""Pictures of reconstructions: original, masked, predicted, and what the prediction really says.

With targets that are normalised per tubelet, colours can only be shown by lending the prediction
the true mean and standard deviation of every tubelet. That makes any model look good, so the
prediction is also shown as it left the model, beside the normalised original.
"""

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from matplotlib.figure import Figure

from svfap.datasets.files import write_text
from svfap.datasets.tables import readable
from svfap.engine.pretext.objectives import (
    MaskedReconstruction,
    motion_targets,
    normalise_tubelets,
    tubelet_statistics,
    undo_motion,
)
from svfap.engine.report.plots import save_figure, spread
from svfap.engine.results.find import ERRORS_FILE
from svfap.models.patches import patchify, unpatchify

MASK_GREY = 0.5
BLANK = 0.93
# Standard deviations of a normalised value from mid-grey to black or white.
GREY_RANGE_STD = 2.5

CELL_INCHES = 1.25
LABEL_INCHES = 1.95
LINE_INCHES = 0.19


@dataclass(frozen=True)
class Reconstruction:
    """Rows of the picture and the errors under it."""

    rows: dict[str, np.ndarray]  # label -> (T, H, W, 3) in [0, 1], from top to bottom
    masked_mse: float  # mean squared error over the masked tubelets, in units of the target
    mean_mse: float  # the same error when predicting the mean of each tubelet and colour
    caption: tuple[str, ...]  # what was done to show the prediction, in sentences

    @property
    def relative(self) -> float:
        """Error as a share of that of the mean."""
        return self.masked_mse / max(self.mean_mse, 1e-12)

    @property
    def verdict(self) -> str:
        """That share, in words."""
        if self.relative >= 1:
            return f"WORSE than the mean ({self.relative:.2f} of its error)."
        return f"{self.relative:.2f} of the mean's error."


def reconstruct(
    clip: np.ndarray,
    mask: np.ndarray,
    prediction: np.ndarray,
    *,
    tubelet: tuple[int, int, int],
    normalised: bool = True,
    group_frames: int | None = None,
) -> Reconstruction:
    """Turn the prediction for the masked tubelets of one clip into frames.

    Args:
        clip: (T, H, W, 3) in [0, 1], RGB.
        mask: (N,) boolean, True = hidden, time-major.
        prediction: (M, P) output of the model for the masked tubelets in token order; values
            ordered frame, row, column, colour.
        tubelet: (frames, height_px, width_px).
        normalised: targets were normalised per tubelet and colour.
        group_frames: None, or targets hold the first of each group of this many frames and the
            differences of the others to it (MAE-DFER Sec. 3.3).

    Raises:
        ValueError: shapes that do not fit together, a mask that hides nothing, pixels outside
            [0, 1] or a prediction that is not finite.
    """
    clip, mask, prediction = np.asarray(clip), np.asarray(mask), np.asarray(prediction)
    grid = _check(clip, mask, prediction, tubelet)
    pixels = torch.as_tensor(clip, dtype=torch.float64)
    tubelets = patchify(rearrange(pixels, "T H W C -> 1 C T H W"), tubelet)[0]  # (N, P)
    hidden = torch.as_tensor(mask.astype(bool))
    original = tubelets[hidden]  # (M, P)
    targets = normalise_tubelets(tubelets) if normalised else tubelets  # (N, P)
    target = targets[hidden]
    predicted = torch.as_tensor(prediction, dtype=torch.float64)
    differences = _Differences(group_frames, tubelet[0], grid[0]) if group_frames else None
    masked_mse, mean_mse = _errors(predicted, targets, hidden, differences)
    if differences:
        predicted = differences.undone(predicted, targets, hidden)

    def frames(values: torch.Tensor, elsewhere: torch.Tensor) -> np.ndarray:
        tokens = elsewhere.clone()
        tokens[hidden] = values.clamp(0, 1)
        image = unpatchify(tokens[None], tubelet, grid)[0]  # (C, T, H, W)
        return rearrange(image, "C T H W -> T H W C").float().numpy()

    blank = torch.full_like(tubelets, BLANK)
    coloured = _denormalise(predicted, original) if normalised else predicted
    rows = {
        "original": clip,
        "masked": frames(torch.full_like(original, MASK_GREY), tubelets),
        "prediction": frames(coloured, blank),
        "prediction with\nvisible put back": frames(coloured, tubelets),
    }
    if normalised:
        rows["raw prediction\n(no mean, no std\nof the original)"] = frames(_grey(predicted), blank)
        rows["what it should be\n(normalised original)"] = frames(_grey(target), blank)
    caption = _caption(normalised, group_frames, mask)
    return Reconstruction(rows=rows, masked_mse=masked_mse, mean_mse=mean_mse, caption=caption)


def reconstruction_figure(
    clip: np.ndarray,
    mask: np.ndarray,
    prediction: np.ndarray,
    *,
    tubelet: tuple[int, int, int],
    normalised: bool = True,
    group_frames: int | None = None,
    num_steps: int = 6,
    title: str = "",
    explained: bool = True,
) -> tuple[Figure, Reconstruction]:
    """Picture of one video: a row per kind of image, a column per shown frame.

    Of what `reconstruct` takes; `num_steps` frames are shown, spread evenly over the clip. Returns
    the figure, which `engine.report.plots.save_figure` writes, and what it shows.
    """
    result = reconstruct(
        clip,
        mask,
        prediction,
        tubelet=tubelet,
        normalised=normalised,
        group_frames=group_frames,
    )
    steps = spread(len(clip), num_steps)
    unit = "in normalised units" if normalised else "of pixels in [0, 1]"
    text = [
        f"MSE on the masked tubelets only, {unit}: {result.masked_mse:.4f}; of predicting the mean "
        f"of each tubelet and colour instead: {result.mean_mse:.4f}. {result.verdict}",
        *(result.caption if explained else ()),
    ]
    rows = {name: frames[steps] for name, frames in result.rows.items()}
    return draw_rows(rows, text, [f"frame {step}" for step in steps], title), result


def draw_reconstructions(
    found: Iterable[tuple], objective: MaskedReconstruction, ids: Sequence[str], folder: Path
) -> list[Path]:
    """Draw a picture for each of some videos, of
    `engine.pretext.masked.MaskedAutoencoding.predictions`; `errors.json` beside them has the error
    of each as a share of the mean's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    errors = {}
    for index, clip, mask, prediction in found:
        figure, shown = reconstruction_figure(
            clip, mask, prediction, tubelet=objective.tubelet, normalised=objective.normalise,
            group_frames=objective.group_frames, title="/".join(Path(ids[index]).parts[-2:]),
            explained=not errors,
        )  # fmt: skip
        path = folder / f"{index:06d}_{Path(ids[index]).stem}.png"
        save_figure(figure, path)
        errors[path.name] = shown.relative
    write_text(folder / ERRORS_FILE, json.dumps(errors, indent=1) + "\n")
    return [folder / name for name in errors]


def draw_rows(
    rows: dict[str, np.ndarray], text: Sequence[str], columns: Sequence[str] = (), title: str = ""
) -> Figure:
    """Rows of pictures, with text below.

    Args:
        rows: label -> (n, H, W, 3) in [0, 1], from top to bottom.
        columns: what stands above each of the n columns, if anything.
    """
    frame_height, frame_width = next(iter(rows.values())).shape[1:3]
    cell_height = CELL_INCHES * frame_height / frame_width
    wide = CELL_INCHES * len(next(iter(rows.values())))
    lines = [part for line in text for part in _wrap(line, (LABEL_INCHES + wide) / 0.083)]
    high, top = cell_height * len(rows), 0.62 if columns or title else 0.1
    bottom = LINE_INCHES * (len(lines) + 1)
    width, height = LABEL_INCHES + wide + 0.1, top + high + bottom
    figure = Figure(figsize=(width, height), facecolor="white")
    box = (LABEL_INCHES / width, bottom / height, wide / width, high / height)
    axis = figure.add_axes(box)
    axis.imshow(_mosaic(list(rows.values())), interpolation="nearest", aspect="auto")
    axis.set_axis_off()
    for index, label in enumerate(rows):
        y = (bottom + high - (index + 0.5) * cell_height) / height
        figure.text(0.1 / width, y, label, va="center", fontsize=9)
    for index, column in enumerate(columns):
        x = (LABEL_INCHES + (index + 0.5) * CELL_INCHES) / width
        figure.text(x, (bottom + high + 0.06) / height, column, ha="center", fontsize=8)
    look = {"va": "top", "fontsize": 10, "weight": "bold", "parse_math": False}
    figure.text(0.1 / width, 1 - 0.12 / height, readable(title), **look)
    y = (bottom - 0.1) / height
    figure.text(0.1 / width, y, "\n".join(lines), va="top", fontsize=9, linespacing=1.35)
    return figure


def _mosaic(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Frames side by side with white gaps: (height, width, 3)."""
    edge = max(1, rows[0].shape[2] // 80)
    gap = ((0, 0), (0, 0), (edge, edge), (edge, edge), (0, 0))
    frames = np.pad(np.stack(rows), gap, constant_values=1.0)
    return rearrange(frames, "row step H W C -> (row H) (step W) C")


def _wrap(line: str, width: float) -> list[str]:
    return textwrap.wrap(line, max(30, int(width)))


def _caption(normalised: bool, group_frames: int | None, mask: np.ndarray) -> tuple[str, ...]:
    sentences = [f"{int(mask.sum())} of {mask.size} tubelets hidden ({mask.mean():.0%})."]
    if normalised:
        sentences += [
            "Rows 3 and 4 undo the normalisation with the true mean and standard deviation of "
            "each hidden tubelet and colour, taken from the original: this flatters any model.",
            "Rows 5 and 6 use nothing of the original's mean and std: grey is 0, black and "
            f"white are -{GREY_RANGE_STD:g} and +{GREY_RANGE_STD:g} standard deviations.",
        ]
    else:
        sentences.append("Targets are plain pixels: no normalisation was undone.")
    if group_frames:
        sentences.append(
            f"Differences to the first of each {group_frames} frames were added to it; the errors "
            "are those of first frames and differences, as in training."
        )
    return tuple(sentences)


@dataclass(frozen=True)
class _Differences:
    """Frame differences in the targets of a whole clip."""

    group_frames: int
    tubelet_frames: int
    num_steps: int

    def taken(self, values: torch.Tensor) -> torch.Tensor:
        """First frames and differences of all tubelets, (N, P)."""
        return motion_targets(values, **vars(self))

    def undone(
        self, predicted: torch.Tensor, targets: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """Predicted first frames and differences, (M, P), as frames; visible ones are given."""
        values = self.taken(targets)
        values[hidden] = predicted
        return undo_motion(values, **vars(self))[hidden]


def _errors(
    predicted: torch.Tensor,
    targets: torch.Tensor,
    hidden: torch.Tensor,
    differences: _Differences | None,
) -> tuple[float, float]:
    """MSE on the hidden tubelets of a prediction (M, P), and of each tubelet's mean per colour."""
    values = rearrange(targets, "N (p c) -> N p c", c=3)
    constant = values.mean(dim=1, keepdim=True).expand_as(values).flatten(1)
    if differences:
        targets, constant = differences.taken(targets), differences.taken(constant)
    target, constant = targets[hidden], constant[hidden]
    return (predicted - target).square().mean().item(), (constant - target).square().mean().item()


def _denormalise(values: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
    """Normalised (M, P) back to pixels with the statistics of the original tubelets."""
    mean, std = tubelet_statistics(original)
    return (rearrange(values, "M (p c) -> M p c", c=3) * std + mean).flatten(1)


def _grey(values: torch.Tensor) -> torch.Tensor:
    return MASK_GREY + values * (MASK_GREY / GREY_RANGE_STD)


def _check(
    clip: np.ndarray, mask: np.ndarray, prediction: np.ndarray, tubelet: tuple[int, int, int]
) -> tuple[int, int, int]:
    """The token grid, once everything fits together."""
    if clip.ndim != 4 or clip.shape[-1] != 3 or any(n % p for n, p in zip(clip.shape, tubelet)):
        raise ValueError(
            f"clip of shape {clip.shape}: must be (T, H, W, 3) with T, H and W multiples of "
            f"the tubelet {tuple(tubelet)}."
        )
    if not (np.isfinite(clip).all() and clip.min() >= 0 and clip.max() <= 1):
        raise ValueError(
            f"clip holds values {clip.min()} to {clip.max()}: must be pixels in [0, 1]; divide "
            "bytes by 255, undo the normalisation of floats."
        )
    grid = tuple(size // step for size, step in zip(clip.shape, tubelet))
    if mask.shape != (math.prod(grid),) or not mask.any():
        raise ValueError(
            f"mask of shape {mask.shape} hiding {int(mask.sum())} tokens: must be "
            f"({math.prod(grid)},) for the grid {grid} and hide at least one."
        )
    expected = (int(mask.sum()), 3 * math.prod(tubelet))
    if prediction.shape != expected or not np.isfinite(prediction).all():
        raise ValueError(
            f"prediction of shape {prediction.shape}: must be finite and {expected}, one row per "
            "hidden token and one column per value of a tubelet."
        )
    return grid
