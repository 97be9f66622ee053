"""Presets: values for the flags of fine-tuning that were not given, by the size of data and model.

`paper`: the defaults, which are the papers'. `small`: with which a few dozen to a few thousand
clips learn in minutes: the rate's peak does not shrink with the batch, short warm-up, no mixing of
clips, light augmentation, and as many epochs as make enough steps. They were chosen on drawn faces
(docs/custom_data.md).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from svfap.datasets.tables import read_text
from svfap.engine.flags.flag import Flags
from svfap.models.sizes import SIZES, encoder_name

FEW_CLIPS = 3000  # below, `auto` is `small`
_SHAPE = (
    *("input_size", "short_side_size", "num_frames", "patch_size", "tubelet_size", "depth"),
    *("stage_depths", "temporal_kernel_size", "lg_region_size"),
)
# What `small` decides, with flags that decide the same.
TOGETHER = {
    "warmup_steps": ("warmup_epochs",),
    "epochs": ("max_steps",),
    **dict.fromkeys(("input_size", "num_frames", "stage_depths"), _SHAPE),  # they go together
}
FILLED = (
    *("lr", "batch_size", "epochs", "warmup_steps", "layer_decay", "drop_path", "mixup", "cutmix"),
    *("aa", "reprob", "scale", "standardise_clip", "input_size", "num_frames", "stage_depths"),
)
PEAK_TINY, PEAK = 1e-3, 2.5e-4  # the latter is the papers' with 64 clips per step
# Of tiny models from nothing, so that minutes suffice; as in the quick start.
SMALL_CLIPS = {"input_size": 48, "num_frames": 4, "standardise_clip": True}
STEPS_TINY, STEPS = (400, 4000), (300, 6000)  # fewest and most of them
EPOCHS_TINY, EPOCHS = 40, 30  # where these make a number of steps between those


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        name: "paper", "small", or "as it was begun" of a run that goes on.
        why: in words.
        values: by flag, as far as `name` decides them.
    """

    name: str
    why: str
    values: Mapping[str, object]

    @property
    def text(self) -> str:
        """A line for the plan."""
        shown = ", ".join(f"--{name} {value}" for name, value in self.values.items())
        return f"{self.name} ({self.why})" + (f": {shown}" if shown else "")


def choose_preset(flags: Flags, model_name: str, world_size: int, before: Mapping | None) -> Choice:
    """Choose values for flags of run_finetune.py that were not given.

    Args:
        before: flags that the run which goes on was begun with; None of a new run.
    """
    if before is not None:
        values = {name: before[name] for name in FILLED if name in before}
        return Choice("as it was begun", "the run goes on", _open(flags.given, values))
    clips, tiny = _num_clips(flags.data_path, flags.label_fraction), "_tiny_" in model_name
    name, why = flags.preset, "--preset"
    if name == "auto":
        few = clips < FEW_CLIPS
        given = "lr" in flags.given
        name = "small" if (few or tiny) and not given else "paper"
        why = f"{clips} training clips{' and a tiny model' * tiny}"
        if given and (few or tiny):
            why += ", but --lr is given"
    if name == "paper":
        return Choice(name, why, {})
    batch = flags.given.get("batch_size")
    if batch is None:
        batch = max(1, min(32, 2 ** round(math.log2(max(clips, 8) / 8))) // world_size)
    whole = batch * flags.update_freq * world_size
    length = None
    if flags.given.keys() & {"epochs", "max_steps"}:
        length = min(flags.epochs * math.ceil(clips / whole), flags.max_steps or math.inf)
    small = _small(clips, whole, model_name, length, new=not flags.finetune)
    values = {"batch_size": batch, **small}
    return Choice(name, why, _open(flags.given, values))


def _small(clips: int, batch: int, model_name: str, length: int | None, *, new: bool) -> dict:
    """What `small` decides, given the clips of a step, of a model that begins anew or not.

    `length`: steps of the run, where flags say them.
    """
    tiny = "_tiny_" in model_name
    steps = math.ceil(clips / batch)
    fewest, most = STEPS_TINY if tiny else STEPS
    total = min(max((EPOCHS_TINY if tiny else EPOCHS) * steps, fewest), most)
    values = {
        "epochs": math.ceil(total / max(steps, 1)),
        "lr": (PEAK_TINY if tiny else PEAK) * 256 / batch,
        "warmup_steps": max(1, min(40, (total if length is None else length) // 10)),
        "mixup": 0.0, "cutmix": 0.0, "aa": "none", "reprob": 0.0, "scale": [0.8, 1.0],
    }  # fmt: skip
    if tiny or new:
        values["layer_decay"] = 1.0
    if tiny:
        values["drop_path"] = 0.0
    if tiny and new and encoder_name(model_name) in SIZES:  # image backbones have their own
        values |= SMALL_CLIPS
        if model_name.startswith("svfap"):
            values["stage_depths"] = [4, 2]
    return values


def _open(given: Mapping, values: Mapping) -> dict:
    """Those of the values that nobody has given."""
    return {
        name: value for name, value in values.items()
        if not given.keys() & {name, *TOGETHER.get(name, ())}
    }  # fmt: skip


def _num_clips(data_path: str, share: float) -> int:
    """Clips that are trained on, about; 0 where the list is not there, which is refused later."""
    path = Path(data_path) / "train.csv"
    if not path.is_file():
        return 0
    lines = sum(not line.isspace() and line != "" for line in read_text(path).split("\n"))
    return round(lines * share)
