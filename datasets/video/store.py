"""Reading a packed store of clips: any frame of any video with one look into a table.

A store is a folder that `python -m svfap.preprocess.pack` writes:

    manifest.json   how the frames were made (encoding, face window, size), sizes, checksums
    shards/*.bin    encoded frames, one after the other, those of a video together
    videos.bin      a `VIDEO` record per video: shard, place, number of frames, checksum
    frames.bin      uint32 per frame: where it ends, in bytes from the start of its video
    keys.bin        names of the videos, UTF-8, one after the other
    hashes.bin      sorted 64-bit hashes of the names; rows.bin: the video of each hash
    notes.jsonl     what is wrong with single videos
    times.jsonl     when the frames of unevenly spaced videos were taken

Videos are named "DIR/manifest.json#KEY", in annotation files too. Tables are memory-mapped and
shards read by position. Opening a store compares the checksums of all tables but that of frames,
whose entries are checked as they are read; processes share the tables, and file descriptors may be
inherited or opened afresh (fork and spawn).
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from svfap.datasets.files import read_journal, read_json
from svfap.datasets.video.base import FrameReader, UnreadableVideoError
from svfap.datasets.video.hashing import hash_keys
from svfap.datasets.video.images import decode_into

MANIFEST, UNFINISHED = "manifest.json", "unfinished.json"
NOTES, TIMES, FRAME_TABLE = "notes.jsonl", "times.jsonl", "frames.bin"
JOURNALS = {NOTES: {"row": int, "note": str}, TIMES: {"row": int, "seconds": list}}
REMEDY = "copy the store again, or pack the videos into a new folder"
FORMAT, FORMAT_VERSION = "clip-store", 1
ENCODINGS = ("jpeg", "png", "raw")

VIDEO = np.dtype(
    [("first_frame", "<u8"), ("key_end", "<u8"), ("offset", "<u8"), ("num_bytes", "<u8")]
    + [("fps", "<f4"), ("num_frames", "<u4"), ("crc32", "<u4"), ("shard", "<u4")]
    + [("height", "<u2"), ("width", "<u2"), ("copied", "u1"), ("spare", "u1", 3)]
)
TABLES = {
    "videos.bin": VIDEO,
    "frames.bin": np.dtype("<u4"),
    "keys.bin": np.dtype("u1"),
    "hashes.bin": np.dtype("<u8"),
    "rows.bin": np.dtype("<u4"),
}

# One read covers all wanted frames unless it is more than this many times what is wanted.
LARGEST_WASTE = 2
# Paths that decide which stores an annotation file leads into.
SAMPLED_PATHS = 1000
# Shards a process keeps open.
MAX_OPEN_SHARDS = 64


class StoreError(ValueError):
    """A store that is unfinished, damaged, or made by another version."""


def split_store_path(path: str) -> tuple[str, str] | None:
    """("DIR/manifest.json", "KEY") of a path into a store, None for any other path."""
    manifest, mark, key = path.partition(MANIFEST + "#")
    if not mark or (manifest and not manifest.endswith((os.sep, "/"))):
        return None
    return manifest + MANIFEST, key


def shard_path(folder: str | os.PathLike, shard: int) -> str:
    """File of a shard."""
    return os.path.join(folder, "shards", f"{shard:05d}.bin")


def read_manifest(path: str | os.PathLike) -> dict:
    """Manifest of a finished store.

    Raises:
        StoreError: packing was not finished, or another version wrote it.
    """
    path = Path(path)
    if not path.is_file():
        if (path.parent / UNFINISHED).is_file():
            raise StoreError(
                f"{path.parent}: packing was not finished; start the same preprocess.pack command "
                "again, it goes on where it stopped"
            )
        raise FileNotFoundError(f"{path}: no such store; python -m svfap.preprocess.pack makes one")
    try:
        manifest = read_json(path)
    except ValueError as error:
        raise StoreError(f"{error}: {REMEDY}") from error
    found = (manifest.get("format"), manifest.get("version"))
    if found != (FORMAT, FORMAT_VERSION):
        raise StoreError(
            f"{path}: format and version are {found}, this program reads "
            f"{(FORMAT, FORMAT_VERSION)}; pack the videos again"
        )
    if manifest.get("sha256", "") not in ("", manifest_sha256(manifest)) or not _plausible(
        manifest
    ):
        raise StoreError(f"{path} is damaged, it does not say what was written: {REMEDY}")
    return manifest


def manifest_sha256(manifest: Mapping) -> str:
    """Checksum of all of a manifest but its checksum."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _plausible(manifest: Mapping) -> bool:
    """Whether what reading needs is there; manifests of older versions have no checksum."""
    window, tables = manifest.get("face_window", 0), manifest.get("tables")
    whole = isinstance(window, list) and len(window) == 4 and all(type(v) is int for v in window)
    return (
        (window is None or whole)
        and manifest.get("encoding") in ENCODINGS
        and isinstance(tables, dict)
        and all(isinstance(tables.get(name), dict) for name in TABLES)
        and all(type(tables[name].get("num_bytes")) is int for name in TABLES)
        and all(isinstance(tables[name].get("sha256", ""), str) for name in TABLES)
    )


def read_store_journal(folder: str | os.PathLike, name: str) -> list[dict]:
    """What is said of single videos, by `row`: a `note`, or the `seconds` of its frames."""
    return read_journal(Path(folder, name), JOURNALS[name])


class ClipStore:
    """The tables of a store, and its shards as they are needed.

    Attributes:
        window: (top, left, height, width) that was cut out of every frame, or None.
        videos: (n,) `VIDEO` records, memory-mapped.

    Raises:
        StoreError: unfinished, incomplete or of another version.
    """

    def __init__(self, manifest: str | os.PathLike):
        self.folder = os.path.dirname(os.path.abspath(manifest))
        self.manifest = read_manifest(manifest)
        window = self.manifest["face_window"]
        self.window = tuple(window) if window else None
        self.videos = self._table("videos.bin")
        self._frame_ends = self._table("frames.bin")
        self._keys = self._table("keys.bin")
        self._hashes, self._rows = self._table("hashes.bin"), self._table("rows.bin")
        self._shards: OrderedDict[int, int] = OrderedDict()

    def _table(self, name: str) -> np.ndarray:
        path, expected = os.path.join(self.folder, name), self.manifest["tables"][name]["num_bytes"]
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        if size != expected or size % TABLES[name].itemsize:
            raise StoreError(
                f"{path} has {size:,} bytes, {expected:,} belong there: it was not copied "
                "completely; copy the store again, or check it with preprocess.pack --verify"
            )
        if not size:
            return np.empty(0, TABLES[name])
        table = np.asarray(np.memmap(path, TABLES[name], "r"))
        wanted = self.manifest["tables"][name].get("sha256")
        if wanted and name != FRAME_TABLE and hashlib.sha256(table.data).hexdigest() != wanted:
            raise StoreError(f"{path} is damaged, its checksum is another: {REMEDY}")
        return table

    def __len__(self) -> int:
        return len(self.videos)

    def key(self, row: int) -> str:
        """Name of a video."""
        start = int(self.videos["key_end"][row - 1]) if row else 0
        return os.fsdecode(self._keys[start : int(self.videos["key_end"][row])].tobytes())

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """Rows of named videos, (n,) int64; -1 where there is none of that name."""
        hashes = hash_keys(keys)
        places = np.searchsorted(self._hashes, hashes)
        rows = np.full(len(keys), -1, np.int64)
        for number, (key, place, wanted) in enumerate(zip(keys, places.tolist(), hashes)):
            while place < len(self._hashes) and self._hashes[place] == wanted:
                row = int(self._rows[place])
                if self.key(row) == key:
                    rows[number] = row
                    break
                place += 1
        return rows

    def has(self, keys: Sequence[str]) -> np.ndarray:
        """Whether there are videos of these names, (n,) bool; compares 64-bit hashes only."""
        hashes = hash_keys(keys)
        places = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        return self._hashes[places] == hashes

    def frame_ends(self, row: int) -> np.ndarray:
        """Ends of a video's frames in bytes from its start, (num_frames,) uint32."""
        first, count = int(self.videos["first_frame"][row]), int(self.videos["num_frames"][row])
        return self._frame_ends[first : first + count]

    def checked_frame_ends(self, row: int) -> np.ndarray:
        """The same, if they are possible.

        Raises:
            StoreError: the table of frames is damaged.
        """
        ends = self.frame_ends(row)
        whole = len(ends) == self.videos["num_frames"][row]
        if not whole or ends[-1] != self.videos["num_bytes"][row] or (ends[1:] <= ends[:-1]).any():
            path = os.path.join(self.folder, FRAME_TABLE)
            raise StoreError(f"{path} is damaged, as the frames of {self.key(row)} show: {REMEDY}")
        return ends

    @cached_property
    def notes(self) -> dict[int, str]:
        """Row -> what is wrong with that video; only for those with something wrong."""
        return self._said(NOTES, "note")

    @cached_property
    def seconds(self) -> dict[int, list[float]]:
        """Row -> time of each frame; only for videos whose frames are not evenly spaced."""
        return self._said(TIMES, "seconds")

    def _said(self, name: str, what: str) -> dict:
        entries = read_store_journal(self.folder, name)
        return {e["row"]: e[what] for e in entries if 0 <= e["row"] < len(self)}

    def read_bytes(self, shard: int, start: int, stop: int) -> bytes:
        """Bytes of a shard; fewer than asked for where the file is cut off."""
        return os.pread(self._open_shard(shard), stop - start, start)

    def _open_shard(self, shard: int) -> int:
        descriptor = self._shards.get(shard)
        if descriptor is None:
            descriptor = os.open(shard_path(self.folder, shard), os.O_RDONLY | _O_CLOEXEC)
            self._shards[shard] = descriptor
            if len(self._shards) > MAX_OPEN_SHARDS:
                os.close(self._shards.popitem(last=False)[1])
        else:
            self._shards.move_to_end(shard)
        return descriptor

    def close(self) -> None:
        """Close the shards; reading opens them again."""
        while self._shards:
            os.close(self._shards.popitem()[1])


_O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


@lru_cache(maxsize=16)
def open_store(manifest: str) -> ClipStore:
    """Store of a manifest; opened once per process."""
    return ClipStore(manifest)


class StoreReader(FrameReader):
    """Frames of one video of a store.

    Args:
        path: "DIR/manifest.json#KEY".

    Raises:
        UnreadableVideoError: no such video, or it was unreadable when the store was packed.
        FileNotFoundError, StoreError: the store itself cannot be used.
    """

    def __init__(self, path: str):
        self.path = path
        manifest, key = split_store_path(path)
        self._store = open_store(manifest)
        row = int(self._store.rows([key])[0])
        if row < 0:
            raise UnreadableVideoError(path, f"the store has no video {key!r}")
        self._row, self._video = row, self._store.videos[row]
        self.num_frames = int(self._video["num_frames"])
        self.problem = self._store.notes.get(row)
        if self.num_frames == 0:
            raise UnreadableVideoError(path, f"unreadable when it was packed ({self.problem})")
        self.fps = float(self._video["fps"]) or None
        self.window = self._store.window

    def times(self) -> np.ndarray | None:
        """Seconds of each frame from the first one."""
        try:
            seconds = np.array(self._store.seconds.get(self._row, ()), np.float64)
        except (ValueError, TypeError):  # a damaged line
            return super().times()
        increasing = len(seconds) == self.num_frames and (np.diff(seconds) > 0).all()
        return seconds if increasing else super().times()

    def _read_sorted(self, wanted: list[int]) -> np.ndarray:
        ends = self._store.checked_frame_ends(self._row)
        stops = ends[wanted].tolist()
        starts = [int(ends[index - 1]) if index else 0 for index in wanted]
        try:
            parts = self._read_parts(starts, stops)
        except OSError as error:
            raise UnreadableVideoError(
                self.path, f"its shard cannot be read ({error.strerror})"
            ) from error
        return self._decode(parts, wanted)

    def _read_parts(self, starts: list[int], stops: list[int]) -> list[memoryview]:
        """Encoded frames; by one read where they lie close together."""
        shard, base = int(self._video["shard"]), int(self._video["offset"])
        first, wanted = starts[0], sum(stops) - sum(starts)
        if stops[-1] - first <= LARGEST_WASTE * wanted:
            data = self._store.read_bytes(shard, base + first, base + stops[-1])
            view = memoryview(data)
            return [view[start - first : stop - first] for start, stop in zip(starts, stops)]
        return [
            memoryview(self._store.read_bytes(shard, base + start, base + stop))
            for start, stop in zip(starts, stops)
        ]

    def _decode(self, parts: list[memoryview], wanted: list[int]) -> np.ndarray:
        height, width = int(self._video["height"]), int(self._video["width"])
        if self._store.manifest["encoding"] == "raw" and not self._video["copied"]:
            size = height * width * 3
            if any(len(part) != size for part in parts):
                raise self._damaged(wanted[0])
            return np.frombuffer(bytearray().join(parts), np.uint8).reshape(-1, height, width, 3)
        frames = np.empty((len(parts), height, width, 3), np.uint8)
        for frame, part, index in zip(frames, parts, wanted):
            if not decode_into(frame, part):
                raise self._damaged(index)
        return frames

    def _damaged(self, index: int) -> UnreadableVideoError:
        return UnreadableVideoError(
            self.path,
            f"frame {index} of the store is damaged; "
            "python -m svfap.preprocess.pack --verify DIR lists "
            "all that is",
        )


def paths_exist(paths: Iterable[str]) -> list[bool]:
    """Whether each path is a file, a folder, or a video of a store.

    Raises:
        StoreError: a path leads into a store that cannot be used.
    """
    paths = list(paths)
    found = [False] * len(paths)
    by_store: dict[str, list[tuple[int, str]]] = {}
    for place, path in enumerate(paths):
        parts = split_store_path(path)
        if parts is None:
            found[place] = os.path.exists(path)
        else:
            by_store.setdefault(parts[0], []).append((place, parts[1]))
    for manifest, wanted in by_store.items():
        unfinished = os.path.join(os.path.dirname(manifest), UNFINISHED)
        if not (os.path.isfile(manifest) or os.path.isfile(unfinished)):
            continue
        present = open_store(manifest).has([key for _, key in wanted])
        for (place, _), exists in zip(wanted, present.tolist()):
            found[place] = exists
    return found


def stores_of(paths: Sequence[str]) -> dict[str, dict]:
    """Manifests of the stores that paths lead into: path of the manifest -> its contents.

    Of many paths it looks at a thousand, evenly spread.
    """
    some = (paths[place] for place in range(0, len(paths), max(len(paths) // SAMPLED_PATHS, 1)))
    manifests = dict.fromkeys(
        parts[0] for path in some if (parts := split_store_path(path)) is not None
    )
    return {manifest: open_store(manifest).manifest for manifest in manifests}
