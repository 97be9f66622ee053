"""Reading pickles of plain data without running what they contain.

A pickle is a program: loading one from elsewhere can start anything, or ask for more memory than
there is. This reader knows the plain containers, text, numbers and numpy scalars, the latter
rebuilt by code of its own; whatever else a pickle asks for by name is refused before it is looked
up, so nothing is imported or called. What a program may build is bounded by its size: instructions
are counted first, and those that copy draw on a budget.
"""

import io
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path

import numpy as np

MAX_BYTES = 16 * 2**20  # those of ChaLearn have one or two million
MAX_INSTRUCTIONS = 1_000_000
MAX_COPIED = 2_000_000  # items or characters
MAX_TUPLES = 100_000  # hashing those that lie in each other takes room on the stack
SCALAR_KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


class UnsafePickleError(ValueError):
    """A pickle that holds more than plain data, or is damaged."""


class _ScalarType:
    """Stands in for numpy.dtype: one of the simple number types, nothing else."""

    def __init__(self, kind: object, align: object = False, copy: object = True):
        kind = kind.decode("ascii") if isinstance(kind, bytes) else kind
        if kind not in SCALAR_KINDS:
            raise UnsafePickleError(f"numpy type {kind!r} is not one of {SCALAR_KINDS}")
        self._kind = kind
        self._order = "<"

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "="):
            raise UnsafePickleError(f"numpy byte order {order!r} is not one of < > | =")
        self._order = order

    def read(self, data: bytes) -> float | int | bool:
        """The number stored in `data`."""
        dtype = np.dtype(self._order + self._kind)
        if len(data) != dtype.itemsize:
            raise UnsafePickleError(f"{len(data)} bytes for a numpy {dtype}")
        return np.frombuffer(data, dtype)[0].item()


class _Maker:
    """What a pickle may call: something plain, from something plain; nothing else can be told it.

    Args:
        left: [items that may still be copied], shared by all makers of a pickle.
    """

    __slots__ = ("_left", "_make")

    def __init__(self, make, left: list[int]):
        self._make, self._left = make, left

    def __call__(self, *arguments: object) -> object:
        for argument in arguments:
            self._left[0] -= len(argument) if hasattr(argument, "__len__") else 0
        if self._left[0] < 0:
            raise UnsafePickleError(f"it copies more than {MAX_COPIED:,} items")
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise UnsafePickleError("it changes a function")


def _scalar(dtype: object, data: object = b"") -> float | int | bool:
    if not isinstance(dtype, _ScalarType) or not isinstance(data, bytes | str):
        raise UnsafePickleError(f"a numpy scalar of type {type(dtype).__name__}")
    return dtype.read(data.encode("latin-1") if isinstance(data, str) else data)


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """As codecs.encode, by which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError(f"encoding {encoding!r} of {type(text).__name__}")
    return text.encode("latin-1")


MAKERS = {
    ("builtins", "set"): set,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    """Knows `MAKERS` and numpy's number types, and nothing else."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="latin-1")
        self._left = [MAX_COPIED]

    def find_class(self, module: str, name: str) -> object:
        module = "builtins" if module == "__builtin__" else module  # Python 2's name
        if (module, name) == ("numpy", "dtype"):
            return _ScalarType
        try:
            return _Maker(MAKERS[module, name], self._left)
        except KeyError:
            raise UnsafePickleError(
                f"it asks for {module}.{name}, which plain data does not need; nothing was run"
            ) from None

    def persistent_load(self, pid: object) -> object:
        raise UnsafePickleError("it refers to objects outside the file")


def load_plain_pickle(path: str | os.PathLike) -> object:
    """Read a pickle of plain data.

    Args:
        path: the file; text of Python 2 is taken for Latin-1.

    Returns:
        Containers, text and numbers; numpy scalars become Python numbers.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafePickleError: the file asks for anything else, is damaged or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnsafePickleError(
            f"{path} has {size:,} bytes; a file of scores has at most {MAX_BYTES:,}"
        )
    data = path.read_bytes()
    try:
        _check_instructions(data)
        return _PlainUnpickler(data).load()
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
