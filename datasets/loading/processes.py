"""The processes that help a loader: how they start, behave and end."""

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue

import cv2
import torch
from torch.utils.data import DataLoader

from svfap.datasets.loading.errors import LoaderError
from svfap.datasets.loading.memory import keep_freed_memory

# A worker told to end stays this long, so that the main process can finish its step and save.
GRACE_SECONDS = 10


def start_method() -> str:
    """How processes are started: on Linux forked, so that they inherit memory, unless one chose."""
    chosen = torch.multiprocessing.get_start_method(allow_none=True)
    if chosen is None and sys.platform == "linux":
        return "fork"
    return torch.multiprocessing.get_start_method()


def started(loader: DataLoader) -> tuple[Iterator, Sequence[BaseProcess]]:
    """An iterator over a loader, and its processes.

    Raises:
        LoaderError: the system does not let them start.
    """
    others = set(multiprocessing.active_children())
    try:
        multiprocessing.Event()  # what fails here would leave half a loader behind there
        # In the main thread PyTorch would install a signal handler that raises when a process ends,
        # in the middle of whatever is going on then.
        with ThreadPoolExecutor(1) as pool:
            iterator = pool.submit(iter, loader).result()
    except OSError as error:
        raise LoaderError(
            f"{loader.num_workers} loader processes cannot be started ({error}). They need a "
            "/dev/shm that can be written to and is not full (docker run --shm-size=1g makes it "
            "larger) and room for as many processes; with --num_workers 0 there are none"
        ) from error
    return iterator, [p for p in multiprocessing.active_children() if p not in others]


def guarded(iterator: Iterator, processes: Sequence[BaseProcess]) -> Iterator:
    """What an iterator gives; a process that dies is an error.

    Raises:
        LoaderError: says which way it ended.
    """
    try:
        yield from iterator
    except RuntimeError as error:
        ends = [p.exitcode for p in processes if p.exitcode is not None]
        if not ends:
            raise
        raise LoaderError(_describe(ends)) from error


def _describe(ends: Sequence[int]) -> str:
    """What exit codes of dead processes mean."""
    codes = sorted(set(ends))
    names = [signal.Signals(-code).name if code < 0 else f"status {code}" for code in codes]
    text = f"a loader process has died ({', '.join(names)})"
    if -signal.SIGKILL in codes:
        text += ": the system ends processes like that when memory runs out"
    elif {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT} & set(codes):
        text += ": a library crashed on a video, or memory ran out"
    return (
        f"{text}. Fewer --num_workers or a smaller --batch_size need less memory; the same command "
        "goes on from the last checkpoint"
    )


@cache
def main_is_leaving() -> RawValue:
    """A number that workers see: 1 once this process is on its way out."""
    flag = RawValue("b", 0)
    atexit.register(setattr, flag, "value", 1)
    return flag


def init_worker(main_is_leaving: RawValue, worker: int) -> None:
    """One thread per worker; interrupting the run is the main process's business.

    Ctrl-C and a scheduler's SIGTERM reach all processes at once. Workers outlive them until the
    main process has finished its step and saved; when it ends, they end at once.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "SIGALRM"):
        return

    def end_later(*_) -> None:
        if main_is_leaving.value:
            os._exit(0)
        signal.alarm(GRACE_SECONDS)

    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, end_later)
