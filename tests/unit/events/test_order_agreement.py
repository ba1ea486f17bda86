"""The order in a record: decoding and the oracle agree, whatever the payload contains."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cases import PRODUCED_MS, cases
from tests.examples import examples, share
from truepixel_dagster.audit import oracle
from truepixel_dagster.audit.oracle import events as oracle_events
from truepixel_dagster.audit.oracle.status import status_of
from truepixel_dagster.audit.oracle.values import minor_units
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import OrderPayload, Refund, RefundedLine, SoldLine
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.traffic import traffic

AT = 1_790_000_000_000
CHANNELS = oracle.Channels()
Said = dict[str, Any]


def of_order(event: Event) -> Said | None:
    """The facts of an order in a record, as plain values."""
    news = event.order
    if news is None:
        return None
    said: Said = {"ids": (news.order_id, news.checkout_token, news.cart_token), "deleted": news.deleted}
    if news.payload:
        said |= {"payload": of_payload(news.payload), "noted": news.noted_client}
    if news.completion:
        lines = [of_line(line) for line in news.completion.lines]
        said["completion"] = (plain(news.completion.value), lines, news.completion.first_order)
    if news.refunds:
        said["refunds"] = [of_refund(refund) for refund in news.refunds]
    return said


def of_payload(payload: OrderPayload) -> Said:
    return {
        "version": (payload.updated_at, payload.status),
        "paid": payload.was_paid,
        "money": [plain(money) for money in (payload.total, payload.current_total, payload.presentment)],
        "lines": None if payload.lines is None else [of_line(line) for line in payload.lines],
        "refunds": [of_refund(refund) for refund in payload.refunds],
        "kind": (payload.test, payload.sales_channel),
        "placed": (payload.at, payload.utc_offset if payload.at is not None else 0),
        "landing": (plain_ad(payload.landing), payload.landing_referrer if payload.landing else None),
        "names_landing": payload.names_landing,
        "who": (payload.customer_id, payload.email_hash, payload.customer_orders),
    }


def of_line(line: SoldLine) -> tuple[Any, ...]:
    price = (line.price.amount, line.price.currency, line.discount) if line.price else None
    return line.line_id, line.product_id, line.quantity, line.current_quantity, price


def of_refund(refund: Refund) -> tuple[Any, ...]:
    amounts = {money.currency: money.amount for money in refund.amounts if money.amount}
    lines = [(line.line_id, line.product_id, line.quantity, subtotal(line)) for line in refund.lines]
    return refund.refund_id, refund.at, refund.utc_offset, amounts, lines


def subtotal(line: RefundedLine) -> Any:
    return plain(line.subtotal) or (Decimal(line.bare) if line.bare else None)


def plain(money: Money | None) -> tuple[int, str] | None:
    return (money.amount, money.currency) if money else None


def plain_ad(ad: Any) -> Said | None:
    return json.loads(msgspec.json.encode(ad)) if ad else None


def of_their_order(event: oracle_events.Event) -> Said | None:
    content, payload, checkout = event.content, event.content.payload, event.content.checkout
    named: Any = payload or checkout or content.links
    if named is None or not (named.order_id or named.checkout_token or named.cart_token):
        return None
    said: Said = {"ids": (named.order_id, named.checkout_token, named.cart_token), "deleted": content.deletes}
    if payload:
        said |= {"payload": of_their_payload(payload), "noted": payload.noted_client}
    if checkout and checkout.completed:
        said["completion"] = (their_money(checkout.value), their_lines(checkout.lines), checkout.first_order)
    if content.refund:
        said["refunds"] = [of_their_refund(content.refund)]
    return said


def of_their_payload(payload: oracle_events.Payload) -> Said:
    is_import = payload.sales_channel == "import"
    placed = (payload.processed if is_import and payload.processed else None) or payload.created
    unpaid = ("", "pending", "authorized", "voided", "expired")
    return {
        "version": (payload.updated_at, status_of(payload)),
        "paid": payload.financial_status not in unpaid,
        "money": [their_money(money) for money in (payload.total, payload.current_total, payload.presentment)],
        "lines": None if payload.lines is None else their_lines(payload.lines),
        "refunds": [of_their_refund(refund) for refund in payload.refunds],
        "kind": (payload.test, payload.sales_channel),
        "placed": (placed.at, placed.offset) if placed else (None, 0),
        "landing": (payload.landing, payload.landing_referrer if payload.landing else None),
        "names_landing": payload.has_landing,
        "who": (payload.customer_id, payload.email_hash, payload.orders_count),
    }


def their_lines(lines: list[oracle_events.Line]) -> list[tuple[Any, ...]]:
    return [
        (line.id, line.product, line.quantity, line.left, their_price(line))
        for line in lines
        if line.product is not None
    ]


def their_price(line: oracle_events.Line) -> tuple[Any, ...] | None:
    return None if line.price is None else (line.price, line.currency, line.discount)


def of_their_refund(refund: oracle_events.Refund) -> tuple[Any, ...]:
    amounts: dict[str | None, int] = {}
    for paid, code in refund.paid:
        amounts[code] = amounts.get(code, 0) + in_units(paid, code)
    lines = [
        (line.id, line.product, line.quantity, their_subtotal(line.subtotal, line.currency))
        for line in refund.lines
        if line.product is not None
    ]
    return refund.id, refund.at, refund.offset, {code: amount for code, amount in amounts.items() if amount}, lines


def their_subtotal(subtotal: Decimal | None, code: str | None) -> Any:
    return subtotal if subtotal is None or code is None else (in_units(subtotal, code), code)


def in_units(amount: Decimal, code: str | None) -> int:
    return minor_units(amount, code) if code else 0


def their_money(money: Any) -> tuple[int, str] | None:
    return (money["amount"], money["currency"]) if money else None


def agree(message: Message) -> None:
    at = ("t", message.origin.partition, message.origin.offset, message.timestamp)
    ours, theirs = decode(message), judged(oracle.Record(*at, message.key, message.value, list(message.headers)))
    if isinstance(theirs, str):
        assert not isinstance(ours, Event), f"an order: {ours.order}; the oracle: {theirs}"
        return
    assert isinstance(ours, Event), f"a dead letter: {ours.reason}; the oracle: {theirs.content}"
    assert of_order(ours) == of_their_order(theirs)


def judged(record: oracle.Record) -> oracle.Event | str:
    """Return the oracle's event of a record, or the reason why there is none."""
    try:
        return oracle.decode(record, channels=CHANNELS)
    except oracle.DeadLetter as reason:
        return str(reason)


def test_they_agree_about_the_cases_and_about_traffic() -> None:
    for case in cases():
        for number, line in enumerate(case.lines):
            agree(Message(Origin("t", 0, number), line.key, line.value, line.headers, PRODUCED_MS))
    for number, record in enumerate(traffic(share(1500), seed=23, malformed=0.02)):
        agree(Message(Origin("t", 0, number), record.key, record.value, tuple(record.headers), AT))


# --- Payloads as people may send them ---


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


TIMES = some(
    *("2026-09-20T10:00:00-05:00", "2026-09-20T23:30:00+0530", "2026-09-21T10:00:00Z", "2026-09-20T10:00:00.9999Z"),
    *("2014-01-01T00:00:00Z", "2087-03-14T09:26:53-05:00", "+275760-09-13T00:00:00.000Z", None, None),
)
AMOUNTS = some("10.00", "0.00", 5, 2.5, "0.005", "", None, "1e2", "9999999999999.995")
HOSTILE_AMOUNTS = some("-1", "x", True, [], 10**16)
CODES = some("USD", "USD", "USD", "EUR", "JPY", "KWD", "usd", None, "", "ABC")
COUNTS = some(0, 1, 2, 3, "2", 2.0, "", None)
IDS = some(5, "5", "gid://shopify/Order/7", "tok", "undefined", "0", None, "", 10**20)
WORDS = some(
    "paid", "pending", "PAID ", "refunded", "partially_refunded", "voided", "authorized", "expired", "x", "", None
)
ANY = some(None, 5, "5", "x", [], {}, True, [{}], 1.5)


def either(usual: st.SearchStrategy[Any], strange: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly the usual values."""
    return st.integers(0, 30).flatmap(lambda n: strange if n == 0 else usual)


def fields(**named: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields."""
    return st.fixed_dictionaries({}, optional=named)


AMOUNT = either(AMOUNTS, HOSTILE_AMOUNTS)
MONEY = either(fields(amount=AMOUNT, currency_code=CODES), ANY)
SET = either(fields(shop_money=MONEY, presentment_money=MONEY), ANY)
LINE = either(
    fields(
        id=IDS,
        product_id=IDS,
        quantity=COUNTS,
        current_quantity=COUNTS,
        price=AMOUNT,
        price_set=SET,
        total_discount=AMOUNT,
        discount_allocations=st.lists(fields(amount=AMOUNT, amount_set=SET), max_size=2) | st.none(),
        gift_card=some(True, False, None, "true"),
    ),
    ANY,
)
TRANSACTION = fields(
    kind=some("refund", "refund", "Refund", "sale", None, 5),
    status=some("success", "success", "pending", "SUCCESS", None, []),
    amount=AMOUNT,
    currency=CODES,
    amount_set=SET,
)
REFUND = either(
    fields(
        id=IDS,
        order_id=IDS,
        created_at=TIMES | ANY,
        processed_at=TIMES | ANY,
        transactions=st.lists(TRANSACTION, max_size=2),
        refund_line_items=st.lists(
            fields(line_item_id=IDS, quantity=COUNTS, subtotal=AMOUNT, subtotal_set=SET, line_item=LINE), max_size=2
        ),
    ),
    ANY,
)
NOTE = fields(
    name=some("client_id", "TruePixel-Client-Id", "_shopify_y", "clientId", "x", 5, None),
    value=some("c1", 5, "undefined", " ", "a\x00b", "x" * 257, None, True, [], "c2 "),
)
ORDER = fields(
    id=IDS,
    checkout_token=IDS,
    cart_token=IDS,
    created_at=either(TIMES, ANY),
    updated_at=TIMES | ANY,
    processed_at=TIMES | ANY,
    cancelled_at=TIMES | ANY,
    currency=CODES,
    presentment_currency=CODES,
    total_price=AMOUNT,
    total_price_set=SET,
    current_total_price=AMOUNT | some("-3.00"),
    current_total_price_set=SET,
    financial_status=WORDS | ANY,
    line_items=st.lists(LINE, max_size=2) | st.none(),
    refunds=st.lists(REFUND, max_size=2) | st.none(),
    test=some(True, False, None, "true", 1),
    source_name=some(
        "web", "", None, "pos", "580111", 580111, 129785, "shopify_draft_order", "Matrixify", "x", 77, "77"
    )
    | ANY,
    app_id=some(580111, "129785", 1354745, None, 5) | ANY,
    tags=some("", "imported", "a, Subscription Recurring Order", "subscription_recurring", "IMPORT ,x", None)
    | ANY
    | some(["import"], [5]),
    note_attributes=st.lists(NOTE | ANY, max_size=3) | ANY,
    landing_site=some("/?utm_source=a&utm_medium=cpc", "/", "", None, "/?gclid=1"),
    referring_site=some("https://www.google.com/", "https://shop.example/", "", None),
    customer=either(
        fields(id=IDS, email=some("a@x.example", None, ""), orders_count=COUNTS | ANY, numberOfOrders=COUNTS | ANY), ANY
    ),
    email=some("A@x.example", None, "", " "),
    contact_email=some("b@x.example", None),
)
CHECKOUT = fields(
    token=IDS,
    cartToken=IDS | ANY,
    cart_token=IDS | ANY,
    currencyCode=CODES,
    totalPrice=either(fields(amount=AMOUNT, currencyCode=CODES), ANY),
    email=some("a@x.example", None),
    order=either(
        fields(id=IDS, customer=either(fields(id=IDS, isFirstOrder=some(True, False, None, "true")), ANY)), ANY
    ),
    lineItems=st.lists(
        either(
            fields(
                id=IDS,
                quantity=COUNTS,
                variant=fields(product=fields(id=IDS), price=fields(amount=AMOUNT, currencyCode=CODES)),
                discountAllocations=st.lists(fields(amount=fields(amount=AMOUNT)), max_size=2),
            ),
            ANY,
        ),
        max_size=2,
    ),
)
TOPICS = some(
    *("orders/create", "orders/paid", "orders/updated", "orders/cancelled", "ORDERS_UPDATED", "orders/edited"),
    *("orders/delete", "orders/fulfilled", "checkouts/update", "order_transactions/create", "carts/update"),
)


def sent(payload: dict[str, Any], *headers: tuple[str, str]) -> Message:
    pairs = tuple((name, text.encode()) for name, text in (("event_id", "e1"), *headers))
    return Message(Origin("t", 0, 1), b"s:c", json.dumps(payload).encode(), pairs, AT)


@examples(1500)
@given(ORDER, TOPICS)
def test_they_agree_about_any_order(payload: dict[str, Any], topic: str) -> None:
    agree(sent(payload, ("topic", topic)))


@example(
    {
        "id": 5,
        "transactions": [
            {
                "kind": "refund",
                "amount": "x",
                "amount_set": {"shop_money": {"amount": "10.00", "currency_code": "USD"}},
            }
        ],
    }
)
@examples(600)
@given(REFUND.filter(lambda payload: isinstance(payload, dict)))
def test_they_agree_about_any_refund(payload: dict[str, Any]) -> None:
    agree(sent(payload, ("topic", "refunds/create")))


@example(
    {
        "lineItems": [
            {
                "quantity": 2,
                "variant": {"product": {"id": 5}, "price": {"amount": "9999999999999.995", "currencyCode": "USD"}},
            }
        ]
    },
    "checkout_completed",
)
@examples(600)
@given(CHECKOUT, some("checkout_completed", "checkout_started", "payment_info_submitted"))
def test_they_agree_about_any_checkout(checkout: dict[str, Any], name: str) -> None:
    agree(sent({"name": name, "clientId": "c", "data": {"checkout": checkout}}, ("source", "pixel")))
