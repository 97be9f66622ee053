"""Known numbers of frames, so that irregular videos need not be decoded to be counted.

Most files tell their number of frames by their packets. Codecs with hidden frames (VP9, AV1), files
without time stamps and damaged ones do not: the reader decodes them once to count, then again to
read. Probing (`preprocess.voxceleb2`, `preprocess.videos`) writes what it found beside the
annotation file; without that, each loader process remembers what it counted. The file is a cache: a
damaged one is not used, and probing writes it anew.
"""

import io
import logging
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from svfap.datasets.files import replacing
from svfap.datasets.video.hashing import hash_key

logger = logging.getLogger(__name__)

INDEX_FILE = "frame_index.npy"
RECORD = np.dtype(
    [("hash", "<u8"), ("size_bytes", "<u8"), ("num_frames", "<u4"), ("problem", "S100")]
)
CHECKSUM_BYTES = 4


class KnownFrames(NamedTuple):
    """What counting the frames of a video file gave."""

    size_bytes: int  # of the file; another size means another file
    num_frames: int  # frames that decode
    problem: str | None = None  # None, or what is wrong with the file


class FrameIndex:
    """Known numbers of frames; on disk (memory-mapped), and what is added in memory.

    Videos are named as in the annotation file, which holds wherever the data lie.

    Args:
        file: what `write_index` wrote; None or an absent file: nothing is known yet.
    """

    def __init__(self, file: str | os.PathLike | None = None):
        self._file = file
        self._records: np.ndarray | None = None
        self._hashes = np.empty(0, np.uint64)
        if file is not None and os.path.isfile(file):
            self._records = _read_records(file)
        if self._records is not None:
            self._hashes = np.ascontiguousarray(self._records["hash"])
        self._added: dict[str, KnownFrames] = {}

    @classmethod
    def beside(cls, csv_path: str | os.PathLike) -> "FrameIndex":
        """The index in the folder of an annotation file."""
        return cls(Path(csv_path).parent / INDEX_FILE)

    def __len__(self) -> int:
        return len(self._hashes) + len(self._added)

    def __getstate__(self) -> dict:
        return {"file": self._file, "added": self._added}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["file"])
        self._added = state["added"]

    def get(self, name: str) -> KnownFrames | None:
        """What is known of a video; None if nothing."""
        if name in self._added or self._records is None:
            return self._added.get(name)
        wanted = np.uint64(hash_key(name))
        place = int(np.searchsorted(self._hashes, wanted))
        if place == len(self._hashes) or self._hashes[place] != wanted:
            return None
        record = self._records[place]
        problem = record["problem"].decode(errors="replace") or None
        return KnownFrames(int(record["size_bytes"]), int(record["num_frames"]), problem)

    def add(self, name: str, known: KnownFrames) -> None:
        """Remember a video in this process."""
        self._added[name] = known


def write_index(file: str | os.PathLike, videos: Iterable[tuple[str, KnownFrames]]) -> None:
    """Write an index completely or not at all."""
    records = np.array(
        [
            (hash_key(name), known.size_bytes, known.num_frames, (known.problem or "").encode())
            for name, known in videos
        ],
        RECORD,
    )
    records = records[np.argsort(records["hash"])]
    with replacing(file) as temporary, temporary.open("wb") as index:
        np.save(index, records)
        index.write(_checksum(records))  # behind the array, where NumPy does not look


def _checksum(records: np.ndarray) -> bytes:
    return zlib.crc32(records.tobytes()).to_bytes(CHECKSUM_BYTES, "little")


def _read_records(file: str | os.PathLike) -> np.ndarray | None:
    """The records, memory-mapped; None, with a warning, where the file is damaged."""
    try:
        records = np.load(file, mmap_mode="r")
        if records.dtype != RECORD or records.ndim != 1:
            raise ValueError("it holds something else")
        with open(file, "rb") as index:
            index.seek(records.offset + records.nbytes, io.SEEK_SET)
            checksum = index.read()
        if checksum and checksum != _checksum(records):  # older files have none
            raise ValueError("its checksum is another")
    except Exception as error:  # NumPy's reader of headers raises almost anything
        logger.warning(
            "%s is damaged (%s) and not used: videos that need it are counted as they are opened; "
            "the preprocess command that wrote it makes it anew",
            file, " ".join(str(error).split()),
        )  # fmt: skip
        return None
    return records
