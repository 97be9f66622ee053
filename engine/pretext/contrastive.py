"""Contrastive learning of expressions: what `run_pretrain.py` does with `--objective contrastive`.

SSL-FER (arXiv 2210.03853): which frames are pairs is in `datasets.clips.pairs`, what the views look
like in `datasets.augment.pair_views`, the loss in `engine.pretext.contrastive_loss`.
"""

import logging
import re
from functools import partial
from pathlib import Path

import numpy as np
import torch

from svfap import models
from svfap.datasets.augment.pair_views import ViewAugmentation
from svfap.datasets.clips.contrastive import ContrastiveClips
from svfap.datasets.clips.lengths import UNREADABLE, Lengths, read_lengths
from svfap.datasets.clips.pairs import PairRule
from svfap.datasets.faces.landmarks import PART_SIZE, find_landmarks
from svfap.datasets.faces.swap import swap_face
from svfap.datasets.labels.annotations import Annotations
from svfap.datasets.labels.splits import take_rows
from svfap.datasets.loading.order import SampleKey
from svfap.datasets.tables import write_table
from svfap.engine import build
from svfap.engine.flags.flag import Flags
from svfap.engine.loop import Training
from svfap.engine.pretext.base import Pretext
from svfap.engine.pretext.contrastive_loss import ContrastiveLoss
from svfap.engine.pretext.view_pictures import views_figure
from svfap.engine.report.plots import save_figure, spread
from svfap.engine.results.find import SUBJECTS_FILE, subjects_of
from svfap.engine.runtime.distributed import Workers
from svfap.models.descriptors import create_descriptor

logger = logging.getLogger(__name__)

IMAGE_SIZE = 112  # pixels, SSL-FER
LEFT_OUT_FILE = "left_out.csv"
# Folders of VoxCeleb1 and 2: id10001, id00012.
IDENTITY = re.compile(r"(?:^|[\\/])(id\d{5})(?=[\\/])")
# So many videos are asked for landmarks before training starts.
LANDMARK_PROBES = 50


class ContrastiveLearning(Pretext):
    """Model, pairs and loss of contrastive learning; `--model` names the encoder.

    Raises:
        ValueError: flags that cannot work, each with the remedy.
    """

    views = 2
    compares = True

    def __init__(self, flags: Flags, workers: Workers):
        self.flags, self.workers = flags, workers
        # images have the paper's size unless told otherwise
        name = build.model_overrides(flags).get("name", flags.model)
        images = models.is_image_model(name) and flags.input_size is None
        size = {"img_size": IMAGE_SIZE} if images else {}
        self.model = build.create_model(flags, name=models.contrastive_name(name), **size)
        span = (self.model.num_frames - 1) * flags.sampling_rate + 1
        self.rule = PairRule(
            time_aug=flags.time_aug,
            interval_seconds=tuple(flags.time_interval),
            hard_negatives=flags.hard_negatives,
            gap_seconds=flags.hard_negative_gap,
            span_frames=span,
        )
        self.samples_per_video = self.rule.num_pairs
        self.objective = ContrastiveLoss(
            num_pairs=self.rule.num_pairs,
            temperature=flags.temperature,
            false_negatives=flags.false_negatives,
            weight=flags.false_negative_weight,
            threshold=flags.false_negative_threshold,
            descriptor=None
            if flags.false_negatives == "none"
            else build.place(
                create_descriptor(flags.descriptor, flags.descriptor_weights), workers.device
            ),
            cutmix=flags.cutmix,
            device=workers.device,
        )
        self.prepare, self.compute = self.objective.prepare, self.objective.compute
        self.lengths: Lengths | None = None
        self.left_out: list[tuple] = []

    def choose_rows(self, annotations: Annotations) -> Annotations:
        """Leave out the videos that are too short for the pairs asked for, and say which.

        Raises:
            ValueError: none is long enough, or no landmarks are there that are needed.
        """
        self._check_landmarks(annotations)
        if not self.rule.needs_time:
            return annotations
        lengths = self._all_lengths(annotations)
        needed = np.array([0 if np.isnan(r) else self.rule.shortest(r) for r in lengths.rates])
        unreadable = lengths.num_frames == UNREADABLE  # the budget's business, later
        kept = np.flatnonzero(unreadable | (lengths.num_frames >= needed))
        short = np.setdiff1d(np.arange(len(annotations)), kept)
        if not len(kept) or unreadable[kept].all():
            raise ValueError(
                f"none of the {len(annotations)} videos of {annotations.path} is long enough: "
                f"{self._describe_pairs()}; the longest has {lengths.num_frames.max()} frames. "
                "Take shorter --time_interval and --hard_negative_gap"
            )
        self.lengths = lengths.take(kept)
        self.left_out = [
            (
                annotations.ids[row],
                lengths.num_frames[row],
                f"{lengths.rates[row]:.4g}",
                needed[row],
            )
            for row in short
        ]  # fmt: skip
        if self.left_out and self.workers.is_main:
            logger.warning(
                "%d of %d videos are too short for these pairs and are left out%s",
                len(short), len(annotations),
                f"; listed in {LEFT_OUT_FILE}" if self.flags.output_dir else "",
            )  # fmt: skip
        return take_rows(annotations, kept.tolist())

    def write_chosen(self, folder: Path) -> None:
        """List the videos that are too short."""
        if not self.left_out:
            return
        header = ("path", "num_frames", "frames_per_second", "frames_needed")
        write_table(folder / LEFT_OUT_FILE, header, self.left_out)

    def dataset(self, annotations: Annotations, window: tuple | None) -> ContrastiveClips:
        """Pairs of views of these videos."""
        flags = self.flags
        swapping = {}
        if flags.face_swap:
            swapping = {"swap": swap_face, "persons": persons_of(annotations)}
        return ContrastiveClips(
            annotations=annotations,
            clip_frames=self.model.num_frames,
            stride=flags.sampling_rate,
            rule=self.rule,
            lengths=self.lengths,
            augmentation=ViewAugmentation(size=self.model.img_size, part_mask=flags.part_mask),
            seed=flags.seed,
            describe=self.objective.descriptor is not None,
            face_swap=flags.face_swap,
            landmarks_root=flags.landmarks,
            face_window=window,
            backend=flags.reader,
            **swapping,
        )

    def shapes(self, num_clips: int) -> dict[str, torch.Tensor]:
        """See `Pretext`."""
        model = self.model
        empty = partial(torch.empty, device="meta")
        inputs = {
            "clip": empty((num_clips, 3, model.num_frames, model.img_size, model.img_size)),
            "index": empty(num_clips, dtype=torch.int64),
        }
        if self.objective.descriptor:
            for name in ("eyes", "mouth"):
                inputs[name] = empty((num_clips, PART_SIZE, PART_SIZE, 3), dtype=torch.uint8)
            inputs["described"] = empty(num_clips, dtype=torch.bool)
        return inputs

    def plan_rows(self) -> dict[str, str]:
        """Lines of the plan."""
        flags = self.flags
        views = 2 * flags.batch_size * self.workers.world_size
        contrast = f"{views} views at temperature {flags.temperature:g}"
        if flags.update_freq > 1:
            contrast += "; accumulated batches are not negatives of each other"
        rows = {"pairs": self._describe_pairs(), "contrast": contrast}
        if len(self.left_out):
            rows["left out"] = f"{len(self.left_out)} videos that are too short for these pairs"
        extras = {
            f"FaceSwap {flags.face_swap:g}": flags.face_swap,
            f"false negatives: {flags.false_negatives}, described by {flags.descriptor}":
                flags.false_negatives != "none",
            f"covered parts {flags.part_mask:g}": flags.part_mask,
            f"CutMix {flags.cutmix:g}": flags.cutmix,
        }  # fmt: skip
        rows["also"] = ", ".join(name for name, on in extras.items() if on) or "nothing"
        return rows

    def draw(
        self, run: Training, annotations: Annotations, window: tuple | None, output_dir: Path
    ) -> None:
        """Draw the views of the samples that were asked for, as training sees them."""
        rows = spread(len(annotations), self.flags.visualize)
        if not rows:
            return
        dataset = self.dataset(annotations, window)
        items = [dataset[SampleKey(run.position.epoch, row, 0)] for row in rows]
        # An unreadable video is passed over, so the row used may be another than was asked for.
        names = [annotations.ids[int(item["index"][0])] for item in items]
        save_figure(views_figure([item["clip"] for item in items], names), output_dir / "views.png")

    def _describe_pairs(self) -> str:
        low, high = self.flags.time_interval
        text = "two views of the same frames"
        if self.rule.time_aug != "none":
            text = f"views {low:g} to {high:g} s apart, {self.rule.time_aug} probability"
        if self.rule.hard_negatives:
            text += f"; two pairs per video at least {self.rule.gap_seconds:g} s apart"
        return text

    def _all_lengths(self, annotations: Annotations) -> Lengths:
        """Lengths of all videos; every process looks at its share."""
        workers, flags = self.workers, self.flags
        rows = range(workers.rank, len(annotations), workers.world_size)
        logger.info("looking at the lengths of %d videos", len(annotations))
        own = read_lengths(
            annotations,
            backend=flags.reader,
            landmarks_root=flags.landmarks,
            frame_rate=flags.frame_rate,
            rows=rows,
        )
        whole = Lengths(
            num_frames=np.zeros(len(annotations), np.int64),
            rates=np.zeros(len(annotations)),
            even=np.empty(len(annotations), object),
        )
        for rank, part in enumerate(workers.gather(own)):
            share = slice(rank, None, workers.world_size)
            whole.num_frames[share], whole.rates[share] = part.num_frames, part.rates
            whole.even[share] = part.even
        return whole

    def _check_landmarks(self, annotations: Annotations) -> None:
        flags = self.flags
        wanted = {"--face_swap": flags.face_swap, "--part_mask": flags.part_mask,
                  "--false_negatives": flags.false_negatives != "none"}  # fmt: skip
        users = [name for name, on in wanted.items() if on]
        if not users:
            return
        step = max(1, len(annotations) // LANDMARK_PROBES)
        looked_at = annotations.paths[::step]
        if all(find_landmarks(path, flags.landmarks) is None for path in looked_at):
            raise ValueError(
                f"{', '.join(users)}: no landmarks were found for {looked_at[0]} and "
                f"{len(looked_at) - 1} others; make them with "
                "`python -m svfap.preprocess.faces`, or say "
                "where they are with --landmarks DIR"
            )


def persons_of(annotations: Annotations) -> np.ndarray:
    """(n,) a number per video, equal for videos of the same person.

    Persons are those of a subjects.csv beside the annotation file, else VoxCeleb's folders of
    identities; otherwise every video counts as a person of its own.
    """
    path = Path(annotations.path).parent / SUBJECTS_FILE
    if path.is_file():
        names = subjects_of(path, annotations.ids)
    else:
        found = [IDENTITY.search(name) for name in annotations.ids]
        names = [match.group(1) if match else f"row {row}" for row, match in enumerate(found)]
    persons = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    if persons.max() == 0:
        raise ValueError(
            f"--face_swap: all videos of {annotations.path} are of {names[0]}, so there is no "
            "other head; leave it out"
        )
    return persons
