"""Whole runs of contrastive learning: every combination, resuming, several processes, transfer."""

import json
import signal
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
import torch

from svfap import models
from svfap.datasets.faces.landmarks import write_landmarks
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.pretext.contrastive_loss import ContrastiveLoss
from svfap.engine.pretraining import pretrain
from svfap.engine.probe.command import run_probe
from svfap.engine.runtime import checkpoint
from tests.face_drawings import drawn_landmarks
from tests.test_runs import (
    assert_equal_weights,
    finish,
    log_lines,
    start,
    wait_for_mid_epoch,
    weights,
)
from tests.tiny_data import SIZE_PX, make_tiny_data

RUN = ["--objective", "contrastive", "--warmup_epochs", "1", "--lr", "1e-2", "--num_workers", "0",
       "--device", "cpu", "--no_report", "--seed", "3", "--epochs", "2",
       "--visualize", "0"]  # fmt: skip
IMAGES = [*RUN, "--model", "timm/test_resnet", "--input_size", "32", "--batch_size", "8"]
CLIPS = [*RUN, "--model", "svfap_tiny_patch8_64", "--input_size", "32", "--num_frames", "8",
         "--stage_depths", "1", "1", "1", "--sampling_rate", "1", "--batch_size", "8"]  # fmt: skip
TIME = ["--time_aug", "falling", "--time_interval", "0.1", "0.3"]
HARD = ["--hard_negatives", "--hard_negative_gap", "0.3"]
SWAP = ["--face_swap", "0.8"]
PROMOTE = ["--false_negatives", "promote", "--descriptor", "hog"]
REMOVE = ["--false_negatives", "remove", "--descriptor", "hog", "--false_negative_threshold", "0.3"]
PARTS, CUTMIX = ["--part_mask", "0.8"], ["--cutmix", "1"]
ROWS = {
    "simclr": [],
    "time": TIME,
    "hard": HARD,
    "time+hard": [*TIME, *HARD],
    "time+hard+cutmix": [*TIME, *HARD, *CUTMIX],
    "time+swap+promote": [*TIME, *SWAP, *PROMOTE],
    "time+hard+swap": [*TIME, *HARD, *SWAP],
    "time+hard+promote": [*TIME, *HARD, *PROMOTE, *PARTS],
    "time+hard+remove": [*TIME, *HARD, *REMOVE],
    "time+hard+swap+promote": [*TIME, *HARD, *SWAP, *PROMOTE, *PARTS],
    "everything": [*TIME, *HARD, *SWAP, *REMOVE, *PARTS, *CUTMIX],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The tiny videos of five persons, with the landmarks of faces that are not in them."""
    folder = tmp_path_factory.mktemp("faces")
    make_tiny_data(folder)
    for number in range(10):
        points = np.repeat(drawn_landmarks(24, 20, 9)[None], 30 + 3 * number, axis=0)
        points[5:7] = np.nan
        write_landmarks(folder / "videos" / f"clip{number:02d}.landmarks.npz", points, 25.0)
    rows = "".join(f"clip{number:02d}.mp4,person{number % 5}\n" for number in range(10))
    (folder / "subjects.csv").write_text("video_name,subject\n" + rows)
    assert SIZE_PX == 48
    return folder


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Curves are drawn in seconds and tested elsewhere."""
    monkeypatch.setattr("engine.report.plots.plot_training", lambda folder: None)


def argv(data, out, *flags):
    return [*flags, "--data_path", str(data / "pretrain.csv"), "--output_dir", str(out)]


def run(data, out, *flags):
    pretrain(parse_flags(pretraining_parser(), argv(data, out, *flags)))
    return log_lines(out)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_papers_table_trains(data, tmp_path, name):
    lines = run(data, tmp_path / "run", *IMAGES, *ROWS[name], "--max_steps", "2", "--no_save_ckpt")
    assert all(np.isfinite(line["train_loss"]) for line in lines)
    assert all(0 <= line["train_accuracy"] <= 1 for line in lines)
    assert ("train_face_swap_failed" in lines[0]) == ("--face_swap" in ROWS[name])
    if "--face_swap" in ROWS[name]:
        assert lines[0]["train_face_swap_failed"] < 0.7


def test_video_encoders_train_on_clips_of_the_same_video(data, tmp_path):
    lines = run(data, tmp_path / "run", *CLIPS, *TIME, *HARD, *SWAP, *PROMOTE, *PARTS)
    assert len(lines) == 2 and lines[0]["train_loss"] > 0
    config = checkpoint.read(tmp_path / "run" / checkpoint.LAST)["model_config"]
    assert config["name"] == "contrastive_svfap_tiny_patch8_64" and config["projection_dim"] == 128
    again = models.create_model(**config)
    again.load_state_dict(weights(tmp_path / "run"))
    encoder = models.create_model("svfap_tiny_patch8_64", img_size=32, num_frames=8,
                                  stage_depths=[1, 1, 1])  # fmt: skip
    report = models.load_weights(encoder, tmp_path / "run" / checkpoint.LAST)
    assert set(report.new) == {"head.weight", "head.bias"} and report.ok
    assert torch.equal(encoder.fc_norm.weight, again.encoder.fc_norm.weight)


def test_a_fixed_batch_is_learned():
    torch.manual_seed(0)
    model = models.create_model("contrastive_timm/test_resnet", img_size=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    noise = np.random.default_rng(0).integers(0, 256, (16, 1, 32, 32, 3), dtype=np.uint8)
    batch = {"clip": torch.from_numpy(noise), "index": torch.arange(8).repeat_interleave(2)}
    found = []
    for _ in range(25):
        inputs = ContrastiveLoss().prepare(batch, np.random.default_rng(0))
        loss, metrics = ContrastiveLoss().compute(model, autocast=nullcontext, **inputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append((loss.item(), metrics["accuracy"].item()))
    assert found[0][0] > 2 and found[-1][0] < 0.5 and found[-1][1] == 1


def test_killed_and_resumed_run_is_bitwise_equal(data, tmp_path):
    flags = [*IMAGES, *ROWS["everything"], "--epochs", "3"]
    out = tmp_path / "killed"
    command = argv(data, out, *flags, "--save_every_minutes", "0")
    process = start("run_pretrain.py", command)
    wait_for_mid_epoch(process, out, epoch=1)
    process.send_signal(signal.SIGKILL)
    finish(process)
    position = torch.load(out / checkpoint.LAST, weights_only=True)["position"]
    assert (position["epoch"], position["step"]) < (3, 0)
    status, output = finish(start("run_pretrain.py", [*command, "--num_workers", "2"]))
    assert status == 0 and "resumed from" in output, output
    lines = run(data, tmp_path / "whole", *flags)
    assert_equal_weights(weights(out), weights(tmp_path / "whole"))
    for name in ("train_loss", "train_accuracy", "train_face_swap_failed"):
        assert [line[name] for line in log_lines(out)] == [line[name] for line in lines]


@pytest.mark.parametrize(
    "flags", [IMAGES, pytest.param(CLIPS, marks=pytest.mark.slow)], ids=["images", "clips"]
)
def test_two_processes_train_like_one_with_the_same_global_batch(data, tmp_path, flags):
    flags = [*flags, *TIME, *HARD, *PROMOTE, "--lr", "1e-3", "--amp", "off"]
    status, output = finish(
        start("run_pretrain.py", argv(data, tmp_path / "two", *flags, "--batch_size", "4"), 2)
    )
    assert status == 0, output
    one = run(data, tmp_path / "one", *flags)
    two = log_lines(tmp_path / "two")
    for name in ("train_loss", "train_accuracy"):
        np.testing.assert_allclose([x[name] for x in two], [x[name] for x in one], rtol=2e-4)


def test_short_videos_are_left_out_and_listed(data, tmp_path, capsys):
    hard = ["--hard_negatives", "--hard_negative_gap", "1.4"]
    run(data, tmp_path / "run", *IMAGES, *TIME, *hard, "--max_steps", "1", "--no_save_ckpt")
    # two intervals of 0.1 s (2 frames), 35 frames and one more: 30, 33, 36 and 39 are too few
    assert "4 of 10 videos are too short" in capsys.readouterr().out
    rows = (tmp_path / "run" / "left_out.csv").read_text().splitlines()
    assert len(rows) == 5 and rows[1].endswith("clip00.mp4,30,25,40")
    with pytest.raises(ValueError, match=r"none of the 10 videos .* the longest has 57 frames"):
        run(data, tmp_path / "none", *IMAGES, "--hard_negatives", "--hard_negative_gap", "9")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--hard_negative_gap", "2"], "--hard_negative_gap belongs to --hard_negatives"),
        (["--time_interval", "1", "2"], "--time_interval belongs to --time_aug uniform"),
        (["--false_negative_weight", "1"], "belongs to --false_negatives promote"),
        ([*HARD, "--batch_size", "7"], "--batch_size 7: with --hard_negatives"),
        (["--mask_ratio", "0.5"], "--mask_ratio belong to --objective mae"),
        (["--face_swap", "1.5"], "--face_swap 1.5"),
        (["--false_negatives", "remove"], "needs weights"),
        (["--model", "resnet19"], "unknown model 'resnet19'"),
    ],
)
def test_flags_that_cannot_work_say_why(data, tmp_path, flags, text):
    with pytest.raises(ValueError, match=text):
        run(data, tmp_path / "run", *IMAGES, *flags)


def test_missing_landmarks_are_said_before_training(data, tmp_path):
    make_tiny_data(tmp_path, num_videos=7)
    with pytest.raises(ValueError, match="--part_mask: no landmarks were found"):
        run(tmp_path, tmp_path / "run", *IMAGES, *PARTS)


def test_masked_autoencoding_refuses_what_it_has_no_use_for(data, tmp_path):
    flags = ["--data_path", str(data / "pretrain.csv"), "--device", "cpu"]
    for more, text in (
        (["--time_aug", "falling"], "--time_aug belong to --objective contrastive"),
        (["--model", "resnet18"], "resnet18 is no masked autoencoder"),
    ):
        with pytest.raises(ValueError, match=text):
            pretrain(parse_flags(pretraining_parser(), [*flags, *more]))


def test_defaults_are_the_papers():
    flags = parse_flags(pretraining_parser(), ["--objective", "contrastive", "--epochs", "7"])
    found = (flags.model, flags.batch_size, flags.lr, flags.opt, flags.weight_decay, flags.epochs)
    assert found == ("timm/resnet50", 256, 3e-4, "adam", 1e-4, 7)
    plain = parse_flags(pretraining_parser(), [])
    assert (plain.objective, plain.lr, plain.opt) == ("mae", 1.5e-4, "adamw")


def test_dry_run_tells_pairs_and_views(data, tmp_path, capsys):
    flags = [*IMAGES, *TIME, *HARD, *SWAP, "--update_freq", "2", "--dry_run"]
    pretrain(parse_flags(pretraining_parser(), argv(data, tmp_path / "run", *flags)))
    text = capsys.readouterr().out
    for part in ("views 0.1 to 0.3 s apart, falling probability; two pairs per video at least 0.3",
                 "16 views at temperature 0.07; accumulated batches are not negatives",
                 "16 samples of 2 views", "FaceSwap 0.8", "2 per epoch"):  # fmt: skip
        assert part in text, part
    assert not (tmp_path / "run").exists()


def test_backbone_goes_on_to_probe_and_finetuning(data, tmp_path):
    run(data, tmp_path / "pre", *IMAGES, *TIME)
    path = tmp_path / "pre" / checkpoint.LAST
    fold = ["--data_path", str(data / "fold"), "--nb_classes", "2", "--device", "cpu",
            "--num_workers", "0"]  # fmt: skip
    content = run_probe(path, parse_flags(finetuning_parser(), fold), neighbours=2)
    assert 0 <= content["features"]["feature"]["linear"]["uar"] <= 1
    metrics = finetune(
        parse_flags(
            finetuning_parser(),
            [*fold, "--model", "test_resnet", "--input_size", "32", "--num_frames", "2",
             "--finetune", str(path), "--output_dir", str(tmp_path / "fine"), "--epochs", "1",
             "--batch_size", "4", "--no_report", "--seed", "1"],
        )
    )  # fmt: skip
    assert metrics["num_videos"] == 5
    config = json.loads((tmp_path / "fine" / "config.json").read_text())["resolved"]["model"]
    assert config["name"] == "timm/test_resnet" and config["num_frames"] == 2
    again = finetune(
        parse_flags(
            finetuning_parser(),
            [*fold, "--eval", "--output_dir", str(tmp_path / "fine"), "--no_report"],
        )
    )
    assert again["confusion_matrix"] == metrics["confusion_matrix"]


def test_views_are_drawn_as_training_sees_them(data, tmp_path):
    flags = [*IMAGES, *TIME, *HARD, *SWAP, "--max_steps", "1", "--no_save_ckpt"]
    run(data, tmp_path / "run", *flags, "--visualize", "2")
    picture = cv2.imread(str(tmp_path / "run" / "views.png"))
    height, width = picture.shape[:2]
    assert width > 1.5 * height and picture.std() > 10  # four views in two rows
