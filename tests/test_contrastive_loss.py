"""InfoNCE, MaskFN and CutMix against loops, in one process and over two."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from svfap.engine.pretext.contrastive_loss import ContrastiveLoss, info_nce, relations
from svfap.models.descriptors import create_descriptor
from tests.processes import outputs_of_two

CPU = torch.device("cpu")
TEMPERATURE = 0.3
WIDTH = 5
CASES = [("none", 1), ("promote", 2), ("remove", 2)]  # of two processes
MODES = ["none", "remove", "promote"]


def no_autocast():
    return torch.autocast("cpu", enabled=False)


def make_batch(num_pairs, *, num_samples=4, undescribed=()):
    """A batch whose clips are single pixels, so that a model can be written as a matrix."""
    rng = np.random.default_rng(num_samples + num_pairs)
    count = 2 * num_pairs * num_samples
    videos = [7, 3, 7, 5, 1, 0][:num_samples]  # the first and third sample are of one video
    described = torch.ones(count, dtype=torch.bool)
    described[list(undescribed)] = False
    return {
        "clip": torch.from_numpy(rng.integers(0, 256, (count, 1, 4, 4, 3), dtype=np.uint8)),
        "index": torch.tensor(videos).repeat_interleave(2 * num_pairs),
        "eyes": torch.from_numpy(rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)),
        "mouth": torch.from_numpy(rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)),
        "described": described,
    }


class Linear(torch.nn.Module):
    """Projects pixels."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(48, WIDTH, generator=generator))

    def forward(self, clip):
        return clip.flatten(1) @ self.weight


def describe(eyes, mouth):
    """Pixels less their mean, so that cosines have both signs."""
    values = torch.cat([eyes.flatten(1), mouth.flatten(1)], 1)
    return values - values.mean(1, keepdim=True)


def similarities(model, batch):
    from svfap.datasets.augment.transforms import normalize, to_float

    projected = F.normalize(model(normalize(to_float(batch["clip"]))), dim=1)
    parts = [batch[name].permute(0, 3, 1, 2) / 255 for name in ("eyes", "mouth")]
    described = F.normalize(describe(*parts), dim=1)
    return projected @ projected.T / TEMPERATURE, described @ described.T


def oracle(model, batch, num_pairs, mode, *, weight=0.8, threshold=0.5):
    """The loss by loops over anchors and candidates, as facts and paper put it."""
    logits, alike = similarities(model, batch)
    videos, there = batch["index"].tolist(), batch["described"].tolist()
    losses = []
    for i in range(len(videos)):
        partner = i + 1 if i % 2 == 0 else i - 1
        negatives, hard = [], set()
        for j in range(len(videos)):
            same_sample = i // (2 * num_pairs) == j // (2 * num_pairs)
            if j in (i, partner) or (videos[i] == videos[j] and not same_sample):
                continue
            negatives.append(j)
            if same_sample:
                hard.add(j)
        candidates = [j for j in negatives if there[i] and there[j]]
        promoted = None
        if mode == "remove":
            gone = [j for j in candidates if j not in hard and alike[i, j] > threshold]
            negatives = [j for j in negatives if j not in gone]
        elif mode == "promote" and candidates:
            promoted = max(candidates, key=lambda j: float(alike[i, j]))
            negatives = [j for j in negatives if j != promoted]

        def loss_of(positive, i=i, negatives=negatives):
            terms = [torch.exp(logits[i, j]) for j in [positive, *negatives]]
            return -torch.log(torch.exp(logits[i, positive]) / sum(terms))

        loss = loss_of(partner)
        if promoted is not None:
            loss = loss + weight * loss_of(promoted)
        losses.append(loss)
    return sum(losses) / len(losses)


def loss_and_gradient(objective, model, batch):
    model.zero_grad()
    inputs = objective.prepare(batch, np.random.default_rng(0))
    loss, metrics = objective.compute(model, autocast=no_autocast, **inputs)
    loss.backward()
    return loss.item(), model.weight.grad.clone(), metrics


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_pairs", [1, 2])
def test_loss_and_gradient_equal_loops(num_pairs, mode):
    batch, model = make_batch(num_pairs, undescribed=(1,)), Linear()
    objective = ContrastiveLoss(
        num_pairs=num_pairs, temperature=TEMPERATURE, false_negatives=mode, threshold=0.02,
        descriptor=None if mode == "none" else describe,
    )  # fmt: skip
    loss, gradient, _ = loss_and_gradient(objective, model, batch)
    model.zero_grad()
    expected = oracle(model, batch, num_pairs, mode, threshold=0.02)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, model.weight.grad, rtol=1e-4, atol=1e-6)


def test_modes_differ_on_this_batch():
    batch, model = make_batch(2), Linear()
    values = {mode: oracle(model, batch, 2, mode, threshold=0.02).item() for mode in MODES}
    assert len(set(values.values())) == 3


def test_relations_by_hand():
    videos = torch.tensor([4, 4, 4, 4, 9, 9, 9, 9, 4, 4, 4, 4])  # the last sample: video 4 again
    known = relations(videos, num_pairs=2, first=0, count=12)
    assert known.partner[0].nonzero().flatten().tolist() == [1]
    assert known.hard[0].nonzero().flatten().tolist() == [2, 3]
    assert known.negative[0].nonzero().flatten().tolist() == [2, 3, 4, 5, 6, 7]
    assert known.negative[5].nonzero().flatten().tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]


def test_views_without_any_negative_have_no_loss_and_no_nan():
    batch, model = make_batch(1, num_samples=1), Linear()
    for mode in MODES:
        objective = ContrastiveLoss(false_negatives=mode, descriptor=describe)
        loss, gradient, _ = loss_and_gradient(objective, model, batch)
        assert loss == 0 and torch.equal(gradient, torch.zeros_like(gradient))


def test_half_precision_projections_of_any_scale_stay_finite():
    batch = make_batch(1, num_samples=6)
    for scale in (1e-3, 1e3):
        model = Linear()
        model.weight.data.mul_(scale)
        objective = ContrastiveLoss(temperature=0.01)
        inputs = objective.prepare(batch, np.random.default_rng(0))
        loss, _ = objective.compute(
            model, autocast=lambda: torch.autocast("cpu", torch.bfloat16), **inputs
        )
        loss.backward()
        assert loss.dtype == torch.float32 and torch.isfinite(loss)
        assert torch.isfinite(model.weight.grad).all()


def test_accuracy_counts_views_whose_partner_is_nearest():
    # a model that sees only the brightness: partners equal, except one that equals a stranger
    clip = torch.zeros(6, 1, 4, 4, 3, dtype=torch.uint8)
    clip[0:2], clip[2], clip[3], clip[4:6] = 255, 120, 121, 0
    model = Linear()
    batch = {"clip": clip, "index": torch.tensor([0, 0, 1, 1, 2, 2])}
    assert loss_and_gradient(ContrastiveLoss(), model, batch)[2]["accuracy"].item() == 1
    clip[3] = 255
    metrics = loss_and_gradient(ContrastiveLoss(), model, batch)[2]
    # view 2 and 3 miss their partners; 0 and 1 have an equal stranger, which is not less similar
    assert metrics["accuracy"].item() == pytest.approx(2 / 6)


def test_cutmix_mixes_first_views_and_weighs_by_area():
    objective = ContrastiveLoss(num_pairs=1, cutmix=1.0)
    clip = torch.arange(6.0).view(6, 1, 1, 1, 1).expand(6, 3, 1, 8, 8).clone()
    mixed, share = objective.mixed(clip.clone(), np.random.default_rng(3))
    assert torch.equal(mixed[1::2], clip[1::2])
    for anchor, other in ((0, 2), (2, 4), (4, 0)):
        values, counts = mixed[anchor, 0, 0].unique(return_counts=True)
        found = dict(zip(values.tolist(), counts.tolist()))
        assert found == pytest.approx({anchor: share * 64, other: (1 - share) * 64})
    known = relations(torch.tensor([0, 0, 1, 1, 2, 2]), num_pairs=1, first=0, count=6)
    weights = objective.targets(known, 0.75, first=0)
    assert weights[0].tolist() == [0, 0.75, 0, 0.25, 0, 0]  # shows a box of video 1
    assert weights[3].tolist() == [0.25, 0, 0.75, 0, 0, 0]  # video 1 is seen in view 0
    torch.testing.assert_close(weights.sum(1), torch.ones(6))
    torch.testing.assert_close(weights, weights.T)


def test_two_positives_share_the_cross_entropy():
    logits = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    positives = torch.tensor([[0.0, 0.7, 0.3, 0.0]])
    negatives = torch.tensor([[False, False, False, True]])
    total = np.log(np.exp(2) + np.exp(3) + np.exp(0))
    expected = 0.7 * (total - 2) + 0.3 * (total - 3)
    assert info_nce(logits, positives, negatives).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"temperature": 0.0}, "--temperature 0"),
        ({"false_negatives": "drop"}, "none, remove, promote"),
        ({"threshold": 2.0}, "-1..1"),
        ({"weight": -1.0}, "--false_negative_weight -1"),
    ],
)
def test_wrong_settings_say_what_is_allowed(setting, text):
    with pytest.raises(ValueError, match=text):
        ContrastiveLoss(**setting)


def test_two_processes_have_the_loss_and_gradient_of_one():
    output = outputs_of_two("test_contrastive_loss")[0]
    lines = [line.split()[1:] for line in output.splitlines() if line.startswith("FACTS")]
    assert len(lines) == len(CASES)
    for (mode, num_pairs), values in zip(CASES, lines):
        facts, batch, model = (
            torch.tensor(list(map(float, values))),
            make_batch(num_pairs),
            Linear(),
        )
        expected = oracle(model, batch, num_pairs, mode, threshold=0.02)
        expected.backward()
        assert facts[0].item() == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(
            facts[2:].view(48, WIDTH), model.weight.grad, rtol=1e-4, atol=1e-6
        )


def two_processes():
    """All cases of the test above, in one of its two processes."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    for mode, num_pairs in CASES:
        batch, model = make_batch(num_pairs), Linear()
        half = len(batch["clip"]) // 2
        part = {name: value[rank * half : (rank + 1) * half] for name, value in batch.items()}
        objective = ContrastiveLoss(
            num_pairs=num_pairs, temperature=TEMPERATURE, false_negatives=mode, threshold=0.02,
            descriptor=describe,
        )  # fmt: skip
        loss, gradient, metrics = loss_and_gradient(objective, model, part)
        facts = torch.cat([torch.tensor([loss, metrics["accuracy"].item()]), gradient.flatten()])
        dist.all_reduce(facts)
        if rank == 0:
            print("FACTS", *(facts / 2).tolist())
    dist.destroy_process_group()


@pytest.mark.parametrize("mode", MODES)
def test_nothing_in_a_step_waits_for_values(mode):
    """Tensors without values raise wherever the host would have to look at one."""
    objective = ContrastiveLoss(
        num_pairs=2, false_negatives=mode, cutmix=1.0,
        descriptor=None if mode == "none" else create_descriptor("hog"),
    )  # fmt: skip
    batch = make_batch(2)
    with FakeTensorMode(allow_non_fake_inputs=True):
        shapes = {name: torch.empty(v.shape, dtype=v.dtype) for name, v in batch.items()}
        for name in ("eyes", "mouth"):
            shapes[name] = torch.empty(16, 64, 64, 3, dtype=torch.uint8)
        shapes["swap"] = torch.empty(16, dtype=torch.int8)
        weight = torch.empty(48, WIDTH, requires_grad=True)
        inputs = objective.prepare(shapes, np.random.default_rng(0))
        loss, metrics = objective.compute(
            lambda clip: clip.flatten(1) @ weight, autocast=no_autocast, **inputs
        )
        loss.backward()
    assert loss.shape == () and set(metrics) == {"accuracy", "face_swap_failed"}
    assert weight.grad.shape == weight.shape
