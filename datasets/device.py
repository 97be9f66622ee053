"""From the host to the device without a wait."""

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor that was just made on the host; the host goes on at once.

    Copies from ordinary memory wait until the device has taken them, so on CUDA the values are put
    into page-locked memory first. For what a step draws on the host; batches are page-locked by
    their loader.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
