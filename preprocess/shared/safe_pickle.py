"""Reading pickles of plain data without running what they contain.

A pickle is a program: loading one from elsewhere can start anything, or ask for more memory than
there is. Here it gets plain containers, text, numbers and numpy's single numbers, the latter made
by code of our own; whatever else it asks for by name is refused before it is looked up. Its size
and instructions are counted first.
"""

import io
import os
import pickle
import pickletools
from pathlib import Path

import numpy as np

MAX_BYTES = 16 * 2**20  # those of ChaLearn have one or two million
MAX_INSTRUCTIONS = 1_000_000
MAX_TUPLES = 100_000  # hashing those that lie in each other takes room on the stack
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
NUMBER_BYTES = 8


class UnsafePickleError(ValueError):
    """A pickle that holds more than plain data, or is damaged."""


class _NumberType:
    """Stands in for numpy.dtype."""

    def __init__(self, kind: object, *_: object):
        self.kind, self.order = kind.decode() if isinstance(kind, bytes) else kind, "<"
        if self.kind not in NUMBERS:
            raise UnsafePickleError(f"numpy type {kind!r} is not one of {NUMBERS}")

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1].decode() if isinstance(state[1], bytes) else state[1]


def _scalar(kind: _NumberType, data: bytes | str) -> float | int | bool:
    data = data.encode("latin-1") if isinstance(data, str) else data
    return np.frombuffer(data, np.dtype(kind.order + kind.kind)).item()


def _encode(text: str, encoding: str) -> bytes:
    """As codecs.encode, by which Python 3 writes bytes for Python 2, of a number's bytes."""
    if encoding not in ("latin1", "latin-1") or len(text) > NUMBER_BYTES:
        raise UnsafePickleError(f"{len(text)} characters to be encoded as {encoding}")
    return text.encode("latin-1")


MAKERS = {
    ("numpy", "dtype"): _NumberType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in MAKERS:
            raise UnsafePickleError(
                f"it asks for {module}.{name}, which plain data does not need; nothing was run"
            )
        make = MAKERS[module, name]
        return lambda *arguments: make(*arguments)  # a new one, which a pickle may spoil


def load_plain_pickle(path: str | os.PathLike) -> object:
    """Read a pickle of plain data.

    Args:
        path: the file; text of Python 2 is taken for Latin-1.

    Returns:
        Containers, text and numbers; numpy's numbers become Python's.

    Raises:
        UnsafePickleError: the file asks for anything else, is damaged or too large.
    """
    size = Path(path).stat().st_size
    if size > MAX_BYTES:
        raise UnsafePickleError(
            f"{path} has {size:,} bytes; a file of scores has at most {MAX_BYTES:,}"
        )
    data = Path(path).read_bytes()
    try:
        _check_instructions(data)
        return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path}: {error}") from error
    except Exception as error:  # damaged pickles fail in many ways
        raise UnsafePickleError(
            f"{path} is not a whole pickle ({type(error).__name__}: {error})"
        ) from error


def _check_instructions(data: bytes) -> None:
    """Refuse programs that would take much more room than they have themselves."""
    tuples = 0
    for count, (instruction, argument, _) in enumerate(pickletools.genops(data), start=1):
        tuples += instruction.name.startswith(("TUPLE", "FROZENSET"))
        if count > MAX_INSTRUCTIONS or tuples > MAX_TUPLES:
            raise UnsafePickleError(f"it has {count:,} instructions or more, {tuples:,} for tuples")
        if "PUT" in instruction.name and int(argument) > count:
            raise UnsafePickleError(f"place {argument} in a table of {count}")
