"""Which users a rebuild of some days is about."""

from __future__ import annotations

from truepixel_dagster.rebuild.history import History, Query
from truepixel_dagster.rebuild.stats import Progress


def users_of(history: History, query: Query, progress: Progress) -> set[str]:
    """The users of the events that a query finds. Memory grows with the number of users, about 150 bytes each."""
    found: set[str] = set()
    seen = 0
    for page in history.outlines(query):
        found.update(event.user for event in page)
        seen += len(page)
        progress("events read", seen, 0)
    return found
