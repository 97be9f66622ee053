"""Every benchmark runs in a minimal setting, its JSON is plausible, the baseline computes ours."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from benchmarks import baseline, common, data, end_to_end, losses, steps, train_step
from svfap import models
from svfap.datasets.augment import transforms
from svfap.datasets.augment.masking import Masking
from svfap.engine.pretext.objectives import MaskedReconstruction
from svfap.engine.runtime import plan

CPU = torch.device("cpu")
TINY = ["--model", "svfap_tiny_patch8_64", "--device", "cpu", "--threads", "1"]


@pytest.fixture(autouse=True)
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def result(module, tmp_path, *argv):
    path = tmp_path / "result.json"
    module.main([*argv, "--output", str(path)])
    content = json.loads(path.read_text())
    assert content["machine"]["torch"] == torch.__version__ and content["machine"]["commit"]
    return content


@pytest.mark.parametrize("name", ["svfap_tiny_patch8_64", "videomae_tiny_patch8_64"])
def test_the_baseline_computes_what_ours_does(name):
    model = models.create_model(name, num_classes=7).eval()
    model.head.weight.data.mul_(1000)
    clip = torch.randn(2, 3, 16, 64, 64)
    torch.testing.assert_close(baseline.PlainClassifier(model).eval()(clip), model(clip))

    model = models.create_model(f"pretrain_{name}").eval()
    clips = steps.uint8_clips(model, 2)
    mask, visible = steps.masks(model, 2, 0.75)
    objective = MaskedReconstruction(tubelet=model.tubelet, num_visible=visible)
    ours = objective.compute(model, autocast=nullcontext, clip=clips, mask=mask)
    clip = transforms.normalize(transforms.to_float(clips))
    plain = baseline.pretraining_loss(baseline.PlainAutoencoder(model), clip, mask, model.tubelet)
    torch.testing.assert_close(plain, ours)


def test_train_step(tmp_path):
    names = ["svfap_tiny_patch8_64", "maedfer_tiny_patch8_64"]
    argv = ["--model", *names, "--device", "cpu", "--threads", "1", "--batch_size", "1",
            "--repeats", "1"]  # fmt: skip
    content = result(train_step, tmp_path, *argv)
    assert [(row["stage"], row["model"], row["variant"]) for row in content["rows"]] == [
        (stage, name, variant)
        for stage in steps.STAGES for name in names for variant in ("baseline", "ours")
        if (name, variant) != (names[1], "baseline")
    ]  # fmt: skip
    ceiling = content["ceiling_tflops"]
    for row in content["rows"]:
        assert row["ms_per_step"] > 0 and row["peak_gib"] > 0.05
        assert row["launches"] is None
        share = row["tflops"] / ceiling[row["precision"]]
        assert share > 0 and row["share_of_ceiling"] == pytest.approx(share)
        model = steps.make_model(row["model"], row["stage"])
        if row["variant"] == "ours":
            count = sum(p.numel() for p in model.parameters())
            assert row["parameters_m"] * 1e6 == pytest.approx(count)
    model, row = steps.make_model(names[1], "finetune"), content["rows"][5]
    cost = plan.clip_cost(model).multiply_adds
    assert row["multiply_adds_g"] == pytest.approx(cost / 1e9)
    assert row["tflops"] * row["ms_per_step"] * 1e9 == pytest.approx(
        steps.step_flop(model, "finetune", 1, None)
    )


def test_masks_of_the_benchmarks_suit_the_encoder():
    model = steps.make_model("maedfer_tiny_patch8_64", "pretrain")
    mask, visible = steps.masks(model, 3, 0.9)
    model.encoder.check_mask(mask)
    assert (~mask).sum(1).tolist() == [visible] * 3


def test_step_formulas():
    """SVFAP-B: 24.7 and 87.1 GFLOP forward, as the formulas of the blocks give."""
    pretrain = models.create_model("pretrain_svfap_base_patch16_160")
    finetune = models.create_model("svfap_base_patch16_160")
    assert steps.step_flop(pretrain, "pretrain", 1, 80) / 3e9 == pytest.approx(24.7, rel=0.01)
    assert steps.step_flop(finetune, "evaluate", 1, None) / 1e9 == pytest.approx(87.1, rel=0.01)


def test_data(tmp_path):
    argv = ["--num_videos", "1", "--video_frames", "16", "--repeats", "1"]
    content = result(data, tmp_path, *argv, "--folder", str(tmp_path / "samples"))
    rows = {row["source"]: row for row in content["rows"]}
    assert len(rows) == 11 and content["clock"] == "cpu"
    assert all(row["cpu_ms_per_clip"] > 0 for row in rows.values())
    assert rows["store, raw face window"]["kib_per_video"] == 16 * 160 * 160 * 3 / 1024
    assert rows["store, jpg files as they are"]["kib_per_video"] == pytest.approx(
        rows["jpg folder"]["kib_per_video"]
    )
    assert content["parts"][0]["part"] == "RandAugment"


def test_end_to_end(tmp_path):
    argv = ["--batch_size", "1", "--steps", "1", "--num_videos", "1", "--video_frames", "5"]
    argv += ["--repeats", "2"]
    content = result(end_to_end, tmp_path, *TINY, *argv, "--num_workers", "0")
    assert [row["case"] for row in content["rows"]] == [
        "baseline, mp4", "mp4", "store, jpeg q90", "batch in memory"
    ]  # fmt: skip
    for row in content["rows"]:
        assert row["clips_per_second"] > 0 and 0 <= row["device_waits"] <= 1
        assert row["spread"] >= 0


def test_losses_agree(tmp_path):
    argv = ["--steps", "4", "--batch_size", "2", "--num_clips", "3"]
    content = result(losses, tmp_path, *TINY, *argv, "--amp", "off")
    assert content["rows"][0]["largest_relative_difference"] < 1e-3
    assert len(content["losses"]["ours"]) == 4


def test_tables():
    assert common.markdown([{"a": 1.23456, "b": None}]).splitlines() == [
        "| a    | b            |", "| ---- | ------------ |", "| 1.23 | not measured |"
    ]  # fmt: skip
    timing = common.measure(lambda: sum(range(1000)), repeats=3)
    assert len(timing.wall) == len(timing.cpu) == 3 and timing.median("wall") > 0


def test_a_part_of_the_masked_tokens_can_be_decoded():
    """Another part for other draws, the same for the same."""
    model = models.create_model("pretrain_svfap_tiny_patch8_64")
    mask, visible = steps.masks(model, 3, 0.75)
    batch = {"clip": steps.uint8_clips(model, 3), "mask": mask}
    objective = MaskedReconstruction(tubelet=model.tubelet, num_visible=visible)
    one, same, other = (
        Masking.part_of(mask[0].numpy(), 0.5, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other) and len(one) == 192
    rows = [Masking.part_of(row.numpy(), 0.5, np.random.default_rng(0)) for row in mask]
    batch["predicted"] = part = torch.from_numpy(np.stack(rows))
    for chosen, row in zip(part, mask):
        assert row[chosen].all() and (chosen.diff() > 0).all()
    loss = objective.compute(model, autocast=nullcontext, **objective.prepare(batch))
    prediction = model(
        transforms.normalize(transforms.to_float(batch["clip"])), mask, predicted=part
    )
    targets = objective.targets(transforms.to_float(batch["clip"]), part)
    torch.testing.assert_close(loss, objective.loss(prediction, targets))
    loss.backward()
    assert model.encoder.blocks[0].mlp.fc1.weight.grad.abs().sum() > 0
