"""How this process's C heap is told to give memory back."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
M_MMAP_THRESHOLD = -3
LARGE_BYTES = 64 * 1024


def return_large_blocks() -> None:
    """Have glibc give blocks of 64 KiB and more back to the system once they are free; elsewhere nothing happens.

    Of its own accord it takes the size of the largest block that was ever freed, up to 32 MiB, as the limit from then
    on: requests' bodies and large messages then come from the heap, which small blocks in between keep from shrinking.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
