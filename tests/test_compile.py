"""`--compile`: what reaches torch.compile, and how often a run compiles."""

import einops
import pytest
import torch

from benchmarks import steps, train_step
from engine.config import finetuning_parser, pretraining_parser
from engine.parsing import parse_flags
from tests.test_runs import finetune_argv, pretrain_argv, run_finetuning, run_pretraining, weights
from tests.tiny_data import make_tiny_data

SHALLOW = ["--stage_depths", "1", "1", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_data(folder)
    return folder


@pytest.fixture
def compiled(monkeypatch):
    """Options that torch.compile was called with, and the graphs it captured, run as they are."""
    options, graphs, whole = [], [], torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def compile_(function, **given):
        options.append(given)
        return whole(function, backend=backend, dynamic=given["dynamic"])

    monkeypatch.setattr(torch, "compile", compile_)
    torch.compiler.reset()
    einops._backends._type2backend.clear()  # as in a process that has just started
    yield options, graphs
    torch.compiler.reset()


def test_each_clip_length_is_compiled_once(data, tmp_path, compiled):
    """In the mode that the flags name, and not again in a second step; the run stays as it is."""
    options, graphs = compiled
    phases = ["--short_clip_frames", "8", "--short_clip_epochs", "1", *SHALLOW]
    more = ["--compile", "--compile_mode", "reduce-overhead"]
    run_pretraining(pretrain_argv(data, tmp_path / "compiled", *phases, *more))
    assert options == [{"mode": "reduce-overhead", "dynamic": False}]
    assert len(graphs) == 2
    run_pretraining(pretrain_argv(data, tmp_path / "eager", *phases))
    one, other = weights(tmp_path / "compiled"), weights(tmp_path / "eager")
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6, msg=name)


def test_fine_tuning_and_the_benchmark_pass_the_mode_on(data, tmp_path, compiled):
    options, graphs = compiled
    more = [*SHALLOW, "--epochs", "1", "--max_steps", "1", "--compile", "--compile_mode"]
    run_finetuning(finetune_argv(data, tmp_path / "run", *more, "max-autotune"))
    assert options == [{"mode": "max-autotune", "dynamic": False}] and len(graphs) == 1
    flags = train_step.build_parser().parse_args(["--compile", "--compile_mode", "reduce-overhead"])
    steps.our_work(
        "svfap_tiny_patch8_64", "pretrain", batch=1, device=torch.device("cpu"),
        compile_model=flags.compile, compile_mode=flags.compile_mode,
    )  # fmt: skip
    assert options[1:] == [{"mode": "reduce-overhead", "dynamic": False}]


@pytest.mark.parametrize("parser", [pretraining_parser, finetuning_parser])
def test_modes_that_cannot_work_are_refused(parser):
    with pytest.raises(ValueError, match="--compile_mode reduce-overhead needs --compile"):
        parse_flags(parser(), ["--compile_mode", "reduce-overhead"])
    graphs = ["--compile", "--compile_mode", "max-autotune", "--update_freq", "2"]
    with pytest.raises(ValueError, match="--update_freq 2: gradients .* --compile_mode default or"):
        parse_flags(parser(), graphs)
    graphs[2] = "max-autotune-no-cudagraphs"
    assert parse_flags(parser(), graphs).compile_mode == graphs[2]
