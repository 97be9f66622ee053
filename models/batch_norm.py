"""Batch norm over the batches of all processes.

A step on several processes then is the step of one process with the whole batch, and what the norms
remember is the same on all of them: each evaluates the model that is saved. In contrastive learning
no process can tell its positives by the statistics of its own small batch.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise_batch_norm(model: nn.Module, *, on_cuda: bool) -> nn.Module:
    """Let a model's batch norms share their statistics; names in its state dict stay.

    Args:
        model: changed in place.
        on_cuda: use torch's `SyncBatchNorm`, which works on CUDA only.
    """
    if on_cuda:
        from timm.layers import convert_sync_batchnorm  # knows timm's norms with activations

        return convert_sync_batchnorm(model)
    for layer in model.modules():
        if getattr(layer, "running_mean", None) is None:
            continue
        if type(layer) in _PLAIN:
            layer.__class__ = GlobalBatchNorm
        elif isinstance(layer, _PLAIN) and hasattr(layer, "act"):
            layer.__class__ = GlobalBatchNormAct
    return model


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch norm whose training statistics are those of all processes; all batches of one size."""

    def _check_input_dim(self, values: Tensor) -> None:
        """Any rank from (B, C) on."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (B, C, ...), float32 statistics."""
        if not (self.training and dist.is_initialized()):
            return super().forward(values)
        axes = [axis for axis in range(values.ndim) if axis != 1]
        shape = [1, -1, *([1] * (values.ndim - 2))]
        world_size = dist.get_world_size()
        wide = values.float()
        mean = _Sum.apply(wide.mean(axes)) / world_size
        centred = wide - mean.view(shape)
        variance = _Sum.apply(centred.square().mean(axes)) / world_size
        self._keep(mean.detach(), variance.detach(), world_size * values.numel() // len(mean))
        normed = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed.to(values.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, with the unbiased variance as torch does."""
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


class GlobalBatchNormAct(GlobalBatchNorm):
    """The same for timm's batch norm with an activation (`BatchNormAct2d`)."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise and activate (B, C, ...)."""
        return self.act(self.drop(super().forward(values)))


class _Sum(torch.autograd.Function):
    """Sum over all processes; so is its gradient."""

    @staticmethod
    def forward(context, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
