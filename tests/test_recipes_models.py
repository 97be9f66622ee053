"""Recipes of MAE-DFER and VideoMAE: the published settings, and otherwise those of SVFAP's."""

import pytest
import torch

from svfap.engine import build
from tests.test_recipes import ROOT, Stub, parse

DATA_SETS = sorted(path.parent.name for path in ROOT.glob("scripts/*/data.sh"))
OWN = {
    "svfap": {"stage_depths": [12, 6, 3], "temporal_kernel_size": 2, "num_bottleneck_tokens": [8]},
    "maedfer": {"attn_type": "local_global", "depth": 16, "lg_region_size": [2, 5, 10]},
    "videomae": {"attn_type": "joint"},
}
PARAMETERS = {"svfap": 77.64, "maedfer": 84.9, "videomae": 86.2}
PUBLISHED = ("dfew", "ferv39k", "mafw")


def test_every_data_set_has_a_recipe_of_every_model():
    assert len(DATA_SETS) == 13
    for name in DATA_SETS:
        recipes = {path.name for path in ROOT.glob(f"scripts/{name}/*_base.sh")}
        stages = ("finetune", "evaluate") if name in PUBLISHED else ("finetune",)
        assert recipes == {f"{stage}_{model}_base.sh" for stage in stages for model in OWN}


@pytest.mark.parametrize("name", OWN)
def test_pretraining_recipes(tmp_path, name):
    stub = Stub(tmp_path)
    stub.run(f"scripts/voxceleb2/pretrain_{name}_base.sh")
    (call,) = stub.runs()
    flags = parse(call)
    expected = OWN[name] | {
        "model": f"pretrain_{name}_base_patch16_160", "mask_ratio": 0.9, "epochs": 100, "lr": 3e-4,
        "batch_size": 64 if name == "svfap" else 40, "opt_betas": [0.9, 0.95], "decoder_depth": 4,
        "mask_type": "part_window" if name == "maedfer" else "tube", "sampling_rate": 4,
        "part_win_size": [2, 5, 10] if name == "maedfer" else None, "num_frames": 16,
        "use_frame_diff_as_target": name == "maedfer", "target_diff_weight": None,
        "warmup_epochs": 5, "frame_diff_group_size": 2,
    }  # fmt: skip
    assert {key: getattr(flags, key) for key in expected} == expected


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_finetuning_recipes_differ_in_the_model_only(tmp_path, data_set):
    found, stub = {}, Stub(tmp_path)
    for model in OWN:
        stub.variables["OUTPUT_DIR"] = str(tmp_path / model)
        stub.run(f"scripts/{data_set}/finetune_{model}_base.sh", FOLDS="1")
        (call,) = stub.runs()
        found[model] = vars(parse(call))
        stub.log.unlink()
    batch = 30 if data_set == "ferv39k" else 24
    names = {key for own in OWN.values() for key in own}
    names |= {"model", "batch_size", "lg_classify_token_type"}
    for model in OWN:
        expected = dict.fromkeys(names) | OWN[model]
        expected["model"] = f"{model}_base_patch16_160"
        expected["batch_size"] = 16 if model == "svfap" else batch
        expected["lg_classify_token_type"] = "region" if model == "maedfer" else None
        assert {key: found[model][key] for key in names} == expected
        for key in set(found[model]) - names - {"explicit", "output_dir", "log_dir"}:
            assert found[model][key] == found["svfap"][key], key


@pytest.mark.parametrize("name", OWN)
def test_recipes_build_the_published_models(tmp_path, name):
    stub = Stub(tmp_path)
    stub.run(f"scripts/dfew/finetune_{name}_base.sh", FOLDS="1")
    with torch.device("meta"):
        model = build.create_model(parse(stub.runs()[0]))
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS[name], rel=1e-3)


def test_finetuning_starts_from_the_pretraining_recipes_run(tmp_path):
    stub = Stub(tmp_path)
    stub.run("scripts/voxceleb2/pretrain_maedfer_base.sh", OUTPUT_DIR="")
    run_dir = parse(stub.runs()[0]).output_dir
    output = stub.run("scripts/mafw/finetune_maedfer_base.sh", status=1, PRETRAINED="")
    assert f"error: {run_dir}/checkpoint-49.pth does not exist; pre-train first" in output
