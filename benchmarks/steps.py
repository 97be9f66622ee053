"""The steps that are timed: what a run does with a batch, ours and the baseline's."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks import baseline, common
from svfap import models
from svfap.datasets import rng
from svfap.datasets.augment import masking, transforms
from svfap.datasets.augment.mixing import Mixer
from svfap.engine import build
from svfap.engine.compute import optim
from svfap.engine.compute.levers import Levers, lever_names, levers_of, set_up_levers
from svfap.engine.compute.precision import Precision, choose_precision, set_up_device
from svfap.engine.compute.step import Step, augment_together, compiled
from svfap.engine.evaluate import view_scores
from svfap.engine.flags import config, parsing
from svfap.engine.flags.shared import COMPILE_MODES
from svfap.engine.pretext.objectives import MaskedReconstruction
from svfap.engine.runtime import distributed, plan
from svfap.engine.tasks.base import FinetuningLoss
from svfap.engine.tasks.classification import Classification

STAGES = ("pretrain", "finetune", "evaluate")
MASK_RATIO = 0.9
NUM_CLASSES = 7
# Views of a test video: two segments and two crops, the crops alike, so two differ.
VIEWS, DISTINCT_VIEWS = 4, 2
# Cost of forward and backward in forward passes.
TRAINING_PASSES = 3


@dataclass
class Work:
    """A model with the function that does one step on a batch."""

    model: nn.Module  # ours or the baseline's
    of: Callable[[dict], torch.Tensor]  # batch -> loss (training) or scores (evaluation)
    precision: str
    batch: dict
    clips: int  # clips of that batch (videos in evaluation)
    flop: float  # floating point operations of a step on it, 2 per multiply-add

    def place_batch(self, device: torch.device) -> None:
        """Put the batch where a run has it when a step begins; draws stay on the host."""
        self.batch = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in self.batch.items()
        }

    def run(self) -> torch.Tensor:
        """One step on the batch in memory."""
        return self.of(self.batch)

    def measured(self, timing: common.Timing, clock: str, device: torch.device) -> dict:
        """What a row of a table says of it, given how long its steps took."""
        seconds = timing.median(clock)
        with common.PeakMemory(device) as memory:
            self.run()
        return {"precision": self.precision, "batch": self.clips, "ms_per_step": 1000 * seconds,
                "clips_per_second": self.clips / seconds, "spread": timing.spread(clock),
                "tflops": self.flop / seconds / 1e12, "peak_gib": memory.gib}  # fmt: skip

    def multiply_adds(self, stage: str) -> float:
        """Of a forward pass of one of its clips (in evaluation: all views of a video)."""
        passes = 1 if stage == "evaluate" else TRAINING_PASSES
        return self.flop / self.clips / (2 * passes)


def step_parser(
    name: str, description: str, *, repeats: int | None = None
) -> argparse.ArgumentParser:
    """`common.benchmark_parser` with the flags of benchmarks that run steps."""
    parser = common.benchmark_parser(name, description, repeats=repeats)
    parser.add_argument("--batch_size", type=int, help="clips; videos in evaluation")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--amp", choices=("auto", "bf16", "fp16", "off"), default="auto")
    return parser


def add_compile_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `levers_asked` reads."""
    parser.add_argument("--compile", action="store_true", help="torch.compile ours")
    parser.add_argument(
        "--compile_mode",
        choices=COMPILE_MODES,
        default="default",
        help="of --compile; reduce-overhead and max-autotune capture CUDA graphs",
    )
    for way in ("on", "off"):
        parser.add_argument(
            f"--{way}",
            nargs="+",
            choices=lever_names(),
            default=[],
            metavar="LEVER",
            help=f"switch these {way} (default: what suits the device): {', '.join(lever_names())}",
        )


def levers_asked(flags: argparse.Namespace, device: torch.device) -> Levers:
    """What suits the device, but for what the flags of `add_compile_flags` change."""
    usual = levers_of(device, compile_mode=flags.compile_mode if flags.compile else None)
    return replace(usual, **dict.fromkeys(flags.on, True), **dict.fromkeys(flags.off, False))


def begin(flags: argparse.Namespace, *, cpu: int = 1, cuda: int = 1) -> tuple[torch.device, int]:
    """Apply the flags of `step_parser`: the device, and `--batch_size`, else that of the device."""
    common.begin(flags)
    device = distributed.start(flags.device).device
    set_up_device(device)
    return device, flags.batch_size or (cuda if device.type == "cuda" else cpu)


def make_model(name: str, stage: str, **overrides: object) -> nn.Module:
    """Build a model of ours, always the same weights."""
    torch.manual_seed(0)
    if stage == "pretrain":
        return models.create_model(f"pretrain_{name}", **overrides)
    return models.create_model(name, num_classes=NUM_CLASSES, **overrides)


def uint8_clips(model: nn.Module, batch: int, seed: int = 0) -> torch.Tensor:
    """(B, T, H, W, 3) uint8 noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, model.num_frames, model.img_size, model.img_size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def masks(model: nn.Module, batch: int, ratio: float, seed: int = 0) -> tuple[torch.Tensor, int]:
    """Masks of the model's recipe (B, N) bool, and the number of visible tokens."""
    regions = getattr(model.encoder, "region_size", None)
    kind = "part_window" if regions else "tube"
    tube = masking.make_masking(kind, model.grid, ratio, part_win_size=regions)
    drawn = [tube(rng.generator(seed, 0, row, 0, "mask")) for row in range(batch)]
    return torch.from_numpy(np.stack(drawn)), tube.num_visible


def step_flop(model: nn.Module, stage: str, clips: int, num_visible: int | None) -> float:
    """Operations of a step by the formulas: forward, and twice that for backward."""
    forward = 2 * plan.clip_cost(model, num_visible=num_visible).multiply_adds
    return clips * forward * (1 if stage == "evaluate" else TRAINING_PASSES)


def batch_of(
    model: nn.Module, stage: str, views: int, mask_ratio: float
) -> tuple[dict, int | None]:
    """A batch as our loader makes them, and the number of visible tokens."""
    clips = uint8_clips(model, views)
    if stage == "evaluate":
        return {"clip": clips}, None
    if stage == "pretrain":
        mask, visible = masks(model, views, mask_ratio)
        return {"clip": clips, "mask": mask}, visible
    draws = [
        transforms.draw_finetune(rng.generator(0, 0, row, 0, "device"), model.img_size)
        for row in range(views)
    ]
    stacked = {key: torch.stack([draw[key] for draw in draws]) for key in draws[0]}
    return {"clip": clips, "label": torch.arange(views) % NUM_CLASSES, "draws": stacked}, None


def our_work(
    name: str,
    stage: str,
    *,
    batch: int,
    device: torch.device,
    amp: str = "auto",
    levers: Levers | None = None,
    mask_ratio: float = MASK_RATIO,
    **overrides: object,
) -> Work:
    """The step of `run_pretrain.py`, `run_finetune.py` or its evaluation.

    Args:
        name: size, for example "svfap_base_patch16_160".
        batch: clips; videos in evaluation.
    """
    levers = levers or levers_of(device)
    model = make_model(name, stage, **overrides)
    set_up_levers(levers, device, model)
    precision = choose_precision(amp, device, width=model.embed_dim)
    views = batch * (DISTINCT_VIEWS if stage == "evaluate" else 1)
    content, visible = batch_of(model, stage, views, mask_ratio)
    flop = step_flop(model, stage, views, visible)
    build.place(model, device)
    if stage == "evaluate":
        model.eval()
        score = compiled(view_scores, levers)
        step = partial(_evaluate, partial(score, model, _task(), precision), device)
    else:
        whole = Step(model, _function(stage, model, visible, device, levers), precision)
        whole.compile_as(levers)
        step = _training(model, partial(_loss, whole), precision, stage, levers)
    return Work(model, step, str(precision), content, batch, flop)


def _function(stage: str, model: nn.Module, visible: int | None, device, levers: Levers):
    """What training computes, as the model's recipe has it."""
    if stage == "finetune":
        return FinetuningLoss(
            task=_task(), size=model.img_size, device=device,
            augment_together=augment_together(levers),
        )  # fmt: skip
    # MAE-DFER's target: frames of a tubelet as differences to its first
    motion = model.tubelet[0] if hasattr(model.encoder, "region_size") else None
    return MaskedReconstruction(
        tubelet=model.tubelet, num_visible=visible, group_frames=motion, device=device
    )


def _task() -> Classification:
    mixer = Mixer(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=NUM_CLASSES)
    return Classification(names=list(map(str, range(NUM_CLASSES))), mixer=mixer)


def _loss(step: Step, batch: dict) -> torch.Tensor:
    return step.loss_of(step, batch, rng.generator(0, 0, 0, 0, "step"))


@torch.inference_mode()
def _evaluate(score: Callable, device: torch.device, batch: dict) -> torch.Tensor:
    return score(batch["clip"].to(device)).cpu()


def _training(
    model: nn.Module,
    loss_of: Callable[[dict], torch.Tensor],
    precision: Precision,
    stage: str,
    levers: Levers,
) -> Callable[[dict], torch.Tensor]:
    make_parser = config.pretraining_parser if stage == "pretrain" else config.finetuning_parser
    flags = parsing.parse_flags(make_parser(), [])
    layer_decay = getattr(flags, "layer_decay", None)
    settings = optim.parameter_settings(model, weight_decay=0.05, layer_decay=layer_decay)
    optimizer = optim.create_optimizer(
        model, settings, opt=flags.opt, lr=flags.lr, opt_eps=flags.opt_eps,
        opt_betas=flags.opt_betas, momentum=flags.momentum, joint=levers.joint_optimizer,
    )  # fmt: skip
    optim.set_step_values(optimizer, 1e-4, 0.05)
    scaler = torch.amp.GradScaler("cuda") if precision.needs_scaler else None
    model.train()
    return partial(_train, model, optimizer, scaler, loss_of)


def _train(model: nn.Module, optimizer, scaler, loss_of: Callable, batch: dict) -> torch.Tensor:
    loss = loss_of(batch)
    (scaler.scale(loss) if scaler else loss).backward()
    if scaler:
        scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def baseline_work(
    name: str,
    stage: str,
    *,
    batch: int,
    device: torch.device,
    mask_ratio: float = MASK_RATIO,
    **overrides: object,
) -> Work:
    """The same work in plain PyTorch: float32, on CUDA fp16 autocast as the released recipe.

    Args and returns as `our_work`; batches hold float32 clips, in evaluation of all views.
    """
    ours = make_model(name, stage, **overrides)
    precision = Precision(device.type, torch.float16 if device.type == "cuda" else None)
    views = batch * (VIEWS if stage == "evaluate" else 1)
    kind = baseline.PlainAutoencoder if stage == "pretrain" else baseline.PlainClassifier
    model = kind(ours).to(device)
    content, visible = batch_of(ours, stage, views, mask_ratio)
    content["clip"] = transforms.normalize_(transforms.to_float(content["clip"]))
    if stage == "evaluate":
        model.eval()
        step = partial(_evaluate_plainly, model, precision, device)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
        scaler = torch.amp.GradScaler("cuda") if precision.needs_scaler else None
        loss_of = partial(_plain_loss, model, ours.tubelet, precision, device)
        model.train()
        step = partial(_train, model, optimizer, scaler, loss_of)
    return Work(model, step, str(precision), content, batch, step_flop(ours, stage, views, visible))


def _evaluate_plainly(model, precision: Precision, device, batch: dict) -> torch.Tensor:
    with torch.no_grad(), precision.autocast():
        return model(batch["clip"].to(device)).float().softmax(-1).cpu()


def _plain_loss(model, tubelet, precision: Precision, device, batch: dict) -> torch.Tensor:
    clip = batch["clip"].to(device)
    with precision.autocast():
        if "mask" in batch:
            return baseline.pretraining_loss(model, clip, batch["mask"].to(device), tubelet)
        label = nn.functional.one_hot(batch["label"].to(device), NUM_CLASSES).float()
        mixed, label = 0.7 * clip + 0.3 * clip.flip(0), 0.7 * label + 0.3 * label.flip(0)
        return nn.functional.cross_entropy(model(mixed).float(), label)
