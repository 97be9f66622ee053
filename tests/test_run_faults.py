"""What stops a run or is left out of it: damaged files, numbers that are not finite, bad videos."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from svfap.engine import assembly, loop
from svfap.engine.compute import optim
from svfap.engine.loop import _close_epoch
from svfap.engine.runtime import checkpoint, distributed
from svfap.engine.runtime.errors import TooManyUnreadableError, UnreadableInEvaluationError
from tests.test_runs import (
    finetune_argv,
    log_lines,
    pretrain_argv,
    run_finetuning,
    run_pretraining,
    weights,
)


def not_finite(data):
    """A checkpoint whose weights a run of before has poisoned."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    content["model"]["mask_token"].fill_(float("nan"))
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:999], lambda data: b"x", not_finite]
)
def test_a_damaged_checkpoint_is_named_with_an_older_one(data, tmp_path, damage):
    out = tmp_path / "run"
    argv = pretrain_argv(data, out, "--save_ckpt_freq", "1", "--epochs", "1")
    run_pretraining(argv)
    last = out / checkpoint.LAST
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(ValueError, match="checkpoint-last.pth.*--resume .*checkpoint-0.pth"):
        run_pretraining(argv)
    run_pretraining([*argv, "--resume", str(out / "checkpoint-0.pth"), "--epochs", "1"])
    last.write_bytes(damage((out / "checkpoint-0.pth").read_bytes()))
    (out / "checkpoint-0.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="checkpoint-last.pth.*no older one"):
        run_pretraining(argv)


def test_weights_may_stand_anywhere_in_a_file(data, tmp_path):
    """`--model_key` and `--model_prefix`, as in the released code."""
    argv = finetune_argv(data, tmp_path / "run", "--epochs", "1", "--max_steps", "1")
    argv += ["--head_norm", "layer"]  # a batch norm counts its steps
    run_finetuning(argv)
    own = weights(tmp_path / "run")
    moved = {f"teacher.{name}": torch.zeros_like(value) for name, value in own.items()}
    torch.save({"best": moved}, tmp_path / "moved.pth")
    more = ["--finetune", str(tmp_path / "moved.pth"), "--lr", "0", "--min_lr", "0",
            "--warmup_lr", "0", "--model_key", "ema|best", "--model_prefix"]  # fmt: skip
    argv[argv.index("--output_dir") + 1] = str(tmp_path / "other")
    run_finetuning([*argv, *more, "teacher."])
    assert not any(value.any() for value in weights(tmp_path / "other").values())
    argv[argv.index("--output_dir") + 1] = str(tmp_path / "third")
    with pytest.raises(ValueError, match="moved.pth: no name begins with 'student.'"):
        run_finetuning([*argv, *more, "student."])


def test_missing_weights_stop_a_fine_tuning_before_it_leaves_anything_behind(data, tmp_path):
    more = ["--finetune", str(tmp_path / "gone.pth")]
    for flags in (more, [*more, "--dry_run"]):
        with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
            run_finetuning(finetune_argv(data, tmp_path / "run", *flags))
    assert not (tmp_path / "run").exists()


def test_other_settings_in_the_same_output_dir_are_refused(data, tmp_path):
    run_pretraining(pretrain_argv(data, tmp_path / "run"))
    with pytest.raises(ValueError, match=r"--lr was 0.01, is 0.02"):
        run_pretraining(pretrain_argv(data, tmp_path / "run", "--lr", "2e-2"))
    with pytest.raises(ValueError, match="no_auto_resume would overwrite"):
        run_pretraining(pretrain_argv(data, tmp_path / "run", "--no_auto_resume"))
    with pytest.raises(ValueError, match="global batch of 4, this command has 2"):
        run_pretraining(pretrain_argv(data, tmp_path / "run", "--batch_size", "2"))


def test_loss_that_is_not_finite_stops_with_the_facts(data, tmp_path, monkeypatch):
    from svfap.engine.pretext import objectives

    whole = objectives.MaskedReconstruction.loss
    calls = []

    def spoiled(self, prediction, targets):
        calls.append(0)
        value = whole(self, prediction, targets)
        return value * float("nan") if len(calls) == 5 else value

    monkeypatch.setattr(objectives.MaskedReconstruction, "loss", spoiled)
    with pytest.raises(FloatingPointError) as caught:
        run_pretraining(pretrain_argv(data, tmp_path / "run", "--print_freq", "1"))
    text = str(caught.value)
    assert "nan in epoch 1, step 1 (learning rate" in text and "checkpoint-last.pth" in text
    assert all(torch.isfinite(v).all() for v in weights(tmp_path / "run").values())


@pytest.mark.parametrize("more", [[], ["--clip_grad", "1"], ["--opt", "sgd"]])
def test_a_gradient_that_is_not_finite_is_neither_stepped_nor_saved(
    data, tmp_path, monkeypatch, more
):
    """One bad element, from fine losses: the last good checkpoint stays good."""
    held, steps = [], []

    class Spoiled(loop.Training):
        def __post_init__(self):
            super().__post_init__()
            held.append(self.model)
            self.model.decoder.head.weight.register_hook(self.spoil)

        @staticmethod
        def spoil(gradient):
            steps.append(0)
            if len(steps) == 5:
                gradient = gradient.clone()
                gradient[0, 0] = float("inf")
            return gradient

    monkeypatch.setattr(assembly, "Training", Spoiled)
    argv = pretrain_argv(data, tmp_path / "run", "--save_every_minutes", "0", *more)
    with pytest.raises(
        FloatingPointError, match=r"norm of the gradient is (inf|nan) in epoch 1, s"
    ):
        run_pretraining(argv)
    assert len(steps) == 5
    for kept in (held[0].state_dict(), weights(tmp_path / "run")):
        assert all(torch.isfinite(value).all() for value in kept.values())
    run_pretraining(argv)  # and the same command goes on


def test_without_a_limit_gradients_are_measured_only():
    model = torch.nn.Linear(3, 2)
    model(torch.ones(1, 3)).sum().backward()
    before = model.weight.grad.clone()
    norm = optim.clip_gradients(model, None)
    assert torch.equal(model.weight.grad, before) and norm.item() == pytest.approx(8**0.5)
    model.weight.grad[0, 0] = float("nan")
    assert optim.clip_gradients(model, None).isnan()
    assert model.weight.grad.isnan().sum() == 1
    assert optim.clip_gradients(torch.nn.Linear(1, 1), 1.0).item() == 0


def broken_copy(data, folder, *, broken):
    """The tiny data with the first `broken` videos cut off after a few bytes."""
    rows = (data / "pretrain.csv").read_text().splitlines()
    folder.mkdir()
    for number in range(broken):
        bad = folder / f"bad{number}.mp4"
        bad.write_bytes(b"\x00\x00\x00\x18ftypmp42 not a video")
        rows[number] = f"{bad} 0"
    (folder / "pretrain.csv").write_text("\n".join(rows) + "\n")
    (folder / "fold").mkdir()
    for name, part in (("train", rows[:6]), ("val", rows[6:8]), ("test", rows[:5])):
        (folder / "fold" / f"{name}.csv").write_text("\n".join(part) + "\n")
    return folder


def test_steps_that_fp16_skips_do_not_count_in_the_norm():
    position = checkpoint.Position(step=3, losses=[1.0, 2.0, 3.0], grad_norms=[np.inf, 2.0, 4.0])
    run = SimpleNamespace(
        position=position, resolved=SimpleNamespace(steps_per_epoch=3), rates=np.ones(3),
        weight_decays=np.ones(3),
        workers=distributed.start("cpu"), budget=SimpleNamespace(num_skipped=0),
    )  # fmt: skip
    facts = {"clips_per_second": 1.0, "data_wait": 0.0}
    line = _close_epoch(run, facts)
    assert line["train_grad_norm"] == 3.0 and line["train_loss"] == 2.0
    assert (position.epoch, position.step, position.grad_norms) == (1, 0, [])
    json.dumps(line, allow_nan=False)


def test_unreadable_videos_are_named_and_the_budget_holds(data, tmp_path):
    one = broken_copy(data, tmp_path / "one", broken=1)
    run_pretraining(pretrain_argv(one, tmp_path / "fine"))
    rows = (tmp_path / "fine" / "unreadable.csv").read_text().splitlines()
    assert rows[0] == "path,status,reason" and len(rows) == 2
    assert rows[1].startswith(f"{one}/bad0.mp4,skipped,")
    assert log_lines(tmp_path / "fine")[-1]["unreadable_videos"] == 1
    three = broken_copy(data, tmp_path / "three", broken=3)
    with pytest.raises(TooManyUnreadableError, match="of 10 videos .* allows 1"):
        run_pretraining(pretrain_argv(three, tmp_path / "over"))
    run_pretraining(pretrain_argv(three, tmp_path / "raised", "--max_unreadable", "0.3"))


def test_unreadable_video_in_evaluation_is_an_error_that_lists_it(data, tmp_path):
    two = broken_copy(data, tmp_path / "two", broken=2)
    argv = finetune_argv(two, tmp_path / "run", "--max_unreadable", "0.5")
    with pytest.raises(UnreadableInEvaluationError) as caught:
        run_finetuning(argv)
    assert "bad0.mp4" in str(caught.value) and "bad1.mp4" in str(caught.value)
    assert not (tmp_path / "run" / "metrics.json").exists()
