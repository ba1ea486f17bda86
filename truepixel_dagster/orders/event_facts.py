"""Read what one event says of an order, as facts that merge (`orders/facts.py`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from truepixel_dagster.events.event import Event
from truepixel_dagster.events.order import OrderNews
from truepixel_dagster.events.pixel_payload import CHECKOUT_COMPLETED
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.facts import (
    ALL,
    CLOCK_GRACE,
    ORDER,
    TOKEN,
    ClientFacts,
    FirstCompletion,
    Kept,
    Node,
    Sighting,
    When,
    kept_clients,
    merged_refunds,
    united_touches,
)

# The source of a visit that is added to an order.
VISIT = "visit"


def ids_of(event: Event) -> tuple[str, ...]:
    """Return the order ids that an event names, as `shop:id`.

    Order ids and tokens are of one kind: new checkouts use the same text as token of checkout and cart, and an order
    without a token uses its id instead.
    """
    news = event.order
    if news is None:
        return ()
    named = (news.order_id, news.checkout_token, news.cart_token)
    return tuple(dict.fromkeys(f"{event.shop_id}:{id_}" for id_ in named if id_))


def latest_touch(event: Event) -> int:
    """Return the latest time of a visit that may have led to a webhook's order, in milliseconds since the epoch.

    The clocks of browsers and shops differ.
    """
    payload = event.order.payload if event.order else None
    at = payload.at if payload and payload.at is not None else event.occurred_at
    return at + CLOCK_GRACE


def sighting_of_visit(event: Event, kind: str, id_: str) -> Event:
    """Return the event that adds a visit to an order whose notes name the visit's user."""
    news = OrderNews(order_id=id_) if kind == ORDER else OrderNews(checkout_token=id_)
    return msgspec.structs.replace(event, source=VISIT, order=news)


def facts_of(
    event: Event, touches: Sequence[Touch], noted_touches: Sequence[Touch] = (), kept: Kept = ALL
) -> Node | None:
    """Return the facts of one event in a form that merges; None if the event only links ids.

    Arguments:
        event: An event that names an order.
        touches: The touches of its user up to its own offset, in order.
        noted_touches: The known touches of the client in its note attributes.
        kept: How many of the newest touches are kept.
    """
    news = event.order
    if news is None or event.bot:
        return None
    if event.source == VISIT:
        place = (event.origin.partition, event.origin.offset)
        own = [touch for touch in touches if (touch.partition, touch.offset) == place]
        client = ClientFacts(event.client_id, touches=united_touches(own, None, kept.touches))
        return Node(ORDER if news.order_id else TOKEN, news.order_id or news.checkout_token or "", clients=(client,))
    if event.source == "pixel":
        return _pixel_facts(event, touches, kept)
    id_ = news.order_id or news.checkout_token or news.cart_token
    if not id_ or not (news.payload or news.refunds or news.deleted):
        return None
    when = (event.occurred_at, event.event_id)
    clients = [] if event.anonymous else [_client(event, touches, kept, keyed=when)]
    if news.noted_client:
        before = [touch for touch in noted_touches if touch.millis <= latest_touch(event)]
        clients.append(ClientFacts(news.noted_client, noted=when, touches=united_touches(before, None, kept.touches)))
    payload = news.payload
    return Node(
        kind=ORDER if news.order_id else TOKEN,
        id=id_,
        payloads=(payload,) if payload else (),
        refunds=merged_refunds(news.refunds, payload.refunds if payload else ()),
        deleted=news.deleted,
        clients=kept_clients(clients, kept),
        sightings=(_sighting(event),) if payload else (),
        cart=None if news.order_id else news.cart_token,
    )


def _pixel_facts(event: Event, touches: Sequence[Touch], kept: Kept) -> Node:
    news, when = event.order, (event.occurred_at, event.event_id)
    assert news is not None  # noqa: S101 (the caller has looked)
    token, order_id = news.checkout_token, news.order_id
    completes = event.name == CHECKOUT_COMPLETED
    client = _client(event, touches, kept, **({"completed": when} if completes else {"in_checkout": when}))
    first = news.completion.first_order if news.completion else None
    return Node(
        kind=TOKEN if token else ORDER,
        id=token or order_id or "",
        completion=FirstCompletion(news.completion.value is None, when, news.completion) if news.completion else None,
        completed_at=when if completes else None,
        order_ids=(order_id,) if order_id else (),
        clients=() if event.anonymous else (client,),
        sightings=(_sighting(event),) if completes else (),
        cart=news.cart_token,
        first_order=None if first is None else (*when, first),
    )


def _sighting(event: Event) -> Sighting:
    return Sighting(event.source, event.event_id, event.origin, event.occurred_at, event.client_id)


def _client(event: Event, touches: Sequence[Touch], kept: Kept, **when: When) -> ClientFacts:
    last = (event.origin.partition, event.origin.offset)
    return ClientFacts(event.client_id, last=last, touches=united_touches(touches, last, kept.touches), **when)
