"""What all of the generator shares: records, chances, and what it remembers of the orders that it placed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TypeAlias

import msgspec

from truepixel_dagster.local.payloads.model import Order
from truepixel_dagster.local.traffic.profile import Profile


class Record(msgspec.Struct, frozen=True):
    """A Kafka record.

    `name` is the pixel event's name or the webhook's topic, `at` its arrival (milliseconds since the epoch),
    and `kind` `event`, `duplicate` (repeats an earlier record byte for byte) or `malformed` (cannot be understood).
    """

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    name: str
    at: int
    kind: str = "event"


class Placed(msgspec.Struct):
    """An order that the generator placed, and what is true of it, whatever records came of that.

    `client_id` is the buyer's browser, None where there is none; `pixel` whether a `checkout_completed` was sent;
    `sent` and `lost` are the topics of its webhooks; `order` is as the last change left it.
    """

    order: Order
    client_id: str | None
    pixel: bool = False
    deleted: bool = False
    sent: list[str] = []
    lost: list[str] = []


class World(msgspec.Struct, frozen=True):
    """The chances that everything is drawn from, how often things happen, and the orders placed where one asks."""

    rng: Random
    profile: Profile
    placed: list[Placed] | None = None

    def place(self, order: Order, client_id: str | None) -> Placed:
        """An order that is placed just now."""
        placed = Placed(order, client_id)
        if self.placed is not None:
            self.placed.append(placed)
        return placed


# What somebody does next: the records of one visit with the times they arrive at, and when to ask again (None: never).
Deliveries: TypeAlias = list[Record]
Journey: TypeAlias = Iterator[tuple[Deliveries, "int | None"]]
