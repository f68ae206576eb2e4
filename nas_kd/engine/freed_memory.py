"""Keeps memory that a training frees, as its next step wants it again.

The C library of Linux (glibc) gives large blocks back to the system when they are freed. Every step of a training then
pays for clearing the same pages again: up to a third of its time.
"""

import ctypes
import platform
from functools import cache

# Parameters of mallopt(3), and values.
TRIM_THRESHOLD, KEPT_BYTES = -1, 1 << 30  # free at the top of the heap
MMAP_THRESHOLD, LARGEST_BYTES = -3, 32 << 20  # of one block: the most that glibc takes


@cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory in blocks of at most 32 MiB.

    Returns:
        Whether it does; only with glibc, else nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(MMAP_THRESHOLD, LARGEST_BYTES))
