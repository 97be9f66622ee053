"""Presets: chosen by the size of data and model, filling only what was not given."""

import pytest

from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.flags.presets import FILLED, choose_preset

TINY, BASE = "svfap_tiny_patch8_64", "svfap_base_patch16_160"


@pytest.fixture
def chosen(tmp_path):
    def choose(clips, model, *argv, before=None, processes=1):
        (tmp_path / "train.csv").write_text("a 0\n" * clips)
        flags = parse_flags(finetuning_parser(), ["--data_path", str(tmp_path), *argv])
        untouched = dict(vars(flags))
        choice = choose_preset(flags, model, processes, before)
        flags = flags.filled(choice.values)
        changed = {name for name, value in vars(flags).items() if untouched[name] != value}
        assert changed <= set(FILLED) - set(flags.explicit)
        return choice, flags

    return choose


@pytest.mark.parametrize(
    ("clips", "model", "argv", "name"),
    [
        (24, TINY, [], "small"),
        (24, BASE, [], "small"),
        (2999, BASE, [], "small"),
        (3000, BASE, [], "paper"),
        (30_000, TINY, [], "small"),
        (24, TINY, ["--lr", "1e-3"], "paper"),  # as recipes and scripts of the released code do
        (24, TINY, ["--preset", "paper"], "paper"),
        (30_000, BASE, ["--preset", "small", "--lr", "1e-3"], "small"),
        (6000, BASE, ["--label_fraction", "0.1"], "small"),
    ],
)
def test_the_preset_follows_from_data_and_model(chosen, clips, model, argv, name):
    choice, flags = chosen(clips, model, *argv)
    assert choice.name == name and choice.text.startswith(f"{name} (")
    assert bool(choice.values) == (name == "small")
    if name == "paper":
        assert (flags.mixup, flags.epochs, flags.batch_size) == (0.8, 100, 64)


@pytest.mark.parametrize(("model", "peak"), [(TINY, 1e-3), (BASE, 2.5e-4)])
@pytest.mark.parametrize("clips", [8, 24, 240, 2400, 30_000])
@pytest.mark.parametrize("processes", [1, 2])
def test_small_has_a_sensible_number_of_steps_whatever_the_size(
    chosen, clips, model, peak, processes
):
    choice, flags = chosen(clips, model, "--preset", "small", processes=processes)
    batch = flags.batch_size * processes
    assert flags.lr * batch / 256 == pytest.approx(peak)
    assert batch <= max(clips, 8) and batch <= 32
    steps = flags.epochs * -(-clips // batch)
    assert 300 <= steps <= 7000 and flags.warmup_steps <= steps / 10 + 4
    assert (flags.aa, flags.mixup, flags.cutmix, flags.reprob) == ("none", 0, 0, 0)


def test_flags_that_are_given_win(chosen):
    given = ["--batch_size", "4", "--epochs", "3", "--warmup_epochs", "1", "--mixup", "0.4"]
    choice, flags = chosen(240, TINY, *given)
    assert (flags.batch_size, flags.epochs, flags.warmup_steps, flags.mixup) == (4, 3, -1, 0.4)
    assert flags.lr == pytest.approx(1e-3 * 256 / 4)
    assert flags.num_frames == 4
    _, shaped = chosen(240, TINY, "--stage_depths", "1", "2", "2")
    assert (shaped.num_frames, shaped.input_size) == (16, None)
    assert {"batch_size", "epochs", "warmup_steps", "mixup"}.isdisjoint(choice.values)
    choice, _ = chosen(240, "timm/vit_tiny_patch16_224")
    assert {"input_size", "num_frames", "standardise_clip"}.isdisjoint(choice.values)


@pytest.mark.parametrize(
    ("argv", "warmup"),
    [("--epochs 3", 3), ("--epochs 100", 40), ("--max_steps 50", 5), ("--max_steps 2", 1)],
)
def test_the_warm_up_suits_a_length_that_is_given(chosen, argv, warmup):
    _, flags = chosen(40, TINY, *argv.split())  # 10 steps per epoch
    assert flags.warmup_steps == warmup


def test_pretrained_base_models_keep_the_rates_of_their_layers(chosen):
    _, scratch = chosen(240, BASE)
    _, tuned = chosen(240, BASE, "--finetune", "w.pth")
    assert (scratch.layer_decay, tuned.layer_decay) == (1.0, 0.75)


def test_a_run_that_goes_on_is_not_changed(chosen):
    """Neither one begun by an earlier version, nor one whose data have crossed the line since."""
    before = {"lr": 1e-3, "epochs": 100, "mixup": 0.8, "batch_size": 64, "warmup_steps": -1}
    choice, flags = chosen(240, TINY, before=before)
    assert {name: getattr(flags, name) for name in before} == before
    assert "goes on" in choice.text
    _, small = chosen(240, TINY)
    _, again = chosen(30_000, BASE, before=vars(small))
    assert all(getattr(small, name) == getattr(again, name) for name in FILLED)
