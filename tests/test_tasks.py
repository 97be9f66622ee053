"""Tasks: losses by hand, several heads, files of their predictions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from svfap.datasets.augment.mixing import as_tensors, mix_clips
from svfap.datasets.labels.classes import LabelNames
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.results.kinds.classes import ClassesOfHeads
from svfap.engine.results.kinds.numbers import Numbers
from svfap.engine.results.metrics import classification_metrics, concordance
from svfap.engine.results.predictions import (
    PredictionFileError,
    read_predictions,
    write_predictions,
)
from svfap.engine.tasks.base import create_task
from svfap.engine.tasks.regression import ccc_loss

HEADS = {"arousal": ("calm", "excited"), "valence": ("bad", "good", "so-so")}


def flags(*argv):
    return parse_flags(finetuning_parser(), argv)


def fixed(outputs, seen=None):
    """A model that gives the same outputs whatever it sees, and notes how it was called."""

    def model(clip, **options):
        if seen is not None:
            seen.append((clip, options))
        return outputs

    return model


def test_ccc_loss_equals_its_metric_and_its_gradient_by_differences():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = 0.5 * values.detach() + torch.randn(4, 5, 2, generator=generator).double()
    loss = ccc_loss(values, targets)
    pairs = zip(targets.flatten(0, 1).T.numpy(), values.detach().flatten(0, 1).T.numpy())
    assert loss.item() == pytest.approx(1 - np.mean([concordance(t, v) for t, v in pairs]))
    assert torch.autograd.gradcheck(lambda v: ccc_loss(v, targets), values)


def test_ccc_loss_by_hand():
    targets = torch.tensor([[0.0], [0.5], [1.0]])
    # A constant offset of .1: ccc = (1/3) / (1/3 + .01).
    expected = 1 - (1 / 3) / (1 / 3 + 0.01)
    assert ccc_loss(targets + 0.1, targets).item() == pytest.approx(expected, rel=1e-5)
    assert ccc_loss(targets, targets).item() == pytest.approx(0, abs=1e-6)
    assert ccc_loss(1 - targets, targets).item() == pytest.approx(2, abs=1e-6)
    constant = torch.zeros_like(targets, requires_grad=True)
    ccc_loss(constant, targets).backward()
    assert torch.isfinite(constant.grad).all() and constant.grad.any()


@pytest.mark.parametrize("kind", ["mse", "ccc", "mse+ccc"])
def test_regression_losses(kind):
    task = create_task("regression", flags("--regression_loss", kind), ["valence", "arousal"])
    generator = torch.Generator().manual_seed(1)
    values, label = torch.randn(6, 2, generator=generator), torch.rand(6, 2, generator=generator)
    clip = torch.zeros(6, 3, 2, 4, 4)
    expected = {"mse": F.mse_loss(values, label), "ccc": ccc_loss(values, label)}
    expected["mse+ccc"] = expected["mse"] + expected["ccc"]
    loss = task.training_loss(fixed(values), clip, label, None)
    assert loss.item() == pytest.approx(expected[kind].item())
    assert task.loss(values.numpy(), label.numpy()) == pytest.approx(loss.item(), rel=1e-5)
    assert kind in task.remark and "mixup" in task.remark


def test_regression_refuses_mixing_that_was_asked_for():
    for argv in (["--mixup", "0.8"], ["--cutmix", "1"], ["--smoothing", "0.1"]):
        with pytest.raises(ValueError, match=f"{argv[0]}: mixing and smoothing are for class"):
            create_task("regression", flags(*argv), ["valence"])
    create_task("regression", flags("--mixup", "0", "--cutmix", "0"), ["valence"])
    with pytest.raises(ValueError, match="at least 2, better 16"):
        create_task("regression", flags("--regression_loss", "ccc", "--batch_size", "1"), ["v"])


def test_frame_level_regression_asks_for_frames():
    task = create_task("regression_frames", flags("--regression_loss", "mse"), ["valence"])
    assert task.frame_level and not create_task("regression", flags(), ["valence"]).frame_level
    seen = []
    values, label = torch.zeros(2, 4, 1), torch.full((2, 4, 1), 0.5)
    loss = task.training_loss(fixed(values, seen), torch.zeros(2, 3, 4, 8, 8), label, None)
    assert loss.item() == pytest.approx(0.25)
    assert seen[0][1] == {"per_frame": True}


def test_loss_of_several_heads_is_the_sum_of_theirs():
    none = flags("--mixup", "0", "--cutmix", "0", "--smoothing", "0.1")
    task = create_task("multihead", none, list(HEADS), HEADS)
    assert task.num_outputs == 5 and task.names == ["arousal", "valence"]
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(4, 5, generator=generator)
    label = torch.tensor([[0, 2], [1, 0], [1, 1], [0, 0]])
    expected = F.cross_entropy(logits[:, :2], label[:, 0], label_smoothing=0.1)
    expected = expected + F.cross_entropy(logits[:, 2:], label[:, 1], label_smoothing=0.1)
    clip = torch.zeros(4, 3, 2, 4, 4)
    assert task.training_loss(fixed(logits), clip, label, None).item() == pytest.approx(
        expected.item()
    )
    scores = task.scores(logits)
    torch.testing.assert_close(scores[:, :2], logits[:, :2].softmax(1))
    torch.testing.assert_close(scores[:, 2:].sum(1), torch.ones(4))
    plain = [F.cross_entropy(logits[:, s], label[:, i]).item()
             for i, s in enumerate((slice(0, 2), slice(2, 5)))]  # fmt: skip
    assert task.loss(scores.numpy(), label.numpy()) == pytest.approx(sum(plain), rel=1e-5)
    with pytest.raises(ValueError, match="unknown: multihead needs the heads"):
        create_task("multihead", none, ["arousal"])


def test_several_heads_are_mixed_alike():
    task = create_task("multihead", flags("--smoothing", "0"), list(HEADS), HEADS)
    clip = torch.rand(4, 3, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    label = torch.tensor([[0, 2], [1, 0], [1, 1], [0, 0]])
    seen, logits = [], torch.zeros(4, 5)
    logits[:, [0, 2]] = 1.0
    mixes = as_tensors(task.draw_mixes(np.random.default_rng(4), 4, 8), clip.device)
    loss = task.training_loss(fixed(logits, seen), clip, label, mixes)
    assert torch.equal(seen[0][0], mix_clips(clip, mixes))
    soft = [
        mixer.mix_labels(label[:, i], mixes) for i, mixer in enumerate(p.mixer for p in task.parts)
    ]
    assert [s.shape for s in soft] == [(4, 2), (4, 3)]
    expected = sum(F.cross_entropy(b, s) for b, s in zip(logits.split([2, 3], 1), soft))
    assert loss.item() == pytest.approx(expected.item())


def several_heads(number=6, seed=5):
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.integers(0, 2, number), rng.integers(0, 3, number)], axis=1)
    scores = np.concatenate([rng.dirichlet(np.ones(n), number) for n in (2, 3)], axis=1)
    return ClassesOfHeads.from_scores([f"v{i}" for i in range(number)], labels, scores, HEADS)


def test_metrics_of_several_heads():
    predictions = several_heads()
    metrics = predictions.metrics()
    parts = {
        "arousal": classification_metrics(
            predictions.labels[:, 0], predictions.predicted[:, 0], HEADS["arousal"]
        ),
        "valence": classification_metrics(
            predictions.labels[:, 1], predictions.predicted[:, 1], HEADS["valence"]
        ),
    }
    assert metrics["per_head"] == parts
    for name in ("weighted_f1", "uar", "war"):
        assert metrics[name] == pytest.approx(np.mean([part[name] for part in parts.values()]))
    assert predictions.parts()["valence"].metrics() == parts["valence"]
    few = predictions.taken(np.flatnonzero(predictions.labels[:, 0] == 0))
    assert "arousal: excited" in few.metrics()["absent_classes"]


def test_predictions_of_several_heads_are_read_back(tmp_path):
    written = several_heads()
    write_predictions(tmp_path / "pred.csv", written)
    lines = (tmp_path / "pred.csv").read_text().splitlines()
    assert lines[0] == (
        "id,label_arousal,label_valence,pred_arousal,pred_valence,prob_arousal_calm,"
        "prob_arousal_excited,prob_valence_bad,prob_valence_good,prob_valence_so-so,"
        "truth_arousal,answer_arousal,truth_valence,answer_valence"
    )
    assert lines[1].split(",")[1:3] == [str(v) for v in written.labels[0]]
    read = read_predictions(tmp_path / "pred.csv")
    assert isinstance(read, ClassesOfHeads) and read.heads == HEADS
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_array_equal(read.predicted, written.predicted)
    np.testing.assert_allclose(read.scores, written.scores, rtol=1e-8)
    assert read.metrics() == written.metrics()
    (tmp_path / "pred.csv").write_text(lines[0] + "\nv,0,3,0,1,.5,.5,.2,.3,.5,,,,\n")
    with pytest.raises(PredictionFileError, match=r"line 2: label_valence '3', allowed: 0\.\.2"):
        read_predictions(tmp_path / "pred.csv")
    (tmp_path / "pred.csv").write_text("id,label_a,pred_a,prob_b_x\nv,0,0,1\n")
    with pytest.raises(PredictionFileError, match="expected id,label"):
        read_predictions(tmp_path / "pred.csv")


def test_heads_whose_names_begin_alike(tmp_path):
    heads = {"a": ("x", "w"), "a_b": ("y", "z")}
    scores = np.array([[0.9, 0.1, 0.3, 0.7]])
    write_predictions(
        tmp_path / "p.csv", ClassesOfHeads.from_scores(["v"], [[0, 1]], scores, heads)
    )
    assert read_predictions(tmp_path / "p.csv").heads == heads
    with pytest.raises(ValueError, match=r"alike.*a_b_y \(a\) and a_b_"):
        LabelNames(task="multihead", class_names=("a", "a_b"),
                   heads={"a": ("x", "b_y"), "a_b": ("y", "z")})  # fmt: skip


def test_predictions_of_frames_are_read_back(tmp_path):
    labels = np.array([[0.0], [0.5], [1.0], [0.25]])
    frames = np.array([0, 1, 2, 0])
    ids = ["a", "a", "a", "b"]
    written = Numbers.from_scores(ids, labels, labels + 0.1, ["valence"], frames=frames)
    write_predictions(tmp_path / "pred.csv", written)
    text = (tmp_path / "pred.csv").read_text().splitlines()
    assert text[:2] == ["id,frame,label_valence,pred_valence", "a,0,0,0.1"]
    read = read_predictions(tmp_path / "pred.csv")
    assert read.frames.tolist() == [0, 1, 2, 0] and list(read.ids) == ids
    metrics = read.metrics()
    assert (metrics["num_videos"], metrics["num_frames"]) == (2, 4)
    variance = np.var(labels)
    assert metrics["ccc"] == pytest.approx(2 * variance / (2 * variance + 0.01))
    with pytest.raises(ValueError, match="more than once"):
        Numbers.from_scores(["a", "a"], labels[:2], labels[:2], ["v"], frames=np.array([1, 1]))
    (tmp_path / "pred.csv").write_text("\n".join([*text, "a,1,0,0", "b,x,0,0"]) + "\n")
    with pytest.raises(PredictionFileError) as caught:
        read_predictions(tmp_path / "pred.csv")
    assert "line 6: 'a frame 1' is already on line 3" in str(caught.value)
    assert "line 7: frame 'x'" in str(caught.value)
