"""The registry of shops, from the event history."""

from __future__ import annotations

from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.shop import SHOP_UPDATED
from truepixel_dagster.rebuild.context import Context
from truepixel_dagster.rebuild.history import all_of, message_of
from truepixel_dagster.stores.shops import learn


def learn_again(context: Context, shop: str) -> None:
    """Keep what the webhooks of a shop in the history say of it: the newest word of each field.

    Raises:
        Unavailable: A server does not answer.
    """
    query = all_of({"term": {"shop_id": shop}}, {"term": {"name": SHOP_UPDATED}})
    for hits in context.history.documents(query):
        events = (decode(message_of(hit["_source"])) for hit in hits)
        learn(context.stores.mongodb, (event for event in events if isinstance(event, Event)))
