"""Downloads: each goes on where it broke off, is checked, and gets its name when it is whole."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from http.client import HTTPException
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import HTTPCookieProcessor, Request, build_opener

from tqdm import tqdm

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 15  # without an answer, or a byte more
TRIES = 5  # in a row that bring nothing
FIRST_PAUSE_SECONDS = 1.0  # doubled after every such try
AGENT = "Mozilla/5.0 (compatible; svfap-download)"  # some hosts turn unnamed programs away
ALGORITHMS = ("md5", "sha256")
_reached = threading.Event()  # somebody has answered, so there is a network


class FetchError(ValueError):
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


def fetch(
    remote: Remote,
    *,
    show: bool = False,
    tries: int | None = None,
    check: Callable[[Path], None] = lambda part: None,
    writing: Callable[[Path], AbstractContextManager] = lambda path: nullcontext(),
) -> None:
    """Download a file unless it is there; it gets its name when it is complete and checked.

    What has arrived stays in `<name>.part`, from where the next try or command goes on.

    Args:
        show: a bar.
        tries: in a row that bring nothing; None: `TRIES`.
        check: raises a ValueError for a file that is not what it should be.
        writing: what surrounds writing a file, to name it in the disk's errors.

    Raises:
        FetchError: not to be had, or not what it should be.
        OSError: the disk takes no more.
    """
    if remote.path.is_file():
        return
    if remote.checksum and remote.checksum.partition(":")[0] not in ALGORITHMS:
        raise FetchError(f"{remote.url}: the checksum {remote.checksum!r} is of an unknown kind")
    part = remote.path.with_name(f"{remote.path.name}.part")
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    idle = wrong = 0
    while True:
        before = part.stat().st_size
        try:
            _go_on(remote, part, show, writing)
            _check(remote, part)
            check(part)
            break
        except ValueError as error:  # all has arrived and is not what it should be
            part.unlink()
            wrong += 1
            if wrong > 1:
                raise FetchError(f"{remote.url}: {error}, twice") from error
            part.touch()
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            idle = 0 if part.stat().st_size > before else idle + 1
            _refuse_final(remote.url, error, last=idle >= (tries or TRIES))
            logger.info("%s: %s; trying again", remote.path.name, _words(error))
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** max(0, idle - 1))
    with writing(remote.path):
        part.replace(remote.path)


def _go_on(remote: Remote, part: Path, show: bool, writing: Callable) -> None:
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
        raise ValueError("there is less of it than has arrived") from error
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
        raise ValueError(f"{size:,} bytes came, {remote.size:,} are stated")
    if remote.checksum is None:
        return
    name, _, expected = remote.checksum.partition(":")
    digest = hashlib.new(name, usedforsecurity=False)
    with part.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    if digest.hexdigest() != expected.lower():
        raise ValueError(f"{name} {digest.hexdigest()}, stated is {expected.lower()}")


def _open(url: str, start: int = 0):
    headers = {"User-Agent": AGENT} | ({"Range": f"bytes={start}-"} if start else {})
    opener = build_opener(HTTPCookieProcessor(CookieJar()))  # share links set some
    response = opener.open(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    _reached.set()
    return response


def _starts_at(response, start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _refuse_final(url: str, error: Exception, *, last: bool) -> None:
    """Raise FetchError where another try cannot help, or nobody has answered yet."""
    hopeless = False
    if isinstance(error, HTTPError):
        _reached.set()
        hopeless = error.code < 500 and error.code not in (408, 429)
    if not _reached.is_set():
        words = f"{_words(error)}; is there a network? The same command goes on"
        raise FetchError(f"{url}: {words}") from error
    if hopeless or last:
        raise FetchError(f"{url}: {_words(error)}") from error


def _words(error: Exception) -> str:
    plain = str(error) if isinstance(error, HTTPError) else getattr(error, "reason", "") or error
    return str(plain).partition("\n")[0] or type(error).__name__
