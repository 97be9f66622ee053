"""What every command does with its output before anything else."""

import atexit
import io
import os
import sys
from contextlib import suppress

NOBODY_READS = 141  # the status of other programs that lose their reader, of `| head` for one


def as_program(*, goes_on: bool = False) -> None:
    """Let this process print any file's name, and end without a word when nobody reads on.

    Bytes of names that are not UTF-8 are shown as escapes.

    Args:
        goes_on: without an end: trainings outlive whoever reads them. The first call decides.
    """
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper):
        return
    out.reconfigure(errors="backslashreplace")
    if out is sys.__stdout__ and "write" not in vars(out):
        out.write, out.flush = _ending(out.write, goes_on), _ending(out.flush, goes_on)
        atexit.register(_flush)


def _ending(function, goes_on: bool):
    """The function, which ends the process where the pipe behind standard output is broken."""

    def guarded(*args):
        try:
            return function(*args)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
            if not goes_on:
                raise SystemExit(NOBODY_READS) from None  # no error for those who catch OSError

    return guarded


def _flush() -> None:
    with suppress(SystemExit):
        sys.__stdout__.flush()
