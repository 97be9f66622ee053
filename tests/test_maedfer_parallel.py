"""MAE-DFER's released checkpoints and ablations, and all families in several processes."""

import argparse
import json

import numpy as np
import pytest
import torch

from svfap import models
from svfap.engine import build
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.results.predictions import read_predictions
from tests.conftest import ROOT
from tests.model_cases import random_clip, small_model, tube_mask
from tests.test_maedfer import FINETUNE, PRETRAIN, RELEASED, RUN, pretraining_flags
from tests.test_runs import finish, log_lines, run_finetuning, run_pretraining, start

# ---------------------------------------------------------------- released checkpoints

ATTENTION = ["q_bias", "v_bias", "q.weight", "kv.weight", "proj.weight", "proj.bias"]


def names(prefix, *ends):
    return {f"{prefix}.{end}" for end in ends}


@pytest.mark.parametrize(
    ("flags", "left_out", "added"),
    [
        ([], set(), set()),
        (["--lg_first_attn_type", "cross"], set(), names("first_attn_norm1", "weight", "bias")),
        (["--lg_third_attn_type", "self"], names("third_attn_norm1", "weight", "bias"), set()),
        (["--lg_no_second"],
         names("second_attn", *ATTENTION) | names("second_attn_norm0", "weight", "bias"), set()),
        (["--lg_no_third"],
         names("third_attn", *ATTENTION) | names("third_attn_norm0", "weight", "bias")
         | names("third_attn_norm1", "weight", "bias"), set()),
        # shared attention is saved under each of its names
        (["--lg_attn_param_sharing_first_third"], set(), set()),
        (["--lg_attn_param_sharing_all"], set(), set()),
    ],
)  # fmt: skip
def test_parameters_of_a_block_have_the_released_names(flags, left_out, added):
    plain = set.union(
        *(names(f"{part}_attn", *ATTENTION) for part in ("first", "second", "third")),
        *(names(norm, "weight", "bias") for norm in (
            "first_attn_norm0", "second_attn_norm0", "third_attn_norm0", "third_attn_norm1",
            "norm2", "mlp.fc1", "mlp.fc2")),
    )  # fmt: skip
    argv = ["--model", RELEASED, "--attn_type", "local_global", "--encoder_depth", 1, *flags]
    with torch.device("meta"):
        model = build.create_model(pretraining_flags(*argv))
    assert set(model.encoder.blocks[0].state_dict()) == (plain | added) - left_out
    count = len({id(p) for p in model.encoder.blocks[0].parameters()})
    shared = {"first_third": 1, "all": 2}.get(flags[0].split("sharing_")[-1] if flags else "", 0)
    assert count == len((plain | added) - left_out) - shared * len(ATTENTION)


@pytest.mark.parametrize(
    "ablation", [[], ["--lg_attn_param_sharing_all"], ["--lg_no_second"], ["--lg_no_third"]]
)
def test_a_released_checkpoint_loads_with_the_released_flags(tmp_path, ablation):
    """Saved as the released code saves it, its flags in a Namespace; one block of the base size."""
    shared = ["--attn_type", "local_global", "--lg_region_size", "2", "5", "10", *ablation]
    source = build.create_model(
        pretraining_flags("--model", RELEASED, "--encoder_depth", 1, *shared)
    )
    content = {"model": source.state_dict(), "epoch": 49, "scaler": {},
               "args": argparse.Namespace(model=RELEASED, lg_region_size=[2, 5, 10])}  # fmt: skip
    torch.save(content, tmp_path / "checkpoint-49.pth")
    argv = ["--model", "vit_base_dim512_no_depth_patch16_160", "--depth", "1", *shared,
            "--lg_classify_token_type", "region"]  # fmt: skip
    target = build.create_model(parse_flags(finetuning_parser(), argv), num_classes=7)
    report = models.load_weights(target, tmp_path / "checkpoint-49.pth")
    assert report.ok and not report.resized
    assert sorted(report.new) == ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]
    theirs, ours = source.encoder.state_dict(), target.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in report.loaded)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"first_attn_type": "cross"},
        {"third_attn_type": "self", "no_second": True},
        {"no_third": True, "pooled_tokens": "org"},
        {"attn_param_sharing_all": True, "region_size": [4, 2, 4]},
    ],
)
def test_ablations_are_read_off_a_checkpoint(options):
    """Names show which parts there are; the rest comes from the flags in the file."""
    model = small_model("maedfer_tiny_patch8_64", **options).eval()
    flags = {"input_size": model.img_size, "lg_region_size": tuple(model.region_size),
             "lg_classify_token_type": model.pooled_tokens}  # fmt: skip
    content = {"model": model.state_dict(), "args": argparse.Namespace(**flags)}
    config = models.guess_config(content) | {"num_heads": 2}
    again = models.create_model(**config).eval()
    models.load_weights(again, content)
    clip = random_clip(model)
    assert torch.equal(again(clip), model(clip))


def test_validation_metrics_of_the_released_flags_parse():
    for metric in ("acc1", "war", "uar", "weighted_f1", "micro_f1", "macro_f1"):
        assert parse_flags(finetuning_parser(), ["--val_metric", metric]).val_metric == metric


# ---------------------------------------------------------------- processes


@pytest.mark.parametrize("first", ["self", "cross"])
@pytest.mark.parametrize("third", ["self", "cross", None])
@pytest.mark.parametrize("second", [True, False])
def test_every_ablation_gives_every_parameter_a_gradient(first, third, second):
    """Data-parallel training waits for all of them, also for those that change nothing."""
    for sharing in ({}, {"attn_param_sharing_all": True}):
        options = {"first_attn_type": first, "third_attn_type": third or "cross", "depth": 2,
                   "no_third": third is None, "no_second": not second, **sharing}  # fmt: skip
        pretrained = small_model("pretrain_maedfer_tiny_patch8_64", **options)
        clip = random_clip(pretrained, batch=1)
        outputs = {pretrained: pretrained(clip, tube_mask(pretrained, 4, batch=1))}
        for pooled in ("region", "org", "all"):
            model = small_model("maedfer_tiny_patch8_64", pooled_tokens=pooled, **options)
            outputs[model] = model(clip)
        for model, output in outputs.items():
            output.square().sum().backward()
            assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_unused_representatives_change_nothing():
    """Without the third attention nothing reaches the tokens from the representatives."""
    model = small_model("pretrain_maedfer_tiny_patch8_64", no_third=True, first_attn_type="cross")
    clip, mask = random_clip(model), tube_mask(model, 4)
    expected = model(clip, mask)
    with torch.no_grad():
        model.encoder.lg_region_tokens.fill_(torch.nan)
    assert torch.equal(model(clip, mask), expected)


FAMILY_SIZES = {
    "svfap": ["--stage_depths", "1", "2", "2"],
    "maedfer": ["--depth", "2", "--lg_region_size", "2", "2", "4"],
    "videomae": ["--depth", "2"],
}
BOTH_STAGES = """
import json, sys
from svfap.engine.runtime.stopping import leave_at_once
from tests.test_runs import run_finetuning, run_pretraining
for argv in json.loads(sys.argv[1]):
    (run_pretraining if argv[1].startswith("pretrain_") else run_finetuning)(argv)
leave_at_once(0)
"""


def test_two_processes_run_both_stages_of_all_families(data, tmp_path):
    """With accumulation too, where each backward pass must reach every parameter."""
    runs = []
    for family, sizes in FAMILY_SIZES.items():
        common = [*sizes, *RUN, "--input_size", "32", "--batch_size", "1", "--update_freq", "2",
                  "--drop_path", "0.1"]  # fmt: skip
        folder = tmp_path / family
        runs += [
            ["--model", f"pretrain_{family}_tiny_patch8_64", *common, "--decoder_depth", "1",
             "--mask_ratio", "0.75", "--visualize", "0", "--data_path", str(data / "pretrain.csv"),
             "--output_dir", str(folder / "pretrain")],
            ["--model", f"{family}_tiny_patch8_64", *common, "--nb_classes", "2",
             "--finetune", str(folder / "pretrain" / "checkpoint-last.pth"),
             "--data_path", str(data / "fold"), "--output_dir", str(folder / "run")],
        ]  # fmt: skip
    runs[2].append("--lg_no_third")
    runs[3].append("--lg_no_third")
    program = tmp_path / "both_stages.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{BOTH_STAGES}")
    status, output = finish(start(str(program), [json.dumps(runs)], processes=2))
    assert status == 0, output
    for family in FAMILY_SIZES:
        metrics = json.loads((tmp_path / family / "run" / "metrics.json").read_text())
        assert metrics["num_videos"] == 5
        assert len(log_lines(tmp_path / family / "pretrain")) == 1


def test_two_processes_train_like_one(data, tmp_path):
    argv = [*PRETRAIN, "--data_path", str(data / "pretrain.csv"), "--epochs", "2",
            "--use_frame_diff_as_target", "--target_diff_weight", "0.3",
            "--part_apply_symmetry", "global", "--output_dir"]  # fmt: skip
    two = [*argv, str(tmp_path / "two"), "--batch_size", "2"]
    status, output = finish(start("run_pretrain.py", two, processes=2))
    assert status == 0, output
    run_pretraining([*argv, str(tmp_path / "one")])
    np.testing.assert_allclose(
        [line["train_loss"] for line in log_lines(tmp_path / "two")],
        [line["train_loss"] for line in log_lines(tmp_path / "one")],
        rtol=2e-5,
    )


@pytest.mark.slow
def test_two_processes_finetune_like_one(data, tmp_path):
    argv = [*FINETUNE, "--drop_path", "0", "--mixup", "0", "--cutmix", "0", "--epochs", "2",
            "--data_path", str(data / "fold"), "--output_dir"]  # fmt: skip
    two = [*argv, str(tmp_path / "two"), "--batch_size", "2"]
    status, output = finish(start("run_finetune.py", two, processes=2))
    assert status == 0, output
    run_finetuning([*argv, str(tmp_path / "one")])
    of_two, of_one = (log_lines(tmp_path / name) for name in ("two", "one"))
    for key in ("train_loss", "train_grad_norm", "val_loss"):
        expected = [line[key] for line in of_one]
        assert len(set(expected)) == 2  # an epoch changes them
        np.testing.assert_allclose([line[key] for line in of_two], expected, rtol=2e-5)
    two, one = (read_predictions(tmp_path / name / "pred.csv") for name in ("two", "one"))
    assert two.ids == one.ids and len(one) == 5
    np.testing.assert_allclose(two.scores, one.scores, atol=1e-5)
