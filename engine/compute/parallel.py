"""How the processes of a run hold its model: each all of it, or each a part (`--shard`)."""

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from svfap.engine.compute.levers import Levers
from svfap.engine.compute.optim import WeightAverage, clip_gradients
from svfap.engine.compute.precision import Precision
from svfap.engine.compute.step import Step
from svfap.engine.runtime.distributed import Workers
from svfap.models.batch_norm import synchronise_batch_norm

# what `broadcast_buffers` is called in newer versions of PyTorch
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)
SHARDED_OPTIMIZERS = ("adamw", "sgd")


class Parallel:
    """How training holds its model; made before the optimizer. All processes call everything.

    This way every process holds all of it, in DistributedDataParallel if there are several. What is
    given and taken as a state is the same for all ways, so that checkpoints are. `wrapped` is what
    training calls in place of the step.
    """

    def __init__(self, step: Step, workers: Workers, *, accumulates: bool = False):
        self.model, self.step, self.wrapped = step.model, step, step
        self.is_distributed = workers.is_distributed
        if workers.is_distributed:
            on_gpu = workers.device.type == "cuda"
            self.wrapped = DistributedDataParallel(
                step,
                device_ids=[workers.device.index] if on_gpu else None,
                gradient_as_bucket_view=True,
                **{_SYNC_BUFFERS: False},
                # the same operations in every step, unless some end without exchanging gradients
                static_graph=not accumulates,
            )

    def compile(self, levers: Levers) -> None:
        """Let training steps be compiled as the levers say."""
        self.step.compile_as(levers)

    def create_average(self, decay: float) -> WeightAverage:
        """Exponential moving average of the weights, held like the model."""
        return WeightAverage(self.model, decay)

    def exchange_gradients(self, enable: bool) -> None:
        """Whether the next backward pass ends with the mean gradient of all processes."""
        if self.is_distributed:
            self.wrapped.require_backward_grad_sync = enable

    def clip_gradients(self, limit: float | None) -> Tensor:
        """Scale the gradient of all parameters to at most this norm; returns the norm before.

        Without a limit no gradient is touched.
        """
        return clip_gradients(self.model, limit)

    def update_average(self, average: WeightAverage) -> None:
        """Move the average towards the weights."""
        average.update_parameters(self.model)

    def whole_state(self, state: Mapping) -> Mapping:
        """A `state_dict()` with whole tensors; used on the main process only."""
        return state

    def load_model(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Put a whole state into the model or its average."""
        model.load_state_dict(state)

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping) -> None:
        """Put a whole state into the optimizer."""
        optimizer.load_state_dict(state)

    def whole(self, model: nn.Module) -> nn.Module:
        """The model or its average in one piece, on every process, for evaluation."""
        return model


def check_sharding(workers: Workers, precision: Precision, *, opt: str, amp: str) -> None:
    """Refuse `--shard` where it cannot work, before a run leaves anything behind."""
    if not workers.is_distributed:
        raise ValueError(
            "--shard spreads the model over several processes, this is a single one; start them "
            "with `torchrun --nproc_per_node N`, or leave --shard out"
        )
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"--shard needs PyTorch 2.6 or newer, this is {torch.__version__}; install a newer "
            "one, or leave --shard out"
        ) from error
    if opt.lower() not in SHARDED_OPTIMIZERS:
        raise ValueError(f"--opt {opt} with --shard: take one of {', '.join(SHARDED_OPTIMIZERS)}")
    if precision.needs_scaler:
        raise ValueError(
            f"--amp {amp} means fp16 here, whose loss scaling does not work with --shard; "
            "take --amp bf16 or --amp off"
        )


def distribute(step: Step, workers: Workers, *, shard: bool, accumulates: bool) -> Parallel:
    """Hold a step's model; to be called before its optimizer is made.

    Batch norms of several processes share their statistics from here on; sharding, which
    `check_sharding` has to allow, changes the model in place. `accumulates`: a step has several
    batches.
    """
    if workers.is_distributed:
        step.model = synchronise_batch_norm(step.model, on_cuda=workers.device.type == "cuda")
    if shard:
        from svfap.engine.compute.sharding import Sharded

        return Sharded(step, workers)
    return Parallel(step, workers, accumulates=accumulates)
