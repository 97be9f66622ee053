"""Reading pickles of plain data without running what they contain.

A pickle is a program: loading one from elsewhere can start anything. This reader knows the plain
containers, text, numbers and numpy scalars, the latter rebuilt by code of its own; whatever else a
pickle asks for by name is refused before it is looked up, so nothing is imported or called.
"""

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np

MAX_BYTES = 256 * 2**20
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


class _Scalar:
    """Stands in for numpy's function `scalar`; without attributes a pickle could change."""

    __slots__ = ()

    def __call__(self, dtype: object, data: object = b"") -> float | int | bool:
        if not isinstance(dtype, _ScalarType) or not isinstance(data, bytes | str):
            raise UnsafePickleError(f"a numpy scalar of type {type(dtype).__name__}")
        return dtype.read(data.encode("latin-1") if isinstance(data, str) else data)


class _Encode:
    """Stands in for codecs.encode, by which Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise UnsafePickleError(f"encoding {encoding!r} of {type(text).__name__}")
        return text.encode("latin-1")


ALLOWED = {
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("builtins", "set"): set,
    ("builtins", "str"): str,
    ("builtins", "float"): float,
    ("builtins", "int"): int,
    ("builtins", "bool"): bool,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _ScalarType,
    ("numpy.core.multiarray", "scalar"): _Scalar(),
    ("numpy._core.multiarray", "scalar"): _Scalar(),
    ("_codecs", "encode"): _Encode(),
} | {("numpy", name): float for name in ("float16", "float32", "float64")}


class _PlainUnpickler(pickle.Unpickler):
    """Knows `ALLOWED` and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        module = "builtins" if module == "__builtin__" else module  # Python 2's name
        try:
            return ALLOWED[module, name]
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
    if path.stat().st_size > MAX_BYTES:
        raise UnsafePickleError(f"{path}: larger than {MAX_BYTES} bytes; not an annotation file")
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin-1").load()
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path}: refused: {error}") from error
    except Exception as error:  # damaged pickles raise almost anything
        reason = str(error) or type(error).__name__
        raise UnsafePickleError(f"{path}: not a pickle of plain data ({reason})") from error
