"""Videos below the folders a user names, each with a name for what is made of it.

What is found and not used is counted and named by kind: nothing is left out without a word.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from svfap.datasets.tables import as_on_disk
from svfap.datasets.video import frame_rate
from svfap.datasets.video.images import are_frames
from svfap.datasets.video.open_video import IMAGE_SUFFIXES, natural_key

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    (".3g2", ".3gp", ".amv", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m1v")
    + (".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov", ".mp4")
    + (".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm")
    + (".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m")
)
# What file servers, operating systems and packers put beside people's files; in lower case.
SYSTEM_FOLDERS = frozenset(
    ("@eadir", "@eastream", "@tmp", "@recycle", "@recently-snapshot", "@transcode", "@__thumb")
    + ("#recycle", "#snapshot", "~snapshot", "$recycle.bin", "recycler", "recycled", "found.000")
    + ("system volume information", "lost+found", "__macosx", "__pycache__", "_gsdata_")
    + ("network trash folder", "temporary items", "lost.dir")
)
SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
SYSTEM_NAMES = SYSTEM_FILES | SYSTEM_FOLDERS
OUR_FILES = (frame_rate.FILE_NAME, "faces.csv", "faces.jsonl")
SHOWN_UNUSED = 3
# What a folder of pictures is: a video; each picture for itself; what it looks like.
PICTURES = ("auto", "frames", "single")
# With more folders than classes can be, folders of pictures are videos.
MOST_CLASSES = 200


class NamedVideo(NamedTuple):
    """A video and a relative path, without white space, that no other video of the list has."""

    source: str
    name: str


@dataclass
class Unused:
    """What was found below a folder and is not used."""

    root: Path
    # paths by what they are, in the plural
    by_kind: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, path: str | os.PathLike) -> None:
        """Note one file or folder."""
        self.by_kind.setdefault(kind, []).append(os.fspath(path))

    def tell(self) -> None:
        """Name it all in one line of the log."""
        if self.by_kind:
            logger.warning("%s: found and not used: %s", self.root, self.in_words())

    def in_words(self) -> str:
        """How much of which kind there is, with examples."""
        kinds = []
        for kind, paths in sorted(self.by_kind.items()):
            shown = [os.path.relpath(path, self.root) for path in paths[:SHOWN_UNUSED]]
            more = ", ..." if len(paths) > SHOWN_UNUSED else ""
            kinds.append(f"{len(paths):,} {kind} ({', '.join(shown)}{more})")
        return "; ".join(kinds)


def is_ours(name: str) -> bool:
    """Whether commands of this program put a file of that name beside crops and frames."""
    return name in OUR_FILES or name.endswith("landmarks.npz")


class Folder(NamedTuple):
    """Videos and pictures that lie directly in a folder, in natural order."""

    path: Path
    videos: list[str]
    pictures: list[str]

    def files(self, names: Iterable[str]) -> list[Path]:
        """Paths of files in it."""
        return [self.path / name for name in names]


def walk_folders(root: Path, unused: Unused) -> Iterator[Folder]:
    """Folders with videos or pictures, `root` included, those above before those below.

    Links to folders elsewhere are followed, each folder once. Links to what lies below `root`
    anyway, or around it, are not: their videos would come twice, with the labels of other folders.
    Hidden and system folders are left out.

    Args:
        unused: gets everything that is neither a folder nor a video or picture.
    """
    inside = os.path.realpath(root)
    os.scandir(root).close()
    seen: set[tuple[int, int]] = set()
    waiting = [os.fspath(root)]
    while waiting:
        path = waiting.pop()
        try:
            state = os.stat(path)
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: natural_key(entry.name))
        except OSError as error:
            unused.add(f"folders that cannot be read: {error.strerror}", path)
            continue
        if (state.st_dev, state.st_ino) in seen:
            unused.add("links to folders that are listed anyway", path)
            continue
        seen.add((state.st_dev, state.st_ino))
        folder, below = _sort(path, entries, inside, unused)
        if folder.videos or folder.pictures:
            yield folder
        waiting += reversed(below)


def _sort(
    path: str, entries: Sequence[os.DirEntry], inside: str, unused: Unused
) -> tuple[Folder, list[str]]:
    """Videos and pictures of a folder, and the folders below to go on with."""
    folder, below = Folder(Path(path), [], []), []
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if is_of_system(entry.name):
            hidden = entry.name.startswith(".")
            kind = "hidden files or folders" if hidden else "files or folders of the system"
            unused.add(kind, entry.path)
        elif _is(entry, os.DirEntry.is_dir):
            if entry.is_symlink() and _overlap(os.path.realpath(entry.path), inside):
                unused.add("links to folders that are listed anyway", entry.path)
            else:
                below.append(entry.path)
        elif not (_is(entry, os.DirEntry.is_file) or entry.is_symlink()):
            unused.add("pipes, sockets or devices", entry.path)
        elif suffix in VIDEO_SUFFIXES:
            folder.videos.append(entry.name)
        elif suffix in IMAGE_SUFFIXES:
            folder.pictures.append(entry.name)
        elif not is_ours(entry.name):
            unused.add(f"{suffix} files" if suffix else "files without an ending", entry.path)
    if not entries:
        unused.add("empty folders", path)
    return folder, below


def _is(entry: os.DirEntry, kind) -> bool:
    try:
        return kind(entry)
    except OSError:  # a link that leads round in a circle
        return False


def _overlap(one: str, other: str) -> bool:
    """Whether one of two real paths lies in the other."""
    return os.path.commonpath((one, other)) in (one, other)


def find_videos(folder: Path, pictures: str = "frames") -> list[Path]:
    """Video files and frame folders below `folder`, itself included, in natural order.

    A folder that holds pictures and no videos is one video, unless `pictures` says otherwise.
    Pictures beside videos are taken for thumbnails. Everything that is left out is said
    (`walk_folders`), as is what is taken for single pictures.

    Args:
        folder: a folder, or a single video or picture.
        pictures: of `PICTURES`.
    """
    if folder.is_file():
        return [folder]
    unused, found, single = Unused(folder), [], Unused(folder)
    folders = list(walk_folders(_existing(folder), unused))
    if pictures == "auto" and len(folders) > MOST_CLASSES:
        pictures = "frames"
    for inside in folders:
        if inside.videos:
            found += inside.files(inside.videos)
            for name in inside.pictures:
                unused.add("pictures beside videos", inside.path / name)
        elif pictures == "single" or (
            pictures == "auto" and not are_frames(inside.files(inside.pictures))
        ):
            single.add("folders", inside.path)
            found += inside.files(inside.pictures)
        else:
            found.append(inside.path)
    unused.tell()
    if single.by_kind:
        logger.warning(
            "%s: the pictures of %s are items of their own%s", folder, single.in_words(),
            ": they do not look like frames of one video (--pictures frames takes them for one)"
            * (pictures == "auto"),
        )  # fmt: skip
    return found


def find_pictures(folder: Path) -> list[Path]:
    """Image files at any depth, in natural order; everything else is said."""
    unused, found = Unused(folder), []
    for inside in walk_folders(_existing(folder), unused):
        found += inside.files(inside.pictures)
        for name in inside.videos:
            unused.add("videos among pictures", inside.path / name)
    unused.tell()
    return sorted(found, key=lambda path: natural_key(str(path)))


def visible_folders(folder: Path) -> list[Path]:
    """Folders directly in a folder, hidden ones and those of the system left out."""
    inside = [path for path in folder.iterdir() if path.is_dir() and not is_of_system(path.name)]
    return sorted(inside, key=lambda path: natural_key(path.name))


def visible_files(folder: Path, pattern: str) -> list[Path]:
    """Files below a folder whose names fit a pattern, outside hidden and system folders."""
    found = (path for path in folder.rglob(pattern) if path.is_file())
    return sorted(p for p in found if not any(map(is_of_system, p.relative_to(folder).parts)))


def is_of_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or none that people made."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"no such file or folder: {folder}")
    return folder


def list_videos(inputs: Sequence[Path], pictures: str = "frames") -> list[NamedVideo]:
    """Videos of all inputs, each with a name of its own.

    The name is the path below the input, without suffix unless two videos would share it; white
    space becomes "_", because annotation files cannot hold it. `pictures` is of `find_videos`.
    """
    found: dict[str, Path] = {}
    for root in (as_on_disk(Path(path)) for path in inputs):
        here = find_videos(root, pictures)
        if not here:
            raise FileNotFoundError(
                f"{root} holds no videos; looked for {' '.join(sorted(VIDEO_SUFFIXES))} and "
                f"folders of {' '.join(IMAGE_SUFFIXES)}"
            )
        for path in here:
            inside = path.relative_to(root) if path != root else Path(root.absolute().name)
            found.setdefault(os.path.abspath(path), inside)
    short = {source: _name(inside, source) for source, inside in found.items()}
    counts = Counter(short.values())
    names = {
        source: name if counts[name] == 1 else _without_spaces(found[source])
        for source, name in short.items()
    }
    return [NamedVideo(source, name) for source, name in _told_apart(names).items()]


def _name(inside: Path, source: str) -> str:
    return _without_spaces(inside if os.path.isdir(source) else inside.with_suffix(""))


def _without_spaces(path: Path) -> str:
    return re.sub(r"\s", "_", str(path))


def _told_apart(names: dict[str, str]) -> dict[str, str]:
    """Put numbers to names that several sources still share or that lie inside one another."""
    used: set[str] = set()
    result = {}
    for source, name in names.items():
        candidate, number = name, 1
        while candidate in used:
            number += 1
            candidate = f"{name}-{number}"
        used.add(candidate)
        result[source] = candidate
    parents = {str(parent) for name in used for parent in Path(name).parents}
    return {s: f"{name}/frames" if name in parents else name for s, name in result.items()}


def stamp_of(source: str | os.PathLike) -> list:
    """Size in bytes (entries, for a folder) and time of change of a source; empty if absent."""
    path = Path(source)
    try:
        state = path.stat()
        size = sum(1 for _ in path.iterdir()) if path.is_dir() else state.st_size
    except OSError:
        return []
    return [size, state.st_mtime]


def apart_from(
    videos: Iterable[NamedVideo], inputs: Iterable[Path], output_dir: str | os.PathLike
) -> None:
    """Refuse an output folder that lies in an input folder, or that holds a video.

    Results would overwrite videos, or be taken for videos the next time.
    """
    output = Path(os.path.abspath(output_dir))
    roots = [Path(os.path.abspath(path)) for path in inputs if path.is_dir()]
    sources = [Path(video.source) for video in videos]
    inside = next((root for root in roots if root == output or root in output.parents), None)
    around = next((source for source in sources if output in source.parents), None)
    if inside or around:
        raise ValueError(
            f"--output_dir {output_dir} and the videos in {inside or around} lie in one another; "
            "choose a folder apart from the videos"
        )
