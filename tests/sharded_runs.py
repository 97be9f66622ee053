"""What tests/test_sharding.py starts in two processes: `-m tests.sharded_runs FILE.json`."""

import copy
import json
import sys
from functools import partial
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from svfap.engine.compute.optim import WeightAverage
from svfap.engine.compute.precision import Precision
from svfap.engine.compute.sharding import Sharded, blocks_of
from svfap.engine.compute.step import Step
from svfap.engine.runtime import distributed
from svfap.models import create_model
from tests.test_runs import run_finetuning, run_pretraining

SIZES = {"img_size": 32, "stage_depths": [1, 2, 2], "num_bottleneck_tokens": 2, "num_frames": 4,
         "temporal_kernel_size": 1}  # fmt: skip


def numel(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)


def step(model, clip):
    model(clip).square().sum().backward()


def check_parts() -> None:
    """Weights, gradients, moments and their average are parts, together the whole."""
    workers = distributed.start("cpu")
    torch.manual_seed(workers.rank)  # the main process's weights count
    plain = create_model("svfap_tiny_patch8_64", num_classes=3, **SIZES)
    shapes = {name: value.shape for name, value in plain.state_dict().items()}
    mine = copy.deepcopy(plain)
    total = numel(plain.parameters())
    assert len(list(blocks_of(plain))) == 5 + 2 + 2  # blocks and both kinds of down-samplers
    parallel = Sharded(Step(plain, None, Precision("cpu", None)), workers)
    average = parallel.create_average(0.5)
    adamw = partial(torch.optim.AdamW, lr=0.1, eps=1e-3, weight_decay=0)  # eps: no luck of rounding
    optimizer = adamw(plain.parameters())
    whole = parallel.whole(plain)
    assert type(whole) is type(mine) and not any(isinstance(p, DTensor) for p in whole.parameters())
    same = all(torch.equal(a, b) for a, b in zip(whole.parameters(), mine.parameters()))
    assert same == workers.is_main

    torch.manual_seed(0)
    clip = torch.randn(2, 3, 4, 32, 32)
    optimizer_of_whole = adamw(whole.parameters())
    average_of_whole = WeightAverage(whole, 0.5)
    for _ in range(3):
        step(whole, clip)
        step(plain, clip)
        norm = torch.nn.utils.clip_grad_norm_(whole.parameters(), 0.1)
        torch.testing.assert_close(parallel.clip_gradients(0.1), norm)
        optimizer_of_whole.step()
        optimizer.step()
        average_of_whole.update_parameters(whole)
        parallel.update_average(average)
    for held, expected in ((plain, whole), (average.module, average_of_whole.module)):
        found = parallel.whole(held).state_dict()
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)

    # back and forth through a file's content
    states = [parallel.whole_state(plain.state_dict()), optimizer.state_dict()]
    states[1] = parallel.whole_state(states[1])
    assert all(value is None for value in states[0].values()) != workers.is_main
    torch.distributed.broadcast_object_list(states)
    assert {name: value.shape for name, value in states[0].items()} == shapes
    before = [p.to_local().clone() for p in plain.parameters()]
    moments = [optimizer.state[p]["exp_avg"].to_local().clone() for p in plain.parameters()]
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    parallel.load_model(plain, states[0])
    parallel.load_optimizer(optimizer, states[1])
    for p, weights, moment in zip(plain.parameters(), before, moments):
        assert torch.equal(p.to_local(), weights)
        assert torch.equal(optimizer.state[p]["exp_avg"].to_local(), moment)

    held = {
        "weights": [p.to_local() for p in plain.parameters()],
        "gradients": [p.grad.to_local() for p in plain.parameters()],
        "moments": [optimizer.state[p]["exp_avg_sq"].to_local() for p in plain.parameters()],
        "average": [p.to_local() for p in average.module.parameters()],
    }
    for kind, parts in held.items():
        for part, parameter in zip(parts, plain.parameters()):
            first, *others = parameter.shape
            rows = min(-(-first // 2), first - workers.rank * -(-first // 2))
            assert tuple(part.shape) == (rows, *others), (kind, part.shape, parameter.shape)
            if kind == "moments":  # no view of a whole tensor
                assert part.untyped_storage().nbytes() == 4 * part.numel()
        counts = workers.gather(numel(parts))
        assert sum(counts) == total and max(counts) < 0.51 * total, (kind, counts, total)


def main(path: str) -> None:
    check_parts()
    for argv in json.loads(Path(path).read_text()):
        (run_pretraining if argv[1].startswith("pretrain_") else run_finetuning)(argv)
    distributed.stop()


if __name__ == "__main__":
    main(sys.argv[1])
