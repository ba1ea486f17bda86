"""Types that the whole generator shares: records, placed orders, and the source of chance."""

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
    and `kind` `event`, `duplicate` (repeats an earlier record byte for byte) or `malformed` (cannot be decoded).
    """

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    name: str
    at: int
    kind: str = "event"


class Placed(msgspec.Struct):
    """An order that the generator placed, with its true values, whatever its records say.

    `order` is the order after its last change; `client_id` is the buyer's browser, or None without one; `pixel` is
    whether a `checkout_completed` was sent; `sent` and `lost` are the topics of its webhooks.
    """

    order: Order
    client_id: str | None
    pixel: bool = False
    deleted: bool = False
    sent: list[str] = []
    lost: list[str] = []


class World(msgspec.Struct, frozen=True):
    """The source of chance, how often things happen, and the placed orders if the caller wants them."""

    rng: Random
    profile: Profile
    placed: list[Placed] | None = None

    def place(self, order: Order, client_id: str | None) -> Placed:
        """Place an order."""
        placed = Placed(order, client_id)
        if self.placed is not None:
            self.placed.append(placed)
        return placed


# The next part of a journey: the records of one visit, and when to ask for the next part (None: never).
Deliveries: TypeAlias = list[Record]
Journey: TypeAlias = Iterator[tuple[Deliveries, "int | None"]]
