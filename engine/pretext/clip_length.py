"""Progressive clip length: the first epochs of a pre-training see clips of fewer frames.

A change of recipe, for speed. Which clips an epoch sees is a function of the epoch alone, so there
is nothing to save and a resumed run is in the right phase.
"""

import argparse
import math
from typing import NamedTuple

from torch import nn

FLAGS = ("short_clip_frames", "short_clip_epochs")


class Phase(NamedTuple):
    """Consecutive epochs with clips of one length.

    Attributes:
        frames: of a clip.
        first_epoch: counted from 0.
        num_epochs: how many.
    """

    frames: int
    first_epoch: int
    num_epochs: int


def clip_phases(flags: argparse.Namespace, model: nn.Module) -> list[Phase]:
    """The run's phases, in order; the last one has clips of `--num_frames`.

    Args:
        flags: of run_pretrain.py, `part_win_size` resolved.
        model: says which lengths it can take.

    Raises:
        ValueError: lengths or numbers of epochs that cannot work; names the possible ones.
    """
    lengths, epochs = (getattr(flags, name) or [] for name in FLAGS)
    if len(lengths) != len(epochs):
        raise ValueError(
            f"--short_clip_frames has {len(lengths)} values and --short_clip_epochs {len(epochs)}; "
            "give both, as many of one as of the other: one pair for each phase of shorter clips"
        )
    possible = _possible_lengths(flags, model)
    for frames in lengths:
        if frames not in possible:
            raise ValueError(
                f"--short_clip_frames {frames}: possible with this model and --num_frames "
                f"{flags.num_frames} are {', '.join(map(str, possible)) or 'no shorter clips'}"
            )
    if sorted(set(lengths)) != lengths:
        raise ValueError(
            f"--short_clip_frames {_joined(lengths)}: clips must grow from phase to phase"
        )
    if any(number < 1 for number in epochs) or sum(epochs) >= flags.epochs:
        raise ValueError(
            f"--short_clip_epochs {_joined(epochs)}: each must be at least 1 and all "
            f"together less than --epochs {flags.epochs}, so that the last epochs see clips of "
            f"--num_frames {flags.num_frames}"
        )
    phases, first = [], 0
    for frames, number in zip(
        [*lengths, flags.num_frames], [*epochs, flags.epochs - sum(epochs)], strict=True
    ):
        phases.append(Phase(frames, first, number))
        first += number
    return phases


def _possible_lengths(flags: argparse.Namespace, model: nn.Module) -> list[int]:
    """Frames that shorter clips may have: whole tubelets, pyramid steps, regions and groups."""
    multiple = model.encoder.frame_multiple
    if flags.use_frame_diff_as_target:
        multiple = math.lcm(multiple, flags.frame_diff_group_size)
    if flags.part_win_size:
        multiple = math.lcm(multiple, model.tubelet[0] * flags.part_win_size[0])
    return list(range(multiple, flags.num_frames, multiple))


def _joined(numbers: list[int]) -> str:
    """As they are given on the command line."""
    return " ".join(map(str, numbers))


def frames_by_epoch(phases: list[Phase]) -> list[int]:
    """Frames of the clips of every epoch."""
    return [phase.frames for phase in phases for _ in range(phase.num_epochs)]
