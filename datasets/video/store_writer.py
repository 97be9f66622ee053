"""Writing a packed store of clips, video by video, and checking one (`datasets.video.store`).

The tables only grow, so whatever a killed run left is a store of the first videos: `StoreWriter`
checks its end, cuts off what is incomplete, and says how many videos it has.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svfap.datasets.checks import at_least
from svfap.datasets.files import (
    TEMPORARY,
    GrowingFile,
    read_json,
    remove_leftovers,
    replacing,
    write_text,
)
from svfap.datasets.video.hashing import hash_keys
from svfap.datasets.video.store import (
    FORMAT,
    FORMAT_VERSION,
    JOURNALS,
    MANIFEST,
    NOTES,
    TABLES,
    TIMES,
    UNFINISHED,
    VIDEO,
    ClipStore,
    StoreError,
    manifest_sha256,
    read_manifest,
    read_store_journal,
    shard_path,
)

# On resuming, checksums of videos in this many last bytes are compared.
RECHECKED_BYTES = 2**28
GROWING = ("videos.bin", "frames.bin", "keys.bin")


@dataclass(frozen=True)
class PackedVideo:
    """Encoded frames of one video."""

    key: str
    data: bytes  # the frames one after the other; empty for an unreadable video
    ends: np.ndarray  # (num_frames,) where each frame ends in `data`
    height: int = 0  # of the frames, pixels
    width: int = 0  # of the frames, pixels
    fps: float = 0.0  # 0 if unknown
    copied: bool = False  # frames are the source's image files, byte for byte
    note: str | None = None  # why it is unreadable, or what is wrong with it; else None
    # (num_frames,) time of each frame; None where they are evenly spaced
    seconds: np.ndarray | None = None


class StoreWriter:
    """Appends videos to a store; a context manager.

    Args:
        settings: what decides how frames are made; goes into the manifest. With `keys_sha256` or
            the like in it, resuming refuses another list of videos.
        shard_bytes: a shard is closed before a video that would make it longer than this.

    Raises:
        StoreError: the folder holds something else, or a store with other settings.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict, *, shard_bytes: int):
        at_least(1, shard_bytes=shard_bytes)
        self.folder = Path(folder)
        self.settings, self.shard_bytes = settings, shard_bytes
        self.finished = (self.folder / MANIFEST).is_file()
        self._check_settings()
        if self.finished:
            self.num_videos = len(ClipStore(self.folder / MANIFEST))
            self._files = {}
            return
        write_text(self.folder / UNFINISHED, json.dumps(settings, indent=1) + "\n")
        (self.folder / "shards").mkdir(exist_ok=True)
        remove_leftovers(self.folder)
        self._take_over()
        self._files = {name: self._growing(name) for name in (*GROWING, *JOURNALS)}
        self._shard_file = None

    def _check_settings(self) -> None:
        for name in (MANIFEST, UNFINISHED):
            path = self.folder / name
            if not path.is_file():
                continue
            try:
                before = read_json(path)
            except ValueError as error:
                raise StoreError(f"{error}: pack into a new folder") from error
            other = [
                f"{key} was {before.get(key)!r}, is {value!r}"
                for key, value in self.settings.items()
                if before.get(key) != json.loads(json.dumps(value))
            ]
            if other:
                raise StoreError(
                    f"{self.folder} holds a store made with other settings ({'; '.join(other)}); "
                    "use the same, or another folder"
                )
            return
        if self.folder.is_dir() and not all(p.match(TEMPORARY) for p in self.folder.iterdir()):
            raise StoreError(
                f"{self.folder} is not empty and holds no store; choose a new folder, nothing of "
                "yours is overwritten"
            )

    def _take_over(self) -> None:
        """Keep the complete videos of an earlier run and cut off the rest."""
        videos = self._complete(_load(self.folder / "videos.bin", VIDEO))
        self.num_videos = len(videos)
        last = videos[-1] if len(videos) else np.zeros((), VIDEO)
        self._num_frames = int(last["first_frame"]) + int(last["num_frames"])
        self._key_end = int(last["key_end"])
        self._shard, self._shard_end = int(last["shard"]), int(last["offset"] + last["num_bytes"])
        lengths = {
            "videos.bin": self.num_videos * VIDEO.itemsize,
            "frames.bin": 4 * self._num_frames,
            "keys.bin": self._key_end,
        }
        for name, length in lengths.items():
            _cut(self.folder / name, length)
        _cut(Path(shard_path(self.folder, self._shard)), self._shard_end)
        for shard in (self.folder / "shards").glob("*.bin"):
            if int(shard.stem) > self._shard:
                shard.unlink()
        self._cut_journals()

    def _complete(self, videos: np.ndarray) -> np.ndarray:
        """The longest run of videos from the first on whose bytes are all there."""
        frame_bytes, key_bytes = (_size(self.folder / name) for name in GROWING[1:])
        bounds = (videos["first_frame"] + videos["num_frames"]) * 4 <= frame_bytes
        bounds &= videos["key_end"] <= key_bytes
        bounds &= self._in_order(videos)
        sizes = {
            shard: _size(Path(shard_path(self.folder, shard)))
            for shard in np.unique(videos["shard"]).tolist()
        }
        have = np.array([sizes[shard] for shard in videos["shard"].tolist()], np.uint64)
        bounds &= videos["offset"] + videos["num_bytes"] <= have
        count = len(videos) if bounds.all() else int(np.argmin(bounds))
        checked = 0
        for row in range(count - 1, -1, -1):
            if not _checksum_fits(self.folder, videos[row]):
                count = row
            checked += int(videos["num_bytes"][row])
            if checked > RECHECKED_BYTES:
                break
        return videos[:count]

    def _in_order(self, videos: np.ndarray) -> np.ndarray:
        """Which records follow on those before, and have frames that fit their bytes."""
        num_frames = videos["num_frames"].astype(np.uint64)
        fits = videos["first_frame"] == np.cumsum(num_frames) - num_frames
        fits &= np.diff(videos["key_end"].astype(np.int64), prepend=0) > 0
        ends = _load(self.folder / "frames.bin", TABLES["frames.bin"])
        last = (videos["first_frame"] + num_frames).astype(np.int64) - 1
        known = fits & (num_frames > 0) & (last < len(ends)) & (last >= 0)
        fits[known] &= ends[last[known]] == videos["num_bytes"][known]
        return fits

    def _cut_journals(self) -> None:
        for name in JOURNALS:
            entries = read_store_journal(self.folder, name)
            kept = [entry for entry in entries if entry["row"] < self.num_videos]
            write_text(self.folder / name, "".join(json.dumps(entry) + "\n" for entry in kept))

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *exc_info) -> None:
        for file in [*self._files.values(), getattr(self, "_shard_file", None)]:
            if file:
                file.close()

    def add(self, video: PackedVideo) -> None:
        """Append a video; a note is kept in `notes.jsonl`."""
        if video.data and video.ends[-1] >= 2**32:
            raise StoreError(f"{video.key}: more than 4 GiB of frames; cut the video into parts")
        if self._shard_end and self._shard_end + len(video.data) > self.shard_bytes:
            self._next_shard()
        if self._shard_file is None:
            self._shard_file = self._growing(shard_path(self.folder, self._shard))
        key = os.fsencode(video.key)
        record = np.zeros((), VIDEO)
        record["first_frame"], record["num_frames"] = self._num_frames, len(video.ends)
        record["key_end"] = self._key_end + len(key)
        record["shard"], record["offset"] = self._shard, self._shard_end
        record["num_bytes"], record["crc32"] = len(video.data), zlib.crc32(video.data)
        record["height"], record["width"] = video.height, video.width
        record["fps"], record["copied"] = video.fps, video.copied
        if video.note:
            self._say(NOTES, note=video.note)
        if video.seconds is not None:
            self._say(TIMES, seconds=[round(float(second), 6) for second in video.seconds])
        self._shard_file.write(video.data)
        self._files["frames.bin"].write(np.asarray(video.ends, "<u4").tobytes())
        self._files["keys.bin"].write(key)
        self._files["videos.bin"].write(record.tobytes())
        self.num_videos += 1
        self._num_frames += len(video.ends)
        self._key_end += len(key)
        self._shard_end += len(video.data)

    def _say(self, name: str, **what) -> None:
        self._files[name].write(json.dumps({"row": self.num_videos} | what) + "\n")

    def _growing(self, name: str) -> GrowingFile:
        return GrowingFile(self.folder / name, lines=False)  # torn pieces are cut off before

    def _next_shard(self) -> None:
        if self._shard_file is not None:
            self._shard_file.flush_to_disk()
            self._shard_file.close()
        self._shard_file, self._shard_end = None, 0
        self._shard += 1

    def finish(self, facts: dict) -> dict:
        """Sort the names and write the manifest, which makes the store readable.

        Args:
            facts: what goes into the manifest beside the settings.

        Raises:
            StoreError: two videos have the same name.
        """
        for file in [*self._files.values(), self._shard_file]:
            if file:
                file.flush_to_disk()
        self._write_hashes()
        videos = _load(self.folder / "videos.bin", VIDEO)
        manifest = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            **self.settings,
            "num_videos": len(videos),
            "num_unreadable": int((videos["num_frames"] == 0).sum()),
            "num_frames": int(videos["num_frames"].sum()),
            "num_bytes": int(videos["num_bytes"].sum()),
            "num_copied": int(videos["copied"].sum()),
            "num_shards": int(videos["shard"].max()) + 1,
            **facts,
            "tables": {name: _facts(self.folder / name) for name in TABLES},
        }
        manifest["sha256"] = manifest_sha256(json.loads(json.dumps(manifest)))
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        (self.folder / UNFINISHED).unlink()
        self.finished = True
        return manifest

    def _write_hashes(self) -> None:
        ends = _load(self.folder / "videos.bin", VIDEO)["key_end"].tolist()
        data = (self.folder / "keys.bin").read_bytes()
        keys = [os.fsdecode(data[a:b]) for a, b in zip([0, *ends], ends)]
        wanted = self.settings.get("keys_sha256")
        if wanted and hashlib.sha256(os.fsencode("\n".join(keys))).hexdigest() != wanted:
            raise StoreError(f"{self.folder / 'keys.bin'} is damaged; pack into a new folder")
        if len(set(keys)) < len(keys):
            raise StoreError(f"{self.folder}: two videos have the same name")
        hashes = hash_keys(keys)
        order = np.argsort(hashes, kind="stable")
        for name, values in (("hashes.bin", hashes[order]), ("rows.bin", order)):
            with replacing(self.folder / name) as temporary:
                values.astype(TABLES[name]).tofile(temporary)


def check_tables(folder: str | os.PathLike) -> list[str]:
    """Compare the tables of a store with the manifest's checksums; returns what is wrong."""
    folder = Path(folder)
    tables = read_manifest(folder / MANIFEST)["tables"]
    return [
        f"{folder / name}: its checksum is not that of the manifest; nothing in the store can be "
        "relied upon, copy or pack it again"
        for name, facts in tables.items()
        if _size(folder / name) != facts["num_bytes"] or _sha256(folder / name) != facts["sha256"]
    ]


def check_shard(folder: str | os.PathLike, shard: int) -> list[str]:
    """Compare every video of a shard with its checksum; returns what is wrong, by video."""
    folder = Path(folder)
    store = ClipStore(folder / MANIFEST)
    path = Path(shard_path(folder, shard))
    if not path.is_file():
        return [f"{path}: the file is absent"]
    rows = np.flatnonzero(store.videos["shard"] == shard)
    return [
        f"{store.key(row)}: its frames in {path} are damaged (checksum)"
        for row in rows.tolist()
        if not _checksum_fits(folder, store.videos[row])
    ]


def _checksum_fits(folder: Path, video: np.void) -> bool:
    if video["num_bytes"] == 0:
        return True
    with open(shard_path(folder, int(video["shard"])), "rb") as file:
        file.seek(int(video["offset"]))
        data = file.read(int(video["num_bytes"]))
    return len(data) == video["num_bytes"] and zlib.crc32(data) == video["crc32"]


def _load(path: Path, dtype: np.dtype) -> np.ndarray:
    """Whole records of a table; an incomplete last one is left out."""
    if not path.is_file():
        return np.empty(0, dtype)
    return np.fromfile(path, dtype, count=_size(path) // dtype.itemsize)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _cut(path: Path, length: int) -> None:
    if path.is_file():
        os.truncate(path, length)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(2**22):
            yield piece


def _facts(path: Path) -> dict:
    return {"num_bytes": _size(path), "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(path):
        digest.update(piece)
    return digest.hexdigest()
