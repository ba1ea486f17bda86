"""Keep this process's C heap small."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE_BYTES = 64 * 1024


def stay_small() -> None:
    """Make glibc return free blocks of 64 KiB and more to the system, and use one heap; do nothing on other systems.

    By default glibc raises this limit to the size of the largest freed block, up to 32 MiB. Requests' bodies and large
    messages then come from the heap, and small blocks between them keep it from shrinking. glibc also creates another
    heap for a thread that finds the first one in use, which rarely happens with Python's threads.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(M_ARENA_MAX, 1)
