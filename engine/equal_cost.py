r"""`python -m svfap.engine.equal_cost`: epochs of other models that cost as much as some of one.

    python -m svfap.engine.equal_cost --epochs 20 "--model pretrain_svfap_tiny_patch8_64" \
        "--model pretrain_videomae_tiny_patch8_64"

Each argument holds flags of `run_pretrain.py` in quotes; the first is the reference. Cost is the
multiply-adds of encoder and decoder for a clip, counted on the model with its masks, times clips;
epochs are taken to have the same number of clips, and the backward pass twice the forward's cost.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from svfap.engine.flags.config import pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.pretraining import create_pretext
from svfap.engine.results.tables import FORMATS, emit, render
from svfap.engine.runtime import distributed
from svfap.terminal import as_program

BACKWARD = 2  # cost of the backward pass in forward passes


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A pre-training of equal cost."""

    model: str  # registered name
    parameters: int  # trainable values of encoder and decoder
    multiply_adds: int  # of a clip's forward pass
    epochs: int  # of this model
    share: float  # its cost in units of the reference's, by whole epochs


def equal_budgets(runs: Sequence[Sequence[str]], epochs: int) -> list[Budget]:
    """Epochs of each run, nearest to the cost of `epochs` epochs of the first."""
    costs = []
    for argv in runs:
        flags = parse_flags(pretraining_parser(), argv)
        pretext = create_pretext(flags, distributed.start("cpu"))
        costs.append((pretext.model.config["name"], pretext.cost()))
    reference = costs[0][1].multiply_adds * epochs
    budgets = []
    for name, cost in costs:
        own = max(1, round(reference / cost.multiply_adds))
        share = own * cost.multiply_adds / reference
        budgets.append(Budget(model=name, epochs=own, share=share, **vars(cost)))
    return budgets


def format_budgets(
    budgets: Sequence[Budget], clips_per_epoch: int | None = None, table_format: str = "md"
) -> str:
    """The table; with the clips of an epoch also the multiply-adds of the whole pre-training."""
    header = ["model", "parameters, M", "multiply-adds per clip, M", "epochs", "relative cost"]
    rows = [
        [one.model, f"{one.parameters / 1e6:.2f}", f"{one.multiply_adds / 1e6:.2f}",
         str(one.epochs), f"{one.share:.3f}"]
        for one in budgets
    ]  # fmt: skip
    if clips_per_epoch:
        header.append("multiply-adds in all, T")
        for row, budget in zip(rows, budgets):
            in_all = (1 + BACKWARD) * budget.multiply_adds * budget.epochs * clips_per_epoch
            row.append(f"{in_all / 1e12:.2f}")
    return render(header, rows, table_format)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m svfap.engine.equal_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="FLAGS", help="of run_pretrain.py, in quotes")
    parser.add_argument("--epochs", type=int, required=True, help="of the first")
    parser.add_argument("--clips_per_epoch", type=int, help="videos x --num_samples")
    parser.add_argument("--format", choices=(*FORMATS, "epochs"), default="md", help="default: md")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table there")
    flags = parser.parse_args(arguments)
    if flags.epochs < 1:
        parser.error(f"--epochs {flags.epochs}: must be at least 1")
    try:
        budgets = equal_budgets([shlex.split(run) for run in flags.runs], flags.epochs)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    style = "md" if flags.format == "epochs" else flags.format
    table = format_budgets(budgets, flags.clips_per_epoch, style)
    if flags.output:
        emit(table, flags.output)
    shown = "".join(f"{budget.epochs}\n" for budget in budgets)
    sys.stdout.write(shown if flags.format == "epochs" else table)


if __name__ == "__main__":
    as_program()
    main()
