"""Worker processes of preparation commands, which end with the command however that ends."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


def worker_pool(
    num_workers: int, initializer: Callable | None = None, initargs: tuple = ()
) -> ProcessPoolExecutor:
    """A pool of fresh processes; the arguments are those of `ProcessPoolExecutor`.

    Its own workers would wait for work for ever if the command were killed.
    """
    return ProcessPoolExecutor(
        num_workers,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(initializer, initargs),
    )


def _begin(initializer: Callable | None, initargs: tuple) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer:
        initializer(*initargs)


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
