"""An object whose pickle runs a command."""

import os
from pathlib import Path


class Hostile:
    """Runs a command when unpickled by the ordinary reader."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)
