"""A lock between processes, which the system frees when its holder ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InUse(Exception):
    """Another process has what only one may have."""


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Wait until no other process is between the entry and the exit of this block with the same path."""
    import fcntl  # not on every platform, where this module must still import

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only process in this block with the same path, or do not enter it.

    Raises:
        InUse: Another process is in it; one line says what to do.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"{path.with_suffix('')} is in use by another process, which would lose its data: wait for its end, or"
                " set TRUEPIXEL_DATA_DIR to another folder"
            ) from None
        yield
