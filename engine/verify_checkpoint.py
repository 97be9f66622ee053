"""`python -m svfap.engine.verify_checkpoint FILE`: is this file what it should be?

Reads the file without executing anything in it, finds out its model, loads it strictly, runs a
forward pass, and, where the data set is given, evaluates it and compares with the published scores.
Exit status 0: everything holds; 1: something does not.
"""

import argparse
import logging
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from svfap import models
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.catalog import get_spec
from svfap.datasets.rng import generator
from svfap.engine.flags.config import finetuning_parser
from svfap.engine.flags.parsing import as_words, parse_flags
from svfap.engine.identity import Identity, identify
from svfap.engine.runtime.programs import split_arguments, tells_user
from svfap.models.weights.hub import locate
from svfap.models.weights.released import released_at
from svfap.models.weights.weight_file import file_sha256

logger = logging.getLogger(__name__)

# Published scores have two digits; another decoder or resizing moves single videos.
TOLERANCE_POINTS = 0.5
MASK_RATIO = 0.9


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A file of weights that was found to be sound."""

    identity: Identity  # what it is
    model: nn.Module  # with its weights, on the CPU, in evaluation mode
    report: models.LoadReport  # what was loaded
    output_shape: tuple[int, ...]  # of the forward pass on two clips


def check_file(
    path: str | Path, name: str | None = None, stage_depths: Sequence[int] | None = None
) -> Checked:
    """Load a file, ours or released, into its model and run it.

    Args:
        name: registered model; None: as the file says, else guessed from names and shapes.
        stage_depths: of TPSBT, where they cannot be guessed.

    Raises:
        ValueError: unsafe, damaged, of no known model, not fitting its model, with values that are
            not finite, or with outputs that are not finite or not repeatable.
    """
    told = {"name": name} if name else {}
    if stage_depths:
        told["stage_depths"] = list(stage_depths)
    identity = identify(path, told=told)
    model, report = identity.build()
    output = _forward_twice(model.eval(), str(path))
    return Checked(
        identity=identity,
        model=model,
        report=report,
        output_shape=tuple(output.shape),
    )


@torch.inference_mode()
def _forward_twice(model: nn.Module, path: str) -> Tensor:
    """The outputs for two random clips, the same twice, finite."""
    size = (2, 3, model.num_frames, model.img_size, model.img_size)
    clip = torch.randn(size, generator=torch.Generator().manual_seed(0))
    inputs = (clip,)
    if hasattr(model, "mask_token"):
        inputs = (clip, _mask(model))
    first, second = model(*inputs), model(*inputs)
    if not first.isfinite().all():
        raise ValueError(f"{path}: the outputs for random clips are not finite; do not use it.")
    if not torch.equal(first, second):
        raise ValueError(f"{path}: the same clips give different outputs twice in a row.")
    if torch.equal(first[0], first[1]):
        logger.warning("%s gives the same output for two different clips", path)
    return first


def _mask(model: nn.Module) -> Tensor:
    """A mask (2, N) that suits a pre-training model."""
    windows = model.config.get("region_size")
    kind = ("part_window", {"part_win_size": windows}) if windows else ("tube", {})
    masking = make_masking(kind[0], model.grid, MASK_RATIO, **kind[1])
    rows = [masking(generator(0, 0, row, 0, "mask")) for row in range(2)]
    return torch.stack([torch.from_numpy(row) for row in rows])


def describe(checked: Checked, *, all_names: bool) -> str:
    """What is in the file, as text: groups of tensors, or every name with its shape."""
    config, identity = checked.model.config, checked.identity
    source = "stated in the file" if identity.stated else "from names and shapes, or as asked"
    sizes = ", ".join(f"{key} {value}" for key, value in config.items() if key != "name")
    count = sum(value.numel() for value in identity.weights.values())
    lines = [
        f"model    {config['name']} ({source})",
        f"sizes    {sizes}",
        f"weights  {len(identity.weights)} tensors, {count / 1e6:.2f} M values"
        + ", averaged" * identity.averaged,
    ]
    if identity.labels:
        names = ", ".join(identity.labels.output_names)
        lines.append(f"answers  {identity.labels.task}: {names}")
    if all_names:
        lines += [
            f"  {name}  {tuple(value.shape)}  {str(value.dtype).removeprefix('torch.')}"
            for name, value in identity.weights.items()
        ]
    else:
        groups: dict[str, list[int]] = defaultdict(list)
        for name, value in identity.weights.items():
            groups[_group(name)].append(value.numel())
        lines += [
            f"  {name:<32}{len(sizes):>5} tensors {sum(sizes):>12,} values"
            for name, sizes in groups.items()
        ]
    lines += [f"loaded   {checked.report}", f"forward  two random clips -> {checked.output_shape}"]
    return "\n".join([*lines, "         finite, and bitwise the same twice"])


def _group(name: str) -> str:
    """Module of a parameter without its block's number: "encoder.blocks", "head", ..."""
    parts = name.split(".")
    numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[:numbered]) if numbered else ".".join(parts[:-1]) or name


def evaluate_file(path: str | Path, arguments: Sequence[str]) -> dict:
    """Metrics of a file by the published protocol, on what flags of run_finetune.py say."""
    from svfap.engine.finetuning import finetune

    flags = ["--eval", "--resume", str(path), *arguments]
    return finetune(parse_flags(finetuning_parser(), flags))


def compare(metrics: dict, expected: tuple[float, float]) -> tuple[bool, str]:
    """Whether UAR and WAR (fractions) are as published (percent), and a sentence about it."""
    parts, worst = [], 0.0
    for name, published in zip(("uar", "war"), expected, strict=True):
        found = 100 * metrics[name]
        worst = max(worst, abs(found - published))
        change = found - published
        parts.append(f"{name.upper()} {found:.2f} (published {published:.2f}, {change:+.2f})")
    holds = worst <= TOLERANCE_POINTS
    verdict = "as published" if holds else f"more than {TOLERANCE_POINTS} points away"
    return holds, f"{', '.join(parts)}: {verdict}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m svfap.engine.verify_checkpoint",
        description="Check a file of weights: contents, forward pass, scores.",
        epilog="everything after -- goes to run_finetune.py --eval (--data_root DIR, ...)",
    )
    # fmt: off
    add = parser.add_argument
    add("file", metavar="FILE", help=".pth or .safetensors, ours or released; hf://owner/repo; a "
        "name of models.download --list")
    add("--model", metavar="NAME", help="otherwise as stated, or guessed")
    add("--stage_depths", type=int, nargs="+", metavar="M", help="of TPSBT")
    add("--names", action="store_true", help="list every name with its shape")
    add("--data_path", metavar="DIR", help="fold whose test.csv to evaluate on")
    add("--data_set", metavar="NAME", help="default: the released file's")
    add("--output_dir", metavar="DIR", help="for metrics.json and pred.csv")
    add("--expect", type=float, nargs=2, metavar=("UAR", "WAR"),
        help="published scores, percent; default: those of the released file, by its place")
    return parser
    # fmt: on


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    own, passed_on = split_arguments(arguments)
    flags = _parser().parse_args(own)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    located = locate(flags.file)
    known = released_at(str(located.path.absolute()))
    checked = check_file(flags.file, flags.model, flags.stage_depths)
    print(f"file     {located.source}, {located.path.stat().st_size:,} bytes")
    print(f"sha256   {file_sha256(located.path)}")
    if located.licence:
        print(f"licence  {located.licence}")
    print(describe(checked, all_names=flags.names))
    if not flags.data_path:
        return 0
    shared = ("data_path", "data_set", "output_dir", "model", "stage_depths")
    settings = {"report": False} | {name: getattr(flags, name) for name in shared}
    if known:
        settings["data_set"] = flags.data_set or known.data_set
        settings["sampling_rate"] = get_spec(known.data_set).sampling_rate
    metrics = evaluate_file(flags.file, [*as_words(settings), *passed_on])
    expected = flags.expect or ((known.uar, known.war) if known and known.uar else None)
    if expected is None:
        print("scores   no published ones are known for this file; --expect UAR WAR gives them")
        return 0
    holds, sentence = compare(metrics, tuple(expected))
    print(f"scores   {sentence}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
