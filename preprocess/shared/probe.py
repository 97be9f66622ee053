"""Open every video once, in parallel, and keep a journal so that a stopped run goes on."""

import argparse
import csv
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svfap.datasets.files import GrowingFile
from svfap.datasets.labels.annotations import write_annotations
from svfap.datasets.tables import read_text, write_table
from svfap.datasets.video.frame_index import INDEX_FILE, KnownFrames, write_index
from svfap.datasets.video.open_video import UnreadableVideoError, open_video
from svfap.preprocess.shared.common import (
    PreparationError,
    add_link_flag,
    add_workers_flag,
    fitting_path,
    say,
    watched,
    without_spaces,
)
from svfap.preprocess.shared.workers import parallel

logger = logging.getLogger(__name__)

JOURNAL_COLUMNS = ("path", "size_bytes", "num_frames", "note")
PROBED_FRAMES = 5


@dataclass(frozen=True)
class Probe:
    """What opening a video showed."""

    path: str  # the file or frame folder
    size_bytes: int  # of the file, so that a replaced file is probed again; 0 for folders
    num_frames: int  # frames that decode; 0 when the video is broken
    note: str  # why it is broken, or what is wrong with a usable one (truncated); else empty

    @property
    def broken(self) -> bool:
        """No frame can be read."""
        return self.num_frames == 0


def probe_video(path: str) -> Probe:
    """Open one video, count its frames and decode some of them, the last included."""
    size = _size(path)
    try:
        with open_video(path) as reader:
            reader.read_chosen(_spread)
            return Probe(path, size, reader.num_frames, reader.problem or "")
    except UnreadableVideoError as error:
        return Probe(path, size, 0, " ".join(str(error.reason).split()) or "cannot be read")


def _spread(num_frames: int) -> np.ndarray:
    return np.unique(np.linspace(0, num_frames - 1, PROBED_FRAMES).astype(int))


def probe_all(paths: Sequence[str], *, journal: Path, num_workers: int) -> list[Probe]:
    """Probe every video, those in the journal of an earlier run excepted.

    Returns:
        One probe per path, in the order of `paths`.
    """
    known = {
        probe.path: probe
        for probe in _read_journal(journal)
        if probe.size_bytes == _size(probe.path)
    }
    todo = [path for path in paths if path not in known]
    if len(todo) < len(paths):
        logger.info("%d of %d videos are in %s", len(paths) - len(todo), len(paths), journal)
    probes = parallel(probe_video, todo, num_workers)
    probes = watched(probes, len(paths), "videos probed", done=len(paths) - len(todo))
    with GrowingFile(journal) as file:
        writer = csv.writer(file)
        for probe in probes:
            known[probe.path] = probe
            writer.writerow((probe.path, probe.size_bytes, probe.num_frames, probe.note))
    return [known[path] for path in paths]


def _read_journal(path: Path) -> Iterator[Probe]:
    lines = read_text(path).split("\n") if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        row = next(csv.reader([line]), []) if "\0" not in line else [line]
        if len(row) == len(JOURNAL_COLUMNS) and row[1].isdecimal() and row[2].isdecimal():
            yield Probe(row[0], int(row[1]), int(row[2]), row[3])
        elif row:
            logger.warning("%s: line %d is damaged, its video is probed again", path, number)


def _size(path: str) -> int:
    try:
        return 0 if os.path.isdir(path) else os.path.getsize(path)
    except OSError:
        return 0


def write_results(
    output_dir: Path, probes: Sequence[Probe], names: Mapping[str, str] | None = None
) -> None:
    """Write `info_clean.csv`, `broken.csv`, `truncated.csv` and, of files, `frame_index.npy`.

    Args:
        names: as the lists have it, by path; by default the path.
    """
    names = names or {probe.path: probe.path for probe in probes}
    usable = [probe for probe in probes if not probe.broken]
    broken = [probe for probe in probes if probe.broken]
    truncated = [probe for probe in usable if probe.note]
    _write_notes(output_dir / "broken.csv", broken)
    _write_notes(output_dir / "truncated.csv", truncated)
    for kind, some in (("broken, left out", broken), ("damaged, used", truncated)):
        say(kind, [f"{probe.path}: {probe.note}" for probe in some])
    if not usable:
        raise PreparationError(f"none of the {len(probes)} videos can be read")
    write_clean(output_dir, [names[probe.path] for probe in usable])
    counted = [
        (names[probe.path], KnownFrames(probe.size_bytes, probe.num_frames, probe.note or None))
        for probe in usable
        if probe.size_bytes  # frame folders have none, and need no counting
    ]
    if counted:
        write_index(output_dir / INDEX_FILE, counted)
    logger.info(
        "%d usable videos, %d of them damaged (truncated.csv); %d broken (broken.csv)",
        len(usable), len(truncated), len(broken),
    )  # fmt: skip


def write_clean(output_dir: Path, paths: Iterable[str]) -> None:
    """Write the pre-training list `info_clean.csv`: every path with the dummy label 0."""
    rows = [(path, "0") for path in paths]
    write_annotations(output_dir / "info_clean.csv", rows)
    logger.info("wrote %s: %d videos", output_dir / "info_clean.csv", len(rows))


def _write_notes(path: Path, probes: Sequence[Probe]) -> None:
    rows = [(probe.path, probe.num_frames, probe.note) for probe in probes]
    write_table(path, ("path", "num_frames", "reason"), rows)


def add_probe_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the commands that list videos and open every one."""
    parser.add_argument(
        "--no_probe", action="store_true", help="list the videos without opening any of them"
    )
    add_workers_flag(parser)
    add_link_flag(parser)


def listed_names(paths: Iterable[Path], flags: argparse.Namespace) -> dict[str, str]:
    """Path -> the same as the list in `flags.output_dir` has it, see `common.without_spaces`.

    Where links are needed they are to the last folder (or file) with white space in its name, so
    that a million videos below one folder need one.
    """
    names: dict[str, str] = {}
    links: dict[Path, Path] = {}
    for path in map(Path, dict.fromkeys(os.path.abspath(path) for path in paths)):
        fitting = fitting_path(path, flags.output_dir)
        if fitting is None:
            last = max(n for n, part in enumerate(path.parts) if re.search(r"\s", part))
            linked = Path(*path.parts[: last + 1])
            if linked not in links:
                links[linked] = without_spaces(linked, flags.link_dir, flags.output_dir)
            fitting = links[linked].joinpath(*path.parts[last + 1 :])
        names[str(path)] = str(fitting)
    return names


def probe_or_list(paths: Iterable[Path], flags: argparse.Namespace) -> int | None:
    """Write the list of `paths` to `flags.output_dir`, after probing unless `--no_probe`.

    Returns:
        Number of broken videos, None when nothing was opened.
    """
    names = listed_names(paths, flags)
    if flags.no_probe:
        logger.warning("--no_probe: broken videos, if any, show up in training only")
        write_clean(flags.output_dir, names.values())
        return None
    journal = flags.output_dir / "probed.csv"
    probes = probe_all(list(names), journal=journal, num_workers=flags.num_workers)
    write_results(flags.output_dir, probes, names)
    return sum(probe.broken for probe in probes)
