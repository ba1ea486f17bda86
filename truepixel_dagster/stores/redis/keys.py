"""Build and read Redis keys. Parts are percent-encoded, so that no id can form another's key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, unquote

from truepixel_dagster.events.origin import Origin

CounterKey = tuple[str, str, str]  # shop, product, day
WeekKey = tuple[str, str]  # shop, ISO week
Place = tuple[int, int]  # partition, offset

# Kept by the collector, for webhooks that name no client.
OWNERS = "client"
PLACE = re.compile(r"([0-9]{1,10})/([0-9]{1,19})")


def client_key(prefix: str, shop: str, token: str) -> str:
    """Return the key that stores the client of a cart's or checkout's token."""
    return f"{prefix}:{OWNERS}:{joined((shop, token))}"


def at(origin: Origin) -> str:
    """Return a record's place as the member of a set: `partition/offset`."""
    return f"{origin.partition}/{origin.offset}"


def joined(parts: Sequence[str]) -> str:
    """Return parts as one encoded text."""
    return ":".join(quote(part, safe="") for part in parts)


def parts_of(texts: Iterable[str], count: int) -> Iterator[Any]:
    """Yield the parts of keys or members; skip those of another shape, which the pipeline did not write."""
    for text in texts:
        parts = tuple(unquote(part) for part in text.split(":"))
        if len(parts) == count:
            yield parts
