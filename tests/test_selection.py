"""Where the validation part comes from, and classes that count alike."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from svfap.datasets.clips.training import EpochSampler
from svfap.datasets.labels.annotations import read_annotations
from svfap.datasets.labels.splits import carve_validation, take_rows
from svfap.engine.results.find import find_results
from svfap.engine.runtime import checkpoint
from svfap.engine.selection import Parts, _warn_of, balanced_class_weights, read_parts
from svfap.engine.tasks.classification import Classification
from tests.test_runs import log_lines, run_finetuning
from tests.tiny_data import FINETUNE_FLAGS, make_tiny_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_data(folder, num_videos=12)
    return folder


def make_fold(data, folder, *, val: str | None = None, subjects: bool = False):
    """Eight training and four test videos; val.csv is a copy of another part, or absent."""
    rows = (data / "pretrain.csv").read_text().splitlines()
    folder.mkdir()
    (folder / "train.csv").write_text("\n".join(rows[:8]) + "\n")
    (folder / "test.csv").write_text("\n".join(rows[8:]) + "\n")
    if val:
        (folder / "val.csv").write_text((folder / f"{val}.csv").read_text())
    if subjects:
        people = [f"{row.split()[0]},person{number // 2}" for number, row in enumerate(rows)]
        (folder.parent / "subjects.csv").write_text("\n".join(["path,subject", *people]) + "\n")
    return folder


def argv(fold, out, *more):
    return [*FINETUNE_FLAGS, "--epochs", "1", "--warmup_epochs", "0", "--data_path", str(fold),
            "--output_dir", str(out), *more]  # fmt: skip


@pytest.mark.parametrize("val", [None, "test"])
def test_a_validation_part_is_carved_where_there_is_none(data, tmp_path, val, caplog):
    fold = make_fold(data, tmp_path / "fold", val=val)
    out = tmp_path / "run"
    metrics = run_finetuning(argv(fold, out, "--val_fraction", "0.25", "--test_weights", "best"))
    carved = (out / "validation.csv").read_text().splitlines()
    train = (fold / "train.csv").read_text().splitlines()
    assert len(carved) == 2 and set(carved) < set(train)
    assert sorted(row.split()[1] for row in carved) == ["0", "1"]
    assert metrics["chosen_on"] == "25 % of train.csv, stratified"
    assert not any("too good" in note for note in metrics["notes"])
    assert (
        json.loads((out / "config.json").read_text())["resolved"]["best_chosen_on"]
        == (metrics["chosen_on"])
    )
    content = checkpoint.read(out / checkpoint.BEST)
    assert content["chosen_on"] == metrics["chosen_on"]
    assert "val_uar" in log_lines(out)[0]
    [result] = find_results([out])
    assert result.weights == f"best, chosen on {metrics['chosen_on']}"
    again = tmp_path / "again"
    run_finetuning(argv(fold, again, "--val_fraction", "0.25"))
    assert (again / "validation.csv").read_text() == (out / "validation.csv").read_text()


def test_subjects_beside_the_fold_stay_together(data, tmp_path):
    fold = make_fold(data, tmp_path / "fold", subjects=True)
    out = tmp_path / "run"
    metrics = run_finetuning(argv(fold, out, "--val_fraction", "0.25", "--test_weights", "best"))
    assert metrics["chosen_on"] == "25 % of train.csv, whole subjects"
    carved = [row.split()[0] for row in (out / "validation.csv").read_text().splitlines()]
    numbers = sorted(int(path[-6:-4]) for path in carved)
    assert len(numbers) == 2 and numbers[0] % 2 == 0 and numbers[1] == numbers[0] + 1


def test_test_as_validation_is_said_wherever_best_appears(data, tmp_path, caplog):
    fold = make_fold(data, tmp_path / "fold", val="test")
    out = tmp_path / "run"
    metrics = run_finetuning(argv(fold, out, "--test_weights", "best"))
    assert metrics["chosen_on"] == "the test part"
    assert any("chosen on the test part: too good to report" in note for note in metrics["notes"])
    [result] = find_results([out])
    assert result.weights == "best, chosen on the test part"
    again = ["--data_path", str(fold), "--eval", "--resume", str(out / checkpoint.BEST),
             "--num_workers", "0", "--device", "cpu", "--no_report"]  # fmt: skip
    run_finetuning(["--output_dir", str(tmp_path / "again"), *again])
    stated = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert stated["chosen_on"] == "the test part"


def test_an_official_validation_part_is_left_alone(data, tmp_path):
    fold = make_fold(data, tmp_path / "fold")
    rows = (fold / "train.csv").read_text().splitlines()
    (fold / "train.csv").write_text("\n".join(rows[:6]) + "\n")
    (fold / "val.csv").write_text("\n".join(rows[6:]) + "\n")
    out = tmp_path / "run"
    flags = ["--val_fraction", "0.25", "--test_weights", "best"]
    assert run_finetuning(argv(fold, out, *flags))["chosen_on"] == "val.csv"
    assert not (out / "validation.csv").exists()


def test_a_share_of_the_labels(data, tmp_path):
    """The same share of each class; the same videos for the same seed, others for another."""
    fold = make_fold(data, tmp_path / "fold")
    train = (fold / "train.csv").read_text().splitlines()
    chosen = []
    for name, seed in (("one", "3"), ("again", "3"), ("other", "8")):
        out = tmp_path / name
        flags = ["--label_fraction", "0.5", "--seed", seed, "--epochs", "2"]
        assert run_finetuning(argv(fold, out, *flags))["num_videos"] == 4
        chosen.append((out / "training.csv").read_text().splitlines())
        assert set(chosen[-1]) < set(train) and len(log_lines(out)) == 2
        assert [row.split()[1] for row in sorted(chosen[-1])].count("0") == 2
        stated = json.loads((out / "config.json").read_text())["resolved"]["training_videos"]
        assert stated == "4 videos: 50 % of 8, stratified"
    assert chosen[0] == chosen[1] != chosen[2]
    with pytest.raises(ValueError, match="--label_fraction was 0.5, is 1.0"):
        run_finetuning(argv(fold, tmp_path / "one", "--epochs", "2"))
    with pytest.raises(ValueError, match="--label_fraction 0.01 takes (0|8) of 8"):
        people = ["--subjects", subjects_file(data, tmp_path)]
        run_finetuning(argv(fold, tmp_path / "none", "--label_fraction", "0.01", *people))


def subjects_file(data, folder):
    rows = (data / "pretrain.csv").read_text().splitlines()
    path = folder / "people.csv"
    path.write_text("\n".join(["path,subject", *(f"{row.split()[0]},one" for row in rows)]) + "\n")
    return str(path)


def test_a_share_of_the_labels_is_whole_subjects_beside_a_validation_part(data, tmp_path):
    fold = make_fold(data, tmp_path / "fold", subjects=True)
    out = tmp_path / "run"
    run_finetuning(argv(fold, out, "--label_fraction", "0.34", "--val_fraction", "0.25"))
    stated = json.loads((out / "config.json").read_text())["resolved"]["training_videos"]
    assert stated == "2 videos: 34 % of 6, whole subjects"
    parts = [(out / name).read_text().splitlines() for name in ("training.csv", "validation.csv")]
    numbers = [sorted(int(row.split()[0][-6:-4]) // 2 for row in part) for part in parts]
    assert numbers[0][0] == numbers[0][1] != numbers[1][0] == numbers[1][1]


def test_leaks_and_classes_without_videos_are_said(data, caplog):
    whole = read_annotations(data / "pretrain.csv", task="classification")
    rows = [place for place, label in enumerate(whole.labels) if label != 1]
    labels = SimpleNamespace(class_names=("a", "b"))
    flags = SimpleNamespace(data_path="fold")
    setting = SimpleNamespace(kind="classification", labels=labels, flags=flags)
    parts = Parts(train=take_rows(whole, rows), val=None, test=take_rows(whole, rows[:2]),
                  chosen_on="nothing")  # fmt: skip
    _warn_of(parts, setting)
    assert f"2 of 2 test videos are in the training part, too, such as {whole.paths[rows[0]]}" in (
        caplog.text
    )
    assert "no training videos of b" in caplog.text


def test_a_class_that_a_share_of_the_labels_leaves_out_is_said(data, tmp_path, caplog):
    """Whole subjects are taken, and everybody shows one thing."""
    whole = read_annotations(data / "pretrain.csv", task="classification")
    people = tmp_path / "people.csv"
    rows = [f"{name},{label}" for name, label in zip(whole.ids, whole.labels)]
    people.write_text("\n".join(["path,subject", *rows]) + "\n")
    flags = SimpleNamespace(data_path="fold", eval_data_path=None, val_fraction=0, seed=0,
                            label_fraction=0.5, subjects=str(people))  # fmt: skip
    setting = SimpleNamespace(
        kind="classification", labels=SimpleNamespace(class_names=("a", "b")), flags=flags,
        read=lambda split, folder=None: None if split == "val" else whole,
    )  # fmt: skip
    parts = read_parts(setting)
    absent = "ab"[1 - int(parts.train.labels[0])]
    assert f"no training videos of {absent}, which cannot be learnt" in caplog.text


def test_rows_of_annotations(data):
    whole = read_annotations(data / "pretrain.csv", task="classification")
    some = take_rows(whole, [3, 1])
    assert len(some) == 2 and some.labels.tolist() == [1, 1]
    assert list(some.ids) == [whole.ids[3], whole.ids[1]]
    assert list(some.paths) == [whole.paths[3], whole.paths[1]]


def test_carving_does_not_depend_on_anything_but_rows_and_seed():
    labels = ["0", "1"] * 50
    assert carve_validation(labels, 0.2, seed=1) == carve_validation(labels, 0.2, seed=1)
    assert carve_validation(labels, 0.2, seed=1) != carve_validation(labels, 0.2, seed=2)


def keys_of_epoch(weights, epoch, world_size, accumulation=1):
    """Global batches, each the sorted keys of all processes."""
    batches = {}
    for rank in range(world_size):
        sampler = EpochSampler(
            num_samples=len(weights), batch_size=12 // world_size // accumulation, seed=5,
            rank=rank, world_size=world_size, accumulation=accumulation, weights=weights,
        )  # fmt: skip
        for turn, batch in enumerate(sampler.batches(epoch)):
            batches.setdefault(turn // accumulation, []).extend(batch)
    return [sorted(batch) for _, batch in sorted(batches.items())]


def test_balanced_sampling_draws_classes_alike_on_any_number_of_processes():
    labels = np.array([0] * 40 + [1] * 8 + [2] * 2)
    weights = balanced_class_weights(labels, 4)[labels]
    one = keys_of_epoch(weights, 3, 1)
    assert one == keys_of_epoch(weights, 3, 2) == keys_of_epoch(weights, 3, 3, accumulation=2)
    assert one != keys_of_epoch(weights, 4, 1)
    sampler = EpochSampler(num_samples=50, batch_size=50, seed=5, weights=weights)
    drawn = Counter()
    for epoch in range(30):
        [keys] = list(sampler.batches(epoch))
        per_class = Counter(int(labels[key.index]) for key in keys)
        assert all(16 <= per_class[label] <= 18 for label in range(3))
        copies = Counter(key.index for key in keys)
        assert {(key.index, key.copy) for key in keys} == {
            (index, copy) for index, count in copies.items() for copy in range(count)
        }
        assert all(copies[index] in (8, 9) for index in (48, 49))
        drawn.update(copies)
    assert len(drawn) == 50


def test_a_balanced_epoch_goes_on_in_its_middle():
    weights = np.linspace(1, 3, 20)
    sampler = EpochSampler(num_samples=20, batch_size=4, seed=0, weights=weights)
    assert list(sampler.batches(2, 3)) == list(sampler.batches(2))[3:]
    for wrong in (np.ones(19), np.zeros(20), np.full(20, np.nan)):
        with pytest.raises(ValueError, match="20 finite numbers"):
            EpochSampler(num_samples=20, batch_size=4, seed=0, weights=wrong)


def test_class_weights_of_the_loss():
    labels = np.array([0, 0, 0, 1, 3, 3])
    weights = balanced_class_weights(labels, 4)
    np.testing.assert_allclose(weights, [2 / 3, 2, 0, 1])
    assert weights[labels].mean() == pytest.approx(1)
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(labels)
    task = Classification(names=list("abcd"), class_weights=torch.tensor(weights).float())
    found = task.training_loss(lambda clip: clip, logits, target, None)
    each = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(found, (each * torch.from_numpy(weights[labels])).mean().float())
    plain = Classification(names=list("abcd"), smoothing=0.1, class_weights=torch.ones(4))
    torch.testing.assert_close(
        plain.training_loss(lambda clip: clip, logits, target, None),
        F.cross_entropy(logits, target, label_smoothing=0.1),
    )


def test_balanced_runs_learn_from_other_draws_or_another_loss(data, tmp_path):
    fold = make_fold(data, tmp_path / "fold")
    rows = (fold / "train.csv").read_text().splitlines()
    of_one = [row for row in rows if row.endswith(" 1")]
    rare = [row for row in rows if row not in of_one[1:]]
    (fold / "train.csv").write_text("\n".join(rare) + "\n")
    losses = set()
    for how in ("none", "sampler", "loss"):
        metrics = run_finetuning(argv(fold, tmp_path / how, "--class_balanced", how))
        assert metrics["num_videos"] == 4
        [line] = log_lines(tmp_path / how)
        losses.add(line["train_loss"])
    assert np.isfinite(list(losses)).all() and len(losses) == 3


def test_the_best_averaged_weights_are_tested_alike_at_the_end_and_by_themselves(data, tmp_path):
    fold = make_fold(data, tmp_path / "fold", val="train")
    flags = ["--test_weights", "best", "--model_ema", "--model_ema_decay", "0.9", "--val_metric",
             "loss"]  # fmt: skip
    run_finetuning(argv(fold, tmp_path / "run", *flags))
    best = tmp_path / "run" / "checkpoint-best.pth"
    run_finetuning(argv(fold, tmp_path / "again", "--eval", "--resume", str(best)))
    first, again = ((tmp_path / name / "pred.csv").read_text() for name in ("run", "again"))
    content = checkpoint.read(best)
    assert any(not torch.equal(content["model_ema"][k], v) for k, v in content["model"].items())
    assert first == again
