"""A download under way: `<name>.part`, with what is known of its source in `<name>.part.json`."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Source:
    """What is known about the bytes in a .part file.

    Attributes:
        url: where they come from.
        validator: the server's ETag or date of the whole file; None if it states neither.
        total: bytes of the whole file; None if unknown.
    """

    url: str
    validator: str | None = None
    total: int | None = None


class PartFile:
    """A download under way: its bytes and where they come from."""

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.facts = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def source(self, url: str) -> Source | None:
        """What is known of the bytes so far; None where they are of another address."""
        try:
            source = Source(**json.loads(self.facts.read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return source if source.url == url and self.size else None

    def begin(self, source: Source, *, keep: bool) -> None:
        """Note the source; unless `keep`, throw the bytes away."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not keep:
            self.path.write_bytes(b"")
        self.facts.write_text(json.dumps(asdict(source)))

    def discard(self) -> None:
        """Remove everything."""
        self.path.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name."""
        os.replace(self.path, self.target)
        self.facts.unlink(missing_ok=True)
