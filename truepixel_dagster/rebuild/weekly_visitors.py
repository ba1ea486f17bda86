"""Count weekly visitors exactly, from the event history.

A rebuild reads the documents, then the history, and then replaces the documents if they have not changed. A later
visitor marks the week in Redis, and the next flush marks the count as an estimate. The estimate is rebuilt from the
history too, because the previous one may include visitors who do not count, or not in this week.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from truepixel_dagster.events.user_key import is_no_client
from truepixel_dagster.flush import VISITED, WEEKLY_VISITORS
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import FROM_PIXEL, all_of, on_shop_days
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.retention import check_kept
from truepixel_dagster.stores.documents import SCHEMA, read_all
from truepixel_dagster.stores.elasticsearch import Found, Place
from truepixel_dagster.stores.errors import ServerRefuses, Unavailable

_TRIES = 20
_CLIENTS = 1000


def rebuild_weeks(context: RebuildContext, weeks: Sequence[str], progress: Progress = silent) -> RebuildStats:
    """Count the visitors of some ISO weeks, such as `2026-W05`: each shop's own, by its known time zone.

    Raises:
        HistoryDropped: Retention has removed events of a week.
        KafkaUnavailable, Unavailable: A server does not answer. The documents written so far are correct, and the
            others are unchanged.
    """
    days = (day for week in weeks for day in days_of(week))
    check_kept(days, context.kept, (context.first_day - context.kept).days)
    result = RebuildStats()
    for number, week in enumerate(weeks, start=1):
        result += _rebuild_week(context, week, progress)
        progress("weeks", number, len(weeks))
    return result


def days_of(week: str) -> list[str]:
    """Return the days of an ISO week.

    Raises:
        ValueError: The week does not exist.
    """
    monday = date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
    return [(monday + timedelta(days=number)).isoformat() for number in range(7)]


def _rebuild_week(context: RebuildContext, week: str, progress: Progress) -> RebuildStats:
    elasticsearch = context.stores.elasticsearch
    for _ in range(_TRIES):
        elasticsearch.refresh()
        documents = _documents(context, week)
        _, unreadable = read_all(VISITED, {shop: doc.source for shop, doc in documents.items()})
        there = {shop: doc for shop, doc in documents.items() if shop not in unreadable}
        # Every visitor added before this is in the history, which is read after it.
        context.stores.redis.set_visitors_aside(week)
        context.history.refresh()
        counts = {s: count for s, count in _counted(context, week, progress) if s not in unreadable}
        index = elasticsearch.index(WEEKLY_VISITORS)
        stored = {(index, f"{shop}:{week}"): there.get(shop) for shop in {**there, **counts}}
        changed: dict[Place, bytes | None] = {
            (index, f"{shop}:{week}"): msgspec.json.encode({**_source(doc), **_document(shop, week, counts[shop])})
            for shop in counts
            if _differs(doc := there.get(shop), counts[shop])
        }
        changed |= {(index, f"{shop}:{week}"): None for shop in there if shop not in counts}
        written = elasticsearch.replace(changed, stored)
        for (_, id_), reason in written.refused.items():
            raise ServerRefuses(f"Elasticsearch at {elasticsearch.address} rejected {id_} of {index}: {reason}")
        if not written.conflicts:
            context.stores.redis.drop_visitors_aside(week)
            made = written.created + written.replaced
            return RebuildStats(len(counts), made, written.deleted, unreadable=len(unreadable))
    raise Unavailable(f"Elasticsearch at {elasticsearch.address}: visitors changed during each of {_TRIES} tries")


def _documents(context: RebuildContext, week: str) -> dict[str, Found]:
    """Return a week's current documents by shop."""
    elasticsearch = context.stores.elasticsearch
    hits = elasticsearch.scan(WEEKLY_VISITORS, {"term": {"week": week}}, fields=["shop_id"])
    places = [(hit["_index"], hit["_id"]) for hit in hits]
    return {doc.id.partition(":")[0]: doc for doc in elasticsearch.mget(places) if doc}


def _counted(context: RebuildContext, week: str, progress: Progress) -> Iterator[tuple[str, int]]:
    """Yield each shop and its number of distinct clients. The history is sorted by client, so memory is constant."""
    shop, client, visitors, seen = "", "", 0, 0
    new: list[str] = []
    for page in context.history.activities(all_of(on_shop_days(days_of(week), context.days), FROM_PIXEL)):
        for activity in page:
            is_known = (activity.shop_id, activity.client_id) == (shop, client)
            if is_known or is_no_client(activity.client_id):
                continue
            if context.days.of(activity.shop_id).week(activity.at) != week:
                continue
            if activity.shop_id != shop or len(new) == _CLIENTS:
                # Add them to the estimate too, so that a later flush does not count fewer.
                context.stores.redis.add_visitors((shop, week), new)
                new = []
            if activity.shop_id != shop:
                if visitors:
                    yield shop, visitors
                visitors = 0
            shop, client, visitors = activity.shop_id, activity.client_id, visitors + 1
            new.append(client)
        seen += len(page)
        progress(f"events of {week} read", seen, 0)
    context.stores.redis.add_visitors((shop, week), new)
    if visitors:
        yield shop, visitors


def _document(shop: str, week: str, visitors: int) -> dict[str, object]:
    return {"schema": SCHEMA, "shop_id": shop, "week": week, "visitors": visitors, "exact": True}


def _source(there: Found | None) -> Mapping[str, Any]:
    return there.source if there else {}


def _differs(there: Found | None, visitors: int) -> bool:
    own = {"schema": SCHEMA, "visitors": visitors, "exact": True}
    return any(_source(there).get(name) != value for name, value in own.items())
