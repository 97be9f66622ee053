"""Masked autoencoding: what `run_pretrain.py` does with `--objective mae`."""

import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from svfap import models
from svfap.datasets import rng
from svfap.datasets.augment import transforms
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.clips import training as clips
from svfap.datasets.labels.annotations import Annotations
from svfap.engine import build
from svfap.engine.compute.precision import choose_precision
from svfap.engine.flags.flag import Flags
from svfap.engine.identity import begin_with, identify, told_by
from svfap.engine.loop import Training
from svfap.engine.pretext.base import Pretext
from svfap.engine.pretext.monitor import Monitor
from svfap.engine.pretext.objectives import MaskedReconstruction
from svfap.engine.runtime import plan, rundir
from svfap.engine.runtime.distributed import Workers
from svfap.models.weights.loading import check_same_model

logger = logging.getLogger(__name__)


LOOK_STEPS = 20  # short epochs are looked at together, so that it costs nothing


class MaskedAutoencoding(Pretext):
    """Model, clips and loss of masked autoencoding."""

    looks_at_first = True

    def __init__(self, flags: Flags, workers: Workers):
        self.flags, self.workers = flags, workers
        known = {}
        if flags.start_from:
            before = rundir.run_to_go_on(flags.output_dir, flags.resume, flags.auto_resume)
            known = begin_with(flags, flags.start_from, before, pretraining=True).model
        self.model = build.create_model(flags, **known)
        if not hasattr(self.model, "mask_token"):
            raise ValueError(
                f"{self.model.config['name']} is no masked autoencoder; take one of "
                f"{', '.join(models.list_models('pretrain_*'))}, or --objective contrastive"
            )
        region_size = getattr(self.model.encoder, "region_size", None)
        self.settled = _settled(flags.mask_type, flags.part_win_size, region_size)
        self.masking = _masking(self.model, **self.settled, mask_ratio=flags.mask_ratio,
                                symmetry=flags.part_apply_symmetry, seed=flags.seed)  # fmt: skip
        self.objective = self._make_objective()
        self.compute = self.objective.compute
        self.monitor = Monitor(self.objective)

    def _make_objective(self) -> MaskedReconstruction:
        flags, model = self.flags, self.model
        motion = flags.use_frame_diff_as_target
        if motion and model.num_frames % flags.frame_diff_group_size:
            raise ValueError(
                f"--frame_diff_group_size {flags.frame_diff_group_size}: must divide --num_frames "
                f"({model.num_frames})"
            )
        return MaskedReconstruction(
            tubelet=model.tubelet,
            num_visible=self.masking.num_visible,
            normalise=flags.normlize_target,
            group_frames=flags.frame_diff_group_size if motion else None,
            motion_weight=flags.target_diff_weight if motion else None,
            device=self.workers.device,
        )

    def take_weights(self, source: str) -> None:
        """Begin with these weights: a masked autoencoder's, or an encoder's with a new decoder.

        Raises:
            ValueError: they do not fit.
        """
        identity = identify(source, told=told_by(self.flags.given))
        if any(name.startswith("encoder.") for name in identity.weights):
            report = identity.load(self.model)
            logger.info("weights of %s\n%s", identity.source, report)
            return
        encoder, config = self.model.encoder, self.model.config
        parts = dict(encoder.named_children()).keys()
        kept = {n: v for n, v in identity.weights.items() if n.partition(".")[0] in parts}
        report = models.load_weights(encoder, kept, strict=False, called=identity.source)
        report.new = [name for name in report.missing if name.startswith("norm.")]
        report.missing = [name for name in report.missing if name not in report.new]
        if not report.ok:
            raise ValueError(f"these weights do not fit {config['name']}:\n{report}")
        if identity.stated:
            check_same_model(identity.config, config, identity.source)
        logger.info("weights of %s, of the encoder alone; the decoder is new\n%s",
                    identity.source, report)  # fmt: skip

    def dataset(self, annotations: Annotations, window: tuple | None) -> Dataset:
        """Clips and their masks."""
        flags = self.flags
        return clips.PretrainClips(
            annotations=annotations,
            clip_frames=self.model.num_frames,
            stride=flags.sampling_rate,
            size=self.model.img_size,
            masking=self.masking,
            seed=flags.seed,
            face_window=window,
            backend=flags.reader,
            clips_per_video=flags.num_samples,
            decoder_mask_share=flags.decoder_mask_share,
            enlarge_later=self._enlarges_on_device,
        )

    @property
    def _enlarges_on_device(self) -> bool:
        if self.flags.resize_on == "auto":
            return self.workers.device.type == "cuda"
        return self.flags.resize_on == "device"

    def prepare(self, batch: dict, draws: np.random.Generator) -> dict[str, torch.Tensor]:
        """See `StepFunction`."""
        inputs = self.objective.prepare(batch, draws)
        if not self.monitor.clips:
            self.monitor.keep(inputs)
        return inputs

    def look_at(self, batch: dict) -> None:
        """See `Pretext`."""
        self.monitor.keep(self.objective.prepare(batch))

    def cost(self) -> plan.Cost:
        """What one clip costs."""
        return plan.clip_cost(self.model, num_visible=self.masking.num_visible)

    def shapes(self, num_clips: int) -> dict[str, torch.Tensor]:
        """See `Pretext`."""
        model, masking, share = self.model, self.masking, self.flags.decoder_mask_share
        empty = partial(torch.empty, device="meta")
        size = (num_clips, model.num_frames, model.img_size, model.img_size, 3)
        inputs = {
            "clip": empty(size, dtype=torch.uint8),
            "mask": empty((num_clips, model.num_tokens), dtype=torch.bool),
        }
        if self._enlarges_on_device:
            inputs["crop_box"] = empty((num_clips, 4), dtype=torch.int64)
        if share < 1:
            mask = masking(rng.generator(0, 0, 0, 0, "mask"))
            part = masking.part_of(mask, share, rng.generator(0, 0, 0, 0, "predicted"))
            inputs["predicted"] = empty((num_clips, len(part)), dtype=torch.int64)
        return inputs

    def plan_rows(self) -> dict[str, str]:
        """Lines of the plan."""
        visible, tokens = self.masking.num_visible, self.model.num_tokens
        return {"masking": f"{self.settled['mask_type']}, {visible} of {tokens} tokens visible"}

    def look(self, run: Training, epoch: int) -> dict[str, float]:
        """See `engine.pretext.monitor`; warns when a third of the training is over."""
        every = math.ceil(LOOK_STEPS / run.resolved.steps_per_epoch)
        if (epoch + 1) % every and not run.is_over:
            return {}
        model = run.parallel.whole(run.model)
        if not (run.workers.is_main and self.monitor.clips):
            return {}
        line = self.monitor.look(model, run.precision.autocast)
        if 3 * (epoch + 1) > max(self.flags.epochs, 3 * self.flags.warmup_epochs):
            self.monitor.warn(line)
        return line

    def draw(
        self, run: Training, annotations: Annotations, window: tuple | None, output_dir: Path
    ) -> None:
        """Draw the reconstructions that were asked for."""
        if not self.flags.visualize:
            return
        from svfap.engine.pretext import pictures  # slow, and not needed before

        found = self.predictions(run.model, annotations, self.flags.visualize, window)
        folder = output_dir / "reconstructions"
        pictures.draw_reconstructions(found, self.objective, annotations.ids, folder)

    @torch.inference_mode()
    def predictions(
        self, model: nn.Module, annotations: Annotations, count: int, window: tuple | None
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """What a model like this one predicts for `count` videos, spread over the list.

        Clips are the middle ones, not cropped at random, with a mask keyed by seed and video.
        Unreadable videos are passed over and named.

        Yields:
            Number of the video, clip (T, H, W, 3) in [0, 1], mask (N,) and prediction (M, P).
        """
        from svfap.engine.report.plots import spread  # slow, and not needed before

        flags, masking, device = self.flags, self.masking, self.workers.device
        precision = choose_precision(flags.amp, device, width=model.embed_dim)
        views = clips.EvalViews(
            annotations=annotations, clip_frames=model.num_frames, stride=flags.sampling_rate,
            size=model.img_size, num_segments=1, num_crops=1, middle=True, face_window=window,
            backend=flags.reader,
        )  # fmt: skip
        model.eval()
        for index in spread(len(annotations), count):
            batch = clips.collate([views[index]])
            if any(note.status == "unreadable" for note in batch["notes"]):
                logger.warning("no picture of %s: it cannot be read", annotations.ids[index])
                continue
            mask = masking(rng.generator(flags.seed, 0, index, 0, "visualize"))
            pixels = transforms.normalize(transforms.to_float(batch["clip"].to(device)))
            with precision.autocast():
                prediction = model.forward(  # not as a call, which would compile for one clip
                    pixels, torch.from_numpy(mask)[None].to(device),
                    num_visible=masking.num_visible,
                )  # fmt: skip
            yield index, batch["clip"][0].numpy() / 255.0, mask, prediction[0].float().cpu().numpy()


def _settled(
    kind: str | None, windows: list[int] | None, region_size: Sequence[int] | None
) -> dict[str, object]:
    """`mask_type` and `part_win_size`; what was not given follows from the encoder's regions."""
    kind = kind or ("part_window" if region_size else "tube")
    if kind == "part_window" and windows is None and region_size:
        windows = list(region_size)
        logger.info("mask windows are the regions of the LGI-Former: %s tokens", region_size)
    return {"mask_type": kind, "part_win_size": windows}


def _masking(
    model,
    *,
    mask_type: str,
    part_win_size: Sequence[int] | None,
    mask_ratio: float,
    symmetry: bool,
    seed: int,
):
    """The masks of a run; ValueError where the encoder cannot use them, with the remedy."""
    region_size = getattr(model.encoder, "region_size", None)
    masking = make_masking(
        mask_type, model.grid, mask_ratio, part_win_size=part_win_size, symmetry=symmetry
    )
    needed = model.encoder.balanced_window
    if needed and any(size % window for size, window in zip(needed, masking.window)):
        windows = f" in windows of {masking.window}" if mask_type == "part_window" else ""
        raise ValueError(
            f"--mask_type {mask_type}{windows} does not show equally many tokens in all "
            f"regions, as the LGI-Former needs; its regions are {region_size} tokens (t, h, w). "
            f"Use --mask_type part_window with --part_win_size "
            f"{' '.join(map(str, region_size))}, or others whose height and width divide these"
        )
    sample = masking(rng.generator(seed, 0, 0, 0, "mask"))
    model.encoder.check_mask(torch.from_numpy(sample)[None])
    if mask_type == "random" and "svfap" in model.config["name"]:
        logger.warning(
            "--mask_type random: SVFAP merges time steps token by token and was published with "
            "tube masks, which show the same places in all steps"
        )
    return masking
