"""Lines of `--dry_run` that both stages share, with a cost that is easy to multiply."""

from types import SimpleNamespace

import pytest
import torch

from svfap.engine.assembly import warn_of_memory
from svfap.engine.compute.precision import Precision
from svfap.engine.runtime import plan

COST = plan.Cost(parameters=10**6, multiply_adds=10**9)
MODEL = SimpleNamespace(num_frames=16, img_size=160, num_tokens=800, config={"name": "some"})


def rows(views=1, **flags):
    each = max([1, *flags.values()])
    precision = Precision("cpu", None)
    return plan.model_rows(
        MODEL, COST, precision, sampling_rate=4, global_batch=6,
        clips=2 * each * views, clips_per_sample=each, views=views, memory=3 * 2**30,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "clips", "batch"),
    [
        ({"num_samples": 1}, 2, "6 clips"),
        ({"num_samples": 4}, 8, "6 videos of 4 clips"),
        ({"num_sample": 3, "model_ema": False}, 6, "6 videos of 3 clips"),
        ({"num_samples": 1, "views": 2}, 4, "6 samples of 2 views"),
    ],
)
def test_memory_is_of_all_clips_of_a_batch(options, clips, batch):
    found = rows(**options)
    assert found["expected memory"] == f"3.0 GiB per process for {clips} clips"
    assert found["global batch"] == batch


def test_more_memory_than_there_is_is_warned_of(caplog):
    cpu = torch.device("cpu")
    warn_of_memory(2210 * 2**30, cpu)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "2,210.0 GiB is more memory than" in record.message
    assert "smaller --batch_size" in record.message
    for fits in (2**20, None):
        warn_of_memory(fits, cpu)
    assert len(caplog.records) == 1
