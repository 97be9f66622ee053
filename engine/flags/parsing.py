"""Reading flags: the command line over a YAML file, and the checks on both."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from svfap.engine.flags.flag import Flags, Table
from svfap.engine.flags.flag_parser import Parser, boolean
from svfap.engine.flags.pretraining import (
    CONTRASTIVE,
    CONTRASTIVE_DEFAULTS,
    MASKED,
    check_contrastive,
)
from svfap.engine.flags.shared import WITHOUT_GRAPHS
from svfap.suggest import did_you_mean

_PLAIN = "tag:yaml.org,2002:str"  # what a scalar without a tag is
_NOTHING = ("", "~", "null")


def parse_flags(parser: Parser, argv: Sequence[str] | None = None) -> Flags:
    """Parse the command line over the YAML file named by `--config`, if any.

    Raises:
        SystemExit: as argparse does, for unknown flags and values of the wrong kind.
        ValueError: the YAML file has unknown flags or wrong values, or flags contradict.
    """
    flags = parser.parse_args(argv)
    bare = parser.table.parser("")  # its namespace holds only what was given
    for action in bare._actions:
        action.default = argparse.SUPPRESS
    explicit = set(vars(bare.parse_args(argv)))
    if flags.config:
        from_file = _read_yaml(parser, Path(flags.config))
        explicit |= set(from_file)
        parser.set_defaults(**from_file)
        flags = parser.parse_args(argv)
    values = vars(flags)
    if values.get("objective", MASKED) == CONTRASTIVE:
        values |= {n: value for n, value in CONTRASTIVE_DEFAULTS.items() if n not in explicit}
    flags = Flags(**values, explicit=sorted(explicit))
    _check(flags, parser.table)
    return flags


def as_words(settings: Mapping[str, object]) -> list[str]:
    """The command line of settings by name; None leaves a flag out."""
    words = []
    for name, value in settings.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no_{name}")
        elif value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name}", *map(str, values)]
    return words


def _read_yaml(parser: Parser, path: Path) -> dict:
    """Flags of a YAML file, each value read as the command line would read its text."""
    where = f"--config {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{where} does not exist")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{where} is not YAML: {reason}") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{where}: expected lines of `flag: value`")
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    names = [_text(name, where) for name, _ in root.value]
    unknown = sorted(set(names) - set(actions))
    if unknown:
        shown = "; ".join(f"{name}{did_you_mean(name, actions)}" for name in unknown)
        raise ValueError(f"{where}: unknown flags: {shown} (--help lists all)")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: given more than once: {', '.join(twice)}")
    values = (value for _, value in root.value)
    return {name: _convert(actions[name], value, where) for name, value in zip(names, values)}


def _text(node: yaml.Node, where: str) -> str:
    """The text of a scalar as it stands in the file."""
    place = f"{where}, line {node.start_mark.line + 1}"
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{place}: expected one value, not a list or a table")
    if node.tag != _PLAIN:
        raise ValueError(f"{place}: tags such as {node.tag} have no meaning here; leave it out")
    return node.value


def _convert(action: argparse.Action, node: yaml.Node, where: str) -> object:
    """Read a value as the command line would read its text."""
    where = f"{where}, line {node.start_mark.line + 1}: {action.dest}"
    many = action.nargs not in (None, "?", 0)
    if isinstance(node, yaml.SequenceNode):
        texts = [_text(item, where) for item in node.value]
        if not many:
            raise ValueError(f"{where} takes one value, not the list [{', '.join(texts)}]")
    else:
        text = _text(node, where)
        if text in _NOTHING and node.style is None:
            if action.default is None:
                return None
            raise ValueError(f"{where} has no value")
        if action.nargs == 0:
            try:
                return boolean(text)
            except argparse.ArgumentTypeError:
                raise ValueError(f"{where} is true or false, not {text!r}") from None
        texts = [text]
    try:
        items = [action.type(text) if action.type else text for text in texts]
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ValueError(f"{where}: {error}") from error
    if action.choices and any(item not in action.choices for item in items):
        raise ValueError(f"{where} {', '.join(texts)!r} is not one of {list(action.choices)}")
    if isinstance(action.nargs, int) and len(items) != action.nargs:
        raise ValueError(f"{where} takes {action.nargs} values, got {len(items)}")
    return items if many else items[0]


def _check(flags: Flags, table: Table) -> None:
    """Refuse values that cannot work, naming the allowed ones."""
    table.check(vars(flags), flags.explicit)
    if not flags.imagenet_default_mean_and_std:
        raise ValueError("only ImageNet mean and std are supported; leave the flag out")
    if flags.start_epoch >= flags.epochs:
        raise ValueError(
            f"--start_epoch {flags.start_epoch}: must be below --epochs ({flags.epochs}); epochs "
            "count from 0"
        )
    _check_compiling(flags.compile, flags.compile_mode, flags.update_freq)
    if getattr(flags, "objective", MASKED) == CONTRASTIVE:
        check_contrastive(flags)
    for name, default in (("target_diff_weight", None), ("frame_diff_group_size", 2)):
        if getattr(flags, name, default) != default and not flags.use_frame_diff_as_target:
            raise ValueError(f"--{name} belongs to --use_frame_diff_as_target; give both or none")
    if getattr(flags, "test_weights", "") == "ema" and not (flags.model_ema or flags.eval):
        raise ValueError("--test_weights ema needs --model_ema")
    short = getattr(flags, "short_side_size", None)
    if short is not None and flags.input_size is not None and short != flags.input_size:
        raise ValueError(
            f"--short_side_size {short} differs from --input_size {flags.input_size}; frames are "
            "resized to a square of the input size, so both must be equal"
        )


def _check_compiling(wanted: str, mode: str, update_freq: int) -> None:
    if mode != "default" and wanted != "on":
        raise ValueError(f"--compile_mode {mode} needs --compile; give both or none")
    if mode not in WITHOUT_GRAPHS and update_freq > 1:
        raise ValueError(
            f"--compile_mode {mode} with --update_freq {update_freq}: gradients lie in the "
            "CUDA graph's memory, where the next batch overwrites what should be accumulated; take "
            f"--update_freq 1 and a larger --batch_size, or --compile_mode "
            f"{' or '.join(WITHOUT_GRAPHS)}"
        )
