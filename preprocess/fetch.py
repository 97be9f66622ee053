"""`python -m svfap.preprocess.fetch ravdess|cremad DIR`: the videos of data sets that lie openly.

RAVDESS: 24 archives of Zenodo's record 1188976, with the checksums that Zenodo states; speech with
pictures is unpacked from them. CREMA-D: the videos that its repository on GitHub keeps in Git LFS,
with the checksums of their pointers. The same command goes on where it stopped.
"""

import argparse
import json
import logging
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path, PurePosixPath

from svfap import fetching
from svfap.datasets.files import replacing, writing
from svfap.fetching import FetchError, Remote, read_url
from svfap.preprocess.cremad import LIST, VIDEOS
from svfap.preprocess.ravdess import FULL, PATTERN, SPEECH
from svfap.preprocess.shared.common import read_table, run_command, shortened, watched
from svfap.preprocess.shared.labelled import LFS_START

logger = logging.getLogger(__name__)

GITHUB = "githubusercontent.com"
CREMAD_PLACE = "CheyneyComputerScience/CREMA-D/master"
ADDRESSES = {
    "ravdess": ["https://zenodo.org/api/records/1188976"],
    "cremad": [
        f"https://raw.{GITHUB}/{CREMAD_PLACE}",
        f"https://media.{GITHUB}/media/{CREMAD_PLACE}",
    ],
}
LICENCES = {
    "ravdess": "RAVDESS (Livingstone and Russo 2018): CC BY-NC-SA 4.0, https://zenodo.org/records/1188976",
    "cremad": "CREMA-D (Cao et al. 2014): Open Database License, https://github.com/CheyneyComputerScience/CREMA-D",
}
ARCHIVE = re.compile(r"Video_Speech_Actor_\d\d\.zip")
fetch = partial(fetching.fetch, writing=writing)


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
        shown = "\n".join(f"  {line}" for line in shortened(failed))
        raise FetchError(
            f"{len(failed)} of {len(items)} files could not be fetched; try again with the same "
            f"command:\n{shown}"
        )


def fetch_ravdess(folder: Path, address: Sequence[str]) -> None:
    """Archives into `folder/archives`, what is used of them into `folder/videos/<archive>`."""
    listed = folder / "archives" / "record.json"
    fetch(Remote(url=address[0], path=listed))
    try:
        files = json.loads(listed.read_bytes())["files"]
        remotes = [
            Remote(
                url=file["links"]["self"], path=folder / "archives" / file["key"],
                size=file["size"], checksum=file["checksum"],
            )
            for file in files if ARCHIVE.fullmatch(file["key"])
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        listed.unlink()
        raise FetchError(
            f"{address[0]} is not the answer of Zenodo's API about a record"
        ) from error
    if not remotes:
        listed.unlink()
        raise FetchError(f"{address[0]} lists no Video_Speech_Actor_NN.zip")
    for remote in sorted(remotes, key=lambda remote: remote.path.name):
        videos = folder / "videos" / remote.path.stem
        if not videos.is_dir():
            fetch(remote, show=True)
            _unpack(remote.path, videos)


def _unpack(archive: Path, folder: Path) -> None:
    """The speech videos with sound: those without have the same pictures."""
    try:
        with zipfile.ZipFile(archive) as content, replacing(folder) as temporary:
            temporary.mkdir()
            for member in content.infolist():
                name = PurePosixPath(member.filename)
                match = PATTERN.fullmatch(name.stem)
                if match and name.suffix == ".mp4" and (match[1], match[2]) == (FULL, SPEECH):
                    with content.open(member) as source, (temporary / name.name).open("wb") as file:
                        shutil.copyfileobj(source, file, 1 << 20)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{archive}: {error}; remove it, and it is fetched again") from error
    logger.info("%s: %d videos", folder, len(list(folder.iterdir())))


def fetch_cremad(folder: Path, address: Sequence[str], *, num_workers: int = 8) -> None:
    """`SentenceFilenames.csv` and the videos that it names, into `folder/VideoFlash`."""
    _through_pointer(folder, address, LIST)
    names = [(row["Filename"] or "").strip() for _, row in read_table(folder / LIST, ("Filename",))]
    wanted = [f"{VIDEOS}/{name}.flv" for name in names if name]
    missing = [name for name in wanted if not (folder / name).is_file()]
    logger.info("%d of %d videos are there", len(wanted) - len(missing), len(wanted))
    if missing:
        fetch_all(missing, partial(_through_pointer, folder, address), num_workers=num_workers)


def _through_pointer(folder: Path, address: Sequence[str], name: str) -> None:
    """Fetch a file that may be in Git LFS: its pointer says size and checksum."""
    if (folder / name).is_file():
        return
    plain = Remote(url=f"{address[0]}/{name}", path=folder / name)
    head = read_url(plain.url)
    if not head.startswith(LFS_START):  # not in Git LFS, and small
        with writing(plain.path):
            plain.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(plain.path) as temporary:
            temporary.write_bytes(head)
        return
    said = dict(line.split(" ", 1) for line in head.decode().splitlines() if " " in line)
    fetch(
        Remote(
            url=f"{address[1]}/{name}", path=plain.path, size=int(said["size"]),
            checksum=said["oid"],
        )
    )  # fmt: skip


SOURCES = {"ravdess": fetch_ravdess, "cremad": fetch_cremad}


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.preprocess.fetch`."""
    parser = argparse.ArgumentParser("preprocess.fetch", description=__doc__.split("\n")[0])
    parser.add_argument("data_set", choices=SOURCES)
    parser.add_argument("folder", type=Path, metavar="DIR", help="gets the videos")
    parser.add_argument(
        "--address", nargs="+", metavar="URL",
        help="instead of Zenodo's record, or of GitHub's raw and media folders",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch a data set, or what is missing of it."""
    flags = build_parser().parse_args(argv)
    known = ADDRESSES[flags.data_set]
    address = [url.rstrip("/") for url in flags.address or known]
    if len(address) != len(known):
        raise FetchError(f"--address: {flags.data_set} has {len(known)}, such as {' '.join(known)}")
    logger.info(LICENCES[flags.data_set])
    SOURCES[flags.data_set](flags.folder, address)
    logger.info("%s: all videos are there", flags.folder)


if __name__ == "__main__":
    run_command(main)
