"""What goes into the oracle: Kafka records and what is known of the shops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Doc = dict[str, Any]
Origin = tuple[int, int]


class DeadLetter(Exception):
    """A record that cannot be understood, and why."""


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
    """What is known of a shop: its IANA time zone, its own domains, and its names of platforms (alias → platform)."""

    time_zone: str | None = None
    domains: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


def present(**fields: Any) -> Doc:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
