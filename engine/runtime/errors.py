"""Errors that end a run with a message for its user instead of a traceback."""

import traceback
from pathlib import Path

from datasets.clips.errors import LoaderError

STOPPED_STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on
ROOT = Path(__file__).resolve().parents[2]


class StoppedBySignalError(Exception):
    """The run was asked to stop, has saved its state and can be started again."""


class TooManyUnreadableError(RuntimeError):
    """More training videos are unreadable than `--max_unreadable` allows."""


class UnreadableInEvaluationError(RuntimeError):
    """Videos of an evaluation set cannot be read; nothing is replaced or left out."""


EXPECTED = (
    ValueError,
    FileNotFoundError,
    FloatingPointError,
    TooManyUnreadableError,
    UnreadableInEvaluationError,
    LoaderError,
)


def is_for_user(error: BaseException) -> bool:
    """Whether an error was raised by this project on purpose, with a message that explains it.

    A ValueError from inside a library is a defect of ours and keeps its traceback.
    """
    if not isinstance(error, EXPECTED):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    last = Path(frames[-1].filename).resolve() if frames else Path()
    return last.is_relative_to(ROOT) and "site-packages" not in last.parts
