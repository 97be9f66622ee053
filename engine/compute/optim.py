"""Optimizer, layer-wise learning rate decay, weight averaging."""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, compress
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def parameter_settings(
    model: nn.Module, *, weight_decay: float, layer_decay: float | None
) -> dict[str, dict[str, float]]:
    """Learning rate factor and weight decay of every parameter.

    Layer-wise decay gives group i of n the factor `layer_decay ** (n - 1 - i)`. As in the
    published runs, TPSBT's down-samplers carry the head's rate (see `layer_groups`).

    Args:
        weight_decay: the highest of the run, for parameters with two or more dimensions.
        layer_decay: factor per layer group, 0..1; None or 1 trains all alike.

    Returns:
        name -> {"lr_scale", "weight_decay"} of each parameter that requires gradients.
    """
    groups = model.layer_groups()
    exempt = model.no_weight_decay()
    depth = {name: position for position, names in enumerate(groups) for name in names}
    decay = 1.0 if layer_decay is None else layer_decay
    settings = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim <= 1 or name.endswith(".bias") or name in exempt
        settings[name] = {
            "lr_scale": decay ** (len(groups) - 1 - depth[name]),
            "weight_decay": 0.0 if plain else weight_decay,
        }
    return settings


def create_optimizer(
    model: nn.Module,
    settings: Mapping[str, Mapping[str, float]],
    *,
    opt: str,
    lr: float,
    opt_eps: float,
    opt_betas: Sequence[float] | None,
    momentum: float,
    joint: bool = True,
) -> torch.optim.Optimizer:
    """Build the optimizer of `--opt`; torch's own are the fused ones, which on CUDA never wait.

    Its groups carry `lr_scale` and `base_weight_decay`; `lr` holds until the first step sets
    another. `joint` takes `JointAdamW` rather than torch's own.
    """
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        if name not in settings:
            continue
        scale, decay = settings[name]["lr_scale"], settings[name]["weight_decay"]
        new = {"params": [], "lr_scale": scale, "weight_decay": decay, "decays": decay > 0}
        groups.setdefault((scale, decay), new)["params"].append(parameter)
    options = {"lr": lr, "eps": opt_eps}
    if opt_betas:
        options["betas"] = tuple(opt_betas)
    name, parts = opt.lower(), list(groups.values())
    if name == "adamw":
        return (JointAdamW if joint else partial(torch.optim.AdamW, fused=True))(parts, **options)
    if name == "adam":
        return torch.optim.Adam(parts, fused=True, **options)
    if name == "sgd":
        return torch.optim.SGD(parts, lr=lr, momentum=momentum, nesterov=True, fused=True)
    import timm.optim  # takes two seconds

    try:
        options |= {"weight_decay": 0.0, "momentum": momentum}
        return timm.optim.create_optimizer_v2(parts, opt=opt, **options)
    except (ValueError, AssertionError) as error:
        known = ", ".join(timm.optim.list_optimizers())
        raise ValueError(f"--opt {opt!r}: {error}; known: {known}") from error


def set_step_values(optimizer: torch.optim.Optimizer, rate: float, weight_decay: float) -> None:
    """Set this step's learning rate (times each group's factor) and weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
        if group["decays"]:
            group["weight_decay"] = weight_decay


def take_step(optimizer: torch.optim.Optimizer, norm: Tensor) -> bool:
    """Update the parameters, unless the gradient's norm (a scalar) is not finite.

    On a CPU looking at the norm costs nothing. On a GPU it would mean waiting for it, so the fused
    optimizer looks for itself; others step there, and the run stops when the norm is read back,
    before anything is saved. False if it is known already that the step was not taken.
    """
    if norm.device.type == "cpu" and not norm.isfinite():
        return False
    if norm.device.type != "cpu" and optimizer.defaults.get("fused"):
        # what a GradScaler tells it
        optimizer.grad_scale, optimizer.found_inf = None, 1 - norm.isfinite().float()
    optimizer.step()
    return True


def clip_gradients(model: nn.Module, limit: float | None) -> Tensor:
    """Scale the gradient of a model to at most this norm; without a limit, only measure it.

    Returns the norm before, a scalar.
    """
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters])
    if limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


class WeightAverage(AveragedModel):
    """Exponential moving average of a model's weights and statistics (`--model_ema`).

    `decay` is the share of the old average that stays. Updates are counted on the host, so that a
    step neither waits for the device nor copies to it.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, use_buffers=True)
        self.decay = decay

    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards a model."""
        self.move(tensors_of(self.module), tensors_of(model))

    @torch.no_grad()
    def move(self, own: Sequence[Tensor], new: Sequence[Tensor]) -> None:
        """Move tensors of the average, as of `tensors_of` or this process's parts, towards the
        model's.

        Counters are taken over.
        """
        is_value = [tensor.is_floating_point() for tensor in own]
        values = [list(compress(tensors, is_value)) for tensors in (own, new)]
        counters = [list(compress(tensors, map(operator.not_, is_value))) for tensors in (own, new)]
        if self.n_averaged == 0:
            torch._foreach_copy_(*values)
        else:
            torch._foreach_lerp_(*values, 1 - self.decay)
        if counters[0]:
            torch._foreach_copy_(*counters)
        self.n_averaged += 1


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a model, detached."""
    return [tensor.detach() for tensor in chain(model.parameters(), model.buffers())]


class _Part(NamedTuple):
    """A group's parameters and what the optimizer keeps of each."""

    group: dict
    parameters: list[Tensor]
    averages: list[Tensor]
    square_averages: list[Tensor]
    steps: list[Tensor]


class JointAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW(fused=True)` with nothing done between the groups but their update.

    A group is one kernel here. torch's own counts the steps of each group by itself, takes them
    back by itself where the gradient is not finite, and sorts the parameters of each anew in every
    step: three times the kernels, and twice the time on the host. State and results are the same.
    """

    def __init__(self, groups: list[dict], **options: object):
        super().__init__(groups, fused=True, **options)
        self._parts: list[_Part] | None = None

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over a state, whose tensors replace those of before."""
        super().load_state_dict(state_dict)
        self._parts = None

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        """Update all parameters that have a gradient."""
        if self._parts is None:
            self._parts = self._collect()
        gradients = [[p.grad for p in part.parameters] for part in self._parts or ()]
        if not gradients or closure or any(g is None for part in gradients for g in part):
            return super().step(closure)  # makes the state in the first step
        skipped = getattr(self, "found_inf", None)
        steps = [step for part in self._parts for step in part.steps]
        torch._foreach_add_(steps, 1)
        for part, own in zip(self._parts, gradients):
            beta1, beta2 = part.group["betas"]
            torch._fused_adamw_(
                part.parameters, own, part.averages, part.square_averages, [], part.steps,
                lr=part.group["lr"], weight_decay=part.group["weight_decay"],
                eps=part.group["eps"], beta1=beta1, beta2=beta2, amsgrad=False, maximize=False,
                grad_scale=getattr(self, "grad_scale", None), found_inf=skipped,
            )  # fmt: skip
        if skipped is not None:
            torch._foreach_sub_(steps, [skipped] * len(steps))
        return None

    def _collect(self) -> list[_Part] | None:
        """The groups with their state; None before there is one."""
        groups = self.param_groups
        if not all(self.state.get(p) for group in groups for p in group["params"]):
            return None
        names = ("exp_avg", "exp_avg_sq", "step")
        return [
            _Part(group, own := group["params"], *([self.state[p][n] for p in own] for n in names))
            for group in groups
        ]
