"""The attribution of an order, as it is stored."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import DAY, iso
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import ONLINE
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.credit import DIRECT, Credits, credit
from truepixel_dagster.orders.journey import NO_RECORD, Journey, Rules, journey_of
from truepixel_dagster.orders.order import Order


class AttributedTouch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a touch of the journey. A landing page from a webhook has no record of its own."""

    event_id: str
    at: str
    ad: Ad
    kafka: Origin | None = None
    channel: str | None = None
    referrer: str | None = None


class SightingEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a record that reported the order."""

    source: str
    event_id: str
    kafka: Origin
    client_id: str | None = None
    occurred_at: str | None = None


class Attribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold the document of an order. `utc_offset` is the offset in minutes that a webhook wrote `occurred_at` with."""

    shop_id: str
    occurred_at: str
    status: str
    window_days: int
    half_life_days: float
    touches: tuple[AttributedTouch, ...]
    credits: Credits
    sightings: tuple[SightingEntry, ...]
    client_id: str | None = None
    order_id: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None
    value: Money | None = None
    value_from: str | None = None
    refunded: Money | None = None
    net: Money | None = None
    test: bool = False
    sales_channel: str | None = None
    new_customer: bool | None = None
    position_ends_percent: int | None = None
    utc_offset: int = 0
    schema: int = 1


def attribution_of(order: Order, rules: Rules, journey: Journey | None = None) -> Attribution:
    """Return the document of an order.

    Arguments:
        order: The order.
        rules: Window, half-life and the other rules that operators may set.
        journey: Its journey by these rules, if it is known already.
    """
    client, touches = msgspec.structs.astuple(journey or journey_of(order, rules))
    figures = order.figures
    elsewhere = DIRECT if order.sales_channel == ONLINE else order.sales_channel
    half_life = int(rules.half_life_days * DAY)
    return Attribution(
        shop_id=order.shop_id,
        client_id=client,
        occurred_at=iso(order.at),
        status=order.status,
        window_days=rules.window_days,
        half_life_days=rules.half_life_days,
        position_ends_percent=rules.position_ends_percent,
        touches=tuple(_touch(touch, order.topic) for touch in touches),
        credits=credit(
            figures.value,
            figures.net,
            touches,
            order.at,
            half_life,
            rules.position_ends_percent,
            without_touch=elsewhere,
        ),
        sightings=tuple(
            SightingEntry(each.source, each.event_id, each.kafka, each.client_id, iso(each.at))
            for each in order.sightings(rules.sightings_kept)
        ),
        order_id=order.order_id,
        checkout_token=order.checkout_token,
        cart_token=order.cart_token,
        value=Money(figures.value, figures.currency) if figures.currency else None,
        value_from=order.value_from,
        refunded=Money(figures.refunded, figures.currency) if figures.currency else None,
        net=Money(figures.net, figures.currency) if figures.currency else None,
        test=order.test,
        sales_channel=order.sales_channel,
        new_customer=order.new_customer,
        utc_offset=order.utc_offset,
    )


def _touch(touch: Touch, topic: str) -> AttributedTouch:
    kafka = None if touch.offset == NO_RECORD else Origin(topic, touch.partition, touch.offset)
    return AttributedTouch(touch.event_id, touch.at, touch.ad, kafka, touch.ad.channel, touch.referrer)
