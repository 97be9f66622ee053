"""Progressive clip length: shorter clips in the first epochs of masked pre-training."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import models
from datasets.clips.training import SampleKey, SwitchedByEpoch, collate
from datasets.labels.annotations import read_annotations
from engine.flags.config import pretraining_parser
from engine.flags.parsing import parse_flags
from engine.pretext.clip_length import Phase, clip_phases, frames_by_epoch
from engine.pretext.masked import MaskedAutoencoding
from engine.pretext.objectives import MaskedReconstruction
from engine.runtime import checkpoint, distributed
from tests.model_cases import random_clip, small_model, tube_mask
from tests.test_runs import (
    assert_equal_weights,
    finish,
    log_lines,
    pretrain_argv,
    run_pretraining,
    start,
)
from tests.tiny_data import make_tiny_data

TINY = ["--input_size", "32", "--decoder_depth", "1", "--mask_ratio", "0.75", "--device", "cpu"]
FAMILIES = {
    "svfap": ["--stage_depths", "1", "2", "2", "--num_bottleneck_tokens", "2"],
    "maedfer": ["--depth", "2", "--lg_region_size", "2", "2", "4", "--use_frame_diff_as_target"],
    "videomae": ["--depth", "2", "--use_frame_diff_as_target", "--frame_diff_group_size", "4"],
}
SHORTEST = {"svfap": 8, "maedfer": 4, "videomae": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_data(folder)
    return folder


def flags_of(family, *more):
    argv = ["--model", f"pretrain_{family}_tiny_patch8_64", *TINY, *FAMILIES[family], *more]
    return parse_flags(pretraining_parser(), argv)


def pretext_of(family, *more):
    return MaskedAutoencoding(flags_of(family, *more), distributed.start("cpu"))


def same_weights(source, shorter):
    """Weights of `source` for a model built for `shorter` clips: its first representatives."""
    own = shorter.state_dict()
    return {name: value[: len(own[name])] for name, value in source.state_dict().items()}


def loss_and_gradients(pretext, batch):
    inputs = pretext.prepare(batch, np.random.default_rng(0))
    loss = pretext.compute(pretext.model, autocast=nullcontext, **inputs)
    loss.backward()
    return loss, {name: value.grad for name, value in pretext.model.named_parameters()}


# ---------------------------------------------------------------- models


@pytest.mark.parametrize(("family", "frames"), SHORTEST.items())
def test_a_model_with_shorter_clips_is_the_one_built_for_them(family, frames):
    name = f"pretrain_{family}_tiny_patch8_64"
    model = small_model(name, standardise_clip=True)
    clip, mask = random_clip(model), tube_mask(model, 4)
    before = model(clip, mask)
    built = models.create_model(**(model.config | {"num_frames": frames}))
    built.load_state_dict(same_weights(model, built), strict=True)
    model.set_num_frames(frames)
    assert (model.num_frames, model.grid, model.num_tokens) == (
        built.num_frames, built.grid, built.num_tokens,
    )  # fmt: skip
    short, its_mask = clip[:, :, :frames], mask[:, : model.num_tokens]
    assert torch.equal(model(short, its_mask), built(short, its_mask))
    model.set_num_frames(16)
    assert torch.equal(model(clip, mask), before)
    encoder = small_model(f"{family}_tiny_patch8_64")
    encoder.set_num_frames(frames)
    assert encoder.forward_features(random_clip(encoder)).shape == (2, 24)


def test_lengths_that_a_model_cannot_take_are_named():
    model = small_model("pretrain_svfap_tiny_patch8_64")
    for frames in (0, 4, 24):
        with pytest.raises(ValueError, match=rf"num_frames = {frames} is .* possible: \[8, 16\]"):
            model.set_num_frames(frames)


# ---------------------------------------------------------------- phases


def test_phases_cover_all_epochs():
    flags = flags_of(
        "videomae",
        "--epochs",
        "10",
        "--short_clip_frames",
        "4",
        "8",
        "--short_clip_epochs",
        "2",
        "3",
    )
    phases = clip_phases(flags, MaskedAutoencoding(flags, distributed.start("cpu")).model)
    assert phases == [Phase(4, 0, 2), Phase(8, 2, 3), Phase(16, 5, 5)]
    assert frames_by_epoch(phases) == [4] * 2 + [8] * 3 + [16] * 5
    dataset = SwitchedByEpoch({16: {(6, 1, 0): "long"}, 4: {(1, 1, 0): "short"}},
                              frames_by_epoch(phases))  # fmt: skip
    assert dataset[SampleKey(1, 1, 0)] == "short" and dataset[6, 1, 0] == "long"


@pytest.mark.parametrize(
    ("family", "lengths", "epochs", "message"),
    [
        ("svfap", "4", "1", "short_clip_frames 4: possible .* --num_frames 16 are 8$"),
        ("svfap", "16", "1", "short_clip_frames 16: possible .* are 8$"),
        ("maedfer", "6", "1", "short_clip_frames 6: possible .* are 4, 8, 12$"),
        ("videomae", "6", "1", "short_clip_frames 6: possible .* are 4, 8, 12$"),
        ("videomae", "8 4", "1 1", r"short_clip_frames 8 4: clips must grow"),
        ("videomae", "4 8", "1", "has 2 values and --short_clip_epochs 1; give both"),
        ("videomae", "4", "", "has 1 values and --short_clip_epochs 0; give both"),
        ("videomae", "4 8", "5 5", "short_clip_epochs 5 5: .* less than --epochs 10"),
        ("videomae", "4", "0", "short_clip_epochs 0: each must be at least 1"),
    ],
)
def test_phases_that_cannot_work_are_refused(family, lengths, epochs, message):
    more = ["--short_clip_frames", *lengths.split()]
    more += ["--short_clip_epochs", *epochs.split()] if epochs else []
    with pytest.raises(ValueError, match=message):
        pretext_of(family, "--epochs", "10", *more)


def test_a_model_without_shorter_clips_says_so():
    with pytest.raises(ValueError, match="--num_frames 8 are no shorter clips"):
        pretext_of("svfap", "--num_frames", "8", "--short_clip_frames", "4",
                   "--short_clip_epochs", "1")  # fmt: skip


def test_contrastive_learning_refuses_them(data, tmp_path):
    argv = ["--objective", "contrastive", "--model", "svfap_tiny_patch8_64", "--device", "cpu",
            "--data_path", str(data / "pretrain.csv"), "--short_clip_frames", "8",
            "--short_clip_epochs", "1"]  # fmt: skip
    with pytest.raises(ValueError, match="--short_clip_frames, --short_clip_epochs belong to"):
        run_pretraining(argv)


def test_the_plan_shows_phases_and_their_cost():
    more = ["--epochs", "4", "--short_clip_frames", "8", "--short_clip_epochs", "2"]
    pretext = pretext_of("videomae", *more)
    text = pretext.plan_rows()["clip length"]
    cost = [
        pretext_of("videomae", "--num_frames", str(frames)).cost().multiply_adds / 1e9
        for frames in (8, 16)
    ]
    assert text == (
        f"8 frames in epochs 1 to 2 (16 of 64 tokens visible, {cost[0]:.2f} G multiply-adds); "
        f"16 frames in epochs 3 to 4 (32 of 128 tokens visible, {cost[1]:.2f} G multiply-adds); "
        f"{(cost[0] + cost[1]) / cost[1] / 2:.0%} of the multiply-adds of a run without shorter "
        "clips"
    )
    assert pretext.model.num_frames == 16
    assert "clip length" not in pretext_of("videomae").plan_rows()


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(("family", "frames"), SHORTEST.items())
def test_a_short_phase_trains_like_a_model_built_for_it(data, family, frames):
    """The same clips, masks and targets, so the same loss and gradient."""
    annotations = read_annotations(data / "pretrain.csv", task="pretrain")
    phases = ["--epochs", "3", "--short_clip_frames", str(frames), "--short_clip_epochs", "2"]
    both = pretext_of(family, *phases, "--decoder_mask_share", "0.5")
    short = pretext_of(family, "--num_frames", str(frames), "--decoder_mask_share", "0.5")
    short.model.load_state_dict(same_weights(both.model, short.model))
    switched, plain = both.dataset(annotations, None), short.dataset(annotations, None)
    keys = [SampleKey(1, 4, 0), SampleKey(1, 7, 1)]
    batch, expected = (collate([part[key] for key in keys]) for part in (switched, plain))
    assert batch["clip"].shape[1] == frames
    assert all(torch.equal(batch[key], expected[key]) for key in ("clip", "mask", "index"))
    loss, gradients = loss_and_gradients(both, batch)
    expected_loss, expected_gradients = loss_and_gradients(short, expected)
    assert torch.equal(loss, expected_loss)
    for name, gradient in expected_gradients.items():
        assert torch.equal(gradients[name][: len(gradient)], gradient), name
        assert not gradients[name][len(gradient) :].any(), name
    full = collate([switched[SampleKey(2, *key[1:])] for key in keys])
    assert full["clip"].shape[1] == 16
    assert loss_and_gradients(both, full)[0].isfinite() and both.model.num_frames == 16


class Killed(BaseException):
    """In place of SIGKILL: nothing is saved after it."""


def kill_in_step(monkeypatch, number):
    """Let the `number`-th loss from here on (from 1) end the run."""
    whole, calls = MaskedReconstruction.loss, []

    def loss(self, prediction, targets):
        calls.append(0)
        if len(calls) == number:
            raise Killed
        return whole(self, prediction, targets)

    monkeypatch.setattr(MaskedReconstruction, "loss", loss)


def test_a_run_killed_in_each_phase_ends_like_an_undisturbed_one(data, tmp_path, monkeypatch):
    """Three steps an epoch; killed in the second step of either phase. Workers change nothing."""
    phases = ["--short_clip_frames", "8", "--short_clip_epochs", "1"]
    undisturbed = pretrain_argv(data, tmp_path / "one", *phases, "--num_workers", "2")
    run_pretraining(undisturbed)
    argv = pretrain_argv(data, tmp_path / "two", *phases, "--save_every_minutes", "0")
    for step in (2, 4):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_in_step(patch, step)
            run_pretraining(argv)
    position = checkpoint.read(tmp_path / "two" / checkpoint.LAST)["position"]
    assert (position["epoch"], position["step"]) == (1, 1)
    run_pretraining(argv)
    one, two = (checkpoint.read(tmp_path / name / checkpoint.LAST) for name in ("one", "two"))
    assert_equal_weights(two["model"], one["model"])
    for number, moments in one["optimizer"]["state"].items():
        assert_equal_weights(two["optimizer"]["state"][number], moments)
    assert one["model_config"]["num_frames"] == two["model_config"]["num_frames"] == 16
    lines = [
        [(line["train_loss"], line["train_lr"]) for line in log_lines(tmp_path / name)]
        for name in ("one", "two")
    ]
    assert lines[0] == lines[1]
    with pytest.raises(ValueError, match=r"--short_clip_frames was \[8\], is None"):
        run_pretraining(pretrain_argv(data, tmp_path / "two"))


def test_two_processes_train_like_one(data, tmp_path):
    argv = ["--model", "pretrain_maedfer_tiny_patch8_64", *TINY, *FAMILIES["maedfer"],
            "--data_path", str(data / "pretrain.csv"), "--epochs", "2", "--warmup_epochs", "1",
            "--lr", "1e-2", "--sampling_rate", "2", "--num_workers", "0", "--no_report",
            "--short_clip_frames", "4", "--short_clip_epochs", "1", "--visualize", "1"]  # fmt: skip
    two = [*argv, "--batch_size", "2", "--output_dir", str(tmp_path / "two")]
    status, output = finish(start("run_pretrain.py", two, processes=2), 600)
    assert status == 0 and "clips have 4 frames from here on" in output, output
    run_pretraining([*argv, "--batch_size", "4", "--output_dir", str(tmp_path / "one")])
    np.testing.assert_allclose(
        [line["train_loss"] for line in log_lines(tmp_path / "two")],
        [line["train_loss"] for line in log_lines(tmp_path / "one")],
        rtol=2e-5,
    )
    assert len(list((tmp_path / "one" / "reconstructions").glob("*.png"))) == 1
