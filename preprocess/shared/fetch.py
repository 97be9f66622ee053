"""Downloads of whole data sets, many files at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from svfap import fetching
from svfap.datasets.files import writing
from svfap.fetching import FetchError, Remote
from svfap.preprocess.shared.common import shortened, watched


def fetch(remote: Remote, *, show: bool = False) -> None:
    """`svfap.fetching.fetch`; raises CannotWriteError where the disk takes no more."""
    fetching.fetch(remote, show=show, writing=writing)


def fetch_all(items: Sequence, get: Callable[[object], None], *, num_workers: int) -> None:
    """Fetch many files, some at a time; those that fail do not stop the others.

    Raises:
        FetchError: names what could not be had.
    """
    failed: list[str] = []
    with ThreadPoolExecutor(num_workers) as pool:
        tasks = [pool.submit(get, item) for item in items]
        try:
            for task in watched(as_completed(tasks), len(tasks), "files"):
                try:
                    task.result()
                except FetchError as error:
                    failed.append(str(error))
        except BaseException:  # Ctrl-C, or a full disk
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        shown = "\n".join(f"  {line}" for line in shortened(failed))
        raise FetchError(
            f"{len(failed)} of {len(items)} files could not be fetched; try again with the same "
            f"command:\n{shown}"
        )
