"""What a flag is: one row of the tables beside this file."""

import argparse
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from svfap.engine.flags.flag_parser import Parser

PRETRAINING, FINETUNING = STAGES = ("pretraining", "finetuning")
# What another value of a flag means to a run that goes on.
SAME = "same"  # it decides a result, so it has to stay
CONTENT = "content"  # it names data or weights; these have to stay, wherever they are
FREE = "free"  # it decides no result

SWITCH, PAIR = "switch", "pair"  # flags without a value: --name; --name and --no_name


@dataclass(frozen=True, kw_only=True)
class Flag:
    """All that is known about a flag."""

    name: str  # without dashes, as in the released scripts where they have it
    # reads the text of a value; or `SWITCH`, or `PAIR`, which take none
    kind: Callable[[str], Any] | str = str
    default: Any = None  # without the flag; a mapping where the stages differ
    alone: Any = None  # with the flag but no value after it; None: it needs one
    # for --help; "" hides the flag, which is then accepted and without effect, or obvious
    text: str = ""
    goes_on: str = SAME  # `SAME`, `CONTENT` or `FREE`
    low: float = -math.inf  # least value
    high: float = math.inf  # largest value
    choices: tuple[str, ...] | None = None  # allowed values
    nargs: int | str | None = None  # how many values, as argparse takes it
    metavar: str | tuple[str, ...] | None = None  # what --help calls the value
    other_names: tuple[str, ...] = ()  # further names, without dashes
    owner: str = ""  # the objective that alone has a use for it
    refused: str = ""  # why any value but the default is refused

    def add_to(self, group: argparse._ArgumentGroup, stage: str) -> None:
        """Let a parser read it."""
        default = self.default
        if isinstance(default, Mapping):
            default = default[stage]
        text = self.text or argparse.SUPPRESS
        names = [f"--{name}" for name in (self.name, *self.other_names)]
        about = {"dest": self.name, "default": default}
        if self.kind in (SWITCH, PAIR):
            group.add_argument(*names, **about, action="store_true", help=text)
            if self.kind == PAIR:
                negative = f"not --{self.name}" if self.text else argparse.SUPPRESS
                group.add_argument(
                    f"--no_{self.name}", **about, action="store_false", help=negative
                )
            return
        if self.alone is not None:
            about |= {"nargs": "?", "const": self.alone}
        group.add_argument(
            *names, **about, type=self.kind, choices=self.choices, help=text, metavar=self.metavar,
            **({"nargs": self.nargs} if self.nargs else {}),
        )  # fmt: skip

    def check(self, value: object) -> None:
        """Refuse a value that cannot be meant, naming the flag, the value and what is allowed.

        Raises:
            ValueError: names the flag, the value and what is allowed.
        """
        if self.refused and value and value != self.default:
            raise ValueError(f"--{self.name} {self.refused}")
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, bool) or not isinstance(item, (int, float)):
                continue
            if not math.isfinite(item):
                raise ValueError(f"--{self.name} {item}: must be a finite number")
            if not self.low <= item <= self.high:
                raise ValueError(f"--{self.name} {item}: {self.range}")

    @property
    def range(self) -> str:
        """Which numbers are allowed, in words."""
        if self.high == math.inf:
            return f"must be at least {self.low}"
        return f"must lie in {self.low}..{self.high}"


class Flags(argparse.Namespace):
    """Flags as they were given, which nothing changes afterwards."""

    def __init__(self, **values: object):
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"--{name}: flags stay as they were given")

    def filled(self, values: Mapping[str, object]) -> "Flags":
        """A copy with other values."""
        return Flags(**(vars(self) | dict(values)))

    @property
    def given(self) -> dict[str, object]:
        """Those that the user set, with their values."""
        return {name: getattr(self, name) for name in self.explicit}

    @property
    def clips_per_sample(self) -> int:
        """Clips that a batch holds of each of its videos: `--num_samples`, or `--num_sample`."""
        return getattr(self, "num_samples", None) or getattr(self, "num_sample", 1)

    def require(self, *names: str) -> None:
        """Refuse to start without flags that have no sensible default."""
        missing = [f"--{name}" for name in names if not getattr(self, name)]
        if missing:
            raise ValueError(f"missing {' and '.join(missing)}; see --help")


@dataclass(frozen=True)
class Group:
    """Flags under one heading of --help."""

    title: str
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Table:
    """The flags of a program."""

    stage: str  # one of `STAGES`
    groups: tuple[Group, ...]  # in the order of --help
    by_name: Mapping[str, Flag] = field(init=False)  # all flags

    def __post_init__(self) -> None:
        """Index the flags."""
        flags = [flag for group in self.groups for flag in group.flags]
        by_name = {flag.name: flag for flag in flags}
        assert len(by_name) == len(flags), "a flag stands in two groups"
        object.__setattr__(self, "by_name", MappingProxyType(by_name))

    def parser(self, description: str) -> Parser:
        """A parser of these flags."""
        parser = Parser(description=description, table=self)
        for group in self.groups:
            place = parser.add_argument_group(group.title)
            for flag in group.flags:
                flag.add_to(place, self.stage)
        return parser

    def check(self, values: Mapping[str, object], given: Collection[str]) -> None:
        """Check every flag by itself, and whether the objective has a use for those given.

        Raises:
            ValueError: see `Flag.check`.
        """
        others = []
        for name, flag in self.by_name.items():
            flag.check(values[name])
            if name in given and flag.owner not in ("", values.get("objective", "")):
                others.append(flag)
        if others:
            names = ", ".join(f"--{flag.name}" for flag in others)
            raise ValueError(f"{names} belong to --objective {others[0].owner}; leave them out")
