"""The figures of an order: value, refunds, net, status, and when and where it was placed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from truepixel_dagster.audit.oracle.events import Event, Payload, Refund
from truepixel_dagster.audit.oracle.ids import Order, checkout_of, payload_of
from truepixel_dagster.audit.oracle.records import Doc
from truepixel_dagster.audit.oracle.values import minor_units, share

# Financial statuses of unpaid orders.
UNPAID = ("", "pending", "authorized", "voided", "expired")


@dataclass(frozen=True)
class Return:
    """A refund of an order: its money in minor units of the order's currency, and whether the newest payload knows it.

    A payload includes the refunds that it names, and those that are not newer than it.
    """

    refund: Refund
    amount: int
    known: bool

    @property
    def of_money(self) -> bool:
        """Return whether money was paid back. Without money, an order edit removed the lines, which is not a refund."""
        return self.amount > 0 or any(paid > 0 for paid, _ in self.refund.paid)


@dataclass(frozen=True)
class Figures:
    """An order's figures. Money in minor units; `at` in milliseconds, `offset` in minutes from UTC."""

    value: Doc | None
    value_from: str | None
    net: int
    refunded: int
    status: str
    returns: list[Return]
    test: bool
    sales_channel: str
    at: int
    offset: int
    new_customer: bool | None


def figures_of(order: Order) -> Figures:
    """Compute an order's figures; the order must exist."""
    newest = payload_of(order.payloads[0]) if order.payloads else None
    value, value_from = _value(order)
    returns = _returns(order, value)
    refunded = sum(each.amount for each in returns)
    at, offset = _time(order, newest)
    return Figures(
        value=value,
        value_from=value_from,
        net=_net(newest, value, returns),
        refunded=refunded,
        status=_status(newest, value, returns),
        returns=returns,
        test=bool(newest and newest.test),
        sales_channel=newest.sales_channel if newest else "online",
        at=at,
        offset=offset,
        new_customer=_new_customer(order),
    )


def _value(order: Order) -> tuple[Doc | None, str | None]:
    """Return the newest payload's total, in the shop's money; without a payload, what the buyer's first page showed."""
    for event in order.payloads:
        if total := payload_of(event).total:
            return total, "webhook"
    for event in order.completed:
        if shown := checkout_of(event).value:
            return shown, "pixel"
    return None, None


# --- Refunds ---


def _reports(order: Order) -> list[tuple[Refund, Event]]:
    inside = [(refund, event) for event in order.payloads for refund in payload_of(event).refunds]
    alone = [(event.content.refund, event) for event in order.refunds if event.content.refund]
    return [*inside, *alone]


def _returns(order: Order, value: Doc | None) -> list[Return]:
    """Return every refund once, even if several records name it."""
    best: dict[str, tuple[Refund, Event]] = {}
    for refund, event in _reports(order):
        if refund.id not in best or _weight(refund, event) > _weight(*best[refund.id]):
            best[refund.id] = (refund, event)
    newest = payload_of(order.payloads[0]) if order.payloads else None
    named = {refund.id for refund in newest.refunds} if newest else set()
    found = []
    for refund_id in sorted(best):
        refund, _ = best[refund_id]
        known = newest is not None and (refund_id in named or refund.at <= newest.updated_at)
        found.append(Return(refund, _money(refund, value, newest), known))
    return found


def _weight(refund: Refund, event: Event) -> tuple[Decimal, int, int, str]:
    """Return the sort key that puts the fuller of two reports of one refund last: the first may lack the money."""
    return sum((paid for paid, _ in refund.paid), Decimal(0)), len(refund.lines), refund.at, event.event_id


def _money(refund: Refund, value: Doc | None, newest: Payload | None) -> int:
    """Return the refund's money in the order's currency; the buyer's currency is converted as in the order."""
    if value is None:
        return 0
    sums: dict[str, int] = {}
    for paid, code in refund.paid:
        sums[code] = sums.get(code, 0) + minor_units(paid, code)
    amount = sums.pop(value["currency"], 0)
    rate = newest.presentment if newest else None
    if rate and newest and newest.total and rate["amount"] > 0:
        amount += share(sums.get(rate["currency"], 0), newest.total["amount"], rate["amount"])
    return amount


# --- Net and status ---


def _net(newest: Payload | None, value: Doc | None, returns: list[Return]) -> int:
    """Return the order's net: its current total minus refunds that this does not include; 0 if it was never paid."""
    if value is None or (newest and newest.financial_status == "voided"):
        return 0
    if newest and newest.cancelled and newest.financial_status in UNPAID:
        return 0
    if newest and newest.current_total:
        left = newest.current_total["amount"] - sum(each.amount for each in returns if not each.known)
    else:
        left = value["amount"] - sum(each.amount for each in returns)
    return int(max(left, 0))


def _status(newest: Payload | None, value: Doc | None, returns: list[Return]) -> str:
    financial = newest.financial_status if newest else ""
    refunded = sum(each.amount for each in returns)
    if financial == "voided":
        return "voided"
    if financial == "refunded" or (value is not None and refunded >= value["amount"] > 0):
        return "refunded"
    if newest and newest.cancelled:
        return "cancelled"
    if financial == "partially_refunded" or refunded > 0:
        return "partially_refunded"
    return "paid" if financial == "paid" else "open"


# --- When, and by whom ---


def _time(order: Order, newest: Payload | None) -> tuple[int, int]:
    """Return the order's time and UTC offset: its creation, or the processing of an imported order."""
    payloads = [payload_of(event) for event in order.payloads]
    moments = [payload.created for payload in payloads]
    if newest and newest.sales_channel == "import":
        moments = [*(payload.processed for payload in payloads), *moments]
    for found in moments:
        if found is not None:
            return found.at, found.offset
    first = next(iter([*order.completed, *order.payloads]))
    return first.occurred_at, 0


def _new_customer(order: Order) -> bool | None:
    """Return whether it is the customer's first order, by the earliest payload with an order count, else the pixel."""
    for event in reversed(order.payloads):
        count = payload_of(event).orders_count
        if count is not None:
            return count <= 1
    said = (checkout_of(event).first_order for event in order.completed)
    return next((first for first in said if first is not None), None)
