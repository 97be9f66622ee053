"""Names of models and optimizers, looked up before PyTorch is imported.

timm's are read in its source, since its import takes seconds.
"""

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from svfap.models.sizes import (
    ALIASES,
    CONTRASTIVE_PREFIX,
    IMAGE_PREFIX,
    PRETRAIN_PREFIX,
    SIZES,
    encoder_name,
)
from svfap.suggest import did_you_mean


def check_model(name: str) -> None:
    """Refuse a model that nobody has registered.

    Raises:
        ValueError: lists ours, and suggests the nearest.
    """
    size = encoder_name(name)
    bare = size.removeprefix(IMAGE_PREFIX).split(".")[0]
    image = not name.startswith(PRETRAIN_PREFIX)
    if (
        size in SIZES
        or image
        and any(f"def {bare}(" in text or f"'{bare}'" in text for text in _timm("models"))
    ):
        return
    known = [p + size for p in ("", PRETRAIN_PREFIX, CONTRASTIVE_PREFIX) for size in SIZES]
    raise ValueError(
        f"--model {name}: unknown{did_you_mean(name, [*known, *ALIASES]) or ';'} there are "
        f"{', '.join(SIZES)}, for masked autoencoding {PRETRAIN_PREFIX} before them, and image "
        f"backbones of timm as {IMAGE_PREFIX}NAME"
    )


def check_sizes(model: str, given: Mapping[str, object]) -> None:
    """Refuse clips that one of our models, named or by default, does not cut into its tubelets.

    Raises:
        ValueError: names flag and sizes.
    """
    others = ("finetune", "start_from", "resume", "eval")  # these may bring a model
    open_yet = "model" not in given and any(given.get(name) for name in others)
    config = SIZES.get(encoder_name(model))
    if config is None or open_yet:
        return
    for flag, whole in (("input_size", "patch_size"), ("num_frames", "tubelet_size")):
        value, part = given.get(flag, 0), given.get(whole) or config[whole]
        if value % part:
            raise ValueError(
                f"--{flag} {value}: {model} has a {whole} of {part}, of which it must be a "
                f"multiple, such as {max(1, round(value / part)) * part}"
            )


def check_optimizer(name: str) -> None:
    """Refuse an optimizer that neither we nor timm have; without timm's list all pass.

    Raises:
        ValueError: lists them, and suggests the nearest.
    """
    listed = {found for text in _timm("optim") for found in re.findall(r"\bname='(\w+)'", text)}
    known = listed | {"adam", "adamw", "sgd", "nesterov"}
    plain = name.lower().removeprefix("lookahead_")
    if listed and plain not in known:
        raise ValueError(
            f"--opt {name}: unknown{did_you_mean(plain, known) or ';'} there are "
            f"{', '.join(sorted(known))}"
        )


def _timm(part: str) -> Iterable[str]:
    """The text of every file of a part of timm."""
    found = find_spec("timm")
    folder = Path(found.origin).parent / part if found and found.origin else Path()
    return (path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
