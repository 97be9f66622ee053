"""Keeping freed memory in a process that allocates arrays of a clip's size all the time."""

import ctypes
import sys

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT_BLOCK = 32 * 2**20
KEPT_BYTES = 256 * 2**20


def keep_freed_memory() -> bool:
    """Let the C library reuse freed blocks instead of returning each to the system.

    By default blocks above 128 KiB come fresh from the system, which clears every page: reading 16
    frames of 224 px took twice as long. At most 256 MiB stay in the process.

    Returns:
        Whether it was done (glibc on Linux only).
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    done = library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK)
    return bool(done and library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
