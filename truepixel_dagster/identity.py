"""The identity of servers: whether a server is the one that a process was started for.

The local stack gives each server an identity when it makes it. Settings may say which one is expected; then nothing is
written to a server that shows another one, or none.
"""

from __future__ import annotations

import base64
import uuid
from pathlib import Path

_FILE = "identity"


def mistaken(server: str, found: str | None, expected: str) -> str | None:
    """Return why a server is not to be used, in one line; None if it shows the identity that is expected.

    Arguments:
        server: What to name: `Kafka at 127.0.0.1:9092`.
        found: What it shows; None for nothing.
        expected: What it has to show.
    """
    if found == expected:
        return None
    shown = f"shows the identity {found!r}" if found else "shows no identity"
    return (
        f"{server} is not the server that this process was started for: it {shown}, and {expected!r} is expected."
        " Nothing was written to it. Find out which setting names it, or what else listens there, and start again"
    )


def new_identity() -> str:
    """Return one that nothing else has, in the form of Kafka's cluster ids."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def stack_identity(folder: Path) -> str | None:
    """Return the identity of the stack in a folder; None where it has none."""
    file = folder / _FILE
    return (file.read_text() or None) if file.exists() else None


def make_identity(folder: Path) -> str:
    """Return the identity of the stack in a folder, which gets one if it has none."""
    known = stack_identity(folder)
    if known is None:
        known = new_identity()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_text(known)
    return known
