"""Files that are whole or not there, and arrays read from npz files."""

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# What reading damaged npz files raises, among them pickled arrays (ValueError) and npy files
# (TypeError).
_DAMAGE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Where to write a file that is to take the place of `path` once it is complete.

    Readers see the old file or the new one, never a part; after an error the old one stays.

    Args:
        path: the file; its folder is made if necessary.

    Yields:
        A path in the same folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(
    path: str | os.PathLike, names: Sequence[str], *, optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Read arrays of an npz file; nothing in it is executed.

    Args:
        path: the file.
        names: arrays that must be there.
        optional: arrays that are read where they are there.

    Returns:
        The arrays by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an npz file of plain arrays.
        LookupError: arrays are missing; the message lists those it has.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            there = content.files
            wanted = [name for name in (*names, *optional) if name in there]
            arrays = {name: content[name] for name in wanted}
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise ValueError(f"{path} is not an npz file of plain arrays ({error})") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise LookupError(f"{path} holds the arrays {', '.join(there)}, not {', '.join(missing)}")
    return arrays
