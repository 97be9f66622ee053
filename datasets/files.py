"""Files and folders that are whole or not there, and arrays read from npz files."""

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# Pattern of what a killed process leaves of `replacing`.
TEMPORARY = ".*.[0-9]*.tmp"
# What reading damaged npz files raises, among them pickled arrays (ValueError) and npy files
# (TypeError).
_DAMAGE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Where to write a file that is to take the place of `path` once it is complete.

    Readers see the old file or the new one, never a part; after an error the old one stays. A
    folder is written in the same way where there is none yet.

    Args:
        path: the file or folder; the one around it is made if necessary.

    Yields:
        A path beside it, with nothing there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
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
