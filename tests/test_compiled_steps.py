"""Every objective and every task is one function of tensors: compiled once, whatever is drawn.

Models are toys here; that the real ones become one graph is in `test_models_contract.py`.
"""

from collections import Counter

import numpy as np
import pytest
import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode

from svfap.datasets import rng
from svfap.datasets.augment import transforms
from svfap.engine.compute.levers import Levers
from svfap.engine.compute.precision import Precision
from svfap.engine.compute.step import Step, augment_together
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.pretext.contrastive_loss import ContrastiveLoss
from svfap.engine.pretext.objectives import MaskedReconstruction
from svfap.engine.tasks.base import FinetuningLoss, create_task
from svfap.models.descriptors import create_descriptor
from tests.model_cases import small_model, tube_mask

CPU = torch.device("cpu")
PLAIN, HALF = Precision("cpu", None), Precision("cpu", torch.bfloat16)
SIZE, FRAMES, CLIPS = 32, 4, 4
HEADS = {"arousal": ["low", "high"], "valence": ["low", "middle", "high"]}


@pytest.fixture
def graphs():
    found = []
    torch.compiler.reset()
    yield found
    torch.compiler.reset()


def compiled_step(step, graphs):
    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    step.compile(backend=backend, fullgraph=True, dynamic=False)
    return step


def assert_one_graph(make_step, batches, graphs):
    """Losses and gradients are those without compiling, all by the same code."""
    eager, step = make_step(), compiled_step(make_step(), graphs)
    for number, batch in enumerate(batches):
        losses = []
        for one in (eager, step):
            torch.manual_seed(number)
            found = one.loss_of(one, batch, rng.generator(0, 0, number, 0, "step"))
            loss, metrics = found if isinstance(found, tuple) else (found, {})
            loss.backward()
            losses.append(torch.stack([loss.detach(), *metrics.values()]))
        torch.testing.assert_close(*losses)
    for one, other in zip(eager.parameters(), step.parameters()):
        torch.testing.assert_close(one.grad, other.grad)
    assert len(graphs) == 1


class ToyClassifier(nn.Module):
    """Outputs of a clip, or of each of its frames, from the mean colours of four quarters."""

    def __init__(self, num_outputs):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(12, num_outputs)

    def forward(self, clip, *, per_frame=False):
        parts = nn.functional.adaptive_avg_pool3d(clip, (FRAMES, 2, 2))
        outputs = self.head(parts.permute(0, 2, 1, 3, 4).flatten(2))
        return outputs if per_frame else outputs.mean(1)


class ToyAutoencoder(nn.Module):
    """Predicts every masked tubelet from the clip's mean."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, 2 * 8 * 8 * 3)

    def forward(self, clip, mask, *, num_visible, predicted=None):
        count = mask.shape[1] - num_visible if predicted is None else predicted.shape[1]
        return self.head(clip.mean((2, 3, 4)))[:, None].expand(-1, count, -1)


class ToyProjection(ToyClassifier):
    def forward(self, clip):
        return self.head(nn.functional.adaptive_avg_pool2d(clip[:, :, 0], 2).flatten(1))


def uint8_clips(count, frames, size, number):
    generator = torch.Generator().manual_seed(number)
    shape = (count, frames, size, size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def finetuning_batch(number, label):
    draws = [transforms.draw_finetune(rng.generator(number, 0, i, 0, "d"), SIZE) for i in range(4)]
    return {
        "clip": uint8_clips(CLIPS, FRAMES, SIZE, number),
        "label": label,
        "draws": {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]},
    }


CLASSES, NUMBERS = torch.tensor([0, 2, 1, 2]), torch.rand(4, 2)
OFF = ["--mixup", "0", "--cutmix", "0"]
TASKS = {
    "mixing by the batch": ("classification", [], "abc", None, CLASSES),
    "mixing clip by clip": ("classification", ["--mixup_mode", "elem"], "abc", None, CLASSES),
    "mixing two by two, sometimes": (
        "classification", ["--mixup_mode", "pair", "--mixup_prob", "0.5"], "abc", None, CLASSES,
    ),
    "smoothing": ("classification", OFF, "abc", None, CLASSES),
    "weighted": ("classification", [], "abc", None, CLASSES),
    "heads": ("multihead", [], HEADS, HEADS, torch.tensor([[0, 2], [1, 0], [1, 1], [0, 0]])),
    "numbers": ("regression", ["--regression_loss", "mse+ccc"], "av", None, NUMBERS),
    "numbers of frames": ("regression_frames", [], "av", None, torch.rand(4, FRAMES, 2)),
    "class and numbers": (
        "class_and_values", OFF, ["valence", "a", "b"], {"valence": HEADS["valence"]},
        torch.cat([CLASSES[:, None].float(), NUMBERS], 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TASKS)
def test_a_task_is_one_function(case, graphs):
    """Mixup and CutMix, their shares and boxes come in as tensors; so do crops."""
    kind, more, names, heads, label = TASKS[case]
    task = create_task(kind, parse_flags(finetuning_parser(), more), list(names), heads)
    if case == "weighted":
        task.balance(torch.tensor([0.5, 1.0, 2.0]))
    levers = Levers(batched_augmentation=case == "weighted")

    def make_step():
        function = FinetuningLoss(
            task=task, size=SIZE, device=CPU, augment_together=augment_together(levers)
        )
        return Step(ToyClassifier(task.num_outputs), function, PLAIN)

    assert_one_graph(make_step, [finetuning_batch(i, label) for i in range(5)], graphs)


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({}, ()),
        ({"normalise": False}, ("crop_box",)),
        ({"group_frames": 2, "motion_weight": 0.3}, ("predicted",)),
        ({"group_frames": 4}, ("crop_box", "predicted")),
    ],
)
def test_masked_autoencoding_is_one_function(options, extra, graphs):
    objective = MaskedReconstruction(tubelet=(2, 8, 8), num_visible=8, **options)
    batches = []
    for number in range(3):
        order = torch.rand(2, 32, generator=torch.Generator().manual_seed(number)).argsort(1)
        mask = torch.ones(2, 32, dtype=torch.bool).scatter_(1, order[:, :8], False)
        batch = {"clip": uint8_clips(2, FRAMES, SIZE, number), "mask": mask}
        more = {
            "crop_box": torch.tensor([[0, 0, 20 + number, 24], [0, 0, 30, 21]]),
            "predicted": order[:, 8:20].sort(1).values,
        }
        batches.append(batch | {name: more[name] for name in extra})
    assert_one_graph(lambda: Step(ToyAutoencoder(), objective, HALF), batches, graphs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_pairs": 2, "cutmix": 1.0},
        {"false_negatives": "promote", "descriptor": create_descriptor("hog")},
        {"false_negatives": "remove", "descriptor": create_descriptor("hog"), "cutmix": 1.0},
    ],
    ids=["plain", "two pairs, CutMix", "promoted", "removed, CutMix"],
)
def test_contrastive_learning_is_one_function(options, graphs):
    batches = []
    for number in range(3):
        draws = np.random.default_rng(number)
        parts = [draws.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8) for _ in range(2)]
        batches.append(
            {
                "clip": uint8_clips(8, 1, SIZE, number),
                "index": torch.arange(8) // 4 if "num_pairs" in options else torch.arange(8) // 2,
                "eyes": torch.from_numpy(parts[0]),
                "mouth": torch.from_numpy(parts[1]),
                "described": torch.arange(8) != number,
                "swap": torch.ones(8, dtype=torch.int8),
            }
        )
    objective = ContrastiveLoss(**options)
    assert_one_graph(lambda: Step(ToyProjection(6), objective, PLAIN), batches, graphs)


class _Casts(TorchDispatchMode):
    """Counts how often each tensor of at least two dimensions is cast."""

    def __enter__(self):
        self.counts = Counter()
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and result.dtype != args[0].dtype:
            self.counts[args[0].data_ptr()] += args[0].ndim >= 2
        return result


def pretraining_step(name):
    model = small_model(name, **({"stage_depths": [1, 2, 1]} if "svfap" in name else {"depth": 1}))
    mask = tube_mask(model, 4)
    objective = MaskedReconstruction(tubelet=model.tubelet, num_visible=int((~mask[0]).sum()))
    batch = {"clip": uint8_clips(2, model.num_frames, model.img_size, 0), "mask": mask}
    return Step(model, objective, HALF), batch


@pytest.mark.parametrize("family", ["svfap", "maedfer", "videomae"])
def test_no_weight_is_cast_twice_in_a_step(family):
    step, batch = pretraining_step(f"pretrain_{family}_tiny_patch8_64")
    with _Casts() as casts:
        step.loss_of(step, batch, None).backward()
    weights = [p.data_ptr() for p in step.model.parameters() if p.ndim == 2]
    assert len(weights) >= 10 and {casts.counts[weight] for weight in weights} == {1}


def test_no_weight_is_cast_twice_in_a_compiled_step():
    """Forward and backward graphs together: the backward pass takes what the forward pass cast."""
    step, batch = pretraining_step("pretrain_videomae_tiny_patch8_64")
    casts = {"forward": [], "backward": []}

    def counting(name):
        def compiler(graph, inputs):
            for node in graph.graph.nodes:
                names = ("_to_copy", "convert_element_type")
                if node.op == "call_function" and any(n in str(node.target) for n in names):
                    value = node.args[0].meta["val"]
                    if node.args[0].op == "placeholder" and value.ndim == 2:
                        casts[name].append(node.args[0])
            return make_boxed_func(graph.forward)

        return compiler

    backend = aot_autograd(
        fw_compiler=counting("forward"), bw_compiler=counting("backward"),
        partition_fn=min_cut_rematerialization_partition,
    )  # fmt: skip
    torch.compiler.reset()
    step.compile(backend=backend, fullgraph=True, dynamic=False)
    step.loss_of(step, batch, None).backward()
    torch.compiler.reset()
    matrices = sum(p.ndim == 2 for p in step.model.parameters())
    assert len(casts["forward"]) == len(set(casts["forward"])) >= matrices
    assert not casts["backward"]
