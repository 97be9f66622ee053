"""Which files of the project one training step crosses in the main process."""

import sys

import pytest

from svfap.engine import loop
from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.pretraining import pretrain
from tests.conftest import ROOT
from tests.tiny_data import FINETUNE_FLAGS, PRETRAIN_FLAGS, make_tiny_data

MOST = 15


class SeenEnoughError(Exception):
    """Ends the run after the step that was looked at."""


@pytest.mark.parametrize("stage", ["pretraining", "finetuning"])
def test_a_training_step_crosses_few_files(tmp_path, monkeypatch, stage):
    fold, step, crossed = make_tiny_data(tmp_path), loop.optimizer_step, set()
    left = [1]  # the first one makes what all later ones use

    def note(frame, event, argument):
        if event == "call":
            crossed.add(frame.f_code.co_filename)

    def watched(run, batches):
        if left:
            left.pop()
            return step(run, batches)
        sys.setprofile(note)
        try:
            step(run, batches)
        finally:
            sys.setprofile(None)
        raise SeenEnoughError

    monkeypatch.setattr(loop, "optimizer_step", watched)
    parser, run, given = {
        "pretraining": (pretraining_parser(), pretrain, [*PRETRAIN_FLAGS, "--data_path",
                                                         str(tmp_path / "pretrain.csv")]),
        "finetuning": (finetuning_parser(), finetune, [*FINETUNE_FLAGS, "--data_path", str(fold)]),
    }[stage]  # fmt: skip
    with pytest.raises(SeenEnoughError):
        run(parse_flags(parser, [*given, "--num_workers", "1"]))
    ours = sorted(name.removeprefix(f"{ROOT}/") for name in crossed if name.startswith(str(ROOT)))
    ours = [name for name in ours if not name.startswith((".venv", "tests"))]
    print("\n".join(ours))  # noqa: T201 - shown where the test fails
    assert 5 < len(ours) <= MOST, f"{len(ours)} files: {', '.join(ours)}"
