"""Files with a little damage: read as they were, made anew, or refused by name.

    .venv/bin/python -m pytest -m slow tests/faults

FAULT_MUTANTS is the number of damaged files (default 5000), FAULT_SEED draws others.
"""

import os

import pytest

from svfap.engine.finetuning import finetune
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.pretraining import pretrain
from tests.faults.commands import SEED, arguments
from tests.faults.damage import try_mutants
from tests.faults.formats import all_formats
from tests.tiny_data import make_tiny_data

MUTANTS = int(os.environ.get("FAULT_MUTANTS", "5000"))
SHORT = 120


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    make_tiny_data(folder)
    pretrained, finetuned = folder / "pretrained", folder / "finetuned"
    pretrain(parse_flags(pretraining_parser(), arguments("pretraining", folder, pretrained)))
    finetune(parse_flags(finetuning_parser(), arguments("finetuning", folder, finetuned)))
    return all_formats(folder, pretrained, finetuned)


def campaign(formats, count: int) -> str:
    """Damage every kind of file equally often; returns the table of outcomes."""
    wrong, lines, each = [], [], -(-count // len(formats))
    for form in formats:
        outcomes, bad = try_mutants(form, seed=SEED, count=each)
        wrong += bad
        lines.append(f"{form.name}: " + ", ".join(f"{n} {what}" for what, n in outcomes.items()))
        print(lines[-1], *bad, sep="\n  ", flush=True)
    assert not wrong, f"{len(wrong)} of {each * len(formats)}:\n" + "\n".join(wrong)
    return "\n".join(lines)


def test_some_damaged_files_of_every_kind(formats):
    campaign(formats, SHORT)


@pytest.mark.slow
def test_thousands_of_damaged_files(formats):
    campaign(formats, MUTANTS)
