"""RandAugment (arXiv 1909.13719, in timm's form) of whole clips, as the published runs had it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from svfap.datasets.augment import frame_ops

MAX_MAGNITUDE = 10.0
OFF = ("", "none")


class Operation(NamedTuple):
    """A picture operation with its argument as drawn (None for those without)."""

    name: str
    argument: float | None


# name: (function on frames, kind of its argument)
_OPERATIONS: dict[str, tuple[Callable[..., np.ndarray], str]] = {
    "AutoContrast": (frame_ops.auto_contrast, "none"),
    "Equalize": (frame_ops.equalize, "none"),
    "Invert": (frame_ops.invert, "none"),
    "Rotate": (frame_ops.rotate, "degrees"),
    "Posterize": (frame_ops.posterize, "bits"),
    "Solarize": (frame_ops.solarize, "threshold"),
    "SolarizeAdd": (frame_ops.solarize_add, "amount"),
    "Color": (frame_ops.color, "factor"),
    "Contrast": (frame_ops.contrast, "factor"),
    "Brightness": (frame_ops.brightness, "factor"),
    "Sharpness": (frame_ops.sharpness, "factor"),
    "ShearX": (frame_ops.shear_x, "shear"),
    "ShearY": (frame_ops.shear_y, "shear"),
    "TranslateX": (frame_ops.translate_x, "shift"),
    "TranslateY": (frame_ops.translate_y, "shift"),
}
OPERATIONS = tuple(_OPERATIONS)

_SIGNED_RANGE = {"degrees": 30.0, "shear": 0.3, "shift": 0.45}

# key in the configuration string: (field, type, smallest, largest)
_KEYS = {
    "m": ("magnitude", float, 0, MAX_MAGNITUDE),
    "n": ("num_operations", int, 0, 100),
    "mstd": ("magnitude_std", float, 0, MAX_MAGNITUDE),
    "inc": ("increasing", int, 0, 1),
    "p": ("prob", float, 0, 1),
}


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """Random picture operations, the same for all frames of a clip.

    Args:
        num_operations: operations drawn (with replacement) per clip; 0 switches RandAugment off.
        magnitude: mean strength, 0..10.
        magnitude_std: standard deviation of the strength; what is drawn is cut to 0..10.
        increasing: a larger magnitude is stronger in every operation. Without it, Posterize and
            Solarize are weaker with larger magnitudes and Color, Contrast, Brightness and
            Sharpness run from a factor of 0.1 to one of 1.9.
        prob: probability with which a drawn operation is carried out.
    """

    num_operations: int = 2
    magnitude: float = 10.0
    magnitude_std: float = 0.0
    increasing: bool = False
    prob: float = 0.5

    @classmethod
    def parse(cls, text: str | None) -> "RandAugment":
        """Read a configuration string as `--aa` takes it, for example "rand-m7-n4-mstd0.5-inc1".

        Args:
            text: "rand" and keys with a value each: m (magnitude), n (number of operations), mstd
                (standard deviation of the magnitude), inc (1: increasing), p (probability); left
                out ones have timm's defaults. "none", "" or None: no operations.

        Raises:
            ValueError: another policy, an unknown or repeated key, a value out of range.
        """
        if text is None or text.lower() in OFF:
            return cls(num_operations=0)
        policy, *parts = text.split("-")
        if policy != "rand":
            raise ValueError(
                f"augmentation {text!r} starts with {policy!r}; only 'rand' (RandAugment) is "
                "known, e.g. 'rand-m7-n4-mstd0.5-inc1', or 'none'"
            )
        fields = {}
        for part in parts:
            name, value = _parse_part(part, text)
            if name in fields:
                raise ValueError(f"augmentation {text!r} sets {part!r} twice; keep one of them")
            fields[name] = value
        return cls(**fields)

    def draw(self, rng: np.random.Generator) -> list[Operation]:
        """Draw the operations of a clip, those left out by `prob` not included."""
        operations = []
        for index in rng.integers(len(OPERATIONS), size=self.num_operations):
            name = OPERATIONS[index]
            carried_out, negative = rng.random() < self.prob, rng.random() < 0.5
            magnitude = rng.normal(self.magnitude, self.magnitude_std)
            if carried_out:
                level = min(max(magnitude / MAX_MAGNITUDE, 0.0), 1.0)
                operations.append(Operation(name, self.argument(name, level, negative=negative)))
        return operations

    def argument(self, name: str, level: float, *, negative: bool) -> float | None:
        """Argument of an operation.

        Deviation: Posterize keeps at least one bit; in the released code the strongest setting
        keeps none, a black picture.

        Args:
            name: one of `OPERATIONS`.
            level: strength, 0..1.
            negative: turn the sign round, where there is one.

        Returns:
            Degrees, bits kept, threshold, amount added, blending factor, shear, or share of the
            width or height, as the operation takes it; None for operations without.
        """
        kind = _OPERATIONS[name][1]
        sign = -1 if negative else 1
        if kind in _SIGNED_RANGE:
            return sign * level * _SIGNED_RANGE[kind]
        if kind == "factor":
            return 1 + sign * level * 0.9 if self.increasing else 0.1 + level * 1.8
        if kind == "bits":
            return max(1, 4 - int(level * 4) if self.increasing else int(level * 4))
        if kind == "threshold":
            return 256 - int(level * 256) if self.increasing else int(level * 256)
        return int(level * 110) if kind == "amount" else None

    def apply(self, frames: np.ndarray, operations: list[Operation]) -> np.ndarray:
        """Carry operations out one after the other on all frames.

        Args:
            frames: (T, H, W, 3) uint8 RGB; left as they are.

        Returns:
            Same shape; `frames` itself if there is nothing to do.
        """
        if operations:
            frames = np.ascontiguousarray(frames)
        for name, argument in operations:
            function = _OPERATIONS[name][0]
            frames = function(frames) if argument is None else function(frames, argument)
        return frames


def _parse_part(part: str, text: str) -> tuple[str, float | int | bool]:
    """Field and value of one "key and value" of a configuration string."""
    match = re.fullmatch(r"([a-z]+)(.*)", part)
    if match is None or match[1] not in _KEYS:
        known = ", ".join(f"{key} ({field})" for key, (field, *_) in _KEYS.items())
        raise ValueError(f"unknown key {part!r} in augmentation {text!r}; known: {known}")
    field, kind, smallest, largest = _KEYS[match[1]]
    try:
        value = kind(match[2])
    except ValueError:
        value = None
    if value is None or not smallest <= value <= largest:
        raise ValueError(
            f"{part!r} in augmentation {text!r}: {field} must be "
            f"{'a whole number' if kind is int else 'a number'} in {smallest}..{largest:g}"
        )
    return field, bool(value) if field == "increasing" else value
