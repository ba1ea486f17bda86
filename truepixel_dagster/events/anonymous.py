"""What may remain of a record when its person is to be forgotten: what it counts, without whom it is about.

The remainder is a record like others. It decodes to the same name, time, products, amounts and ad; every id is an alias
and whatever no stage uses is gone. So counts, revenue and credits stay true, and everything that reads records
(the stream, replays, rebuilds, audits) comes to the same documents by reading remainders.
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
    """The remainder of a record; of one that cannot be decoded only that it was there.

    Arguments:
        message: The record.
        alias: From the kind of an id and the id to its alias.
        sites: What is known of the shops' sites.
    """
    shop, client = shop_and_client(message)
    # A client that is none stays so: its alias would be a visitor.
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
    """The alias of an event id, where the id alone is known. A webhook's has its topic before it, which is kept."""
    topic, _, rest = event_id.partition(":")
    return f"{topic}:{alias(EVENT, event_id)}" if rest and is_topic(topic) else alias(EVENT, event_id)
