"""`python -m svfap.models.convert IN [OUT]`: weights from .pth to .safetensors and back.

A .safetensors file holds the model's tensors and, as text in its header, its configuration, class
names and the flags it was trained with. Optimizer state and averages stay behind; `--ema` takes the
averaged weights instead of the last ones. `--to transformers` writes a folder that transformers'
VideoMAE opens (plain ViTs only).
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from svfap.models.weights.hub import locate
from svfap.models.weights.loading import named_tensors
from svfap.models.weights.opening import understand
from svfap.models.weights.to_transformers import write_for_transformers
from svfap.models.weights.weight_file import (
    HEADER_FACTS,
    SAFETENSORS,
    read_described,
    write_safetensors,
)
from svfap.terminal import as_program


def convert(
    source: str | Path,
    target: str | Path,
    *,
    averaged: bool = False,
    to_transformers: bool = False,
    **told: object,
) -> list[str]:
    """Write the weights of one file to another, in the format of the target's ending.

    Args:
        source: what `read_checkpoint` takes: a file, ours, released, or safetensors; hf://...
        target: .safetensors, .pth or .pt; with `to_transformers` a folder; must not exist.
        averaged: take the moving average ("model_ema").
        told: what a file of others cannot tell, as `models.open_weights` takes it.

    Returns:
        Names of the tensors written.

    Raises:
        FileNotFoundError: no source.
        FileExistsError: the target is there.
        ValueError: unknown ending, no weights in the source, or weights of an unknown model.
    """
    target = Path(target)
    if not to_transformers and target.suffix not in (SAFETENSORS, ".pth", ".pt"):
        raise ValueError(f"{target}: the ending decides the format; use .safetensors or .pth")
    if target.exists():
        raise FileExistsError(f"{target} is there already; remove it or choose another name.")
    located = locate(source)
    content = read_described(located.path)
    tensors = _tensors(content, located.source, averaged)
    facts = {name: content[name] for name in HEADER_FACTS if content.get(name)}
    if "model_config" not in facts:  # names may be others', too
        opened = understand({**content, "model": tensors}, located.source, located.told | told)
        tensors = {name: value.contiguous() for name, value in opened.converted.entries.items()}
        facts["model_config"] = opened.trained
        if opened.class_order:
            facts["class_names"] = list(opened.class_order)
    target.parent.mkdir(parents=True, exist_ok=True)
    if to_transformers:
        names = facts.get("class_names") or ()
        write_for_transformers(target, facts["model_config"], tensors, names)
        return list(tensors)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.suffix == SAFETENSORS:
            write_safetensors(temporary, tensors, facts)
        else:
            torch.save({"model": tensors, **facts}, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return list(tensors)


def _tensors(content: Mapping, source: str | Path, averaged: bool) -> dict[str, torch.Tensor]:
    if averaged and not content.get("model_ema"):
        raise ValueError(f"{source} holds no averaged weights (model_ema); leave --ema out.")
    chosen = content["model_ema"] if averaged else content
    tensors = named_tensors(chosen, str(source))
    # Copies, because safetensors refuse tensors that share memory.
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m svfap.models.convert", description="Weights to .safetensors and back."
    )
    parser.add_argument("source", metavar="IN", help=".pth or .safetensors")
    parser.add_argument("target", metavar="OUT", nargs="?", help="the ending decides the format")
    parser.add_argument(
        "--to",
        choices=["transformers"],
        help="a folder that transformers opens (default: IN's name and -transformers)",
    )
    parser.add_argument(
        "--use_fmp_flashlite", choices=["true", "false"], help="of MiRA: its files do not tell"
    )
    parser.add_argument("--ema", action="store_true", help="the averaged weights")
    flags = parser.parse_args(arguments)
    to_transformers = flags.to is not None
    if flags.target is None and not to_transformers:
        parser.error("OUT is missing: a name ending in .safetensors or .pth")
    try:
        target = flags.target
        if target is None:
            path = locate(flags.source).path
            target = path.with_name(f"{path.stem}-transformers")
        told = {}
        if flags.use_fmp_flashlite:
            told["use_fmp_flashlite"] = flags.use_fmp_flashlite == "true"
        names = convert(
            flags.source, target, averaged=flags.ema, to_transformers=to_transformers, **told
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {len(names)} tensors")
    return 0


if __name__ == "__main__":
    as_program()
    sys.exit(main())
