"""Find the users that a rebuild of some days affects."""

from __future__ import annotations

from truepixel_dagster.rebuild.history import History, Query
from truepixel_dagster.rebuild.stats import Progress


def users_of(history: History, query: Query, progress: Progress) -> set[str]:
    """Return the users of the events that a query finds. Memory grows by about 150 bytes for each user."""
    found: set[str] = set()
    seen = 0
    for page in history.outlines(query):
        found.update(event.user for event in page)
        seen += len(page)
        progress("events read", seen, 0)
    return found
