"""The oracle's input: Kafka records and the registry of shops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Doc = dict[str, Any]
Origin = tuple[int, int]


class DeadLetter(Exception):
    """Raised when a record cannot be decoded; the message says why."""


@dataclass(frozen=True)
class Record:
    """A Kafka record. `timestamp_ms` is in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Shop:
    """A registered shop: its IANA time zone, its own domains, and its names of platforms (alias → platform)."""

    time_zone: str | None = None
    domains: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


def present(**fields: Any) -> Doc:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
