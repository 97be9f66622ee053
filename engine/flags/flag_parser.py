"""An argument parser whose errors fit on a screen, and the kinds of values it reads."""

import argparse
import re
from typing import NoReturn

from svfap.suggest import did_you_mean


class Parser(argparse.ArgumentParser):
    """Parser of the two programs: full flag names only, defaults in the help, short errors.

    Attributes:
        table: what is known about its flags (`engine.flags.flag.Table`).
    """

    def __init__(self, *, description: str, table: object):
        """Take what the program does, and its flags."""
        self.table = table
        super().__init__(
            description=description, formatter_class=_HelpFormatter, allow_abbrev=False
        )

    def parse_args(self, args=None, namespace=None) -> argparse.Namespace:
        """Parse, and suggest flags that are spelt almost like unknown ones."""
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._describe_unknown(unknown))
        return namespace

    def error(self, message: str) -> NoReturn:
        """End with status 2 and the message alone; usage would be sixty lines before it."""
        self.exit(2, f"{self.prog}: error: {message}\n`{self.prog} --help` lists all flags\n")

    def _describe_unknown(self, unknown: list[str]) -> str:
        names = [text.split("=")[0] for text in unknown if text.startswith("--")]
        if not names:
            return f"unknown arguments: {' '.join(unknown)}"
        known = [name for name in self._option_string_actions if name.startswith("--")]
        parts = [f"{name}{did_you_mean(name, known)}" for name in names]
        return f"unknown {'flag' if len(names) == 1 else 'flags'}: {'; '.join(parts)}"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except where they say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default in (None, False, argparse.SUPPRESS) or action.nargs == 0:
            return action.help or ""
        return super()._get_help_string(action) or ""


def share(text: str) -> float:
    """Read a number above 0 and at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} must be above 0 and at most 1")
    return value


def device(text: str) -> str:
    """Read what `--device` may be; which of them are there is seen later."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:N and mps")
    return text


def auto_on_off(text: str) -> str:
    """Read auto, on or off, or a truth value for one of the latter (YAML's on is true)."""
    if text.lower() in ("auto", "on", "off"):
        return text.lower()
    try:
        return "on" if boolean(text) else "off"
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, on and off") from error


def boolean(text: str) -> bool:
    """Read true, 1, yes, false, 0 or no."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]
