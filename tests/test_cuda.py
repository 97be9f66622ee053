"""Training and evaluation on a real GPU beside the CPU; everything here is skipped without one."""

import pytest
import torch

from benchmarks import steps
from tests.fake_cuda import CUDA
from tests.model_cases import FINETUNE_NAMES, PRETRAIN_NAMES, distinct, small_overrides

pytestmark = pytest.mark.cuda
CPU = torch.device("cpu")


def work_of(name, stage, device, amp="off"):
    if stage == "pretrain" and f"pretrain_{name}" not in PRETRAIN_NAMES:
        pytest.skip("is not pre-trained here")
    sizes = small_overrides(f"pretrain_{name}" if stage == "pretrain" else name)
    torch.manual_seed(0)  # of drop path
    return steps.our_work(
        name, stage, batch=2, device=device, mask_ratio=0.5, amp=amp, drop_path_rate=0.0, **sizes
    )


@pytest.mark.parametrize("name", distinct(FINETUNE_NAMES))
@pytest.mark.parametrize("stage", ["pretrain", "evaluate"])
def test_a_gpu_computes_what_a_cpu_does(name, stage):
    found, expected = (work_of(name, stage, device).run() for device in (CUDA, CPU))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_no_step_waits_for_the_gpu(stage, amp):
    """What tests/fake_cuda.py cannot see: PyTorch's own warnings of waits."""
    work = work_of("svfap_tiny_patch8_64", stage, CUDA, amp)
    work.place_batch(CUDA)
    work.run()  # constants are made and kernels loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = work.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)
