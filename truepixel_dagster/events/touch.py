"""A visit that brought a user to the shop. Stage 2 stores touches, and journeys consist of them."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.times import to_millis


class Touch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold one visit. `at` is ISO 8601 UTC; `referrer` is the host that it came from, if any."""

    event_id: str
    at: str
    ad: Ad
    partition: int
    offset: int
    referrer: str | None = None

    @property
    def millis(self) -> int:
        """Return `at` in milliseconds since the epoch."""
        return to_millis(self.at)
