"""Remove personal data from orders and refunds: ids become aliases, and free text keeps only what is read of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from truepixel_dagster.events.noted_client import noted_client
from truepixel_dagster.events.order_id import order_identifier
from truepixel_dagster.events.sales_channel import anonymous_source, anonymous_tags
from truepixel_dagster.events.shape import identifier, number_text, word_of
from truepixel_dagster.events.shopify_order import OWN_STATUSES, UNPAID, count_of
from truepixel_dagster.events.shopify_payload import Customer, ItemOfRefund, Line, OrderBody, RefundBody, Transaction
from truepixel_dagster.events.shopify_refund import AMOUNT, CURRENCY, MONEY_SET, gives_back
from truepixel_dagster.events.visits import Alias
from truepixel_dagster.events.written_times import time_or_none

_ENCODE = msgspec.json.Encoder(decimal_format="number").encode


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
    body.tags = anonymous_tags(body.tags)
    body.source_name, body.app_id = anonymous_source(body), number_text(body.app_id) or None
    body.financial_status = _anonymous_status(body.financial_status)
    is_cancelled = body.cancelled_at not in (None, "")
    body.cancelled_at = (time_or_none(body.cancelled_at) or True) if is_cancelled else None
    body.created_at, body.updated_at = time_or_none(body.created_at), time_or_none(body.updated_at)
    body.processed_at = time_or_none(body.processed_at)
    body.test = body.test is True
    body.email = body.contact_email = None
    count = count_of(body.customer) if body.customer else None
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
    body.created_at, body.processed_at = time_or_none(body.created_at), time_or_none(body.processed_at)
    for line in body.refund_line_items or ():
        if line:
            line.line_item_id = alias_of("line", identifier(line.line_item_id), alias)
            anonymise_lines([line.line_item], alias)
    back = [each for each in body.transactions or () if each and gives_back(each)]
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
            (AMOUNT, transaction.amount),
            (CURRENCY, transaction.currency),
            (MONEY_SET, transaction.amount_set),
        )
    ]
    amount, currency, amount_set = map(msgspec.Raw, found)
    return Transaction("refund", "success", amount, currency, amount_set)


def _anonymous_status(status: Any) -> str | None:
    if status is None:
        return None
    word = word_of(status)
    return word if word in UNPAID or word in OWN_STATUSES or word == "partially_paid" else "redacted"
