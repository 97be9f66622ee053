"""AdamW for many groups of parameters: layer-wise decay gives one for every rate and decay."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


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
