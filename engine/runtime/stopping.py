"""SIGTERM and Ctrl-C: a run leaves with status 75 whenever they come; if it trains, it saves first.

Only the standard library is imported here, so that a program can listen before anything else.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STOPPED_STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on
NUMBERS = (signal.SIGTERM, signal.SIGINT)
GOES_ON = "the same command goes on from here"


class StoppedBySignalError(Exception):
    """The run was asked to stop, has saved its state and can be started again."""


class StopRequest:
    """Signals that have come, while a program does not let them end it at once."""

    def __init__(self) -> None:
        self.received: str | None = None
        self.count = 0

    def note(self, number: int, frame: object) -> None:
        """Handle a signal; a second SIGINT ends the program."""
        if self.received and number == signal.SIGINT:
            leave(number, frame)
        self.received = signal.Signals(number).name
        self.count += 1
        _say(f"{self.received} received: saving, then stopping")


def listen() -> None:
    """From now on signals end this process at once, with status 75.

    For everything around training: nothing is lost there that the same command does not make
    again, and libraries in the middle of being imported are not to see an exception.
    """
    for number in NUMBERS:
        signal.signal(number, leave)


def leave(number: int, frame: object) -> None:
    """End this process, as the handler of a signal."""
    _say(f"stopped by {signal.Signals(number).name}; {GOES_ON}")
    with suppress(Exception):  # a stream may be in the middle of a write
        sys.stdout.flush()
    os._exit(STOPPED_STATUS)


def leave_at_once(status: int) -> None:
    """End this process without taking the interpreter down.

    For processes of a group: threads of gloo that outlive the interpreter abort now and then
    ("terminate called without an active exception"), and with them the others, not yet done.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


@contextmanager
def noted() -> Iterator[StopRequest]:
    """Signals are only noted in here; who asks for it finds them in what this yields."""
    request = StopRequest()
    previous = {number: signal.signal(number, request.note) for number in NUMBERS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    """Write a line; not by logging, whose locks the interrupted code may hold."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode())
