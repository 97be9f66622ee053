"""Errors that end a run with a message for its user instead of a traceback."""

import opcode
import os
import re
from pathlib import Path

from svfap.datasets.files import CannotWriteError
from svfap.datasets.loading.errors import LoaderError

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, or the installed package
OURS = ("models", "datasets", "engine", "preprocess", "svfap", "benchmarks")
# What torch says, at any place of the program, when the system has ended a loader process.
_DEAD_LOADER = re.compile(r"DataLoader worker.*(exited unexpectedly|is killed by signal)")
# What it makes of the errors of loader processes that go on: the text of their traceback.
_OF_LOADER = re.compile(r"Caught \w+ in DataLoader worker process \d+\.")
_FRAME = re.compile(r'  File "(.+)", line \d+, in .*\n\s+(raise\b)?')


class TooManyUnreadableError(RuntimeError):
    """More training videos are unreadable than `--max_unreadable` allows."""


class UnreadableInEvaluationError(RuntimeError):
    """Videos of an evaluation set cannot be read; nothing is replaced or left out."""


EXPECTED = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    FloatingPointError,
    TooManyUnreadableError,
    UnreadableInEvaluationError,
    LoaderError,
)


def explain(error: BaseException) -> str | None:
    """What to tell the user about an error.

    Returns:
        None for a defect of ours, whose traceback is wanted.
    """
    if isinstance(error, CannotWriteError) or is_for_user(error):
        return str(error)
    if isinstance(error, EXPECTED) and _OF_LOADER.match(str(error)):
        return _said_in_loader(error)
    if isinstance(error, OSError) and error.filename is not None:
        name = error.filename if isinstance(error.filename, int) else os.fsdecode(error.filename)
        return (
            f"cannot read or write {name} ({error.strerror or error}): see to it; the same command "
            "goes on"
        )
    if isinstance(error, RuntimeError) and _DEAD_LOADER.search(str(error)):
        reason = str(error).splitlines()[0].rstrip(".")
        return (
            f"a process that loads videos has died ({reason}), most likely for want of memory: "
            "take a smaller --num_workers; the same command goes on"
        )
    return None


def is_for_user(error: BaseException) -> bool:
    """Whether an error was raised by this project on purpose, with a message that explains it.

    A ValueError from inside a library, or of a function called in a line of ours such as `int`,
    is a defect of ours and keeps its traceback.
    """
    return isinstance(error, EXPECTED) and _is_raised_here(error)


def _is_raised_here(error: BaseException) -> bool:
    """Whether the error comes from a `raise` in this project's code."""
    last = error.__traceback__
    if last is None:
        return False
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    return _is_ours(Path(code.co_filename)) and (
        opcode.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
    )


def _is_ours(path: Path) -> bool:
    """Whether a file of code is this project's."""
    if not (path.is_absolute() and path.is_relative_to(ROOT)):
        return False
    return path.relative_to(ROOT).parts[0] in OURS


def _said_in_loader(error: BaseException) -> str | None:
    """The message of an error of a loader process, which comes as the text of its traceback.

    Returns:
        None unless the last line of code in it is a `raise` of ours.
    """
    text = str(error)
    *_, last = _FRAME.finditer(text)
    _, named, message = text[last.end() :].partition(f"{type(error).__name__}: ")
    return message.strip() if last[2] and named and _is_ours(Path(last[1])) else None
