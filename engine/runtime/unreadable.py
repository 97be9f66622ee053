"""Account of videos that could not be read, or only in part, during training."""

import logging
import math
from pathlib import Path

from svfap.datasets.clips.source import SHORT, VideoNote
from svfap.datasets.tables import read_table, write_table
from svfap.engine.runtime.distributed import Workers
from svfap.engine.runtime.errors import TooManyUnreadableError

logger = logging.getLogger(__name__)

HEADER = ("path", "status", "reason")


class UnreadableBudget:
    """Names each bad video once, lists all in `unreadable.csv`, stops above the budget."""

    def __init__(self, *, num_videos: int, share: float, output_dir: Path | None, workers: Workers):
        """Set the budget.

        Args:
            share: `--max_unreadable`, 0..1; the number of videos is rounded up.
            output_dir: run directory; None writes no file.
        """
        self.allowed = math.ceil(share * num_videos)
        self.num_videos = num_videos
        self.path = output_dir / "unreadable.csv" if output_dir else None
        self.workers = workers
        self.known: dict[str, tuple[str, str]] = {}
        self.fresh: dict[str, tuple[str, str]] = {}
        self.short = False  # whether there are short videos
        if self.path and self.path.exists():
            for _, row in read_table(self.path, HEADER):
                self.known[row["path"]] = (row["status"], row["reason"])

    @property
    def num_skipped(self) -> int:
        """Videos of which nothing could be read."""
        return sum(status == "skipped" for status, _ in self.known.values())

    def note(self, notes: list) -> None:
        """Take the notes of a batch (`datasets.clips.VideoNote`)."""
        for note in notes:
            if note.status == SHORT:
                self._say_short(note)
            elif note.path not in self.known:
                self.fresh[note.path] = (note.status, note.reason)

    def _say_short(self, note: VideoNote) -> None:
        """Once: short clips are whole collections."""
        if not self.short:
            logger.info(
                "short videos show all their frames, such as %s (%s)", note.path, note.reason
            )
        self.short = True

    def check(self) -> None:
        """Exchange notes between processes, write the file, stop if there are too many.

        Raises:
            TooManyUnreadableError: on every process.
        """
        if not self.workers.any(bool(self.fresh)):
            return
        for notes in self.workers.gather(self.fresh):
            for path, (status, reason) in notes.items():
                if path not in self.known:
                    self.known[path] = (status, reason)
                    if self.workers.is_main:
                        logger.warning("%s video %s: %s", status, path, reason)
        self.fresh = {}
        if self.path and self.workers.is_main:
            self._write()
        if self.num_skipped > self.allowed:
            raise TooManyUnreadableError(
                f"{self.num_skipped} of {self.num_videos} videos could not be read, "
                f"--max_unreadable allows {self.allowed}; they are listed in "
                f"{self.path or 'the log'}. Repair or remove them, or raise --max_unreadable"
            )

    def _write(self) -> None:
        write_table(self.path, HEADER, ((path, *rest) for path, rest in sorted(self.known.items())))
