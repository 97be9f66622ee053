"""`python -m svfap.models.download NAME...`: fetch weights of the catalogues.

Released ones go to where the recipes look for them; public ones into the Hub's cache, where any
command that is given their name looks. Files that are there are checked and left alone.
"""

import argparse
import html
import logging
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from svfap import fetching
from svfap.fetching import FetchError, Remote
from svfap.models.weights.hub import is_remote, locate
from svfap.models.weights.public import PUBLIC
from svfap.models.weights.released import RELEASED, ReleasedFile, find_released
from svfap.terminal import as_program

logger = logging.getLogger(__name__)

DEFAULT_DIR = "saved/model"
_BY_HAND = "open it in a browser and hand the file over with --from, or name a --mirror"


class DownloadError(ValueError):
    """A file that cannot be had from an address; says why and what to do."""


def direct_link(url: str) -> str:
    """The address that delivers the file behind a share link.

    Knows SharePoint and OneDrive, Google Drive and Hugging Face; other addresses stay as they are,
    but must be http or https.

    Raises:
        ValueError: not an http or https address.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url!r} is not an http or https address; --from takes files of yours.")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if host in ("drive.google.com", "docs.google.com"):
        in_path = re.search(r"/d/([\w-]{10,})", parts.path)
        file_id = in_path[1] if in_path else query.get("id", "")
        query = urlencode({"id": file_id, "export": "download", "confirm": "t"})
        return f"https://drive.usercontent.google.com/download?{query}"
    if host.endswith(".sharepoint.com") or host in ("onedrive.live.com", "1drv.ms"):
        return parts._replace(query=urlencode(query | {"download": "1"})).geturl()
    return url.replace("/blob/", "/resolve/", 1) if host in ("huggingface.co", "hf.co") else url


def fetch(url: str, target: Path, *, sha256: str | None = None, quiet: bool = False) -> None:
    """Download a file; it gets its name only when it is complete and checked.

    Args:
        url: address or share link.
        target: file to write; its folder is made.
        sha256: what the file must have, hexadecimal, where that is known.

    Raises:
        DownloadError: not to be had, or not what it should be; says what to do.
        ValueError: `url` is not an http or https address.
    """
    remote = Remote(url=direct_link(url), path=target)
    check = partial(_check_arrived, suffix=target.suffix, sha256=sha256)
    try:
        fetching.fetch(remote, show=not quiet, tries=2, check=check)
    except FetchError as error:
        reason = str(error).removeprefix(f"{remote.url}: ")
        raise DownloadError(f"{url}: {reason}; {_BY_HAND}.") from error
    finally:
        target.with_name(f"{target.name}.part").unlink(missing_ok=True)


def _check_arrived(part: Path, suffix: str, sha256: str | None) -> None:
    """Raise ValueError for a web page or another file."""
    with part.open("rb") as file:
        start = file.read(1 << 16)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        title = re.search(r"<title[^>]*>(.*?)</title>", start.decode(errors="replace"), re.I | re.S)
        name = f" titled {html.unescape(title[1]).strip()!r}" if title else ""
        raise ValueError(
            f"a web page{name} came instead of the file: a log-in, or the link has expired"
        )
    _check(part, suffix, sha256)


def download(
    file: ReleasedFile, folder: Path, *, mirrors: Sequence[str] = (), quiet: bool = False
) -> Path:
    """Fetch a file into a `saved/model` unless it is there.

    Args:
        mirrors: tried in turn before the authors' link; an address ending in "/" is a folder laid
            out like saved/model, any other is the file itself.

    Raises:
        DownloadError: no address delivers it; has one reason per address.
        ValueError: what is there is not the file, or an address is none.
    """
    target = Path(folder) / file.path
    addresses = [mirror + file.path * mirror.endswith("/") for mirror in mirrors] + [file.url]
    reasons = []
    while not target.exists():
        if not addresses:
            raise DownloadError(f"{file.name} could not be fetched:\n  " + "\n  ".join(reasons))
        url = addresses.pop(0)
        logger.info("%s from %s", file.name, url)
        try:
            fetch(url, target, sha256=file.sha256, quiet=quiet)
        except DownloadError as error:
            reasons.append(str(error))
    _check(target, target.suffix, file.sha256)
    return target


def take_over(source: Path, file: ReleasedFile, folder: Path) -> Path:
    """Copy a file that was fetched by hand to where the recipes look for it.

    ValueError: it is not whole, not the right one, or another one is in its place.
    """
    if not source.is_file():
        raise FileNotFoundError(f"--from {source}: no such file")
    target = Path(folder) / file.path
    _check(source, target.suffix, file.sha256)
    if target.exists() and not target.samefile(source):
        raise ValueError(f"{target} is there already; remove it first if it is to be replaced.")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        shutil.copyfile(source, part)
        part.replace(target)
    return target


def _check(path: Path, suffix: str, sha256: str | None) -> None:
    """Raise ValueError unless a file is whole and, where that is known, has this sha256."""
    from svfap.models.weights.weight_file import check_whole, file_sha256  # late: PyTorch

    check_whole(path, suffix)
    if sha256 and (found := file_sha256(path)) != sha256.lower():
        raise ValueError(
            f"{path} has sha256 {found}, expected {sha256.lower()}: it is damaged or another "
            "file. Remove it and fetch it again."
        )


def _listing(folder: Path) -> str:
    """The catalogue as text."""
    lines = []
    for file in RELEASED.values():
        here = "there" if (folder / file.path).exists() else "-"
        scores = f"UAR {file.uar:5.2f}  WAR {file.war:5.2f}" if file.uar else "pre-trained"
        lines.append(f"{file.name:<28}{file.data_set:<11}{scores:<24}{here:<7}{file.path}")
    lines += [f"{one.name:<28}{one.about}; {one.licence}; {one.source}" for one in PUBLIC.values()]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m svfap.models.download",
        description="Fetch the weights that the authors of SVFAP and MAE-DFER released, or public "
        "ones of the Hugging Face Hub, which stay in its cache.",
        epilog="The links of the former are the authors'. Where one has expired, fetch the file "
        "some other way and hand it over with --from.",
    )
    # fmt: off
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME",
        help="or hf://owner/repo, or a pattern of released ones: 'svfap-base-dfew*'")
    add("--list", action="store_true", help="show the catalogue and stop")
    add("--mirror", action="append", default=[], metavar="URL",
        help="try this first; ending in / a folder laid out like saved/model, else the file")
    add("--from", dest="source", metavar="FILE", help="a file fetched by hand")
    add("--sha256", metavar="HEX", help="what the file must have (one NAME)")
    add("--dir", default=DEFAULT_DIR, help=f"default {DEFAULT_DIR}")
    return parser
    # fmt: on


def _chosen(
    parser: argparse.ArgumentParser, flags: argparse.Namespace, names: Sequence[str]
) -> list[ReleasedFile]:
    """The released files of these names, as the flags want them."""
    if not names:
        parser.error("name at least one file; --list shows them")
    try:
        files = find_released(names)
        for mirror in flags.mirror:
            direct_link(mirror)
    except ValueError as error:
        parser.error(str(error))
    single = flags.source or flags.sha256 or any(not m.endswith("/") for m in flags.mirror)
    if single and len(files) > 1:
        parser.error(
            f"--from, --sha256 and a --mirror that is a file go with one NAME, not {len(files)} "
            "files; a --mirror that is a folder ends in /"
        )
    return [replace(files[0], sha256=flags.sha256)] if flags.sha256 else files


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    folder, failed = Path(flags.dir), 0
    if flags.list:
        print(_listing(folder))
        return 0
    public = [name for name in flags.names if is_remote(name) and name not in RELEASED]
    released = [name for name in flags.names if name not in public]
    for file in [*public, *(_chosen(parser, flags, released) if released or not public else ())]:
        try:
            if file in public:
                target = locate(file).path
            elif flags.source:
                target = take_over(Path(flags.source), file, folder)
            else:
                target = download(file, folder, mirrors=flags.mirror)
            print(f"{getattr(file, 'name', file)} is in {target}")
        except (ValueError, OSError) as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    as_program()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
