"""Start a benchmark's own servers: fresh, on free ports, ended with the block."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from truepixel_dagster.local.ephemeral import ephemeral_stack, identified
from truepixel_dagster.settings import Settings


@contextmanager
def servers(say: Callable[[str], None]) -> Iterator[Settings]:
    """Start all four servers, in a separate folder."""
    folder = tempfile.TemporaryDirectory(prefix="truepixel-bench-")
    with folder as base, ephemeral_stack(Path(base), progress=say) as settings:
        yield identified(settings)


@contextmanager
def postgres(say: Callable[[str], None]) -> Iterator[Settings]:
    """Start PostgreSQL alone, in a folder that it may enter even as another user."""
    folder = tempfile.TemporaryDirectory(prefix="truepixel-bench-")
    with folder as base:
        Path(base).chmod(0o711)
        with ephemeral_stack(Path(base), progress=say, with_postgres=True, only=("postgres",)) as settings:
            yield identified(settings)
