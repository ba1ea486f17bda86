"""Choose values that no earlier round of chaos has used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, TypeVar

# Months before this one that have no events of the load.
FIRST_UNUSED_MONTH, UNUSED_MONTHS = 2, 22

T = TypeVar("T")


class Unused:
    """Remember which values the rounds of one chaos have not used yet."""

    def __init__(self) -> None:
        self._remaining: dict[str, list[Any]] = {}
        self._months = 0

    def choice(self, name: str, choices: Sequence[T], rng: Random) -> T:
        """Choose one of the choices at random; each is chosen once before any is chosen again."""
        remaining = self._remaining.setdefault(name, [])
        if not remaining:
            remaining += rng.sample(choices, len(choices))
        found: T = remaining.pop()
        return found

    def month(self) -> datetime:
        """Return a time in the middle of a month that has no index of events yet."""
        months = FIRST_UNUSED_MONTH + self._months % UNUSED_MONTHS
        self._months += 1
        day = datetime.now(timezone.utc).replace(day=15)
        for _ in range(months):
            day = (day.replace(day=1) - timedelta(days=1)).replace(day=15)
        return day
