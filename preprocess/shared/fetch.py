"""Downloads of whole data sets: each goes on where it broke off, and is checked."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from svfap.datasets.files import writing
from svfap.preprocess.shared.common import SHOWN_PROBLEMS, PreparationError, watched

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60
TRIES = 5  # in a row that bring nothing
FIRST_PAUSE_SECONDS = 1.0  # doubled after every such try
AGENT = "svfap (data set download)"
ALGORITHMS = ("md5", "sha256")


class FetchError(PreparationError):
    """What an address did not deliver."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file that can be fetched."""

    url: str  # its address
    path: Path  # where it belongs
    size: int | None = None  # bytes; None where unknown
    checksum: str | None = None  # "md5:..." or "sha256:..."; None where unknown


def read_url(url: str) -> bytes:
    """A short answer, as a whole.

    Raises:
        FetchError: not to be had.
    """
    for number in range(TRIES):
        try:
            with _open(url) as response:
                return response.read()
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            _refuse_final(url, error, last=number + 1 == TRIES)
        time.sleep(FIRST_PAUSE_SECONDS * 2**number)
    raise AssertionError("the last try raises")


def fetch(remote: Remote, *, show: bool = False) -> None:
    """Download a file unless it is there; it gets its name when it is complete and checked.

    What has arrived stays in `<name>.part`, from where the next try or command goes on.

    Raises:
        FetchError: not to be had, or not what it should be.
        CannotWriteError: the disk takes no more.
    """
    if remote.path.is_file():
        return
    part = remote.path.with_name(f"{remote.path.name}.part")
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    idle = wrong = 0
    while True:
        before = part.stat().st_size
        try:
            _go_on(remote, part, show)
            _check(remote, part)
            break
        except _WrongContentError as error:
            part.unlink()
            wrong += 1
            if wrong > 1:
                raise FetchError(f"{remote.url}: {error}, twice") from error
            part.touch()
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            idle = 0 if part.stat().st_size > before else idle + 1
            _refuse_final(remote.url, error, last=idle == TRIES)
            logger.info("%s: %s; trying again", remote.path.name, _words(error))
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** max(0, idle - 1))
    with writing(remote.path):
        part.replace(remote.path)


class _WrongContentError(Exception):
    """All has arrived and is not what it should be."""


def _go_on(remote: Remote, part: Path, show: bool) -> None:
    """Append what is missing; from the start where the server cannot go on."""
    start = part.stat().st_size
    if remote.size is not None and start >= remote.size:
        return
    try:
        response = _open(remote.url, start)
    except HTTPError as error:
        if error.code != 416:  # nothing from there on: it may be whole, or of another file
            raise
        if remote.size is None and remote.checksum is not None:
            return
        raise _WrongContentError("there is less of it than has arrived") from error
    with response, part.open("ab") as file:
        if response.status != 206 or not _starts_at(response, start):
            start = 0
            file.truncate(0)
        total = start + response.length if response.length is not None else remote.size
        bar = tqdm(
            desc=remote.path.name, total=total, initial=start, unit="B", unit_scale=True,
            disable=not show, mininterval=1, leave=False,
        )  # fmt: skip
        with bar:
            while data := response.read1(1 << 20):
                with writing(part):
                    file.write(data)
                bar.update(len(data))
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise ConnectionError(f"the connection ended after {arrived:,} of {total:,} bytes")


def _check(remote: Remote, part: Path) -> None:
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        raise _WrongContentError(f"{size:,} bytes came, {remote.size:,} are stated")
    if remote.checksum is None:
        return
    name, _, expected = remote.checksum.partition(":")
    if name not in ALGORITHMS:
        raise FetchError(f"{remote.url}: the checksum {remote.checksum!r} is of an unknown kind")
    digest = hashlib.new(name, usedforsecurity=False)
    with part.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    if digest.hexdigest() != expected.lower():
        raise _WrongContentError(f"{name} {digest.hexdigest()}, stated is {expected.lower()}")


def _open(url: str, start: int = 0):
    headers = {"User-Agent": AGENT} | ({"Range": f"bytes={start}-"} if start else {})
    return urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)


def _starts_at(response, start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _refuse_final(url: str, error: Exception, *, last: bool) -> None:
    """Raise FetchError where another try cannot help."""
    hopeless = isinstance(error, HTTPError) and error.code < 500 and error.code not in (408, 429)
    if hopeless or last:
        raise FetchError(f"{url}: {_words(error)}") from error


def _words(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error).partition("\n")[0] or type(error).__name__


def fetch_all(items: Sequence, get: Callable[[object], None], *, num_workers: int) -> None:
    """Fetch many files, some at a time; those that fail do not stop the others.

    Raises:
        FetchError: names what could not be had.
    """
    failed: list[str] = []
    with ThreadPoolExecutor(num_workers) as pool:
        tasks = [pool.submit(get, item) for item in items]
        try:
            for task in watched(as_completed(tasks), len(tasks), "files"):
                try:
                    task.result()
                except FetchError as error:
                    failed.append(str(error))
        except BaseException:  # Ctrl-C, or a full disk
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        shown = "\n".join(f"  {line}" for line in failed[:SHOWN_PROBLEMS])
        raise FetchError(
            f"{len(failed)} of {len(items)} files could not be fetched; try again with the same "
            f"command:\n{shown}"
        )
