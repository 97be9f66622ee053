"""Every recipe issues the commands that golden/recipes.json holds, and these build the models.

The commands are those of the scripts per model and data set that were here up to commit 117f96a.
"""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from svfap.engine import build
from tests.conftest import GOLDEN
from tests.test_recipes import ROOT, Stub, parse

RECIPES = json.loads((GOLDEN / "recipes.json").read_text())
TABLE = (ROOT / "scripts/datasets.sh").read_text()
DATA_SETS = re.search(r"DATASETS=\((.*?)\)", TABLE, re.DOTALL)[1].split()
MODELS = {"svfap": 77.64, "maedfer": 84.9, "videomae": 86.2}  # million parameters
INPUTS = ("--data_path", "--finetune", "--resume", "--pairs", "")


def flags_of(recipe: str) -> dict[str, str]:
    """A recipe's flags with their values, of the first fold."""
    recorded = RECIPES[recipe]
    base = flags_of(recorded["like"]) if "like" in recorded else {}
    merged = base | {name: value for name, value in recorded.items() if name != "like"}
    return {name: value for name, value in merged.items() if value is not None}


def with_names(call: list[str]) -> dict[str, str]:
    """A call in the same form: the last value of every flag."""
    start = next((n for n, word in enumerate(call) if re.match(r"run_\w+\.py", word)), 1) + 1
    flags, name = {"launcher": call[:start]}, ""
    for word in call[start:]:
        if re.match(r"--(\w|$)", word):
            name = word
            flags[name] = []
        else:
            flags.setdefault(name, []).append(word)
    return {name: " ".join(words) for name, words in flags.items()}


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """The scripts in a folder of their own, where all that recipes look for by default exists."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for recipe in RECIPES:
        flags = flags_of(recipe)
        for fold in flags.get("folds", "-").split():
            for path in (root / flags[name].format(fold=fold) for name in INPUTS if name in flags):
                path = path if path.suffix else path / "train.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    return root


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_issue_the_commands_that_they_always_did(tmp_path, copied, recipe):
    stub, expected = Stub(tmp_path), flags_of(recipe)
    stub.variables = {name: stub.variables[name] for name in ("PYTHON", "STUB_LOG")}
    *variables, stage, model, data_set = [*recipe.split(), *[""] * ("pretrain" in recipe)]
    stub.root = copied
    stub.run(f"scripts/{stage}.sh", model, *filter(None, [data_set]),
             **dict(variable.split("=") for variable in variables))  # fmt: skip
    calls = stub.runs(with_launcher=True) or stub.calls()
    folds = expected.pop("folds", "-").split()
    assert len(calls) == len(folds)
    for fold, call in zip(folds, calls):
        wanted = {name: value.replace("{fold}", fold) for name, value in expected.items()}
        found = with_names(call)
        if stage == "evaluate":  # it writes TensorBoard events nowhere
            assert found.pop("--log_dir") == found["--output_dir"]
        assert found == wanted


def test_all_models_and_data_sets_are_among_them():
    asked = {tuple(recipe.split()) for recipe in RECIPES}
    assert len(DATA_SETS) == 13
    for model in MODELS:
        assert ("pretrain", f"{model}_base") in asked
        assert all(("finetune", f"{model}_base", name) in asked for name in DATA_SETS)


@pytest.mark.parametrize("name", MODELS)
def test_recipes_build_the_published_models(tmp_path, name):
    stub = Stub(tmp_path)
    stub.run("scripts/finetune.sh", f"{name}_base", "dfew", FOLDS="1")
    with torch.device("meta"):
        model = build.create_model(parse(stub.runs()[0]))
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(MODELS[name], rel=1e-3)


@pytest.mark.parametrize("name", DATA_SETS)
def test_recipes_say_which_command_makes_the_data(tmp_path, name):
    stub = Stub(tmp_path)
    output = stub.run("scripts/finetune.sh", "svfap_base", name, status=1, DATA_DIR="nowhere")
    assert f"nowhere does not exist; make it: python -m preprocess.{name} " in output
    output = stub.run("scripts/probe.sh", "sslfer_all", name, status=1, DATA_DIR="nowhere")
    assert f"nowhere/train.csv does not exist; make it: python -m preprocess.{name} " in output
    assert stub.calls() == []


def test_comparison_gives_every_row_equally_many_steps(tmp_path):
    stub = Stub(tmp_path)
    small = {"SEEDS": "3", "STEPS": "10", "JOBS": "1", "BATCH": "8", "NUM_CLIPS": "12"}
    small["ROWS"] = "untrained simclr timeaug timeaug_hardneg timeaug_faceswap timeaug_maskfn all"
    stub.run("scripts/synthetic/compare_sslfer.sh", status=1, **small)  # no table is written
    calls = [parse(call) for call in stub.runs()]
    found = {os.path.basename(os.path.dirname(flags.output_dir)): flags for flags in calls}
    own = {"untrained": {}, "simclr": {}, "timeaug": {"time_aug"},
           "timeaug_hardneg": {"time_aug", "hard_negatives"},
           "timeaug_faceswap": {"time_aug", "face_swap"},
           "timeaug_maskfn": {"time_aug", "false_negatives"},
           "all": {"time_aug", "hard_negatives", "face_swap", "false_negatives"}}  # fmt: skip
    off = {"time_aug": "none", "hard_negatives": False, "face_swap": 0.0, "false_negatives": "none"}
    assert list(found) == list(own)
    for name, flags in found.items():
        assert {key for key in off if getattr(flags, key) != off[key]} == {*own[name]}
        steps = 1 if name == "untrained" else 10
        assert (flags.max_steps, flags.batch_size, flags.seed) == (steps, 8, 3)
        # an epoch of 12 clips has 2 steps of 8 pairs, with hard negatives 3 of 4 clips
        if name != "untrained":
            assert flags.epochs == (4 if flags.hard_negatives else 5)
    modules = [call[1] for call in stub.calls() if call[0] == "-m"]
    assert modules.count("preprocess.synthetic") == 2
    assert modules.count("engine.probe_table") == 2
