"""Reading flags: the command line over a YAML file, and the checks on both."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from datasets.files import write_text
from engine.flags.contrastive import CONTRASTIVE_DEFAULTS
from engine.flags.shared import WITHOUT_GRAPHS

Parser = argparse.ArgumentParser


def parse_flags(parser: Parser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line over the YAML file named by `--config`, if any.

    Args:
        parser: `pretraining_parser()` or `finetuning_parser()`.
        argv: arguments without the program name; default: `sys.argv[1:]`.

    Returns:
        The flags; `explicit` names those that the user set.

    Raises:
        SystemExit: as argparse does, for unknown flags and values of the wrong kind.
        ValueError: the YAML file has unknown flags or wrong values, or flags contradict.
    """
    flags = parser.parse_args(argv)
    explicit = set(vars(_explicit_parser(parser).parse_args(argv)))
    if flags.config:
        from_file = _read_yaml(parser, Path(flags.config))
        explicit |= set(from_file)
        parser.set_defaults(**from_file)
        flags = parser.parse_args(argv)
    flags.explicit = sorted(explicit)
    if getattr(flags, "objective", "mae") == "contrastive":
        for name, value in CONTRASTIVE_DEFAULTS.items():
            if name not in explicit:
                setattr(flags, name, value)
    _check(flags)
    return flags


def _explicit_parser(parser: Parser) -> Parser:
    """Copy of `parser` whose namespace holds only what was given."""
    bare = Parser(add_help=False, allow_abbrev=False)
    for action in parser._actions:
        if not action.option_strings or action.dest == "help":
            continue
        settings = {"dest": action.dest, "default": argparse.SUPPRESS}
        if action.nargs == 0:
            settings["action"] = "store_true"
        else:
            settings |= {"nargs": action.nargs, "type": action.type}
            if action.nargs == "?":
                settings["const"] = action.const
        bare.add_argument(*action.option_strings, **settings)
    return bare


def _read_yaml(parser: Parser, path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"--config {path} does not exist")
    content = yaml.safe_load(path.read_text()) or {}
    if not isinstance(content, dict):
        raise ValueError(f"--config {path}: expected lines of `flag: value`")
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    unknown = sorted(set(content) - set(actions))
    if unknown:
        raise ValueError(f"--config {path}: unknown flags {unknown}; known: {sorted(actions)}")
    return {name: _convert(actions[name], value, path) for name, value in content.items()}


def _convert(action: argparse.Action, value: object, path: Path) -> object:
    """Read a YAML value as the command line would read its text."""
    if value is None or action.nargs == 0:
        if action.nargs == 0 and not isinstance(value, bool):
            raise ValueError(f"--config {path}: {action.dest} is true or false, not {value!r}")
        return value
    items = value if isinstance(value, list) else [value]
    try:
        items = [action.type(str(item)) if action.type else item for item in items]
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ValueError(f"--config {path}: {action.dest}: {error}") from error
    if action.choices and any(item not in action.choices for item in items):
        raise ValueError(
            f"--config {path}: {action.dest} {value!r} is not one of {list(action.choices)}"
        )
    many = action.nargs not in (None, "?")
    if isinstance(action.nargs, int) and len(items) != action.nargs:
        raise ValueError(f"--config {path}: {action.dest} takes {action.nargs} values, got {value}")
    return items if many else items[0]


def _check(flags: argparse.Namespace) -> None:
    """Refuse values that cannot work, naming the allowed ones."""
    at_least = {
        "batch_size": 1, "epochs": 1, "update_freq": 1, "num_frames": 1, "sampling_rate": 1,
        "save_ckpt_freq": 1, "print_freq": 1, "test_num_segment": 1, "test_num_crop": 1,
        "num_sample": 1, "num_samples": 1, "save_every_minutes": 0, "max_steps": 1, "lr": 0,
        "warmup_epochs": 0, "input_size": 1, "num_workers": 0, "tubelet_size": 1,
        "probe_every": 0,
    }  # fmt: skip
    for name, low in at_least.items():
        value = getattr(flags, name, None)
        if value is not None and value < low:
            raise ValueError(f"--{name} {value}: must be at least {low}")
    for name in ("max_unreadable", "drop_path", "smoothing", "reprob", "flip", "mixup_prob",
                 "mixup_switch_prob", "target_diff_weight", "val_fraction"):  # fmt: skip
        value = getattr(flags, name, None)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name} {value}: must lie in 0..1")
    for name in ("fc_drop_rate", "drop", "attn_drop_rate", "enable_deepspeed", "use_cls"):
        if getattr(flags, name, 0):
            raise ValueError(f"--{name} is not supported; leave it out (these models pool tokens)")
    if getattr(flags, "imagenet_default_mean_and_std", True) is False:
        raise ValueError("only ImageNet mean and std are supported; leave the flag out")
    _check_compiling(flags)
    short = getattr(flags, "short_side_size", None)
    if short is not None and flags.input_size is not None and short != flags.input_size:
        raise ValueError(
            f"--short_side_size {short} differs from --input_size {flags.input_size}; frames are "
            "resized to a square of the input size, so both must be equal"
        )


def _check_compiling(flags: argparse.Namespace) -> None:
    mode = flags.compile_mode
    if mode != "default" and not flags.compile:
        raise ValueError(f"--compile_mode {mode} needs --compile; give both or none")
    if mode not in WITHOUT_GRAPHS and flags.update_freq > 1:
        raise ValueError(
            f"--compile_mode {mode} with --update_freq {flags.update_freq}: gradients lie in the "
            "CUDA graph's memory, where the next batch overwrites what should be accumulated; take "
            f"--update_freq 1 and a larger --batch_size, or --compile_mode "
            f"{' or '.join(WITHOUT_GRAPHS)}"
        )


def save_flags(flags: argparse.Namespace, path: Path, extra: dict) -> None:
    """Write flags and `extra` facts of the run as JSON."""
    write_text(path, json.dumps({"flags": vars(flags), **extra}, indent=2, default=str) + "\n")
