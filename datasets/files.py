"""Files and folders that are whole or not there, journals, and arrays read from npz files."""

import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

# Pattern of what a killed process leaves of `replacing`.
TEMPORARY = ".*.[0-9]*.tmp"
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS))  # for whatever file it is
# What a disk answers that takes no more, and what is to be done about it.
_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "choose a disk that takes files of this size",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EROFS: "make it writable",
    errno.EIO: "see to the disk",
    errno.ESTALE: "see to the disk",
}


class CannotWriteError(OSError):
    """A file of ours cannot be written; the message names it, the reason and the remedy."""

    def __init__(self, path: str | os.PathLike, error: OSError):
        """Take over the number of `error`."""
        remedy = _REMEDIES.get(error.errno, "see to it")
        reason = error.strerror or str(error)
        super().__init__(f"cannot write {path} ({reason}): {remedy}; the same command goes on")
        self.path, self.errno, self.reason = str(path), error.errno, reason

    def __reduce__(self) -> tuple:
        """For workers, whose errors are sent to the main process."""
        return type(self), (self.path, OSError(self.errno, self.reason))


class MissingArraysError(ValueError):
    """An npz file that is whole lacks arrays."""


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Name the file in what the disk answers in here.

    Raises:
        CannotWriteError: in place of any other OSError.
    """
    try:
        yield
    except CannotWriteError:
        raise
    except OSError as error:
        raise CannotWriteError(path, error) from error


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Where to write a file that is to take the place of `path` once it is complete.

    Readers see the old file or the new one, never a part, and after a power failure too; after an
    error the old one stays. A folder is written in the same way where there is none yet.

    Args:
        path: the file or folder; the one around it is made if necessary.

    Yields:
        A path beside it, with nothing there.

    Raises:
        CannotWriteError: the disk is full, the folder is not writable, or the like.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush_entry(path.parent)
    except Exception as error:
        if found := _refusal(error, temporary):
            raise CannotWriteError(path, found) from error
        raise
    finally:
        with suppress(OSError):
            _remove(temporary)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all; see `replacing`."""
    data = text.encode("utf-8", "surrogateescape")
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def utf8_path(path: str | os.PathLike) -> Iterator[str]:
    """A path for libraries that take UTF-8 only, to be opened inside the block.

    Yields:
        `path`, or where it is not UTF-8 that of a link to it, which goes at the end of the block.
    """
    path = os.fspath(path)
    if ":" in path:  # the beginning would be taken for a protocol
        path = os.path.abspath(path)
    try:
        path.encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="name_") as folder:
            suffix = os.path.splitext(path)[1]
            link = os.path.join(folder, "file" + suffix.encode("ascii", "ignore").decode())
            os.symlink(os.path.abspath(path), link)
            yield link
    else:
        yield path


def read_json(path: str | os.PathLike) -> dict:
    """Read a JSON object.

    Raises:
        ValueError: it holds none; names the file.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be one of ours") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete what killed processes left of `replacing`; nobody else may be writing there."""
    for leftover in sorted(Path(folder).rglob(TEMPORARY)):
        _remove(leftover)


def read_journal(path: str | os.PathLike, needs: Mapping[str, type] | None = None) -> list[dict]:
    """Read the objects of a file with a JSON object per line; none where there is no file.

    A line that is none, such as the last one of a killed process, is named in a warning and left
    out.

    Args:
        needs: what every object must have, and of what type.
    """
    path = Path(path)
    lines = path.read_bytes().splitlines() if path.is_file() else []
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            entry = line
        fits = isinstance(entry, dict) and all(
            isinstance(entry.get(key), kind) for key, kind in (needs or {}).items()
        )
        if fits:
            entries.append(entry)
        elif entry is not None:
            logger.warning("%s: line %d is damaged and left out", path, number)
    return entries


class GrowingFile:
    """A file that is appended to; a context manager.

    Every piece goes to the system at once and nothing waits in memory, so that what is left by a
    killed process or a full disk is whole but for the last piece.

    Args:
        path: the file; it and its folder are made if necessary.
        lines: of lines: none that are added continue one that was torn.

    Raises:
        CannotWriteError: here and in `write`.
    """

    def __init__(self, path: str | os.PathLike, *, lines: bool = True):
        self.path = Path(path)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
            content = self.path.read_bytes() if lines else b""
        if content and not content.endswith(b"\n"):
            self.write(b"\n")

    def write(self, piece: bytes | str) -> None:
        """Append a piece."""
        left = piece.encode("utf-8", "surrogateescape") if isinstance(piece, str) else piece
        with writing(self.path):
            while left:
                left = left[self._file.write(left) :]

    def flush_to_disk(self) -> None:
        """Return once everything is on the disk."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> "GrowingFile":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _refusal(error: BaseException | None, temporary: Path) -> OSError | None:
    """The disk's answer behind an error of writing `temporary`, whatever a library made of it."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and not isinstance(error, CannotWriteError):
            names = [name for name in (error.filename, error.filename2) if name is not None]
            ours = any(_is_part(name, temporary) for name in names)
            if ours or (not names and error.errno in _REMEDIES):
                return error
        error = error.__cause__ or error.__context__
    return None


def _is_part(name: object, temporary: Path) -> bool:
    """Whether a name in an error is that of the file being written, or of its folder."""
    if isinstance(name, int):  # a file descriptor
        return True
    name = Path(os.fsdecode(name))
    return name == temporary or temporary in name.parents or name in temporary.parents


def _flush(path: Path) -> None:
    """Bring a file, or all of a folder, to the disk."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as content:
                os.fsync(content.fileno())


def _flush_entry(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_array(path: str | os.PathLike) -> np.ndarray:
    """Read the array of an npy file; nothing in it is executed.

    Raises:
        ValueError: it is not an npy file of plain values.
    """
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged headers raise almost anything
        raise ValueError(f"{path} is not a plain npy file ({error})") from error


def read_arrays(
    path: str | os.PathLike, names: Sequence[str] | None, *, optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Read arrays of an npz file; nothing in it is executed.

    Args:
        names: arrays that must be there; None: all that are.

    Raises:
        ValueError: it is not an npz file of plain arrays.
        MissingArraysError: arrays are missing; the message lists those it has.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            there = content.files
            names = there if names is None else names
            wanted = [name for name in (*names, *optional) if name in there]
            arrays = {name: content[name] for name in wanted}
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged archives and headers raise almost anything
        raise ValueError(f"{path} is not an npz file of plain arrays ({error})") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise MissingArraysError(
            f"{path} holds the arrays {', '.join(there)}, not {', '.join(missing)}"
        )
    return arrays
