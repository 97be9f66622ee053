"""One process at a time works in a run directory."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svfap.datasets.files import CannotWriteError, writing

logger = logging.getLogger(__name__)

NAME = ".lock"


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Make a folder if necessary, and keep other processes out of it.

    The system gives the lock back when the process ends, however it ends; the file names host and
    process. Where the file system has no locks, only a warning is given.

    Raises:
        ValueError: another process works there.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(folder / NAME)
    try:
        yield
    finally:
        if descriptor is not None:
            (folder / NAME).unlink(missing_ok=True)
            os.close(descriptor)


def _acquire(path: Path) -> int | None:
    while True:
        # Of a process, not of an open file: loader workers do not inherit it.
        with writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise ValueError(
                f"{path.parent} is in use by {owner or 'another process'}; wait for it, stop it, "
                "or choose another --output_dir"
            ) from None
        except OSError as error:
            os.close(descriptor)
            logger.warning("%s cannot be locked (%s): start no second run there", path, error)
            return None
        if _is_at(path, descriptor):
            break
        os.close(descriptor)  # its owner ended and removed it between open and lock
    owner = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
    try:
        with writing(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner, 0)
    except CannotWriteError:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
