"""Work in other processes, which end with the command however that ends."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import TypeVar

from svfap.datasets.checks import at_least
from svfap.preprocess.shared.common import PreparationError

AHEAD = 4  # items each process is given before a result is taken, at most
Item, Result = TypeVar("Item"), TypeVar("Result")


def parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    num_workers: int,
    *,
    start: Callable | None = None,
    in_order: bool = False,
) -> Iterator[Result]:
    """Apply a function to every item in worker processes, results as they come.

    Args:
        function: picklable; bad input is an outcome of it, not an error.
        num_workers: processes; 0 works in this one.
        in_order: results come in the order of the items.
    """
    at_least(0, num_workers=num_workers)
    if num_workers == 0 or len(items) < 2:
        yield from map(function, items)
        return
    waiting = iter(items)
    with worker_pool(min(num_workers, len(items)), start) as pool:
        pending = [pool.submit(function, item) for item in islice(waiting, AHEAD * num_workers)]
        try:
            while pending:
                if not in_order:
                    wait(pending, return_when=FIRST_COMPLETED)
                    pending.sort(key=lambda future: not future.done())
                yield pending.pop(0).result()
                pending += [pool.submit(function, item) for item in islice(waiting, 1)]
        except BrokenProcessPool as error:
            raise PreparationError(
                "a worker process died (out of memory, or a file that crashes the decoder); the "
                "same command goes on where it stopped; with --num_workers 0 it stops at the file"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def worker_pool(num_workers: int, start: Callable | None = None) -> ProcessPoolExecutor:
    """A pool of fresh processes, which do not wait for work for ever if the command is killed."""
    return ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(start,)
    )


def _begin(start: Callable | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start:
        start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
