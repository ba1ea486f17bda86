"""The payloads of Shopify's webhooks: only the fields that stages use."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

import msgspec

from truepixel_dagster.events.anonymous_order import alias_of, anonymise_lines, anonymise_order, anonymise_refund
from truepixel_dagster.events.field_error import read_each
from truepixel_dagster.events.lenient import Reader
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import OrderNews, SoldLine
from truepixel_dagster.events.order_id import order_identifier
from truepixel_dagster.events.order_money import currency_field, shop_currency, total_of
from truepixel_dagster.events.shape import Facts, Id, bounded, distinct, email_hash, identifier, money, name_of, text
from truepixel_dagster.events.shopify_order import Landing, is_payload, order_news, sold_lines
from truepixel_dagster.events.shopify_payload import CartLine, Customer, Line, OrderBody, RefundBody
from truepixel_dagster.events.shopify_refund import refund_news
from truepixel_dagster.events.sites import NO_SITE, Site
from truepixel_dagster.events.visits import Alias
from truepixel_dagster.events.written_times import Arrival, offset_of

ORDER_CREATED = "orders/create"
ORDER_PAID = "orders/paid"
ORDER_CANCELLED = "orders/cancelled"
REFUND_CREATED = "refunds/create"
# These topics occur once per order; an order or a cart may be updated many times.
_ONCE = {ORDER_CREATED, ORDER_PAID, ORDER_CANCELLED}


class _WithId(msgspec.Struct, omit_defaults=True):
    id: Id = None


class _Any(msgspec.Struct, omit_defaults=True):
    """The fields that are read of every webhook."""

    id: Id = None
    created_at: Any = None
    updated_at: Any = None
    landing_site: str | None = None
    referring_site: str | None = None
    customer: _WithId | None = None


class _OfOrder(_Any, omit_defaults=True):
    """A webhook that only names an order."""

    order_id: Id = None


class _OfPerson(msgspec.Struct, omit_defaults=True):
    id: Id = None
    created_at: Any = None
    updated_at: Any = None
    landing_site: str | None = None
    referring_site: str | None = None
    customer: Customer | None = None
    email: str | None = None
    contact_email: str | None = None


class _Cart(_Any, omit_defaults=True):
    line_items: list[CartLine | None] | None = None


class _Checkout(_OfPerson, omit_defaults=True):
    token: Id = None
    cart_token: Id = None
    currency: str | None = None
    presentment_currency: str | None = None
    total_price: Decimal | None = None
    line_items: list[Line | None] | None = None


class _Refund(RefundBody, omit_defaults=True):
    updated_at: Any = None
    landing_site: str | None = None
    referring_site: str | None = None
    customer: _WithId | None = None


ORDERS, CHECKOUTS, CARTS, CUSTOMERS = "orders/", "checkouts/", "carts/", "customers/"
ORDER_DELETED = "orders/delete"
_Body: TypeAlias = "_Any | _OfOrder | _OfPerson | _Cart | _Checkout | _Refund | OrderBody"
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder(decimal_format="number")
# Created at import, because two threads may use a type for the first time at once.
_REFUND: Reader[Any] = Reader(_Refund)
_OTHER: Reader[Any] = Reader(_Any)
_BY_RESOURCE: dict[str, Reader[Any]] = {
    ORDERS: Reader(OrderBody),
    CHECKOUTS: Reader(_Checkout),
    CARTS: Reader(_Cart),
    CUSTOMERS: Reader(_OfPerson),
    "order_transactions/": Reader(_OfOrder),
    "fulfillments/": Reader(_OfOrder),
}


def facts(payload: bytes, topic: str | None, site: Site = NO_SITE) -> Facts:
    """Return the facts of a webhook.

    Arguments:
        payload: The JSON.
        topic: The webhook's topic such as `orders/create`; if it is None, the payload's shape decides.
        site: The shop's site: its domains, hosts and aliases.

    Raises:
        ValueError: The payload is not JSON or has no known shape, or a field has a wrong type or is out of bounds.
    """
    name = name_of(topic) or _topic(payload)
    body = _read(name, payload)
    _check_lines(name, body, site.lines)
    lines = _lines(body)
    landing = Landing(*site.seen(body.landing_site, None, body.referring_site))
    return Facts(
        name=name,
        source="webhook",
        event_id=_event_id(name, body),
        occurred_at=_occurred_at(name, body),
        url=text(body.landing_site),
        referrer=text(body.referring_site),
        landing=landing.visit,
        product_ids=_product_ids(body),
        order=partial(_news, name, body, landing, lines),
        order_id=_order_id(body),
        value=_value(name, body),
        customer_id=identifier(body.customer.id, "customer.id") if body.customer else None,
        email_hash=_email_hash(body),
        utc_offset=offset_of(_occurred_at(name, body)),
    )


def _read(name: str, payload: bytes) -> _Body:
    """Return the payload, decoded as its topic's type."""
    resource, slash, _ = name.partition("/")
    decoder = _REFUND if name == REFUND_CREATED else _BY_RESOURCE.get(resource + slash, _OTHER)
    found: _Body = decoder.decode(payload)
    return found


def _news(name: str, body: _Body, landing: Landing, lines: tuple[SoldLine, ...], arrival: Arrival) -> OrderNews | None:
    """Return what a webhook says of an order; None if it names none."""
    news: OrderNews | None = None
    if isinstance(body, _Refund):
        news = refund_news(body, arrival)
    elif name == ORDER_DELETED and isinstance(body, OrderBody):
        news = OrderNews(order_id=order_identifier(body.id), deleted=True)
    elif isinstance(body, OrderBody):
        news = order_news(name, body, arrival, landing, lines)
    elif isinstance(body, _Checkout):
        token, cart = order_identifier(body.token, "token"), order_identifier(body.cart_token, "cart_token")
        news = OrderNews(checkout_token=token, cart_token=cart)
    return news if news and (news.order_id or news.checkout_token or news.cart_token) else None


def _value(name: str, body: _Body) -> Money | None:
    if isinstance(body, OrderBody):
        return total_of(body) if is_payload(name, body) else None
    if isinstance(body, _Checkout):
        return money(body.total_price, shop_currency(body), "total_price", currency_field(body))
    return None


def _email_hash(body: _Body) -> str | None:
    if isinstance(body, (OrderBody, _OfPerson)):
        return email_hash(body.email, body.contact_email, body.customer.email if body.customer else None)
    return None


def _order_id(body: _Body) -> str | None:
    """Return the id of the order that a webhook names, even if it says nothing else of it."""
    if isinstance(body, OrderBody):
        return order_identifier(body.id)
    if isinstance(body, (_Refund, _OfOrder)):
        return order_identifier(body.order_id, "order_id")
    return None


def anonymous(payload: bytes, topic: str, alias: Alias, site: Site = NO_SITE) -> bytes:
    """Return the payload with personal data removed: only the fields above, with aliases for its ids.

    Arguments:
        payload: A payload that `facts` accepts.
        topic: The webhook's topic, as `facts` returns it.
        alias: Maps the kind of an id and the id to its alias.
        site: The shop's site: its domains, hosts and aliases.
    """
    body = _read(topic, payload)
    landing = site.anonymised_addresses(body.landing_site, None, body.referring_site, alias)
    if landing == (None, None):
        # Whether a page is named that is not a visit matters for the order.
        landing = "/" if body.landing_site else None, "/" if body.referring_site else None
    body.landing_site, body.referring_site = landing
    if isinstance(body, OrderBody):
        anonymise_order(body, alias)
        return _ENCODER.encode(body)
    if isinstance(body, _Refund):
        anonymise_refund(body, alias)
    else:
        body.id = alias_of(topic.partition("/")[0], identifier(body.id), alias)
        body.created_at = body.created_at if isinstance(body.created_at, str) else None
    body.updated_at = body.updated_at if isinstance(body.updated_at, str) else None
    body.customer = None
    if isinstance(body, (_OfOrder, _Refund)):
        body.order_id = alias_of("order", order_identifier(body.order_id), alias)
    if isinstance(body, _OfPerson):
        body.email = body.contact_email = None
    if isinstance(body, _Checkout):
        body.token = alias_of("token", order_identifier(body.token), alias)
        body.cart_token = alias_of("token", order_identifier(body.cart_token), alias)
    if isinstance(body, _Checkout):
        anonymise_lines(body.line_items, alias)
    return _ENCODER.encode(body)


def _topic(payload: bytes) -> str:
    """Return the topic by the payload's shape."""
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


def _event_id(name: str, body: _Body) -> str | None:
    """Return `topic:id`, with the time of the update if the topic may repeat for one id."""
    number = identifier(body.id)
    if number is None:
        return None
    if isinstance(body.updated_at, str) and body.updated_at and name not in _ONCE:
        return f"{name}:{number}:{body.updated_at}"
    return f"{name}:{number}"


def _occurred_at(name: str, body: _Body) -> str | None:
    """Return the time at which it happened.

    Raises:
        ValueError: The time is not text.
    """
    if name == ORDER_PAID or name.endswith("/create"):
        times = [body.created_at]
    else:
        cancelled = body.cancelled_at if name == ORDER_CANCELLED and isinstance(body, OrderBody) else None
        times = [cancelled, body.updated_at, body.created_at]
    found = next((time for time in times if time is not None), None)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"the time of the event is not text but {str(found)[:40]!r}")
    return found


def _check_lines(name: str, body: _Body, most: int) -> None:
    """Check the number of lines in everything that is read.

    Raises:
        FieldError: There are more than `most`.
    """
    if isinstance(body, (OrderBody, _Checkout, _Cart)):
        bounded(body.line_items, "line_items", most)
    if isinstance(body, _Refund):
        bounded(body.refund_line_items, "refund_line_items", most)
    if isinstance(body, OrderBody) and body.refunds and is_payload(name, body):
        read_each("refunds", body.refunds, lambda refund: bounded(refund.refund_line_items, "refund_line_items", most))


def _lines(body: _Body) -> tuple[SoldLine, ...]:
    """Return the lines of an order, checkout or cart that name a product, within bounds."""
    if isinstance(body, _Cart):
        # A cart has no currency of its own.
        return sold_lines(body.line_items or (), None)
    if isinstance(body, (OrderBody, _Checkout)):
        return sold_lines(body.line_items or (), shop_currency(body), currency_field(body))
    return ()


def _product_ids(body: _Body) -> tuple[str, ...]:
    """Return the products of an order, checkout or cart, gift cards among them."""
    lines = body.line_items if isinstance(body, (OrderBody, _Checkout, _Cart)) else None
    return distinct(read_each("line_items", lines or (), lambda line: identifier(line.product_id, "product_id")))
