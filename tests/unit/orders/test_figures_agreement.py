"""Whatever records say of orders, stages and oracle agree about attributions, product statistics and customers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.orders.families import World, delivered
from tests.unit.orders.test_ids_agreement import Partitions, events, expected, placed
from truepixel_dagster.audit import oracle
from truepixel_dagster.audit.compare import Actual, differences

# Two orders, each with its checkout, and two visitors.
TOKENS = {"1": "a", "2": "b"}
CLIENTS = ("c", "d")
AMOUNTS = st.sampled_from([None, "0.00", "10.00", "25.50", "99.99"])
HOURS = st.sampled_from([0, 1, 5, 30, 100])


def at(hours: int, number: int) -> str:
    day, hour = divmod(9 + hours, 24)
    return f"2027-02-{1 + day:02d}T{hour:02d}:{number:02d}:00Z"


@st.composite
def _pixel(draw: st.DrawFn, number: int, order_id: str) -> Any:
    name = draw(st.sampled_from(["page_viewed", "checkout_started", "checkout_completed", "checkout_completed"]))
    client, when = draw(st.sampled_from(CLIENTS)), at(draw(HOURS), number)
    customer = draw(st.sampled_from([None, {}, {"isFirstOrder": True}, {"isFirstOrder": False}]))
    # Shopify's events of a checkout always have a total and lines.
    total = draw(st.sampled_from(["0.00", "10.00", "25.50"]))
    checkout: dict[str, Any] = {
        "token": TOKENS[order_id],
        "currencyCode": "USD",
        "totalPrice": {"amount": total},
        "lineItems": draw(st.lists(_pixel_line(), min_size=1, max_size=2)),
        "order": {"id": draw(st.sampled_from([None, order_id])), "customer": customer},
    }
    query = draw(st.sampled_from(["", "?gclid=1", "?utm_source=news&utm_medium=email", "?fbclid=2&utm_medium=cpc"]))
    return (
        client,
        {
            "id": f"p{number:02d}",
            "name": name,
            "clientId": client,
            "timestamp": when,
            "data": {"checkout": checkout} if name != "page_viewed" else {},
            "context": {"document": {"location": {"href": f"https://s.example/{query}"}, "referrer": ""}},
        },
        (("source", b"pixel"),),
    )


@st.composite
def _pixel_line(draw: st.DrawFn) -> Any:
    price = {"amount": draw(AMOUNTS), "currencyCode": "USD"}
    return {
        "quantity": draw(st.integers(1, 3)),
        "variant": {"product": {"id": draw(st.sampled_from(["p", "q"]))}, "price": price},
        "discountAllocations": [],
    }


@st.composite
def _refund(draw: st.DrawFn, number: int, order_id: str) -> Any:
    amount = draw(st.sampled_from(["5.00", "10.00", "25.50"]))
    kind, status = draw(st.sampled_from([("refund", "success"), ("refund", "pending"), ("void", "success")]))
    return {
        "id": draw(st.sampled_from(["r1", "r2"])),
        "order_id": order_id,
        "created_at": at(draw(HOURS), number),
        "transactions": [{"id": 1, "kind": kind, "status": status, "amount": amount, "currency": "USD"}],
        "refund_line_items": [
            {"line_item_id": "l", "quantity": 1, "subtotal": amount, "line_item": {"id": "l", "product_id": "p"}}
        ][: draw(st.integers(0, 1))],
    }


@st.composite
def _webhook(draw: st.DrawFn, number: int, order_id: str) -> Any:
    topic = draw(
        st.sampled_from(["orders/create", "orders/updated", "orders/cancelled", "orders/paid", "refunds/create"])
    )
    headers = (("topic", topic.encode()), ("event_id", f"w{number:02d}".encode()))
    if topic == "refunds/create":
        return order_id, draw(_refund(number, order_id)), headers
    created, updated = at(draw(HOURS), number), at(draw(HOURS), number)
    total = draw(AMOUNTS)
    order: dict[str, Any] = {
        "id": order_id,
        "checkout_token": draw(st.sampled_from([None, TOKENS[order_id]])),
        "currency": "USD",
        "total_price": total,
        "current_total_price": draw(AMOUNTS),
        "line_items": draw(st.lists(_line(), max_size=2)),
        "financial_status": draw(
            st.sampled_from([None, "pending", "paid", "partially_refunded", "refunded", "voided"])
        ),
        "cancelled_at": draw(st.sampled_from([None, updated])),
        "created_at": created,
        "updated_at": updated,
        "landing_site": draw(st.sampled_from([None, "/", "/?gclid=1", "/?utm_source=news&utm_medium=email"])),
        "source_name": draw(st.sampled_from([None, "web", "pos", "shopify_draft_order", "subscription_contract"])),
        "test": draw(st.sampled_from([False, False, False, True])),
        "customer": draw(
            st.sampled_from([None, {"id": 7}, {"id": 7, "orders_count": 1}, {"id": 7, "orders_count": 3}])
        ),
        "note_attributes": draw(st.sampled_from([[], [{"name": "client_id", "value": "c"}]])),
        "refunds": draw(st.lists(_refund(number, order_id), max_size=1)),
    }
    return draw(st.sampled_from([*CLIENTS, order_id])), order, headers


@st.composite
def _line(draw: st.DrawFn) -> Any:
    return {
        "id": draw(st.sampled_from(["l", "m"])),
        "product_id": draw(st.sampled_from(["p", "q"])),
        "quantity": draw(st.integers(1, 3)),
        "current_quantity": draw(st.integers(0, 3)),
        "price": draw(AMOUNTS),
        "total_discount": draw(st.sampled_from([None, "1.00"])),
    }


@st.composite
def partitions(draw: st.DrawFn) -> Partitions:
    """The records of three partitions; those of a key are in one of them."""
    sent = []
    for number in range(draw(st.integers(1, 8))):
        order_id = draw(st.sampled_from(["1", "1", "2"]))
        sent.append(draw(st.one_of(_pixel(number, order_id), _webhook(number, order_id))))
    return placed(sent)


def mistakes(found: Partitions, world: World) -> list[str]:
    """The differences of attributions and product statistics from what the oracle expects."""
    right = expected(found)
    assert not right.dead
    others: dict[str, Any] = {"ad_leads": {}, "customers": {}, "weekly_visitors": {}}
    ours = msgspec.json.decode(msgspec.json.encode(world.attributions))
    actual = Actual(events=right.events, attributions=ours, product_stats=product_stats(world))
    return [str(each) for each in differences(replace(right, **others), actual)] + wrong_customers(right, world)


def product_stats(world: World) -> dict[str, Any]:
    """The counts of products as documents."""
    found: dict[str, Any] = {}
    for (product, day, field), amount in world.totals.items():
        document = found.setdefault(f"s:{product}:{day}", {"shop_id": "s", "product_id": product, "day": day})
        name, _, currency = field.partition(":")
        if currency:
            document.setdefault("returned_revenue" if name == "returned" else name, {})[currency] = amount
        else:
            document[name] = amount
    return found


def wrong_customers(right: oracle.Expected, world: World) -> list[str]:
    """The customers whose orders, revenue or refunds differ."""
    found: dict[str, Counter[str]] = {}
    for entry in world.state()["entries"]:
        amounts = {
            "orders": 1,
            f"revenue {entry.currency}": entry.revenue,
            f"refunded {entry.currency}": entry.refunded,
        }
        found.setdefault(entry.user, Counter()).update(amounts)
    wanted = {
        user: Counter(
            {
                "orders": document.get("orders", 0),
                **{
                    f"{field} {currency}": amount
                    for field in ("revenue", "refunded")
                    for currency, amount in document.get(field, {}).items()
                },
            }
        )
        for user, document in right.customers.items()
    }
    users = found.keys() | wanted.keys()
    return [
        f"{user}: {found.get(user)}, expected {wanted.get(user)}"
        for user in sorted(users)
        if +found.get(user, Counter()) != +wanted.get(user, Counter())
    ]


@given(partitions(), st.data())
def test_stages_and_oracle_agree_whatever_records_say_of_orders(found: Partitions, data: st.DataObject) -> None:
    assert mistakes(found, delivered([events(partition) for partition in found], data, 4)) == []
