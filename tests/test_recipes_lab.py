"""Recipes of the laboratory, dimension and image data sets, run with a stub in place of python."""

from pathlib import Path

import pytest

from svfap.datasets.catalog import get_spec
from tests.test_recipes import Stub, parse

RECIPES = {
    # name: (data set, folds, TARGET)
    "cremad": ("CREMA-D", 5, None),
    "ravdess": ("RAVDESS", 6, None),
    "enterface": ("eNTERFACE05", 5, None),
    "werewolf_xl": ("Werewolf-XL", 5, None),
    "avcaffe": ("AVCAffe", 1, "both"),
    "chalearn": ("ChaLearn", 1, None),
    "affectnet": ("custom", 1, "expression"),
    "fer2013": ("FER2013", 1, None),
    "rafdb": ("RAF-DB", 1, None),
    "custom": ("custom", 1, None),
}
REGRESSION = ("werewolf_xl", "chalearn")
IMAGES = ("affectnet", "fer2013", "rafdb")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_parse_and_run_every_fold(tmp_path, name):
    data_set, num_folds, _ = RECIPES[name]
    stub = Stub(tmp_path)
    (tmp_path / "data" / "split06").mkdir()
    output = stub.run(f"scripts/{name}/finetune_svfap_base.sh")
    calls = [parse(call) for call in stub.runs()]
    assert len(calls) == num_folds
    assert "error" not in output
    for fold, flags in enumerate(calls, start=1):
        spec = get_spec(data_set)
        assert flags.data_set == data_set
        assert flags.nb_classes == (spec.num_classes if spec.class_names else None)
        assert flags.sampling_rate == (1 if name in IMAGES else spec.sampling_rate)
        assert (flags.epochs, flags.lr, flags.batch_size, flags.num_frames) == (100, 1e-3, 16, 16)
        assert (flags.test_num_segment, flags.test_num_crop) == (2, 2)
        assert flags.mixup == (0 if name in REGRESSION else 0.8)
        assert flags.head_activation_func == ("sigmoid" if name == "chalearn" else None)
        if num_folds > 1:
            assert Path(flags.data_path).name == f"split{fold:02d}"
    assert stub.calls()[-1][:2] == ["-m", "engine.summarize"]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_say_which_command_makes_the_data(tmp_path, name):
    target = RECIPES[name][2]
    stub = Stub(tmp_path)
    nothing = str(tmp_path / "nothing")
    output = stub.run(f"scripts/{name}/finetune_svfap_base.sh", status=1, DATA_DIR=nothing)
    assert f"python -m preprocess.{name} " in output
    assert stub.runs() == []
    del stub.variables["DATA_DIR"]
    output = stub.run(f"scripts/{name}/finetune_svfap_base.sh", status=1)
    folder = f"saved/data/{'mine' if name == 'custom' else name}"
    assert f"{folder}/{target}" in output if target else folder in output
