"""A GPU that computes nothing: what would fail or wait on a real one fails on it, without one.

PyTorch's fake tensors know their shape, type and device but hold no values. `fake_cuda` makes a
device of them: what is on `cuda` is fake, what is on the host is real, and code that asks is told
that there is a GPU with 80 GiB. Whole commands run on it, from flags to metrics; the numbers they
read back are zero, the conditions true. A test fails where

- a tensor of the host meets one of the device (`LeftOnHostError`),
- something inside `gpu.step()` reads a value back or synchronises (`WaitsForDeviceError`), or
  copies to the device other than from page-locked memory with `non_blocking` (`PageableCopyError`).

What it cannot see: wrong numbers, kernels that a GPU does not have, and what CUDA itself does.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from svfap.engine.compute.memory import _call, _count_arrivals, _fitted

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
MEMORY_BYTES = 80 * 2**30
_COPIES = {aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default}


class LeftOnHostError(AssertionError):
    """An operation on the device got a tensor of the host."""


class WaitsForDeviceError(AssertionError):
    """A step needs a value that the device has yet to compute."""


class PageableCopyError(AssertionError):
    """A step copies to the device in a way that makes the host wait."""


class FakeCuda(FakeTensorMode):
    """The device; see `fake_cuda`.

    Attributes:
        device: what tensors and flags name.
        reads: how often a value was read back or the host waited.
    """

    device = CUDA
    avoid_device_init = True  # although `torch.cuda.is_available` is made to say yes

    def __init__(self):
        super().__init__()
        self.reads = 0
        self._in_step = False
        self._pinned: list[torch.UntypedStorage] = []

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """While entered, nothing may wait for the device."""
        before, self._in_step = self._in_step, True
        try:
            yield
        finally:
            self._in_step = before

    def as_step(self, function: Callable) -> Callable:
        """The function, whose calls are steps."""

        def called(*args, **options):
            with self.step():
                return function(*args, **options)

        return called

    def __deepcopy__(self, memo: dict) -> "FakeCuda":
        """The device of a copied tensor is the same one."""
        return self

    def wait(self, what: object) -> None:
        """Note that the host waits for the device."""
        self.reads += 1
        if self._in_step:
            raise WaitsForDeviceError(f"a step waits for the device: {what}")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        fakes = [x for x in tensors if isinstance(x, FakeTensor)]
        if fakes and all(x.fake_mode is not self for x in fakes):  # of code that counts shapes
            return func(*args, **kwargs)
        to_device = _is_cuda(kwargs.get("device"))
        if not fakes and not to_device:
            return self._on_host(func, args, kwargs)
        if (result := self._special(func, args, kwargs)) is not NotImplemented:
            return result
        if len(tensors) > len(fakes):
            whole = func not in _COPIES and func.decompose is not None
            if whole and (result := self._decomposed(func, args, kwargs)) is not NotImplemented:
                return result
            args, kwargs = self._moved(func, args, kwargs)
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _on_host(self, func, args, kwargs):
        """Compute for real; page-locked memory is remembered."""
        if func in (aten._pin_memory.default, aten.pin_memory.default):
            return self._pin(args[0].clone())
        if kwargs.get("pin_memory"):
            return self._pin(func(*args, **{**kwargs, "pin_memory": False}))
        if func is aten.is_pinned.default:
            return self._is_pinned(args[0])
        return func(*args, **kwargs)

    def _pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self._pinned.append(tensor.untyped_storage())
        return tensor

    def _special(self, func, args, kwargs):
        """What reads back, and what a fake tensor cannot answer."""
        first = args[0] if args else None
        if func is aten._local_scalar_dense.default:
            self.wait("a value is read (item, bool, float, tolist)")
            return _read_back(first.shape, first.dtype).item()
        if func is aten._to_copy.default and _is_cpu(kwargs.get("device")):
            self.wait("a tensor is copied to the host")
            return _read_back(first.shape, kwargs.get("dtype") or first.dtype)
        if func is aten.copy_.default and not isinstance(first, FakeTensor):
            self.wait("a tensor of the host is filled from the device")
            return first.zero_()
        if func is aten.equal.default:
            self.wait("torch.equal")
            return True
        if func is aten.index_put_.default and _is_mask(args):
            self.wait("a boolean index")
        if func is aten.record_stream.default or func.name() == "aten::_fused_sgd_":
            return None  # nothing to compute
        if func is aten.is_pinned.default:
            return False
        return NotImplemented

    def _decomposed(self, func, args, kwargs):
        """Composite operations, which come here whole in inference mode, piece by piece."""
        with self:
            return func.decompose(*args, **kwargs)

    def _moved(self, func, args, kwargs):
        """Arguments with the host's tensors as fake ones, if they may be there."""
        hosts = [x for x in tree_leaves((args, kwargs)) if _is_real(x)]
        shapes = ", ".join(str(tuple(x.shape)) for x in hosts)
        if func in _COPIES:
            at_once = kwargs.get("non_blocking") or True in args[2:]
            if self._in_step and not (at_once and all(map(self._is_pinned, hosts))):
                raise PageableCopyError(f"a step waits for a copy of {shapes} from the host")
        elif any(x.ndim for x in hosts):
            raise LeftOnHostError(f"{func} on the device got tensors of the host: {shapes}")
        fake = lambda x: self.from_tensor(x.detach()) if _is_real(x) else x  # noqa: E731
        return tree_map_only(torch.Tensor, fake, (args, kwargs))

    def _is_pinned(self, tensor: torch.Tensor) -> bool:
        return any(tensor.data_ptr() and x._cdata == tensor.untyped_storage()._cdata
                   for x in self._pinned)  # fmt: skip


def _read_back(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, dtype == torch.bool, dtype=dtype)


def _is_real(value: object) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, FakeTensor)


def _is_cuda(device: object) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _is_cpu(device: object) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def _is_mask(args: tuple) -> bool:
    """Whether an assignment by a mask counts what is true; of one value it does not."""
    indices, values = args[1], args[2]
    return values.numel() > 1 and any(x is not None and x.dtype == torch.bool for x in indices)


class _Stream:
    """Streams and events do nothing."""

    def __init__(self, *_, **__):
        pass

    def __getattr__(self, name: str) -> Callable:
        return lambda *_, **__: None


@contextlib.contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """While entered, there is a GPU that computes nothing."""
    gpu = FakeCuda()
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "is_bf16_supported": lambda *_, **__: True,
        "get_device_name": lambda *_: "fake",
        "get_device_capability": lambda *_: (9, 0),
        "mem_get_info": lambda *_: (MEMORY_BYTES, MEMORY_BYTES),
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "synchronize": lambda *_: gpu.wait("torch.cuda.synchronize"),
        "manual_seed_all": lambda seed: None,
        "is_current_stream_capturing": lambda: False,
        "current_stream": _Stream,
        "Stream": _Stream,
        "stream": lambda stream: contextlib.nullcontext(),
    }
    with contextlib.ExitStack() as stack:
        patch = lambda *what: stack.enter_context(mock.patch.object(*what))  # noqa: E731
        for name, answer in answers.items():
            patch(torch.cuda, name, answer)
        patch(torch.accelerator, "is_available", lambda: True)
        patch(torch.accelerator, "current_accelerator", lambda *_, **__: CUDA)
        patch(torch, "Generator", lambda device="cpu": _REAL_GENERATOR("cpu"))
        patch(torch, "save", lambda content, *to, **how: _REAL_SAVE(_on_cpu(content), *to, **how))
        patch(torch, "load", _real_load)
        patch(F, "scaled_dot_product_attention", _attention)
        patch(torch.autograd, "backward", backward)
        patch(fake_tensor, "init_gpu_context", lambda device: None)
        patch(FakeTensor, "tolist", lambda tensor: tensor.cpu().tolist())
        patch(FakeTensor, "__format__", lambda tensor, form: format(tensor.item(), form))
        stack.enter_context(_restored_settings())
        stack.enter_context(gpu)
        yield gpu


_REAL_SAVE, _REAL_LOAD, _REAL_GENERATOR = torch.save, torch.load, torch.Generator
_REAL_BACKWARD, _REAL_ATTENTION = torch.autograd.backward, F.scaled_dot_product_attention


def _attention(query, key, value, *more, **options) -> torch.Tensor:
    """PyTorch asks the GPU which kernel suits it; here the type decides."""
    if not isinstance(query, FakeTensor):
        return _REAL_ATTENTION(query, key, value, *more, **options)
    if query.dtype == torch.float32:
        return aten._scaled_dot_product_efficient_attention(query, key, value, None, True)[0]
    return aten._scaled_dot_product_flash_attention(query, key, value)[0]


def _real_load(*args, **options) -> object:
    """What is read lies on the host and has values."""
    with fake_tensor.unset_fake_temporarily():
        return _REAL_LOAD(*args, **options)


def _on_cpu(content: object) -> object:
    return tree_map_only(FakeTensor, lambda x: torch.zeros(x.shape, dtype=x.dtype), content)


@contextlib.contextmanager
def _restored_settings() -> Iterator[None]:
    """Leave the process as it was: `set_up_device` changes it, and constants are kept."""
    precision = torch.get_float32_matmul_precision()
    _forget_constants()
    try:
        yield
    finally:
        _forget_constants()
        torch.set_float32_matmul_precision(precision)


def _forget_constants() -> None:
    """Empty the caches of our functions, which may hold tensors of a device."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("datasets", "engine", "models"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def backward(tensors, grad_tensors=None, *more, **options) -> None:
    """`torch.autograd.backward` of a fake loss: the engine proper asks CUDA for its streams."""
    if not isinstance(tensors, FakeTensor):
        _REAL_BACKWARD(tensors, grad_tensors, *more, **options)
        return
    assert grad_tensors is None, "only for a loss"
    # recomputed activations belong to a pass by its number; outside of one each would be made anew
    number = mock.patch.object(torch._C, "_current_graph_task_id", lambda: 0)
    with torch.no_grad(), number:
        _run_graph(tensors.grad_fn, tensors.output_nr, torch.ones_like(tensors))


def _run_graph(root, place: int, gradient: torch.Tensor) -> None:
    """Call the nodes of a graph in order, each when all its gradients have arrived."""
    waiting = _count_arrivals(root)
    arrived: dict[object, dict[int, torch.Tensor]] = {root: {place: gradient}}
    ready = [root]
    while ready:
        node = ready.pop()
        found = _call(node, arrived.pop(node, {}))
        for (following, index), value in zip(node.next_functions, found):
            if following is None:
                continue
            if value is not None:
                value = _fitted(value, following._input_metadata[index])
                own = arrived.setdefault(following, {})
                own[index] = own[index] + value if index in own else value
            waiting[following] -= 1
            if not waiting[following]:
                ready.append(following)
