"""What a run says while it works: lines or a bar, log.jsonl, facts of the machine."""

import json
import logging
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from tqdm import tqdm

from svfap.datasets.files import write_text
from svfap.engine.results.find import read_log
from svfap.engine.runtime.boards import Boards
from svfap.engine.runtime.errors import ROOT

if TYPE_CHECKING:  # wrong flags are answered without PyTorch, which takes seconds
    import torch

logger = logging.getLogger(__name__)


def set_up_logging(is_main: bool) -> None:
    """Plain lines on standard output; other processes than the first only warn."""
    logging.basicConfig(
        level=logging.WARNING,  # libraries only speak up when something is wrong
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stdout,
        force=True,
    )
    logging.getLogger("svfap").setLevel(logging.INFO if is_main else logging.WARNING)


def commit_name() -> str | None:
    """The commit of this program, "-dirty" where its files differ; None outside a checkout.

    Nothing is written: `git describe --dirty` refreshes the index, and if the run is killed then,
    its lock stays in the user's checkout.
    """
    if not (ROOT / ".git").exists():
        return None  # installed, or inside somebody else's repository

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    name = git("describe", "--always", "--abbrev=12")
    changed = name and git("status", "--porcelain", "--untracked-files=no")
    return (f"{name}-dirty" if changed else name) or None


def run_facts() -> dict:
    """Versions, git commit and machine, for config.json."""
    import torch

    # What decides numbers; PyAV brings FFmpeg, which decodes and converts colours.
    versioned = (torch, av, cv2, np)
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "commit": commit_name(),
        "versions": {"python": platform.python_version()}
        | {module.__name__: module.__version__ for module in versioned},
        "machine": {"cpu": platform.machine(), "threads": torch.get_num_threads(), "gpu": cuda},
        "command": sys.argv,
    }


def memory_gib(device: "torch.device") -> float:
    """Peak memory: of the device for CUDA, of this process otherwise."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def duration(seconds: float) -> str:
    """Seconds as 1d 02:03:04, 02:03:04 or 03:04."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"


class EpochLog:
    """`log.jsonl` (a line per epoch), and other boards; silent where no folder is given."""

    def __init__(self, output_dir: Path | None, boards: Boards):
        """See `write`."""
        self.path = output_dir / "log.jsonl" if output_dir else None
        self.boards = boards

    def write(self, epoch: int, line: dict) -> None:
        """Write an epoch's line; a line of the same epoch from before a restart is replaced."""
        if self.path:
            before = [entry for entry in read_log(self.path) if entry["epoch"] < epoch]
            lines = map(json.dumps, [*before, {"epoch": epoch, **line}])
            write_text(self.path, "".join(f"{text}\n" for text in lines))
        self.boards.write(line, epoch, "epoch")
        self.boards.flush()


class Progress:
    """Progress of an epoch or an evaluation: a bar on a terminal, now and then a line elsewhere.

    Measures the rate in clips/s over all processes and the share of time spent waiting for data.
    """

    def __init__(self, title: str, *, total: int, done: int, clips_per_step: int, enabled: bool):
        """Start the clock.

        `done` steps are behind already (after a restart), `clips_per_step` are those of all
        processes.
        """
        self.title, self.total, self.done = title, total, done
        self.clips_per_step, self.enabled = clips_per_step, enabled
        self.started = time.monotonic()
        self.first = done
        self.waited = 0.0
        bar = enabled and sys.stdout.isatty()
        self.bar = tqdm(total=total, initial=done, desc=title, leave=False) if bar else None

    def step(self, waited: float) -> None:
        """Count a step that waited `waited` seconds for its data."""
        self.done += 1
        self.waited += waited
        if self.bar:
            self.bar.update()

    def facts(self) -> dict[str, float]:
        """Rate (clips/s), data-wait share (0..1) and time left (seconds) so far."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        steps = self.done - self.first
        return {
            "clips_per_second": steps * self.clips_per_step / seconds,
            "data_wait": min(self.waited / seconds, 1.0),
            "seconds_left": (self.total - self.done) * seconds / max(steps, 1),
        }

    def report(self, device: "torch.device", **values: float) -> None:
        """Show numbers beside the bar, or print a line."""
        if not self.enabled:
            return
        facts = self.facts()
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.bar:
            self.bar.set_postfix_str(
                f"{shown} {facts['clips_per_second']:.1f} clips/s wait {facts['data_wait']:.0%}"
            )
            return
        logger.info(
            "%s %d/%d  %s  %.1f clips/s  data wait %.0f%%  memory %.1f GiB  %s left",
            self.title, self.done, self.total, shown, facts["clips_per_second"],
            100 * facts["data_wait"], memory_gib(device), duration(facts["seconds_left"]),
        )  # fmt: skip

    def close(self) -> None:
        """Remove the bar."""
        if self.bar:
            self.bar.close()
