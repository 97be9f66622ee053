"""Steps of every registered model on a GPU that computes nothing, and what that GPU notices."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from torch.utils.data._utils.pin_memory import pin_memory

from benchmarks import steps
from svfap import models
from svfap.datasets.augment.mixing import Mixer
from svfap.datasets.augment.transforms import to_device
from svfap.engine import build
from svfap.engine.compute.levers import lever_names, levers_of
from svfap.engine.compute.optim import WeightAverage
from svfap.models.descriptors import ImageBackbone
from tests.fake_cuda import (
    CUDA,
    LeftOnHostError,
    PageableCopyError,
    WaitsForDeviceError,
    fake_cuda,
)
from tests.model_cases import FINETUNE_NAMES, PRETRAIN_NAMES, distinct, small_overrides

IMAGES = {"name": "timm/test_resnet", "img_size": 32, "num_frames": 2}


@pytest.fixture
def gpu():
    with fake_cuda() as device:
        yield device


def options_of(name, stage):
    if stage == "pretrain" and f"pretrain_{name}" not in PRETRAIN_NAMES:
        pytest.skip("is not pre-trained here")
    sizes = small_overrides(f"pretrain_{name}" if stage == "pretrain" else name)
    sizes |= {"stage_depths": [1, 1, 1]} if name.startswith("svfap") else {"depth": 1}
    return {"batch": 2, "device": CUDA, "mask_ratio": 0.5, **sizes}


def work_of(name, stage, **more):
    work = steps.our_work(name, stage, **options_of(name, stage), **more)
    work.batch = pin_memory(work.batch)
    return work


@pytest.mark.parametrize("name", distinct(FINETUNE_NAMES))
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_training_steps(gpu, name, stage):
    work = work_of(name, stage)
    with gpu.step():
        for _ in range(2):
            assert work.run().device == CUDA
    assert all(tensor.device == CUDA for tensor in work.model.state_dict().values())


@pytest.mark.parametrize("lever", lever_names())
def test_every_way_of_computing_a_step(gpu, lever):
    usual = levers_of(CUDA)
    other = replace(usual, **{lever: not getattr(usual, lever)})
    work = work_of("svfap_tiny_patch8_64", "finetune", levers=other)
    with gpu.step():
        work.run()


@pytest.mark.parametrize("name", ["svfap_tiny_patch8_64", "maedfer_tiny_patch8_64"])
def test_evaluation_reads_back_once_per_batch(gpu, name):
    work = work_of(name, "evaluate")
    assert work.run().device.type == "cpu" and gpu.reads == 1


@pytest.mark.parametrize("stage", ["finetune", "evaluate"])  # pre-training selects by masks
def test_the_baseline_of_the_benchmarks(gpu, stage):
    name = "svfap_tiny_patch8_64"
    steps.baseline_work(name, stage, **options_of(name, stage)).run()


@pytest.mark.parametrize("name", ["train_step", "levers", "end_to_end"])
def test_the_benchmarks_of_the_check(gpu, name, monkeypatch, capsys):
    """Those of `benchmarks.gpu_check`; launches are counted by a profiler that needs a GPU."""
    monkeypatch.setattr("benchmarks.common.count_launches", lambda *_: None)
    tiny, once = ["--model", "svfap_tiny_patch8_64"], ["--device", "cuda", "--repeats", "1"]
    argv = {
        "train_step": [*tiny, "--stage", "evaluate", "--batch_size", "1"],
        "levers": [*tiny, "--stage", "finetune", "--batch_size", "2", "--seconds", "1"],
        "end_to_end": [*tiny, "--no_baseline", "--steps", "1", "--num_videos", "1",
                       "--video_frames", "5", "--num_workers", "0", "--batch_size", "2"],
    }[name]  # fmt: skip
    rows = importlib.import_module(f"benchmarks.{name}").main([*argv, *once])["rows"]
    assert rows[0]["clips_per_second"] > 0


def test_what_a_gpu_would_refuse_or_wait_for_is_noticed(gpu):
    values, host = torch.zeros(4, 3, device=CUDA), torch.zeros(4, 3)
    refused = {
        "a tensor of the host": lambda: values + host,
        "indices of the host": lambda: values[torch.tensor([0, 1])],
        "a list of both": lambda: torch.cat([values, host]),
        "weights of the host": lambda: torch.nn.functional.linear(values, torch.zeros(2, 3)),
    }
    for name, function in refused.items():
        with pytest.raises(LeftOnHostError):
            function()
            pytest.fail(name)
    waiting = {
        "item": lambda: values.sum().item(),
        "a condition": lambda: bool((values > 0).all()),
        "a list": lambda: values.tolist(),
        "a copy": lambda: values.cpu(),
        "a copy into": lambda: host.copy_(values),
        "a text": lambda: f"{values.sum():.2f}",
        "assignment by a mask": lambda: values.__setitem__(values > 0, values[0]),
        "synchronize": torch.cuda.synchronize,
    }
    for name, function in waiting.items():
        with pytest.raises(WaitsForDeviceError), gpu.step():
            function()
            pytest.fail(name)
    for function in (lambda: values[values > 0], values.nonzero):  # of a length nobody knows
        with pytest.raises(DynamicOutputShapeException):
            function()
    pageable = {
        "a constant": lambda: torch.tensor([1.0, 2.0], device=CUDA),
        "like another": lambda: values.new_tensor([1.0, 2.0]),
        "not pinned": lambda: host.to(CUDA, non_blocking=True),
        "pinned, but waited for": lambda: host.pin_memory().to(CUDA),
        "copied into": lambda: values.copy_(host),
    }
    for name, function in pageable.items():
        with pytest.raises(PageableCopyError), gpu.step():
            function()
            pytest.fail(name)
    with gpu.step():
        assert to_device(host, CUDA).device == CUDA
        values[values > 0] = 0.0
        (values * torch.tensor(2.0)).add_(1)  # numbers travel with the kernel
    assert host.sum().item() == 0 and gpu.reads == len(waiting)


def test_images_go_through_convolutions_with_channels_last(gpu):
    """Where the models of all commands are placed, and those of descriptors."""
    model = build.place(models.create_model(**IMAGES, num_classes=2), CUDA)
    described = build.place(ImageBackbone(timm.create_model("test_resnet", num_classes=0)), CUDA)
    seen = []
    for part in (model, described):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(lambda layer, given, _: seen.append((layer, *given)))
    with gpu.step():
        model(torch.zeros(2, 3, 2, 32, 32, device=CUDA))
        described(torch.zeros(2, 3, 64, 64, device=CUDA))
    assert len(seen) > 20
    for layer, given in seen:
        for tensor in (layer.weight, given):
            assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_averages_and_mixed_labels_make_no_step_wait(gpu):
    model = models.create_model(**IMAGES, num_classes=2).to(CUDA)
    average = WeightAverage(model, 0.9)
    mixer = Mixer(num_classes=3, mode="elem")
    with gpu.step():
        for _ in range(2):
            average.update_parameters(model)
        labels = torch.zeros(4, dtype=torch.long, device=CUDA)
        clips = torch.zeros(4, 3, 2, 8, 8, device=CUDA)
        mixer(clips, labels, np.random.default_rng(0))
    assert int(average.n_averaged) == 2
