"""Fetching one large file over HTTP: resumed, retried, checked; nothing half-done is left over.

A file grows as `<name>.part` (`models.released.part_file`) and gets its name only when complete.
"""

import email.utils
import errno
import hashlib
import http.client
import http.cookiejar
import logging
import math
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.released.links import (
    confirmation_link,
    describe_page,
    direct_link,
    looks_like_page,
)
from models.released.part_file import PartFile, Source
from models.weight_file import check_whole

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
PAGE_BYTES = 2 << 20
USER_AGENT = "Mozilla/5.0 (compatible; svfap-download)"  # some hosts turn unnamed programs away
_WORTH_RETRYING = {408, 425, 429, 500, 502, 503, 504}
_BY_HAND = "open it in a browser and hand the file over with --from, or name a --mirror"


class DownloadError(ValueError):
    """A file that cannot be had from an address; says why and what to do."""


class _PassingError(Exception):
    """Something that may be gone at the next attempt.

    Attributes:
        wait_seconds: how long the server asks to wait, or None.
    """

    def __init__(self, text: str, wait_seconds: float | None = None):
        super().__init__(text)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to go on.

    Attributes:
        timeout_seconds: silence after which a connection counts as dead.
        retries: attempts in a row that bring nothing new, beyond the first.
        first_wait_seconds: before the first retry; doubles from one to the next.
        longest_wait_seconds: also the longest that a server may ask for.
        sleep: waits.
    """

    timeout_seconds: float = 60.0
    retries: int = 5
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 300.0
    sleep: Callable[[float], None] = time.sleep


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    patience: Patience | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> str:
    """Download a file, going on with what an earlier attempt left.

    Args:
        url: address or share link, see `models.released.links.direct_link`.
        target: file to write; its folder is made.
        sha256: what the file must have; None: only the host's own statement, if any, is checked.
        patience: timeouts and retries.
        progress: gets (bytes so far, bytes in all or None) after each piece.

    Returns:
        The file's sha256, hexadecimal.

    Raises:
        DownloadError: not to be had, or not what it should be; says what to do.
        ValueError: `url` is not an http or https address.
    """
    patience = patience or Patience()
    direct_link(url)
    part = PartFile(target)
    most, failures = part.size, 0
    while True:
        try:
            stated = _attempt(url, part, patience, progress)
            return _accept(part, sha256 or stated, url)
        except _PassingError as error:
            failures = 0 if part.size > most else failures + 1
            most = max(most, part.size)
            if failures > patience.retries:
                raise DownloadError(
                    f"{url}: {error}; gave up after {failures} attempts. The same command goes "
                    f"on from {part.size:,} bytes; or {_BY_HAND}."
                ) from error
            wait = _waiting_time(error, failures, patience, url)
            logger.warning("%s; trying again in %.0f s", error, wait)
            patience.sleep(wait)


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _accept(part: PartFile, expected: str | None, url: str) -> str:
    """Check a complete part file and give it its name."""
    try:
        check_whole(part.path, part.target.suffix)
    except ValueError as error:
        part.discard()
        raise _PassingError(f"what {url} sent is not whole ({error})") from error
    found = file_sha256(part.path)
    if expected and found != expected.lower():
        part.discard()
        raise _PassingError(f"{url} sent a file with sha256 {found}, expected {expected.lower()}")
    part.finish()
    return found


def _attempt(url: str, part: PartFile, patience: Patience, progress: Callable) -> str | None:
    """One connection; returns once the part file is complete.

    Returns:
        The sha256 that the host states, or None.
    """
    opener = _Opener(patience.timeout_seconds)
    known = part.source(url)
    headers = {}
    if known:
        headers["Range"] = f"bytes={part.size}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        response = opener.open(direct_link(url), headers)
        with response:
            start = response.read1(CHUNK_BYTES)
            if looks_like_page(response.headers.get("Content-Type", ""), start):
                page = start + response.read(PAGE_BYTES)
                response.close()
                response, start = _behind_page(opener, url, response.url, page, headers)
            with response:
                _receive(response, start, part, _source_of(response, url), known, progress)
    except urllib.error.HTTPError as error:
        _judge_status(error, url, part)
    except (OSError, http.client.HTTPException) as error:
        _raise_if_ours(error, url)
        raise _PassingError(f"{url}: {_reason(error)} after {part.size:,} bytes") from error
    return opener.stated_sha256


def _raise_if_ours(error: Exception, url: str) -> None:
    """Raise again what another attempt will not cure: the disk here, a wrong certificate there."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise DownloadError(
            f"{url}: its certificate is not valid ({cause}); {_BY_HAND}."
        ) from error
    if getattr(error, "filename", None) or getattr(error, "errno", None) == errno.ENOSPC:
        raise error


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return "the server fell silent"
    return f"the connection failed ({str(cause) or type(cause).__name__})"


def _behind_page(opener: "_Opener", url: str, address: str, page: bytes, headers: dict):
    """The file behind a confirmation page.

    Raises:
        DownloadError: it is another page.
    """
    text = page.decode("utf-8", errors="replace")
    button = confirmation_link(text, address)
    if button:
        response = opener.open(button, headers)
        start = response.read1(CHUNK_BYTES)
        if not looks_like_page(response.headers.get("Content-Type", ""), start):
            return response, start
        address, text = response.url, (start + response.read(PAGE_BYTES)).decode(errors="replace")
        response.close()
    raise DownloadError(
        f"{url} leads to {describe_page(text, address)}, not to the file: {_BY_HAND}."
    )


def _source_of(response: http.client.HTTPResponse, url: str) -> Source:
    """Size and identity that a response states for the whole file."""
    etag = response.headers.get("ETag", "")
    validator = (
        etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    )
    total = response.headers.get("Content-Length")
    if response.status == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return Source(url, validator, int(total) if total and total.isdecimal() else None)


def _receive(
    response: http.client.HTTPResponse,
    start: bytes,
    part: PartFile,
    source: Source,
    known: Source | None,
    progress: Callable,
) -> None:
    """Append a response's body to the part file.

    Raises:
        _PassingError: it ended early, or does not continue what is there.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(f"{source.url} sends the file packed, which was not asked for.")
    resumed = response.status == 206
    if resumed and not _continues(response, part, source, known):
        part.discard()
        raise _PassingError(f"{source.url}: the file has changed since the download began")
    part.begin(source, keep=resumed)
    _require_space(part, source)
    with part.path.open("ab") as file:
        while start:
            file.write(start)
            progress(file.tell(), source.total)
            start = response.read1(CHUNK_BYTES)
    if source.total is not None and part.size != source.total:
        if part.size > source.total:
            part.discard()
        raise _PassingError(
            f"{source.url}: the connection ended after {part.size:,} of {source.total:,} bytes"
        )


def _continues(response, part: PartFile, source: Source, known: Source | None) -> bool:
    begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if known is None or begin is None or int(begin.group(1)) != part.size:
        return False
    same = known.validator == source.validator or not (known.validator and source.validator)
    return same and (known.total is None or known.total == source.total)


def _require_space(part: PartFile, source: Source) -> None:
    if source.total is None:
        return
    free, needed = shutil.disk_usage(part.path.parent).free, source.total - part.size
    if needed > free:
        raise DownloadError(
            f"{part.target} needs {needed:,} more bytes, {free:,} are free there; make room or "
            "choose another --dir."
        )


def _judge_status(error: urllib.error.HTTPError, url: str, part: PartFile) -> None:
    """Turn an HTTP error into one to retry or one that is final."""
    with error:
        status = error.code
        if status == 416:
            total = error.headers.get("Content-Range", "").rpartition("/")[2]
            if total.isdecimal() and int(total) == part.size:
                return
            part.discard()
            raise _PassingError(f"{url}: the file has changed since the download began")
        if status in _WORTH_RETRYING:
            wait = _retry_after(error.headers.get("Retry-After"))
            raise _PassingError(f"{url}: status {status} ({error.reason})", wait)
    reasons = {
        401: "a log-in is needed",
        403: "access is denied",
        404: "there is no such file",
        410: "the file was removed",
    }
    reason = reasons.get(status, f"{error.reason}")
    raise DownloadError(f"{url}: status {status}, {reason}; {_BY_HAND}.") from error


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _waiting_time(error: _PassingError, failures: int, patience: Patience, url: str) -> float:
    if error.wait_seconds is None:
        return min(patience.first_wait_seconds * 2 ** max(failures - 1, 0),
                   patience.longest_wait_seconds)  # fmt: skip
    if error.wait_seconds > patience.longest_wait_seconds:
        minutes = math.ceil(error.wait_seconds / 60)
        raise DownloadError(
            f"{url}: {error}; the server asks to wait {minutes} minutes. Try again then, or "
            f"{_BY_HAND}."
        ) from error
    return error.wait_seconds


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, never from https to http; notes the sha256 that Hugging Face states."""

    stated_sha256: str | None = None

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        self.note(headers)
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise DownloadError(f"{req.full_url} leads to the unprotected {newurl}; {_BY_HAND}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def note(self, headers) -> None:
        stated = headers.get("X-Linked-ETag", "").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", stated):
            self.stated_sha256 = stated


class _Opener:
    """Opens addresses with cookies, which share links need from one redirect to the next."""

    def __init__(self, timeout_seconds: float):
        self.timeout_seconds = timeout_seconds
        self.redirects = _Redirects()
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.director = urllib.request.build_opener(self.redirects, cookies)

    @property
    def stated_sha256(self) -> str | None:
        """What the host says the file's sha256 is."""
        return self.redirects.stated_sha256

    def open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Send a GET request and follow redirects."""
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        request = urllib.request.Request(url, headers=headers)
        response = self.director.open(request, timeout=self.timeout_seconds)
        self.redirects.note(response.headers)
        return response
