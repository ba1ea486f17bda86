"""Check that a server is the one that a process was started for, by its identity.

    >>> from truepixel_dagster.identity import mistaken
    >>> mistaken("Kafka at 127.0.0.1:9092", found="x1", expected="x1") is None
    True
    >>> "it shows no identity" in mistaken("Kafka at 127.0.0.1:9092", found=None, expected="x1")
    True

The local stack gives each server an identity when it creates the server. Settings may name the expected identity; then
nothing is written to a server with another one, or with none.
"""

from __future__ import annotations

import base64
import uuid
from pathlib import Path

_FILE = "identity"


def mistaken(server: str, found: str | None, expected: str) -> str | None:
    """Return why a server must not be used, in one line; None if it has the expected identity.

    Arguments:
        server: The server's name and address: `Kafka at 127.0.0.1:9092`.
        found: The identity that it shows; None if it shows none.
        expected: The identity that it must show.
    """
    if found == expected:
        return None
    shown = f"shows the identity {found!r}" if found else "shows no identity"
    return (
        f"{server} is not the server that this process was started for: it {shown} instead of {expected!r}."
        " Nothing was written to it. Check which setting names it and what else listens there, then start again"
    )


def new_identity() -> str:
    """Return a unique identity, in the form of Kafka's cluster ids."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def stack_identity(folder: Path) -> str | None:
    """Return the identity of the stack in a folder; None if it has none."""
    file = folder / _FILE
    return (file.read_text() or None) if file.exists() else None


def make_identity(folder: Path) -> str:
    """Return the identity of the stack in a folder; create one if it has none."""
    known = stack_identity(folder)
    if known is None:
        known = new_identity()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_text(known)
    return known
