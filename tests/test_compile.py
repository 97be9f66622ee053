"""`--compile`: what reaches torch.compile, and how often a run compiles."""

from dataclasses import replace

import einops
import numpy as np
import pytest
import torch

from benchmarks import steps, train_step
from svfap import models
from svfap.engine.compute.levers import Levers, choose_levers, lever_names, levers_of
from svfap.engine.compute.precision import Precision
from svfap.engine.compute.step import compiled as once_compiled
from svfap.engine.evaluate import in_passes, view_scores
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.flags.shared import LEVERS
from svfap.engine.results import predictions
from svfap.engine.tasks.base import Classification
from tests.test_runs import finetune_argv, pretrain_argv, run_finetuning, run_pretraining, weights

SHALLOW = ["--stage_depths", "1", "1", "1"]


@pytest.fixture
def compiled(monkeypatch):
    """Options that torch.compile was called with, and the graphs it captured, run as they are.

    A graph that breaks raises.
    """
    options, graphs, whole = [], [], torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def compile_(function, **given):
        options.append(given)
        return whole(function, backend=backend, dynamic=given["dynamic"], fullgraph=True)

    monkeypatch.setattr(torch, "compile", compile_)
    torch.compiler.reset()
    einops._backends._type2backend.clear()  # as in a process that has just started
    yield options, graphs
    torch.compiler.reset()


def test_a_step_is_compiled_once(data, tmp_path, compiled):
    """In the mode that the flags name, and not again in a second step; the run stays as it is."""
    options, graphs = compiled
    more = ["--compile", "--compile_mode", "reduce-overhead", "--visualize", "1"]
    run_pretraining(pretrain_argv(data, tmp_path / "compiled", *SHALLOW, *more))
    assert options == [{"mode": "reduce-overhead", "dynamic": False}]
    assert len(graphs) == 1
    run_pretraining(pretrain_argv(data, tmp_path / "eager", *SHALLOW))
    one, other = weights(tmp_path / "compiled"), weights(tmp_path / "eager")
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6, msg=name)


def test_fine_tuning_and_the_benchmark_pass_the_mode_on(data, tmp_path, compiled):
    options, graphs = compiled
    more = [*SHALLOW, "--epochs", "1", "--max_steps", "1", "--compile", "--compile_mode"]
    run_finetuning(finetune_argv(data, tmp_path / "run", *more, "max-autotune"))
    assert options == [{"mode": "max-autotune", "dynamic": False}] * 2
    assert len(graphs) == 2  # training, and all views of validation and test
    flags = train_step.build_parser().parse_args(["--compile", "--compile_mode", "reduce-overhead"])
    device = torch.device("cpu")
    levers = steps.levers_asked(flags, device)
    steps.our_work("svfap_tiny_patch8_64", "pretrain", batch=1, device=device, levers=levers)
    assert options[2:] == [{"mode": "reduce-overhead", "dynamic": False}]


def test_evaluation_is_compiled_for_one_shape_and_scores_stay(data, tmp_path, compiled):
    """Validation by averaged weights, the test, and `--eval`; views per batch differ."""
    options, graphs = compiled
    more = [*SHALLOW, "--epochs", "1", "--model_ema", "--test_weights", "ema", "--batch_size", "3"]
    out = tmp_path / "compiled"
    scores = {}
    for way in ("eager", "compiled"):
        run_finetuning(finetune_argv(data, tmp_path / way, *more, *["--compile"][: way != "eager"]))
        scores[way] = predictions.read_predictions(tmp_path / way / "pred.csv").scores
    assert len(options) == 2 and len(graphs) == 2  # the step in training, the average's scores
    np.testing.assert_allclose(scores["compiled"], scores["eager"], rtol=0, atol=1e-5)
    again = [
        *SHALLOW,
        "--eval",
        "--resume",
        str(out / "checkpoint-last.pth"),
        "--test_weights",
        "ema",
    ]
    run_finetuning(finetune_argv(data, tmp_path / "again", *again, "--compile"))
    assert len(options) == 3 and len(graphs) == 3
    scores["again"] = predictions.read_predictions(tmp_path / "again" / "pred.csv").scores
    np.testing.assert_allclose(scores["again"], scores["eager"], rtol=0, atol=1e-5)


def test_weights_that_change_place_are_scored_by_the_same_code(compiled):
    """The model, its average and the chosen weights are modules of their own."""
    _, graphs = compiled
    levers = Levers(compile_mode="default")
    score, task = once_compiled(view_scores, levers), Classification(names=list("abc"))
    clips = torch.randint(0, 256, (2, 16, 64, 64, 3), dtype=torch.uint8)
    for seed in range(3):
        torch.manual_seed(seed)
        model = models.create_model("svfap_tiny_patch8_64", num_classes=3).eval()
        with torch.inference_mode():
            scores = score(model, task, Precision("cpu", None), clips)
            expected = view_scores(model, task, Precision("cpu", None), clips)
        torch.testing.assert_close(scores, expected)
    assert len(graphs) == 1


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_passes_are_equally_large_and_give_what_one_pass_gives(size):
    seen = []

    def model(clips, *, factor):
        seen.append(len(clips))
        return clips.mean((1, 2, 3, 4))[:, None] * factor

    clips = torch.rand(7, 3, 2, 4, 4)
    outputs = in_passes(model, clips, size, factor=2)
    torch.testing.assert_close(outputs, in_passes(model, clips, None, factor=2), rtol=0, atol=0)
    assert seen == [size] * -(-7 // size) + [7]


@pytest.mark.parametrize("parser", [pretraining_parser, finetuning_parser])
def test_compile_is_auto_unless_asked_for(parser, tmp_path):
    """Scripts that say `--compile` and nothing more mean on, and so does `true` or `on` in YAML."""
    for argv, expected in (
        ([], "auto"), (["--compile"], "on"), (["--compile", "--dry_run"], "on"),
        (["--compile", "off"], "off"), (["--compile", "AUTO"], "auto"), (["--compile=on"], "on"),
    ):  # fmt: skip
        assert parse_flags(parser(), argv).compile == expected
    for text, expected in (("true", "on"), ("on", "on"), ("off", "off"), ("auto", "auto")):
        (tmp_path / "flags.yaml").write_text(f"compile: {text}\n")
        flags = parse_flags(parser(), ["--config", str(tmp_path / "flags.yaml")])
        assert flags.compile == expected
    (tmp_path / "flags.yaml").write_text("compile: sometimes\n")
    with pytest.raises(ValueError, match="'sometimes' is none of auto, on and off"):
        parse_flags(parser(), ["--config", str(tmp_path / "flags.yaml")])
    with pytest.raises(SystemExit):
        parse_flags(parser(), ["--compile", "sometimes"])


@pytest.mark.parametrize(
    ("device", "more", "passes", "flop", "words"),
    [
        ("cpu", [], 1e9, 1e15, "no (does not pay on this device)"),
        ("cuda", [], 1000, 1e9, "no (estimated 1 minutes without, 10 pay)"),
        ("cuda", [], 20_000, 1e9, "default (estimated 17 minutes without, 10 pay)"),
        ("cuda", [], 1000, 1e14, "default (estimated 10 minutes without, 10 pay)"),
        ("cuda", ["--shard"], 1e9, 1e15, "no (--shard)"),
        ("cuda", ["--compile", "off"], 1e9, 1e15, "no (--compile off)"),
        ("cpu", ["--compile"], 1, 1, "default (--compile on)"),
    ],
)
def test_a_run_is_compiled_on_a_gpu_where_it_is_long_enough(device, more, passes, flop, words):
    flags = parse_flags(pretraining_parser(), more)
    levers, row = choose_levers(
        torch.device(device), wanted=flags.compile, mode=flags.compile_mode, without=None,
        shard=flags.shard, passes=passes, flop=lambda: flop,
    )  # fmt: skip
    assert row == words
    assert levers.compile_mode == (None if words.startswith("no") else "default")
    assert levers.cudnn_attention == (device == "cuda")


def test_every_lever_can_be_ruled_out():
    assert list(LEVERS) == lever_names()
    for name in LEVERS:
        flags = parse_flags(finetuning_parser(), ["--without", name])
        levers, _ = choose_levers(
            torch.device("cuda"), wanted="off", mode="default", without=flags.without, shard=False,
            passes=1,
        )  # fmt: skip
        usual = levers_of(torch.device("cuda"))
        assert getattr(usual, name) and levers == replace(usual, **{name: False})


@pytest.mark.parametrize("parser", [pretraining_parser, finetuning_parser])
def test_modes_that_cannot_work_are_refused(parser):
    with pytest.raises(ValueError, match="--compile_mode reduce-overhead needs --compile"):
        parse_flags(parser(), ["--compile_mode", "reduce-overhead"])
    graphs = ["--compile", "--compile_mode", "max-autotune", "--update_freq", "2"]
    with pytest.raises(ValueError, match="--update_freq 2: gradients .* --compile_mode default or"):
        parse_flags(parser(), graphs)
    graphs[2] = "max-autotune-no-cudagraphs"
    assert parse_flags(parser(), graphs).compile_mode == graphs[2]
