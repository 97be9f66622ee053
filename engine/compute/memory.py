"""How much memory a training step needs: counted, not measured.

The step's forward and backward pass run with tensors that have shapes, types and a device but no
values (PyTorch's fake tensors), while a ledger notes what is alive. That takes seconds whatever the
batch, and needs no device. What kernels take for themselves is added where it matters; what a
compiled model keeps is a share, measured, of what it keeps otherwise.
"""

import contextlib
import copy
import math
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from svfap.engine.compute.levers import Levers
from svfap.engine.compute.precision import Precision
from svfap.engine.compute.step import StepFunction
from svfap.engine.runtime.distributed import Workers, as_if_alone
from svfap.models.layers import keep_norms_in_half

aten = torch.ops.aten

# CUDA's allocator gives multiples of this.
BLOCK_BYTES = 512
# cuBLAS keeps a workspace for each of the threads of forward and backward passes.
WORKSPACE_BYTES = 2 * 32 * 2**20
# Of what a model with norms in float32 keeps for its backward pass, the share that it keeps when it
# is compiled: measured on an H200 with PyTorch 2.11 (docs/benchmarks.md), SVFAP-B and VideoMAE-B.
COMPILED_SHARE = 0.88
# Values of AdamW beside each weight.
MOMENTS = 2
# What may be compiled: nothing, the model, or the whole step with pixels and loss.
COMPILED = ("nothing", "model", "step")


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """What is alive in a training step of a batch, bytes."""

    compiled: str  # one of `COMPILED`
    weights: int
    trained: int
    inputs: int
    kept: int  # what the model keeps from its forward for its backward pass
    output: int
    peak: int  # most of all at a time, weights included, the optimizer's values not
    workspace: int

    def total(self, *, averaged: bool = False, shards: int = 1) -> int:
        """What a process needs.

        Args:
            averaged: with an average of the weights (`--model_ema`).
            shards: processes that share weights, gradients and the optimizer's values.
        """
        state = self.weights * (1 + averaged) + MOMENTS * self.trained
        kept = COMPILED_SHARE * self.kept
        step = {
            "nothing": self.peak - self.weights,
            "model": self.peak - self.weights - self.kept + kept,
            "step": max(self.inputs + kept + self.output, self.trained),
        }[self.compiled]
        return int(state / shards + step + self.workspace)


def expected_bytes(
    function: StepFunction,
    model: nn.Module,
    inputs: dict[str, object],
    *,
    workers: Workers,
    precision: Precision,
    accumulates: bool,
    averaged: bool = False,
    shard: bool = False,
    levers: Levers | None = None,
) -> int:
    """What a process of a run will need for a training step; `inputs` as of `step_memory`."""
    compiled = "nothing"
    if levers and levers.compile_mode is not None:
        compiled = "step" if levers.whole_step else "model"
    found = step_memory(
        model,
        inputs,
        partial(function.compute, autocast=precision.autocast),
        device=workers.device,
        compiled=compiled,
        holds_gradients=workers.is_distributed or accumulates,
    )
    return found.total(averaged=averaged, shards=workers.world_size if shard else 1)


def step_memory(
    model: nn.Module,
    inputs: dict[str, object],
    compute: Callable[..., Tensor | tuple[Tensor, object]],
    *,
    device: torch.device,
    compiled: str = "nothing",
    holds_gradients: bool = False,
) -> StepMemory:
    """Count what is alive in a training step.

    Args:
        model: stays as it is; a copy without values takes its place.
        inputs: what `compute` takes of a batch; only shapes and types count, so tensors of the
            device "meta" will do.
        compute: (model, inputs by name) -> loss, or a pair of it and something.
        compiled: one of `COMPILED`.
        holds_gradients: whether gradients are there all the time: with several processes, or
            when batches are accumulated.
    """
    ledger = _Ledger(device.type)
    with _shapes_alone(ledger):
        state = [*model.parameters(), *model.buffers()]
        # deepcopy takes what is in its table for copied
        table = {id(tensor): _without_values(tensor, device) for tensor in state}
        weights = ledger.now
        shape = copy.deepcopy(model, table)
        for layer in shape.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()  # it would ask other processes for their statistics
        if compiled != "nothing":
            keep_norms_in_half(shape, False)
        trained = [parameter for parameter in shape.parameters() if parameter.requires_grad]
        if holds_gradients:
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter)
        sizes = _watch(shape, ledger)
        before = ledger.now
        batch = tree_map_only(Tensor, lambda tensor: _without_values(tensor, device), inputs)
        batch_bytes = ledger.now - before
        loss = compute(shape, **batch)
        del batch
        held = [loss[0] if isinstance(loss, tuple) else loss]
        del loss
        with _as_one_backward():
            _backward(held)
    return StepMemory(
        compiled=compiled,
        weights=weights,
        trained=sum(parameter.untyped_storage().nbytes() for parameter in trained),
        inputs=batch_bytes,
        kept=sizes["kept"],
        output=sizes["output"],
        peak=ledger.peak,
        workspace=WORKSPACE_BYTES if device.type == "cuda" else 0,
    )


class _Ledger(TorchDispatchMode):
    """Notes what is alive on a kind of device, and the most at a time."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.now, self.peak = kind, 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, FakeTensor) and tensor.device.type == self.kind:
                self._note(tensor.untyped_storage())
        self.peak = max(self.peak, self.now + _own_bytes(func, args))
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            size = -(-storage.nbytes() // BLOCK_BYTES) * BLOCK_BYTES
            self._known.add(key)
            self.now += size
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.remove(key)
        self.now -= size


def _own_bytes(func, args: tuple) -> int:
    """What a kernel takes while it runs, beside its result."""
    if func is aten.mse_loss.default and not (len(args) > 2 and args[2] == 0):
        return 2 * args[0].numel() * args[0].element_size()  # the squares, allocated twice
    if func is aten._scaled_dot_product_flash_attention_backward.default:
        return 4 * args[1].numel()  # the queries' gradient is summed in float32
    return 0


class _FusedAttention(TorchFunctionMode):
    """Attention in one kernel, as on a GPU; asking PyTorch which one would ask the GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        plain = len(args) == 3 and not kwargs
        if func is not torch.nn.functional.scaled_dot_product_attention or not plain:
            return func(*args, **kwargs)
        if args[0].device.type != "cuda":
            return func(*args)
        if torch.is_autocast_enabled("cuda"):
            args = [x.to(torch.get_autocast_dtype("cuda")) for x in args]
        if args[0].dtype == torch.float32:
            return aten._scaled_dot_product_efficient_attention(*args, None, True)[0]
        return aten._scaled_dot_product_flash_attention(*args)[0]


@contextlib.contextmanager
def _shapes_alone(ledger: _Ledger) -> Iterator[None]:
    """While entered, nothing is computed."""
    with as_if_alone(), FakeTensorMode(allow_non_fake_inputs=True), ledger, _FusedAttention():
        yield


def _without_values(tensor: Tensor, device: torch.device) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def _watch(model: nn.Module, ledger: _Ledger) -> dict[str, int]:
    """Let a model note what it keeps and returns, bytes."""
    sizes = {"kept": 0, "output": 0, "before": 0}

    def before(*_) -> None:
        sizes["before"] = ledger.now

    def after(model: nn.Module, args: tuple, output: object) -> None:
        found = [x for x in tree_leaves(output) if isinstance(x, Tensor)]
        returned = sum(x.untyped_storage().nbytes() for x in found)
        sizes["output"] += returned
        sizes["kept"] += ledger.now - sizes["before"] - returned

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after)
    return sizes


@contextlib.contextmanager
def _as_one_backward() -> Iterator[None]:
    """Let checkpointed blocks be computed again once, not for every tensor that they give."""
    asked = torch._C._current_graph_task_id
    torch._C._current_graph_task_id = lambda: 0
    try:
        yield
    finally:
        torch._C._current_graph_task_id = asked


@torch.no_grad()
def _backward(loss: list[Tensor]) -> None:
    """`backward()` of the loss in a list, which is emptied; what was kept is freed on the way.

    PyTorch's engine would ask the device for its streams. Nodes are called in its order, the last
    made first.
    """
    gradient = torch.ones_like(loss[0])
    arrived = {loss[0].grad_fn: {loss[0].output_nr: gradient}}
    ready = [loss.pop().grad_fn]
    waiting = _count_arrivals(ready[0])
    del gradient
    while ready:
        ready.sort(key=lambda node: node._sequence_nr())
        node = ready.pop()
        following = node.next_functions
        found = _call(node, arrived.pop(node, {}))
        del node  # and with it what it kept
        for place, (other, index) in enumerate(following):
            value, found[place] = found[place], None
            if other is None:
                continue
            if value is not None:
                value = _fitted(value, other._input_metadata[index])
                own = arrived.setdefault(other, {})
                own[index] = own[index] + value if index in own else value
            waiting[other] -= 1
            if not waiting[other]:
                del waiting[other]
                ready.append(other)
            del value
        following = other = None


def _count_arrivals(root) -> dict[object, int]:
    """How many gradients each node of a graph gets."""
    counts: dict[object, int] = {}
    stack, seen = [root], {root}
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is not None:
                counts[following] = counts.get(following, 0) + 1
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
    return counts


def _call(node, gradients: dict[int, Tensor]) -> list:
    """The gradients of what went into a node, given those of what came out."""
    if not gradients:
        return [None] * len(node.next_functions)
    row = [gradients.pop(i, None) for i in range(len(node._input_metadata))]
    is_python = isinstance(node, torch.autograd.function.BackwardCFunction)
    found = node.apply(*row) if is_python else node(*row)
    return list(found) if isinstance(found, tuple) else [found]


def _fitted(gradient: Tensor, metadata) -> Tensor:
    """In the type and shape of what it is the gradient of, as the engine makes it."""
    gradient = gradient.to(metadata.dtype)
    return gradient if gradient.shape == metadata.shape else gradient.sum_to_size(metadata.shape)


def room_bytes(device: torch.device) -> float:
    """Memory that a process has: of its GPU, or its share of the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return math.inf
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return whole / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
