"""Copies of files with a little damage, and what a program made of each, found out safely."""

import json
import logging
import multiprocessing
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from svfap.datasets.video.base import UnreadableVideoError
from svfap.engine.runtime.errors import explain

HANGS_SECONDS = 60


@dataclass(frozen=True)
class Format:
    """A kind of file that the program reads.

    Attributes:
        name: of the kind.
        path: a whole file, which is put back after each try.
        read: what is done with it; returns what it is good for, to be compared.
        checked: the file carries a checksum: what is read has to be as it was.
        cache: read gives None where the file is not used, to be made anew.
        journal: damaged lines are left out, each named in a warning.
        named: text that errors have to contain; default: the file's name.
    """

    name: str
    path: Path
    read: Callable[[], object]
    checked: bool = False
    cache: bool = False
    journal: bool = False
    named: str = ""


def mutant(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage a file's content; returns what was done and the result."""
    kind = rng.choice(("flip", "flip", "flips", "cut", "piece", "insert", "empty", "line", "digit"))
    place = rng.randrange(len(data))
    if rng.random() < 0.3:  # headers decide most
        place = min(place, rng.randrange(64))
    if kind == "empty" and rng.random() < 0.9:
        kind = "zeros"
    head, tail = data[:place], data[place:]
    if kind == "flip":
        made = head + bytes([tail[0] ^ 1 << rng.randrange(8)]) + tail[1:]
    elif kind == "flips":
        some = bytearray(data)
        for _ in range(rng.randrange(2, 20)):
            some[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        made = bytes(some)
    elif kind == "cut":
        made = head
    elif kind == "piece":
        made = head + tail[rng.randrange(1, 1 + max(1, len(tail) // 2)) :]
    elif kind == "insert":
        made = head + rng.randbytes(rng.randrange(1, 40)) + tail
    elif kind == "zeros":
        made = head + bytes(min(len(tail), rng.randrange(1, 512)))
        made += data[len(made) :]
    elif kind == "line":
        lines = data.splitlines(keepends=True)
        number = rng.randrange(len(lines))
        made = b"".join([*lines[: number + 1], *lines[number:]])
    elif kind == "digit":
        made = head + bytes([rng.choice(b'0123456789-.eE"{}[],:_ \n\t')]) + tail[1:]
    else:
        made = b""
    return f"{kind} at {place}", made


def judge(form: Format, right: object, warned: list[str]) -> tuple[str, str]:
    """Read a damaged file; returns the outcome, and why it is wrong if it is."""
    try:
        found = form.read()
    except BaseException as error:  # whatever it is, it is to be told of
        text = str(error) if isinstance(error, UnreadableVideoError) else None
        if text is None and isinstance(error, Exception):
            text = explain(error)
        if text is None:
            return "error", f"would be a traceback: {type(error).__name__}: {error}"
        if (form.named or form.path.name) not in text:
            return "error", f"does not name the file: {text}"
        return "error", ""
    if found == right:
        return "same", ""
    if form.cache and found is None:
        return "anew", ""
    if form.checked:
        return "other", "reads as something else, without a word"
    if form.journal and not warned and not _is_journal(form.path):
        return "other", "leaves out a line without a word"
    return "other", ""


def _is_journal(path: Path) -> bool:
    """Whether every line is an object, so that nothing shows its damage."""
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return False
    return all(isinstance(line, dict) for line in lines)


class _Warnings(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def _try_all(form: Format, seed: int, numbers: range, answer) -> None:
    """Body of a process: every mutant of some numbers, and what came of it."""
    warnings.simplefilter("ignore")
    heard = _Warnings()
    root = logging.getLogger()
    root.handlers[:] = [heard]
    data = form.path.read_bytes()
    right = form.read()
    answer.send("ready")
    for number in numbers:
        what, made = mutant(data, random.Random(f"{seed} {form.name} {number}"))
        form.path.write_bytes(made)
        heard.texts.clear()
        answer.send((number, what, *judge(form, right, heard.texts)))
        form.path.write_bytes(data)
    answer.close()


def try_mutants(form: Format, *, seed: int, count: int) -> tuple[dict[str, int], list[str]]:
    """Try mutants of a file in a process of its own, which may crash or hang.

    Returns:
        How often each outcome came, and what must not be.
    """
    outcomes: dict[str, int] = {}
    wrong: list[str] = []
    data, number = form.path.read_bytes(), 0
    while number < count:
        here, there = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_try_all, args=[form, seed, range(number, count), there])
        process.start()
        there.close()
        try:
            ready = here.poll(HANGS_SECONDS) and here.recv()
            assert ready == "ready", f"{form.name} cannot be read when whole"
            while number < count:
                if not here.poll(HANGS_SECONDS):
                    wrong.append(f"{form.name} {number}: hangs")
                    number += 1
                    break
                number, what, outcome, why = here.recv()
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                if why:
                    wrong.append(f"{form.name} {number} ({what}): {why}")
                number += 1
        except EOFError:
            process.join()
            wrong.append(f"{form.name} {number}: the process died ({process.exitcode})")
            number += 1
        process.kill()
        process.join()
        form.path.write_bytes(data)
    return outcomes, wrong
