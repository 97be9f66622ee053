"""Pictures of a pre-training run: reconstructions of its own videos, and its curves."""

import argparse
import logging
from pathlib import Path

import torch

from svfap.datasets import rng
from svfap.datasets.augment import transforms
from svfap.datasets.clips import training as clips
from svfap.engine.compute.precision import Precision
from svfap.engine.pretext.objectives import MaskedReconstruction
from svfap.engine.pretext.pictures import reconstruction_figure
from svfap.engine.report.plots import save_figure, spread

logger = logging.getLogger(__name__)


@torch.inference_mode()
def draw_reconstructions(
    model: torch.nn.Module,
    objective: MaskedReconstruction,
    masking,
    annotations,
    *,
    flags: argparse.Namespace,
    window: tuple[int, int, int, int] | None,
    precision: Precision,
    device: torch.device,
    output_dir: Path,
) -> list[Path]:
    """Draw a picture for each of `--visualize` videos, spread over the annotation file.

    Clips are the middle ones, not cropped at random, with a mask keyed by seed and video.

    Args:
        annotations: videos to choose from; unreadable ones are passed over and named.
        flags: `visualize`, `seed`, sampling and reader.
        window: part of each frame that is used.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    model.eval()
    views = clips.EvalViews(
        annotations=annotations,
        clip_frames=model.num_frames,
        stride=flags.sampling_rate,
        size=model.img_size,
        num_segments=1,
        num_crops=1,
        middle=True,
        face_window=window,
        backend=flags.reader,
    )
    written = []
    for index in spread(len(annotations), flags.visualize):
        batch = clips.collate([views[index]])
        if any(note.status == "unreadable" for note in batch["notes"]):
            logger.warning("no picture of %s: it cannot be read", annotations.ids[index])
            continue
        mask = masking(rng.generator(flags.seed, 0, index, 0, "visualize"))
        pixels = transforms.to_float(batch["clip"].to(device))
        with precision.autocast():
            prediction = model.forward(  # not as a call, which would compile for one clip
                transforms.normalize(pixels),
                torch.from_numpy(mask)[None].to(device),
                num_visible=masking.num_visible,
            )
        figure = reconstruction_figure(
            batch["clip"][0].numpy() / 255.0,
            mask,
            prediction[0].float().cpu().numpy(),
            tubelet=model.tubelet,
            normalised=objective.normalise,
            group_frames=objective.group_frames,
            title=annotations.ids[index],
        )
        path = output_dir / f"{index:06d}_{Path(annotations.ids[index]).stem}.png"
        save_figure(figure, path)
        written.append(path)
    return written
