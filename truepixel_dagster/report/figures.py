"""Sum up a shop's orders by channel, platform, campaign or day, without I/O.

Each order is divided among the credits of one model: gross and net as the document credits them, the refunded amount
and the order itself by the weights behind these credits. All are integers that are divided by largest remainder, so
that the sums over the rows equal those of the documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from truepixel_dagster.answers.marketing import WHOLE, ratio
from truepixel_dagster.events.event import DAY
from truepixel_dagster.events.money import Money, decimals, shares
from truepixel_dagster.events.order import ONLINE
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.orders.credit import DIRECT, ENDS_PERCENT, Weight, weights_of
from truepixel_dagster.report.period import Period
from truepixel_dagster.stores.documents import Reader

#: The groupings of rows, and the fields of a credit that make a row in each.
GROUPINGS: dict[str, tuple[str, ...]] = {
    "channel": ("channel",),
    "platform": ("platform",),
    "campaign": ("platform", "campaign"),
    "day": ("day",),
}
UNKNOWN, UNASSIGNED = "unknown", "unassigned"
_Names = tuple[str | None, ...]


class CreditEntry(msgspec.Struct, frozen=True):
    platform: str = UNKNOWN
    amount: int = 0
    net: int | None = None
    channel: str | None = None
    campaign: str | None = None
    campaign_id: str | None = None


class _Touch(msgspec.Struct, frozen=True):
    at: str


class ReportedOrder(msgspec.Struct, frozen=True):
    """Hold the fields that are read from an attribution document, of either edition."""

    occurred_at: str
    credits: dict[str, tuple[CreditEntry, ...]] = {}
    touches: tuple[_Touch, ...] = ()
    half_life_days: float = 7.0
    position_ends_percent: int = ENDS_PERCENT
    value: Money | None = None
    refunded: Money | None = None
    net: Money | None = None
    test: bool = False
    sales_channel: str = ONLINE
    new_customer: bool | None = None
    utc_offset: int = 0


ORDERS = Reader(ReportedOrder, "Elasticsearch attributions")
_OF_ORDERS = ORDERS.known - {"credits", "touches"}


def fields_of(model: str) -> list[str]:
    """Return the fields of documents that a model's figures need."""
    of_credits = (f"credits.{model}.{field.name}" for field in msgspec.structs.fields(CreditEntry))
    return [*sorted(_OF_ORDERS), *of_credits, "touches.at"]


class Sums(msgspec.Struct):
    """Hold amounts in minor units, and orders, those of new and of returning customers too, in millionths."""

    gross: int = 0
    refunded: int = 0
    net: int = 0
    orders: int = 0
    new: int = 0
    returning: int = 0
    spend: int = 0

    def add(self, other: Sums) -> None:
        """Add other sums to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Row(msgspec.Struct, frozen=True):
    """Hold the figures of the orders credited to one name, in one currency; amounts are in minor units.

    `channel`, `platform`, `campaign` and `day` are None if the rows are not grouped by them. An order that is credited
    to several rows counts in each by its share. `currency` is empty for orders without a value. `roas` is gross for
    each unit of `spend`, None without spend.
    """

    channel: str | None
    platform: str | None
    campaign: str | None
    currency: str
    gross: int
    refunded: int
    net: int
    orders: float
    new_customers: float
    returning_customers: float
    day: str | None = None
    spend: int = 0
    roas: Decimal | None = None


class Spending(msgspec.Struct, frozen=True):
    """Hold the spend on a source on one of the shop's days, in minor units of `currency`."""

    day: str
    channel: str
    platform: str
    campaign: str | None
    currency: str
    amount: int


class Credited(msgspec.Struct, frozen=True):
    """Hold what is credited to a source on one of the shop's days, in minor units of `currency`."""

    day: str
    channel: str | None
    platform: str
    campaign: str | None
    currency: str
    sums: Sums


class Total(msgspec.Struct, frozen=True):
    """Hold the sums of all rows of one currency; orders are whole numbers."""

    currency: str
    gross: int
    refunded: int
    net: int
    orders: int
    new_customers: int
    returning_customers: int
    spend: int = 0
    roas: Decimal | None = None


class Figures:
    """Add up documents one by one. Memory grows with the rows, not with the documents.

    Arguments:
        model: The attribution model.
        by: One of `GROUPINGS`.
        period: The period whose orders count.
    """

    def __init__(self, model: str, by: str, period: Period | None = None) -> None:
        self.test_orders = self.unreadable = 0
        self.why_unreadable: str | None = None
        self.model = model
        self._names = GROUPINGS[by]
        self._period = period or Period()
        self._sums: dict[str, dict[_Names, Sums]] = {}

    def add(self, id_: str, document: Mapping[str, Any]) -> None:
        """Add the order of one document; an unreadable document is only counted as unreadable."""
        try:
            order = ORDERS.read(id_, document)
            at = to_millis(order.occurred_at)
            if not self._period.holds(at, order.utc_offset):
                return
            day = self._period.time.day(at, order.utc_offset)
            parts = list(divided(order, self.model))
        except (ValueError, ArithmeticError) as error:
            self.unreadable += 1
            self.why_unreadable = self.why_unreadable or str(error)
            return
        if order.test:
            self.test_orders += 1
            return
        currency = order.value.currency if order.value else ""
        for credit, sums in parts:
            campaign = credit.campaign or credit.campaign_id
            self.credit(Credited(day, credit.channel, credit.platform, campaign, currency, sums))

    def credit(self, credited: Credited) -> None:
        """Add the credit of a source on a day."""
        self._sums_of(credited).add(credited.sums)

    def spend(self, spending: Spending) -> None:
        """Add the spend on a source."""
        self._sums_of(spending).spend += spending.amount

    def _sums_of(self, found: Credited | Spending) -> Sums:
        rows = self._sums.setdefault(found.currency, {})
        return rows.setdefault(tuple(getattr(found, name) for name in self._names), Sums())

    def rows(self) -> list[Row]:
        """Return the rows by currency: days in their order, others with the highest gross first."""
        by_name = "day" in self._names
        return [
            _row(dict(zip(self._names, names)), currency, sums)
            for currency, rows in sorted(self._sums.items())
            for names, sums in (sorted(rows.items()) if by_name else sorted(rows.items(), key=_place))
        ]

    @property
    def orders(self) -> int:
        """Return the number of orders."""
        return sum(total.orders for total in self.totals())

    def totals(self) -> list[Total]:
        """Return the sums of all rows of each currency."""
        return [_total(currency, rows.values()) for currency, rows in sorted(self._sums.items())]


def divided(order: ReportedOrder, model: str) -> Iterator[tuple[CreditEntry, Sums]]:
    """Yield an order's credits by a model, each with its part of the order's figures."""
    credited = [_with_channel(credit, order) for credit in order.credits.get(model, ())] or [_only_credit(order)]
    weights = _weights(order, model, credited)
    refunded = shares(order.refunded.amount if order.refunded else 0, weights)
    orders = shares(WHOLE, weights)
    for credit, net, back, part in zip(credited, _nets(order, credited, weights), refunded, orders):
        new, returning = (part if order.new_customer is which else 0 for which in (True, False))
        yield credit, Sums(credit.amount, back, net, part, new, returning)


def total_of(order: ReportedOrder) -> dict[str, int]:
    """Return an order's gross, refunded and net amounts, in minor units: the sums of its credits."""
    parts = [sums for _, sums in divided(order, "last_click")]
    return {name: sum(getattr(each, name) for each in parts) for name in ("gross", "refunded", "net")}


def _with_channel(credit: CreditEntry, order: ReportedOrder) -> CreditEntry:
    """Return a credit with its channel: the first edition has none, and names orders without a visit by platform."""
    if credit.channel is not None:
        return credit
    return msgspec.structs.replace(credit, channel=UNASSIGNED if order.touches else credit.platform)


def _only_credit(order: ReportedOrder) -> CreditEntry:
    """Return the credit of an order whose document has none."""
    place = DIRECT if order.sales_channel == ONLINE else order.sales_channel
    platform, channel = (UNKNOWN, UNASSIGNED) if order.touches else (place, place)
    return CreditEntry(platform, order.value.amount if order.value else 0, channel=channel)


def _weights(order: ReportedOrder, model: str, credited: Sequence[CreditEntry]) -> Sequence[Weight]:
    """Return the weights of an order's credits; the amounts of the credits if its touches do not give the weights."""
    if len(credited) == 1:
        return (1,)
    at, half_life = to_millis(order.occurred_at), int(order.half_life_days * DAY)
    ages = [at - to_millis(touch.at) for touch in order.touches]
    weights = [weight for weight in weights_of(model, ages, half_life, order.position_ends_percent) if weight]
    if len(weights) == len(credited):
        return weights
    return [credit.amount for credit in credited] if any(credit.amount for credit in credited) else [1] * len(credited)


def _nets(order: ReportedOrder, credited: Sequence[CreditEntry], weights: Sequence[Weight]) -> list[int]:
    """Return the net of each credit: all of it if the document, of the first edition, has no net."""
    own = [credit.net for credit in credited if credit.net is not None]
    if len(own) == len(credited):
        return own
    return shares(order.net.amount, weights) if order.net else [credit.amount for credit in credited]


def _place(row: tuple[_Names, Sums]) -> tuple[object, ...]:
    names, sums = row
    return -sums.gross, -sums.orders, -sums.spend, tuple(name or "" for name in names)


def _row(names: Mapping[str, str | None], currency: str, sums: Sums) -> Row:
    return Row(
        channel=names.get("channel"),
        platform=names.get("platform"),
        campaign=names.get("campaign"),
        currency=currency,
        gross=sums.gross,
        refunded=sums.refunded,
        net=sums.net,
        orders=sums.orders / WHOLE,
        new_customers=sums.new / WHOLE,
        returning_customers=sums.returning / WHOLE,
        day=names.get("day"),
        spend=sums.spend,
        roas=ratio(sums.gross, sums.spend),
    )


def _total(currency: str, rows: Iterable[Sums]) -> Total:
    total = Sums()
    for sums in rows:
        total.add(sums)
    return Total(
        currency=currency,
        gross=total.gross,
        refunded=total.refunded,
        net=total.net,
        orders=total.orders // WHOLE,
        new_customers=total.new // WHOLE,
        returning_customers=total.returning // WHOLE,
        spend=total.spend,
        roas=ratio(total.gross, total.spend),
    )


def major(currency: str, amount: int) -> str:
    """Return minor units in major units, as people write them: `1,234.50`."""
    places = decimals(currency)
    whole, part = divmod(abs(amount), 10**places)
    return f"{'-' if amount < 0 else ''}{whole:,}" + (f".{part:0{places}}" if places else "")


def shown_orders(orders: float | Decimal) -> str:
    """Return a number of orders in hundredths: `1.33`, and `2` for whole orders."""
    return f"{orders:,.2f}".removesuffix(".00")
