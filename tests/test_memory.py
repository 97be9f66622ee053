"""The counted memory of a training step: against PyTorch's profiler, and against a GPU."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from benchmarks import steps
from svfap.datasets.augment import transforms
from svfap.engine.compute.memory import StepMemory, expected_bytes, step_memory
from svfap.engine.compute.precision import Precision
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.pretext.contrastive import ContrastiveLearning
from svfap.engine.pretext.masked import MaskedAutoencoding
from svfap.engine.runtime.distributed import Workers
from svfap.engine.tasks.base import FinetuningLoss, create_task
from tests.fake_cuda import CUDA, fake_cuda

GIB = 2**30
CPU = torch.device("cpu")


def workers_of(device):
    return Workers(rank=0, local_rank=0, world_size=1, device=device)


def step_of(name, stage, batch, device, *more):
    """Model, shapes of a batch and what a step computes."""
    if stage == "finetune":
        flags = parse_flags(finetuning_parser(), list(more))
        model = steps.make_model(name, stage)
        task = create_task("classification", flags, list("abcdefg"))
        function = FinetuningLoss(task=task, size=model.img_size, device=device)
        inputs = {
            "clip": torch.empty((batch, 3, 16, model.img_size, model.img_size), device="meta"),
            "label": torch.zeros(batch, dtype=torch.int64),
            "mixes": None,
        }
        return model, inputs, function
    arguments = ["--model", f"pretrain_{name}", "--drop_path", "0", *more]
    if name.startswith("maedfer"):
        arguments += ["--use_frame_diff_as_target"]
    flags = parse_flags(pretraining_parser(), arguments)
    pretext = MaskedAutoencoding(flags, workers_of(device))
    return pretext.model, pretext.shapes(batch), pretext


@cache
def counted(name, stage, batch, device, *more):
    precision = Precision(device.type, torch.bfloat16 if device == CUDA else None)
    model, inputs, function = step_of(name, stage, batch, device, *more)
    compute = partial(function.compute, autocast=precision.autocast)
    with fake_cuda() if device == CUDA else nullcontext():
        return step_memory(model.train(), inputs, compute, device=device)


# Measured on one H200 with PyTorch 2.11 at commit d8b801c, bf16, norms in float32, batch and crops
# on the device as they are (GiB, largest allocation; docs/benchmarks.md).
SVFAP, MAEDFER, VIDEOMAE = (f"{n}_base_patch16_160" for n in ("svfap", "maedfer", "videomae"))


@pytest.mark.parametrize(
    ("name", "stage", "batch", "compiled", "measured"),
    [
        (SVFAP, "pretrain", 64, "nothing", 7.1),
        (SVFAP, "pretrain", 256, "nothing", 24.6),
        (SVFAP, "pretrain", 64, "model", 6.5),
        (SVFAP, "pretrain", 256, "model", 22.5),
        (SVFAP, "pretrain", 256, "step", 17.2),
        (SVFAP, "finetune", 64, "model", 12.9),
        (VIDEOMAE, "pretrain", 128, "nothing", 13.2),
        (VIDEOMAE, "pretrain", 128, "model", 12.2),
        (MAEDFER, "pretrain", 128, "nothing", 14.2),
        (MAEDFER, "finetune", 64, "nothing", 21.4),
    ],
)
def test_counted_memory_is_what_a_gpu_used(name, stage, batch, compiled, measured):
    found = counted(name, stage, batch, CUDA, *["--resize_on", "loader"] * (stage == "pretrain"))
    found = replace(found, compiled=compiled)  # norms are in float32 here anyway
    assert found.total() / GIB == pytest.approx(measured, rel=0.1)


def profiled(model, inputs, compute):
    """Most memory of a step by PyTorch's profiler, weights not included."""

    def step():
        batch = {
            name: value if value is None else torch.zeros(value.shape, dtype=value.dtype)
            for name, value in inputs.items()
        }
        if "mask" in batch:
            batch["mask"][:, : batch["mask"].shape[1] * 9 // 10] = True
        loss = compute(model, **batch)
        del batch
        loss.backward()
        model.zero_grad(set_to_none=True)

    step()
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(profile_memory=True, activities=cpu) as profile:
        step()
    now = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("half", [False, True])
def test_counted_memory_is_what_a_cpu_uses(stage, half):
    precision = Precision("cpu", torch.bfloat16 if half else None)
    model, inputs, function = step_of("svfap_tiny_patch8_64", stage, 4, CPU)
    compute = partial(function.compute, autocast=precision.autocast)
    found = step_memory(model, inputs, compute, device=CPU)
    assert found.peak - found.weights == pytest.approx(profiled(model, inputs, compute), rel=0.05)


def test_counting_leaves_nothing_behind():
    model, inputs, function = step_of("svfap_tiny_patch8_64", "pretrain", 2, CPU)
    compute = partial(function.compute, autocast=Precision("cpu", None).autocast)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    transforms._kept_mean_and_std.cache_clear()
    step_memory(model, inputs, compute, device=CPU)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model._forward_hooks and not model._forward_pre_hooks
    mask = torch.ones(inputs["mask"].shape, dtype=torch.bool)
    mask[:, : int(function.masking.num_visible)] = False
    clip = torch.zeros(inputs["clip"].shape, dtype=torch.uint8)
    assert torch.isfinite(compute(model, clip=clip, mask=mask))  # with real numbers, constants too


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_recomputed_activations_are_not_kept(device):
    precision = Precision(device.type, None)
    model, inputs, function = step_of("svfap_tiny_patch8_64", "finetune", 8, device)
    compute = partial(function.compute, autocast=precision.autocast)
    found = []
    for recompute in (False, True):
        model.set_grad_checkpointing(recompute)
        with fake_cuda() if device == CUDA else nullcontext():
            found.append(step_memory(model, inputs, compute, device=device))
    plain, saving = found
    assert saving.kept < plain.kept / 4 and saving.peak < plain.peak / 2


def test_memory_grows_with_the_batch():
    sizes = [counted("svfap_tiny_patch8_64", "pretrain", batch, CPU) for batch in (4, 8, 12)]
    first, second = (b.peak - a.peak for a, b in zip(sizes, sizes[1:]))
    assert sizes[0].weights == sizes[2].weights and first == pytest.approx(second, rel=0.02)


def test_what_processes_share_and_averages_add():
    one = StepMemory(
        compiled="nothing", weights=4 * GIB, trained=4 * GIB, inputs=0, kept=6 * GIB, output=0,
        peak=12 * GIB, workspace=0,
    )  # fmt: skip
    assert one.total() == (4 + 8 + 8) * GIB
    assert one.total(averaged=True) == (4 + 4 + 8 + 8) * GIB
    assert one.total(shards=4) == (3 + 8) * GIB


def test_gradients_are_held_where_batches_are_accumulated():
    options = {"workers": workers_of(CPU), "precision": Precision("cpu", None)}
    model, inputs, function = step_of("svfap_tiny_patch8_64", "pretrain", 8, CPU)
    found = [
        expected_bytes(function, model, inputs, accumulates=several, **options)
        for several in (False, True)
    ]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert 0.5 * weights < found[1] - found[0] <= 1.1 * weights


def test_memory_of_contrastive_learning_is_counted():
    flags = parse_flags(
        pretraining_parser(),
        ["--objective", "contrastive", "--model", "timm/resnet18", "--batch_size", "4"],
    )
    pretext = ContrastiveLearning(flags, workers_of(CPU))
    compute = partial(pretext.compute, autocast=Precision("cpu", None).autocast)
    found = step_memory(pretext.model, pretext.shapes(8), compute, device=CPU)
    assert found.kept > 8 * 5 * 2**20  # ResNet-18 at 112 px
