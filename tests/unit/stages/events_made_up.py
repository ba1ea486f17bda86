"""Events for tests of stages and orders: a test gives only the fields that it is about."""

from __future__ import annotations

from typing import Any

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import Event, iso
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import Completion, OrderNews, OrderPayload, Refund, RefundedLine, SoldLine
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.touch import Touch

NOON = 1_767_268_800_000
MINUTE = 60_000
DAY = 86_400_000


def event(offset: int = 0, *, at: int = NOON, partition: int = 0, **fields: Any) -> Event:
    base: dict[str, Any] = {"shop_id": "s", "client_id": "c", "event_id": f"e{offset}", "name": "page_viewed"}
    base |= {"source": "pixel", "payload": b"{}", "received_at": at}
    return Event(**(base | fields), occurred_at=at, origin=Origin("t", partition, offset))


def ad(campaign: str = "jan", platform: str = "google") -> Ad:
    return Ad(platform=platform, source=platform, campaign=campaign)


def touch(offset: int, at: int = NOON, partition: int = 0, campaign: str | None = None) -> Touch:
    return Touch(f"e{offset}", iso(at), ad(campaign or str(offset)), partition, offset)


def usd(amount: int) -> Money:
    return Money(amount, "USD")


def completed(
    offset: int,
    *,
    token: str | None = "tok",
    order_id: str | None = None,
    value: Money | None = Money(10_00, "USD"),  # noqa: B008 (frozen)
    lines: tuple[SoldLine, ...] = (),
    first_order: bool | None = None,
    **fields: Any,
) -> Event:
    """A pixel's `checkout_completed`."""
    news = OrderNews(order_id, token, completion=Completion(value, lines, first_order))
    base: dict[str, Any] = {"name": "checkout_completed", "order": news, "value": value}
    return event(offset, **(base | fields))


def in_checkout(offset: int, *, token: str | None = "tok", order_id: str | None = None, **fields: Any) -> Event:
    """A pixel event of a checkout that is not completed yet."""
    base: dict[str, Any] = {"name": "payment_info_submitted", "order": OrderNews(order_id, token)}
    return event(offset, **(base | fields))


def payload(event_id: str = "w", *, updated_at: int = NOON, **fields: Any) -> OrderPayload:
    base: dict[str, Any] = {"updated_at": updated_at, "received_at": updated_at, "at": NOON}
    base |= {"event_id": event_id, "status": "open"}
    return OrderPayload(**(base | {"total": usd(10_00)} | fields))


def webhook(
    offset: int,
    *,
    order_id: str | None = "77",
    token: str | None = "tok",
    cart: str | None = None,
    at: int = NOON,
    says: dict[str, Any] | None = None,
    noted: str | None = None,
    **fields: Any,
) -> Event:
    """An `orders/…` webhook, keyed by its token; `says` is what its payload says beside its ids."""
    event_id = fields.pop("event_id", f"w{offset}")
    shown = payload(event_id, updated_at=at, checkout_token=token, cart_token=cart, **(says or {}))
    news = OrderNews(order_id, token, cart, payload=shown, noted_client=noted)
    base: dict[str, Any] = {"name": "orders/updated", "source": "webhook", "client_id": token or order_id}
    return event(offset, at=at, event_id=event_id, **(base | {"order": news, "utc_offset": 0} | fields))


def refund(id_: str, amount: int | Money = 0, *, at: int = NOON, lines: tuple[RefundedLine, ...] = ()) -> Refund:
    money = amount if isinstance(amount, Money) else usd(amount)
    return Refund(id_, at, (money,) if money.amount else (), 0, lines)


def refunded(offset: int, back: Refund, *, order_id: str = "77", **fields: Any) -> Event:
    """A `refunds/create` webhook, which names the order by its id alone."""
    base: dict[str, Any] = {"name": "refunds/create", "source": "webhook", "client_id": order_id}
    base |= {"at": back.at, "event_id": f"r{offset}", "order": OrderNews(order_id, refunds=(back,))}
    return event(offset, **(base | fields))


def deleted(offset: int, *, order_id: str = "77", **fields: Any) -> Event:
    """An `orders/delete` webhook."""
    base: dict[str, Any] = {"name": "orders/delete", "source": "webhook", "client_id": order_id}
    base |= {"event_id": f"d{offset}", "order": OrderNews(order_id, deleted=True)}
    return event(offset, **(base | fields))


def linked(offset: int, *, token: str = "tok", cart: str | None = "cart", **fields: Any) -> Event:
    """A `checkouts/…` webhook, which only links ids."""
    base: dict[str, Any] = {"name": "checkouts/update", "source": "webhook", "client_id": token}
    base |= {"event_id": f"l{offset}", "order": OrderNews(None, token, cart)}
    return event(offset, **(base | fields))
