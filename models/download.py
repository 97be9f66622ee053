"""`python -m models.download NAME...`: fetch released weights to where the recipes look for them.

Files that are there are left alone; a download that was cut off goes on. The sha256 of each file is
written beside it (`<file>.sha256`, as sha256sum writes it) and checked from then on.
"""

import argparse
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from models.released.catalogue import RELEASED, ReleasedFile, find_released
from models.released.links import direct_link
from models.released.part_file import PartFile
from models.released.transfer import DownloadError, Patience, fetch, file_sha256
from models.weight_file import check_whole

logger = logging.getLogger(__name__)

DEFAULT_DIR = "saved/model"


def download(
    file: ReleasedFile,
    folder: Path,
    *,
    mirrors: Sequence[str] = (),
    patience: Patience | None = None,
    quiet: bool = False,
) -> Path:
    """Fetch a file unless it is there.

    Args:
        file: entry of the catalogue.
        folder: the `saved/model` to put it into.
        mirrors: tried in turn before the authors' link; an address ending in "/" is a folder laid
            out like saved/model, any other is the file itself.
        patience: timeouts and retries.
        quiet: show no progress.

    Returns:
        Where the file is.

    Raises:
        DownloadError: no address delivers it; has one reason per address.
        ValueError: what is there is not the file, or an address is none.
    """
    target = Path(folder) / file.path
    if target.exists():
        record_checksum(target, file.sha256)
        logger.info("%s is there: %s", file.name, target)
        return target
    reasons = []
    for url in (*(_on_mirror(mirror, file) for mirror in mirrors), file.url):
        logger.info("%s from %s", file.name, url)
        try:
            with _Bar(file.name, quiet) as bar:
                fetch(url, target, sha256=file.sha256, patience=patience, progress=bar.show)
        except DownloadError as error:
            reasons.append(str(error))
            logger.warning("%s", error)
            continue
        record_checksum(target, file.sha256)
        logger.info("%s is in %s", file.name, target)
        return target
    raise DownloadError(f"{file.name} could not be fetched:\n  " + "\n  ".join(reasons))


def take_over(source: Path, file: ReleasedFile, folder: Path) -> Path:
    """Copy a file that was fetched by hand to where the recipes look for it.

    Args:
        source: the file, under any name.
        file: what it is supposed to be.
        folder: the `saved/model` to put it into.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not whole, not the right one, or another one is in its place.
    """
    if not source.is_file():
        raise FileNotFoundError(f"--from {source}: no such file")
    target = Path(folder) / file.path
    check_whole(source, target.suffix)
    _require_sha256(source, file.sha256)
    if target.exists() and not target.samefile(source):
        raise ValueError(f"{target} is there already; remove it first if it is to be replaced.")
    if not target.exists():
        part = PartFile(target)
        part.discard()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part.path)
        part.finish()
    record_checksum(target, file.sha256)
    return target


def record_checksum(path: Path, known: str | None = None) -> str:
    """Check a file against its recorded or known sha256, and record it if it was not.

    Args:
        path: the file; the record is `<path>.sha256`.
        known: hexadecimal sha256 from the catalogue, or None.

    Returns:
        The file's sha256.

    Raises:
        ValueError: the file is not whole or has another checksum.
    """
    record = path.with_name(f"{path.name}.sha256")
    recorded = _recorded(record) if record.exists() else None
    if recorded is None:
        check_whole(path, path.suffix)
    found = _require_sha256(path, known or recorded)
    if recorded != found:
        temporary = record.with_name(f".{record.name}.{os.getpid()}.tmp")
        temporary.write_text(f"{found}  {path.name}\n")
        temporary.replace(record)
    return found


def _recorded(record: Path) -> str:
    found = re.match(rb"([0-9a-fA-F]{64})(\s|$)", record.read_bytes())
    if not found:
        raise ValueError(
            f"{record} is damaged; delete it, and the file is checked as if it were new"
        )
    return found[1].decode()


def _require_sha256(path: Path, expected: str | None) -> str:
    found = file_sha256(path)
    if expected and found != expected.lower():
        raise ValueError(
            f"{path} has sha256 {found}, expected {expected.lower()}: it is damaged or another "
            "file. Remove it and fetch it again."
        )
    return found


def _on_mirror(mirror: str, file: ReleasedFile) -> str:
    return mirror + file.path if mirror.endswith("/") else mirror


class _Bar:
    """Progress on the terminal; elsewhere a line now and then."""

    def __init__(self, title: str, quiet: bool):
        every = 0.1 if sys.stderr.isatty() else 30.0
        self.bar = tqdm(
            desc=title, unit="B", unit_scale=True, unit_divisor=1024, mininterval=every,
            disable=quiet, leave=False,
        )  # fmt: skip

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def show(self, done: int, total: int | None) -> None:
        if self.bar.total != total:
            self.bar.reset(total)
            self.bar.initial = done
        self.bar.update(done - self.bar.n)


def _listing(folder: Path) -> str:
    """The catalogue as text."""
    lines = []
    for file in RELEASED.values():
        if file.is_log:
            continue
        here = "there" if (folder / file.path).exists() else "-"
        scores = f"UAR {file.uar:5.2f}  WAR {file.war:5.2f}" if file.uar else "pre-trained"
        lines.append(f"{file.name:<28}{file.data_set:<11}{scores:<24}{here:<7}{file.path}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.download",
        description="Fetch the weights that the authors of SVFAP and MAE-DFER released.",
        epilog="The links are the authors'. Where one has expired, fetch the file some other way "
        "and hand it over with --from.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="or a pattern: 'svfap-base-dfew*'")
    parser.add_argument("--list", action="store_true", help="show the catalogue and stop")
    parser.add_argument("--logs", action="store_true", help="also fetch the training logs")
    parser.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help="try this first; ending in / a folder laid out like saved/model, else the file",
    )
    parser.add_argument("--from", dest="source", metavar="FILE", help="a file fetched by hand")
    parser.add_argument("--sha256", metavar="HEX", help="what the file must have (one NAME)")
    parser.add_argument("--dir", default=DEFAULT_DIR, help=f"default {DEFAULT_DIR}")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds of silence, default 60"
    )
    parser.add_argument(
        "--retries", type=int, default=5, help="attempts without progress, default 5"
    )
    return parser


def _checked(parser: argparse.ArgumentParser, arguments: Sequence[str] | None):
    """Flags and the chosen files."""
    flags = parser.parse_args(arguments)
    if flags.list:
        return flags, []
    if not flags.names:
        parser.error("name at least one file; --list shows them")
    try:
        files = find_released(flags.names, logs=flags.logs)
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
    if flags.timeout <= 0 or flags.retries < 0:
        parser.error("--timeout must be positive, --retries 0 or more")
    if flags.sha256:
        files = [ReleasedFile(**vars(files[0]) | {"sha256": flags.sha256})]
    return flags, files


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    flags, files = _checked(_parser(), arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    folder = Path(flags.dir)
    if flags.list:
        print(_listing(folder))
        return 0
    patience = Patience(timeout_seconds=flags.timeout, retries=flags.retries)
    failed = []
    for file in files:
        try:
            if flags.source:
                print(f"{file.name} is in {take_over(Path(flags.source), file, folder)}")
            else:
                download(file, folder, mirrors=flags.mirror, patience=patience)
        except (ValueError, OSError) as error:
            failed.append(file.name)
            print(f"error: {error}", file=sys.stderr)
    if failed:
        print(f"not fetched: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
