"""Changes that merchants and buyers make to an order.

A change is a function of the world, the order and the time of the change (milliseconds since the epoch). It returns the
changed order and the webhooks of the change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from truepixel_dagster.local.payloads.about_order import (
    deletion_webhook,
    edit_webhook,
    fulfillment_webhook,
    transaction_webhook,
)
from truepixel_dagster.local.payloads.model import Line, Order, Refund, ReturnedLine
from truepixel_dagster.local.payloads.order import order_webhook
from truepixel_dagster.local.payloads.refund import refund_webhook
from truepixel_dagster.local.traffic.chance import happens, shopify_id
from truepixel_dagster.local.traffic.purchases import line_of, tax_on
from truepixel_dagster.local.traffic.world import World

Webhooks: TypeAlias = "list[tuple[str, bytes]]"
Change: TypeAlias = Callable[[World, Order, int], "tuple[Order, Webhooks]"]
DELETED = "orders/delete"


def shown(world: World, order: Order, *topics: str) -> Webhooks:
    """Return webhooks with the order as payload; each may lack the tokens."""
    return [(topic, order_webhook(order, tokens=not happens(world.rng, world.profile.null_tokens))) for topic in topics]


def in_buyers_money(world: World, order: Order) -> bool:
    """Choose whether a refund's transaction is in the buyer's currency: yes, unless the request names the shop's."""
    return order.purchase.presentment.rate != 1 and world.rng.random() < 0.8


def _beside(world: World, topic: str, share: float) -> Iterable[str]:
    """Return a topic for the share of shops that subscribe to it in addition to others."""
    return (topic,) if world.profile.every_change and world.rng.random() < share else ()


def created(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Place the order."""
    order = msgspec.structs.replace(order, at=at)
    return order, shown(world, order, "orders/create")


def paid(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Pay the order."""
    order = msgspec.structs.replace(order, at=at, status="paid")
    webhooks = shown(world, order, "orders/paid", *_beside(world, "orders/updated", 0.3))
    for topic in _beside(world, "order_transactions/create", 0.2):
        webhooks.append((topic, transaction_webhook(order)))
    return order, webhooks


def fulfilled(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Ship the order."""
    order = msgspec.structs.replace(order, at=at, fulfilled=True)
    webhooks = shown(world, order, "orders/updated", *_beside(world, "orders/fulfilled", 0.5))
    for topic in _beside(world, "fulfillments/create", 0.3):
        webhooks.append((topic, fulfillment_webhook(order)))
    return order, webhooks


def voided(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Release the authorized amount without cancelling the order."""
    order = msgspec.structs.replace(order, at=at, status="voided")
    return order, shown(world, order, "orders/updated")


def cancelled(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Cancel the order: refund its amount if it was paid, else release it."""
    was_paid = order.status not in ("pending", "authorized")
    order = msgspec.structs.replace(order, at=at, cancelled_at=at, status="refunded" if was_paid else "voided")
    if not world.profile.every_change:
        return order, shown(world, order, "orders/cancelled")
    lines = tuple(ReturnedLine(line, line.left) for line in order.purchase.lines if line.left)
    money, released = (order.left, 0) if was_paid else (0, order.left)
    presented = in_buyers_money(world, order)
    refund = Refund(shopify_id(world.rng), at, lines, money, void=released, presented=presented)
    order = _with_lines(order, lines, returned=money > 0)
    order = msgspec.structs.replace(order, refunds=(*order.refunds, refund), taken_off=order.taken_off + released)
    webhooks = shown(world, order, "orders/cancelled", *_beside(world, "orders/updated", 0.5))
    for topic in _beside(world, "refunds/create", 0.8):
        webhooks.append((topic, refund_webhook(order.purchase, refund)))
    return order, webhooks


def deleted(_world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Delete the order."""
    return msgspec.structs.replace(order, at=at), [(DELETED, deletion_webhook(order.purchase))]


def upsold(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Add an offer that the buyer accepts after the payment; the pixel has reported the order without it."""
    line = line_of(world, order.purchase.shop)
    line = msgspec.structs.replace(line, quantity=1, discount=line.product.price // 5)
    order = _with_added(msgspec.structs.replace(order, at=at), line)
    return order, _edited(world, order, {line.id: 1}, {})


def added(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Add a product, which the buyer has not paid for yet."""
    line = line_of(world, order.purchase.shop)
    status = "partially_paid" if order.status == "paid" else order.status
    order = _with_added(msgspec.structs.replace(order, at=at, status=status), line)
    return order, _edited(world, order, {line.id: line.quantity}, {})


def removed(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Remove units of a line: Shopify records a refund without an amount."""
    lines = [line for line in order.purchase.lines if line.left]
    if not lines:
        return order, []
    line = world.rng.choice(lines)
    quantity = 1 + int(world.rng.random() * line.left)
    refund = Refund(shopify_id(world.rng), at, (ReturnedLine(line, quantity),))
    off = line.share(quantity)
    tax = 0 if order.purchase.shop.market.tax_included else tax_on(off)
    order = _with_lines(order, refund.lines, returned=False)
    order = msgspec.structs.replace(
        order,
        at=at,
        refunds=(*order.refunds, refund),
        taken_off=min(order.taken_off + off + tax, order.purchase.total()),
    )
    return order, _edited(world, order, {}, {line.id: quantity})


def settled(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Refund the amount by which an edit reduced a paid order."""
    owed = order.taken_off - sum(refund.amount for refund in order.refunds if refund.settles)
    if owed <= 0:
        return order, []
    refund = Refund(shopify_id(world.rng), at, amount=owed, settles=True, presented=in_buyers_money(world, order))
    refunds = (*order.refunds, refund)
    status = "partially_refunded" if order.left else "refunded"
    order = msgspec.structs.replace(order, at=at, refunds=refunds, status=status)
    webhooks = [("refunds/create", refund_webhook(order.purchase, refund))]
    return order, webhooks + shown(world, order, "orders/updated")


def _edited(world: World, order: Order, additions: dict[int, int], removals: dict[int, int]) -> Webhooks:
    webhooks = shown(world, order, "orders/updated")
    for topic in _beside(world, "orders/edited", 0.5):
        webhooks.append((topic, edit_webhook(order, additions=additions, removals=removals)))
    return webhooks


def _with_added(order: Order, line: Line) -> Order:
    purchase = order.purchase
    tax = purchase.tax + tax_on(line.full_price - line.discount)
    grown = msgspec.structs.replace(purchase, lines=(*purchase.lines, line), tax=tax)
    return msgspec.structs.replace(order, purchase=grown)


def _with_lines(order: Order, gone: Iterable[ReturnedLine], *, returned: bool) -> Order:
    """Return the order after these units were returned or removed."""
    name = "returned" if returned else "removed"
    counts = {each.line.id: each.quantity for each in gone}
    lines = tuple(
        msgspec.structs.replace(line, **{name: getattr(line, name) + counts.get(line.id, 0)})
        for line in order.purchase.lines
    )
    return msgspec.structs.replace(order, purchase=msgspec.structs.replace(order.purchase, lines=lines))


def given_back(world: World, order: Order, refund: Refund) -> tuple[Order, Webhooks]:
    """Refund the order; its own webhook reports that, or the order's update, or both.

    Arguments:
        world: The source of chance and its profile.
        order: The order before the refund.
        refund: The refund; its lines are units that the order still has.
    """
    order = _with_lines(order, refund.lines, returned=refund.amount > 0)
    order = msgspec.structs.replace(order, at=refund.at, refunds=(*order.refunds, refund))
    if refund.amount:
        order = msgspec.structs.replace(order, status="partially_refunded" if order.left else "refunded")
    webhooks = [("refunds/create", refund_webhook(order.purchase, refund))]
    if not world.profile.every_change:
        return order, webhooks
    way = world.rng.random()
    if way < _REFUND_ALONE:
        return order, webhooks
    update = shown(world, order, "orders/updated")
    return order, update if way < _REFUND_ALONE + _UPDATE_ALONE else webhooks + update


# The shares of refunds that only their own webhook reports, and that only the order's update reports.
_REFUND_ALONE, _UPDATE_ALONE = 0.15, 0.05
