"""Videos or images with label and subject: what reading a layout gives, and tools for it."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from svfap.datasets.labels.listing import (
    VIDEO_SUFFIXES,
    Unused,
    find_pictures,
    find_videos,
)
from svfap.datasets.tables import as_on_disk, same_name
from svfap.datasets.video.open_video import IMAGE_SUFFIXES
from svfap.preprocess.shared.common import (
    PreparationError,
    Problems,
    frame_folder_problem,
    read_table,
    say,
    watched,
)

LFS_START = b"version https://git-lfs"
LFS_SIZE_BYTES = 1024
SUBJECTS_FILE, GROUPS_FILE = "subjects.csv", "groups.csv"
PATH_COLUMNS = ("path", "video_name", "clip", "name", "video")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video file, frame folder or image with what the data set says about it."""

    path: Path
    label: str  # as it stands in a CSV: a class number, or several fields separated by spaces
    subject: str | None = None  # who is seen (or the session); None where the data set does not say
    # longer video that this is a part of, where scores are averaged over its parts
    group: str | None = None
    where: str = ""  # file and line that say so, for messages
    name: str = ""


Parts = dict[str, list[Clip]]
"""Clips of "train", "test" and, where there is an official one, "val"."""


@dataclass
class Found:
    """What reading an official layout gave.

    Attributes:
        problems: what stops the preparation: wrong labels, repeated clips, ...
        missing: what the layout leads one to expect and is not there.
        extra: videos or images that do not belong to the layout; they are not used.
        splits: official parts by folder of their CSVs ("": that of all), instead of `clips`; none
            where folds are made from the subjects.
    """

    clips: list[Clip] = field(default_factory=list)  # the good ones, in natural order
    problems: Problems = field(default_factory=Problems)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    splits: dict[str, Parts] = field(default_factory=dict)
    complete: bool = False  # `splits` are all folds of the data set, each clip tested in one
    subjects_apart: bool = False  # nobody may be on both sides of an official split
    frame_folders: bool = False  # clips are folders of frames, never files

    @property
    def every(self) -> list[Clip]:
        """All clips, each once."""
        split = (c for parts in self.splits.values() for some in parts.values() for c in some)
        return self.clips or list({clip.path: clip for clip in split}.values())


def clip_name(path: Path) -> str:
    """Name without the ending of a video or image; frame folders keep theirs whole."""
    if path.suffix.lower() in VIDEO_SUFFIXES or path.suffix.lower() in IMAGE_SUFFIXES:
        return path.name[: -len(path.suffix)]
    return path.name


def first_folder(root: Path, given: Path | None, usual: Sequence[str], flag: str) -> Path:
    """`given` by the flag, or the first of the usual folders below `root` that is there."""
    candidates = [given] if given else [root / name for name in usual]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise PreparationError(
        f"no such folder: {' or '.join(map(str, candidates))}; pass another by {flag}"
    )


def find_images(folder: Path) -> list[Path]:
    """Image files at any depth, in natural order (`datasets.labels.listing.find_pictures`)."""
    if not folder.is_dir():
        raise PreparationError(f"no such folder: {folder}")
    return find_pictures(folder)


def named_videos(folder: Path, problems: Problems) -> dict[str, Path]:
    """Videos and frame folders below `folder` by name; a name found twice is a problem."""
    videos: dict[str, Path] = {}
    for path in find_videos(folder):
        first = videos.setdefault(same_name(clip_name(path)), path)
        if first is not path:
            problems.add(f"{path}: the same video is also at {first}; remove one")
    if not videos:
        raise PreparationError(f"no videos or frame folders in {folder}")
    return videos


def matching(
    videos: Mapping[str, Path],
    pattern: re.Pattern,
    form: str,
    found: Found,
    allowed: Mapping[str, Sequence[str]],
) -> Iterator[tuple[re.Match, Path]]:
    """Videos whose name (or whatever `videos` has them by) is of a form.

    Args:
        form: what names look like, for people.
        found: names of another form are `extra`, values that are not allowed problems.
        allowed: values by group of the pattern.
    """
    for name, path in videos.items():
        match = pattern.fullmatch(name)
        if match is None:
            found.extra.append(f"{path} ({form})")
            continue
        wrong = [group for group, values in allowed.items() if match[group] not in values]
        for group in wrong:
            known = ", ".join(allowed[group])
            found.problems.add(f"{path}: {group} {match[group]!r} is none of {known}")
        if not wrong:
            yield match, path


def file_problem(path: Path, unused: Unused, *, is_folder: bool = False) -> str | None:
    """Why a file or frame folder cannot be what it should be, without decoding it."""
    if is_folder or path.is_dir():
        return frame_folder_problem(path, unused)
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"{path}: {error.strerror or 'cannot be opened'}"
    if size == 0:
        return f"{path}: the file is empty"
    if not os.access(path, os.R_OK):
        return f"{path}: permission denied"
    if size < LFS_SIZE_BYTES:
        with path.open("rb") as file:
            if file.read(len(LFS_START)) == LFS_START:
                return f"{path}: only a pointer of git-lfs; fetch the files with `git lfs pull`"
    return None


def usable_clips(found: Found, root: Path, *, leave_out: bool) -> dict[Path, Clip]:
    """Clips whose file or frame folder is what it should be; the others are problems, or named.

    Returns:
        By path, clips whose path is spelt as the disk has it (`datasets.tables.as_on_disk`).
    """
    unused, usable, broken = Unused(root), {}, []
    for clip in watched(found.every, len(found.every), "files checked"):
        path = as_on_disk(clip.path)
        reason = file_problem(path, unused, is_folder=found.frame_folders)
        if clip.path in usable:
            found.problems.add(f"{path}: it is listed twice; once is enough")
        elif reason is None:
            usable[clip.path] = dataclasses.replace(clip, path=path)
        else:
            broken.append(reason)
    unused.tell()
    if leave_out:
        say("left out (--leave_out_missing)", broken)
    else:
        found.problems.lines.extend(broken)
    return usable


def table_by_name(path: Path, column: str) -> dict[str, str]:
    """One column of a table of videos, by what names them."""
    rows = read_table(path, (column,))
    names = [name for name in PATH_COLUMNS if rows and name in rows[0][1]]
    if not names:
        raise PreparationError(f"{path}: needs a column {' or '.join(PATH_COLUMNS)}, and rows")
    table = {row[names[0]].strip(): row[column].strip() for _, row in rows}
    return table | {same_name(name): value for name, value in table.items()}


def look_up(video: str, table: Mapping[str, str]) -> str | None:
    """Entry of a video: by its path, else its name without ending, else that without zeros."""
    name = clip_name(Path(video))
    for key in (video, same_name(video), name, same_name(name), name.lstrip("0") or "0"):
        if key in table:
            return table[key]
    return None


def read_class_folders(folder: Path, labels: Mapping[str, int], found: Found) -> list[Clip]:
    """Images of one part laid out as one folder per class.

    Args:
        labels: label by name of the class folder.
        found: gets problems (folders that are no class), missing folders and extra images.
    """
    if not folder.is_dir():
        found.missing.append(f"folder {folder}")
        return []
    clips, unknown = [], {}
    for path in find_images(folder):
        name = path.relative_to(folder).parts[0]
        if path.parent == folder:
            found.extra.append(f"{path} (beside the class folders)")
        elif name in labels:
            clips.append(Clip(path=path, label=str(labels[name])))
        else:
            unknown[name] = f"class folder {name!r} is none of {', '.join(labels)}"
    found.problems.lines += [f"{folder / name}: {problem}" for name, problem in unknown.items()]
    for name in labels:
        if not (folder / name).is_dir():
            found.missing.append(f"folder {folder / name}")
    return clips
