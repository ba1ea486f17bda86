"""A lock between processes, which the system releases when its holder ends, even by SIGKILL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InUse(Exception):
    """Another process holds the lock."""


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock of a path during the block; wait while another process holds it."""
    import fcntl  # not on every platform, where this module must still import

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of a path during the block, without waiting for it.

    Raises:
        InUse: Another process holds it; the message says what to do.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"{path.with_suffix('')} is in use by another process, whose data would be lost. Wait until it ends, or"
                " set TRUEPIXEL_DATA_DIR to another folder"
            ) from None
        yield
