"""The payloads of Shopify's webhooks: only the fields that stages use."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from truepixel_dagster.events.ad import ad_from_url, anonymous_query
from truepixel_dagster.events.event import LineItem, Order
from truepixel_dagster.events.lenient import Reader
from truepixel_dagster.events.shape import (
    Facts,
    Id,
    bounded,
    distinct,
    email_hash,
    identifier,
    line_item,
    money,
    name_of,
    text,
)

ORDER_CREATED = "orders/create"
ORDER_PAID = "orders/paid"
ORDER_CANCELLED = "orders/cancelled"
REFUND_CREATED = "refunds/create"
# These say one thing once; an order or a cart may be updated many times.
_ONCE = {ORDER_CREATED, ORDER_PAID, ORDER_CANCELLED}


class _WithId(msgspec.Struct):
    id: Id = None


class _Customer(msgspec.Struct, omit_defaults=True):
    id: Id = None
    email: str | None = None


class _Allocation(msgspec.Struct, omit_defaults=True):
    amount: Decimal | None = None


class _Line(msgspec.Struct, omit_defaults=True):
    product_id: Id = None
    quantity: int | None = None
    price: Decimal | None = None
    total_discount: Decimal | None = None
    discount_allocations: list[_Allocation | None] | None = None


class _Webhook(msgspec.Struct, omit_defaults=True):
    """What is read of any webhook: of each only what belongs to its topic."""

    id: Id = None
    order_id: Id = None
    checkout_token: Id = None
    created_at: str | None = None
    updated_at: str | None = None
    cancelled_at: str | None = None
    landing_site: str | None = None
    referring_site: str | None = None
    currency: str | None = None
    presentment_currency: str | None = None
    total_price: Decimal | None = None
    financial_status: str | None = None
    email: str | None = None
    contact_email: str | None = None
    customer: _Customer | None = None
    line_items: list[_Line | None] | None = None


class _Any(msgspec.Struct):
    """What is read of every webhook, whatever its topic."""

    id: Id = None
    created_at: str | None = None
    updated_at: str | None = None
    landing_site: str | None = None
    referring_site: str | None = None
    customer: _WithId | None = None


class _OfPerson(msgspec.Struct):
    id: Id = None
    created_at: str | None = None
    updated_at: str | None = None
    landing_site: str | None = None
    referring_site: str | None = None
    customer: _Customer | None = None
    email: str | None = None
    contact_email: str | None = None


class _Refund(_Any):
    order_id: Id = None


class _Cart(_Any):
    line_items: list[_Line | None] | None = None


class _Sale(_OfPerson):
    currency: str | None = None
    presentment_currency: str | None = None
    total_price: Decimal | None = None
    line_items: list[_Line | None] | None = None


class _Order(_Sale):
    checkout_token: Id = None
    cancelled_at: str | None = None
    financial_status: str | None = None


ORDERS, CHECKOUTS, CARTS, CUSTOMERS = "orders/", "checkouts/", "carts/", "customers/"
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder()
# Made at import: a second thread may come by while a type is looked at for the first time.
_REFUND: Reader[Any] = Reader(_Refund)
_OTHER: Reader[Any] = Reader(_Any)
_BY_RESOURCE: dict[str, Reader[Any]] = {
    ORDERS: Reader(_Order),
    CHECKOUTS: Reader(_Sale),
    CARTS: Reader(_Cart),
    CUSTOMERS: Reader(_OfPerson),
}


def facts(payload: bytes, topic: str | None) -> Facts:
    """What a webhook says.

    Arguments:
        payload: The JSON.
        topic: The webhook's topic such as `orders/create`; None has the payload's shape decide.

    Raises:
        ValueError: Not JSON, of no known shape, of wrong types or out of bounds.
    """
    name = name_of(topic) or _topic(payload)
    body = _read(name, payload)
    customer = body.customer or _Customer()
    items = _items(body)
    return Facts(
        name=name,
        source="webhook",
        event_id=_event_id(name, body),
        occurred_at=_occurred_at(name, body),
        url=text(body.landing_site),
        referrer=text(body.referring_site),
        ad=ad_from_url(body.landing_site),
        product_ids=distinct(item.product_id for item in items),
        items=items,
        order=_order(name, body),
        value=money(body.total_price, _currency(body)),
        customer_id=identifier(customer.id),
        email_hash=email_hash(body.email, body.contact_email, customer.email),
    )


def _read(name: str, payload: bytes) -> _Webhook:
    """What a payload says of what is read of its topic."""
    resource, slash, _ = name.partition("/")
    decoder = _REFUND if name == REFUND_CREATED else _BY_RESOURCE.get(resource + slash, _OTHER)
    body = decoder.decode(payload)
    found = _Webhook(**{field: getattr(body, field) for field in body.__struct_fields__})
    if isinstance(body, _Any) and body.customer:
        found.customer = _Customer(body.customer.id)
    return found


def anonymous(payload: bytes, topic: str, alias: Callable[[str, str], str]) -> bytes:
    """The payload without whom it is about: what the fields above hold, its ids by aliases.

    Arguments:
        payload: One that `facts` understands.
        topic: The webhook's topic, as `facts` names it.
        alias: From the kind of an id and the id to its alias.
    """

    def of(kind: str, value: Id) -> str | None:
        id_ = identifier(value)
        return alias(kind, id_) if id_ else None

    body = _read(topic, payload)
    body.id = of("order" if topic.startswith(ORDERS) else topic.partition("/")[0], body.id)
    body.order_id = of("order", body.order_id)
    body.checkout_token = of("token", body.checkout_token)
    body.landing_site, body.referring_site = anonymous_query(body.landing_site, alias), None
    body.email = body.contact_email = body.customer = None
    return _ENCODER.encode(body)


def _topic(payload: bytes) -> str:
    """The topic that a payload's shape speaks of."""
    fields = _OBJECT.decode(payload)
    if "refund_line_items" in fields:
        return REFUND_CREATED
    if "financial_status" in fields or "order_number" in fields:
        cancelled = bytes(fields.get("cancelled_at", b"null")) != b"null"
        return ORDER_CANCELLED if cancelled else ORDER_CREATED
    if "abandoned_checkout_url" in fields:
        return "checkouts/create"
    if "token" in fields and "line_items" in fields:
        return "carts/update"
    raise ValueError("neither a pixel event nor a webhook of a known shape, and no topic header")


def _event_id(name: str, body: _Webhook) -> str | None:
    """`topic:id`, and the time of the update where a topic may come many times for one id."""
    number = identifier(body.id)
    if number is None:
        return None
    if body.updated_at and name not in _ONCE:
        return f"{name}:{number}:{body.updated_at}"
    return f"{name}:{number}"


def _occurred_at(name: str, body: _Webhook) -> str | None:
    """When it happened: an order's sightings share the order's own time, so that their journeys are the same."""
    if name == ORDER_PAID or name.endswith("/create"):
        return body.created_at
    cancelled = body.cancelled_at if name == ORDER_CANCELLED else None
    return next((time for time in (cancelled, body.updated_at, body.created_at) if time is not None), None)


def _currency(body: _Webhook) -> str | None:
    return body.currency or body.presentment_currency


def _items(body: _Webhook) -> tuple[LineItem, ...]:
    lines = body.line_items or []
    bounded(lines)
    currency = _currency(body)
    return tuple(item for line in lines if line and (item := _item(line, currency)))


def _item(line: _Line, currency: str | None) -> LineItem | None:
    if line.discount_allocations is None:
        discounts = [line.total_discount]
    else:
        discounts = [allocation.amount for allocation in line.discount_allocations if allocation]
    return line_item(line.product_id, line.quantity, line.price, discounts, currency)


def _order(name: str, body: _Webhook) -> Order | None:
    if name == REFUND_CREATED:
        order_id = identifier(body.order_id)
        return Order(order_id, None, status="refunded", sighting=False) if order_id else None
    token, order_id = identifier(body.checkout_token), identifier(body.id)
    if not name.startswith(ORDERS) or not (token or order_id):
        return None
    return Order(order_id, token, _status(name, body), sighting=name in (ORDER_CREATED, ORDER_PAID))


def _status(name: str, body: _Webhook) -> str:
    """The highest status that the payload speaks of."""
    if body.financial_status == "refunded":
        return "refunded"
    if body.cancelled_at is not None or name == ORDER_CANCELLED:
        return "cancelled"
    if body.financial_status in ("paid", "partially_refunded") or name == ORDER_PAID:
        return "paid"
    return "open"
