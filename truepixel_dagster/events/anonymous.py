"""Anonymise a record when its person is redacted: keep what it counts, without personal data.

The anonymised record is a record like others. It decodes to the same name, time, products, amounts and ad; every id is
an alias, and fields that no stage uses are removed. So counts, revenue and credits stay correct, and all that reads
records (the stream, replays, rebuilds, audits) produces the same documents from anonymised ones.
"""

from __future__ import annotations

from truepixel_dagster.events import pixel, webhook
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.headers import (
    EVENT_ID,
    RECEIVED_AT,
    SHOP_DOMAIN,
    SOURCE,
    TOPIC,
    Headers,
    is_topic,
)
from truepixel_dagster.events.identifiers import CLIENT, shop_and_client
from truepixel_dagster.events.sites import NOTHING_KNOWN, Sites
from truepixel_dagster.events.user_key import is_no_client
from truepixel_dagster.events.visits import Alias

EVENT = "event"


def anonymous(message: Message, alias: Alias, sites: Sites = NOTHING_KNOWN) -> Message:
    """Return the anonymised record; of an undecodable record, only its existence remains.

    Arguments:
        message: The record.
        alias: Maps the kind of an id and the id to its alias.
        sites: The known sites of shops.
    """
    shop, client = shop_and_client(message)
    # Keep the word for no client: its alias would be a visitor.
    key = f"{shop}:{client if is_no_client(client) else alias(CLIENT, client)}".encode() if shop else None
    event = decode(message, sites)
    if isinstance(event, Undecodable):
        return Message(message.origin, key, None, (), message.timestamp)
    site = sites.of(event.shop_id, event.shop_domain)
    if event.source == "pixel":
        payload = pixel.anonymous(event.payload, alias, site)
    else:
        payload = webhook.anonymous(event.payload, event.name, alias, site)
    headers = [(SOURCE, event.source.encode())]
    if event.source == "webhook":
        headers += [(TOPIC, event.name.encode())]
        event_id = f"{event.name}:{alias(EVENT, event.event_id)}"
    else:
        event_id = event_alias(event.event_id, alias)
    given = Headers(message.headers)
    kept = [(name, value) for name in (RECEIVED_AT, SHOP_DOMAIN) if (value := given.raw(name))]
    return Message(message.origin, key, payload, (*headers, (EVENT_ID, event_id.encode()), *kept), message.timestamp)


def event_alias(event_id: str, alias: Alias) -> str:
    """Return the alias of an event id alone. The topic in front of a webhook's id is kept."""
    topic, _, rest = event_id.partition(":")
    return f"{topic}:{alias(EVENT, event_id)}" if rest and is_topic(topic) else alias(EVENT, event_id)
