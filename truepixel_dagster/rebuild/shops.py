"""Restore the registry of shops from the event history."""

from __future__ import annotations

from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.shop import SHOP_UPDATED
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import Query, all_of
from truepixel_dagster.stores.shops import learn


def learn_again(context: RebuildContext, shop: str) -> None:
    """Store what a shop's webhooks in the history say of it: the newest value of each field.

    Raises:
        Unavailable: A server does not answer.
    """
    learn_from(context, {"term": {"shop_id": shop}})


def learn_from(context: RebuildContext, query: Query) -> bool:
    """Store what the shop webhooks among some events of the history say; return whether anything was new.

    Raises:
        Unavailable: A server does not answer.
    """
    learned = False
    for messages in context.history.messages(all_of(query, {"term": {"name": SHOP_UPDATED}})):
        events = map(decode, messages)
        learned |= bool(learn(context.stores.mongodb, (event for event in events if isinstance(event, Event))))
    return learned
