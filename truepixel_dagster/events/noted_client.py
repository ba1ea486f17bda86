"""Read the client that a theme writes into an order's `note_attributes`."""

from __future__ import annotations

import re
from typing import Any

from truepixel_dagster.events.shape import word_of
from truepixel_dagster.events.user_key import can_be_client

_NOTES = frozenset(
    {"truepixelclientid", "tpclientid", "clientid", "shopifyclientid", "shopifyy", "pixelclientid"},
)
_NO_LETTER = re.compile(r"[-_\s]")


def noted_client(notes: Any) -> str | None:
    """Return the client in an order's `note_attributes`, as a theme writes it; the first of several."""
    for note in notes if isinstance(notes, list) else ():
        name, value = (note.get("name"), note.get("value")) if isinstance(note, dict) else (None, None)
        if _NO_LETTER.sub("", word_of(name)) in _NOTES and (client := _client(value)):
            return client
    return None


def _client(value: Any) -> str | None:
    """Return a client id that is valid in a record's key; None for anything else."""
    is_id = isinstance(value, (int, str)) and not isinstance(value, bool)
    client = str(value).strip() if is_id else ""
    return client if can_be_client(client) else None
