"""Videos below the folders a user names, each with a name for what is made of it."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets.video.open_video import IMAGE_SUFFIXES, natural_key

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg")
    + (".mts", ".ogv", ".ts", ".webm", ".wmv")
)


class NamedVideo(NamedTuple):
    """A video and a relative path, without white space, that no other video of the list has."""

    source: str
    name: str


def find_videos(folder: Path) -> Iterator[Path]:
    """Video files and frame folders below `folder`, itself included, in natural order.

    A folder that holds pictures and no videos is one video. Pictures beside videos are taken for
    thumbnails and left out, which is said.

    Args:
        folder: a folder, or a single video or picture.

    Raises:
        FileNotFoundError: `folder` does not exist.
    """
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise FileNotFoundError(f"no such file or folder: {folder}")
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        subfolders[:] = sorted((s for s in subfolders if not s.startswith(".")), key=natural_key)
        visible = [name for name in files if not name.startswith(".")]
        videos = [name for name in visible if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        pictures = [name for name in visible if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        if videos:
            yield from (Path(parent, name) for name in sorted(videos, key=natural_key))
            if pictures:
                logger.warning("%s: %d pictures beside videos left out", parent, len(pictures))
        elif pictures:
            yield Path(parent)


def list_videos(inputs: Sequence[Path]) -> list[NamedVideo]:
    """Videos of all inputs, each with a name of its own.

    The name is the path below the input, without suffix unless two videos would share it; white
    space becomes "_", because annotation files cannot hold it.

    Raises:
        FileNotFoundError: an input does not exist or holds no video.
    """
    found: dict[str, Path] = {}
    for root in map(Path, inputs):
        here = list(find_videos(root))
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

    Raises:
        ValueError: naming both.
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
