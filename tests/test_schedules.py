"""Schedules and parameter settings against reference numbers."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from svfap import models
from svfap.engine.compute.optim import (
    WeightAverage,
    create_optimizer,
    parameter_settings,
    set_step_values,
)
from svfap.engine.compute.schedules import cosine_schedule
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.flags.resolved import resolve
from tests.model_cases import small_model


@pytest.mark.parametrize("case", ["pretrain", "finetune", "weight_decay", "warmup_steps"])
def test_cosine_schedule_equals_the_reference(golden_dir, case):
    reference = json.loads((golden_dir / "cosine_schedule.json").read_text())[case]
    values = cosine_schedule(
        reference["base_value"],
        reference["final_value"],
        epochs=reference["epochs"],
        steps_per_epoch=reference["steps_per_epoch"],
        warmup_epochs=reference["warmup_epochs"],
        warmup_steps=reference["warmup_steps"],
        start_value=reference["start_warmup_value"],
    )
    np.testing.assert_allclose(values, reference["values"], rtol=1e-12, atol=1e-18)


def test_warmup_longer_than_the_run_is_cut():
    values = cosine_schedule(1.0, 0.0, epochs=2, steps_per_epoch=2, warmup_epochs=3)
    np.testing.assert_allclose(values, [0.0, 0.2, 0.4, 0.6])


def test_layer_decay_equals_the_reference(golden_dir):
    reference = json.loads((golden_dir / "layer_decay.json").read_text())
    with torch.device("meta"):
        model = models.create_model(reference["model"])
    settings = parameter_settings(
        model, weight_decay=reference["weight_decay"], layer_decay=reference["layer_decay"]
    )
    assert settings.keys() == reference["parameters"].keys()
    for name, expected in reference["parameters"].items():
        assert settings[name]["lr_scale"] == pytest.approx(expected["lr_scale"], rel=1e-12), name
        assert settings[name]["weight_decay"] == expected["weight_decay"], name


class _TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.head = nn.Linear(2, 1)

    def layer_groups(self):
        return [["first.weight", "first.bias"], ["head.weight", "head.bias"]]

    def no_weight_decay(self):
        return {"head.weight"}


def optimizer_of(model, settings, **changes):
    values = {"opt": "adamw", "opt_eps": 1e-8, "opt_betas": [0.9, 0.99], "momentum": 0.9, "lr": 1.0}
    return create_optimizer(model, settings, **(values | changes))


def test_step_values_reach_the_groups():
    model = _TwoLayers()
    settings = parameter_settings(model, weight_decay=0.1, layer_decay=0.5)
    optimizer = optimizer_of(model, settings)
    set_step_values(optimizer, 0.2, 0.3)
    values = {
        name: (group["lr"], group["weight_decay"])
        for name, parameter in model.named_parameters()
        for group in optimizer.param_groups
        if any(parameter is member for member in group["params"])
    }
    assert values == {
        "first.weight": (0.1, 0.3),
        "first.bias": (0.1, 0.0),
        "head.weight": (0.2, 0.0),
        "head.bias": (0.2, 0.0),
    }
    assert optimizer.defaults["betas"] == (0.9, 0.99)


def test_weight_decay_that_begins_at_zero_grows():
    argv = ["--weight_decay", "0", "--weight_decay_end", "0.1"]
    decays = resolve(parse_flags(finetuning_parser(), argv), world_size=1, num_samples=4)
    decays = decays.weight_decays
    model = _TwoLayers()
    settings = parameter_settings(model, weight_decay=max(decays), layer_decay=None)
    optimizer = optimizer_of(model, settings)
    for decay in cosine_schedule(*decays, epochs=2, steps_per_epoch=2):
        set_step_values(optimizer, 1.0, decay)
        group = next(g for g in optimizer.param_groups if g["params"][0] is model.first.weight)
        assert group["weight_decay"] == decay
    assert decay > 0.05


@pytest.mark.parametrize("name", ["maedfer_tiny_patch8_64", "timm/resnet10t"])
def test_averages_take_whole_numbers_as_they_are(name):
    """Tables of indices and counters are no weights."""
    model = models.create_model(name, num_frames=32, img_size=64)
    average = WeightAverage(model, 0.9999)
    for _ in range(3):
        for tensor in (*model.parameters(), *model.buffers()):
            with torch.no_grad():
                tensor.add_(1 if tensor.is_floating_point() else 0)
        if name.startswith("timm"):
            model.backbone.bn1.num_batches_tracked.add_(1)
        average.update_parameters(model)
    for (part, own), new in zip(average.module.named_buffers(), model.buffers(), strict=True):
        assert own.is_floating_point() or torch.equal(own, new), part
    first = next(average.module.parameters())
    assert not torch.equal(first, next(model.parameters()))


def test_other_optimizers_and_unknown_names():
    model = _TwoLayers()
    settings = parameter_settings(model, weight_decay=0.1, layer_decay=None)
    sgd = optimizer_of(model, settings, opt="sgd", opt_betas=None)
    assert isinstance(sgd, torch.optim.SGD)
    assert sum(len(group["params"]) for group in sgd.param_groups) == 4
    lamb = optimizer_of(model, settings, opt="lamb")
    assert type(lamb).__name__ == "Lamb"
    with pytest.raises(ValueError, match="'nonsense'.*known: .*adamw"):
        optimizer_of(model, settings, opt="nonsense")


class _Counted(TorchDispatchMode):
    """Counts the operations that are dispatched."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))

    def __enter__(self):
        self.names = []
        return super().__enter__()


def test_groups_updated_jointly_are_those_updated_by_torch():
    """Bit by bit: skipped steps, parameters without a gradient and loaded states included."""
    models = [small_model("svfap_tiny_patch8_64", drop_path_rate=0.0) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    settings = parameter_settings(models[0], weight_decay=0.1, layer_decay=0.75)
    ways = [
        optimizer_of(model, settings, joint=joint) for model, joint in zip(models, (True, False))
    ]
    generator = torch.Generator().manual_seed(0)
    counts = {}
    for number in range(6):
        for pair in zip(*(model.parameters() for model in models)):
            gradient = torch.randn(pair[0].shape, generator=generator)
            for parameter in pair:
                parameter.grad = gradient.clone()
        for model in models:
            if number == 2:
                model.head.bias.grad = None
        for optimizer in ways:
            set_step_values(optimizer, 0.01 * (number + 1), 0.1 * number)
            optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(float(number == 3))
            with _Counted() as counted:
                optimizer.step()
            counts[optimizer] = counted.names
        if number == 4:
            ways[0].load_state_dict(copy.deepcopy(ways[1].state_dict()))
        for name, value in models[0].state_dict().items():
            assert torch.equal(value, models[1].state_dict()[name]), (number, name)
    joint, alone = (ways[0].state_dict(), ways[1].state_dict())
    assert joint["param_groups"] == alone["param_groups"]
    for number, state in joint["state"].items():
        for name, value in state.items():
            assert torch.equal(value, alone["state"][number][name]), (number, name)
    num_groups = len(ways[0].param_groups)
    assert num_groups > 10
    kernels = [name for name in counts[ways[0]] if name.startswith("_f")]
    assert sorted(set(kernels)) == ["_foreach_add_", "_foreach_sub_", "_fused_adamw_"]
    assert len(kernels) == num_groups + 2
