"""Large blocks return to the system, even after a larger one was freed, which would make glibc keep them."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

HELD = """
import ctypes
from truepixel_dagster.pipeline.memory import stay_small

class Mallinfo(ctypes.Structure):
    _fields_ = [("before", ctypes.c_size_t * 3), ("hblks", ctypes.c_size_t), ("after", ctypes.c_size_t * 6)]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo
if {tuned}:
    stay_small()
larger = bytes(8 * 2**20)
del larger
large = [bytes(100 * 1024) for _ in range(50)]
print(mallinfo2().hblks)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not a C library of GNU, 2.33 or newer")
def test_blocks_of_100_kib_are_mapped_outside_of_the_heap() -> None:
    assert _mapped_blocks(tuned=True) >= 50
    assert _mapped_blocks(tuned=False) < 50


def _mapped_blocks(*, tuned: bool) -> int:
    command = [sys.executable, "-c", HELD.replace("{tuned}", str(tuned))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
