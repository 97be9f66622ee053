"""Sharding (FSDP2): every process holds a part of each weight, gradient and optimizer state.

A block's weights are collected when it computes and given back after it. Numbers are those of
DistributedDataParallel up to rounding: weights stay in float32 and autocast chooses what computes
in bf16. Files and evaluation know nothing of shards.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from svfap.engine.compute.levers import Levers
from svfap.engine.compute.optim import WeightAverage, clip_gradients, tensors_of
from svfap.engine.compute.parallel import Parallel
from svfap.engine.compute.step import Step, compile_module
from svfap.engine.runtime.distributed import Workers


class Sharded(Parallel):
    """Every process holds a part.

    Args:
        step: its model is whole, on the device of this process; sharded in place, after all
            processes have taken over the main process's weights.
    """

    def __init__(self, step: Step, workers: Workers):
        model = step.model
        for tensor in itertools.chain(model.parameters(), model.buffers()):
            dist.broadcast(tensor.detach(), src=0)
        self.model, self.wrapped = model, step
        self.is_main = workers.is_main
        self.mesh = init_device_mesh(workers.device.type, (workers.world_size,))
        # A copy without weights, to be filled by `whole`; sharded modules cannot be copied.
        empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
        self._skeleton = copy.deepcopy(model, empty)
        self._shard(model)

    def _shard(self, model: nn.Module) -> None:
        for block in blocks_of(model):
            fully_shard(block, mesh=self.mesh)
        fully_shard(model, mesh=self.mesh)

    def compile(self, levers: Levers) -> None:
        """Compile block by block: what collects weights stays outside."""
        for block in blocks_of(self.model):
            compile_module(block, levers)

    def create_average(self, decay: float) -> WeightAverage:
        """See `Parallel`; made on the host, where there is room for a whole model."""
        average = WeightAverage(self.whole(self.model).cpu(), decay)
        self._shard(average.module)
        return average

    def exchange_gradients(self, enable: bool) -> None:
        """See `Parallel`; gradients that are not exchanged are kept whole."""
        self.model.set_requires_gradient_sync(enable)

    def clip_gradients(self, limit: float | None) -> Tensor:
        """See `Parallel`."""
        return clip_gradients(self.model, limit).full_tensor()

    def update_average(self, average: WeightAverage) -> None:
        """See `Parallel`; shard by shard."""
        average.move(_local_tensors(average.module), _local_tensors(self.model))

    def whole_state(self, state: Mapping) -> Mapping:
        """See `Parallel`; collected tensor by tensor into the main process's host memory."""
        return _collected(state, Tensor.cpu if self.is_main else lambda tensor: None)

    def load_model(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See `Parallel`."""
        own = model.state_dict()
        parts = {name: _part_of(value, own.get(name)) for name, value in state.items()}
        model.load_state_dict(parts)

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping) -> None:
        """See `Parallel`."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        parts = {
            number: {name: _part_of(value, parameters[number]) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": parts})

    def whole(self, model: nn.Module) -> nn.Module:
        """See `Parallel`; a copy, which costs the memory of the weights until it is dropped."""
        filled = copy.deepcopy(self._skeleton)
        state = _collected(model.state_dict(), lambda tensor: tensor)
        state = {name: tensor.detach().clone() for name, tensor in state.items()}
        filled.load_state_dict(state, assign=True)
        return filled


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """Modules that stand in lists or sequences (the outermost of these) and have parameters."""
    in_a_row = isinstance(model, nn.ModuleList | nn.Sequential)
    for child in model.children():
        if not in_a_row or isinstance(child, nn.ModuleList):
            yield from blocks_of(child)
        elif next(child.parameters(), None) is not None:
            yield child


def _local_tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a module, of sharded ones this process's part."""
    return [t.to_local() if isinstance(t, DTensor) else t for t in tensors_of(model)]


@torch.no_grad()
def _collected(value, use: Callable[[Tensor], object]):
    """A state with `use(whole tensor)` for every sharded tensor; a collective."""
    if isinstance(value, DTensor):
        return use(value.full_tensor())
    if isinstance(value, Mapping):
        return {key: _collected(part, use) for key, part in value.items()}
    return value


def _part_of(value, like: Tensor | None):
    """This process's part of a whole tensor, sharded as `like` is; other values as they are."""
    if not (isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape):
        return value
    # no communication: every process has read the whole
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
