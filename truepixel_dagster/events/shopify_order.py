"""Read orders in Shopify's webhooks: https://shopify.dev/docs/api/admin-rest/latest/resources/order.

Amounts are in the shop's currency, never in the buyer's. A field that affects neither money nor identity never refuses
an event: with another type than Shopify's it counts as missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import DAY
from truepixel_dagster.events.field_error import FieldError, read_each, within
from truepixel_dagster.events.lenient import Reader
from truepixel_dagster.events.money import MAX_AMOUNT, Money
from truepixel_dagster.events.order import ONLINE, OrderNews, OrderPayload, Refund, RefundedLine, SoldLine
from truepixel_dagster.events.shape import (
    MAX_QUANTITY,
    Id,
    email_hash,
    identifier,
    money,
    quantity,
)
from truepixel_dagster.events.times import FIRST, instant
from truepixel_dagster.events.user_key import can_be_client, is_no_client
from truepixel_dagster.events.visits import Alias

POS, DRAFT, SUBSCRIPTION, IMPORT, OTHER = "pos", "draft", "subscription", "import", "other"
# An order may be planned: its time is plausible up to this long after its arrival.
_AHEAD = 30 * DAY
# The financial statuses of an unpaid order.
_UNPAID = frozenset({"", "pending", "authorized", "voided", "expired"})
# Those that a payload may have by itself; a cancelled one is that before all but voided ones.
_OWN_STATUSES = frozenset({"voided", "refunded", "partially_refunded", "paid"})
_ONLINE_SOURCES = frozenset({"", "web", "online_store", "checkout_next", "checkout_one", "buy_button"})
_POS_SOURCES = frozenset({"pos", "iphone", "android"})
_SUBSCRIPTION_SOURCES = frozenset({"subscription_contract", "subscription_contract_checkout_one"})
_IMPORTERS = ("import", "matrixify", "excelify", "transporter")
_KNOWN_SOURCES = _ONLINE_SOURCES | _POS_SOURCES | _SUBSCRIPTION_SOURCES | {"shopify_draft_order"}
# Shopify's own apps, by their ids: the online store, the point of sale, draft orders.
_APPS = {"580111": ONLINE, "129785": POS, "1354745": DRAFT}
_NOTES = frozenset(
    {"truepixelclientid", "tpclientid", "clientid", "shopifyclientid", "shopifyy", "pixelclientid"},
)
_NO_LETTER = re.compile(r"[-_\s]")
_BETWEEN_WORDS = re.compile(r"[-_ ]+")
_OFFSET = re.compile(r"[0-9]([+-])([0-9]{2}):?([0-9]{2})$")


_NOTHING = msgspec.Raw(b"null")
T = TypeVar("T")


class ShopMoney(msgspec.Struct, omit_defaults=True):
    """An amount in one currency."""

    amount: Decimal | None = None
    currency_code: str | None = None


class MoneySet(msgspec.Struct, omit_defaults=True):
    """An amount in the shop's currency; the buyer's amount is not read."""

    shop_money: ShopMoney | None = None


class TotalSet(MoneySet, omit_defaults=True):
    """An amount in the shop's currency and in the buyer's."""

    presentment_money: ShopMoney | None = None


class Allocation(msgspec.Struct, omit_defaults=True):
    """A part of a discount."""

    amount: Decimal | None = None
    amount_set: MoneySet | None = None


class CartLine(msgspec.Struct, omit_defaults=True):
    """A line of a cart."""

    product_id: Id = None
    quantity: int | None = None
    current_quantity: int | None = None
    price: Decimal | None = None
    price_set: MoneySet | None = None
    total_discount: Decimal | None = None
    discount_allocations: list[Allocation | None] | None = None
    gift_card: Any = None


class Line(CartLine, omit_defaults=True):
    """A line of an order or checkout."""

    id: Id = None


class ItemOfRefund(msgspec.Struct, omit_defaults=True):
    """The order's line to which a line of a refund belongs."""

    id: Id = None
    product_id: Id = None
    gift_card: Any = None


class LineOfRefund(msgspec.Struct, omit_defaults=True):
    """A line of a refund."""

    line_item_id: Id = None
    quantity: int | None = None
    subtotal: Decimal | None = None
    subtotal_set: MoneySet | None = None
    line_item: ItemOfRefund | None = None


class Transaction(msgspec.Struct, omit_defaults=True):
    """A payment or a repayment."""

    kind: Any = None
    status: Any = None
    # Read only for repayments, so that the amount of a sale never refuses an event.
    amount: msgspec.Raw = _NOTHING
    currency: msgspec.Raw = _NOTHING
    amount_set: msgspec.Raw = _NOTHING


class RefundBody(msgspec.Struct, omit_defaults=True):
    """A refund, in an order or in `refunds/create`."""

    id: Id = None
    order_id: Id = None
    created_at: Any = None
    processed_at: Any = None
    transactions: list[Transaction | None] | None = None
    refund_line_items: list[LineOfRefund | None] | None = None


class Customer(msgspec.Struct, omit_defaults=True):
    """The customer of an order."""

    id: Id = None
    email: str | None = None
    orders_count: Any = None
    number_of_orders: Any = None
    numberOfOrders: Any = None  # noqa: N815 (Shopify's name)


class OrderBody(msgspec.Struct, omit_defaults=True):
    """The fields that are read of an order."""

    id: Id = None
    checkout_token: Id = None
    cart_token: Id = None
    created_at: Any = None
    updated_at: Any = None
    processed_at: Any = None
    cancelled_at: Any = None
    currency: str | None = None
    presentment_currency: str | None = None
    total_price: Decimal | None = None
    total_price_set: TotalSet | None = None
    current_total_price: Decimal | None = None
    current_total_price_set: MoneySet | None = None
    financial_status: Any = None
    line_items: list[Line | None] | None = None
    refunds: list[RefundBody | None] | None = None
    test: Any = None
    source_name: Any = None
    app_id: Any = None
    tags: Any = None
    note_attributes: Any = None
    landing_site: str | None = None
    referring_site: str | None = None
    customer: Customer | None = None
    email: str | None = None
    contact_email: str | None = None


_ENCODE = msgspec.json.Encoder(decimal_format="number").encode
_AMOUNT: Reader[Decimal | None] = Reader(Decimal | None)
_CURRENCY: Reader[str | None] = Reader(str | None)
_MONEY_SET: Reader[MoneySet | None] = Reader(MoneySet | None)


class Arrival(msgspec.Struct, frozen=True):
    """Hold the times of an event and of its arrival (milliseconds since the epoch), and its id."""

    occurred_at: int
    received_at: int
    event_id: str


class HasCurrency(Protocol):
    """An order or a checkout."""

    currency: str | None
    presentment_currency: str | None


class Landing(NamedTuple):
    """Hold the first page of the session before an order: its visit, if it is one, and the outside host before it."""

    visit: Ad | None
    referrer: str | None


def order_news(
    name: str, body: OrderBody, arrival: Arrival, landing: Landing, lines: tuple[SoldLine, ...]
) -> OrderNews | None:
    """Return what an order's webhook says of it; None if it neither shows the order nor names its client.

    Arguments:
        name: The topic.
        body: The order.
        arrival: The arrival of the webhook.
        landing: Its landing page.
        lines: Its lines from `sold_lines` in the currency of `shop_currency`.

    Raises:
        ValueError: An amount or an id is out of bounds.
    """
    if not is_payload(name, body):
        return None
    token = order_identifier(body.checkout_token, "checkout_token")
    cart = order_identifier(body.cart_token, "cart_token")
    return OrderNews(
        order_id=order_identifier(body.id),
        checkout_token=token,
        cart_token=cart,
        payload=msgspec.structs.replace(
            _payload(name, body, arrival, lines),
            checkout_token=token,
            cart_token=cart,
            landing=landing.visit,
            landing_referrer=landing.referrer,
            names_landing=bool(body.landing_site or body.referring_site),
        ),
        noted_client=noted_client(body.note_attributes),
    )


def is_payload(name: str, body: OrderBody) -> bool:
    """Return whether a webhook shows the order itself and not only a change of it."""
    if name in ("orders/delete", "orders/edited"):
        return False
    return not (body.line_items is None and body.total_price is None and body.financial_status is None)


def refund_news(body: RefundBody, arrival: Arrival) -> OrderNews:
    """Return what `refunds/create` says of an order.

    Raises:
        ValueError: An amount or an id is out of bounds.
    """
    refund = _refund(body, None, arrival)
    order_id = order_identifier(body.order_id, "order_id")
    return OrderNews(order_id=order_id, refunds=(refund,) if refund else ())


def order_identifier(value: Id, field: str = "id") -> str | None:
    """Return an id or token of an order; None for words for no id, which would join all orders.

    Raises:
        FieldError: The id is longer than 256 bytes.
    """
    text = identifier(value, field)
    return None if text is None or is_no_client(text) else text


def total_of(body: OrderBody) -> Money | None:
    """Return an order's total in the shop's currency."""
    found = _of_set(body.total_price_set, "total_price_set")
    return found or money(body.total_price, shop_currency(body), "total_price", currency_field(body))


def shop_currency(body: HasCurrency) -> str | None:
    """Return the currency of an order's plain amounts."""
    return body.currency or body.presentment_currency


def currency_field(body: HasCurrency) -> str:
    """Return the name of the field that `shop_currency` reads."""
    return "currency" if body.currency else "presentment_currency"


def _of_set(amounts: MoneySet | None, field: str) -> Money | None:
    return _of_bag(amounts.shop_money, field, "shop_money") if amounts and amounts.shop_money else None


def _of_bag(bag: ShopMoney, *path: str) -> Money | None:
    try:
        return money(bag.amount, bag.currency_code, "amount", "currency_code")
    except ValueError as error:
        raise within(".".join(path), error) from None


def _payload(name: str, body: OrderBody, arrival: Arrival, lines: tuple[SoldLine, ...]) -> OrderPayload:
    channel, financial = _sales_channel(body), _word(body.financial_status)
    if name == "orders/paid" and financial not in _OWN_STATUSES:
        financial = "paid"
    placed = body.processed_at if channel == IMPORT and _moment(body.processed_at) is not None else body.created_at
    total = total_of(body)
    currency = shop_currency(body)
    # An invalid currency is refused, even if no amount uses it.
    money(None, currency, "total_price", currency_field(body))
    if total and total.currency != (currency or "").upper():
        # Shopify cannot have sent such an order; the total decides.
        currency = total.currency
        lines = sold_lines(body.line_items or (), currency)
    refunds = read_each("refunds", body.refunds or (), lambda each: _refund(each, currency, arrival))
    customer = body.customer or Customer()
    updated = _first_time(arrival, body.updated_at, body.cancelled_at, body.created_at)
    moment = _moment(placed)
    return OrderPayload(
        updated_at=updated[0] if updated else arrival.occurred_at,
        event_id=arrival.event_id,
        status=_status(name, body, financial),
        received_at=arrival.received_at,
        at=None if moment is None else _bounded(moment, arrival),
        utc_offset=offset_of(placed),
        was_paid=financial not in _UNPAID,
        was_refunded=financial == "refunded",
        total=total,
        current_total=_current_total(body, currency),
        presentment=_presentment(body),
        lines=None if body.line_items is None else lines,
        refunds=refunds,
        test=body.test is True,
        sales_channel=channel,
        customer_id=identifier(customer.id, "customer.id"),
        email_hash=email_hash(body.email, body.contact_email, customer.email),
        customer_orders=_count_of(customer),
    )


def _current_total(body: OrderBody, currency: str | None) -> Money | None:
    """Return the current total; 0 if more than the total was paid back."""
    left = body.current_total_price
    if left is None:
        return _of_set(body.current_total_price_set, "current_total_price_set")
    return money(max(left, Decimal(0)) if left.is_finite() else left, currency, "current_total_price")


def _presentment(body: OrderBody) -> Money | None:
    seen = body.total_price_set.presentment_money if body.total_price_set else None
    return _of_bag(seen, "total_price_set", "presentment_money") if seen else None


def _status(name: str, body: OrderBody, financial: str) -> str:
    """Return the payload's own status."""
    is_cancelled = body.cancelled_at not in (None, "") or name == "orders/cancelled"
    if is_cancelled and financial != "voided":
        return "cancelled"
    return financial if financial in _OWN_STATUSES else "open"


def sold_lines(
    lines: Sequence[CartLine | None], currency: str | None, currency_field: str = "currency"
) -> tuple[SoldLine, ...]:
    """Return the lines of an order that name products, gift cards left out.

    Arguments:
        lines: The lines of the payload.
        currency: The currency of plain amounts.
        currency_field: The payload's field with the currency.

    Raises:
        FieldError: A value of a line is out of bounds.
    """
    # Report a wrong currency as the payload's, not as a line's.
    if any(line and line.product_id not in (None, "") and line.gift_card is not True for line in lines):
        money(None, currency, "line_items", currency_field)
    return read_each("line_items", lines, lambda line: _line(line, currency))


def _line(line: CartLine, currency: str | None) -> SoldLine | None:
    product = identifier(line.product_id, "product_id")
    # Nothing else of such a line is read, so it cannot refuse the order.
    if product is None or line.gift_card is True:
        return None
    count = quantity(line.quantity)
    price = _of_set(line.price_set, "price_set") or money(line.price, currency, "price")
    off = sum(discount.amount for discount in _discounts(line, price.currency if price else currency))
    current = None if line.current_quantity is None else quantity(line.current_quantity, "current_quantity")
    if price and abs(price.amount * count - off) > MAX_AMOUNT:
        raise ValueError(f"{count} at {price.amount} minor units are beyond {MAX_AMOUNT}")
    return SoldLine(product, count, price, off, current, identifier(line.id) if isinstance(line, Line) else None)


def _discounts(line: CartLine, currency: str | None) -> Iterable[Money]:
    """Return the discounts of a line."""
    if line.discount_allocations is None:
        total = money(line.total_discount, currency, "total_discount")
        return (total,) if total else ()
    return read_each("discount_allocations", line.discount_allocations, lambda each: _allocated(each, currency))


def _allocated(allocation: Allocation, currency: str | None) -> Money | None:
    return _of_set(allocation.amount_set, "amount_set") or money(allocation.amount, currency)


def _refund(body: RefundBody, currency: str | None, arrival: Arrival) -> Refund | None:
    sums: dict[str, int] = {}
    for back in read_each("transactions", body.transactions or (), lambda each: _given_back(each, currency)):
        sums[back.currency] = sums.get(back.currency, 0) + back.amount
    lines = read_each("refund_line_items", body.refund_line_items or (), lambda each: _refunded(each, currency))
    at, offset = _first_time(arrival, body.processed_at, body.created_at) or (arrival.occurred_at, 0)
    refund_id = order_identifier(body.id)
    if refund_id is None:
        return None
    amounts = tuple(Money(amount, code) for code, amount in sorted(sums.items()))
    return Refund(refund_id, at, amounts, offset, lines)


def _given_back(transaction: Transaction, currency: str | None) -> Money | None:
    if not _gives_back(transaction):
        return None
    found = _of_set(_decoded(_MONEY_SET, transaction.amount_set, "amount_set"), "amount_set")
    if found:
        # The plain amount is not read, so it cannot refuse the refund.
        return found
    amount = _decoded(_AMOUNT, transaction.amount, "amount")
    return money(amount, _decoded(_CURRENCY, transaction.currency, "currency") or currency)


def _decoded(reader: Reader[T], raw: msgspec.Raw, field: str) -> T:
    try:
        return reader.decode(raw)
    except ValueError as error:
        raise FieldError(field, str(error)) from None


def _gives_back(transaction: Transaction) -> bool:
    return _word(transaction.kind) == "refund" and _word(transaction.status) in ("", "success")


def _refunded(line: LineOfRefund, currency: str | None) -> RefundedLine | None:
    item = line.line_item or ItemOfRefund()
    product = identifier(item.product_id, "line_item.product_id")
    if product is None or item.gift_card is True:
        return None
    shop = (line.subtotal_set.shop_money if line.subtotal_set else None) or ShopMoney()
    subtotal, amount = _of_bag(shop, "subtotal_set", "shop_money"), shop.amount
    if amount is None:
        subtotal, amount = money(line.subtotal, currency, "subtotal"), line.subtotal
    count = quantity(line.quantity)
    line_id = identifier(item.id, "line_item.id") or identifier(line.line_item_id, "line_item_id")
    return RefundedLine(product, count, subtotal, line_id, None if subtotal or amount is None else str(amount))


def _sales_channel(body: OrderBody) -> str:
    """Return the sales channel of an order, by `source_name`, `app_id` and tags."""
    source, tags = _number_text(body.source_name) or _word(body.source_name), _tags(body.tags)
    app = _APPS.get(source or _number_text(body.app_id))
    if source in _POS_SOURCES or app == POS:
        return POS
    if source == "shopify_draft_order" or app == DRAFT:
        return DRAFT
    if any(word in source for word in _IMPORTERS) or tags & {"import", "imported"}:
        return IMPORT
    if source in _SUBSCRIPTION_SOURCES or any(map(_is_renewal, tags)):
        return SUBSCRIPTION
    if source in _ONLINE_SOURCES or app == ONLINE:
        return ONLINE
    return ONLINE if source.isdigit() and (body.landing_site or body.checkout_token) else OTHER


def _number_text(value: Any) -> str:
    """Return a number, or the text of one, as text; empty for anything else."""
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return text if text.isdigit() else ""


def _is_renewal(tag: str) -> bool:
    return "subscription recurring" in _BETWEEN_WORDS.sub(" ", tag)


def _tags(tags: Any) -> set[str]:
    if isinstance(tags, str):
        return {tag.strip().lower() for tag in tags.split(",")}
    if isinstance(tags, list):
        return {tag.strip().lower() for tag in tags if isinstance(tag, str)}
    return set()


def noted_client(notes: Any) -> str | None:
    """Return the client in an order's `note_attributes`, as a theme writes it; the first of several."""
    for note in notes if isinstance(notes, list) else ():
        name, value = (note.get("name"), note.get("value")) if isinstance(note, dict) else (None, None)
        if _NO_LETTER.sub("", _word(name)) in _NOTES and (client := _client(value)):
            return client
    return None


def _client(value: Any) -> str | None:
    """Return a client id that is valid in a record's key; None for anything else."""
    is_id = isinstance(value, (int, str)) and not isinstance(value, bool)
    client = str(value).strip() if is_id else ""
    return client if can_be_client(client) else None


def _count_of(customer: Customer) -> int | None:
    """Return the number of a customer's orders; None if it is missing."""
    for count in (customer.orders_count, customer.number_of_orders, customer.numberOfOrders):
        if isinstance(count, bool) or not isinstance(count, (int, float, str)) or count == "":
            continue
        try:
            number = Decimal(count)
        except InvalidOperation:
            continue
        if number.is_finite() and 0 <= number <= MAX_QUANTITY and number == int(number):
            return int(number)
    return None


def _word(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


# --- Times ---


def _moment(text: Any) -> int | None:
    """Return a time in milliseconds since the epoch; None if it is not a time."""
    try:
        return instant(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def _first_time(arrival: Arrival, *texts: Any) -> tuple[int, int] | None:
    """Return the first plausible time, and the UTC offset in minutes that it was written with."""
    for text in texts:
        moment = _moment(text)
        if moment is not None and _is_believed(moment, arrival):
            return moment, offset_of(text)
    return None


def _bounded(moment: int, arrival: Arrival) -> int:
    return moment if _is_believed(moment, arrival) else arrival.received_at


def _is_believed(moment: int, arrival: Arrival) -> bool:
    return FIRST <= moment <= arrival.received_at + _AHEAD


def offset_of(text: Any) -> int:
    """Return the UTC offset of a written time in minutes; 0 for UTC and for an invalid time."""
    # Shopify writes most times with an offset: 2026-01-31T09:30:00-05:00.
    found = _OFFSET.search(text) if isinstance(text, str) else None
    if found is None or _moment(text) is None:
        return 0
    minutes = 60 * int(found[2]) + int(found[3])
    return -minutes if found[1] == "-" else minutes


# --- Removing personal data ---


def anonymise_order(body: OrderBody, alias: Alias) -> None:
    """Anonymise an order: its ids become aliases, and free text keeps only what is read of it.

    Arguments:
        body: The order; it is changed.
        alias: Maps the kind of an id and the id to its alias.
    """
    noted = noted_client(body.note_attributes)
    body.id = alias_of("order", order_identifier(body.id), alias)
    body.checkout_token = alias_of("token", order_identifier(body.checkout_token), alias)
    body.cart_token = alias_of("token", order_identifier(body.cart_token), alias)
    body.note_attributes = [{"name": "client_id", "value": alias("client", noted)}] if noted else None
    body.tags = _anonymous_tags(body.tags)
    body.source_name, body.app_id = _anonymous_source(body), _number_text(body.app_id) or None
    body.financial_status = _anonymous_status(body.financial_status)
    is_cancelled = body.cancelled_at not in (None, "")
    body.cancelled_at = (_time_or_none(body.cancelled_at) or True) if is_cancelled else None
    body.created_at, body.updated_at = _time_or_none(body.created_at), _time_or_none(body.updated_at)
    body.processed_at = _time_or_none(body.processed_at)
    body.test = body.test is True
    body.email = body.contact_email = None
    count = _count_of(body.customer) if body.customer else None
    body.customer = None if count is None else Customer(orders_count=count)
    anonymise_lines(body.line_items, alias)
    for refund in body.refunds or ():
        if refund:
            anonymise_refund(refund, alias)
            # A refund inside an order belongs to that order.
            refund.order_id = None


def anonymise_refund(body: RefundBody, alias: Alias) -> None:
    """Anonymise a refund: its ids and those of its lines become aliases."""
    body.id = alias_of("refund", order_identifier(body.id), alias)
    body.created_at, body.processed_at = _time_or_none(body.created_at), _time_or_none(body.processed_at)
    for line in body.refund_line_items or ():
        if line:
            line.line_item_id = alias_of("line", identifier(line.line_item_id), alias)
            anonymise_lines([line.line_item], alias)
    back = [each for each in body.transactions or () if each and _gives_back(each)]
    body.transactions = [_anonymous_transaction(each) for each in back] if back else None


def anonymise_lines(lines: Iterable[Line | ItemOfRefund | None] | None, alias: Alias) -> None:
    """Replace the ids of lines by aliases."""
    for line in lines or ():
        if line:
            line.id = alias_of("line", identifier(line.id), alias)
            line.gift_card = True if line.gift_card is True else None


def alias_of(kind: str, id_: str | None, alias: Alias) -> str | None:
    """Return the alias of an id, or None without an id."""
    return alias(kind, id_) if id_ else None


def _anonymous_transaction(transaction: Transaction) -> Transaction:
    """Return the transaction with its amounts and nothing else."""
    found = [
        _ENCODE(reader.decode(raw))
        for reader, raw in (
            (_AMOUNT, transaction.amount),
            (_CURRENCY, transaction.currency),
            (_MONEY_SET, transaction.amount_set),
        )
    ]
    amount, currency, amount_set = map(msgspec.Raw, found)
    return Transaction("refund", "success", amount, currency, amount_set)


def _anonymous_tags(tags: Any) -> str | None:
    known = {"subscription recurring" if _is_renewal(tag) else tag for tag in _tags(tags)}
    return ", ".join(sorted(known & {"subscription recurring", "import", "imported"})) or None


def _anonymous_source(body: OrderBody) -> str | None:
    """Return a source name of the same channel, because an app may write anything in the original."""
    source = _number_text(body.source_name) or _word(body.source_name)
    if source.isdigit() or source in _KNOWN_SOURCES:
        return source or None
    return next((word for word in _IMPORTERS if word in source), "redacted")


def _anonymous_status(status: Any) -> str | None:
    if status is None:
        return None
    word = _word(status)
    return word if word in _UNPAID or word in _OWN_STATUSES or word == "partially_paid" else "redacted"


def _time_or_none(text: Any) -> Any:
    return text if _moment(text) is not None else None
