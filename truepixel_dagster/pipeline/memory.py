"""How this process's C heap is told to stay small."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE_BYTES = 64 * 1024


def stay_small() -> None:
    """Have glibc give blocks of 64 KiB and more back once they are free, and keep one heap; elsewhere nothing happens.

    Of its own accord it takes the size of the largest block that was ever freed, up to 32 MiB, as the limit from then
    on: requests' bodies and large messages then come from the heap, which small blocks in between keep from shrinking.
    And it makes a heap for each thread that meets another one there, which Python's threads seldom do.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(M_ARENA_MAX, 1)
