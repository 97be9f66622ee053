"""What pre-training is told about itself: loss against the mean's, and the spread of features."""

import contextlib
import logging

import pytest
import torch

from svfap.engine.pretext.monitor import Monitor, spread
from svfap.engine.pretext.objectives import MaskedReconstruction
from tests.model_cases import small_model, tube_mask


def test_spread_counts_what_differs_and_in_how_many_directions():
    features = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    assert spread(features).rank == pytest.approx(4, abs=0.1)
    assert spread(features).variance == pytest.approx(1, abs=0.05)
    line = torch.linspace(-1, 1, 9)[:, None] * torch.ones(4) + 100
    assert spread(line).rank == pytest.approx(1)
    assert spread(line).variance < 1e-3
    assert spread(torch.ones(5, 3)) == (0.0, 1.0)


@pytest.mark.parametrize("normalise", [True, False])
def test_a_model_that_has_learnt_nothing_and_clips_that_are_alike_are_called_so(normalise, caplog):
    model = small_model("pretrain_svfap_tiny_patch8_64").train()
    torch.nn.init.zeros_(model.decoder.head.weight)
    mask = tube_mask(model, 4, batch=6)
    objective = MaskedReconstruction(
        tubelet=model.tubelet, num_visible=int((~mask[0]).sum()), normalise=normalise
    )
    size = (model.num_frames, model.img_size, model.img_size, 3)
    generator = torch.Generator().manual_seed(1)
    clip = torch.randint(0, 256, (1, *size), dtype=torch.uint8, generator=generator)
    monitor = Monitor(objective)
    inputs = objective.prepare({"clip": clip.expand(6, *size), "mask": mask})
    monitor.keep(inputs)
    torch.nn.init.constant_(model.decoder.head.bias, 0.0 if normalise else 0.5)  # the mean
    line = monitor.look(model, contextlib.nullcontext)
    assert model.training
    assert line["relative_loss"] == pytest.approx(1, abs=0.1)
    assert line["feature_rank"] == pytest.approx(1, abs=0.1)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            monitor.warn(line)
    assert ["hardly anything has been learnt" in r.message for r in caplog.records] == [True, False]
    assert "have collapsed" in caplog.records[1].message
