"""Checkpoints: complete, written atomically, found again by the same command."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from svfap.datasets.files import replacing
from svfap.models.weights.loading import require_finite
from svfap.models.weights.weight_file import BEST, CHOSEN, check_whole, read_checkpoint

logger = logging.getLogger(__name__)

LAST = "checkpoint-last.pth"
FORMAT = 1


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        losses: training loss of each of these steps, for the epoch's mean.
        metrics: what else the objective measured in each of these steps, by name.
        closed: whether the steps so far are in the log as an epoch; after an epoch's last step it
            is validated and saved before.
    """

    epoch: int = 0  # epochs completed
    step: int = 0  # optimizer steps completed in the epoch after those
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)  # gradient norm of each of these steps
    metrics: dict[str, list[float]] = field(default_factory=dict)
    best: float | None = None  # best validation score so far
    best_epoch: int | None = None  # epoch it was reached in
    seconds: float = 0.0  # training time so far
    closed: bool = False


def write_atomically(content: dict, path: Path) -> None:
    """Save with `torch.save` so that `path` is always either the old or the new whole file."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def pack(
    *,
    whole_state: Callable[[Mapping], Mapping],
    model,
    optimizer,
    scaler,
    average,
    position: Position,
    flags: dict,
    global_batch,
    name: str = LAST,
    facts: Mapping | None = None,
) -> dict:
    """Everything a run needs to go on, and everything `engine.identity` needs to know.

    Only tensors, numbers, strings and containers of them, so that `torch.load` can read it with
    `weights_only=True`. `whole_state` turns a state dict, which may be this process's part, into
    what is written; `name` is the file's, `facts` are written as they are.

    The chosen weights are those that the scores of the file are of: the best were chosen by scores
    of the averaged ones where there are any, others are those of `--test_weights`.
    """
    is_best = name == BEST
    averaged = average and (is_best or flags.get("test_weights") == "ema")
    return {
        "format": FORMAT,
        "model": whole_state(model.state_dict()),
        "model_config": model.config,
        "model_ema": whole_state(average.module.state_dict()) if average else None,
        "num_averaged": int(average.n_averaged) if average else 0,
        CHOSEN: "model_ema" if averaged else "model",
        "is_best": is_best,
        "optimizer": whole_state(optimizer.state_dict()),
        "scaler": scaler.state_dict() if scaler else None,
        "epoch": position.epoch,
        "position": asdict(position),
        "flags": flags,
        "global_batch": global_batch,
        **(facts or {}),
        "saved_at": time.time(),
    }


def read(path: Path) -> dict:
    """Read a checkpoint of ours.

    Raises:
        ValueError: the file is damaged, has weights that are not finite (an older one that is whole
            is named then) or is not a checkpoint of this program.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        content = read_checkpoint(path)
        for name in ("model", "model_ema"):
            weights = content.get(name) if isinstance(content, dict) else None
            require_finite(weights or {}, str(path))
    except ValueError as error:
        older = _newest_whole(path)
        raise ValueError(
            f"{error} "
            + (f"The run can go on from an older one: --resume {older}" if older else
               "There is no older one to go on from; remove it to begin again.")
        ) from error  # fmt: skip
    if not isinstance(content, dict) or "position" not in content:
        raise ValueError(
            f"{path} holds weights but no training state; use --finetune for weights, "
            "--resume only for checkpoints that this program wrote"
        )
    return content


def _newest_whole(damaged: Path) -> Path | None:
    """The last kept of the other checkpoints of a run that is whole."""
    others = [path for path in damaged.parent.glob("checkpoint-*.pth") if path != damaged]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(ValueError, OSError):
            check_whole(path)
            return path
    return None


def restore(content: dict, *, parallel, model, optimizer, scaler, average) -> Position:
    """Put a checkpoint's state into live objects; returns where the run stands."""
    parallel.load_model(model, content["model"])
    parallel.load_optimizer(optimizer, content["optimizer"])
    if scaler and content["scaler"]:
        scaler.load_state_dict(content["scaler"])
    if average and content["model_ema"]:
        parallel.load_model(average.module, content["model_ema"])
        average.n_averaged.fill_(content["num_averaged"])
    position = Position(**content["position"])
    if "closed" not in content["position"]:  # earlier versions forgot the losses of closed epochs
        position.closed = not position.losses
    return position
