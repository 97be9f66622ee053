"""Pictures of a pre-training run: reconstructions of its own videos, and its curves."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from svfap.datasets import rng
from svfap.datasets.augment import transforms
from svfap.datasets.clips import training as clips
from svfap.datasets.files import write_text
from svfap.engine.compute.precision import Precision
from svfap.engine.pretext.objectives import MaskedReconstruction
from svfap.engine.pretext.pictures import reconstruction_figure
from svfap.engine.report.plots import save_figure, spread
from svfap.engine.results.find import ERRORS_FILE as ERRORS

logger = logging.getLogger(__name__)


def draw_reconstructions(
    model: torch.nn.Module,
    objective: MaskedReconstruction,
    masking,
    annotations,
    *,
    count: int,
    seed: int,
    sampling_rate: int,
    backend: str,
    window: tuple[int, int, int, int] | None,
    precision: Precision,
    device: torch.device,
    output_dir: Path,
) -> list[Path]:
    """Draw a picture for each of `count` videos, spread over the annotation file.

    `errors.json` beside them has the error of each as a share of the mean's. Clips are the middle
    ones, not cropped at random, with a mask keyed by seed and video.

    Args:
        annotations: videos to choose from; unreadable ones are passed over and named.
        count: how many.
        seed: of the masks.
        sampling_rate: distance of the frames of a clip.
        backend: what decodes videos.
        window: part of each frame that is used.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    written, errors = [], {}
    for index, clip, mask, prediction in predictions(
        model, masking, annotations, spread(len(annotations), count), seed=seed,
        sampling_rate=sampling_rate, backend=backend, window=window, precision=precision,
        device=device,
    ):  # fmt: skip
        figure, shown = reconstruction_figure(
            clip,
            mask,
            prediction,
            tubelet=model.tubelet,
            normalised=objective.normalise,
            group_frames=objective.group_frames,
            title="/".join(Path(annotations.ids[index]).parts[-2:]),
            explained=not written,
        )
        path = output_dir / f"{index:06d}_{Path(annotations.ids[index]).stem}.png"
        save_figure(figure, path)
        written.append(path)
        errors[path.name] = shown.relative
    write_text(output_dir / ERRORS, json.dumps(errors, indent=1) + "\n")
    return written


@torch.inference_mode()
def predictions(
    model: torch.nn.Module,
    masking,
    annotations,
    indices: Sequence[int],
    *,
    seed: int,
    sampling_rate: int,
    backend: str,
    window: tuple[int, int, int, int] | None,
    precision: Precision,
    device: torch.device,
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """What a model predicts for some videos; see `draw_reconstructions`.

    Yields:
        Number of the video, clip (T, H, W, 3) in [0, 1], mask (N,) and prediction (M, P).
    """
    model.eval()
    views = clips.EvalViews(
        annotations=annotations,
        clip_frames=model.num_frames,
        stride=sampling_rate,
        size=model.img_size,
        num_segments=1,
        num_crops=1,
        middle=True,
        face_window=window,
        backend=backend,
    )
    for index in indices:
        batch = clips.collate([views[index]])
        if any(note.status == "unreadable" for note in batch["notes"]):
            logger.warning("no picture of %s: it cannot be read", annotations.ids[index])
            continue
        mask = masking(rng.generator(seed, 0, index, 0, "visualize"))
        pixels = transforms.to_float(batch["clip"].to(device))
        with precision.autocast():
            prediction = model.forward(  # not as a call, which would compile for one clip
                transforms.normalize(pixels),
                torch.from_numpy(mask)[None].to(device),
                num_visible=masking.num_visible,
            )
        yield index, batch["clip"][0].numpy() / 255.0, mask, prediction[0].float().cpu().numpy()
