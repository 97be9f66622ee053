"""Datasets of clips: masked pre-training and fine-tuning.

Evaluation is in `views` and `frame_views`, contrastive pre-training in `contrastive`.

Clips stay uint8 (T, H, W, 3) until they are on the device. Every random choice of a training
sample is keyed by (seed, epoch, index, copy), so it depends on neither workers nor history.

Items carry a leading axis (clips or views of one video) and are joined by `collate`.
"""

from collections.abc import Callable

import numpy as np
import torch

from svfap.datasets.augment.crops import MultiScaleCrop
from svfap.datasets.augment.masking import Masking
from svfap.datasets.augment.randaugment import RandAugment
from svfap.datasets.augment.transforms import draw_finetune, resize_square
from svfap.datasets.checks import at_least
from svfap.datasets.clips.sampling import bearable_rate, draw_pretrain_clip, draw_train_clip
from svfap.datasets.clips.source import ClipSource, VideoNote, cut_window
from svfap.datasets.clips.views import EvalViews
from svfap.datasets.loading.loader import Loader, Reading
from svfap.datasets.loading.order import EpochSampler, SampleKey, collate
from svfap.datasets.rng import generator
from svfap.datasets.video.open_video import UnreadableVideoError

__all__ = [
    "EpochSampler",
    "EvalViews",
    "FinetuneClips",
    "Loader",
    "PretrainClips",
    "Reading",
    "SampleKey",
    "VideoNote",
    "collate",
    "cut_window",
]

# So many unreadable videos in a row mean a wrong folder, not bad luck.
MAX_IN_A_ROW = 100


class TrainingClips(ClipSource):
    """Training: random clips of a video; the next row where it is unreadable.

    Args:
        clips_per_video: S, clips from each decoded video (1 in the published recipes).
        source: those of `ClipSource`.
    """

    # (generator, frames of the video, T, stride) -> (T,) frames of a clip
    _draw_frames: Callable[[np.random.Generator, int, int, int], np.ndarray]

    def __init__(self, *, seed: int, clips_per_video: int = 1, **source):
        super().__init__(**source)
        at_least(1, clips_per_video=clips_per_video)
        self.seed = seed
        self.clips_per_video = clips_per_video

    @property
    def clips_per_item(self) -> int:
        """See `ClipSource`."""
        return self.clips_per_video

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: SampleKey | tuple[int, int, int]) -> dict:
        key, notes = SampleKey(*key), []
        for offset in range(min(len(self), MAX_IN_A_ROW)):
            index = (key.index + offset) % len(self)
            try:  # anew each time: what one worker remembered would decide what a sample is
                sample = self._sample(key, index)
            except UnreadableVideoError as error:
                notes.append(VideoNote(error.path, "skipped", error.reason))
            else:
                sample["notes"] = notes + sample["notes"]
                return sample
        raise ValueError(
            f"{len(notes)} videos in a row cannot be read, from row {key.index + 1} of "
            f"{self.annotations.path} on; the first is {notes[0].path} ({notes[0].reason}). "
            "Check the paths and --data_root"
        )

    def _generator(self, key: SampleKey, clip: int, stream: str) -> np.random.Generator:
        copy = key.copy * self.clips_per_video + clip
        return generator(self.seed, key.epoch, key.index, copy, stream)

    def _sample(self, key: SampleKey, index: int) -> dict:
        """Everything of a sample but the notes of videos passed over."""

        def choose(num_frames: int) -> np.ndarray:
            return np.concatenate(
                [
                    self._draw_frames(
                        self._generator(key, clip, "frames"),
                        num_frames,
                        self.clip_frames,
                        bearable_rate(num_frames, self.stride),
                    )
                    for clip in range(self.clips_per_video)
                ]
            )

        indices, frames, notes = self.read_frames(index, choose)
        clips = [
            self._augment(frames[start : start + self.clip_frames], key, clip)
            for clip, start in enumerate(range(0, len(frames), self.clip_frames))
        ]
        sample = collate(clips) | self._labels(index, indices.reshape(-1, self.clip_frames))
        sample["index"] = np.full(self.clips_per_video, index, np.int64)
        sample["notes"] = notes
        return sample

    def _labels(self, index: int, indices: np.ndarray) -> dict:
        """What training needs of the labels of a video's clips, (S, T) frames."""
        return {}

    def _augment(self, frames: np.ndarray, key: SampleKey, clip: int) -> dict:
        """One augmented clip and what belongs to it, each with a leading axis of 1."""
        raise NotImplementedError


class PretrainClips(TrainingClips):
    """Random clips, cropped at several scales, with their masks.

    An item of key (epoch, index, copy) is a dict of `clip` (S, T, size, size, 3) uint8, `mask`
    (S, N) bool with True = hidden, `index` (S,) the rows used, `notes`; S is `clips_per_video`.

    Args:
        masking: draws masks of the model's token grid.
        decoder_mask_share: share of the hidden tokens that is predicted, another part in every
            epoch (0 < share <= 1). Below 1 items have `predicted` (S, M') int64, their numbers: a
            change of recipe, for speed (compare VideoMAE V2, arXiv 2303.16727, Sec. 3.2).
        enlarge_later: crops are not enlarged to `size` yet; `crop_box` (S, 4) says where they lie
            in the clip, for `transforms.enlarge`.
        options: those of `TrainingClips` and `ClipSource`.
    """

    _draw_frames = staticmethod(draw_pretrain_clip)

    def __init__(
        self,
        *,
        masking: Masking,
        decoder_mask_share: float = 1.0,
        enlarge_later: bool = False,
        **options,
    ):
        super().__init__(**options)
        self.masking = masking
        self.decoder_mask_share = decoder_mask_share
        self.enlarge_later = enlarge_later
        self.crop = MultiScaleCrop(self.size)

    def _augment(self, frames: np.ndarray, key: SampleKey, clip: int) -> dict:
        box = self.crop.draw(self._generator(key, clip, "crop"), *frames.shape[1:3])
        mask = self.masking(self._generator(key, clip, "mask"))
        item = {"mask": mask[None]}
        if self.decoder_mask_share < 1:
            draws = self._generator(key, clip, "predicted")
            part = self.masking.part_of(mask, self.decoder_mask_share, draws)
            item["predicted"] = part[None]
        if not self.enlarge_later:
            return item | {"clip": self.crop.apply(frames, box)[None]}
        frames, box = self.crop.cut(frames, box)
        return item | {"clip": frames[None], "crop_box": np.array([box])}


class FinetuneClips(TrainingClips):
    """Random clips, resized to a square and RandAugmented, with draws for the device's part.

    An item of key (epoch, index, copy) is a dict of `clip` (S, T, size, size, 3) uint8, `label`
    (see `ClipSource.labels_of`), `draws` (what `transforms.apply_draws` takes), `index` (S,) the
    rows used, `notes`; S is `clips_per_video`.

    Args:
        randaugment: operations on the frames; None for none.
        scale: area of the random resized crop as a share of the frame.
        ratio: its height / width.
        options: those of `TrainingClips` and `ClipSource`.
    """

    _draw_frames = staticmethod(draw_train_clip)

    def __init__(
        self,
        *,
        randaugment: RandAugment | None = None,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        erase_prob: float = 0.25,
        **options,
    ):
        super().__init__(**options)
        self.randaugment = randaugment
        self.draw_options = {
            "crop_scale": scale,
            "crop_ratio": ratio,
            "flip_prob": flip,
            "erase_prob": erase_prob,
        }

    def _augment(self, frames: np.ndarray, key: SampleKey, clip: int) -> dict:
        frames = resize_square(frames, self.size)
        if self.randaugment is not None:
            operations = self.randaugment.draw(self._generator(key, clip, "randaugment"))
            frames = self.randaugment.apply(frames, operations)
        draws = draw_finetune(self._generator(key, clip, "device"), self.size, **self.draw_options)
        return {
            "clip": frames[None],
            "draws": {name: torch.as_tensor(value)[None] for name, value in draws.items()},
        }

    def _labels(self, index: int, indices: np.ndarray) -> dict:
        return {"label": self.labels_of(index, indices)}
