"""Runs that commit d8b801c began: they load, go on, are evaluated, and end as they did there.

golden/begun_at_d8b801c.tar.xz holds, of a tiny SVFAP on the videos of `tiny_data`, both stages
after the first of two epochs, the scores of that state, and sums over each weight after the second.
How a CPU rounds depends on its kind and number of threads, so numbers are compared within 1e-6; on
the processor and with the one thread that made them pre-training was bitwise the same.
"""

import csv
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from svfap.engine import build
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.identity import identify
from svfap.engine.pretraining import pretrain
from tests.conftest import GOLDEN
from tests.tiny_data import make_tiny_data

SHARED = ["--input_size", "8", "--patch_size", "4", "--num_frames", "8", "--stage_depths", "1", "1",
          "1", "--num_bottleneck_tokens", "2", "--sampling_rate", "2", "--batch_size", "4",
          "--epochs", "2", "--warmup_epochs", "1", "--lr", "1", "--num_workers", "0", "--device",
          "cpu", "--seed", "3", "--no_report", "--save_ckpt_freq", "1"]  # fmt: skip
PRETRAIN = [*SHARED, "--model", "pretrain_svfap_tiny_patch8_64", "--opt", "sgd", "--decoder_depth",
            "1", "--mask_ratio", "0.5", "--visualize", "0", "--data_path",
            "data/pretrain.csv"]  # fmt: skip
TUNE = [*SHARED, "--model", "svfap_tiny_patch8_64", "--nb_classes", "2", "--init_scale", "1",
        "--data_path", "data/fold", "--finetune", "pretrained/checkpoint-0.pth"]  # fmt: skip


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Path:
    """The runs, in the folder that they were begun in; the model has sizes that no flag gives."""
    make_tiny_data(tmp_path / "data")
    for path in tmp_path.glob("data/**/*.csv"):
        path.write_text(path.read_text().replace(f"{tmp_path}/", ""))
    with tarfile.open(GOLDEN / "begun_at_d8b801c.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    overrides = build.model_overrides

    def small(flags):
        sizes = {"embed_dim": 8, "num_heads": 2}
        if flags.model.startswith("pretrain"):
            sizes |= {"decoder_embed_dim": 8, "decoder_num_heads": 2}
        return overrides(flags) | sizes

    monkeypatch.setattr(build, "model_overrides", small)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_as_recorded(stage: str, path: str, *, within: float) -> None:
    expected = json.loads(Path("expected.json").read_text())[stage]
    weights = torch.load(path, weights_only=True)["model"]
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        found = [value.double().sum().item(), value.double().square().sum().item()]
        np.testing.assert_allclose(found, expected[name], rtol=within, atol=within, err_msg=name)


def test_pretraining_goes_on_and_begun_anew_it_comes_out_the_same(begun):
    pretrain(parse_flags(pretraining_parser(), [*PRETRAIN, "--output_dir", "anew"]))
    assert_as_recorded("pretrained", "anew/checkpoint-last.pth", within=1e-6)
    os.rename("pretrained/checkpoint-0.pth", "pretrained/checkpoint-last.pth")
    pretrain(parse_flags(pretraining_parser(), [*PRETRAIN, "--output_dir", "pretrained"]))
    assert_as_recorded("pretrained", "pretrained/checkpoint-last.pth", within=1e-6)
    assert len(Path("pretrained/log.jsonl").read_text().splitlines()) == 2


def test_fine_tuning_is_known_evaluated_and_goes_on(begun):
    identity = identify("tuned/checkpoint-last.pth")
    assert identity.config["embed_dim"] == 8 and identity.labels.class_names == ("0", "1")
    argv = ["--data_path", "data/fold", "--device", "cpu", "--num_workers", "0", "--no_report"]
    finetune(parse_flags(finetuning_parser(), [*argv, "--eval", "--output_dir", "tuned"]))
    rows, recorded = (
        list(csv.DictReader(Path(name).read_text().splitlines()))
        for name in ("tuned/pred.csv", "pred.csv")
    )
    assert [row["id"] for row in rows] == [row["id"] for row in recorded]
    for name in ("prob_0", "prob_1"):
        found, expected = ([float(row[name]) for row in table] for table in (rows, recorded))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    finetune(parse_flags(finetuning_parser(), [*TUNE, "--output_dir", "tuned"]))
    # rounded otherwise since a step is one function of tensors (fcff194), the same from there on
    assert_as_recorded("tuned", "tuned/checkpoint-last.pth", within=1e-2)
