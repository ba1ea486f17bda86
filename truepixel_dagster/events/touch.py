"""A visit that brought a user to the shop: what stage 2 keeps, and what journeys are made of."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.times import to_millis


class Touch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One visit. `at` is ISO 8601 UTC; `referrer` is the host that it came from, where there is one."""

    event_id: str
    at: str
    ad: Ad
    partition: int
    offset: int
    referrer: str | None = None

    @property
    def millis(self) -> int:
        """`at` as milliseconds since the epoch."""
        return to_millis(self.at)
