"""An encoder, an objective and a data set that nobody has heard of: one file and a line each.

(Labels and a task: tests/test_new_task.py.) Everything about them is in this file; each is entered
into the one table of its kind.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from svfap import models
from svfap.datasets import catalog
from svfap.datasets.augment import transforms
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.catalog import DatasetSpec
from svfap.datasets.clips import training as clips
from svfap.engine import build
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.flags.pretraining import OBJECTIVES
from svfap.engine.pretext.base import Pretext
from svfap.engine.pretraining import pretrain
from svfap.engine.runtime import checkpoint
from svfap.models import registry, sizes
from svfap.models.classifier import Classifier
from svfap.models.encoder import Encoder, EncoderOutput
from svfap.models.layers import Mlp
from svfap.preprocess.shared.labelled import Clip, Found, named_videos
from svfap.preprocess.shared.runner import Command
from tests import test_models_contract as contract
from tests.tiny_data import FINETUNE_FLAGS, make_tiny_data

# ---------------------------------------------------------------- an encoder


class Means(Encoder):
    """Every block adds to each token what a network makes of the mean of all tokens."""

    def __init__(self, *, depth: int, **sizes):
        super().__init__(**sizes)
        self.blocks = nn.ModuleList(Mlp(dim=self.embed_dim, hidden_dim=32) for _ in range(depth))

    def encode(self, tokens, indices=None):
        for block in self.blocks:
            tokens = tokens + block(tokens - tokens.mean(1, keepdim=True))
        return EncoderOutput([tokens], [self.grid[0]], summary=tokens)


class MeansClassifier(Classifier, Means):
    """The same for fine-tuning."""


NAME = "means_tiny_patch8_64"


@pytest.fixture
def means(monkeypatch):
    own = sizes._CLIP_64 | sizes._COMMON | {"embed_dim": 32, "num_heads": 1, "depth": 2}
    monkeypatch.setitem(registry.FAMILIES, "means", registry.Family(Means, MeansClassifier))
    monkeypatch.setitem(sizes.SIZES, NAME, own)
    monkeypatch.setattr(contract, "FINETUNE_NAMES", [NAME])
    monkeypatch.setattr(contract, "PRETRAIN_NAMES", [f"pretrain_{NAME}"])


@pytest.mark.parametrize("prefix", ["", "pretrain_"])
def test_a_new_encoder_keeps_the_contract(means, prefix):
    name = prefix + NAME
    assert name in models.list_models()
    contract.test_describes_itself(name)
    contract.test_config_and_state_dict_round_trip(name)
    contract.test_output_is_bitwise_deterministic_and_row_independent(name)
    contract.test_every_parameter_gets_a_gradient(name)
    contract.test_layer_groups_partition_the_parameters(name)
    if prefix:
        contract.test_masked_pixels_have_no_influence(name, False)
        contract.test_all_visible_mask_equals_no_mask(name, False)
    else:
        contract.test_head_can_be_replaced(name)


# ---------------------------------------------------------------- an objective


class MeanColours(Pretext):
    """Tell the mean colours of a clip."""

    def __init__(self, flags, workers):
        self.flags, self.device = flags, workers.device
        self.model = build.create_model(flags, num_classes=3)

    def dataset(self, annotations, window):
        masking = make_masking("tube", self.model.grid, 0.5)
        return clips.PretrainClips(
            annotations=annotations, clip_frames=self.model.num_frames, stride=1, masking=masking,
            size=self.model.img_size, seed=self.flags.seed, face_window=window,
        )  # fmt: skip

    def prepare(self, batch, draws):
        return {"clip": batch["clip"].to(self.device)}

    def compute(self, model, *, autocast, clip):
        pixels = transforms.to_float(clip)
        colours = pixels.mean((2, 3, 4))
        with autocast():
            return F.mse_loss(model(transforms.normalize_(pixels)).float(), colours)

    def shapes(self, num_clips):
        size = (num_clips, self.model.num_frames, self.model.img_size, self.model.img_size, 3)
        return {"clip": torch.empty(size, dtype=torch.uint8, device="meta")}

    def plan_rows(self):
        return {"objective": "mean colours"}


def test_a_new_objective_pre_trains(means, tmp_path, monkeypatch, capsys):
    make_tiny_data(tmp_path)
    monkeypatch.setitem(OBJECTIVES, "mean_colours", f"{__name__}:MeanColours")
    argv = ["--objective", "mean_colours", "--model", NAME, "--input_size", "32", "--batch_size",
            "4", "--epochs", "1", "--max_steps", "2", "--num_workers", "0", "--device", "cpu",
            "--no_report", "--data_path", str(tmp_path / "pretrain.csv")]  # fmt: skip
    pretrain(parse_flags(pretraining_parser(), [*argv, "--output_dir", str(tmp_path / "run")]))
    assert "mean colours" in capsys.readouterr().out
    content = checkpoint.read(tmp_path / "run" / checkpoint.LAST)
    assert content["model_config"]["name"] == NAME
    [line] = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    assert 0 < line["train_loss"] < 1


# ---------------------------------------------------------------- a labelled data set

SQUARES = DatasetSpec(
    name="Squares", task="classification", class_names=("right", "down"), num_folds=2,
    sampling_rate=2, counts={"all": 10, "subjects": 5},
)  # fmt: skip


def read_layout(folder):
    """clipNN.mp4: every second one goes down; two clips per person."""
    found = Found()
    for name, path in named_videos(folder, found.problems).items():
        number = int(name.removeprefix("clip"))
        found.clips.append(Clip(path=path, label=str(number % 2), subject=str(number // 2)))
    return found


def test_a_new_data_set_is_prepared_trained_on_and_evaluated(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.SPECS, SQUARES.name, SQUARES)
    make_tiny_data(tmp_path / "official")
    command = Command(
        spec=SQUARES, name="squares", description=__doc__,
        read=lambda flags: read_layout(flags.dataset_dir),
    )  # fmt: skip
    command.main(["--dataset_dir", str(tmp_path / "official" / "videos"), "--output_dir",
                  str(tmp_path / "csvs")])  # fmt: skip
    argv = [*FINETUNE_FLAGS, "--data_set", "squares", "--epochs", "1", "--warmup_epochs", "0",
            "--data_path", str(tmp_path / "csvs" / "split01")]  # fmt: skip
    metrics = finetune(parse_flags(finetuning_parser(), argv))
    assert 0 <= metrics["uar"] <= 1 and metrics["class_names"] == ["right", "down"]
